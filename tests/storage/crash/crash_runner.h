// Enumerates the crash states of recorded programs and lets the case check each.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tests/sim/crash_states.h"
#include "tests/storage/crash/crash_case.h"

namespace trilog::crash {

struct CrashTotals {
  uint64_t states = 0;
  uint64_t programs = 0;
  uint64_t operations = 0;   // of the disk, in all recordings
  uint64_t torn_states = 0;  // of `states`: with at least one torn write
  uint64_t unsynced_max = 0;
  int64_t longest_ns = 0;  // of processor time: one recovery with its checks
  std::map<std::string, uint64_t> states_by_case;
  CrashCase::Counts met;
};

struct CrashOptions {
  uint64_t states = 50'000;
  uint64_t seed = 1;
  std::string only_case;  // empty: all, by turns
};

// Each program has its own seed: options.seed, and the ones after it. A program is either short, and then every subset
// of up to 12 unsynced operations is tried at each of its points; or long, and then the states are sampled.
class CrashRunner {
 public:
  explicit CrashRunner(CrashOptions options) : options_(std::move(options)) {}

  // Runs until enough states were checked. Nothing if all were well, else a report that says how to see it again.
  std::optional<std::string> run();
  const CrashTotals& totals() const { return totals_; }
  // What is being checked right now, for a process that is about to die of it.
  std::string where() const;

 private:
  struct Plan {
    std::string case_name;
    size_t steps;
    bool exhaustive;
  };
  Plan plan(uint64_t seed) const;
  std::optional<std::string> run_program(uint64_t seed);
  // All states of one program, or as many of them as fit into its budget.
  std::optional<std::string> check_states(uint64_t seed, const Plan& plan, const sim::Recording& recording);
  std::string check_one(const sim::CrashStates& states, std::span<const sim::Fate> fates, uint64_t seed);

  const CrashOptions options_;
  CrashTotals totals_;
  std::unique_ptr<CrashCase> case_;
  std::string case_name_;
  uint64_t program_seed_ = 0;
  uint64_t states_before_program_ = 0;
  const sim::CrashStates* states_ = nullptr;
  std::vector<sim::Fate> fates_;
};

}  // namespace trilog::crash
