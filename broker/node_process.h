// One node of a cluster started by `up --nodes 3`: a process of its own that runs `trilog serve` and ends with us.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "storage/base/status.h"

namespace trilog {

// Starts this program again with these arguments: in a process group of its own (Ctrl-C reaches only us), killed when
// we die however we die, its output in a pipe, its errors appended to a file. Only while this process has one thread.
class NodeProcess {
 public:
  NodeProcess() = default;
  ~NodeProcess();  // closes the pipe; the process is not touched
  NodeProcess(NodeProcess&& other) noexcept;
  NodeProcess& operator=(NodeProcess&& other) noexcept;

  static Result<NodeProcess> start(const std::vector<std::string>& arguments, const std::string& error_path);

  pid_t pid() const { return pid_; }
  int output() const { return output_; }  // to poll; -1 after its end
  // What it printed since, as whole lines; what is not whole yet stays.
  std::vector<std::string> read_lines();

 private:
  pid_t pid_ = -1;
  int output_ = -1;
  std::string unfinished_;
};

// Runs this program with these arguments and our standard error, without output; its exit code, or -1.
int run_program(const std::vector<std::string>& arguments);

}  // namespace trilog
