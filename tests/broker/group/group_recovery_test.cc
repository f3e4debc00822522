// Committed offsets through crashes, a lost or damaged store, failing disks, and the rewriting of the log (G1, G3, G7,
// X13).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/broker/group/group_node.h"

namespace trilog {
namespace {

using api::ErrorCode;
using api::Outcome;
using testing::GroupNode;

TEST(GroupRecovery, CommitsSurviveEveryKindOfEnd) {
  GroupNode node;
  node.fill(100);
  node.must_commit("billing", {GroupNode::at(0, 10)});
  node.restart();
  EXPECT_EQ(node.committed("billing", 0), 10);
  node.must_commit("billing", {GroupNode::at(0, 20)});
  node.kill_node();
  node.start_node();
  EXPECT_EQ(node.committed("billing", 0), 20);
  node.must_commit("billing", {GroupNode::at(0, 30)});
  node.cut_power();
  node.start_node();
  EXPECT_EQ(node.committed("billing", 0), 30);
}

TEST(GroupRecovery, AnEmptyOrLostStoreIsRebuiltToTheSame) {
  GroupNode node;
  node.fill(100);
  for (int i = 0; i < 50; ++i) {
    node.must_commit("g" + std::to_string(i % 7), {GroupNode::at(i % 3, i), GroupNode::at((i + 1) % 3, i)});
  }
  EXPECT_TRUE(node.remove_group("g3").ok());
  std::map<std::string, std::string, std::less<>> before = node.medium->entries();
  node.kill_node();
  node.medium = std::make_shared<MemoryStateMedium>();
  node.start_node();
  node.list();
  EXPECT_EQ(node.medium->entries(), before);
}

TEST(GroupRecovery, AGarbledStoreIsRebuiltToTheSame) {
  GroupNode node(1, 1);
  node.fill(100);
  for (int i = 0; i < 20; ++i) node.must_commit("g" + std::to_string(i % 4), {GroupNode::at(i % 3, i)});
  const std::map<std::string, std::string, std::less<>> before = node.medium->entries();
  // Every entry in turn, the position among them: while the node is down, and while it runs.
  for (const auto& [key, value] : before) {
    for (bool running : {false, true}) {
      if (!running) {
        node.kill_node();
        node.store = std::make_unique<MemoryStateStore>(node.medium);
      }
      StateBatch garbage;
      garbage.put(as_bytes(key), as_bytes("\xff garbage"));
      ASSERT_TRUE(node.store->write(garbage, StateSync::kNow).ok());
      if (!running) {
        node.store.reset();
        node.start_node();
      }
      for (int g = 0; g < 4; ++g) {
        auto found = node.fetch("g" + std::to_string(g));
        ASSERT_TRUE(found.ok()) << found.error().message;
        EXPECT_EQ(found->size(), 3u);
      }
      node.must_commit("g0", {GroupNode::at(0, 16)});
      node.list();
    }
  }
  auto value_of = [](const auto& entries, const std::string& key) { return entries.find(key)->second; };
  EXPECT_EQ(node.medium->entries().size(), before.size());
  for (const auto& [key, value] : before) {
    if (key.find("g0") == std::string::npos && key.size() > 10) {
      EXPECT_EQ(value_of(node.medium->entries(), key), value);
    }
  }
}

TEST(GroupRecovery, AStoreAheadOfTheLogIsNotBelieved) {
  GroupNode node(1, 1);
  node.fill(100);
  node.must_commit("billing", {GroupNode::at(0, 10)});
  node.kill_node();
  // The log of another life: the store knows a commit that this log never saw.
  GroupNode other(2, 1);
  other.fill(100);
  other.must_commit("billing", {GroupNode::at(0, 5)});
  other.must_commit("billing", {GroupNode::at(0, 50)});
  other.must_commit("billing", {GroupNode::at(0, 60)});
  other.kill_node();
  node.medium = other.medium;
  node.start_node();
  EXPECT_EQ(node.committed("billing", 0), 10);
}

TEST(GroupRecovery, AStoreOfAnotherEpochIsNotBelieved) {
  GroupNode node(1, 1);
  node.fill(100);
  node.change({testing::ReplicaNode::partition_record(node.offsets.topic, 0, {}, 5)});
  node.must_commit("billing", {GroupNode::at(0, 10)});
  node.kill_node();
  GroupNode other(2, 1);
  other.fill(100);
  other.must_commit("billing", {GroupNode::at(0, 99)});  // the same place in the log, in epoch 0
  other.kill_node();
  node.medium = other.medium;
  node.start_node();
  EXPECT_EQ(node.committed("billing", 0), 10);
}

TEST(GroupRecovery, AStoreThatCannotBeOpenedIsSaidAndTriedAgain) {
  GroupNode node;
  node.fill(10);
  node.open_status = Status(Errc::kIo, "the folder is gone");
  auto failed = node.commit("billing", {GroupNode::at(0, 1)});
  EXPECT_EQ(failed.error().code, ErrorCode::kStorageError);
  EXPECT_EQ(failed.error().outcome, Outcome::kNotWritten);
  EXPECT_EQ(node.fetch("billing").error().code, ErrorCode::kStorageError);
  node.open_status = {};
  node.run_for_ms(1001);
  EXPECT_TRUE(node.commit("billing", {GroupNode::at(0, 1)}).ok());
}

TEST(GroupRecovery, ACommittedOffsetCountsAlthoughTheStoreFails) {
  GroupNode node;
  node.fill(10);
  node.must_commit("billing", {GroupNode::at(0, 1)});
  node.medium->set_write_status(Status(Errc::kDiskFull, "no space"));
  EXPECT_TRUE(node.commit("billing", {GroupNode::at(0, 2)}).ok()) << "it is in the log";
  EXPECT_FALSE(node.fetch("billing").ok()) << "rather no answer than an old one (X13)";
  node.medium->set_write_status({});
  node.run_for_ms(1001);
  EXPECT_EQ(node.committed("billing", 0), 2);
}

TEST(GroupRecovery, AFailedAppendIsUnknownAndTheLogDecides) {
  GroupNode node(1, 1);
  node.fill(10);
  node.must_commit("billing", {GroupNode::at(0, 1)});
  std::string folder = node.logs->path_of(node.offsets);
  node.disk.add_fault({.call = sim::DiskCall::kWrite, .path_part = folder, .first = 1});
  auto failed = node.commit("billing", {GroupNode::at(0, 2)});
  EXPECT_EQ(failed.error().code, ErrorCode::kStorageError);
  EXPECT_EQ(failed.error().outcome, Outcome::kUnknown);
  EXPECT_EQ(node.committed("billing", 0), 1);
  EXPECT_TRUE(node.commit("billing", {GroupNode::at(0, 3)}).ok());
  EXPECT_EQ(node.committed("billing", 0), 3);
}

TEST(GroupRecovery, ADamagedLogIsNotReadAround) {
  GroupNode node(1, 1);
  node.fill(10);
  for (int i = 0; i < 5; ++i) node.must_commit("billing", {GroupNode::at(0, i)});
  node.run_for_ms(node.options.mark_interval_ms + 10);
  node.kill_node();
  node.medium = std::make_shared<MemoryStateMedium>();
  node.checking = false;
  node.disk.flip_bit("node/topics/" + node.offsets.topic.to_string() + "/0/00000000000000000000.log", 8 * 100);
  node.start_node();
  auto failed = node.fetch("billing");
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code, ErrorCode::kDataDamaged) << "G1: any load error aborts the load";
}

TEST(GroupRecovery, CommitsGoOnWhenTheDiskRefusesRecords) {
  GroupNode node;
  node.fill(10);
  node.disk.set_capacity(node.disk.bytes_used() + (3u << 20));
  node.run_for_ms(1500);
  auto refused = node.append({node.image->find_topic("orders")->id, PartitionId(0)}, testing::make_filled_batch(1, 1));
  EXPECT_EQ(testing::error_of(refused), ErrorCode::kDiskFull);
  EXPECT_TRUE(node.commit("billing", {GroupNode::at(0, 1)}).ok());
}

TEST(GroupRecovery, TheLogOfOffsetsStaysSmallAndNothingIsLost) {
  GroupNode node(1, 1);
  node.kill_node();
  node.group_options.offsets_segment_bytes = 1u << 20;  // as the topic's segments
  node.start_node();
  node.fill(1000);
  std::map<std::string, int64_t> expected;
  std::string filler(2000, 'm');
  for (int i = 0; i < 5000; ++i) {
    std::string group = "g" + std::to_string(i % 50);
    api::CommittedOffset offset = GroupNode::at(0, i % 1000);
    offset.metadata = filler;
    node.begin_commit({.group = group, .offsets = {offset}});
    expected[group] = i % 1000;
    if (i % 50 == 0) node.world.run_until_idle();
  }
  node.settle();
  node.run_for_ms(node.options.retention_check_ms * 2);
  PartitionEnds ends = node.ends(node.offsets);
  EXPECT_GT(ends.start, Offset(0));
  EXPECT_LT(ends.size_bytes, 6u << 20) << "11 MiB were written";
  for (bool rebuilt : {false, true}) {
    for (const auto& [group, offset] : expected) EXPECT_EQ(node.committed(group, 0), offset) << group;
    if (rebuilt) break;
    node.cut_power();
    node.medium = std::make_shared<MemoryStateMedium>();
    node.start_node();
  }
}

// Random commits, deletes, restarts and power cuts: what was acknowledged is never lost and never goes back (X13).
class CommitRun {
 public:
  explicit CommitRun(uint64_t seed) : node_(seed, 2), random_(seed * 17 + 3) {
    node_.kill_node();
    node_.group_options.offsets_segment_bytes = 256u << 10;
    node_.start_node();
    node_.fill(10'000);
  }
  void run() {
    for (int round = 0; round < 6 && !::testing::Test::HasFailure(); ++round) {
      work();
      crash();
      verify();
    }
    EXPECT_GT(acknowledged_, 0);
  }

 private:
  struct Entry {
    int64_t acknowledged = -1;
    int64_t newest_sent = -1;
  };
  void work() {
    for (int step = 0; step < 150; ++step) {
      const std::string group = "g" + std::to_string(random_.below(9));
      const auto partition = static_cast<int32_t>(random_.below(3));
      Entry& entry = entries_[{group, partition}];
      const int64_t offset = ++entry.newest_sent;
      api::CommittedOffset commit = GroupNode::at(partition, offset);
      commit.metadata = std::string(random_.below(4000), 'm');
      node_.groups->commit_offsets({.group = group, .offsets = {commit}},
                                   [this, group, partition, offset](api::Answer<GroupNode::Offsets> answer) {
                                     if (!answer.ok()) return;
                                     Entry& of = entries_[{group, partition}];
                                     of.acknowledged = std::max(of.acknowledged, offset);
                                     ++acknowledged_;
                                   });
      if (random_.chance(30)) node_.world.run_for(static_cast<int64_t>(random_.below(600'000)));
      if (random_.chance(5)) {
        node_.settle();
        node_.groups->check_invariants();
        verify();
      }
    }
  }
  void crash() {
    if (random_.chance(25)) return node_.restart();
    if (random_.chance(30)) {
      node_.kill_node();
    } else {
      node_.cut_power({static_cast<uint32_t>(random_.below(101)), 50});
    }
    if (random_.chance(20)) node_.medium = std::make_shared<MemoryStateMedium>();
    node_.start_node();
  }
  void verify() {
    node_.check();
    node_.checking = false;  // reads every log as a whole: once is enough here
    for (auto& [key, entry] : entries_) {
      const int64_t found = node_.committed(key.first, key.second);
      EXPECT_GE(found, entry.acknowledged) << key.first << "/" << key.second;
      EXPECT_LE(found, entry.newest_sent);
      // Seen means committed: it must not go back either.
      entry.acknowledged = std::max(entry.acknowledged, found);
      entry.newest_sent = std::max(entry.newest_sent, found);
    }
    node_.checking = true;
  }

  GroupNode node_;
  sim::SeededRandom random_;
  std::map<std::pair<std::string, int32_t>, Entry> entries_;
  int acknowledged_ = 0;
};

TEST(GroupRecovery, CommittedOffsetsNeverGoBackThroughCrashes) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    CommitRun(seed).run();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace trilog
