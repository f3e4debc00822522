#include "storage/log/log_directory.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "storage/log/leader_epoch_cache.h"
#include "storage/log/log_files.h"

namespace trilog {

namespace {

// "7.removed-3": what a partition's folder is called from its removal until it is gone.
constexpr std::string_view kRemovedMark = ".removed-";
constexpr unsigned kRemovedNamesMax = 1000;

std::optional<PartitionId> parse_partition(std::string_view name) {
  int32_t number = 0;
  auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  bool whole = error == std::errc() && end == name.data() + name.size();
  if (!whole || number < 0 || std::to_string(number) != name) return std::nullopt;
  return PartitionId(number);
}

// Removes one file per task, so that a large folder does not hold up the shard. What is left after a stop is removed
// after the next start.
void remove_in_steps(Env& env, std::string folder, std::shared_ptr<bool> alive) {
  env.executor().post([&env, folder = std::move(folder), alive = std::move(alive)]() mutable {
    if (!*alive) return;
    auto entries = env.files().list(folder);
    if (entries.ok() && entries->size() > 1) {
      std::string path = join_path(folder, entries->front().name);
      Status removed = entries->front().is_directory ? env.files().remove_tree(path) : env.files().remove_file(path);
      if (removed.ok()) return remove_in_steps(env, std::move(folder), std::move(alive));
      env.log().warning("cannot remove ", path, ": ", removed.to_string());
      return;
    }
    Status removed = env.files().remove_tree(folder);
    if (!removed.ok()) env.log().warning("cannot remove ", folder, ": ", removed.to_string());
  });
}

}  // namespace

LogDirectory::LogDirectory(Env& env, std::string topics_path, LogStartState start)
    : env_(env), topics_path_(std::move(topics_path)), start_(std::move(start)) {}

LogDirectory::~LogDirectory() { *alive_ = false; }

std::string LogDirectory::path_of(const TopicPartition& partition) const {
  return join_path(join_path(topics_path_, partition.topic.to_string()), std::to_string(partition.partition.value()));
}

Result<std::unique_ptr<Log>> LogDirectory::open(const PartitionMeta& meta, const LogConfig& config) {
  TopicPartition partition{meta.topic_id, meta.partition};
  auto found = start_.marks.find(partition);
  std::optional<LogMark> mark;
  if (found != start_.marks.end()) mark = found->second;
  auto log = TRY(Log::open(env_, path_of(partition), meta, config, mark, start_.clean && !opened_.contains(partition)));
  // What was true at the start of the node says nothing about a log that was written since.
  if (found != start_.marks.end()) start_.marks.erase(found);
  opened_.insert(partition);
  return log;
}

void LogDirectory::remove(const TopicPartition& partition, UniqueFunction<void(Status)> done) {
  start_.marks.erase(partition);
  std::string folder = path_of(partition);
  auto answer = [this, &done](Status status) {
    env_.executor().post([done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
  };
  if (!env_.files().exists(folder)) return answer(ok_status());
  std::string removed;
  for (unsigned i = 0; i < kRemovedNamesMax; ++i) {
    removed = folder + std::string(kRemovedMark) + std::to_string(i);
    if (!env_.files().exists(removed)) break;
  }
  Status renamed = env_.files().rename(folder, removed);
  if (!renamed.ok()) return answer(renamed);
  env_.files().sync_directory(parent_path(folder), [&env = env_, alive = alive_, removed = std::move(removed),
                                                    done = std::move(done)](Status status) mutable {
    if (status.ok() && *alive) remove_in_steps(env, std::move(removed), alive);
    if (!status.ok() && *alive) env.fatal(status);
    done(std::move(status));
  });
}

void LogDirectory::remove_leftovers() {
  auto topics = env_.files().list(topics_path_);
  if (!topics.ok()) return;
  for (const DirectoryEntry& topic : *topics) {
    if (!topic.is_directory || !TopicId::parse(topic.name).ok()) continue;
    env_.executor().post([&env = env_, alive = alive_, folder = join_path(topics_path_, topic.name)] {
      if (!*alive) return;
      auto entries = env.files().list(folder);
      if (!entries.ok()) return;
      for (const DirectoryEntry& entry : *entries) {
        size_t mark = entry.name.find(kRemovedMark);
        bool leftover = entry.is_directory && mark != std::string::npos &&
                        parse_partition(std::string_view(entry.name).substr(0, mark)).has_value();
        if (leftover) remove_in_steps(env, join_path(folder, entry.name), alive);
      }
    });
  }
}

Result<std::vector<PartitionMeta>> LogDirectory::scan(FileSystem& files, const std::string& topics_path) {
  std::vector<PartitionMeta> found;
  auto topics = files.list(topics_path);
  if (!topics.ok()) {
    if (topics.status().code() == Errc::kNotFound) return found;
    return topics.status();
  }
  for (const DirectoryEntry& topic : *topics) {
    auto id = TopicId::parse(topic.name);
    if (!topic.is_directory || !id.ok()) continue;
    std::string folder = join_path(topics_path, topic.name);
    std::vector<DirectoryEntry> entries = TRY(files.list(folder));
    for (const DirectoryEntry& entry : entries) {
      auto partition = parse_partition(entry.name);
      if (!entry.is_directory || !partition.has_value()) continue;
      PartitionMeta meta;
      auto bytes = files.read_file(join_path(join_path(folder, entry.name), kMetaFile));
      if (bytes.ok()) {
        auto decoded = decode_partition_meta(*bytes);
        if (decoded.ok()) meta = std::move(*decoded);
      }
      // The folder's name decides who this is (C11); a file that says otherwise is not believed.
      if (meta.topic_id != *id || meta.partition != *partition) meta = PartitionMeta{};
      meta.topic_id = *id;
      meta.partition = *partition;
      found.push_back(std::move(meta));
    }
  }
  return found;
}

LeaderEpoch LogDirectory::last_epoch(FileSystem& files, const std::string& folder) {
  LeaderEpoch last = kNoLeaderEpoch;
  // A temporary file is newer than leader-epochs.
  for (const std::string& name : {std::string(kEpochsFile), epochs_temporary(0), epochs_temporary(1)}) {
    auto bytes = files.read_file(join_path(folder, name));
    if (!bytes.ok()) continue;
    auto epochs = LeaderEpochCache::decode(*bytes);
    if (epochs.ok() && epochs->latest()) last = std::max(last, epochs->latest()->epoch);
  }
  return last;
}

}  // namespace trilog
