// Bodies of the control messages between brokers: registration, heartbeats, changes of in-sync replicas, blocks of
// producer ids, controlled shutdown, probes and hearings. Replication has its own file; Raft encodes inside its room.
//
// A body is version (u8), then the fields in order (storage/base/codec.h): integers big-endian, counts and lengths as
// varints, ids of topics and directories 16 bytes. Decoding checks every count and length against the limits below and
// against the bytes that are there before it allocates. A body of a newer version is refused (kUnsupported); fields are
// only ever added at the end, with a new version.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/base/status.h"

namespace trilog::peer {

inline constexpr size_t kTextBytesMax = 1024;            // of one text
inline constexpr size_t kPartitionsMax = 100'000;        // in one message
inline constexpr size_t kReplicasMax = 64;               // of one partition
inline constexpr size_t kHearingPartitionsMax = 10'000;  // in one hearing

// How a controller answers. Numbers travel between versions.
enum class PeerError : uint8_t {
  kNone = 0,
  kNotController = 1,        // asked the wrong node, or it has not heard of the epochs in the request yet: ask again
  kStaleBrokerEpoch = 2,     // the sender is not the registered process: it must register (again)
  kOtherDirectory = 3,       // a live registration of another data folder holds this id (C3)
  kFencedLeaderEpoch = 4,    // somebody else leads, or the same in a newer epoch
  kNotLeader = 5,            // the sender does not lead this partition
  kStalePartitionEpoch = 6,  // the state has changed since: the answer tells the present one (R8)
  kInvalidRequest = 7,
  kIneligibleReplica = 8,  // a proposed member is fenced, shutting down, or another process (R9)
  kUnknownPartition = 9,   // no such topic id or partition (C11)
  kBusy = 10,              // too much waits; ask again
  kOutcomeUnknown = 11,    // whether the change was made is not known: ask again, the same request is safe
  kStopping = 12,
};
inline constexpr uint8_t kPeerErrorLast = 12;
std::string_view peer_error_name(PeerError error);

// What the recovery of a start found in the broker's data folder (C8).
enum class Recovered : uint8_t {
  kUnknown = 0,      // no promise about any partition
  kAllFine = 1,      // every partition there ever was is present, undamaged, and reaches its durable end
  kSomeDamaged = 2,  // as above, except for those listed
};

struct RegisterBrokerRequest {
  BrokerId broker = kNoBroker;
  DirectoryId directory;
  std::string address;       // for clients
  std::string peer_address;  // for brokers
  std::string rack;          // empty: not told
  std::string version;
  BrokerEpoch recorded_epoch{-1};  // the last one written into the data folder; -1: none
  bool clean = false;              // a valid clean marker of that epoch was found (S11)
  bool same_boot = false;          // the kernel's boot id is that of the folder: only the process had died
  Recovered recovered = Recovered::kUnknown;
  std::vector<TopicPartition> damaged;  // missing, damaged, or shorter than their durable end
  bool operator==(const RegisterBrokerRequest&) const = default;
};
struct RegisterBrokerAnswer {
  PeerError error = PeerError::kNone;
  std::string message;
  BrokerEpoch epoch{-1};  // of this process from now on
  bool operator==(const RegisterBrokerAnswer&) const = default;
};

struct HeartbeatRequest {
  BrokerId broker = kNoBroker;
  BrokerEpoch epoch{-1};
  Offset applied = kNoOffset;           // of the metadata log: the last record in the broker's image
  bool wants_shutdown = false;          // C9: move the leaders away
  std::vector<TopicPartition> damaged;  // replicas found damaged since the start, not repaired yet (S9)
  int64_t wall_ms = 0;                  // the broker's wall clock when it sent this (F14)
  bool disk_full = false;               // it refuses records for want of space (S8): others should lead
  bool operator==(const HeartbeatRequest&) const = default;
};
struct HeartbeatAnswer {
  PeerError error = PeerError::kNone;
  bool fenced = true;
  bool may_shut_down = false;  // the leaders are gone, and the other live brokers know it
  int32_t leads = 0;           // only when it wants to shut down: partitions it still leads
  Offset applied = kNoOffset;  // of the metadata log: the controller's own image, no older than the heartbeat (R18)
  bool clock_agrees = false;   // its wall clock is that of most live brokers (F14)
  bool operator==(const HeartbeatAnswer&) const = default;
};

struct InSyncReplica {
  BrokerId broker = kNoBroker;
  BrokerEpoch epoch{-1};  // the process the leader has seen fetching; of the leader itself: its own
  bool operator==(const InSyncReplica&) const = default;
};
struct AlterPartition {
  TopicPartition partition;
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  PartitionEpoch partition_epoch{-1};  // of the state that the change starts from
  bool recovering = false;             // a leader elected at the price of records that is not ready for followers
  std::vector<InSyncReplica> isr;      // as it shall be
  bool operator==(const AlterPartition&) const = default;
};
struct AlterPartitionRequest {
  BrokerId broker = kNoBroker;
  BrokerEpoch epoch{-1};
  std::vector<AlterPartition> partitions;
  bool operator==(const AlterPartitionRequest&) const = default;
};
// The committed state; meaningful unless the partition is unknown.
struct AlteredPartition {
  TopicPartition partition;
  PeerError error = PeerError::kNone;
  BrokerId leader = kNoBroker;
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  PartitionEpoch partition_epoch{-1};
  std::vector<BrokerId> isr;
  std::vector<BrokerId> elr;
  // The minimum that the ELR was computed with. A leader that takes this state from here before its image has a raised
  // minimum must wait for it: alone in the ISR it would acknowledge what an eligible leader does not have.
  int32_t min_in_sync = 1;
  bool operator==(const AlteredPartition&) const = default;
};
struct AlterPartitionAnswer {
  PeerError error = PeerError::kNone;        // of the whole request
  std::vector<AlteredPartition> partitions;  // in the order of the request
  bool operator==(const AlterPartitionAnswer&) const = default;
};

struct AllocateProducerIdsRequest {
  BrokerId broker = kNoBroker;
  bool operator==(const AllocateProducerIdsRequest&) const = default;
};
struct AllocateProducerIdsAnswer {
  PeerError error = PeerError::kNone;
  ProducerId first = kNoProducerId;
  int32_t size = 0;
  bool operator==(const AllocateProducerIdsAnswer&) const = default;
};

// The last step of a shutdown (C9): the broker has drained and synced everything and asks to be fenced.
struct ControlledShutdownRequest {
  BrokerId broker = kNoBroker;
  BrokerEpoch epoch{-1};
  bool operator==(const ControlledShutdownRequest&) const = default;
};
struct ControlledShutdownAnswer {
  PeerError error = PeerError::kNone;
  Offset fenced_at = kNoOffset;  // of the metadata log
  bool operator==(const ControlledShutdownAnswer&) const = default;
};

// Controller to broker: are you there, and in which incarnation (C5)?
struct ProbeRequest {
  BrokerId controller = kNoBroker;
  bool operator==(const ProbeRequest&) const = default;
};
struct ProbeAnswer {
  BrokerEpoch epoch{-1};  // -1: not registered since its start
  Offset applied = kNoOffset;
  bool operator==(const ProbeAnswer&) const = default;
};

// Broker to broker (S9): committed batches of a range that is damaged here, the first one beginning at `from`, none
// reaching beyond `to`. The answer is the batches, as many as fit, as bulk bytes.
struct RepairRangeRequest {
  TopicPartition partition;
  Offset from{0};
  Offset to{0};
  bool operator==(const RepairRangeRequest&) const = default;
};

// Controller to broker (C8): how far do your logs of these partitions reach?
struct HearingRequest {
  BrokerEpoch epoch{-1};  // of the process that is asked; another one must not answer
  std::vector<TopicPartition> partitions;
  bool operator==(const HearingRequest&) const = default;
};
struct HeardReplica {
  TopicPartition partition;
  bool intact = false;                      // the log is there and open; else what follows means nothing
  LeaderEpoch last_epoch = kNoLeaderEpoch;  // of the last batch in the log
  Offset log_end{0};                        // of what is on disk (the durable end)
  bool operator==(const HeardReplica&) const = default;
};
struct HearingAnswer {
  BrokerEpoch epoch{-1};
  std::vector<HeardReplica> replicas;  // at most one for each partition asked
  bool operator==(const HearingAnswer&) const = default;
};

// For each of the structs above.
template <typename Message>
Bytes encode_peer_message(const Message& message);
// kCorruption if malformed or over a limit, kUnsupported if of a newer version.
template <typename Message>
Result<Message> decode_peer_message(ByteView bytes);

}  // namespace trilog::peer
