// `trilog dump FILE|DIR`: shows the files of a node to a person (formats: docs/formats.md).
#pragma once

#include "client/cli/node_options.h"

namespace trilog {

// One line per batch, entry or record; with --json one object. Reads only, also while a node runs. A damaged file is
// shown as far as it is sound, then the error; the exit code is then 1. A folder: every file in it that is known.
int run_dump(const cli::DumpOptions& options);

}  // namespace trilog
