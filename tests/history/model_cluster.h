// A cluster that does everything right, as one list of records per partition, and clients that record a history of it:
// a history that the checker must find clean. The same seed and options give the same history.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/history/history.h"

namespace trilog::history {

struct ModelOptions {
  uint64_t seed = 1;
  size_t operations = 2000;  // before the cluster is healed; then come the final ones
  int32_t partitions = 4;
  bool removes_records = true;  // trims and accepted losses happen
};

History model_history(const ModelOptions& options);

}  // namespace trilog::history
