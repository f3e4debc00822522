// PeerAcceptor: the listening socket for peers. Few descriptors make it wait, not end.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <string>

#include "storage/base/logging.h"
#include "storage/base/status.h"

namespace trilog {

class PeerAcceptor {
 public:
  using Accepted = std::function<void(boost::asio::ip::tcp::socket)>;
  PeerAcceptor(boost::asio::io_context& loop, Logger log) : loop_(loop), acceptor_(loop), retry_(loop), log_(log) {}

  // "host:port"; names are looked up now. kBusy: the port is taken; kInvalidArgument: no such address here.
  Status listen(const std::string& address);
  int port() const { return port_; }
  const std::string& address() const { return address_; }  // as bound

  // On the loop's thread; must outlive the loop's run.
  void start(Accepted accepted);
  void stop();

 private:
  void accept();
  void on_error(const boost::system::error_code& error);

  boost::asio::io_context& loop_;
  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer retry_;
  Logger log_;
  Accepted accepted_;
  std::string address_;
  int port_ = 0;
  bool complained_ = false;
};

}  // namespace trilog
