#include "broker/controller/leader_election.h"

#include <gtest/gtest.h>

#include "tests/broker/controller/image_builder.h"

namespace trilog {
namespace {

using testing::brokers;
using testing::partition;

std::set<BrokerId> eligible(std::initializer_list<int> ids) {
  std::set<BrokerId> set;
  for (int id : ids) set.insert(BrokerId(id));
  return set;
}

TEST(LeaderElection, KeepsALeaderThatIsInSyncAndEligible) {
  EXPECT_FALSE(elect_leader(partition({1, 2, 3}, {2, 3}, 3), eligible({2, 3})).has_value());
}

TEST(LeaderElection, TakesTheFirstReplicaInOrderOfAssignmentThatIsInSync) {
  auto next = elect_leader(partition({3, 1, 2}, {2, 1}, 3), eligible({1, 2, 3}));
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->leader, BrokerId(1));
  EXPECT_EQ(next->isr, brokers({2, 1}));
}

TEST(LeaderElection, PassesOverReplicasThatAreNotEligible) {
  auto next = elect_leader(partition({1, 2, 3}, {1, 2, 3}, 1), eligible({3}));
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->leader, BrokerId(3));
}

TEST(LeaderElection, NeverTakesAReplicaThatIsOutOfSync) {
  auto next = elect_leader(partition({1, 2, 3}, {1}, 1), eligible({2, 3}));
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->leader, kNoBroker);
  EXPECT_EQ(next->isr, brokers({1}));
}

TEST(LeaderElection, TakesAnElrMemberOnlyWhenTheIsrIsEmpty) {
  auto waits = elect_leader(partition({1, 2, 3}, {1}, -1, {2}), eligible({2, 3}));
  EXPECT_FALSE(waits.has_value());
  auto next = elect_leader(partition({1, 2, 3}, {}, -1, {3, 2}), eligible({2, 3}));
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->leader, BrokerId(2));
  EXPECT_EQ(next->isr, brokers({2}));
  EXPECT_EQ(next->elr, brokers({3}));
}

TEST(LeaderElection, RaisesBothEpochsAlsoWhenNobodyCanLead) {
  auto next = elect_leader(partition({1, 2}, {1, 2}, 1), eligible({}));
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->leader, kNoBroker);
  EXPECT_EQ(next->leader_epoch, LeaderEpoch(6));
  EXPECT_EQ(next->partition_epoch, PartitionEpoch(10));
  EXPECT_FALSE(elect_leader(*next, eligible({})).has_value());
}

}  // namespace
}  // namespace trilog
