// Finds what went back in time: a value told to somebody after a higher one had been told to somebody else.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "tests/history/history.h"

namespace trilog::history {

// An operation that showed `value`, and after whose answer nobody may be shown less than `floor`.
struct Claim {
  static constexpr int64_t kShowsNothing = std::numeric_limits<int64_t>::max();
  static constexpr int64_t kNoFloor = std::numeric_limits<int64_t>::min();

  Claim(OperationPointer pointer, int64_t shown, int64_t from_now_on)
      : where(pointer),
        value(shown),
        floor(from_now_on),
        invoked_ns(operation().invoked_ns),
        answered_ns(operation().answered_ns) {}
  const Operation& operation() const { return base_of(where); }

  OperationPointer where;
  int64_t value;
  int64_t floor;
  int64_t invoked_ns;
  int64_t answered_ns;
};

// Calls is_excused(earlier, later) for each claim whose value is below the highest floor of those that were answered
// before it was invoked. If it is excused, the earlier ones count no more, and its own value is the floor after it.
template <typename IsExcused>
void for_each_regress(std::vector<Claim> claims, IsExcused is_excused) {
  std::ranges::stable_sort(claims, {}, &Claim::invoked_ns);
  std::vector<const Claim*> answered;
  for (const Claim& claim : claims) answered.push_back(&claim);
  std::ranges::stable_sort(answered, {}, &Claim::answered_ns);
  const Claim* highest = nullptr;
  auto next = answered.begin();
  for (Claim& claim : claims) {
    for (; next != answered.end() && (*next)->answered_ns < claim.invoked_ns; ++next) {
      if (highest == nullptr || (*next)->floor > highest->floor) highest = *next;
    }
    if (highest == nullptr || claim.value >= highest->floor || !is_excused(*highest, claim)) continue;
    highest = nullptr;
    claim.floor = std::max(claim.floor, claim.value);
  }
}

}  // namespace trilog::history
