// Random worlds of Raft nodes: messages lost, late and repeated, links cut, nodes crashed with half a write. Every
// promise is checked after every step (RaftCluster::check), and at the end the cluster must come together again.
#include <gtest/gtest.h>

#include "tests/broker/quorum/raft_cluster.h"

namespace trilog {
namespace {

using testing::RaftCluster;

constexpr int64_t kMs = 1'000'000;

// --------------------------------------

class RandomWorld {
 public:
  RandomWorld(int size, uint64_t seed) : random_(seed), cluster_(size, seed + 1) {}

  void step() {
    int id = 1 + static_cast<int>(random_.below(static_cast<uint64_t>(cluster_.size())));
    switch (random_.below(16)) {
      case 0: cluster_.advance(static_cast<int64_t>(random_.below(150)) * kMs); break;
      case 1: cluster_.tick(id); break;
      case 2: propose(id); break;
      case 3: drop_or_repeat(); break;
      case 4: toggle_node(id); break;
      case 5: toggle_link(id); break;
      case 6:
        if (random_.chance(10) && up(id)) cluster_.compact(id);
        break;
      case 7:
        if (up(id) && random_.chance(5)) cluster_.raft(id).transfer_leadership(BrokerId(1), cluster_.now_ns());
        if (up(id)) cluster_.run_ready(id);
        break;
      case 8:
      case 9: cluster_.complete_persist(id); break;
      default: deliver_any(); break;
    }
  }

  // Everything works again: the cluster must agree soon, and take a proposal.
  void heal() {
    cluster_.heal();
    cluster_.auto_sync = true;
    for (int id = 1; id <= cluster_.size(); ++id) {
      if (!up(id)) cluster_.restart(id);
      cluster_.complete_persist(id);
      cluster_.run_ready(id);
    }
    for (int i = 0; i < 400; ++i) {
      cluster_.advance(20 * kMs);
      for (int id = 1; id <= cluster_.size(); ++id) cluster_.tick(id);
      cluster_.deliver_all();
      if (cluster_.leader() != 0 && i % 100 == 50) cluster_.propose(cluster_.leader(), "healed");
    }
  }
  RaftCluster& cluster() { return cluster_; }
  void set_auto_sync(bool on) { cluster_.auto_sync = on; }

 private:
  bool up(int id) { return cluster_.node(id).raft != nullptr; }
  void propose(int id) {
    if (up(id)) cluster_.propose(id, "p" + std::to_string(counter_++));
  }
  void drop_or_repeat() {
    auto& messages = cluster_.messages();
    if (messages.empty()) return;
    size_t at = random_.below(messages.size());
    if (random_.chance(50)) {
      messages.erase(messages.begin() + static_cast<std::ptrdiff_t>(at));
    } else if (messages.size() < 200) {
      messages.push_back(messages[at]);
    }
  }
  void toggle_node(int id) {
    if (!random_.chance(8)) return;
    if (up(id)) {
      cluster_.crash(id, random_.chance(50), random_.below(3));
    } else {
      cluster_.restart(id);
    }
  }
  void toggle_link(int id) {
    if (random_.chance(10)) {
      cluster_.heal();
    } else if (random_.chance(5)) {
      cluster_.isolate(id);
    } else if (random_.chance(10)) {
      cluster_.cut_one_way(id, 1 + static_cast<int>(random_.below(static_cast<uint64_t>(cluster_.size()))));
    }
  }
  void deliver_any() {
    auto& messages = cluster_.messages();
    if (messages.empty()) return;
    size_t at = random_.chance(70) ? 0 : random_.below(messages.size());
    RaftMessage message = std::move(messages[at]);
    messages.erase(messages.begin() + static_cast<std::ptrdiff_t>(at));
    cluster_.deliver(message);
  }

  sim::SeededRandom random_;
  RaftCluster cluster_;
  int counter_ = 0;
};

void run_random_worlds(int size, uint64_t first_seed, int worlds) {
  size_t applied = 0;
  for (uint64_t seed = first_seed; seed < first_seed + static_cast<uint64_t>(worlds); ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    RandomWorld world(size, seed);
    world.set_auto_sync(seed % 3 == 0);
    for (int i = 0; i < 1500; ++i) world.step();
    world.heal();
    ASSERT_NE(world.cluster().leader(), 0);
    for (int id = 1; id <= size; ++id) {
      ASSERT_EQ(world.cluster().node(id).state, world.cluster().node(1).state) << "node " << id;
    }
    ASSERT_NE(world.cluster().node(1).state.find("healed"), std::string::npos);
    applied += world.cluster().node(1).state.size();
  }
  EXPECT_GT(applied, static_cast<size_t>(worlds) * 100);
}

TEST(RaftRandomWorlds, ThreeNodesKeepEveryPromiseAndAgreeAfterHealing) { run_random_worlds(3, 1, 50); }
TEST(RaftRandomWorlds, FiveNodesKeepEveryPromiseAndAgreeAfterHealing) { run_random_worlds(5, 1000, 15); }
TEST(RaftRandomWorlds, OneNodeKeepsEveryPromiseAcrossCrashes) { run_random_worlds(1, 2000, 30); }

}  // namespace
}  // namespace trilog
