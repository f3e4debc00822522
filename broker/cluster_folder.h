// The folder of `trilog up`: what it holds, and which processes run in it.
//
//   DIR/cluster   how many nodes; "forming" behind it until the folders of all nodes are made
//   DIR/run       while it runs: process id of `up` and its start time, addresses
//   DIR/lock      held by `up` of several nodes
//   DIR/run-N     while node N of several runs: process id and start time, "starting" or "ready", address
//   DIR/start-N   somebody wants node N to be started; `up` takes it away
//   DIR/log, DIR/log-N   what a detached `up` and node N have to say
//   DIR/node-N/   the data folder of a node
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
  bool ready = true;    // of a node
  bool paused = false;  // SIGSTOP
};

class ClusterFolder {
 public:
  explicit ClusterFolder(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string node_path(int node) const { return path_ + "/node-" + std::to_string(node); }
  std::string log_path() const { return path_ + "/log"; }
  std::string node_log_path(int node) const { return path_ + "/log-" + std::to_string(node); }

  // How many nodes it was made for; nothing if it is new. kInvalidArgument if there are files but not ours.
  Result<std::optional<int>> nodes() const;
  // Whether the folders of its nodes have still to be made, because it is new or was left halfway.
  bool is_forming() const;
  Status create(int nodes, bool forming) const;
  // For `up` of several nodes; held until the process ends. kBusy: another one runs.
  Status lock() const;

  Status write_run(const std::vector<std::string>& addresses) const;
  void remove_run() const;
  // The process that runs in it: alive, with the same start time, and holding a node's lock.
  std::optional<RunningProcess> running() const;

  Status write_node_run(int node, pid_t pid, const std::string& address, bool ready) const;
  void remove_node_run(int node) const;
  bool has_node_run(int node) const;  // it was started, and `up` has not noticed an end
  // The process of this node: alive, with the same start time, and holding the node's lock.
  std::optional<RunningProcess> running_node(int node) const;

  Status ask_to_start(int node) const;
  bool is_asked_to_start(int node) const;
  void take_start_request(int node) const;

  uint64_t bytes() const;  // of all files
  Status remove() const;   // everything

 private:
  const std::string path_;
};

// To exactly this process: a number can come to mean another one, this cannot. Nothing happens if it has ended.
Status signal_process(const RunningProcess& process, int signal);
// True if it has ended within the time.
bool wait_for_end(const RunningProcess& process, int64_t timeout_ms);

// Of a live process, from /proc; nothing if there is none.
std::optional<uint64_t> process_start_time(pid_t pid);

}  // namespace trilog
