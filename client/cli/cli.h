// The command line of Trilog over the client library.
#pragma once

#include <functional>

#include "client/cli/node_options.h"

namespace trilog::cli {

// Commands that run or inspect a node; main.cc gives their implementations, which the client does not know. Each
// returns the exit code of the program.
struct NodeCommands {
  std::function<int(const UpOptions&)> up;
  std::function<int(const ServeOptions&)> serve;
  std::function<int(const DownOptions&)> down;
  std::function<int(const NodeOptions&)> node;
  std::function<int(const DumpOptions&)> dump;
  std::function<int(const RescueOptions&)> rescue;
};

// Parses the arguments, runs one command, returns its exit code (docs/cli.md). Uses standard input, output and error,
// and handles SIGINT, SIGTERM and SIGPIPE while a client command runs.
int run_cli(int argc, char** argv, const NodeCommands& node_commands);

}  // namespace trilog::cli
