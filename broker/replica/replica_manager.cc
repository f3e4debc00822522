#include "broker/replica/replica_manager.h"

#include <algorithm>
#include <map>
#include <utility>

#include "broker/replica/clock_guard.h"
#include "broker/replica/delayed_operations.h"
#include "broker/replica/mark_keeper.h"
#include "broker/replica/partition.h"
#include "broker/replica/purgatory.h"
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

struct ReplicaManager::Impl {
  Impl(Env& environment, ReplicaOptions replica_options, LogDirectory& directory, DiskGuard& guard,
       PersistMarks persist)
      : env(environment),
        options(std::move(replica_options)),
        logs(directory),
        disk(guard),
        clock_guard(environment.clock()),
        marks(environment, {options.mark_interval_ms, options.mark_bytes_synced_max, options.mark_bytes_replicated_max},
              std::move(persist), [this](const TopicPartition& id) { return with_log(id); }),
        purgatory(environment, options.delayed_operations_max) {}

  Env& env;
  const ReplicaOptions options;
  LogDirectory& logs;
  DiskGuard& disk;
  ClockGuard clock_guard;
  std::function<bool(const TopicPartition&)> owns;
  ImagePtr image;
  std::map<TopicPartition, std::unique_ptr<Partition>> partitions;
  struct Listener {
    std::function<void()> call;
    bool posted = false;
  };
  std::map<TopicPartition, Listener> listeners;
  MarkKeeper marks;
  Purgatory purgatory;  // after `partitions`: what is parked refers to them
  bool stopping = false;
  bool clock_warned = false;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);

  // While stopping: logs that are not closed yet, and the first failure.
  size_t closing = 0;
  Status close_status;
  UniqueFunction<void(Result<Marks>)> stopped;

  Partition* find(const TopicPartition& id) {
    auto found = partitions.find(id);
    return found == partitions.end() ? nullptr : found->second.get();
  }
  Partition* with_log(const TopicPartition& id) {
    Partition* partition = find(id);
    return partition != nullptr && partition->log() != nullptr ? partition : nullptr;
  }

  Error absent(const TopicPartition& id) const;
  void apply_topic(const std::shared_ptr<const TopicImage>& topic);
  std::unique_ptr<Partition> open_partition(const TopicPartition& id, const TopicImage& topic);
  void remove_topic(const TopicId& id);
  void remove_partition(Partition& partition);
  void positions_moved(Partition& partition);
  void on_durable(Partition& partition);
  void call_listener(const TopicPartition& id);
  std::optional<Error> refuse_append(const AppendRequest& request, const Partition* partition);
  api::Answer<Appended> append_now(Partition& partition, AppendRequest& request);
  void schedule_housekeeping();
  void housekeeping();
  void close_log(Partition& partition);
  void log_closed(Partition& partition, Status status);
  void all_closed();
};

// --- following the image -------------------------------------------------------------------------------------------

void ReplicaManager::Impl::apply_topic(const std::shared_ptr<const TopicImage>& topic) {
  for (size_t i = 0; i < topic->partitions.size(); ++i) {
    const TopicPartition id{topic->id, PartitionId(static_cast<int32_t>(i))};
    if (owns && !owns(id)) continue;
    Partition* partition = find(id);
    const bool is_new = partition == nullptr;
    if (is_new) {
      const std::vector<BrokerId>& replicas = topic->partitions[i].replicas;
      if (std::find(replicas.begin(), replicas.end(), options.self) == replicas.end()) continue;
      partition = partitions.emplace(id, open_partition(id, *topic)).first->second.get();
    }
    partition->apply(topic);
    positions_moved(*partition);
    purgatory.recheck(id);
    if (is_new && partition->log() != nullptr && partition->log()->recovery().scanned) marks.touched(*partition);
  }
}

std::unique_ptr<Partition> ReplicaManager::Impl::open_partition(const TopicPartition& id, const TopicImage& topic) {
  auto opened = logs.open(partition_meta_of(topic, id.partition), log_config_of(topic));
  const std::string name = topic.name + "/" + std::to_string(id.partition.value());
  if (!opened.ok()) {
    env.log().error(name, " is out of service: its log cannot be opened: ", opened.status().to_string());
    return std::make_unique<Partition>(env, id, options.self, nullptr, opened.status());
  }
  std::unique_ptr<Log> log = std::move(opened).value();
  const RecoveryReport& recovery = log->recovery();
  if (recovery.lost_below_mark) {
    env.log().error(name, ": acknowledged records are missing: the log ends at ", log->log_end(),
                    ", before what was on disk");
  }
  if (recovery.bytes_cut > 0) env.log().info(name, ": cut a torn tail of ", recovery.bytes_cut, " bytes");
  for (const DamagedRange& range : log->damaged_ranges()) {
    env.log().error(name, ": damaged bytes in ", range.file, " at ", range.position, ", offsets ", range.first, " to ",
                    range.next_good, ": ", range.what);
  }
  auto partition = std::make_unique<Partition>(env, id, options.self, std::move(log), ok_status());
  partition->log()->set_durable_listener([this, raw = partition.get()] { on_durable(*raw); });
  return partition;
}

void ReplicaManager::Impl::remove_topic(const TopicId& topic) {
  auto it = partitions.lower_bound(TopicPartition{topic, PartitionId(INT32_MIN)});
  while (it != partitions.end() && it->first.topic == topic) {
    remove_partition(*it->second);
    it = partitions.erase(it);
  }
}

void ReplicaManager::Impl::remove_partition(Partition& partition) {
  const TopicPartition id = partition.id();
  partition.retire();
  purgatory.recheck(id);  // everything that waits there is ready now
  marks.forget(id);
  listeners.erase(id);
  std::unique_ptr<Log> log = partition.release_log();
  if (!log) return;
  log->set_durable_listener(nullptr);
  log->abandon();
  log.reset();
  logs.remove(id, [this, id, still = std::weak_ptr<bool>(alive)](Status removed) {
    if (still.expired() || removed.ok()) return;
    env.log().warning("the folder of ", id, " could not be removed: ", removed.to_string());
  });
}

Error ReplicaManager::Impl::absent(const TopicPartition& id) const {
  const TopicImage* topic = image ? image->find_topic(id.topic) : nullptr;
  if (topic == nullptr) return {ErrorCode::kUnknownTopic, "there is no topic with id " + id.topic.to_string()};
  const std::string name = topic->name + "/" + std::to_string(id.partition.value());
  if (id.partition < PartitionId(0) || id.partition.value() >= static_cast<int32_t>(topic->partitions.size())) {
    return {ErrorCode::kUnknownPartition, "topic " + topic->name + " has " + std::to_string(topic->partitions.size()) +
                                              " partitions; there is no partition " +
                                              std::to_string(id.partition.value())};
  }
  const BrokerId leader = topic->partitions[static_cast<size_t>(id.partition.value())].leader;
  if (leader == kNoBroker) return {ErrorCode::kLeaderNotAvailable, "partition " + name + " has no leader now"};
  return Error(ErrorCode::kNotLeader, "partition " + name + " is led by node " + std::to_string(leader.value()))
      .with_detail("leader", std::to_string(leader.value()));
}

// --- moves ---------------------------------------------------------------------------------------------------------

// R6: asked again after every append, sync, and change of the image.
void ReplicaManager::Impl::positions_moved(Partition& partition) {
  const bool rose = partition.advance_high_watermark();
  const TopicPartition& id = partition.id();
  if (purgatory.size() > 0) {
    if (rose) purgatory.reached({id, Watched::kHighWatermark}, partition.high_watermark());
    purgatory.reached({id, Watched::kLeaderPosition}, partition.counted_position());
    purgatory.reached({id, Watched::kLogEnd}, partition.log_end());
  }
  if (rose) call_listener(id);
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
  positions_moved(partition);
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
    self.positions_moved(*partition);
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
  bool all_there = !self.stopping && !self.purgatory.full();
  std::vector<DelayedFetch::Part> waiting;
  waiting.reserve(parts.size());
  for (ReadRequest& request : parts) {
    Partition* partition = self.find(request.partition);
    all_there = all_there && partition != nullptr;
    waiting.push_back({partition, request});
  }
  if (!all_there || deadline_ns <= self.env.clock().monotonic_ns()) {
    self.env.executor().post([done = std::move(done)]() mutable { done(); });
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
                          still = std::weak_ptr<bool>(self.alive)](Status status) mutable {
    if (still.expired()) return;
    if (status.ok()) return done(ends(id));
    done(Error(ErrorCode::kStorageError, Outcome::kUnknown, "trimming was not made durable: " + status.to_string()));
  });
}

void ReplicaManager::report_damage(const TopicPartition& id, const LogSlice& slice, const Status& why) {
  if (Partition* partition = impl_->find(id)) partition->report_damage(slice, why);
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

// --- life ----------------------------------------------------------------------------------------------------------

ReplicaManager::ReplicaManager(Env& env, ReplicaOptions options, LogDirectory& logs, DiskGuard& disk,
                               PersistMarks persist_marks)
    : impl_(std::make_unique<Impl>(env, std::move(options), logs, disk, std::move(persist_marks))) {}

ReplicaManager::~ReplicaManager() = default;

void ReplicaManager::set_ownership(std::function<bool(const TopicPartition&)> owns) { impl_->owns = std::move(owns); }

void ReplicaManager::apply(const ImagePtr& image, const MetadataDelta* delta) {
  impl_->image = image;
  if (impl_->stopping) return;
  if (delta == nullptr) {
    for (const auto& [name, topic] : image->topics()) impl_->apply_topic(topic);
    return;
  }
  for (const auto& [id, topic] : delta->removed_topics()) impl_->remove_topic(id);
  for (const TopicId& id : delta->changed_topics()) {
    const TopicImage* topic = image->find_topic(id);
    if (topic != nullptr) impl_->apply_topic(image->topics().find(topic->name)->second);
  }
}

void ReplicaManager::start() { impl_->schedule_housekeeping(); }

void ReplicaManager::Impl::schedule_housekeeping() {
  env.executor().schedule_after(options.retention_check_ms * 1'000'000, [this, still = std::weak_ptr<bool>(alive)] {
    if (still.expired() || stopping) return;
    housekeeping();
    schedule_housekeeping();
  });
}

void ReplicaManager::Impl::housekeeping() {
  const int64_t now_ms = env.clock().wall_ms();
  const bool trusted = clock_guard.trusted();
  if (!trusted && !clock_warned) {
    env.log().warning("the wall clock jumped by more than an hour: nothing is removed for its age until a restart");
    clock_warned = true;
  }
  for (auto& [id, partition] : partitions) {
    Log* log = partition->log();
    if (log == nullptr || log->failed()) continue;
    if (log->size_bytes() > 0) {
      const Offset start = log->log_start();
      const uint64_t freed = log->apply_retention(now_ms, trusted, partition->high_watermark());
      if (freed > 0) env.log().info(partition->name(), ": removed ", freed, " bytes of old segments");
      if (log->log_start() != start) marks.touched(*partition);
    }
    if (log->producers().size() > 0) log->producers().expire(now_ms, options.producer_idle_ms, trusted);
  }
  disk.keep_reserve();
}

void ReplicaManager::stop(UniqueFunction<void(Result<Marks>)> done) {
  Impl& self = *impl_;
  CHECK(!self.stopping);
  self.stopping = true;
  self.stopped = std::move(done);
  self.closing = 1;  // so that nothing is finished before all have begun
  for (auto& [id, partition] : self.partitions) self.close_log(*partition);
  self.env.executor().post([&self, still = std::weak_ptr<bool>(self.alive)] {
    if (!still.expired() && --self.closing == 0) self.all_closed();
  });
}

void ReplicaManager::Impl::close_log(Partition& partition) {
  if (partition.log() == nullptr) {
    close_status = Status(Errc::kFailed, "the log of " + partition.name() + " was never opened");
    return;
  }
  ++closing;
  partition.log()->close([this, &partition, still = std::weak_ptr<bool>(alive)](Status status) {
    if (!still.expired()) log_closed(partition, std::move(status));
  });
}

void ReplicaManager::Impl::log_closed(Partition& partition, Status status) {
  // The last sync may be what a write still waited for.
  positions_moved(partition);
  if (!status.ok() && close_status.ok()) close_status = status.with_context("closing the log of " + partition.name());
  if (partition.failed()) purgatory.recheck(partition.id());
  if (--closing == 0) all_closed();
}

void ReplicaManager::Impl::all_closed() {
  purgatory.stop();
  if (!close_status.ok()) {
    marks.stop(close_status);
    return stopped(close_status);
  }
  // The marks file must not stay behind the clean marker: the marker is gone after the next start, and then a crash
  // would judge the logs by marks from long ago.
  marks.persist_now([this, still = std::weak_ptr<bool>(alive)](Status status) {
    if (still.expired()) return;
    marks.stop(Status(Errc::kFailed, "the node stopped"));
    if (!status.ok()) return stopped(std::move(status));
    Marks exact;
    for (const auto& [id, partition] : partitions) {
      exact.emplace(id, partition->log()->mark(partition->high_watermark()));
    }
    stopped(std::move(exact));
  });
}

void ReplicaManager::check_invariants() {
  for (auto& [id, partition] : impl_->partitions) partition->check_invariants();
  impl_->purgatory.check_invariants();
}

}  // namespace trilog
