#include "tests/storage/crash/crash_choices.h"

#include <algorithm>
#include <vector>

namespace trilog::crash {
namespace {

using sim::DiskOp;
using sim::Fate;

constexpr uint64_t kTearsMax = 8;
constexpr size_t kDrawn = 32;

Fate kept_if(bool kept) { return {.kind = kept ? Fate::Kind::kKept : Fate::Kind::kDropped}; }

bool all_subsets(size_t count, bool with_newest_only, const UseFates& use) {
  std::vector<Fate> fates(count);
  uint64_t newest = count == 0 ? 0 : uint64_t{1} << (count - 1);
  for (uint64_t subset = with_newest_only ? newest : 0; subset < uint64_t{1} << count; ++subset) {
    for (size_t i = 0; i < count; ++i) fates[i] = kept_if(((subset >> i) & 1) != 0);
    if (!use(fates)) return false;
  }
  return true;
}

bool some_subsets(const std::vector<DiskOp>& ops, sim::SeededRandom& random, const UseFates& use) {
  const size_t count = ops.size();
  std::vector<Fate> fates(count);
  for (size_t kept = 0; kept <= count; ++kept) {
    for (size_t i = 0; i < count; ++i) fates[i] = kept_if(i < kept);
    if (!use(fates)) return false;
  }
  for (size_t odd = 0; odd < count; ++odd) {
    for (bool others : {true, false}) {
      for (size_t i = 0; i < count; ++i) fates[i] = kept_if((i == odd) != others);
      if (!use(fates)) return false;
    }
  }
  for (size_t drawn = 0; drawn < kDrawn; ++drawn) {
    for (size_t i = 0; i < count; ++i) fates[i] = sim::draw_fate(ops[i], {}, random);
    if (!use(fates)) return false;
  }
  return true;
}

// One write torn after every granule, or with its beginning missing, or grown with nothing in it.
bool tears_of(const std::vector<DiskOp>& ops, size_t torn, sim::SeededRandom& random, const UseFates& use) {
  const DiskOp& op = ops[torn];
  std::vector<Fate> fates(ops.size());
  auto use_with = [&](Fate fate) {
    for (Fate& other : fates) other = kept_if(random.chance(70));
    fates[torn] = fate;
    return use(fates);
  };
  for (uint32_t granule : {512u, 4096u}) {
    uint64_t granules = (op.offset + op.bytes.size() - 1) / granule - op.offset / granule + 1;
    uint64_t tears = std::min(granules - 1, kTearsMax);
    for (uint64_t tear = 1; tear <= tears; ++tear) {
      uint64_t place = 1 + (tear - 1) * (granules - 1) / tears;
      if (!use_with({Fate::Kind::kPrefix, granule, place})) return false;
      if (!use_with({Fate::Kind::kPattern, granule, ~uint64_t{0} << (place % 64)})) return false;
      if (!use_with({Fate::Kind::kPattern, granule, random.next()})) return false;
    }
  }
  return use_with({Fate::Kind::kPattern, 512, 0});
}

}  // namespace

bool for_each_choice(const sim::CrashStates& states, bool all, sim::SeededRandom& random, const UseFates& use) {
  const std::vector<DiskOp>& ops = states.unsynced();
  if (ops.size() <= kAllSubsetsUpTo) {
    if (!all_subsets(ops.size(), !all, use)) return false;
  } else if (!some_subsets(ops, random, use)) {
    return false;
  }
  for (size_t i = all || ops.empty() ? 0 : ops.size() - 1; i < ops.size(); ++i) {
    if (ops[i].kind == DiskOp::Kind::kWrite && !tears_of(ops, i, random, use)) return false;
  }
  return true;
}

}  // namespace trilog::crash
