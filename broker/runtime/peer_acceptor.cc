#include "broker/runtime/peer_acceptor.h"

#include <boost/asio/error.hpp>
#include <chrono>
#include <utility>

namespace trilog {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr int kBacklog = 128;
constexpr std::chrono::milliseconds kRetry{100};

Status refuse(Errc code, const std::string& address, const std::string& why) {
  return {code, "peers cannot connect to " + address + ": " + why};
}

}  // namespace

Status PeerAcceptor::listen(const std::string& address) {
  size_t colon = address.rfind(':');
  if (colon == std::string::npos) return refuse(Errc::kInvalidArgument, address, "host:port is wanted");
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  error_code error;
  tcp::resolver resolver(loop_);
  tcp::resolver::results_type found = resolver.resolve(host == "localhost" ? "127.0.0.1" : host,
                                                       address.substr(colon + 1), tcp::resolver::passive, error);
  if (error || found.empty()) return refuse(Errc::kInvalidArgument, address, error.message());
  tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor_.open(endpoint.protocol(), error);
  if (error) return refuse(Errc::kIo, address, error.message());
  acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(kBacklog, error);
  if (error == asio::error::address_in_use) {
    return refuse(Errc::kBusy, address, "the port is in use by another process");
  }
  if (error == asio::error::access_denied) return refuse(Errc::kPermission, address, error.message());
  if (error) return refuse(Errc::kInvalidArgument, address, error.message());
  tcp::endpoint bound = acceptor_.local_endpoint(error);
  port_ = bound.port();
  address_ = address.substr(0, colon) + ":" + std::to_string(port_);
  return {};
}

void PeerAcceptor::start(Accepted accepted) {
  accepted_ = std::move(accepted);
  accept();
}

void PeerAcceptor::stop() {
  error_code ignored;
  acceptor_.close(ignored);
  retry_.cancel();
  accepted_ = nullptr;
}

void PeerAcceptor::accept() {
  acceptor_.async_accept([this](const error_code& error, tcp::socket socket) {
    if (!accepted_) return;
    if (error) return on_error(error);
    complained_ = false;
    accepted_(std::move(socket));
    if (accepted_) accept();
  });
}

// Out of descriptors or memory: those who wait stay in the kernel's queue, and are taken when there is room again.
void PeerAcceptor::on_error(const error_code& error) {
  if (error == asio::error::operation_aborted) return;
  if (error == asio::error::connection_aborted) return accept();
  if (!std::exchange(complained_, true)) {
    log_.error("peer port ", address_, ": cannot accept: ", error.message(), "; trying again");
  }
  retry_.expires_after(kRetry);
  retry_.async_wait([this](const error_code& cancelled) {
    if (!cancelled && accepted_) accept();
  });
}

}  // namespace trilog
