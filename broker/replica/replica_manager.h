// ReplicaManager: the partitions of one shard, and produce and fetch on them. Storage never decides who leads; this
// room never decides who should: it follows the metadata image.
//
// On the shard's thread. `done` callbacks are posted, run once, also on stop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/api/peer_transport.h"
#include "broker/api/requests.h"
#include "broker/metadata/metadata_image.h"
#include "proto/kafka/peer_messages.h"
#include "storage/env/env.h"
#include "storage/log/log_directory.h"

namespace trilog {

struct ReplicaOptions {
  BrokerId self = kNoBroker;
  std::string topics_path;
  int64_t mark_interval_ms = 5'000;            // S2: marks are at most this far behind
  uint64_t mark_bytes_synced_max = 64u << 20;  // or so many bytes above the marks, in sum
  uint64_t mark_bytes_replicated_max = 256u << 20;
  int64_t retention_check_ms = 30'000;
  int64_t producer_idle_ms = 24LL * 3600 * 1000;
  size_t delayed_operations_max = 100'000;         // then THROTTLED
  uint64_t scrub_bytes_per_second = 4u << 20;      // S10: at least, while a pass is under way; 0: no scrub
  int64_t scrub_pass_ms = 3LL * 24 * 3600 * 1000;  // from the beginning of one pass to that of the next
  // Of replication between brokers.
  int64_t replica_lag_ms_max = 10'000;    // R9: an in-sync replica behind for longer is taken out
  int64_t session_ms = 3'000;             // R1, R18: silence after which a peer, or the controller, counts as gone
  uint32_t push_bytes_max = 1u << 20;     // of one push; one batch may be larger
  uint32_t push_credit_bytes = 8u << 20;  // pushed to one shard of one follower and not yet appended there
  int64_t replica_retry_ms_least = 20;    // back-off of a follower that is turned away
  int64_t replica_retry_ms_most = 1'000;
};

// A leader asks the controller for other in-sync replicas (AlterPartition).
struct IsrMember {
  BrokerId broker = kNoBroker;
  BrokerEpoch epoch{-1};
  bool operator==(const IsrMember&) const = default;
};
struct IsrChange {
  TopicPartition partition;
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  PartitionEpoch partition_epoch{-1};  // of the state it starts from
  std::vector<IsrMember> isr;
  bool operator==(const IsrChange&) const = default;
};
// The committed state of the partition, whether or not this very request made it: a request that came too late (a stale
// partition epoch) is answered with the state that it was too late for (R8).
struct IsrChanged {
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  PartitionEpoch partition_epoch{-1};
  std::vector<BrokerId> isr;
};
// Error: with outcome NOT_WRITTEN only if the request was refused for good in the state it names and will not be
// carried out later; everything else (time-out, no controller, fenced) as UNKNOWN: it is repeated, identically.
using AlterIsr = std::function<void(IsrChange change, UniqueFunction<void(api::Answer<IsrChanged>)> done)>;

// S9: asks a broker for the batches of a range. `done` with batches or an error, on the asking shard's thread.
using FetchRange = std::function<void(BrokerId broker, const peer::RepairRangeRequest& request,
                                      UniqueFunction<void(Result<SharedBytes>)> done)>;

// What a shard needs to replicate.
struct ReplicaNetwork {
  PeerTransport* transport = nullptr;  // outlives the manager
  uint32_t shard = 0;
  AlterIsr alter_isr;
  FetchRange fetch_range;
};

// Where a local replica stands: for hearings and heartbeats (C8), and for showing it.
struct ReplicaPosition {
  LeaderEpoch last_epoch = kNoLeaderEpoch;  // of the last record
  Offset log_start{0};
  Offset high_watermark{0};
  Offset durable_end{0};
  Offset log_end{0};
  bool damaged = false;  // records are missing or unreadable, or it stopped (R15)
  std::string halted;    // why it stopped following, if it did
};

struct AppendRequest {
  TopicPartition partition;
  Bytes batches;  // one or more; checked, stamped in place and appended in order
  api::Acks acks = api::Acks::kAll;
  int64_t deadline_ns = INT64_MAX;
  bool internal = false;  // the broker's own records: not subject to DISK_FULL
  // Built here from single records whose size was checked one by one: the batch may be larger than max.message.bytes by
  // its own framing.
  bool built_from_records = false;
};
struct AppendedBatch {
  Offset first_offset = kNoOffset;
  int64_t timestamp_ms = kNoTimestamp;  // of log append time, else -1
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  bool duplicate = false;
  std::optional<api::Error> error;  // a batch after a failed one fails too (PREVIOUS_FAILED)
};
struct AppendResult {
  std::vector<AppendedBatch> batches;  // one per batch of the request, or a single one with the error that hit all
  int32_t synced_replicas = 0;
  int32_t replicas = 0;
};

struct ReadRequest {
  TopicPartition partition;
  std::optional<Offset> offset;  // absent: first available
  std::optional<LeaderEpoch> leader_epoch;
};
struct ReadPart {
  Offset asked{0};
  Offset high_watermark{0};
  Offset log_start{0};
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  LogSlice slice;      // empty at the end; check it with read_slice() on any thread
  bool stale = false;  // R16: the true high watermark may be higher: no leader can be asked, or it does not know it yet
  std::optional<api::Error> error;
};
struct PartitionEnds {
  Offset start{0};
  Offset high_watermark{0};
  Offset log_end{0};
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  uint64_t size_bytes = 0;
  bool stale = false;  // R16: from a replica that cannot reach a leader; the true end may be further
};
using WatchId = uint64_t;  // 0: none

class ReplicaManager {
 public:
  // `logs` must outlive this. `persist_marks(changes, done)` hands the shard's marks to whoever writes the marks file.
  using PersistMarks = std::function<void(Marks changes, UniqueFunction<void(Status)> done)>;
  ReplicaManager(Env& env, ReplicaOptions options, LogDirectory& logs, DiskGuard& disk, PersistMarks persist_marks);
  ~ReplicaManager();

  // Which partitions of the image are this shard's; set once before the first apply().
  void set_ownership(std::function<bool(const TopicPartition&)> owns);
  // Makes this one of several brokers; once before the first apply(). Without it there is nobody to replicate to.
  void set_network(ReplicaNetwork network);
  // This process is registered under this epoch (C3). Before that, and until the image says the same, it leads no
  // partition that others replicate, and follows none.
  void set_broker_epoch(BrokerEpoch epoch);
  // R18: a heartbeat that was sent then has been confirmed by the controller, and what was committed by then applied.
  void set_controller_contact(int64_t sent_ns);
  // F14: whether this node's wall clock is that of most brokers. One of several brokers removes nothing for its age
  // before it was told so, nor while it was last told otherwise.
  void set_clock_agreement(bool agrees);
  // From the shard's PeerListener: frames of the replication kinds that are no answers, and all connection events.
  // Others are ignored.
  void on_frame(BrokerId from, PeerChannel channel, PeerFrame frame);
  void on_connected(const PeerIdentity& peer, PeerChannel channel);
  void on_disconnected(BrokerId peer, PeerChannel channel, bool refused);
  // Nothing if there is no replica of it here.
  std::optional<ReplicaPosition> position(const TopicPartition& partition);

  // The next image: opens logs of new partitions (blocking recovery), becomes leader, changes settings, removes logs.
  // `delta` null: the first image, everything is new.
  void apply(const ImagePtr& image, const MetadataDelta* delta);

  // Path (a) of architecture.md. The answer comes when the acks are met: kAll at the high watermark (R5), kLeader when
  // this broker has it by the same measure, kNone at once after the append.
  void append(AppendRequest request, UniqueFunction<void(AppendResult)> done);

  // Path (b): what is there now, never waits. `bytes_max` over all parts; the first non-empty part gives at least a
  // batch.
  std::vector<ReadPart> read(const std::vector<ReadRequest>& parts, uint32_t bytes_max, api::Isolation isolation);
  // `done` is posted once: as soon as one of the parts has at least `bytes_min` bytes in sum to give or an error, at
  // the deadline, on cancel_watch() or on stop. The caller then reads again.
  WatchId watch(std::vector<ReadRequest> parts, uint32_t bytes_min, api::Isolation isolation, int64_t deadline_ns,
                UniqueFunction<void()> done);
  void cancel_watch(WatchId watch);

  api::Answer<PartitionEnds> ends(const TopicPartition& partition);
  api::Answer<std::optional<TimestampedOffset>> find_timestamp(const TopicPartition& partition, int64_t timestamp_ms);
  // Records below `before` (<= high watermark; absent: the high watermark) are gone when `done` says so, durably.
  void trim(const TopicPartition& partition, std::optional<Offset> before,
            UniqueFunction<void(api::Answer<PartitionEnds>)> done);
  // For the repair of another broker's replica (S9): see ReplicaRepair::read_range(). `done` is posted.
  void read_range(const peer::RepairRangeRequest& request, UniqueFunction<void(Result<SharedBytes>)> done);
  // An edge found a bad batch while reading a slice (S9). The log is mended behind the scenes.
  void report_damage(const TopicPartition& partition, const LogSlice& slice, const Status& why);

  // For the group coordinator on the same shard: the log of a partition led here (null otherwise), and a listener that
  // is called after its high watermark moved.
  Log* leader_log(const TopicPartition& partition);
  Offset high_watermark(const TopicPartition& partition);
  void set_high_watermark_listener(const TopicPartition& partition, std::function<void()> listener);
  void clear_high_watermark_listener(const TopicPartition& partition);

  // Starts housekeeping timers (marks, retention, producer expiry).
  void start();
  // Refuses new work (NODE_STOPPING), completes what waits, syncs and closes all logs; `done` gets the exact marks for
  // the clean marker, or why it cannot be written.
  void stop(UniqueFunction<void(Result<Marks>)> done);

  // Walks every partition and CHECKs the always-on assertions A1-A4. For tests and the simulator.
  void check_invariants();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trilog
