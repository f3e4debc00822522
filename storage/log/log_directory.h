// LogDirectory: all logs of one shard under the folder `topics/`: <topic id>/<partition>/.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "storage/log/checkpoint_file.h"
#include "storage/log/disk_guard.h"
#include "storage/log/log.h"

namespace trilog {

// What the start of the node found (marks and clean marker), shared by all shards.
struct LogStartState {
  bool clean = false;
  Marks marks;
};

class LogDirectory {
 public:
  // `topics_path` need not exist. `start` is consulted the first time a log is opened; a log that is opened again in
  // the same process recovers as after a crash.
  LogDirectory(Env& env, std::string topics_path, LogStartState start);
  ~LogDirectory();

  // Opens (or makes) the log; on first use of a partition nothing is written to disk. Recovery runs here, blocking.
  Result<std::unique_ptr<Log>> open(const PartitionMeta& meta, const LogConfig& config);
  // The log is closed or abandoned: its folder is renamed away, durably, then removed, both off this thread or in small
  // steps. `done` is posted when the name is durably gone.
  void remove(const TopicPartition& partition, UniqueFunction<void(Status)> done);
  std::string path_of(const TopicPartition& partition) const;
  // Goes on with removals that a stop interrupted, a file at a time, in the background. Once per node, at its start.
  void remove_leftovers();

  // All partition folders that exist, by topic id and partition, with what their partition.meta says (rescue, and
  // warnings about strangers). Only the ids are set if the file is missing, bad or about another partition.
  static Result<std::vector<PartitionMeta>> scan(FileSystem& files, const std::string& topics_path);
  // Of the log in a partition's folder, as the file leader-epochs has it: the newest epoch. kNoLeaderEpoch if that
  // cannot be read; the log may have a few newer ones after a crash.
  static LeaderEpoch last_epoch(FileSystem& files, const std::string& folder);

 private:
  Env& env_;
  std::string topics_path_;
  LogStartState start_;
  std::set<TopicPartition> opened_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trilog
