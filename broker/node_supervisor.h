// `trilog up --nodes 3`: starts a process for each node, watches them, says what happens to them, starts one again when
// `trilog node start` asks, and ends them all.
#pragma once

#include <functional>

#include "broker/dev_plan.h"
#include "broker/process_output.h"

namespace trilog {

// Until SIGINT or SIGTERM, which must be blocked. `on_ready` runs once the ready line is out. Returns the exit code.
int run_nodes(const ClusterPlan& plan, const cli::UpOptions& options, const ProcessOutput& output,
              const std::function<void()>& on_ready);

}  // namespace trilog
