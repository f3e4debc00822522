// How the replicas of a shard follow the metadata image, keep house, and stop.
#include <algorithm>
#include <utility>

#include "broker/replica/replica_manager_impl.h"
#include "storage/base/check.h"

namespace trilog {

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
    const bool led = !is_new && partition->is_leader();
    const LeaderEpoch epoch_before = is_new ? kNoLeaderEpoch : partition->leader_epoch();
    partition->apply(topic);
    if (replication) follow_role(*partition, led, epoch_before);
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
    reopen_later();
    return std::make_unique<Partition>(env, id, options.self, nullptr, opened.status(),
                                       replication ? &replication->peers : nullptr);
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
  const ReplicaPeers* peers = replication ? &replication->peers : nullptr;
  auto partition = std::make_unique<Partition>(env, id, options.self, std::move(log), ok_status(), peers);
  partition->log()->set_durable_listener([this, raw = partition.get()] { on_durable(*raw); });
  partition->log()->set_damage_listener([this, id] { repair.damaged(id); });
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
  if (replication) {
    replication->fetcher->forget(id);
    replication->sessions->drop(id);
    replication->watched.erase(id);
    replication->alter_after_ns.erase(id);
  }
  partition.retire();
  purgatory.recheck(id);  // everything that waits there is ready now
  marks.forget(id);
  listeners.erase(id);
  std::unique_ptr<Log> log = partition.release_log();
  if (!log) return;
  log->set_durable_listener(nullptr);
  log->set_damage_listener(nullptr);
  log->abandon();
  log.reset();
  logs.remove(id, [this, id, still = std::weak_ptr<bool>(alive)](const Status& removed) {
    if (still.expired() || removed.ok()) return;
    env.log().warning("the folder of ", id, " could not be removed: ", removed.to_string());
  });
}

// --- life ----------------------------------------------------------------------------------------------------------

ReplicaManager::ReplicaManager(Env& env, ReplicaOptions options, LogDirectory& logs, DiskGuard& disk,
                               PersistMarks persist_marks)
    : impl_(std::make_unique<Impl>(env, std::move(options), logs, disk, std::move(persist_marks))) {}

ReplicaManager::~ReplicaManager() = default;

void ReplicaManager::set_ownership(std::function<bool(const TopicPartition&)> owns) { impl_->owns = std::move(owns); }

void ReplicaManager::apply(const ImagePtr& image, const MetadataDelta* delta) {
  impl_->image = image;
  if (impl_->replication) impl_->replication->peers.image = image;
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
  if (impl_->replication && delta->brokers_changed()) impl_->brokers_changed();
}

void ReplicaManager::start() {
  impl_->schedule_housekeeping();
  impl_->repair.start();
}

void ReplicaManager::Impl::schedule_housekeeping() {
  env.executor().schedule_after(options.retention_check_ms * 1'000'000, [this, still = std::weak_ptr<bool>(alive)] {
    if (still.expired() || stopping) return;
    housekeeping();
    schedule_housekeeping();
  });
}

// What the disk refused once it may give the next time. Until then the replica is in no ISR and leads nothing.
void ReplicaManager::Impl::reopen_later() {
  if (std::exchange(reopening, true)) return;
  const int64_t delay_ms = std::min(options.retention_check_ms, int64_t{500} << std::min(reopenings++, 10u));
  env.executor().schedule_after(delay_ms * 1'000'000, [this, still = std::weak_ptr<bool>(alive)] {
    if (still.expired() || stopping) return;
    reopening = false;
    reopen_logs();
    if (!reopening) reopenings = 0;
  });
}

void ReplicaManager::Impl::reopen_logs() {
  std::vector<TopicPartition> closed;
  for (const auto& [id, partition] : partitions) {
    if (partition->log() == nullptr) closed.push_back(id);
  }
  for (const TopicPartition& id : closed) {
    const TopicImage* topic = image->find_topic(id.topic);
    if (topic == nullptr) continue;
    remove_partition(*partitions.at(id));
    partitions.erase(id);
    apply_topic(image->topics().find(topic->name)->second);
  }
}

void ReplicaManager::Impl::housekeeping() {
  const int64_t now_ms = env.clock().wall_ms();
  const bool trusted = clock_guard.trusted() && clock_agrees.value_or(!replication);
  if (!clock_guard.trusted() && !clock_warned) {
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
  self.repair.stop();
  if (self.replication) {
    self.replication->fetcher->stop();
    self.replication->sessions->stop();
  }
  self.stopped = std::move(done);
  for (const auto& [id, partition] : self.partitions) self.to_close.push_back(id);
  self.env.executor().post([&self, still = std::weak_ptr<bool>(self.alive)] {
    if (!still.expired()) self.close_logs();
  });
}

// A closing log has several files open: all of them at once would need more descriptors than there are.
void ReplicaManager::Impl::close_logs() {
  while (!to_close.empty() && closing < kLogsClosingMax) {
    Partition* partition = find(to_close.front());
    to_close.pop_front();
    if (partition != nullptr) close_log(*partition);
  }
  if (closing == 0) all_closed();
}

void ReplicaManager::Impl::close_log(Partition& partition) {
  if (partition.log() == nullptr) {
    close_status = Status(Errc::kFailed, "the log of " + partition.name() + " was never opened");
    return;
  }
  ++closing;
  partition.log()->close([this, &partition, still = std::weak_ptr<bool>(alive)](const Status& status) {
    if (!still.expired()) log_closed(partition, status);
  });
}

void ReplicaManager::Impl::log_closed(Partition& partition, const Status& status) {
  // The last sync may be what a write still waited for.
  positions_moved(partition);
  if (!status.ok() && close_status.ok()) close_status = status.with_context("closing the log of " + partition.name());
  if (partition.failed()) purgatory.recheck(partition.id());
  --closing;
  close_logs();
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
      exact.emplace(id, partition->mark());
    }
    stopped(std::move(exact));
  });
}

void ReplicaManager::check_invariants() {
  for (auto& [id, partition] : impl_->partitions) partition->check_invariants();
  impl_->purgatory.check_invariants();
}

}  // namespace trilog
