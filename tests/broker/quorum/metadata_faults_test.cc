// Metadata logs under random faults: processes killed, power cut, one disk at a time lost or damaged, links cut, slow
// and flapping, nodes paused. QuorumCluster checks after every few events that nobody applies something else (A11),
// that no commit goes back and no term has two leaders; at the end everything promised must be there, on all.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>

#include "tests/broker/quorum/quorum_cluster.h"

namespace trilog {
namespace {

using testing::QuorumCluster;

struct Counts {
  size_t promised = 0;
  size_t kills = 0;
  size_t power_cuts = 0;
  size_t cuts = 0;
  size_t pauses = 0;
  size_t replaced = 0;
  size_t snapshots = 0;
  size_t leaderships = 0;
};

class FaultyWorld {
 public:
  FaultyWorld(int size, uint64_t seed) : random_(seed * 31), cluster_(size, seed) {
    if (random_.chance(50)) cluster_.config.snapshot_bytes = 10'000 + random_.below(20'000);
    if (random_.chance(30)) cluster_.network().config().resets_per_million = 2'000;
    for (int id = 1; id <= size; ++id) {
      if (random_.chance(20)) cluster_.node(id).disk->set_sync_delay(1'000'000, 30'000'000);
    }
  }

  void run(int steps, Counts& counts) {
    cluster_.start_all();
    for (int i = 0; i < steps; ++i) step(counts);
    heal();
    ASSERT_NE(cluster_.wait_for_leader(30'000), 0);
    ASSERT_TRUE(cluster_.commit("healed", 30'000));
    ASSERT_TRUE(cluster_.wait_until_equal(60'000));
    for (int id = 1; id <= cluster_.size(); ++id) {
      ASSERT_TRUE(cluster_.node(id).fatal.ok()) << cluster_.node(id).fatal.to_string();
      counts.snapshots += static_cast<size_t>(cluster_.node(id).snapshots);
      counts.leaderships += static_cast<size_t>(cluster_.node(id).leads);
    }
    // Who was replaced is a voter again.
    for (int i = 0; i < 100 && !repaired(); ++i) cluster_.run_for(100);
    ASSERT_TRUE(repaired());
    counts.promised += cluster_.promised.size();
  }

 private:
  int any() { return 1 + static_cast<int>(random_.below(static_cast<uint64_t>(cluster_.size()))); }

  void step(Counts& counts) {
    int id = any();
    switch (random_.below(20)) {
      case 0: fail(id, counts); break;
      case 1:
      case 2:
        if (!cluster_.up(id)) start(id);
        break;
      case 3: disturb(id, counts); break;
      case 4:
      case 5: calm(); break;
      case 6: lose(counts); break;
      case 7: cluster_.run_for(static_cast<int64_t>(random_.below(1'500))); break;
      case 8:
      case 9: cluster_.run_for(static_cast<int64_t>(random_.below(200))); break;
      default:
        for (int i = static_cast<int>(random_.below(6)); i > 0; --i) propose();
        cluster_.run_for(static_cast<int64_t>(random_.below(15)));
        break;
    }
    note_members();
  }
  void propose() {
    std::string text = "p" + std::to_string(counter_++) + std::string(random_.below(600), '.');
    random_.chance(80) ? cluster_.propose(text) : cluster_.propose_on(any(), text);
  }
  void fail(int id, Counts& counts) {
    if (!cluster_.up(id) || !random_.chance(50)) return;
    if (random_.chance(10)) {
      cluster_.power_cut_all();
    } else if (random_.chance(40)) {
      cluster_.power_cut(id);
    } else {
      ++counts.kills;
      return cluster_.kill(id);
    }
    ++counts.power_cuts;
  }
  void disturb(int id, Counts& counts) {
    BrokerId one(id);
    BrokerId two(any());
    sim::SimNetwork& network = cluster_.network();
    switch (random_.below(8)) {
      case 0: network.isolate(one); break;
      case 1: network.bridge(one); break;
      case 2: network.slow(one, two, static_cast<int64_t>(random_.below(400)) * 1'000'000); break;
      case 3:
        if (cluster_.up(id)) network.pause(one);
        ++counts.pauses;
        break;
      case 4:
        if (one != two) network.flap(one, two, 500'000'000);
        break;
      case 5:
        if (one != two) network.cut(one, two);
        break;
      default:
        if (one != two) network.cut_one_way(one, two);
        break;
    }
    ++counts.cuts;
  }
  void calm() {
    if (random_.chance(50)) cluster_.network().heal();
    for (int id = 1; id <= cluster_.size(); ++id) {
      if (random_.chance(60)) cluster_.network().resume(BrokerId(id));
    }
  }
  // One disk, or what is on it; and not another before its place is taken.
  void lose(Counts& counts) {
    int id = any();
    if (!random_.chance(25) || !everybody_was_there_ || !repaired()) return;
    cluster_.power_cut(id);
    if (random_.chance(40)) {
      cluster_.new_disk(id);
    } else if (random_.chance(50)) {
      cluster_.lose_metadata(id);
      cluster_.node(id).was_member = random_.chance(50);
    } else {
      for (uint64_t slot : {0u, 1u}) cluster_.flip_bit(id, "vote", (slot * 4096 + 30) * 8);
    }
    lost_ = id;
    identity_before_ = identities_[id];
    ++counts.replaced;
    if (random_.chance(70)) start(id);
  }
  // All that are up agree that there is a new folder in the place of the lost one.
  bool repaired() {
    if (lost_ == 0) return true;
    for (int id = 1; id <= cluster_.size(); ++id) {
      if (!cluster_.up(id)) return false;
      const auto& voters = cluster_.log(id).voters();
      if (voters.size() != static_cast<size_t>(cluster_.size())) return false;
      if (voters[static_cast<size_t>(lost_ - 1)].directory == identity_before_) return false;
    }
    if (cluster_.leader() == 0) return false;
    lost_ = 0;
    return true;
  }
  void note_members() {
    int led = cluster_.leader();
    if (led == 0) return;
    bool all = true;
    for (int id = 1; id <= cluster_.size(); ++id) {
      all = all && cluster_.up(id) && cluster_.log(id).committed() > Offset(1);
    }
    if (!all) return;
    everybody_was_there_ = true;
    for (const Voter& voter : cluster_.log(led).voters()) identities_[voter.id.value()] = voter.directory;
    for (int id = 1; id <= cluster_.size(); ++id) cluster_.node(id).was_member = true;
  }
  void start(int id) { ASSERT_TRUE(cluster_.start(id)) << cluster_.node(id).error.to_string(); }
  void heal() {
    cluster_.network().heal();
    cluster_.network().config().resets_per_million = 0;
    for (int id = 1; id <= cluster_.size(); ++id) {
      cluster_.network().resume(BrokerId(id));
      if (!cluster_.up(id)) start(id);
    }
  }

  sim::SeededRandom random_;
  QuorumCluster cluster_;
  bool everybody_was_there_ = false;
  int lost_ = 0;
  DirectoryId identity_before_;
  std::map<int, DirectoryId> identities_;
  int counter_ = 0;
};

Counts run_worlds(int size, uint64_t first_seed, uint64_t worlds) {
  Counts counts;
  for (uint64_t seed = first_seed; seed < first_seed + worlds; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    FaultyWorld world(size, seed);
    world.run(250, counts);
    if (::testing::Test::HasFatalFailure()) break;
  }
  ::testing::Test::RecordProperty("promised", static_cast<int>(counts.promised));
  return counts;
}

TEST(MetadataClusterFaults, ThreeNodesLoseNothingWhateverHappens) {
  Counts counts = run_worlds(3, 1, 60);
  EXPECT_GT(counts.promised, 1'000u);
  EXPECT_GT(counts.kills, 60u);
  EXPECT_GT(counts.power_cuts, 30u);
  EXPECT_GT(counts.cuts, 100u);
  EXPECT_GT(counts.pauses, 10u);
  EXPECT_GT(counts.replaced, 30u);
  EXPECT_GT(counts.snapshots, 20u);
  EXPECT_GT(counts.leaderships, 120u);
}

TEST(MetadataClusterFaults, FiveNodesLoseNothingWhateverHappens) {
  Counts counts = run_worlds(5, 1'000, 15);
  EXPECT_GT(counts.promised, 200u);
  EXPECT_GT(counts.replaced, 5u);
}

TEST(MetadataClusterFaults, ADeadLeaderIsReplacedSoon) {
  std::vector<int64_t> gaps_ms;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    QuorumCluster cluster(3, seed);
    cluster.start_all();
    ASSERT_TRUE(cluster.commit("a"));
    cluster.run_for(static_cast<int64_t>(seed) * 7);
    cluster.kill(cluster.leader());
    int64_t died = cluster.world().now_ns();
    while (cluster.leader() == 0) cluster.run_for(1);
    gaps_ms.push_back((cluster.world().now_ns() - died) / 1'000'000);
  }
  std::sort(gaps_ms.begin(), gaps_ms.end());
  EXPECT_LE(gaps_ms[gaps_ms.size() / 2], 200);
  EXPECT_LE(gaps_ms.back(), 1'000);
  std::cout << "median " << gaps_ms[gaps_ms.size() / 2] << " ms, longest " << gaps_ms.back() << " ms\n";
}

TEST(MetadataClusterFaults, TheSameSeedGivesTheSameTrace) {
  auto trace = [](uint64_t seed) {
    QuorumCluster cluster(3, seed);
    cluster.start_all();
    cluster.commit("a");
    cluster.power_cut(1);
    cluster.run_for(3'000);
    cluster.commit("b");
    return cluster.world().trace_hash();
  };
  EXPECT_EQ(trace(1), trace(1));
  EXPECT_NE(trace(1), trace(2));
}

}  // namespace
}  // namespace trilog
