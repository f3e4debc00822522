#include "tests/sim/crash_states.h"

#include <algorithm>
#include <utility>

namespace trilog::sim {
namespace {

constexpr uint32_t kGranules[] = {512, 4096};

uint64_t granules_of(const DiskOp& op, uint32_t granule) {
  if (op.bytes.empty()) return 0;
  return (op.offset + op.bytes.size() - 1) / granule - op.offset / granule + 1;
}

using Use = std::function<bool(std::span<const Fate>)>;

Fate kept_if(bool kept) { return {.kind = kept ? Fate::Kind::kKept : Fate::Kind::kDropped}; }

bool all_subsets(size_t count, const Use& use) {
  std::vector<Fate> fates(count);
  for (uint64_t subset = 0; subset < uint64_t{1} << count; ++subset) {
    for (size_t i = 0; i < count; ++i) fates[i] = kept_if(((subset >> i) & 1) != 0);
    if (!use(fates)) return false;
  }
  return true;
}

// Every prefix (which includes none and all), one missing, one alone.
bool simple_subsets(size_t count, const Use& use) {
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
  return true;
}

bool torn_writes(const std::vector<DiskOp>& ops, size_t tears_max, const Use& use) {
  std::vector<Fate> fates(ops.size());
  for (size_t i = 0; i < ops.size(); ++i) {
    if (ops[i].kind != DiskOp::Kind::kWrite) continue;
    for (uint32_t granule : kGranules) {
      uint64_t granules = granules_of(ops[i], granule);
      uint64_t tears = std::min<uint64_t>(granules == 0 ? 0 : granules - 1, tears_max);
      for (uint64_t tear = 1; tear <= tears; ++tear) {
        // Spread over the write, so that a long one is also cut near its end.
        uint64_t place = 1 + (tear - 1) * (granules - 1) / tears;
        fates[i] = {Fate::Kind::kPrefix, granule, place};
        if (!use(fates)) return false;
        fates[i] = {Fate::Kind::kPattern, granule, ~uint64_t{0} << (place % 64)};  // the beginning is missing
        if (!use(fates)) return false;
      }
    }
    fates[i] = {Fate::Kind::kPattern, 512, 0};  // the file grew, its bytes did not arrive
    if (!use(fates)) return false;
    fates[i] = {};
  }
  return true;
}

}  // namespace

bool CrashStates::advance() {
  if (position_ == recording_.ops.size()) return false;
  const DiskOp& op = recording_.ops[position_++];
  if (op.kind == DiskOp::Kind::kMark) last_mark_ = op.offset;
  state_.add(op);
  return true;
}

bool CrashStates::for_each_choice(const CrashChoices& choices, SeededRandom& random, const Use& use) const {
  const std::vector<DiskOp>& ops = unsynced();
  bool exhaustive = ops.size() <= std::min<size_t>(choices.exhaustive_max, 20);
  if (!(exhaustive ? all_subsets(ops.size(), use) : simple_subsets(ops.size(), use))) return false;
  if (!torn_writes(ops, choices.tears_max, use)) return false;
  std::vector<Fate> fates(ops.size());
  for (size_t sample = 0; sample < choices.samples && !ops.empty(); ++sample) {
    for (size_t i = 0; i < ops.size(); ++i) fates[i] = draw_fate(ops[i], CrashPolicy{}, random);
    if (!use(fates)) return false;
  }
  return true;
}

Fate draw_fate(const DiskOp& op, const CrashPolicy& policy, SeededRandom& random) {
  uint64_t draw = random.below(100);
  if (draw < policy.keep_percent) return {};
  if (draw < policy.keep_percent + policy.drop_percent || op.kind != DiskOp::Kind::kWrite) {
    return {.kind = Fate::Kind::kDropped};
  }
  uint32_t granule = kGranules[random.below(2)];
  if (random.chance(50)) return {Fate::Kind::kPrefix, granule, random.below(granules_of(op, granule) + 1)};
  return {Fate::Kind::kPattern, granule, random.next()};
}

std::string describe(std::span<const DiskOp> ops, std::span<const Fate> fates) {
  std::string text;
  for (size_t i = 0; i < ops.size(); ++i) {
    Fate fate = i < fates.size() ? fates[i] : Fate{.kind = Fate::Kind::kDropped};
    text += ops[i].to_string();
    if (fate.kind == Fate::Kind::kKept) text += " — kept\n";
    if (fate.kind == Fate::Kind::kDropped) text += " — dropped\n";
    if (fate.kind == Fate::Kind::kPrefix || fate.kind == Fate::Kind::kPattern) {
      text += fate.kind == Fate::Kind::kPrefix ? " — first " : " — pattern ";
      text += std::to_string(fate.detail) + " of granules of " + std::to_string(fate.granule) + "\n";
    }
  }
  return text;
}

}  // namespace trilog::sim
