// `trilog node …`: looks at and acts on the processes of a cluster that `trilog up` started. Signals only processes
// that hold the lock of a node's folder and whose start time is the one that was written down.
#pragma once

#include "client/cli/node_options.h"

namespace trilog {

int run_node_command(const cli::NodeOptions& options);

}  // namespace trilog
