// PeerHandshake: from "call this address" or "somebody called" to two hellos, or the reason why not. Bounded in time
// and in bytes. On the transport's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <string>

#include "broker/runtime/peer_wire.h"

namespace trilog {

class PeerHandshake : public std::enable_shared_from_this<PeerHandshake> {
 public:
  struct Outcome {
    std::optional<PeerHello> hello;  // theirs: both agreed. Otherwise:
    bool refused = false;            // nobody listens there
    bool silent = false;             // left before the first byte: nothing to log
    std::string why;
  };
  // What to answer to their hello: ours, or one that refuses. Not for a caller, whose hello went out before.
  using Judge = std::function<PeerHello(const PeerHello& theirs)>;
  // Once, never inside call() or answer(); not after cancel(). The socket is to be taken from the handshake.
  using Done = std::function<void(PeerHandshake& handshake, Outcome outcome)>;
  struct Limits {
    int64_t connect_ms = 0;
    int64_t hello_ms = 0;
  };

  PeerHandshake(boost::asio::io_context& loop, Limits limits, Done done);
  // Connects to "host:port" and says `ours`.
  void call(const std::string& address, const PeerHello& ours);
  // Somebody connected.
  void answer(boost::asio::ip::tcp::socket socket, Judge judge);
  void cancel();

  boost::asio::ip::tcp::socket take_socket() { return std::move(socket_); }
  const std::string& remote() const { return remote_; }  // "127.0.0.1:4711", once connected

 private:
  using Endpoints = boost::asio::ip::tcp::resolver::results_type;
  void resolve(const std::string& host, const std::string& port);
  void connect(const Endpoints& endpoints);
  void on_connected();
  void read_size();
  void read_rest(size_t size);
  void on_hello(const PeerHello& hello);
  void send(const PeerHello& hello, std::function<void()> then);
  void limit(int64_t ms, const char* what);
  void finish(Outcome outcome);
  void fail(std::string why) { finish({std::nullopt, false, false, std::move(why)}); }
  void fail_on(const boost::system::error_code& error);

  boost::asio::ip::tcp::socket socket_;
  boost::asio::ip::tcp::resolver resolver_;
  boost::asio::steady_timer timer_;
  const Limits limits_;
  Done done_;
  Judge judge_;
  std::string remote_;
  Bytes in_;
  Bytes out_;
  bool ended_ = false;
};

}  // namespace trilog
