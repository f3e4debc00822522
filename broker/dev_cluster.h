// `trilog up` and `trilog down`: a cluster in a folder, for development.
//
//   DIR/cluster   made by `up`: how many nodes; only a folder with it is touched by `down`
//   DIR/run       while it runs: process id and its start time, addresses
//   DIR/node-N/   the data folder of a node
#pragma once

#include "client/cli/node_options.h"

namespace trilog {

// Runs until SIGINT or SIGTERM (with --detach: until it is ready). Exit codes as everywhere.
int run_up(const cli::UpOptions& options);
int run_down(const cli::DownOptions& options);

}  // namespace trilog
