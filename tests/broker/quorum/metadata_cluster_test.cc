// Three metadata logs on a simulated network and simulated disks: forming, electing, losing and getting back.
#include <gtest/gtest.h>

#include "tests/broker/quorum/quorum_cluster.h"

namespace trilog {
namespace {

using testing::QuorumCluster;

// --- forming (Q8) --------------------------------------------------------------------------------------------------

TEST(MetadataCluster, FormsOnceWhenEveryVoterSaysThatItIsEmpty) {
  QuorumCluster cluster(3);
  cluster.start_all();
  ASSERT_NE(cluster.wait_for_leader(3'000), 0);
  for (int id = 1; id <= 3; ++id) {
    EXPECT_EQ(cluster.directories(id), "1:1,2:2,3:3");
    EXPECT_EQ(cluster.log(id).trouble(), "");
  }
  EXPECT_TRUE(cluster.commit("a"));
  EXPECT_TRUE(cluster.wait_until_equal());
}

TEST(MetadataCluster, AJustFormedSetElectsItsFirstVoterWithoutWaitingForATimeout) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    QuorumCluster cluster(3, seed);
    cluster.start_all();
    EXPECT_EQ(cluster.wait_for_leader(300), 1) << "seed " << seed;
  }
}

TEST(MetadataCluster, WithoutOneOfItsVotersNothingIsFormed) {
  QuorumCluster cluster(3);
  ASSERT_TRUE(cluster.start(1) && cluster.start(2));
  cluster.run_for(20'000);
  for (int id : {1, 2}) {
    EXPECT_EQ(cluster.log(id).term(), Term(0));
    EXPECT_EQ(cluster.log(id).leader(), kNoBroker);
    EXPECT_NE(cluster.log(id).trouble().find("waits for all"), std::string::npos);
    EXPECT_TRUE(cluster.files(id, "/data/metadata/vote").empty());
  }
  ASSERT_TRUE(cluster.start(3));
  EXPECT_NE(cluster.wait_for_leader(3'000), 0);
}

TEST(MetadataCluster, ANodeThatIsWaitingStopsCleanly) {
  QuorumCluster cluster(3);
  ASSERT_TRUE(cluster.start(1));
  cluster.run_for(100);
  cluster.close(1);
  cluster.lose_metadata(1);
  ASSERT_TRUE(cluster.start(1));
  cluster.run_for(100);
  cluster.close(1);
}

TEST(MetadataCluster, NobodyVotesBeforeTheSetIsOnEveryDisk) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    QuorumCluster cluster(3, seed);
    cluster.node(3).disk->hold_syncs(true);
    cluster.start_all();
    cluster.run_for(5'000);
    for (int id = 1; id <= 3; ++id) EXPECT_EQ(cluster.log(id).term(), Term(0));
    cluster.node(3).disk->hold_syncs(false);
    EXPECT_NE(cluster.wait_for_leader(3'000), 0) << "seed " << seed;
  }
}

TEST(MetadataCluster, FormingGoesOnAfterCrashesAtAnyPoint) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    QuorumCluster cluster(3, seed);
    sim::SeededRandom random(seed);
    cluster.start_all();
    for (int i = 0; i < 4; ++i) {
      for (uint64_t events = random.below(60); events > 0; --events) cluster.world().run_one();
      int id = 1 + static_cast<int>(random.below(3));
      if (!cluster.up(id)) continue;
      random.chance(50) ? cluster.power_cut(id) : cluster.kill(id);
      ASSERT_TRUE(cluster.start(id)) << cluster.node(id).error.to_string();
    }
    ASSERT_NE(cluster.wait_for_leader(15'000), 0);
    ASSERT_TRUE(cluster.commit("formed"));
    ASSERT_TRUE(cluster.wait_until_equal());
    for (int id = 1; id <= 3; ++id) EXPECT_EQ(cluster.directories(id), "1:1,2:2,3:3");
  }
}

TEST(MetadataCluster, WithASetWrittenBeforehandAMajorityIsEnoughToBegin) {
  QuorumCluster cluster(3);
  std::vector<Voter> voters;
  for (int id = 1; id <= 3; ++id) voters.push_back({BrokerId(id), cluster.node(id).directory});
  for (int id = 1; id <= 3; ++id) {
    auto env = cluster.world().make_env(*cluster.node(id).disk, "up");
    ASSERT_TRUE(MetadataLog::write_voters(*env, cluster.config.directory, cluster.config.cluster, voters).ok());
  }
  ASSERT_TRUE(cluster.start(1) && cluster.start(2));
  EXPECT_NE(cluster.wait_for_leader(3'000), 0);
  EXPECT_TRUE(cluster.commit("two are enough"));
  ASSERT_TRUE(cluster.start(3));
  EXPECT_TRUE(cluster.wait_until_equal());
  EXPECT_TRUE(cluster.files(3, "/data/metadata/voters").empty());
  cluster.power_cut_all();
  cluster.start_all();
  EXPECT_NE(cluster.wait_for_leader(), 0);
}

TEST(MetadataCluster, EmptyFoldersAgreeOnTheirClusterAndKeepIt) {
  QuorumCluster cluster(3);
  cluster.own_clusters = true;
  cluster.start_all();
  ASSERT_NE(cluster.wait_for_leader(), 0);
  ASSERT_TRUE(cluster.commit("a"));
  const ClusterId agreed = cluster.node(1).cluster;
  EXPECT_EQ(cluster.node(2).cluster, agreed);
  EXPECT_EQ(cluster.node(3).cluster, agreed);
  cluster.power_cut_all();
  cluster.start_all();
  ASSERT_TRUE(cluster.commit("b"));
  EXPECT_TRUE(cluster.wait_until_equal());
}

TEST(MetadataCluster, ANewDiskComesToTheClusterOfTheOthers) {
  QuorumCluster cluster(3);
  cluster.own_clusters = true;
  cluster.start_all();
  ASSERT_TRUE(cluster.commit("a"));
  for (int wiped : {cluster.leader(), 1, 2, 3}) {
    cluster.kill(wiped);
    ASSERT_TRUE(cluster.commit("without " + std::to_string(wiped)));
    cluster.new_disk(wiped);
    ASSERT_TRUE(cluster.start(wiped));
    ASSERT_TRUE(cluster.commit("again with " + std::to_string(wiped)));
    cluster.run_for(5'000);
    EXPECT_EQ(cluster.node(wiped).cluster, cluster.node(wiped % 3 + 1).cluster);
    EXPECT_EQ(cluster.log(wiped).trouble(), "");
    EXPECT_TRUE(cluster.wait_until_equal());
  }
}

TEST(MetadataCluster, AFolderPreparedForAnotherDiskIsRefused) {
  QuorumCluster cluster(3);
  auto env = cluster.world().make_env(*cluster.node(1).disk, "up");
  std::vector<Voter> voters{{BrokerId(1), DirectoryId(9, 9)}, {BrokerId(2), DirectoryId(9, 8)}};
  ASSERT_TRUE(MetadataLog::write_voters(*env, cluster.config.directory, cluster.config.cluster, voters).ok());
  EXPECT_FALSE(cluster.start(1));
  EXPECT_EQ(cluster.node(1).error.code(), Errc::kInvalidArgument);
}

// --- leading -------------------------------------------------------------------------------------------------------

class RunningCluster : public ::testing::Test {
 protected:
  void SetUp() override { start(); }
  void start() {
    cluster.start_all();
    leader = cluster.wait_for_leader();
    ASSERT_NE(leader, 0);
    follower = leader % 3 + 1;
    other = follower % 3 + 1;
    ASSERT_TRUE(cluster.commit("first"));
    ASSERT_TRUE(cluster.wait_until_equal());
    for (int id = 1; id <= 3; ++id) cluster.node(id).was_member = true;
  }
  void new_leader() {
    leader = cluster.wait_for_leader();
    ASSERT_NE(leader, 0);
  }
  QuorumCluster cluster{3, 5};
  int leader = 0;
  int follower = 0;
  int other = 0;
};

TEST_F(RunningCluster, EveryNodeAppliesWhatIsCommitted) {
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(cluster.propose(std::to_string(i)));
  cluster.run_for(500);
  EXPECT_TRUE(cluster.wait_until_equal());
  EXPECT_EQ(cluster.promised.size(), 51u);
  EXPECT_NE(cluster.node(other).state.find("=49;"), std::string::npos);
}

TEST_F(RunningCluster, AFollowerTakesNoProposals) {
  int answered = cluster.answered;
  ASSERT_TRUE(cluster.propose_on(follower, "not here"));
  cluster.run_for(100);
  EXPECT_EQ(cluster.answered, answered + 1);
  EXPECT_EQ(cluster.promised.size(), 1u);
}

TEST_F(RunningCluster, IdleLeadershipIsStable) {
  Term term = cluster.log(leader).term();
  cluster.run_for(120'000);
  EXPECT_EQ(cluster.leader(), leader);
  EXPECT_EQ(cluster.log(leader).term(), term);
}

TEST_F(RunningCluster, ADeadLeaderIsReplacedWithinASecondAndNothingPromisedIsLost) {
  cluster.kill(leader);
  int64_t died = cluster.world().now_ns();
  int before = leader;
  new_leader();
  EXPECT_LE(cluster.world().now_ns() - died, 1'000'000'000);
  EXPECT_NE(leader, before);
  EXPECT_TRUE(cluster.commit("after"));
  ASSERT_TRUE(cluster.start(before));
  EXPECT_TRUE(cluster.wait_until_equal());
}

TEST_F(RunningCluster, ALeaderThatLosesPowerIsReplacedAfterTheElectionTimeout) {
  cluster.power_cut(leader);
  new_leader();
  EXPECT_TRUE(cluster.commit("after"));
}

TEST_F(RunningCluster, APowerCutOfAllLosesNothingThatWasPromised) {
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(cluster.propose(std::to_string(i)));
  cluster.run_for(3);
  cluster.power_cut_all();
  cluster.start_all();
  ASSERT_NE(cluster.wait_for_leader(), 0);
  EXPECT_TRUE(cluster.wait_until_equal());
}

TEST_F(RunningCluster, ALeaderCutOffStepsDownAndItsProposalsComeToNothing) {
  cluster.network().isolate(BrokerId(leader));
  size_t promised = cluster.promised.size();
  ASSERT_TRUE(cluster.propose_on(leader, "nobody hears this"));
  cluster.run_for(2'500);
  EXPECT_FALSE(cluster.log(leader).leading());
  EXPECT_EQ(cluster.promised.size(), promised);
  EXPECT_EQ(cluster.answered, cluster.asked);
  EXPECT_TRUE(cluster.commit("the others go on"));
  cluster.network().heal();
  EXPECT_TRUE(cluster.wait_until_equal());
  EXPECT_EQ(cluster.node(leader).state.find("nobody hears this"), std::string::npos);
}

TEST_F(RunningCluster, AOneWayCutOfTheLeaderDoesNotStopTheOthersForLong) {
  for (int id = 1; id <= 3; ++id) {
    if (id != leader) cluster.network().cut_one_way(BrokerId(leader), BrokerId(id));
  }
  cluster.run_for(4'000);
  EXPECT_TRUE(cluster.commit("the others go on"));
  cluster.network().heal();
  EXPECT_TRUE(cluster.wait_until_equal());
}

TEST_F(RunningCluster, APausedLeaderIsReplacedAndFollowsWhenItGoesOn) {
  cluster.network().pause(BrokerId(leader));
  cluster.run_for(3'000);
  int paused = leader;
  ASSERT_NE(cluster.leader(), 0);
  for (int id = 1; id <= 3; ++id) {
    if (id != paused && cluster.log(id).leading()) leader = id;
  }
  EXPECT_NE(leader, paused);
  ASSERT_TRUE(cluster.propose_on(leader, "meanwhile"));
  cluster.run_for(500);
  cluster.network().resume(BrokerId(paused));
  EXPECT_TRUE(cluster.wait_until_equal());
  EXPECT_EQ(cluster.leader(), leader);
}

TEST_F(RunningCluster, ABridgeKeepsOneLeader) {
  cluster.network().bridge(BrokerId(follower));
  cluster.run_for(5'000);
  EXPECT_TRUE(cluster.commit("over the bridge"));
  Term term = cluster.log(cluster.leader()).term();
  cluster.run_for(30'000);
  EXPECT_EQ(cluster.log(cluster.leader()).term(), term);  // pre-votes: the cut one does not raise terms
}

TEST_F(RunningCluster, ASlowNodeHoldsNobodyUp) {
  for (int id = 1; id <= 3; ++id) {
    if (id != other) cluster.network().slow(BrokerId(id), BrokerId(other), 300'000'000);
  }
  cluster.node(other).disk->set_sync_delay(100'000'000, 200'000'000);
  Term term = cluster.log(leader).term();
  int64_t begun = cluster.world().now_ns();
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(cluster.commit(std::to_string(i)));
  EXPECT_LT(cluster.world().now_ns() - begun, 600'000'000);
  cluster.run_for(10'000);
  EXPECT_EQ(cluster.log(leader).term(), term);
  cluster.network().heal();
  EXPECT_TRUE(cluster.wait_until_equal());
}

TEST_F(RunningCluster, ACleanStopOfTheLeaderHandsOverWithoutAnElectionTimeout) {
  int before = leader;
  int64_t begun = cluster.world().now_ns();
  cluster.close(leader);
  new_leader();
  EXPECT_NE(leader, before);
  EXPECT_LE(cluster.world().now_ns() - begun, 50'000'000);
  EXPECT_TRUE(cluster.commit("goes on"));
}

TEST_F(RunningCluster, AReadIsConfirmedByAMajority) {
  std::optional<Result<Offset>> read;
  cluster.log(leader).read_index(false, [&](Result<Offset> at) { read = std::move(at); });
  EXPECT_FALSE(read.has_value());
  cluster.run_for(20);
  ASSERT_TRUE(read && read->ok());
  EXPECT_GE(**read, cluster.node(leader).next);
  read.reset();
  cluster.log(follower).read_index(false, [&](Result<Offset> at) { read = std::move(at); });
  cluster.run_for(20);
  ASSERT_TRUE(read.has_value());
  EXPECT_FALSE(read->ok());
}

TEST_F(RunningCluster, APatientReadIsConfirmedByTheNextHeartbeatAndSendsNothingOfItsOwn) {
  auto frames_in = [&](int64_t ms) {
    const uint64_t before = cluster.network().counts().frames;
    cluster.run_for(ms);
    return cluster.network().counts().frames - before;
  };
  const uint64_t idle = frames_in(1'000);
  int confirmed = 0;
  for (int i = 0; i < 10; ++i) {
    cluster.log(leader).read_index(true, [&](Result<Offset> at) { confirmed += at.ok() ? 1 : 0; });
  }
  EXPECT_EQ(frames_in(1'000), idle);
  EXPECT_EQ(confirmed, 10);
}

TEST_F(RunningCluster, ALeaderThatWasReplacedUnawaresConfirmsNoRead) {
  cluster.network().isolate(BrokerId(leader));
  cluster.run_for(100);
  ASSERT_TRUE(cluster.log(leader).leading());  // it does not know yet
  std::optional<Result<Offset>> read;
  cluster.log(leader).read_index(false, [&](Result<Offset> at) { read = std::move(at); });
  cluster.run_for(300);
  EXPECT_FALSE(read.has_value());
  cluster.run_for(2'000);
  ASSERT_TRUE(read.has_value());
  EXPECT_FALSE(read->ok());
}

// --- snapshots -----------------------------------------------------------------------------------------------------

class ClusterWithSnapshots : public RunningCluster {
 protected:
  void SetUp() override {
    cluster.config.snapshot_bytes = 60'000;
    start();
  }
  void fill(int records) {
    for (int i = 0; i < records; ++i) {
      ASSERT_TRUE(cluster.propose(std::string(9'000, static_cast<char>('a' + i % 26))));
      cluster.run_for(3);
    }
  }
};

TEST_F(ClusterWithSnapshots, ANodeThatWasAwayTooLongGetsASnapshotInChunks) {
  cluster.kill(follower);
  fill(300);  // the state is ten chunks long
  ASSERT_TRUE(cluster.start(follower));
  ASSERT_TRUE(cluster.wait_until_equal());
  EXPECT_GE(cluster.node(follower).snapshots, 1);
  EXPECT_TRUE(cluster.commit("and goes on"));
  EXPECT_TRUE(cluster.wait_until_equal());
  cluster.power_cut(follower);
  ASSERT_TRUE(cluster.start(follower)) << cluster.node(follower).error.to_string();
  EXPECT_TRUE(cluster.wait_until_equal());
}

TEST_F(ClusterWithSnapshots, ASnapshotWhoseConnectionBreaksIsBegunAgain) {
  cluster.kill(follower);
  fill(200);
  ASSERT_TRUE(cluster.start(follower));
  for (int i = 0; i < 10; ++i) {
    cluster.run_for(7);
    cluster.network().reset(BrokerId(leader), BrokerId(follower));
  }
  ASSERT_TRUE(cluster.wait_until_equal());
  EXPECT_GE(cluster.node(follower).snapshots, 1);
}

// --- lost and damaged folders (Q8, Q9, Q11) ------------------------------------------------------------------------

TEST_F(RunningCluster, ANewDiskTakesThePlaceOfALostOneOnceItHasCaughtUp) {
  cluster.kill(other);
  cluster.new_disk(other);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(cluster.commit(std::to_string(i)));
  ASSERT_TRUE(cluster.start(other));
  EXPECT_TRUE(cluster.wait_until_equal());
  cluster.run_for(1'000);
  EXPECT_EQ(cluster.log(other).trouble(), "");
  std::string expected;
  for (int id = 1; id <= 3; ++id) {
    expected += (id == 1 ? "" : ",") + std::to_string(id) + ":" + std::to_string(id == other ? 4 : id);
  }
  for (int id = 1; id <= 3; ++id) EXPECT_EQ(cluster.directories(id), expected);
  // It is a voter like any other: the cluster lives without the node that led so far, and after a power cut.
  cluster.kill(leader);
  new_leader();
  EXPECT_TRUE(cluster.commit("with the new one"));
  cluster.power_cut_all();
  cluster.start_all();
  EXPECT_TRUE(cluster.wait_until_equal());
}

TEST_F(RunningCluster, AWipedNodeNeitherVotesNorLeadsBeforeItHasCaughtUp) {
  cluster.kill(other);
  cluster.lose_metadata(other);
  cluster.kill(follower);
  ASSERT_TRUE(cluster.start(other));
  // The leader alone and the wiped one are no majority, in this term or a later one.
  cluster.run_for(10'000);
  EXPECT_EQ(cluster.leader(), 0);
  EXPECT_FALSE(cluster.log(other).trouble().empty());
  EXPECT_EQ(cluster.log(other).committed(), Offset(0));
  ASSERT_TRUE(cluster.start(follower));
  ASSERT_NE(cluster.wait_for_leader(), 0);
  EXPECT_TRUE(cluster.wait_until_equal());
  cluster.run_for(1'000);
  EXPECT_EQ(cluster.log(other).trouble(), "");
}

TEST_F(RunningCluster, ALostVoterLeavesBeforeItsSuccessorComes) {
  cluster.kill(other);
  cluster.new_disk(other);
  ASSERT_TRUE(cluster.start(other));
  QuorumCluster* all = &cluster;
  int led = leader;
  EXPECT_TRUE(cluster.world().run_until([all, led] { return all->log(led).voters().size() == 2; }));
  Offset first = cluster.log(leader).committed();
  EXPECT_TRUE(cluster.world().run_until([all, led] { return all->log(led).voters().size() == 3; }));
  EXPECT_GT(cluster.log(leader).committed(), first);  // the first of the two is committed before the second is made
}

TEST_F(RunningCluster, ALeaderDoesNotReplaceAVoterWhileAnotherIsAway) {
  cluster.kill(other);
  cluster.new_disk(other);
  ASSERT_TRUE(cluster.start(other));
  cluster.network().cut(BrokerId(leader), BrokerId(follower));
  cluster.run_for(10'000);
  std::string before = cluster.directories(follower);
  EXPECT_EQ(before, "1:1,2:2,3:3");
  cluster.network().heal();
  cluster.run_for(5'000);
  EXPECT_NE(cluster.directories(follower), before);
}

TEST_F(RunningCluster, AMetadataFolderThatIsGoneIsDamageAndIsRepaired) {
  cluster.kill(other);
  cluster.lose_metadata(other);
  ASSERT_TRUE(cluster.start(other));
  EXPECT_NE(cluster.log(other).trouble().find("was a member"), std::string::npos);
  EXPECT_TRUE(cluster.wait_until_equal());
  cluster.run_for(1'000);
  EXPECT_EQ(cluster.log(other).trouble(), "");
  // Its new identity is kept.
  cluster.power_cut(other);
  ASSERT_TRUE(cluster.start(other)) << cluster.node(other).error.to_string();
  EXPECT_TRUE(cluster.commit("again"));
  EXPECT_TRUE(cluster.wait_until_equal());
}

TEST_F(RunningCluster, AFolderEmptiedBeforeItsNodeRegisteredIsNotTakenForANewVoter) {
  cluster.kill(other);
  cluster.lose_metadata(other);
  cluster.node(other).was_member = false;
  cluster.kill(follower);
  ASSERT_TRUE(cluster.start(other));
  cluster.run_for(10'000);
  EXPECT_EQ(cluster.leader(), 0);
  EXPECT_EQ(cluster.log(other).term(), Term(0));
  ASSERT_TRUE(cluster.start(follower));
  ASSERT_NE(cluster.wait_for_leader(), 0);
  EXPECT_TRUE(cluster.wait_until_equal());
  cluster.run_for(1'000);
  EXPECT_EQ(cluster.log(other).trouble(), "");
}

TEST_F(RunningCluster, AnUnreadableVoteIsRepairedFromTheLeaderAndKeptAside) {
  cluster.kill(other);
  for (uint64_t slot : {0u, 1u}) cluster.flip_bit(other, "vote", (slot * 4096 + 30) * 8);
  ASSERT_TRUE(cluster.start(other));
  EXPECT_NE(cluster.log(other).trouble().find("/vote"), std::string::npos);
  EXPECT_EQ(cluster.log(other).term(), Term(0));
  EXPECT_TRUE(cluster.wait_until_equal());
  cluster.run_for(1'000);
  EXPECT_EQ(cluster.log(other).trouble(), "");
  EXPECT_GE(cluster.files(other, ".damaged-").size(), 3u);  // vote, durable, log, …
  cluster.kill(leader);
  new_leader();
  EXPECT_TRUE(cluster.commit("a voter again"));
}

TEST_F(RunningCluster, TwoDamagedNodesStopTheClusterAndSaySo) {
  cluster.kill(other);
  cluster.kill(follower);
  for (int id : {other, follower}) {
    for (uint64_t slot : {0u, 1u}) cluster.flip_bit(id, "vote", (slot * 4096 + 30) * 8);
    ASSERT_TRUE(cluster.start(id));
  }
  cluster.run_for(20'000);
  EXPECT_EQ(cluster.leader(), 0);
  for (int id : {other, follower}) {
    EXPECT_NE(cluster.log(id).trouble().find("damaged"), std::string::npos);
    EXPECT_TRUE(cluster.files(id, ".damaged-").empty());  // nothing is touched while nobody can repair it
  }
  EXPECT_EQ(cluster.log(leader).trouble(), "there is no leader; 2 of the voters 1, 2, 3 must be up to elect one");
}

TEST_F(RunningCluster, ARottenEntryBelowTheMarkIsRepairedFromTheLeader) {
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(cluster.commit(std::to_string(i)));
  ASSERT_TRUE(cluster.wait_until_equal());
  cluster.kill(other);
  cluster.flip_bit(other, "00000000000000000000.log", 2'000);
  ASSERT_TRUE(cluster.start(other));
  EXPECT_FALSE(cluster.log(other).trouble().empty());
  EXPECT_TRUE(cluster.wait_until_equal());
}

TEST(MetadataClusterGrowth, AClusterOfOneGrowsToThree) {
  QuorumCluster cluster(3);
  std::vector<Voter> three = cluster.config.voters;
  cluster.config.voters = {{BrokerId(1), cluster.node(1).directory}};
  ASSERT_TRUE(cluster.start(1));
  ASSERT_TRUE(cluster.commit("alone"));
  cluster.power_cut(1);
  cluster.config.voters = three;
  cluster.start_all();
  ASSERT_TRUE(cluster.wait_until_equal());
  cluster.run_for(2'000);
  for (int id = 1; id <= 3; ++id) EXPECT_EQ(cluster.directories(id), "1:1,2:2,3:3");
  cluster.kill(1);
  ASSERT_NE(cluster.wait_for_leader(), 0);
  EXPECT_TRUE(cluster.commit("without the first"));
}

TEST(MetadataClusterOfFive, LivesWithTwoDown) {
  QuorumCluster cluster(5);
  cluster.start_all();
  ASSERT_NE(cluster.wait_for_leader(), 0);
  cluster.kill(cluster.leader());
  ASSERT_NE(cluster.wait_for_leader(), 0);
  ASSERT_TRUE(cluster.commit("four"));
  cluster.power_cut(cluster.leader());
  ASSERT_NE(cluster.wait_for_leader(), 0);
  ASSERT_TRUE(cluster.commit("three"));
  cluster.start_all();
  EXPECT_TRUE(cluster.wait_until_equal());
}

}  // namespace
}  // namespace trilog
