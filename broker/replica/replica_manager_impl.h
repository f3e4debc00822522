// The inside of ReplicaManager, shared by its two source files: requests (replica_manager.cc) and life
// (replica_lifecycle.cc).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "broker/replica/clock_guard.h"
#include "broker/replica/mark_keeper.h"
#include "broker/replica/partition.h"
#include "broker/replica/purgatory.h"
#include "broker/replica/replica_manager.h"

namespace trilog {

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

  api::Error absent(const TopicPartition& id) const;
  void apply_topic(const std::shared_ptr<const TopicImage>& topic);
  std::unique_ptr<Partition> open_partition(const TopicPartition& id, const TopicImage& topic);
  void remove_topic(const TopicId& id);
  void remove_partition(Partition& partition);
  void positions_moved(Partition& partition);
  void on_durable(Partition& partition);
  void call_listener(const TopicPartition& id);
  std::optional<api::Error> refuse_append(const AppendRequest& request, const Partition* partition);
  api::Answer<Appended> append_now(Partition& partition, AppendRequest& request);
  void schedule_housekeeping();
  void housekeeping();
  void close_log(Partition& partition);
  void log_closed(Partition& partition, const Status& status);
  void all_closed();
};

}  // namespace trilog
