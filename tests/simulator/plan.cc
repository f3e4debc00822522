#include "tests/simulator/plan.h"

#include <algorithm>

namespace trilog::simulator {

namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
// What came later is drawn behind all else, so that the plans of seeds do not change when something is added.
constexpr size_t kFaultsDrawnFirst = 21;

struct FaultInfo {
  const char* name;
  uint32_t percent;           // of seeds in which it happens
  int64_t least_ns, most_ns;  // interval on average
};

constexpr std::array<FaultInfo, kFaults> kInfos = {{
    {"kill", 70, 2 * kSecondNs, 20 * kSecondNs},       {"stop", 30, 4 * kSecondNs, 20 * kSecondNs},
    {"power_cut", 50, 3 * kSecondNs, 20 * kSecondNs},  {"blackout", 30, 8 * kSecondNs, 25 * kSecondNs},
    {"pause", 40, 3 * kSecondNs, 20 * kSecondNs},      {"cut", 50, 2 * kSecondNs, 15 * kSecondNs},
    {"one_way", 30, 3 * kSecondNs, 15 * kSecondNs},    {"isolate", 40, 3 * kSecondNs, 15 * kSecondNs},
    {"bridge", 15, 5 * kSecondNs, 20 * kSecondNs},     {"flap", 20, 4 * kSecondNs, 20 * kSecondNs},
    {"slow", 25, 3 * kSecondNs, 15 * kSecondNs},       {"reset", 40, 1 * kSecondNs, 10 * kSecondNs},
    {"wall_jump", 15, 3 * kSecondNs, 15 * kSecondNs},  {"slow_disk", 25, 4 * kSecondNs, 20 * kSecondNs},
    {"sync_fails", 15, 5 * kSecondNs, 25 * kSecondNs}, {"write_fails", 10, 5 * kSecondNs, 25 * kSecondNs},
    {"read_fails", 10, 5 * kSecondNs, 25 * kSecondNs}, {"disk_full", 10, 6 * kSecondNs, 25 * kSecondNs},
    {"wipe", 12, 10 * kSecondNs, 30 * kSecondNs},      {"move_leader", 30, 1 * kSecondNs, 10 * kSecondNs},
    {"drain", 10, 5 * kSecondNs, 20 * kSecondNs},      {"forget", 15, 6 * kSecondNs, 20 * kSecondNs},
    {"rot", 0, 2 * kSecondNs, 10 * kSecondNs},  // see below
}};

int64_t draw(sim::SeededRandom& random, int64_t least, int64_t most) {
  return least + static_cast<int64_t>(random.below(static_cast<uint64_t>(most - least + 1)));
}

}  // namespace

const char* fault_name(Fault fault) { return kInfos[static_cast<size_t>(fault)].name; }

Plan draw_plan(uint64_t seed, const PlanOptions& options) {
  sim::SeededRandom random(seed * 0x9e3779b97f4a7c15 + 0x51b);
  Plan plan;
  plan.seed = seed;
  plan.nodes = options.nodes;
  plan.duration_ns = draw(random, 15, 25) * kSecondNs;
  auto draw_fault = [&](size_t i) {
    const bool is_on = random.chance(kInfos[i].percent);
    const int64_t interval = draw(random, kInfos[i].least_ns, kInfos[i].most_ns);
    if (is_on && !options.no_faults) plan.interval_ns[i] = interval;
  };
  for (size_t i = 0; i < kFaultsDrawnFirst; ++i) draw_fault(i);
  plan.faults_while_forming = random.chance(20) && !options.no_faults;
  plan.fragile_node = static_cast<int>(draw(random, 1, options.nodes));
  plan.shards_max = random.chance(50) ? 2 : 1;
  if (random.chance(30)) plan.network.delay_most_ns = draw(random, 1, 20) * 1'000'000;
  if (random.chance(30)) plan.network.late_per_thousand = static_cast<uint32_t>(draw(random, 5, 50));
  if (random.chance(20) && !options.no_faults) {
    plan.network.resets_per_million = static_cast<uint32_t>(draw(random, 10, 1000));
  }
  plan.idempotent_producers = static_cast<int>(draw(random, 8, 14));
  plan.plain_producers = static_cast<int>(draw(random, 1, 4));
  plan.consumers = static_cast<int>(draw(random, 2, 4));
  plan.produce_pause_ns = draw(random, 150, 350) * 1'000'000;
  plan.replicated_partitions = random.chance(50) ? 2 : 0;
  plan.small_segments = random.chance(40);
  plan.hot_partition = random.chance(25);
  plan.frequent_snapshots = random.chance(40);
  for (size_t i = kFaultsDrawnFirst; i < kFaults; ++i) draw_fault(i);
  plan.strikes_at_decisions = random.chance(30) && !options.no_faults;
  if (random.chance(40)) plan.replica_lag_ms = draw(random, 3'000, 4'000);
  // Only where segments are sealed.
  constexpr FaultInfo rot = kInfos[static_cast<size_t>(Fault::kRot)];
  const bool rots = plan.small_segments && random.chance(50);
  const int64_t rot_ns = draw(random, rot.least_ns, rot.most_ns);
  if (rots && !options.no_faults) plan.interval(Fault::kRot) = rot_ns;
  for (const Fault fault : options.without) plan.interval(fault) = 0;
  if (options.duration_ns > 0) plan.duration_ns = options.duration_ns;
  return plan;
}

std::string Plan::to_string() const {
  std::string text = "nodes " + std::to_string(nodes) + ", " + std::to_string(duration_ns / kSecondNs) +
                     " s, producers " + std::to_string(idempotent_producers) + "+" + std::to_string(plain_producers) +
                     ", faults";
  for (size_t i = 0; i < kFaults; ++i) {
    if (interval_ns[i] == 0) continue;
    text += " " + std::string(kInfos[i].name) + "/" + std::to_string(interval_ns[i] / 1'000'000) + "ms";
  }
  return text;
}

}  // namespace trilog::simulator
