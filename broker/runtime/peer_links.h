// PeerLinks: who is connected to whom on which channel. Calls peers, answers them, knocks, replaces broken connections,
// notices silence, and tells the listeners. Private to the runtime; everything runs on the transport's thread except
// what says otherwise.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>

#include "broker/runtime/peer_connection.h"
#include "broker/runtime/peer_handshake.h"
#include "broker/runtime/tcp_transport.h"

namespace trilog {

class PeerLinks final : public PeerConnection::Owner {
 public:
  PeerLinks(std::shared_ptr<boost::asio::io_context> loop, const TcpTransportOptions& options,
            std::shared_ptr<PeerDelivery> delivery);

  // --- any thread ---
  bool send(BrokerId to, PeerChannel channel, PeerFrame frame);
  bool connected(BrokerId to, PeerChannel channel) const;
  PeerIdentity identity(BrokerId to) const;

  // --- the transport's thread ---
  void start(const ClusterId& cluster, const DirectoryId& directory);
  void accepted(boost::asio::ip::tcp::socket socket);
  // What is known now, for a new listener.
  void tell_present_state(size_t shard);
  void set_empty(bool empty);
  void set_cluster(const ClusterId& cluster);
  // Afterwards the loop runs dry.
  void stop();

  void on_frames(PeerConnection& connection, std::vector<PeerFrame> frames) override;
  void on_end(PeerConnection& connection, const PeerConnection::End& end) override;

 private:
  struct Link {
    mutable std::mutex mutex;  // of `connection`, for threads that send
    std::shared_ptr<PeerConnection> connection;
    std::shared_ptr<PeerHandshake> attempt;  // a call under way
    bool refused = false;                    // the last thing known of it
  };
  struct Peer {
    BrokerId id;
    std::string address;
    std::array<Link, kPeerChannels> links;
    std::shared_ptr<PeerHandshake> knock;
    int64_t retry_ms = 0;
    bool retry_set = false;
    std::unique_ptr<boost::asio::steady_timer> retry;
    PeerTime missing_since;  // when a connection was last lost
    std::string complaint;   // what was logged last
    PeerTime complained;
  };

  PeerHello our_hello(PeerHello::What what, PeerChannel channel, BrokerId expected) const;
  PeerExpectation expectation(BrokerId sender, BrokerId dialled) const;
  PeerHello judge(const PeerHello& theirs) const;
  Peer* find(BrokerId id) const;
  bool calls(const Peer& peer) const { return options_.self > peer.id; }

  void connect_missing(Peer& peer);
  void call(Peer& peer, PeerChannel channel);
  void knock(Peer& peer);
  void retry_later(Peer& peer);
  void retry_now(Peer& peer);
  void on_called(Peer& peer, PeerChannel channel, PeerHandshake& handshake, const PeerHandshake::Outcome& outcome);
  void on_answered(PeerHandshake& handshake, const PeerHandshake::Outcome& outcome);
  void tell_refused(Peer& peer, PeerChannel channel);
  void attempt_failed(Peer& peer, const PeerHandshake::Outcome& outcome);
  void adopt(Peer& peer, boost::asio::ip::tcp::socket socket, const PeerHello& hello);
  void drop(Peer& peer, Link& link, bool refused);
  void reconnect_all(const char* why);
  void tick();
  void check_peer(Peer& peer, PeerTime now);
  bool may_log_stranger();
  void complain(Peer& peer, const std::string& what);

  std::shared_ptr<boost::asio::io_context> loop_;
  const TcpTransportOptions options_;
  std::shared_ptr<PeerDelivery> delivery_;
  std::map<BrokerId, std::unique_ptr<Peer>> peers_;  // as constructed
  const uint64_t incarnation_;
  std::string quorum_;  // ids of all nodes, with this one
  ClusterId cluster_;
  DirectoryId directory_;
  bool empty_ = false;
  bool running_ = false;
  std::set<std::shared_ptr<PeerHandshake>> strangers_;
  boost::asio::steady_timer ticker_;
  PeerTime last_tick_;
  std::minstd_rand random_;

  PeerTime lines_since_;  // refusals in the log: so many since then
  int lines_ = 0;
};

}  // namespace trilog
