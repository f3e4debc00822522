// Which of the unsynced operations a power cut lets through: all subsets of a few, a sample of many, and torn writes.
#pragma once

#include <functional>
#include <span>

#include "tests/sim/crash_states.h"

namespace trilog::crash {

inline constexpr size_t kAllSubsetsUpTo = 12;

using UseFates = std::function<bool(std::span<const sim::Fate>)>;

// Calls `use` with fates for states.unsynced() until it answers false; answers false then.
// `all`: the expectation has become stricter, so every subset counts. Otherwise only those with the newest operation in
// them: without it they are the states of the position before.
// Up to 12 operations: every subset, and each write torn at every 512 bytes and 4 KiB (8 places at most) under a drawn
// fate of the others. More: every prefix, each one missing or alone, the same tears, and 32 drawn choices.
bool for_each_choice(const sim::CrashStates& states, bool all, sim::SeededRandom& random, const UseFates& use);

}  // namespace trilog::crash
