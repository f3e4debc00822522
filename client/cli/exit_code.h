// Exit codes of the command line (docs/cli.md).
#pragma once

#include "client/client.h"

namespace trilog::cli {

enum ExitCode : int {
  kDone = 0,
  kRefused = 1,  // do not repeat unchanged
  kUsage = 2,
  kUnknown = 3,  // the outcome is unknown; wins over all others
  kNotFound = 4,
  kNotNow = 5,  // nothing written, safe to repeat
  kPartly = 6,
  kInterrupted = 130,
  kTerminated = 143,
  kClosedPipe = 141,
};

ExitCode exit_code_of(const client::Error& error);

}  // namespace trilog::cli
