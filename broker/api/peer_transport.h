// PeerTransport: how brokers talk to each other. Carries frames between named brokers; who they are was proven by a
// hello when the connection was made. The real one is TCP (broker/runtime), the simulated one a network full of faults
// (tests/sim). What frames mean is the business of the rooms that send them; the message bodies that more than one room
// knows are in proto/kafka/peer_messages.h.
//
// A frame arrives once or not at all, whole, and in the order of its channel, for as long as a connection lives. When
// one breaks, what was on its way is lost, both sides are told, and nothing is sent again: rooms that need an answer
// ask again themselves. Nothing here may be relied upon for safety.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "storage/base/bytes.h"
#include "storage/base/function.h"
#include "storage/base/ids.h"

namespace trilog {

// A connection of its own each, so that control never queues behind data.
enum class PeerChannel : uint8_t {
  kControl,      // Raft, registration, heartbeats, ISR changes
  kReplication,  // sessions: pushes and progress
  kBulk,         // forwarded requests, snapshots, repair
};
inline constexpr size_t kPeerChannels = 3;

// For ever: numbers travel between versions. Unknown kinds are answered with kRefused if they are calls, else dropped.
enum class PeerKind : uint16_t {
  kRaft = 1,             // body: broker/quorum
  kRegisterBroker = 10,  // calls to the active controller
  kHeartbeat = 11,
  kAlterPartition = 12,
  kAllocateProducerIds = 13,
  kControlledShutdown = 14,
  kProbe = 15,        // controller to broker: are you there, and in which incarnation (C5)
  kHearing = 16,      // controller to broker: last epoch and log end of partitions (C8)
  kOpenSession = 20,  // replication, follower to leader (R2)
  kCloseSession = 21,
  kPush = 22,         // leader to follower
  kProgress = 23,     // follower to leader
  kEpochEnd = 24,     // where an epoch ends (R11, R12)
  kRepairRange = 25,  // bytes of a batch range for a damaged replica (S10)
  kForward = 30,      // a client's request for another broker
  kRefused = 100,     // the answer to a call that could not be handled; body: text
};

struct PeerFrame {
  PeerKind kind = PeerKind::kRefused;
  uint32_t route = 0;   // to the receiver's shard `route` modulo their number: 0, or peer_route() of a partition
  uint64_t call = 0;    // 0: one way; else the number of a call, chosen by the caller
  bool answer = false;  // to `call`
  Bytes body;           // fields; at most kPeerBodyBytesMax
  SharedBytes bulk;     // record batches or snapshot bytes, not copied on the way; at most kPeerBulkBytesMax
};
// Equal on all brokers, however many shards each has.
inline uint32_t peer_route(const TopicId& topic, PartitionId partition) {
  uint64_t mixed = topic.high() ^ topic.low();
  mixed = (mixed + static_cast<uint64_t>(partition.value())) * 0x9e3779b97f4a7c15ULL;
  return static_cast<uint32_t>(mixed >> 32);
}
inline constexpr size_t kPeerBodyBytesMax = size_t{4} << 20;
inline constexpr size_t kPeerBulkBytesMax = size_t{64} << 20;

// What a hello told about a connected peer.
struct PeerIdentity {
  BrokerId broker = kNoBroker;
  DirectoryId directory;
  bool empty = false;  // its metadata folder was never formed (Q8)
  bool operator==(const PeerIdentity&) const = default;
};

// Runs on the thread of the shard it was registered for.
class PeerListener {
 public:
  virtual ~PeerListener() = default;
  virtual void on_frame(BrokerId from, PeerChannel channel, PeerFrame frame) = 0;
  virtual void on_connected(const PeerIdentity& peer, PeerChannel channel) = 0;
  // `refused`: nobody listens there, or the connection was reset: the process is gone (Q3, C5). Otherwise it fell
  // silent. Told again, as refused, for each later attempt to connect that finds nobody listening (C5).
  virtual void on_disconnected(BrokerId peer, PeerChannel channel, bool refused) = 0;
};

// Every method may be called on any shard's thread.
class PeerTransport {
 public:
  virtual ~PeerTransport() = default;
  // Queues a frame. False if it is dropped at once: not connected, or the queue of the channel is full
  // (kPeerQueueBytesMax). Frames that one thread sends on one channel stay in order.
  virtual bool send(BrokerId to, PeerChannel channel, PeerFrame frame) = 0;
  virtual bool connected(BrokerId to, PeerChannel channel) const = 0;
  // Who is on the other end; broker kNoBroker if not connected.
  virtual PeerIdentity identity(BrokerId to) const = 0;
  // Frames routed to `shard` go to this listener from now on; null: they are dropped. Connection events go to every
  // listener, first of all the present state. The listener must outlive its registration.
  virtual void listen(uint32_t shard, PeerListener* listener) = 0;
  // Told in the next hello and to connected peers by reconnecting.
  virtual void set_empty(bool empty) = 0;
  // The cluster that an empty folder was taken into; told like set_empty(). Needed only where hellos name a cluster.
  virtual void set_cluster(const ClusterId& /*cluster*/) {}
};
inline constexpr size_t kPeerQueueBytesMax = size_t{64} << 20;

}  // namespace trilog
