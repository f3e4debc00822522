// The inside of ReplicaManager, shared by its source files: requests (replica_manager.cc), life (replica_lifecycle.cc)
// and replication (replica_replication.cc).
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "broker/replica/clock_guard.h"
#include "broker/replica/mark_keeper.h"
#include "broker/replica/partition.h"
#include "broker/replica/purgatory.h"
#include "broker/replica/replica_fetcher.h"
#include "broker/replica/replica_manager.h"
#include "broker/replica/replica_peers.h"
#include "broker/replica/replica_repair.h"
#include "broker/replica/replication_session.h"

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
        purgatory(environment, options.delayed_operations_max),
        repair(environment, options, options.self,
               {.find = [this](const TopicPartition& id) { return with_log(id); },
                .all = [this] { return all_ids(); },
                .fetch_range = &fetch_range,
                .mended = [this](Partition& partition) { purgatory.recheck(partition.id()); }}) {}

  // What is there only with other brokers.
  struct Replication {
    ReplicaNetwork network;
    ReplicaPeers peers;
    std::unique_ptr<ReplicationSessions> sessions;
    std::unique_ptr<ReplicaFetcher> fetcher;
    std::set<TopicPartition> watched;  // leaders with somebody behind or a change of the ISR to be asked for again
    std::map<TopicPartition, int64_t> alter_after_ns;  // not before
    bool checking = false;                             // the timer is running
  };
  // Of the periodic look at what is behind; it runs only while something is.
  static constexpr int64_t kCheckNs = 250'000'000;

  Env& env;
  const ReplicaOptions options;
  LogDirectory& logs;
  DiskGuard& disk;
  ClockGuard clock_guard;
  std::function<bool(const TopicPartition&)> owns;
  ImagePtr image;
  std::unique_ptr<Replication> replication;  // before `partitions`, which refer to its peers
  std::map<TopicPartition, std::unique_ptr<Partition>> partitions;
  struct Listener {
    std::function<void()> call;
    bool posted = false;
  };
  std::map<TopicPartition, Listener> listeners;
  MarkKeeper marks;
  Purgatory purgatory;  // after `partitions`: what is parked refers to them
  FetchRange fetch_range;
  ReplicaRepair repair;
  uint32_t reopenings = 0;  // of logs that the disk did not let be opened, one after another without success
  bool reopening = false;   // the timer is running
  bool stopping = false;
  bool clock_warned = false;
  std::optional<bool> clock_agrees;  // with other brokers; nothing: not told
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);

  // While stopping: logs that are still to be closed, how many are closing, and the first failure.
  static constexpr size_t kLogsClosingMax = 64;
  std::deque<TopicPartition> to_close;
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

  std::vector<TopicPartition> all_ids() const {
    std::vector<TopicPartition> ids;
    for (const auto& [id, partition] : partitions) ids.push_back(id);
    return ids;
  }

  api::Error absent(const TopicPartition& id) const;
  void apply_topic(const std::shared_ptr<const TopicImage>& topic);
  std::unique_ptr<Partition> open_partition(const TopicPartition& id, const TopicImage& topic);
  void remove_topic(const TopicId& id);
  void remove_partition(Partition& partition);
  void positions_moved(Partition& partition, uint64_t bytes = 0);
  void on_durable(Partition& partition);
  void call_listener(const TopicPartition& id);
  std::optional<api::Error> refuse_append(const AppendRequest& request, const Partition* partition);
  api::Answer<Appended> append_now(Partition& partition, AppendRequest& request);
  void schedule_housekeeping();
  void reopen_later();
  void reopen_logs();
  void housekeeping();
  void close_logs();
  void close_log(Partition& partition);
  void log_closed(Partition& partition, const Status& status);
  void all_closed();

  // replica_replication.cc
  void make_replication(ReplicaNetwork network);
  // After Partition::apply(): sessions and fetchers follow the role.
  void follow_role(Partition& partition, bool was_leader, LeaderEpoch epoch_before);
  void brokers_changed();
  void followers_moved(Partition& partition);
  void followed(Partition& partition, uint64_t bytes);
  void watch_if_behind(Partition& partition);
  void change_isr_if_wanted(Partition& partition);
  void ask_for_isr(Partition& partition, IsrChange change);
  void isr_answered(const TopicPartition& id, LeaderEpoch epoch, uint64_t number,
                    const api::Answer<IsrChanged>& answer);
  void check_later();
  void check();
  void peer_lost(BrokerId peer);
};

}  // namespace trilog
