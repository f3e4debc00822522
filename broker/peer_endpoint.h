// PeerEndpoint: one shard's place among the brokers. What other brokers send to this shard is told apart here and goes
// to the room that it is for: answers to own calls, Raft, the controller's calls, replication, forwarded requests. On
// the shard's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>

#include "broker/api/peer_calls.h"
#include "broker/api/peer_transport.h"
#include "broker/broker_shard.h"

namespace trilog {

class BrokerImpl;

class PeerEndpoint final : public PeerListener {
 public:
  PeerEndpoint(BrokerImpl& broker, BrokerShard& shard, PeerTransport& transport, uint32_t index)
      : calls(shard.env, transport, index), broker_(broker), shard_(shard), transport_(transport), index_(index) {}

  void listen() { transport_.listen(index_, this); }
  // Own calls end, and nothing is heard any more.
  void stop();

  void on_frame(BrokerId from, PeerChannel channel, PeerFrame frame) override;
  void on_connected(const PeerIdentity& peer, PeerChannel channel) override;
  void on_disconnected(BrokerId peer, PeerChannel channel, bool refused) override;

  // Forwarded requests of one node, in their order, from the first one on that needs newer metadata than is here.
  struct HeldFrame {
    PeerChannel channel;
    PeerFrame frame;
    Offset applied;
    bool waited = false;  // long enough
  };
  struct Held {
    std::deque<HeldFrame> frames;
    uint64_t begin = 0;  // number of the first
  };
  static constexpr size_t kHeldMax = 10'000;

  BrokerShard& shard() { return shard_; }

  PeerCalls calls;
  std::map<BrokerId, Held> held;

 private:
  void give_range(BrokerId from, PeerChannel channel, const PeerFrame& frame);

  BrokerImpl& broker_;
  BrokerShard& shard_;
  PeerTransport& transport_;
  const uint32_t index_;
};

}  // namespace trilog
