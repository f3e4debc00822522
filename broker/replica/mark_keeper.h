// MarkKeeper: keeps the marks of one shard's logs near the truth (rule S2): at most `interval_ms` behind, or so many
// bytes above the marks in sum. A round syncs the logs that have changed, takes their marks and hands them to whoever
// writes the marks file. While nothing changes there is no timer.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "broker/replica/replica_manager.h"
#include "storage/env/env.h"
#include "storage/log/log_directory.h"

namespace trilog {

class Partition;

class MarkKeeper {
 public:
  struct Limits {
    int64_t interval_ms;
    uint64_t synced_bytes_max;
    uint64_t replicated_bytes_max;
  };
  // The partition of this identity with an open log, or null. Asked only for those that were touched().
  using Find = std::function<Partition*(const TopicPartition&)>;
  using Done = UniqueFunction<void(Status)>;

  MarkKeeper(Env& env, Limits limits, ReplicaManager::PersistMarks persist, Find find);

  // The mark of this log is not what was persisted last; `bytes` were appended.
  void touched(const Partition& partition, uint64_t bytes = 0);
  // Its durable end moved, or it failed.
  void durable_moved(const Partition& partition);
  // The log is closed or gone.
  void forget(const TopicPartition& partition);
  // Everything touched so far, persisted; `done` runs when it is, never inside this call.
  void persist_now(Done done);

  // Answers everybody who waits; nothing is persisted from now on.
  void stop(const Status& why);

  bool idle() const { return !rounding_ && dirty_.empty(); }

 private:
  void arm();
  void begin_round();
  // All logs of the round are synced: takes the marks and hands them over.
  void hand_over();
  void handed_over(const Marks& marks, const Status& status);

  Env& env_;
  const Limits limits_;
  const ReplicaManager::PersistMarks persist_;
  const Find find_;
  std::set<TopicPartition> dirty_;
  std::map<TopicPartition, Offset> syncing_;  // of this round: durable end that is waited for
  bool rounding_ = false;                     // from begin_round() until the marks are persisted
  bool again_ = false;                        // another round right after this one
  bool armed_ = false;
  bool stopped_ = false;
  uint64_t synced_bytes_ = 0;  // appended since the last round began
  uint64_t replicated_bytes_ = 0;
  std::vector<Done> waiting_;  // for the next marks that are taken
  std::vector<Done> handed_;   // for those on their way
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trilog
