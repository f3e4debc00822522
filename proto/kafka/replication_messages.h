// Bodies of the replication messages between brokers (rule R2): a follower opens a session per partition with the
// leader, the leader pushes batches and its high watermark down it, the follower reports how far it has come. One
// message carries many sessions: all of one follower's shard with one leader's shard.
//
//   follower                                leader
//   OpenSession{position, last epoch}  -->
//                                      <--  EpochEnd{epoch, end}      the logs differ: cut, then open again (R11)
//                                      <--  CloseSession{reason}      no session now
//                                      <--  Push{sequence, batches, high watermark}
//   Progress{sequence, fetched, durable}  -->
//   CloseSession  -->
//
// A body is version (u8), then the fields in order (storage/base/codec.h). Decoding checks every count and length
// against the limits below and against the bytes that are there before it allocates. A newer version is refused
// (kUnsupported). The batches themselves travel as the frame's bulk bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/base/status.h"

namespace trilog::peer {

inline constexpr size_t kSessionsPerMessageMax = 10'000;

// Chosen by the follower at random, never used twice; tells apart what belongs to which session (R14).
using SessionId = StrongId<struct SessionIdTag, uint64_t>;

struct OpenSession {
  struct Partition {
    SessionId session;
    TopicPartition partition;
    LeaderEpoch leader_epoch = kNoLeaderEpoch;  // in which the receiver leads, as the follower knows
    Offset fetched{0};                          // the follower's log end
    Offset durable{0};                          // <= fetched
    LeaderEpoch last_epoch = kNoLeaderEpoch;    // of the follower's last record; -1: it has none
    bool operator==(const Partition&) const = default;
  };
  uint32_t reply_route = 0;      // the follower's shard
  BrokerEpoch broker_epoch{-1};  // the follower's incarnation
  uint32_t credit_bytes = 0;     // how much may be on its way to that shard
  std::vector<Partition> partitions;
  bool operator==(const OpenSession&) const = default;
};

// Numbers travel between versions.
enum class CloseReason : uint8_t {
  kEnded = 0,          // by the follower, or the leader stopped
  kNotLeader = 1,      // the receiver does not lead this partition: wait for metadata
  kFencedEpoch = 2,    // the follower's leader epoch is over: wait for metadata
  kUnknownEpoch = 3,   // the leader has not heard of that leader epoch, broker or broker epoch yet: ask again
  kBelowLogStart = 4,  // the follower needs records that are gone: begin again at `log_start`
  kUnreadable = 5,     // the leader cannot read its own log there
  kRestart = 6,        // something got lost: open again
};
inline constexpr uint8_t kCloseReasonLast = 6;

struct CloseSession {
  struct Partition {
    SessionId session;
    CloseReason reason = CloseReason::kEnded;
    Offset log_start{0};
    bool operator==(const Partition&) const = default;
  };
  std::vector<Partition> partitions;
  bool operator==(const CloseSession&) const = default;
};

// R11: the greatest epoch of the leader that is not above the follower's last one, and where it ends.
struct EpochEnd {
  SessionId session;
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  LeaderEpoch epoch = kNoLeaderEpoch;
  Offset end{0};
  bool operator==(const EpochEnd&) const = default;
};

struct Push {
  struct Partition {
    SessionId session;
    LeaderEpoch leader_epoch = kNoLeaderEpoch;
    Offset high_watermark{0};
    Offset log_start{0};
    uint32_t bytes = 0;  // of the bulk bytes, which hold the partitions' batches one after another
    bool operator==(const Partition&) const = default;
  };
  uint32_t reply_route = 0;  // the leader's shard
  uint64_t sequence = 0;     // of pushes between these two shards, from 1; a gap means that something got lost
  std::vector<Partition> partitions;
  bool operator==(const Push&) const = default;
};

struct Progress {
  struct Partition {
    SessionId session;
    LeaderEpoch leader_epoch = kNoLeaderEpoch;
    BrokerEpoch broker_epoch{-1};
    Offset fetched{0};
    Offset durable{0};
    bool operator==(const Partition&) const = default;
  };
  uint32_t reply_route = 0;  // the follower's shard
  uint64_t sequence = 0;     // of the last push that was dealt with: its bytes, and all earlier ones, are credit again
  std::vector<Partition> partitions;
  bool operator==(const Progress&) const = default;
};

Bytes encode(const OpenSession& message);
Bytes encode(const CloseSession& message);
Bytes encode(const EpochEnd& message);
Bytes encode(const Push& message);
Bytes encode(const Progress& message);

// kCorruption if malformed (also: negative offsets, durable above fetched), kUnsupported if newer.
Result<OpenSession> decode_open_session(ByteView body);
Result<CloseSession> decode_close_session(ByteView body);
Result<EpochEnd> decode_epoch_end(ByteView body);
Result<Push> decode_push(ByteView body);
Result<Progress> decode_progress(ByteView body);

}  // namespace trilog::peer
