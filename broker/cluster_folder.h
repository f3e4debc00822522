// The folder of `trilog up`: what it holds, and which process runs in it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "storage/base/status.h"

namespace trilog {

struct RunningProcess {
  pid_t pid = 0;
  uint64_t start_time = 0;  // as the kernel counts it: two processes with one pid differ in it
  std::vector<std::string> addresses;
};

class ClusterFolder {
 public:
  explicit ClusterFolder(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string node_path(int node) const { return path_ + "/node-" + std::to_string(node); }
  std::string log_path() const { return path_ + "/log"; }

  // How many nodes it was made for; nothing if it is new. kInvalidArgument if there are files but not ours.
  Result<std::optional<int>> nodes() const;
  Status create(int nodes) const;

  Status write_run(const std::vector<std::string>& addresses) const;
  void remove_run() const;
  // The process that runs in it: alive, with the same start time, and holding a node's lock.
  std::optional<RunningProcess> running() const;

  uint64_t bytes() const;  // of all files
  Status remove() const;   // everything

 private:
  const std::string path_;
};

// Of a live process, from /proc; nothing if there is none.
std::optional<uint64_t> process_start_time(pid_t pid);

}  // namespace trilog
