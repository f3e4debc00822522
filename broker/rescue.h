// trilog rescue: a new catalogue for a stopped cluster whose metadata is lost on all its nodes. Topics come from the
// partition.meta files in the folders given, which are only read, but for the first: it gets the catalogue, as the
// quorum's only voter, and its old metadata is set aside. The other nodes find that theirs is lost, and get it from
// the first. No record is touched (C12).
#pragma once

#include "client/cli/node_options.h"

namespace trilog {

// Returns the exit code of the program.
int run_rescue(const cli::RescueOptions& options);

}  // namespace trilog
