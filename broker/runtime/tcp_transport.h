// TcpTransport: the PeerTransport of real processes. Three TCP connections to each peer, one per channel; the node with
// the higher id calls, the other one listens and, when a connection is missing, knocks: it asks to be called now, and
// learns whether anybody listens there. One thread of its own reads and writes all of them; frames are handed to the
// listeners on the threads of their shards, in order.
//
// A connection begins with a hello each way (broker/runtime/peer_wire.h). A stranger, a node of another cluster, one
// that is not in the list of peers, or a second process with the id of a connected one, is refused with a line in both
// logs. Nothing here is encrypted or authenticated: the peer port belongs on a network that only brokers reach.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "broker/api/peer_transport.h"
#include "storage/base/status.h"
#include "storage/env/env.h"

namespace trilog {

struct TcpTransportOptions {
  BrokerId self = kNoBroker;
  std::string listen;                     // "host:port" for peers; port 0: the system picks
  std::map<BrokerId, std::string> peers;  // id and "host:port" of all nodes, with this one; the same ids on all
  Logger log;

  // --- limits ---
  int64_t connect_limit_ms = 1'000;
  int64_t hello_limit_ms = 5'000;    // from an accepted connection to its whole hello, and for the answer
  int64_t idle_ms = 250;             // a control channel with nothing to say says so this often
  int64_t silence_limit_ms = 1'000;  // a control channel that hears nothing for so long ends, and the others with it
  int64_t retry_ms_min = 10;         // between attempts to connect, doubled up to
  int64_t retry_ms_max = 1'000;      // this, and shortened at random by up to half
  size_t strangers_max = 64;         // accepted connections that have not said hello; more are closed at once
  size_t unread_bytes_max = kPeerQueueBytesMax;  // received on one channel and not yet taken by the shards: then it
                                                 // stops reading, and the sender's queue fills
};

class TcpTransport final : public PeerTransport {
 public:
  // Binds and listens, so that a taken port (kBusy) or a wrong address (kInvalidArgument) shows at once; calls nobody
  // and answers nobody before it has begun, see start(). The shards must outlive the transport.
  static Result<std::unique_ptr<TcpTransport>> open(TcpTransportOptions options, std::vector<Env*> shards);
  ~TcpTransport() override;  // stop()
  TcpTransport(const TcpTransport&) = delete;
  TcpTransport& operator=(const TcpTransport&) = delete;

  // Who this node is: the rest of what its hellos say. Once. It begins when every shard listens: before that nobody is
  // connected, so that nothing that is sent to this node gets lost.
  void start(const ClusterId& cluster, const DirectoryId& directory);
  // Closes everything and joins the thread; afterwards send() returns false and listeners hear nothing but what was
  // posted to their shards before. Not from a shard's thread that a listener waits for. Twice is fine.
  void stop();
  int port() const;

  bool send(BrokerId to, PeerChannel channel, PeerFrame frame) override;
  bool connected(BrokerId to, PeerChannel channel) const override;
  PeerIdentity identity(BrokerId to) const override;
  // `listener` is no longer called when this returns if it was called on the shard's own thread.
  void listen(uint32_t shard, PeerListener* listener) override;
  void set_empty(bool empty) override;
  void set_cluster(const ClusterId& cluster) override;

 private:
  struct Impl;
  explicit TcpTransport(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace trilog
