// trilog rescue: a new catalogue for a stopped node of a cluster of one whose metadata is lost. Topics come from the
// partition.meta files in their folders; the old metadata is set aside, and no record is touched.
#pragma once

#include "client/cli/node_options.h"

namespace trilog {

// Returns the exit code of the program.
int run_rescue(const cli::RescueOptions& options);

}  // namespace trilog
