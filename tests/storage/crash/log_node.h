// A broker in miniature around a few logs: it starts, marks and stops them in the order that the storage rules ask of a
// real one (S2, S3, S11).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "storage/env/env.h"
#include "storage/log/checkpoint_file.h"
#include "storage/log/log.h"
#include "storage/log/log_directory.h"

namespace trilog::crash {

inline constexpr const char* kDataFolder = "data";
inline constexpr const char* kTopicsFolder = "data/topics";

struct LogSpec {
  PartitionMeta meta;
  LogConfig config;
  TopicPartition id() const { return {meta.topic_id, meta.partition}; }
};

class LogNode {
 public:
  struct Entry {
    LogSpec spec;
    std::unique_ptr<Log> log;
    Offset high_watermark{0};
  };

  explicit LogNode(Env& env) : env_(env) {}
  // Takes the clean marker, reads the marks, opens the logs; after an unclean stop their recovered ends are marked
  // before anything else happens (S3).
  Status start(const std::vector<LogSpec>& specs);
  // One more log, as when a topic is made.
  Status open(const LogSpec& spec);
  bool started_clean() const { return clean_; }

  std::map<TopicPartition, Entry>& entries() { return entries_; }
  LogDirectory& directory() { return *directory_; }
  MarksFile& marks_file() { return *marks_; }
  // As of now; `lowered`: what a truncation is going to make of its log's.
  Marks marks() const;
  // After all logs were closed.
  Status write_clean_marker();
  // What the marks of the previous run said, for the logs that are open now.
  const Marks& found_marks() const { return found_; }

 private:
  Env& env_;
  bool clean_ = false;
  Marks found_;
  std::optional<MarksFile> marks_;
  std::optional<LogDirectory> directory_;
  std::map<TopicPartition, Entry> entries_;
};

}  // namespace trilog::crash
