#include "broker/replica/partition.h"

#include <algorithm>
#include <utility>

#include "broker/replica/append_validator.h"
#include "storage/base/check.h"

namespace trilog {
namespace {

using api::Error;
using api::ErrorCode;
using api::Outcome;

template <typename Id>
std::string text(Id id) {
  return std::to_string(id.value());
}

bool contains(const std::vector<BrokerId>& brokers, BrokerId broker) {
  return std::find(brokers.begin(), brokers.end(), broker) != brokers.end();
}

}  // namespace

PartitionMeta partition_meta_of(const TopicImage& topic, PartitionId partition) {
  PartitionMeta meta{.topic_id = topic.id,
                     .topic = topic.name,
                     .partition = partition,
                     .partition_count = static_cast<int32_t>(topic.partitions.size()),
                     .replicas = topic.partitions[static_cast<size_t>(partition.value())].replicas,
                     .settings = topic.configs};
  // Not a setting that could be changed, but a rescued topic must keep its promise.
  meta.settings["durability"] = api::durability_name(topic.durability);
  return meta;
}

LogConfig log_config_of(const TopicImage& topic) {
  const TopicSettings& settings = topic.settings;
  LogConfig config;
  config.segment_bytes = static_cast<uint64_t>(settings.segment_bytes);
  config.segment_ms = settings.segment_ms;
  // G3: what the coordinator still needs may be older than any retention; it moves the log start itself.
  config.retention_ms = topic.internal ? -1 : settings.retention_ms;
  config.retention_bytes = topic.internal ? -1 : settings.retention_bytes;
  config.has_copies = !topic.partitions.empty() && topic.partitions.front().replicas.size() > 1;
  return config;
}

Partition::Partition(Env& env, TopicPartition id, BrokerId self, std::unique_ptr<Log> log, Status offline,
                     const ReplicaPeers* peers)
    : env_(env), id_(id), self_(self), peers_(peers), log_(std::move(log)), offline_(std::move(offline)) {
  // R13: after a restart the high watermark is somewhere between the mark and the log end. It starts low and rises when
  // the leader knows better; a lone replica knows at once.
  high_watermark_ = log_start();
  if (log_) high_watermark_ = std::max(high_watermark_, std::min(log_->recovery().high_watermark, log_->durable_end()));
}

std::string Partition::name() const { return topic_->name + "/" + text(id_.partition); }

void Partition::apply(std::shared_ptr<const TopicImage> topic) {
  const std::shared_ptr<const TopicImage> before = std::exchange(topic_, std::move(topic));
  if (log_ && before != topic_) {
    log_->set_config(log_config_of(*topic_));
    PartitionMeta meta = partition_meta_of(*topic_, id_.partition);
    if (before && partition_meta_of(*before, id_.partition) != meta) {
      if (Status written = log_->set_meta(std::move(meta)); !written.ok()) {
        env_.log().warning(name(), ": partition.meta keeps old settings: ", written.to_string());
      }
    }
  }
  if (may_lead()) {
    become_leader();
  } else {
    role_ = Role::kFollower;
  }
}

bool Partition::may_lead() const {
  if (state().leader != self_ || !log_ || retired_) return false;
  return peers_ == nullptr || !has_other_replicas() || peers_->incarnation_known();
}

const PartitionImage& Partition::state() const {
  return topic_->partitions[static_cast<size_t>(id_.partition.value())];
}

void Partition::become_leader() {
  const LeaderEpoch epoch = state().leader_epoch;
  const bool leads_already = role_ == Role::kLeader;
  if (leads_already) CHECK_GE(epoch, led_epoch_);  // A5
  if (!leads_already || epoch != led_epoch_) {
    log_->begin_epoch(epoch);  // R11: before anything is served
    epoch_start_ = log_->log_end();
    lowered_mark_.reset();
    halted_.clear();
    if (peers_ != nullptr && has_other_replicas()) {
      progress_.lead(*peers_, synced(), state(), log_->log_end(), env_.clock().monotonic_ns());
    }
  } else if (peers_ != nullptr && has_other_replicas()) {
    progress_.accept(state().partition_epoch, state().isr);
    progress_.refresh(*peers_, state());
  }
  led_epoch_ = epoch;
  if (leads_already) return;
  role_ = Role::kLeader;
  ++tenure_;
  tenure_start_ = log_->log_end();
}

void Partition::retire() {
  retired_ = true;
  role_ = Role::kFollower;
}

Offset Partition::counted_position() const {
  if (!log_) return Offset(0);
  return synced() ? log_->durable_end() : log_->log_end();
}

const std::vector<BrokerId>& Partition::in_sync() const {
  const bool newer = role_ == Role::kLeader && peers_ != nullptr && has_other_replicas();
  return newer ? progress_.isr() : state().isr;
}

bool Partition::too_few_in_sync() const {
  return static_cast<int32_t>(in_sync().size()) < topic_->settings.min_insync_replicas;
}

int32_t Partition::synced_replicas(Offset end) const {
  // Everything below the high watermark of a synced topic is on the disk of every in-sync replica (R2).
  if (synced() && high_watermark_ >= end) return static_cast<int32_t>(in_sync().size());
  return log_ && log_->durable_end() >= end ? 1 : 0;
}

std::optional<Offset> Partition::committed_position() const {
  if (role_ != Role::kLeader) {
    // R13, and never above what a power cut would leave here.
    return log_ && !retired_ ? std::optional(std::min(leader_high_watermark_, counted_position())) : std::nullopt;
  }
  if (too_few_in_sync()) return std::nullopt;  // R6
  if (peers_ != nullptr && has_other_replicas()) return progress_.committed(moment(), peers_->lag_ns_max);
  for (BrokerId member : state().isr) {
    // Nothing is known of another member's position, so nothing can be counted for it.
    if (member != self_) return std::nullopt;
  }
  return counted_position();
}

bool Partition::advance_high_watermark() {
  const std::optional<Offset> position = committed_position();
  if (!position || *position <= high_watermark_) return false;
  CHECK_LE(*position, log_->log_end());
  high_watermark_ = *position;
  return true;
}

Error Partition::not_leader() const {
  if (retired_) return {ErrorCode::kUnknownTopic, "topic " + topic_->name + " was deleted"};
  if (state().leader == kNoBroker) {
    return {ErrorCode::kLeaderNotAvailable, leaderless_text(name(), state())};
  }
  if (state().leader == self_) {
    return {ErrorCode::kLeaderNotAvailable,
            "partition " + name() + " has no leader now: this node led it before it started again"};
  }
  return Error(ErrorCode::kNotLeader, "partition " + name() + " is led by node " + text(state().leader))
      .with_detail("leader", text(state().leader));
}

// What is said of members that are missing, be it from the ISR or from what can be reached.
Error Partition::too_few(const std::vector<BrokerId>& there, const char* what) const {
  std::string missing;
  for (BrokerId replica : state().replicas) {
    if (!contains(there, replica)) missing += (missing.empty() ? "" : ", ") + text(replica);
  }
  return Error(ErrorCode::kNotEnoughReplicas,
               "partition " + name() + " has " + std::to_string(there.size()) + " " + what + " replicas and needs " +
                   std::to_string(topic_->settings.min_insync_replicas) +
                   (missing.empty() ? std::string("; it has no more replicas") : "; missing: node " + missing))
      .with_detail("missing", missing);
}

Error Partition::offline_error(Outcome outcome) const {
  return {ErrorCode::kStorageError, outcome,
          "partition " + name() + " is out of service on this node: " +
              (log_ ? std::string("an earlier write or sync of its log failed") : offline_.to_string())};
}

std::optional<Error> Partition::refuse_append(api::Acks acks) const {
  if (failed() && (state().leader == self_ || role_ == Role::kLeader)) return offline_error(Outcome::kNotWritten);
  if (role_ != Role::kLeader) return not_leader();
  if (acks == api::Acks::kAll && too_few_in_sync()) return too_few(in_sync(), "in-sync");
  if (peers_ == nullptr || !has_other_replicas()) return std::nullopt;
  if (acks == api::Acks::kAll && too_few_reachable()) return too_few(reachable(), "reachable");
  if (zombie()) {
    return Error(ErrorCode::kLeaderNotAvailable,
                 "this node led " + name() + " but has not heard from the controller for longer than the session time");
  }
  return std::nullopt;
}

api::Answer<Appended> Partition::append_as_leader(AppendRequest& request) {
  CHECK(role_ == Role::kLeader && log_ && !log_->failed());
  Bytes& batches = request.batches;
  const bool sized_here = request.internal || request.built_from_records;
  const int64_t batch_bytes_max = sized_here ? LogConfig().batch_bytes_max : topic_->settings.max_message_bytes;
  auto accepted = check_append(batches.view(), batch_bytes_max, log_->producers());
  if (!accepted.ok()) return std::move(accepted.error());
  const std::vector<CheckedBatch>& checked = accepted.value();

  std::optional<int64_t> append_time;
  if (topic_->settings.log_append_time) append_time = env_.clock().wall_ms();
  Appended appended;
  appended.batches.reserve(checked.size());
  Offset next = log_->log_end();
  if (!progress_.followers().empty()) progress_.appending(next, env_.clock().monotonic_ns());
  size_t run = 0;  // the first batch that is stamped and not yet appended
  for (const CheckedBatch& batch : checked) {
    const size_t index = appended.batches.size();
    AppendedBatch& answer = appended.batches.emplace_back();
    if (!batch.duplicate) {
      stamp_batch(batches.mutable_view().subspan(batch.position, batch.size), next, state().leader_epoch, append_time);
      answer = {.first_offset = next,
                .timestamp_ms = append_time.value_or(kNoTimestamp),
                .leader_epoch = state().leader_epoch};
      next = next + batch.offset_count;
      continue;
    }
    if (index > run) {
      ByteView bytes = batches.view().subspan(checked[run].position, batch.position - checked[run].position);
      append_run(bytes, run, index, appended);
    }
    run = index + 1;
    if (batch.same_as) {
      answer = appended.batches[*batch.same_as];
    } else {
      answer = {.first_offset = batch.first_offset,
                .timestamp_ms = topic_->settings.log_append_time ? batch.timestamp_ms : kNoTimestamp,
                .leader_epoch = batch.leader_epoch};
      // R17: the first copy may still be on its way to the disk; a repeat is acknowledged no sooner.
      appended.end = std::max(appended.end, batch.first_offset + batch.offset_count);
    }
    answer.duplicate = !answer.error;
  }
  if (run < checked.size()) {
    append_run(batches.view().subspan(checked[run].position), run, checked.size(), appended);
  }
  return appended;
}

void Partition::append_run(ByteView bytes, size_t from, size_t to, Appended& appended) {
  const bool earlier_failed =
      std::any_of(appended.batches.begin(), appended.batches.begin() + static_cast<ptrdiff_t>(from),
                  [](const AppendedBatch& batch) { return batch.error.has_value(); });
  std::optional<Error> error;
  if (earlier_failed) {
    error = Error(ErrorCode::kPreviousFailed, "an earlier batch of the same request to " + name() + " failed");
  } else if (auto done = log_->append(bytes); done.ok()) {
    CHECK_EQ(done->first_offset, appended.batches[from].first_offset);  // A2
    appended.end = std::max(appended.end, done->next_offset);
    appended.bytes += bytes.size();
    return;
  } else {
    // The boundary is restored, but a power cut before that is on disk may bring whole batches back: unknown (X5).
    appended.disk_full = done.status().code() == Errc::kDiskFull;
    error = Error(ErrorCode::kStorageError, Outcome::kUnknown,
                  "appending to " + name() + " failed: " + done.status().to_string());
  }
  for (size_t i = from; i < to; ++i) appended.batches[i] = AppendedBatch{.error = error};
}

api::Answer<api::Unit> Partition::trim(std::optional<Offset> before) {
  if (!log_ || log_->failed()) return offline_error(Outcome::kNotWritten);
  if (role_ != Role::kLeader) return not_leader();
  const Offset to = before.value_or(high_watermark_);
  if (to < Offset(0) || to > high_watermark_) {
    Error error = out_of_range(to);
    error.outcome = Outcome::kNotWritten;  // unlike a read, a trim could have changed something
    return error;
  }
  if (to > log_->log_start()) log_->advance_start(to);
  return api::Unit{};
}

void Partition::check_invariants() {
  if (!log_) return;
  CHECK_LE(high_watermark_, log_->log_end());
  CHECK_LE(log_->durable_end(), log_->log_end());
  CHECK_LE(log_->log_start(), log_->log_end());
  const LogMark now = mark();
  CHECK_LE(now.high_watermark, now.durable_end);
  if (!lowered_mark_) CHECK_LE(now.durable_end, log_->durable_end());
  for (BrokerId member : state().isr) CHECK(contains(state().replicas, member));  // A4
  if (role_ == Role::kLeader) {
    CHECK_LE(log_->log_start(), high_watermark_);
    CHECK(contains(in_sync(), self_));
    if (synced()) CHECK_LE(high_watermark_, log_->durable_end());
    if (auto latest = log_->epochs().latest()) CHECK_LE(latest->epoch, state().leader_epoch);
  }
  for (BrokerId candidate : state().elr) CHECK(!contains(state().isr, candidate));
  log_->check_invariants();
}

}  // namespace trilog
