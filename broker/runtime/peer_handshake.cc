#include "broker/runtime/peer_handshake.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <charconv>
#include <chrono>
#include <utility>

namespace trilog {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

std::string text_of(const tcp::endpoint& endpoint) {
  std::string host = endpoint.address().to_string();
  if (endpoint.address().is_v6()) host = "[" + host + "]";
  return host + ":" + std::to_string(endpoint.port());
}

}  // namespace

PeerHandshake::PeerHandshake(asio::io_context& loop, Limits limits, Done done)
    : socket_(loop), resolver_(loop), timer_(loop), limits_(limits), done_(std::move(done)) {}

void PeerHandshake::call(const std::string& address, const PeerHello& ours) {
  out_ = encode_peer_hello(ours);
  limit(limits_.connect_ms, "no connection");
  size_t colon = address.rfind(':');
  if (colon == std::string::npos) return fail("'" + address + "' is not host:port");
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (host == "localhost") host = "127.0.0.1";
  resolve(host, address.substr(colon + 1));
}

void PeerHandshake::answer(tcp::socket socket, Judge judge) {
  socket_ = std::move(socket);
  judge_ = std::move(judge);
  error_code error;
  tcp::endpoint remote = socket_.remote_endpoint(error);
  if (error) return finish({std::nullopt, false, true, error.message()});
  remote_ = text_of(remote);
  limit(limits_.hello_ms, "no hello");
  read_size();
}

void PeerHandshake::cancel() {
  ended_ = true;
  done_ = nullptr;
  judge_ = nullptr;
  resolver_.cancel();
  timer_.cancel();
  error_code ignored;
  socket_.close(ignored);
}

// --- to a connection -------------------------------------------------------------------------------------------------

void PeerHandshake::resolve(const std::string& host, const std::string& port) {
  error_code error;
  asio::ip::address numeric = asio::ip::make_address(host, error);
  uint16_t number = 0;
  auto [end, bad] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (bad != std::errc() || end != port.data() + port.size()) return fail("'" + port + "' is not a port");
  if (!error) return connect(Endpoints::create(tcp::endpoint(numeric, number), host, port));
  // A name: asked anew each time, because addresses behind names change.
  auto on_resolved = [self = shared_from_this(), host](const error_code& failed, const Endpoints& endpoints) {
    if (self->ended_) return;
    if (failed) return self->fail("cannot find " + host + ": " + failed.message());
    self->connect(endpoints);
  };
  resolver_.async_resolve(host, port, std::move(on_resolved));
}

void PeerHandshake::connect(const Endpoints& endpoints) {
  asio::async_connect(socket_, endpoints,
                      [self = shared_from_this()](const error_code& error, const tcp::endpoint& endpoint) {
                        if (self->ended_) return;
                        if (error) return self->fail_on(error);
                        self->remote_ = text_of(endpoint);
                        self->on_connected();
                      });
}

void PeerHandshake::on_connected() {
  limit(limits_.hello_ms, "it accepts and does not answer");
  asio::async_write(socket_, asio::buffer(out_.data(), out_.size()),
                    [self = shared_from_this()](const error_code& error, size_t) {
                      if (self->ended_) return;
                      if (error) return self->fail_on(error);
                      self->read_size();
                    });
}

// --- hellos ----------------------------------------------------------------------------------------------------------

void PeerHandshake::read_size() {
  in_ = Bytes(kPeerSizeBytes);
  auto on_read = [self = shared_from_this()](const error_code& error, size_t got) {
    if (self->ended_) return;
    if (error) {
      bool silent = got == 0 && self->judge_ && error == asio::error::eof;
      if (silent) return self->finish({std::nullopt, false, true, "left without a word"});
      return self->fail_on(error);
    }
    Result<size_t> size = peer_hello_size(self->in_);
    if (!size.ok()) return self->fail(std::string(size.status().message()));
    self->read_rest(*size);
  };
  asio::async_read(socket_, asio::buffer(in_.data(), in_.size()), std::move(on_read));
}

void PeerHandshake::read_rest(size_t size) {
  in_ = Bytes(size);
  auto on_read = [self = shared_from_this()](const error_code& error, size_t) {
    if (self->ended_) return;
    if (error) return self->fail_on(error);
    Result<PeerHello> hello = decode_peer_hello(self->in_);
    if (!hello.ok()) return self->fail(std::string(hello.status().message()));
    self->on_hello(*hello);
  };
  asio::async_read(socket_, asio::buffer(in_.data(), in_.size()), std::move(on_read));
}

void PeerHandshake::on_hello(const PeerHello& hello) {
  if (!judge_) {
    if (hello.what == PeerHello::What::kRefused) return fail("it refused this node: " + hello.why);
    return finish({hello, false, false, ""});
  }
  PeerHello answer = judge_(hello);
  bool refuses = answer.what == PeerHello::What::kRefused;
  send(answer, [this, hello, why = answer.why, refuses] {
    if (refuses) return fail(why);
    finish({hello, false, false, ""});
  });
}

void PeerHandshake::send(const PeerHello& hello, std::function<void()> then) {
  out_ = encode_peer_hello(hello);
  auto on_sent = [self = shared_from_this(), then = std::move(then)](const error_code& error, size_t) {
    if (self->ended_) return;
    if (error) return self->fail_on(error);
    then();
  };
  asio::async_write(socket_, asio::buffer(out_.data(), out_.size()), std::move(on_sent));
}

// --- end -------------------------------------------------------------------------------------------------------------

void PeerHandshake::limit(int64_t ms, const char* what) {
  timer_.expires_after(std::chrono::milliseconds(ms));
  timer_.async_wait([self = shared_from_this(), ms, what](const error_code& error) {
    // Moved on meanwhile, when this was already under way.
    if (error || self->ended_ || self->timer_.expiry() > std::chrono::steady_clock::now()) return;
    self->fail(std::string(what) + " within " + std::to_string(ms) + " ms");
  });
}

void PeerHandshake::fail_on(const error_code& error) {
  bool refused = error == asio::error::connection_refused || error == asio::error::connection_reset ||
                 error == asio::error::broken_pipe;
  finish({std::nullopt, refused, false, error == asio::error::eof ? "closed before it said hello" : error.message()});
}

void PeerHandshake::finish(Outcome outcome) {
  if (std::exchange(ended_, true)) return;
  timer_.cancel();
  resolver_.cancel();
  if (!outcome.hello) {
    error_code ignored;
    socket_.close(ignored);
  }
  auto tell = [self = shared_from_this(), outcome = std::move(outcome)]() mutable {
    Done done = std::exchange(self->done_, nullptr);
    self->judge_ = nullptr;
    if (done) done(*self, std::move(outcome));
  };
  asio::post(socket_.get_executor(), std::move(tell));
}

}  // namespace trilog
