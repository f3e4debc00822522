#include "broker/replica/replica_manager.h"

#include <algorithm>
#include <utility>

#include "broker/replica/delayed_operations.h"
#include "broker/replica/replica_manager_impl.h"
#include "storage/base/check.h"

namespace trilog {

using api::Error;
using api::ErrorCode;
using api::Outcome;

namespace {

constexpr uint32_t kRetryAfterMs = 100;

AppendResult refused(Error error) {
  AppendResult result;
  result.batches.push_back({.error = std::move(error)});
  return result;
}

Error without_outcome(Error error) {
  error.outcome = Outcome::kNotApplicable;
  return error;
}

}  // namespace

Error ReplicaManager::Impl::absent(const TopicPartition& id) const {
  const TopicImage* topic = image ? image->find_topic(id.topic) : nullptr;
  if (topic == nullptr) return {ErrorCode::kUnknownTopic, "there is no topic with id " + id.topic.to_string()};
  const std::string name = topic->name + "/" + std::to_string(id.partition.value());
  if (id.partition < PartitionId(0) || id.partition.value() >= static_cast<int32_t>(topic->partitions.size())) {
    return {ErrorCode::kUnknownPartition, "topic " + topic->name + " has " + std::to_string(topic->partitions.size()) +
                                              " partitions; there is no partition " +
                                              std::to_string(id.partition.value())};
  }
  const PartitionImage& partition = topic->partitions[static_cast<size_t>(id.partition.value())];
  const BrokerId leader = partition.leader;
  if (leader == kNoBroker) return {ErrorCode::kLeaderNotAvailable, leaderless_text(name, partition)};
  return Error(ErrorCode::kNotLeader, "partition " + name + " is led by node " + std::to_string(leader.value()))
      .with_detail("leader", std::to_string(leader.value()));
}

// --- moves ---------------------------------------------------------------------------------------------------------

// R6: asked again after every append, sync, and change of the image.
void ReplicaManager::Impl::positions_moved(Partition& partition, uint64_t bytes) {
  const bool rose = partition.advance_high_watermark();
  const TopicPartition& id = partition.id();
  if (purgatory.size() > 0) {
    if (rose) purgatory.reached({id, Watched::kHighWatermark}, partition.high_watermark());
    purgatory.reached({id, Watched::kLeaderPosition}, partition.counted_position());
    purgatory.reached({id, Watched::kLogEnd}, partition.log_end());
  }
  if (rose) call_listener(id);
  if (replication && partition.is_leader() && partition.has_other_replicas() && !stopping) {
    replication->sessions->moved(partition, bytes);
    if (bytes > 0) watch_if_behind(partition);
    // R9: whoever has all of it may have waited for just that; with its own sync the leader may be the last to come.
    if (rose && partition.progress().isr().size() < partition.image().replicas.size()) change_isr_if_wanted(partition);
  }
}

void ReplicaManager::Impl::call_listener(const TopicPartition& id) {
  auto found = listeners.find(id);
  if (found == listeners.end() || found->second.posted) return;
  found->second.posted = true;
  env.executor().post([this, id, still = std::weak_ptr<bool>(alive)] {
    if (still.expired()) return;
    auto again = listeners.find(id);
    if (again == listeners.end() || !again->second.posted) return;
    again->second.posted = false;
    // A copy: the listener may take itself off.
    std::function<void()> call = again->second.call;
    call();
  });
}

void ReplicaManager::Impl::on_durable(Partition& partition) {
  const bool leads_others = replication && partition.is_leader() && partition.has_other_replicas() && !stopping;
  const bool was_open = leads_others && partition.epoch_start_committed();
  positions_moved(partition);
  // The leader's own disk may be the last to have what earlier leaders left: then followers may join from here on (R9).
  if (leads_others && !was_open && partition.epoch_start_committed()) followers_moved(partition);
  if (replication && !partition.is_leader() && !stopping) replication->fetcher->durable_moved(partition);
  if (partition.failed()) {
    env.log().error(partition.name(), ": the log failed; nothing more is acknowledged");
    purgatory.recheck(partition.id());
  }
  marks.durable_moved(partition);
}

// --- append --------------------------------------------------------------------------------------------------------

std::optional<Error> ReplicaManager::Impl::refuse_append(const AppendRequest& request, const Partition* partition) {
  if (stopping) return Error(ErrorCode::kNodeStopping, "the node is stopping");
  if (partition == nullptr) return absent(request.partition);
  if (request.deadline_ns <= env.clock().monotonic_ns()) {
    return Error(ErrorCode::kRequestTimedOut, Outcome::kNotWritten,
                 "time ran out before the write to " + partition->name() + " was begun");
  }
  if (auto error = partition->refuse_append(request.acks)) return error;
  if (request.acks != api::Acks::kNone && purgatory.full()) {
    Error error(ErrorCode::kThrottled, "this node has " + std::to_string(purgatory.size()) +
                                           " operations waiting, which is its limit; come back later");
    error.retry_after_ms = kRetryAfterMs;
    return error;
  }
  if (!request.internal && disk.check(request.batches.size()) == DiskState::kReject) {
    const Space& space = disk.last_seen();
    return Error(ErrorCode::kDiskFull, "the disk of this node has " + std::to_string(space.available_bytes) +
                                           " bytes left; records are refused below " +
                                           std::to_string(disk_marks(space).reject_bytes) +
                                           "; free space or lower retention")
        .with_detail("available_bytes", std::to_string(space.available_bytes))
        .with_detail("limit", std::to_string(disk_marks(space).reject_bytes));
  }
  return std::nullopt;
}

api::Answer<Appended> ReplicaManager::Impl::append_now(Partition& partition, AppendRequest& request) {
  auto appended = partition.append_as_leader(request);
  if (!appended.ok() || !appended->disk_full) return appended;
  disk.note_disk_full();
  // S8: the broker's own records may use the ballast. They fail as a whole, so all of them can be tried again.
  if (request.internal && !partition.failed() && disk.release_reserve()) {
    return partition.append_as_leader(request);
  }
  return appended;
}

void ReplicaManager::append(AppendRequest request, UniqueFunction<void(AppendResult)> done) {
  Impl& self = *impl_;
  auto answer = [&self, &done](AppendResult result) {
    self.env.executor().post(
        [done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
  };
  Partition* partition = self.find(request.partition);
  if (auto error = self.refuse_append(request, partition)) return answer(refused(*std::move(error)));
  auto appended = self.append_now(*partition, request);
  if (!appended.ok()) return answer(refused(std::move(appended.error())));

  if (appended->bytes > 0) {
    // R2: group commit. Requests made while a sync is under way share the next one. On a `replicated` topic the marks
    // bring the syncs (S2).
    if (partition->synced()) partition->log()->request_sync();
    self.marks.touched(*partition, appended->bytes);
    self.positions_moved(*partition, appended->bytes);
  }
  AppendResult result;
  result.batches = std::move(appended->batches);
  result.replicas = partition->replica_count();
  if (appended->end == kNoOffset) return answer(std::move(result));
  if (request.acks == api::Acks::kNone) {
    result.synced_replicas = partition->synced_replicas(appended->end);
    return answer(std::move(result));
  }
  auto operation = std::make_unique<DelayedProduce>(self.env, *partition, request.acks, appended->end,
                                                    std::move(result), std::move(done));
  if (operation->ready()) return operation->complete(Ending::kReady);
  const Watch watch = operation->watch();
  self.purgatory.add(std::move(operation), {watch}, request.deadline_ns);
}

// --- read ----------------------------------------------------------------------------------------------------------

std::vector<ReadPart> ReplicaManager::read(const std::vector<ReadRequest>& parts, uint32_t bytes_max,
                                           api::Isolation isolation) {
  std::vector<ReadPart> result;
  result.reserve(parts.size());
  uint32_t left = bytes_max;
  bool empty_so_far = true;
  for (const ReadRequest& request : parts) {
    Partition* partition = impl_->find(request.partition);
    if (partition == nullptr) {
      ReadPart& part = result.emplace_back();
      part.asked = request.offset.value_or(Offset(0));
      part.error = without_outcome(impl_->absent(request.partition));
      continue;
    }
    ReadPart& part = result.emplace_back(partition->read(request, left, isolation));
    if (part.slice.empty()) continue;
    // A batch larger than what is left is given only if there would be nothing otherwise.
    if (part.slice.slice.length > left && !empty_so_far) {
      part.slice = LogSlice{};
      continue;
    }
    left -= std::min(left, part.slice.slice.length);
    empty_so_far = false;
  }
  return result;
}

WatchId ReplicaManager::watch(std::vector<ReadRequest> parts, uint32_t bytes_min, api::Isolation isolation,
                              int64_t deadline_ns, UniqueFunction<void()> done) {
  Impl& self = *impl_;
  bool all_there = true;
  std::vector<DelayedFetch::Part> waiting;
  waiting.reserve(parts.size());
  for (ReadRequest& request : parts) {
    Partition* partition = self.find(request.partition);
    all_there = all_there && partition != nullptr;
    waiting.push_back({partition, std::move(request)});
  }
  if (self.stopping || !all_there || deadline_ns <= self.env.clock().monotonic_ns()) {
    self.env.executor().post([done = std::move(done)]() mutable { done(); });
    return 0;
  }
  if (self.purgatory.full()) {
    // Nothing is parked, and who is sent away at once would be back at once.
    self.env.executor().schedule_after(kRetryAfterMs * 1'000'000LL, [done = std::move(done)]() mutable { done(); });
    return 0;
  }
  auto operation = std::make_unique<DelayedFetch>(self.env, std::move(waiting), bytes_min, isolation, std::move(done));
  if (operation->ready()) {
    operation->complete(Ending::kReady);
    return 0;
  }
  std::vector<Watch> watches = operation->watches();
  return self.purgatory.add(std::move(operation), std::move(watches), deadline_ns);
}

void ReplicaManager::cancel_watch(WatchId watch) { impl_->purgatory.cancel(watch); }

api::Answer<PartitionEnds> ReplicaManager::ends(const TopicPartition& id) {
  Partition* partition = impl_->find(id);
  return partition != nullptr ? partition->ends() : without_outcome(impl_->absent(id));
}

api::Answer<std::optional<TimestampedOffset>> ReplicaManager::find_timestamp(const TopicPartition& id,
                                                                             int64_t timestamp_ms) {
  Partition* partition = impl_->find(id);
  if (partition == nullptr) return without_outcome(impl_->absent(id));
  return partition->find_timestamp(timestamp_ms);
}

void ReplicaManager::trim(const TopicPartition& id, std::optional<Offset> before,
                          UniqueFunction<void(api::Answer<PartitionEnds>)> done) {
  Impl& self = *impl_;
  Partition* partition = self.find(id);
  std::optional<Error> error;
  if (self.stopping) {
    error = Error(ErrorCode::kNodeStopping, "the node is stopping");
  } else if (partition == nullptr) {
    error = self.absent(id);
  } else if (auto trimmed = partition->trim(before); !trimmed.ok()) {
    error = std::move(trimmed.error());
  }
  if (error) {
    self.env.executor().post([done = std::move(done), error = *std::move(error)]() mutable { done(std::move(error)); });
    return;
  }
  self.marks.touched(*partition);
  self.marks.persist_now([this, id, done = std::move(done),
                          still = std::weak_ptr<bool>(self.alive)](const Status& status) mutable {
    if (still.expired()) return;
    if (status.ok()) return done(ends(id));
    done(Error(ErrorCode::kStorageError, Outcome::kUnknown, "trimming was not made durable: " + status.to_string()));
  });
}

void ReplicaManager::report_damage(const TopicPartition& id, const LogSlice& slice, const Status& why) {
  if (Partition* partition = impl_->find(id)) partition->report_damage(slice, why);
}

void ReplicaManager::read_range(const peer::RepairRangeRequest& request,
                                UniqueFunction<void(Result<SharedBytes>)> done) {
  Partition* partition = impl_->stopping ? nullptr : impl_->with_log(request.partition);
  if (partition != nullptr) return ReplicaRepair::read_range(impl_->env, *partition, request, std::move(done));
  impl_->env.executor().post([done = std::move(done)]() mutable { done(Status(Errc::kNotFound, "no such replica")); });
}

// --- for the group coordinator -------------------------------------------------------------------------------------

Log* ReplicaManager::leader_log(const TopicPartition& id) {
  Partition* partition = impl_->find(id);
  return partition != nullptr && partition->is_leader() ? partition->log() : nullptr;
}

Offset ReplicaManager::high_watermark(const TopicPartition& id) {
  Partition* partition = impl_->find(id);
  return partition != nullptr ? partition->high_watermark() : Offset(0);
}

void ReplicaManager::set_high_watermark_listener(const TopicPartition& id, std::function<void()> listener) {
  impl_->listeners[id] = {std::move(listener), false};
}

void ReplicaManager::clear_high_watermark_listener(const TopicPartition& id) { impl_->listeners.erase(id); }

}  // namespace trilog
