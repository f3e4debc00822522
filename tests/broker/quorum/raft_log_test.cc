#include "broker/quorum/raft_log.h"

#include <gtest/gtest.h>

#include "tests/broker/quorum/raft_log_fixture.h"

namespace trilog {
namespace {

using testing::data_entry;
using testing::RaftDisk;

TEST(RaftLogTest, FormsWithTheSetOfVotersAndNothingElse) {
  RaftDisk disk;
  ASSERT_TRUE(disk.open().ok());
  EXPECT_FALSE(disk.log->voters().has_value());
  EXPECT_EQ(disk.log->end(), Offset(0));
  ASSERT_TRUE(disk.form().ok());
  EXPECT_EQ(disk.log->end(), Offset(1));
  EXPECT_EQ(disk.log->term_before(Offset(1)), Term(0));
  disk.power_cut(sim::CrashPolicy::lose_all());
  ASSERT_TRUE(disk.open().ok());
  // Two files and an entry that promise nothing yet: the node may form again, with the same voters.
  EXPECT_EQ(disk.log->end(), Offset(1));
  EXPECT_FALSE(disk.log->voters().has_value());
  ASSERT_TRUE(disk.form().ok());
  EXPECT_EQ(disk.log->end(), Offset(1));
}

TEST(RaftLogTest, AFormingThatWasBrokenOffIsNotContinuedForOthers) {
  RaftDisk disk;
  ASSERT_TRUE(disk.open().ok());
  ASSERT_TRUE(disk.form().ok());
  disk.kill();
  ASSERT_TRUE(disk.open().ok());
  disk.voters.cluster = ClusterId(7, 7);
  EXPECT_EQ(disk.form().code(), Errc::kInvalidArgument);
}

TEST(RaftLogTest, ShowsEntriesAtOnceAndKeepsThemOnceTheyAreDurable) {
  RaftDisk disk;
  disk.run();
  disk.begin_persist({.hard_state = RaftHardState{Term(3), BrokerId(1)},
                      .entries = {data_entry(1, 3, {"a", "b"}), data_entry(3, 3, {"c"})}});
  EXPECT_EQ(disk.log->end(), Offset(4));
  EXPECT_EQ(disk.log->term_before(Offset(4)), Term(3));
  EXPECT_EQ(disk.log->read(Offset(2), 1)->front().first, Offset(1));  // the entry that contains it
  disk.world.run_until_idle();
  EXPECT_TRUE(disk.persisted->ok());
  disk.power_cut(sim::CrashPolicy::lose_all());
  ASSERT_TRUE(disk.open().ok());
  EXPECT_EQ(disk.log->end(), Offset(4));
  EXPECT_EQ(disk.log->hard_state(), (RaftHardState{Term(3), BrokerId(1)}));
  EXPECT_EQ(disk.texts(), (std::vector<std::string>{"a", "b", "c"}));
}

TEST(RaftLogTest, AVoteAloneCostsTwoRoundsAndNoMark) {
  RaftDisk disk;
  disk.run();
  uint64_t before = disk.disk.calls(sim::DiskCall::kSync);
  ASSERT_TRUE(disk.persist({.hard_state = RaftHardState{Term(5), BrokerId(2)}}).ok());
  EXPECT_EQ(disk.disk.calls(sim::DiskCall::kSync) - before, 2u);
}

TEST(RaftLogTest, CutsAConflictingTailAndTakesTheNewEntries) {
  RaftDisk disk;
  disk.run();
  ASSERT_TRUE(disk.persist({.entries = {data_entry(1, 1, {"a"}), data_entry(2, 1, {"b", "c"})}}).ok());
  disk.begin_persist({.hard_state = RaftHardState{Term(2), kNoBroker},
                      .truncate_to = Offset(2),
                      .entries = {data_entry(2, 2, {"B"})}});
  // What Raft asks meanwhile is answered as if it were done.
  EXPECT_EQ(disk.log->end(), Offset(3));
  EXPECT_EQ(disk.log->term_before(Offset(3)), Term(2));
  EXPECT_EQ(disk.log->term_before(Offset(2)), Term(1));
  EXPECT_EQ(disk.log->read(Offset(2), 1)->front().term, Term(2));
  EXPECT_EQ(disk.log->read(Offset(1), 1)->back().end(), Offset(2));
  disk.world.run_until_idle();
  ASSERT_TRUE(disk.persisted->ok());
  EXPECT_EQ(disk.texts(), (std::vector<std::string>{"a", "B"}));
  disk.power_cut(sim::CrashPolicy::lose_all());
  ASSERT_TRUE(disk.open().ok());
  EXPECT_EQ(disk.texts(), (std::vector<std::string>{"a", "B"}));
}

TEST(RaftLogTest, ACrashWhileCuttingIsNeverTakenForDamage) {
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    RaftDisk disk(seed);
    disk.run();
    ASSERT_TRUE(disk.persist({.entries = {data_entry(1, 1, {"a"}), data_entry(2, 1, {"b"})}}).ok());
    disk.begin_persist({.truncate_to = Offset(2), .entries = {data_entry(2, 2, {"B"}), data_entry(3, 2, {"C"})}});
    for (uint64_t events = seed % 25; events > 0; --events) disk.world.run_one();
    bool done = disk.persisted.has_value();
    disk.power_cut();
    ASSERT_TRUE(disk.open().ok()) << disk.error.to_string();
    std::vector<std::string> texts = disk.texts();
    ASSERT_GE(texts.size(), 1u);
    EXPECT_EQ(texts[0], "a");
    if (done) {
      EXPECT_EQ(texts, (std::vector<std::string>{"a", "B", "C"}));
    } else if (texts.size() > 1) {
      EXPECT_TRUE(texts[1] == "b" || texts[1] == "B");
    }
  }
}

TEST(RaftLogTest, AnInstalledSnapshotReplacesTheWholeLog) {
  RaftDisk disk;
  disk.run();
  ASSERT_TRUE(disk.persist({.entries = {data_entry(1, 1, {"a"}), data_entry(2, 1, {"b"})}}).ok());
  RaftSnapshot snapshot{Offset(50), Term(4), disk.state("the state of fifty")};
  disk.begin_persist({.hard_state = RaftHardState{Term(4), kNoBroker},
                      .snapshot = snapshot,
                      .entries = {data_entry(50, 4, {"next"})}});
  EXPECT_EQ(disk.log->start(), Offset(50));
  EXPECT_EQ(disk.log->end(), Offset(51));
  EXPECT_EQ(disk.log->term_before(Offset(50)), Term(4));
  EXPECT_FALSE(disk.log->term_before(Offset(2)).has_value());
  disk.world.run_until_idle();
  ASSERT_TRUE(disk.persisted->ok());
  disk.power_cut(sim::CrashPolicy::lose_all());
  ASSERT_TRUE(disk.open().ok()) << disk.error.to_string();
  EXPECT_EQ(disk.log->start(), Offset(50));
  EXPECT_EQ(disk.texts(), std::vector<std::string>{"next"});
  ASSERT_TRUE(disk.log->start_snapshot().has_value());
  EXPECT_EQ(disk.log->start_snapshot()->end, Offset(50));
}

TEST(RaftLogTest, ACrashWhileInstallingLeavesTheOldLogOrTheSnapshot) {
  int installed = 0;
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    RaftDisk disk(seed);
    disk.run();
    ASSERT_TRUE(disk.persist({.entries = {data_entry(1, 1, {"a"}), data_entry(2, 1, {"b"})}}).ok());
    RaftSnapshot snapshot{Offset(50), Term(4), disk.state("the state of fifty")};
    disk.begin_persist({.snapshot = snapshot, .entries = {data_entry(50, 4, {"next"})}});
    for (uint64_t events = seed % 30; events > 0; --events) disk.world.run_one();
    bool done = disk.persisted.has_value();
    disk.power_cut();
    ASSERT_TRUE(disk.open().ok()) << disk.error.to_string();
    if (disk.log->start_snapshot()) {
      ++installed;
      EXPECT_EQ(disk.log->start_snapshot()->end, Offset(50));
      if (done) {
        EXPECT_EQ(disk.texts(), std::vector<std::string>{"next"});
      }
    } else {
      EXPECT_FALSE(done);
      EXPECT_EQ(disk.texts(), (std::vector<std::string>{"a", "b"}));
    }
  }
  EXPECT_GT(installed, 20);
  EXPECT_LT(installed, 150);
}

TEST(RaftLogTest, ATermInTheLogThatTheVoteFileDoesNotKnowIsNotAnError) {
  RaftDisk disk;
  disk.run();
  ASSERT_TRUE(disk.persist({.hard_state = RaftHardState{Term(1), BrokerId(1)}}).ok());
  ASSERT_TRUE(disk.persist({.entries = {data_entry(1, 6, {"a"})}}).ok());
  disk.power_cut();
  ASSERT_TRUE(disk.open().ok());
  RaftConfig config;
  config.self = disk.voters.voters[0];
  config.voters = disk.voters.voters;
  config.no_op = testing::no_op_batch();
  sim::SeededRandom random(1);
  Raft raft(config, disk.log->hard_state(), Offset(0), Offset(0), *disk.log, random);
  EXPECT_EQ(raft.term(), Term(6));
  EXPECT_EQ(raft.voted_for(), kNoBroker);
}

TEST(RaftLogTest, RefusesAnEntryThatIsNoBatch) {
  RaftDisk disk;
  disk.run();
  RaftEntry bad{Offset(1), 1, Term(1), SharedBytes(Bytes::copy_of("no batch at all"))};
  Status refused = disk.persist({.entries = {bad}});
  EXPECT_EQ(refused.code(), Errc::kCorruption);
}

// --- three nodes, each with a real log on a simulated disk ---------------------------------------------------------

TEST(RaftLogCluster, ThreeNodesOnRealLogsAgreeAfterCrashesAndLostMessages) {
  size_t applied = 0;
  size_t snapshots = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    testing::RaftDiskCluster cluster(seed);
    for (int i = 0; i < 2'000; ++i) ASSERT_NO_FATAL_FAILURE(cluster.random_step());
    ASSERT_NO_FATAL_FAILURE(cluster.heal());
    for (int id = 2; id <= 3; ++id) ASSERT_EQ(cluster.state(id), cluster.state(1)) << "node " << id;
    ASSERT_NE(cluster.state(1).find("healed"), std::string::npos);
    applied += cluster.state(1).size();
    snapshots += cluster.snapshots_installed();
  }
  EXPECT_GT(applied, 4'000u);
  EXPECT_GT(snapshots, 3u);
}

}  // namespace
}  // namespace trilog
