// Many seeds: each in a process of its own, so that a CHECK that fails is one seed's failure and nothing more.
#pragma once

#include <cstdint>
#include <string>

#include "tests/simulator/plan.h"

namespace trilog::simulator {

struct BatchOptions {
  uint64_t first = 0;
  uint64_t last = 0;
  bool single = false;  // in this process
  PlanOptions plan;
  size_t jobs = 1;
  std::string results;  // file; empty: none
  std::string history;
  bool trace = false;
  bool show_counters = false;
  bool require_counters = false;
  bool until_failure = false;  // no seed is begun after one that failed
};

// The exit code: 0 if all is well, 1 if a seed failed or a required counter stayed 0, 2 if a file cannot be used.
int run_batch(const BatchOptions& options);

}  // namespace trilog::simulator
