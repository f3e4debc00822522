// BrokerShard: what one shard owns. Lives on its Env's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "broker/group/group_coordinator.h"
#include "broker/metadata/metadata_loader.h"
#include "broker/options.h"
#include "broker/replica/replica_manager.h"
#include "storage/env/env.h"
#include "storage/log/disk_guard.h"
#include "storage/log/log_directory.h"

namespace trilog {

class BrokerShard {
 public:
  BrokerShard(Env& shard_env, const BrokerOptions& options, const std::string& data_dir, const std::string& topics_path,
              LogStartState start, ReplicaManager::PersistMarks persist_marks, GroupCoordinator::OpenStore open_store)
      : env(shard_env),
        logs(shard_env, topics_path, std::move(start)),
        disk(shard_env, data_dir),
        replicas(shard_env, options.replica, logs, disk, std::move(persist_marks)),
        groups(shard_env, options.group, replicas, std::move(open_store)) {}

  // `delta` null: the first image.
  void apply(const ImagePtr& image, const MetadataDelta* delta) {
    replicas.apply(image, delta);
    groups.apply(image, delta);
    if (delta == nullptr) return;
    for (const auto& [topic, was] : delta->removed_topics()) groups.forget_topic(topic);
  }

  void post(UniqueFunction<void()> task) { env.executor().post(std::move(task)); }

  // Reads of fetches that wait for the disk. `idle` runs once none does, perhaps at once.
  void load_began() { ++loads_; }
  void load_ended() {
    if (--loads_ == 0 && idle_) std::exchange(idle_, nullptr)();
  }
  void when_idle(UniqueFunction<void()> idle) {
    if (loads_ == 0) return idle();
    idle_ = std::move(idle);
  }

  Env& env;
  LogDirectory logs;
  DiskGuard disk;
  ReplicaManager replicas;
  GroupCoordinator groups;

 private:
  size_t loads_ = 0;
  UniqueFunction<void()> idle_;
};

}  // namespace trilog
