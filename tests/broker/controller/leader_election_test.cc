#include "broker/controller/leader_election.h"

#include <gtest/gtest.h>

#include "tests/broker/controller/image_builder.h"

namespace trilog {
namespace {

using testing::brokers;
using testing::partition;

LiveBrokers eligible(std::initializer_list<int> ids) {
  LiveBrokers live;
  for (int id : ids) live.up.insert(BrokerId(id));
  live.eligible = live.up;
  return live;
}

TEST(LeaderElection, KeepsALeaderThatIsInSyncAndEligible) {
  EXPECT_FALSE(elect_leader(partition({1, 2, 3}, {2, 3}, 3), eligible({2, 3}), 2).has_value());
}

TEST(LeaderElection, TakesTheFirstReplicaInOrderOfAssignmentThatIsInSync) {
  auto next = elect_leader(partition({3, 1, 2}, {2, 1}, 3), eligible({1, 2, 3}), 2);
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->leader, BrokerId(1));
  EXPECT_EQ(next->isr, brokers({2, 1}));
}

TEST(LeaderElection, PassesOverReplicasThatAreNotEligible) {
  auto next = elect_leader(partition({1, 2, 3}, {1, 2, 3}, 1), eligible({3}), 2);
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->leader, BrokerId(3));
}

TEST(LeaderElection, NeverTakesAReplicaThatIsOutOfSync) {
  auto next = elect_leader(partition({1, 2, 3}, {1}, 1), eligible({2, 3}), 2);
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->leader, kNoBroker);
  EXPECT_EQ(next->isr, brokers({1}));
}

TEST(LeaderElection, TakesAnElrMemberOnlyWhenTheIsrIsEmpty) {
  auto waits = elect_leader(partition({1, 2, 3}, {1}, -1, {2}), eligible({2, 3}), 2);
  EXPECT_FALSE(waits.has_value());
  auto next = elect_leader(partition({1, 2, 3}, {}, -1, {3, 2}), eligible({2, 3}), 2);
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->leader, BrokerId(2));
  EXPECT_EQ(next->isr, brokers({2}));
  EXPECT_EQ(next->elr, brokers({3}));
}

TEST(LeaderElection, RaisesBothEpochsAlsoWhenNobodyCanLead) {
  auto next = elect_leader(partition({1, 2}, {1, 2}, 1), eligible({}), 2);
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->leader, kNoBroker);
  EXPECT_EQ(next->leader_epoch, LeaderEpoch(6));
  EXPECT_EQ(next->partition_epoch, PartitionEpoch(10));
  EXPECT_FALSE(elect_leader(*next, eligible({}), 2).has_value());
}

// What C7 and C8 say, written down once more and differently: by ranking every broker that could lead.
BrokerId specified_leader(const PartitionImage& partition, const LiveBrokers& live, int32_t minimum) {
  auto rank = [&](BrokerId broker) {
    bool in_sync = contains(partition.isr, broker);
    if (in_sync && broker == partition.leader && live.up.contains(broker)) return 1000;
    if (!live.eligible.contains(broker)) return 0;
    if (in_sync) return 100;
    bool trusted = minimum == 1 || !contains(partition.unclean, broker);
    return partition.isr.empty() && contains(partition.elr, broker) && trusted ? 10 : 0;
  };
  BrokerId best = kNoBroker;
  for (BrokerId broker : partition.replicas) {
    if (rank(broker) > 0 && (best == kNoBroker || rank(broker) > rank(best))) best = broker;
  }
  return best;
}

std::vector<BrokerId> subset(const std::vector<BrokerId>& of, unsigned mask) {
  std::vector<BrokerId> members;
  for (size_t i = 0; i < of.size(); ++i) {
    if (mask >> i & 1) members.push_back(of[i]);
  }
  return members;
}

// Every ISR, ELR, unclean part of it, leader, set of live brokers and minimum, for two orders of assignment.
TEST(LeaderElection, DoesWhatTheRulesSayInEverySmallState) {
  size_t states = 0;
  size_t elections = 0;
  for (const auto& replicas : {brokers({1, 2, 3}), brokers({3, 1, 2})}) {
    for (unsigned bits = 0; bits < 1u << 15; ++bits) {
      PartitionImage before = partition({}, {}, -1);
      before.replicas = replicas;
      before.isr = subset(replicas, bits & 7);
      before.elr = subset(replicas, bits >> 3 & 7);
      before.unclean = subset(replicas, bits >> 6 & 7);
      if ((bits & bits >> 3 & 7) != 0 || (bits >> 6 & 7 & ~(bits >> 3)) != 0) continue;
      LiveBrokers live;
      for (BrokerId up : subset(replicas, bits >> 9 & 7)) live.up.insert(up);
      for (BrokerId eligible : subset(replicas, bits >> 9 & bits >> 12 & 7)) live.eligible.insert(eligible);
      for (int leader : {-1, 1, 2, 3}) {
        for (int32_t minimum : {1, 2}) {
          before.leader = BrokerId(leader);
          if (leader != -1 && !contains(before.isr, before.leader)) continue;  // A4
          ++states;
          auto next = elect_leader(before, live, minimum);
          const BrokerId expected = specified_leader(before, live, minimum);
          if (!next) {
            ASSERT_EQ(before.leader, expected);
            continue;
          }
          ++elections;
          ASSERT_EQ(next->leader, expected);
          ASSERT_NE(next->leader, before.leader);
          ASSERT_EQ(next->leader_epoch, before.leader_epoch + 1);  // C6
          ASSERT_EQ(next->partition_epoch, before.partition_epoch + 1);
          if (expected == kNoBroker) continue;
          ASSERT_TRUE(contains(before.isr, expected) || contains(before.elr, expected));
          ASSERT_TRUE(contains(next->isr, expected));
          ASSERT_FALSE(contains(next->elr, expected));
          if (contains(before.isr, expected)) {
            ASSERT_EQ(next->isr, before.isr);
          } else {
            ASSERT_EQ(next->isr.size(), 1u);
            ASSERT_EQ(next->elr.empty(), minimum == 1 || before.elr.size() == 1);
          }
        }
      }
    }
  }
  EXPECT_GT(states, 20'000u);
  EXPECT_GT(elections, 5'000u);
}

}  // namespace
}  // namespace trilog
