// ClockGuard: whether the wall clock has run evenly since the start, so that it may decide what is old (fault F14). A
// clock that was wrong from the start is noticed by the others (ReplicaManager::set_clock_agreement).
#pragma once

#include <cstdint>

#include "storage/env/env.h"

namespace trilog {

class ClockGuard {
 public:
  static constexpr int64_t kJumpMsMax = 3'600'000;

  explicit ClockGuard(Clock& clock)
      : clock_(clock), wall_start_ms_(clock.wall_ms()), monotonic_start_ms_(clock.monotonic_ns() / 1'000'000) {}

  // False while the wall clock has gone more than an hour further, or less far, than the monotonic one since the start:
  // then nothing may be removed for its age.
  bool trusted() const {
    const int64_t wall_ms = clock_.wall_ms() - wall_start_ms_;
    const int64_t monotonic_ms = clock_.monotonic_ns() / 1'000'000 - monotonic_start_ms_;
    const int64_t jump_ms = wall_ms - monotonic_ms;
    return jump_ms <= kJumpMsMax && jump_ms >= -kJumpMsMax;
  }

 private:
  Clock& clock_;
  const int64_t wall_start_ms_;
  const int64_t monotonic_start_ms_;
};

}  // namespace trilog
