// What `up`, `serve`, `down` and `dump` print: answers to standard output, errors to standard error, both also as JSON.
#pragma once

#include <string>
#include <string_view>

#include "client/cli/json.h"
#include "storage/base/status.h"

namespace trilog {

// As everywhere on the command line (docs/cli.md).
enum NodeExitCode : int { kExitDone = 0, kExitRefused = 1, kExitUsage = 2, kExitNotFound = 4, kExitNotNow = 5 };

class ProcessOutput {
 public:
  ProcessOutput(bool json, bool quiet) : json_(json), quiet_(quiet) {}

  bool json() const { return json_; }
  // Whole lines, at once; nothing with --quiet (unless JSON was asked for).
  void line(std::string_view text) const;
  // For people, to standard error.
  void hint(std::string_view text) const;
  // Says the error and returns `exit_code`.
  int fail(int exit_code, std::string_view code, std::string_view message) const;
  // With the exit code that fits the status.
  int fail(const Status& status) const;

 private:
  const bool json_;
  const bool quiet_;
};

}  // namespace trilog
