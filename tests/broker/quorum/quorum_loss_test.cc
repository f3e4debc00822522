// What an operator does when voters are lost: a survivor goes on alone, and a lost folder is replaced (Q8, Q9, F17).
#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "tests/broker/quorum/quorum_cluster.h"

namespace trilog {
namespace {

using testing::QuorumCluster;

class QuorumLoss : public ::testing::Test {
 protected:
  void SetUp() override {
    cluster.start_all();
    ASSERT_NE(cluster.wait_for_leader(), 0);
    ASSERT_TRUE(cluster.commit("before"));
    ASSERT_TRUE(cluster.wait_until_equal());
    for (int id = 1; id <= 3; ++id) cluster.node(id).was_member = true;
  }
  void lose_two() {
    cluster.kill(2);
    cluster.kill(3);
    cluster.run_for(3'000);
    ASSERT_EQ(cluster.leader(), 0);
  }
  static Status wait_for(QuorumCluster& cluster, std::optional<Status>& answer) {
    EXPECT_TRUE(cluster.world().run_until([&] { return answer.has_value(); }));
    return *answer;
  }
  Status recover(int id, bool dry = false) {
    std::optional<Status> answer;
    cluster.log(id).recover_quorum(dry, [&](Status status) { answer = std::move(status); });
    EXPECT_FALSE(answer.has_value());
    return wait_for(cluster, answer);
  }
  void links(int id, bool cut) {
    for (int other = 1; other <= 3; ++other) {
      if (other != id && cut) cluster.network().cut(BrokerId(id), BrokerId(other));
    }
    if (!cut) cluster.network().heal();
  }
  QuorumCluster cluster{3, 5};
};

TEST_F(QuorumLoss, TheSurvivorGoesOnAloneAndTheOthersBecomeVotersAgain) {
  lose_two();
  EXPECT_TRUE(recover(1, true).ok());
  cluster.run_for(2'000);
  EXPECT_EQ(cluster.leader(), 0);  // only looked
  ASSERT_TRUE(recover(1).ok());
  EXPECT_EQ(cluster.leader(), 1);
  EXPECT_EQ(cluster.directories(1), "1:1");
  EXPECT_EQ(cluster.log(1).recovery(), (QuorumRecovery{1, BrokerId(1)}));
  ASSERT_TRUE(cluster.commit("alone"));
  cluster.power_cut(1);
  ASSERT_TRUE(cluster.start(1));
  ASSERT_EQ(cluster.wait_for_leader(), 1);
  ASSERT_TRUE(cluster.commit("alone again"));
  ASSERT_TRUE(cluster.start(2));
  ASSERT_TRUE(cluster.wait_until_equal());
  cluster.run_for(2'000);
  EXPECT_EQ(cluster.directories(1), "1:1");  // two voters would bear no loss, as one does not
  ASSERT_TRUE(cluster.start(3));
  ASSERT_TRUE(cluster.wait_until_equal());
  cluster.run_for(2'000);
  for (int id = 1; id <= 3; ++id) {
    EXPECT_EQ(cluster.directories(id), "1:1,2:2,3:3");
    EXPECT_EQ(cluster.log(id).recovery().number, 1u);
    EXPECT_TRUE(cluster.node(id).fatal.ok());
  }
  cluster.kill(1);
  ASSERT_NE(cluster.wait_for_leader(), 0);
  EXPECT_TRUE(cluster.commit("without the survivor"));
}

TEST_F(QuorumLoss, NothingIsGivenUpWhileThereIsAQuorum) {
  int leader = cluster.leader();
  Status refused = recover(leader % 3 + 1);
  EXPECT_EQ(refused.code(), Errc::kInvalidArgument);
  EXPECT_NE(refused.message().find("there is a quorum"), std::string::npos);
  EXPECT_FALSE(recover(leader).ok());
  // The leader is gone, the other one is there: they will elect.
  cluster.kill(leader);
  const int follower = leader % 3 + 1;
  cluster.world().run_until([&] { return cluster.log(follower).leader() == kNoBroker; });
  refused = recover(follower);
  EXPECT_NE(refused.message().find("within reach"), std::string::npos) << refused.to_string();
  EXPECT_NE(cluster.wait_for_leader(), 0);
}

TEST_F(QuorumLoss, ANodeThatIsNoVoterDoesNotRecover) {
  lose_two();
  cluster.kill(1);
  cluster.lose_metadata(1);
  ASSERT_TRUE(cluster.start(1));
  cluster.run_for(1'000);
  Status refused = recover(1);
  EXPECT_EQ(refused.code(), Errc::kInvalidArgument);
  EXPECT_NE(refused.message().find("takes no part"), std::string::npos);
}

TEST_F(QuorumLoss, DamagedVotersCountAsLost) {
  lose_two();
  cluster.lose_metadata(2);
  ASSERT_TRUE(cluster.start(2));
  cluster.run_for(2'000);
  ASSERT_TRUE(recover(1).ok());
  EXPECT_TRUE(cluster.wait_until_equal());
}

// They had elected each other and committed more: nobody can undo that while they see only each other. As soon as they
// see the survivor they lead no more, and begin again.
TEST_F(QuorumLoss, ALostMajorityThatComesBackIsNoSecondQuorum) {
  links(1, true);
  cluster.run_for(3'000);
  int old = cluster.leader();
  ASSERT_NE(old, 1);
  ASSERT_TRUE(cluster.propose_on(old, "lost"));
  cluster.run_for(1'000);
  cluster.history_ends();
  cluster.kill(2);
  cluster.kill(3);
  ASSERT_TRUE(recover(1).ok());
  ASSERT_TRUE(cluster.commit("kept"));
  ASSERT_TRUE(cluster.start(2));
  ASSERT_TRUE(cluster.start(3));
  cluster.run_for(5'000);
  ASSERT_TRUE(cluster.log(2).leading() || cluster.log(3).leading());
  ASSERT_TRUE(cluster.log(1).leading());
  links(1, false);
  cluster.run_for(5'000);
  for (int id : {2, 3}) {
    EXPECT_NE(cluster.node(id).fatal.message().find("start it again"), std::string::npos);
    EXPECT_FALSE(cluster.up(id));
    ASSERT_TRUE(cluster.start(id)) << cluster.node(id).error.to_string();
  }
  EXPECT_TRUE(cluster.wait_until_equal());
  cluster.run_for(2'000);
  EXPECT_EQ(cluster.log(1).voters().size(), 3u);
  EXPECT_GE(cluster.files(2, ".damaged-").size(), 3u);  // kept aside
  EXPECT_EQ(cluster.node(2).state.find("lost"), std::string::npos);
}

// Two operators, or one who was too quick.
TEST_F(QuorumLoss, TwoSurvivorsOfOneClusterDoNotMix) {
  lose_two();
  ASSERT_TRUE(recover(1).ok());
  cluster.kill(1);
  ASSERT_TRUE(cluster.start(2));
  cluster.run_for(2'000);
  cluster.history_ends();
  ASSERT_TRUE(recover(2).ok());
  cluster.history_ends();
  ASSERT_TRUE(cluster.start(1));
  cluster.run_for(5'000);
  EXPECT_TRUE(cluster.log(1).leading());
  EXPECT_TRUE(cluster.log(2).leading());
  EXPECT_EQ(cluster.directories(1), "1:1");
  EXPECT_EQ(cluster.directories(2), "2:2");
}

class Replacing : public ::testing::Test {
 protected:
  void SetUp() override {
    cluster.start_all();
    leader = cluster.wait_for_leader();
    ASSERT_NE(leader, 0);
    ASSERT_TRUE(cluster.wait_until_equal());
    lost = leader % 5 + 1;
    away = lost % 5 + 1;
  }
  Status replace(int id, bool dry = false) {
    std::optional<Status> answer;
    cluster.log(leader).replace_voter(BrokerId(id), dry, [&](Status status) { answer = std::move(status); });
    EXPECT_TRUE(cluster.world().run_until([&] { return answer.has_value(); }));
    return *answer;
  }
  bool is_voter(int id) {
    for (const Voter& voter : cluster.log(leader).voters()) {
      if (voter == Voter{BrokerId(id), cluster.node(id).directory}) return true;
    }
    return false;
  }
  QuorumCluster cluster{5, 3};
  int leader = 0;
  int lost = 0;
  int away = 0;
};

TEST_F(Replacing, ByHandAMajorityIsEnough) {
  cluster.kill(lost);
  cluster.kill(away);
  cluster.run_for(2'000);
  cluster.new_disk(lost);
  ASSERT_TRUE(cluster.start(lost));
  cluster.run_for(5'000);
  EXPECT_FALSE(is_voter(lost));  // by itself only while all others are well
  EXPECT_TRUE(replace(lost, true).ok());
  EXPECT_FALSE(is_voter(lost));
  Status done = replace(lost);
  EXPECT_TRUE(done.ok()) << done.to_string();
  EXPECT_TRUE(is_voter(lost));
  EXPECT_EQ(cluster.log(leader).voters().size(), 5u);
  ASSERT_TRUE(cluster.commit("after"));
}

TEST_F(Replacing, WhoLivesOrIsNotThereIsNotReplaced) {
  EXPECT_NE(replace(lost).message().find("answers"), std::string::npos);
  EXPECT_NE(replace(leader).message().find("answers"), std::string::npos);
  EXPECT_EQ(replace(9).code(), Errc::kNotFound);
  cluster.kill(lost);
  cluster.run_for(2'000);
  EXPECT_NE(replace(lost).message().find("start it with an empty one"), std::string::npos);
  std::optional<Status> answer;
  cluster.log(away).replace_voter(BrokerId(lost), false, [&](Status status) { answer = std::move(status); });
  EXPECT_TRUE(cluster.world().run_until([&] { return answer.has_value(); }));
  EXPECT_EQ(answer->code(), Errc::kFailed);
}

TEST_F(Replacing, WithoutAMajorityItIsRefused) {
  cluster.kill(lost);
  cluster.kill(away);
  cluster.run_for(2'000);
  cluster.new_disk(lost);
  ASSERT_TRUE(cluster.start(lost));
  cluster.run_for(3'000);
  const int third = away % 5 + 1;
  cluster.network().cut(BrokerId(leader), BrokerId(third));
  cluster.network().cut(BrokerId(third), BrokerId(leader));
  cluster.run_for(100);
  // It is not noticed before an election timeout has passed, and then this node leads no more.
  Status refused = replace(lost);
  EXPECT_FALSE(refused.ok());
  EXPECT_FALSE(is_voter(lost));
}

}  // namespace
}  // namespace trilog
