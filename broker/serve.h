// `trilog serve`: one node of a cluster, for systemd and containers.
#pragma once

#include "client/cli/node_options.h"

namespace trilog {

// Runs until SIGINT or SIGTERM, then drains; with --check only looks at the configuration. Exit codes: 0 ended as
// asked, 1 cannot run, 2 the configuration is wrong, 5 the port or the folder is taken.
int run_serve(const cli::ServeOptions& options);

}  // namespace trilog
