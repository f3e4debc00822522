// Partition: one local replica, leader or follower: who may append, what may be read, how far the high watermark is.
//
// Invariants (A1): log start <= high watermark <= log end; on a synced topic the high watermark of a lone replica is
// never above its durable end; the high watermark does not fall. After a crash only the log and its mark are left: the
// high watermark begins at the mark's and rises as the leader knows better (rule R13).
//
// On the shard's thread. Nothing here waits: the manager parks what has to.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/api/requests.h"
#include "broker/metadata/metadata_image.h"
#include "broker/replica/replica_manager.h"
#include "broker/replica/replica_peers.h"
#include "broker/replica/replica_progress.h"
#include "storage/env/env.h"
#include "storage/log/log.h"

namespace trilog {

LogConfig log_config_of(const TopicImage& topic);
PartitionMeta partition_meta_of(const TopicImage& topic, PartitionId partition);

// What came of an append.
struct Appended {
  std::vector<AppendedBatch> batches;
  // All batches that are in the log lie below; kNoOffset if none is.
  Offset end = kNoOffset;
  uint64_t bytes = 0;      // added to the log
  bool disk_full = false;  // why it failed, if it did
};

class Partition {
 public:
  enum class Role { kFollower, kLeader };

  // `log` may be null with the reason in `offline`: the partition then answers STORAGE_ERROR to everything.
  // `peers` (outlives this) is null on a node that replicates to nobody.
  Partition(Env& env, TopicPartition id, BrokerId self, std::unique_ptr<Log> log, Status offline,
            const ReplicaPeers* peers = nullptr);

  // The next state of the partition and its topic: becomes leader or follower, changes settings. Blocking when the
  // topic's settings changed (partition.meta).
  void apply(std::shared_ptr<const TopicImage> topic);
  // The topic is gone. Everything is answered as "no longer leader" from now on.
  void retire();

  const TopicPartition& id() const { return id_; }
  std::string name() const;  // "orders/0"
  bool is_leader() const { return role_ == Role::kLeader; }
  bool synced() const { return topic_->durability == api::Durability::kSynced; }
  // Null when offline. Not const on purpose: the manager drives its syncs and its closing.
  Log* log() { return log_.get(); }
  const Log* log() const { return log_.get(); }
  std::unique_ptr<Log> release_log() { return std::move(log_); }

  Offset high_watermark() const { return high_watermark_; }
  Offset log_end() const { return log_ ? log_->log_end() : Offset(0); }
  Offset log_start() const { return log_ ? log_->log_start() : Offset(0); }
  LeaderEpoch leader_epoch() const { return state().leader_epoch; }
  // Raised whenever a leadership begins after an interruption: a wait belongs to one tenure (R5).
  uint64_t tenure() const { return tenure_; }
  // What this replica counts for itself (R2): its durable end, or its log end on a `replicated` topic.
  Offset counted_position() const;
  bool too_few_in_sync() const;
  bool failed() const { return !log_ || log_->failed(); }
  int32_t replica_count() const { return static_cast<int32_t>(state().replicas.size()); }
  // How many replicas are known to have everything below `end` on disk.
  int32_t synced_replicas(Offset end) const;

  // Why an append with these acks is refused before anything is looked at (R1), or nothing.
  std::optional<api::Error> refuse_append(api::Acks acks) const;
  // Checks, stamps in place and appends. Call only if not refused. Whole-request errors come as the Error: then nothing
  // was appended.
  api::Answer<Appended> append_as_leader(AppendRequest& request);
  // Re-evaluates the high watermark (leader: R4, R6; follower: R13); true if it rose.
  bool advance_high_watermark();

  // --- replication: of the leader ---
  // The image of brokers changed, though perhaps not this partition.
  void refresh_peers();
  ReplicaProgress& progress() { return progress_; }
  ReplicaProgress::Moment moment() const;
  // Everything from before this leader epoch is committed (R16).
  bool epoch_start_committed() const { return high_watermark_ >= epoch_start_; }
  const PartitionImage& image() const { return state(); }
  // Fewer members than needed can be reached from here (R1).
  bool too_few_reachable() const;
  // R11: how the leader's log relates to a follower's that ends at `fetched` with a record of `last_epoch`: nothing if
  // the leader's continues it.
  std::optional<EpochEnd> divergence(LeaderEpoch last_epoch, Offset fetched) const;

  // --- replication: of a follower ---
  bool has_other_replicas() const { return state().replicas.size() > 1; }
  LeaderEpoch last_epoch() const;
  // Batches as the leader stored them. kCorruption, with nothing appended, if they do not continue this log.
  Status append_from_leader(ByteView batches);
  void leader_told(Offset high_watermark, Offset log_start);
  // R11: where this log has to be cut, given what the leader answered; below the log's start if nothing of it is the
  // leader's. kFailed if that is below the high watermark (R15): then the replica has to stop.
  Result<Offset> cut_point(const EpochEnd& leader) const;
  // From now on the mark is no higher than this: it has to be on the disk before the log is cut (S2).
  void lower_mark(const LogMark& mark) { lowered_mark_ = mark; }
  void raise_mark() { lowered_mark_.reset(); }
  LogMark mark() const;
  // Blocking. What was lowered counts no more.
  Status cut_to(Offset end);
  Status restart_at(Offset start);
  void halt(std::string why) { halted_ = std::move(why); }
  const std::string& halted() const { return halted_; }
  ReplicaPosition position() const;

  // Why this position cannot be read, or nothing.
  std::optional<api::Error> refuse_read(const ReadRequest& request) const;
  // At most `bytes_max`, but at least one batch if there is one.
  ReadPart read(const ReadRequest& request, uint32_t bytes_max, api::Isolation isolation);
  // Bytes that a read would give now, counted no further than `bytes_enough`.
  uint64_t readable_bytes(const ReadRequest& request, uint32_t bytes_enough, api::Isolation isolation);
  Offset read_limit(api::Isolation isolation) const;
  Offset asked_offset(const ReadRequest& request) const { return request.offset.value_or(log_start()); }

  api::Answer<PartitionEnds> ends() const;
  api::Answer<std::optional<TimestampedOffset>> find_timestamp(int64_t timestamp_ms);
  // Moves the log start; not durable before the marks are.
  api::Answer<api::Unit> trim(std::optional<Offset> before);
  void report_damage(const LogSlice& slice, const Status& why);

  void check_invariants();

 private:
  bool may_lead() const;
  // R18: leads, but has not heard from the controller for too long; others may lead by now.
  bool zombie() const;
  // The committed in-sync replicas, as new as they are known.
  const std::vector<BrokerId>& in_sync() const;
  std::vector<BrokerId> reachable() const;
  // Nobody can say what is newer than the own high watermark: a read is served up to there and marked (R16).
  bool without_leader() const;
  // Likewise below the own log start, which a power cut may have moved.
  bool front_unknown() const;
  api::Error front_not_available() const;
  // R16: false from the beginning of a tenure until the high watermark has reached what was in the log then.
  bool end_is_known() const { return role_ != Role::kLeader || high_watermark_ >= tenure_start_; }
  api::Error not_leader() const;
  api::Error too_few(const std::vector<BrokerId>& there, const char* what) const;
  api::Error offline_error(api::Outcome outcome) const;
  api::Error out_of_range(Offset asked) const;
  api::Error damaged(Offset asked, const Status& why) const;
  const PartitionImage& state() const;
  void become_leader();
  bool loss_accepted() const;
  // Where the high watermark could be by what is known, or nothing if it must not move.
  std::optional<Offset> committed_position() const;
  // Appends the batches [from, to), which are stamped.
  void append_run(ByteView bytes, size_t from, size_t to, Appended& appended);
  Offset next_good_after(const LogSlice& slice) const;

  Env& env_;
  const TopicPartition id_;
  const BrokerId self_;
  const ReplicaPeers* const peers_;
  std::unique_ptr<Log> log_;
  Status offline_;
  std::shared_ptr<const TopicImage> topic_;
  Role role_ = Role::kFollower;
  bool retired_ = false;
  LeaderEpoch led_epoch_ = kNoLeaderEpoch;
  uint64_t tenure_ = 0;
  Offset tenure_start_{0};  // log end when the tenure began
  Offset epoch_start_{0};   // log end when the leader epoch began
  Offset high_watermark_{0};
  ReplicaProgress progress_;  // of a leader with followers
  // Of a follower.
  Offset leader_high_watermark_{0};
  std::optional<LogMark> lowered_mark_;
  std::string halted_;
};

}  // namespace trilog
