#include "broker/controller/isr_control.h"

#include <gtest/gtest.h>

#include "tests/broker/controller/image_builder.h"

namespace trilog {
namespace {

using peer::PeerError;
using testing::brokers;
using testing::partition;

LiveBrokers up(std::initializer_list<int> ids) {
  LiveBrokers live;
  for (int id : ids) live.up.insert(BrokerId(id));
  live.eligible = live.up;
  return live;
}

std::map<BrokerId, BrokerImage> three_brokers() {
  std::map<BrokerId, BrokerImage> map;
  for (int id = 1; id <= 3; ++id) {
    BrokerImage broker;
    broker.id = BrokerId(id);
    broker.epoch = BrokerEpoch(100 + id);
    broker.fenced = false;
    map[broker.id] = broker;
  }
  return map;
}

peer::AlterPartition asked(std::initializer_list<int> isr, int leader_epoch = 5, int partition_epoch = 9) {
  peer::AlterPartition request;
  request.leader_epoch = LeaderEpoch(leader_epoch);
  request.partition_epoch = PartitionEpoch(partition_epoch);
  for (int id : isr) request.isr.push_back({BrokerId(id), BrokerEpoch(100 + id)});
  return request;
}

PeerError error_of(const PartitionImage& state, int sender, const peer::AlterPartition& request,
                   const std::map<BrokerId, BrokerImage>& brokers = three_brokers()) {
  return alter_isr(state, BrokerId(sender), request, brokers, 2).error;
}

TEST(IsrControl, ChecksAChangeInTheOrderOfTheRule) {  // C2
  const PartitionImage state = partition({1, 2, 3}, {1, 2}, 1);
  // Each request is wrong in everything that comes later in the order as well.
  auto request = asked({2, 7}, 6, 3);
  EXPECT_EQ(error_of(state, 3, request), PeerError::kNotController);
  request = asked({2, 7}, 4, 10);
  EXPECT_EQ(error_of(state, 3, request), PeerError::kNotController);
  request = asked({2, 7}, 4, 3);
  EXPECT_EQ(error_of(state, 3, request), PeerError::kFencedLeaderEpoch);
  request = asked({2, 7}, 5, 3);
  EXPECT_EQ(error_of(state, 3, request), PeerError::kNotLeader);
  EXPECT_EQ(error_of(state, 1, request), PeerError::kStalePartitionEpoch);
  EXPECT_EQ(error_of(state, 1, asked({1, 7})), PeerError::kInvalidRequest);
  EXPECT_EQ(error_of(state, 1, asked({2, 3})), PeerError::kInvalidRequest);
  EXPECT_EQ(error_of(state, 1, asked({1, 2, 2})), PeerError::kInvalidRequest);
  EXPECT_EQ(error_of(state, 1, asked({1, 3})), PeerError::kNone);
}

TEST(IsrControl, LetsNobodyInWhoIsFencedShuttingDownOrAnotherProcess) {  // C2, R9
  const PartitionImage state = partition({1, 2, 3}, {1, 2}, 1);
  auto map = three_brokers();
  map[BrokerId(3)].fenced = true;
  EXPECT_EQ(error_of(state, 1, asked({1, 2, 3}), map), PeerError::kIneligibleReplica);
  map[BrokerId(3)].fenced = false;
  map[BrokerId(3)].draining = true;
  EXPECT_EQ(error_of(state, 1, asked({1, 2, 3}), map), PeerError::kIneligibleReplica);
  map[BrokerId(3)].draining = false;
  map[BrokerId(3)].epoch = BrokerEpoch(104);
  EXPECT_EQ(error_of(state, 1, asked({1, 2, 3}), map), PeerError::kIneligibleReplica);
  map[BrokerId(3)].epoch = BrokerEpoch(103);
  EXPECT_EQ(error_of(state, 1, asked({1, 2, 3}), map), PeerError::kNone);
  // Who is in already and shuts down does not stop its leader from taking out another.
  map[BrokerId(2)].draining = true;
  EXPECT_EQ(error_of(partition({1, 2, 3}, {1, 2, 3}, 1), 1, asked({1, 2}), map), PeerError::kNone);
}

TEST(IsrControl, ARequestThatWasAppliedAlreadySucceedsAgain) {  // R8
  const PartitionImage before = partition({1, 2, 3}, {1, 2}, 1);
  AlterVerdict first = alter_isr(before, BrokerId(1), asked({1, 2, 3}), three_brokers(), 2);
  ASSERT_TRUE(first.next.has_value());
  AlterVerdict again = alter_isr(*first.next, BrokerId(1), asked({3, 2, 1}), three_brokers(), 2);
  EXPECT_EQ(again.error, PeerError::kNone);
  EXPECT_FALSE(again.next.has_value());
  EXPECT_EQ(error_of(*first.next, 1, asked({1})), PeerError::kStalePartitionEpoch);
}

TEST(IsrControl, WhoLeavesATooSmallIsrStaysEligibleUntilItIsLargeEnough) {  // C8
  PartitionImage state = partition({1, 2, 3}, {1, 2, 3}, 1);
  auto alter = [&](std::initializer_list<int> isr) {
    auto request = asked(isr, 5, state.partition_epoch.value());
    state = *alter_isr(state, BrokerId(1), request, three_brokers(), 2).next;
  };
  alter({1, 2});
  EXPECT_EQ(state.elr, brokers({}));
  alter({1});
  EXPECT_EQ(state.elr, brokers({2}));
  EXPECT_EQ(state.leader_epoch, LeaderEpoch(5));
  alter({1, 3});
  EXPECT_EQ(state.elr, brokers({}));
}

TEST(IsrControl, ARecoveringLeaderHasNoFollowersYet) {  // C2
  PartitionImage state = elect_with_loss(partition({1, 2, 3}, {}, -1, {2}), BrokerId(1));
  EXPECT_EQ(state.isr, brokers({1}));
  EXPECT_TRUE(state.elr.empty());
  EXPECT_EQ(state.loss_epoch, state.leader_epoch);
  auto request = asked({1, 2}, 6, 10);
  request.recovering = true;
  EXPECT_EQ(error_of(state, 1, request), PeerError::kInvalidRequest);
  request.recovering = false;
  AlterVerdict done = alter_isr(state, BrokerId(1), request, three_brokers(), 2);
  ASSERT_TRUE(done.next.has_value());
  EXPECT_FALSE(done.next->recovering);
  EXPECT_EQ(done.next->loss_epoch, LeaderEpoch(6));  // for the followers (R15)
}

TEST(IsrControl, JudgesARestartByAllFiveConditions) {  // C8
  const TopicPartition here{TopicId(1, 1), PartitionId(0)};
  const auto synced = api::Durability::kSynced;
  const auto replicated = api::Durability::kReplicated;
  RestartFacts facts{true, false, false, peer::Recovered::kAllFine, {}};
  EXPECT_EQ(judge_restart(facts, synced, here), Leaving::kUnclean);
  EXPECT_EQ(judge_restart(facts, replicated, here), Leaving::kLost);
  facts.same_boot = true;
  EXPECT_EQ(judge_restart(facts, replicated, here), Leaving::kUnclean);
  facts.recovered = peer::Recovered::kUnknown;
  EXPECT_EQ(judge_restart(facts, synced, here), Leaving::kLost);
  facts.clean = true;
  EXPECT_EQ(judge_restart(facts, replicated, here), Leaving::kClean);
  facts.damaged = {here};
  EXPECT_EQ(judge_restart(facts, synced, here), Leaving::kLost);
  facts.damaged.clear();
  facts.same_folder = false;
  EXPECT_EQ(judge_restart(facts, synced, here), Leaving::kLost);
}

// KIP-966's "last replica standing": the last one in sync may have lost its tail; whoever was with it has it.
TEST(IsrControl, TheLastReplicaStandingIsNotTheOnlyCandidate) {
  PartitionImage state = partition({1, 2, 3}, {1}, 1, {2});
  auto next = depart(state, {{BrokerId(1), Leaving::kUnclean}}, up({2, 3}), 2);
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->leader, BrokerId(2));
  EXPECT_EQ(next->elr, brokers({1}));
  next = depart(state, {{BrokerId(1), Leaving::kLost}}, up({3}), 2);
  EXPECT_EQ(next->leader, kNoBroker);
  EXPECT_EQ(next->elr, brokers({2}));
}

TEST(IsrControl, AHearingTakesTheFurthestLogOfEnoughMembers) {  // C8
  PartitionImage state = partition({1, 2, 3}, {}, -1, {1, 2, 3});
  state.unclean = brokers({1, 2, 3});
  ASSERT_TRUE(needs_hearing(state, 2));
  EXPECT_FALSE(needs_hearing(state, 1));
  using H = Heard;
  const H one{BrokerId(1), LeaderEpoch(5), Offset(10)};
  const H two{BrokerId(2), LeaderEpoch(5), Offset(12)};
  const H three{BrokerId(3), LeaderEpoch(6), Offset(3)};
  EXPECT_EQ(choose_heard(state, {two}, 2), kNoBroker);
  EXPECT_EQ(choose_heard(state, {two, two}, 2), kNoBroker);
  EXPECT_EQ(choose_heard(state, {one, two}, 2), BrokerId(2));
  EXPECT_EQ(choose_heard(state, {one, two, three}, 2), BrokerId(3));
  EXPECT_EQ(choose_heard(state, {two, {BrokerId(1), LeaderEpoch(5), Offset(12)}}, 2), BrokerId(1));
  EXPECT_EQ(choose_heard(state, {two, {BrokerId(7), LeaderEpoch(9), Offset(9)}}, 2), kNoBroker);
  PartitionImage led = elect_heard(state, BrokerId(3), 2);
  EXPECT_EQ(led.isr, brokers({3}));
  EXPECT_EQ(led.elr, brokers({1, 2}));
  EXPECT_EQ(led.unclean, brokers({1, 2}));
}

TEST(IsrControl, ADamagedReplicaIsSetAsideUnlessItIsTheLast) {  // S9
  auto next = set_aside(partition({1, 2, 3}, {1, 2, 3}, 1), BrokerId(1), up({1, 2, 3}), 2);
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->leader, BrokerId(2));
  EXPECT_EQ(next->isr, brokers({2, 3}));
  next = set_aside(partition({1, 2, 3}, {1, 2}, 1), BrokerId(1), up({1, 2, 3}), 2);
  EXPECT_EQ(next->elr, brokers({}));  // not what it is
  next = set_aside(partition({1, 2, 3}, {1}, 1, {2}), BrokerId(1), up({1, 2}), 2);
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->leader, BrokerId(2));
  EXPECT_FALSE(set_aside(partition({1, 2, 3}, {1}, 1), BrokerId(1), up({1, 2}), 2).has_value());
  EXPECT_FALSE(set_aside(partition({1, 2, 3}, {1}, 1, {2}), BrokerId(1), up({1, 3}), 2).has_value());
}

TEST(IsrControl, ALowerMinimumEmptiesTheElrBesideAnIsrThatIsLargeEnough) {
  auto next = with_minimum(partition({1, 2, 3}, {1}, 1, {2}), 1);
  ASSERT_TRUE(next.has_value());
  EXPECT_TRUE(next->elr.empty());
  EXPECT_FALSE(with_minimum(partition({1, 2, 3}, {1}, 1), 2).has_value());
}

}  // namespace
}  // namespace trilog
