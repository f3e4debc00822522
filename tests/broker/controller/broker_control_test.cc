#include "broker/controller/broker_control.h"

#include <gtest/gtest.h>

#include "tests/broker/controller/image_builder.h"

namespace trilog {
namespace {

using testing::brokers;
using testing::ImageBuilder;
using testing::partition;

Registration registration(int id, DirectoryId directory = DirectoryId(7, 1)) {
  return {BrokerId(id), directory, "localhost:9092", "0.1.0"};
}

// As the last process of broker `id` left its folder: killed, nothing missing.
Registration restart(int id, const ImageBuilder& builder) {
  const BrokerImage& known = *builder.build()->find_broker(BrokerId(id));
  Registration made = registration(id, known.directory);
  made.recorded_epoch = known.epoch;
  made.recovered = peer::Recovered::kAllFine;
  return made;
}

std::set<BrokerId> up(const PlannedState& state) { return state.live().up; }

// Every prefix of the records must be a state that may be seen (C10).
void expect_legal_prefixes(const ImageBuilder& before, const std::vector<MetadataRecord>& records,
                           bool fenced_out = true) {
  ImageBuilder builder = before;
  for (const MetadataRecord& record : records) {
    builder.add(record);
    for (const auto& [name, topic] : builder.build()->topics()) {
      for (const PartitionImage& p : topic->partitions) {
        auto in = [](const std::vector<BrokerId>& list, BrokerId id) {
          return std::find(list.begin(), list.end(), id) != list.end();
        };
        EXPECT_TRUE(p.leader == kNoBroker || in(p.isr, p.leader));
        EXPECT_TRUE(p.elr.empty() || static_cast<int32_t>(p.isr.size()) < min_in_sync(*topic));
        for (BrokerId id : p.isr) {
          EXPECT_TRUE(in(p.replicas, id));
          EXPECT_FALSE(in(p.elr, id));
          EXPECT_FALSE(fenced_out && builder.build()->find_broker(id)->fenced) << "fenced and in sync";
        }
      }
    }
  }
}

TEST(BrokerControl, ANewBrokerGetsItsEpochFromTheOffsetOfItsRegistration) {
  ImageBuilder builder;
  PlannedState state(builder.build(), Offset(17));
  auto epoch = plan_registration(state, registration(1), {.caught_up = true});
  ASSERT_TRUE(epoch.has_value() && epoch->ok());
  EXPECT_EQ(epoch->value(), BrokerEpoch(17));
  ASSERT_EQ(state.records().size(), 2u);
  EXPECT_EQ(std::get<FenceBrokerRecord>(state.records()[1]), (FenceBrokerRecord{BrokerId(1), BrokerEpoch(17), false}));
  EXPECT_FALSE(state.find_broker(BrokerId(1))->fenced);
}

TEST(BrokerControl, ABrokerThatIsNotCaughtUpStartsFenced) {
  PlannedState state(ImageBuilder(1).build(), Offset(3));
  ASSERT_TRUE(plan_registration(state, registration(2, DirectoryId(7, 2)), {})->ok());
  EXPECT_TRUE(state.find_broker(BrokerId(2))->fenced);
  EXPECT_EQ(up(state), std::set<BrokerId>{BrokerId(1)});
}

TEST(BrokerControl, ARestartOfTheOnlyVoterTakesOverAllItsPartitionsInANewEpochInOneStep) {
  ImageBuilder builder(1);
  builder.topic("a", {partition({1}, {1}, 1), partition({1}, {1}, 1)}).topic("b", {partition({1}, {1}, 1)});
  PlannedState state(builder.build(), builder.next_offset());
  ASSERT_TRUE(plan_registration(state, registration(1), {.caught_up = true})->ok());
  EXPECT_EQ(state.records().size(), 2u + 3u);
  for (const TopicImage* topic : state.topics()) {
    for (const PartitionImage& p : topic->partitions) {
      EXPECT_EQ(p.leader, BrokerId(1));
      EXPECT_EQ(p.isr, brokers({1}));
      EXPECT_TRUE(p.elr.empty());
      EXPECT_EQ(p.leader_epoch, LeaderEpoch(6));
      EXPECT_EQ(p.partition_epoch, PartitionEpoch(10));
    }
  }
  expect_legal_prefixes(builder, state.records(), false);
}

TEST(BrokerControl, ARestartedLeaderGivesWayToAnotherThatIsInSync) {
  ImageBuilder builder(3);
  builder.topic("a", {partition({1, 2, 3}, {1, 2}, 1), partition({2, 1}, {2, 1}, 2), partition({2, 3}, {2, 3}, 2)});
  PlannedState state(builder.build(), builder.next_offset());
  ASSERT_TRUE(plan_registration(state, restart(1, builder), {})->ok());
  const auto& partitions = state.find_topic("a")->partitions;
  EXPECT_EQ(partitions[0].leader, BrokerId(2));
  EXPECT_EQ(partitions[0].isr, brokers({2}));
  EXPECT_EQ(partitions[0].leader_epoch, LeaderEpoch(6));
  EXPECT_EQ(partitions[0].elr, brokers({1}));  // the minimum of the topic is 2
  EXPECT_EQ(partitions[0].unclean, brokers({1}));
  EXPECT_EQ(partitions[1].leader, BrokerId(2));
  EXPECT_EQ(partitions[1].isr, brokers({2}));
  EXPECT_EQ(partitions[1].leader_epoch, LeaderEpoch(5));  // led by the same process as before
  EXPECT_EQ(partitions[1].partition_epoch, PartitionEpoch(10));
  EXPECT_EQ(partitions[2], (partition({2, 3}, {2, 3}, 2)));  // not its business
  expect_legal_prefixes(builder, state.records());
}

TEST(BrokerControl, RefusesAnotherDataFolderWhileTheSessionOfTheFirstLives) {  // C3
  ImageBuilder builder(1);
  PlannedState state(builder.build(), builder.next_offset());
  auto refused = plan_registration(state, registration(1, DirectoryId(8, 8)), {});
  ASSERT_FALSE(refused->ok());
  EXPECT_EQ(refused->error().code, api::ErrorCode::kInvalidRequest);
  EXPECT_TRUE(state.records().empty());
  EXPECT_TRUE(plan_registration(state, registration(1, DirectoryId(8, 8)), {.expired = true})->ok());
  EXPECT_EQ(state.find_broker(BrokerId(1))->directory, DirectoryId(8, 8));
}

TEST(BrokerControl, AFencedBrokerLeavesEveryIsrBeforeItIsFenced) {  // C10, A4
  ImageBuilder builder(3);
  builder.topic(
      "a", {partition({1, 2, 3}, {1, 2, 3}, 1), partition({2, 3, 1}, {2, 3, 1}, 2), partition({3, 1, 2}, {1}, 1, {2})});
  PlannedState state(builder.build(), builder.next_offset());
  ASSERT_TRUE(plan_fence(state, {{BrokerId(1), builder.build()->find_broker(BrokerId(1))->epoch}})->ok());
  expect_legal_prefixes(builder, state.records());
  EXPECT_TRUE(state.find_broker(BrokerId(1))->fenced);
  const auto& partitions = state.find_topic("a")->partitions;
  EXPECT_EQ(partitions[0].leader, BrokerId(2));
  EXPECT_EQ(partitions[1].isr, brokers({2, 3}));
  // The last in sync is gone: the other candidate, which has all that was acknowledged, takes over (C7).
  EXPECT_EQ(partitions[2].leader, BrokerId(2));
  EXPECT_EQ(partitions[2].elr, brokers({1}));
}

TEST(BrokerControl, FencingIsOfOneProcessOnly) {
  ImageBuilder builder(2);
  PlannedState state(builder.build(), builder.next_offset());
  ASSERT_TRUE(plan_fence(state, {{BrokerId(1), BrokerEpoch(4711)}, {BrokerId(9), BrokerEpoch(1)}})->ok());
  EXPECT_TRUE(state.records().empty());
}

TEST(BrokerControl, MembersThatGoTogetherAreCandidatesTogether) {  // C3
  ImageBuilder builder(3);
  builder.topic("a", {partition({1, 2, 3}, {1, 2, 3}, 1)});
  PlannedState state(builder.build(), builder.next_offset());
  std::map<BrokerId, BrokerEpoch> all;
  for (const auto& [id, broker] : builder.build()->brokers()) all[id] = broker.epoch;
  ASSERT_TRUE(plan_fence(state, all)->ok());
  EXPECT_EQ(state.find_topic("a")->partitions[0].elr, brokers({1, 2, 3}));
  EXPECT_EQ(state.find_topic("a")->partitions[0].leader, kNoBroker);
  expect_legal_prefixes(builder, state.records());
}

TEST(BrokerControl, AnEndOfFencingElectsWhereNobodyLeads) {
  ImageBuilder builder(2);
  builder.broker(3, false).topic("a", {partition({3, 1, 2}, {}, -1, {3}), partition({3, 1, 2}, {1}, 1, {3})});
  PlannedState state(builder.build(), builder.next_offset());
  BrokerEpoch epoch = builder.build()->find_broker(BrokerId(3))->epoch;
  EXPECT_FALSE(plan_unfence(state, BrokerId(3), BrokerEpoch(4711))->value());
  ASSERT_TRUE(plan_unfence(state, BrokerId(3), epoch)->value());
  EXPECT_EQ(state.find_topic("a")->partitions[0].leader, BrokerId(3));
  EXPECT_EQ(state.find_topic("a")->partitions[1].leader, BrokerId(1));
  expect_legal_prefixes(builder, state.records());
}

TEST(BrokerControl, AShutdownHandsOverAndLeavesTheIsrOnlyWhereEnoughRemain) {  // C9
  ImageBuilder builder(3);
  builder.topic("a", {partition({1, 2, 3}, {1, 2, 3}, 1), partition({1, 2, 3}, {1, 2}, 1), partition({1, 2, 3}, {1}, 1),
                      partition({2, 1, 3}, {2, 1, 3}, 2)});
  PlannedState state(builder.build(), builder.next_offset());
  const BrokerEpoch epoch = builder.build()->find_broker(BrokerId(1))->epoch;
  auto partition_of = [&](size_t index) { return state.find_topic("a")->partitions[index]; };
  ASSERT_TRUE(plan_shutdown(state, BrokerId(1), epoch, false)->value());
  EXPECT_EQ(partition_of(0).leader, BrokerId(2));
  EXPECT_EQ(partition_of(0).isr, brokers({1, 2, 3}));  // until it knows that it leads nothing any more (X12)
  ASSERT_TRUE(plan_shutdown(state, BrokerId(1), epoch, true)->value());
  expect_legal_prefixes(builder, state.records());
  EXPECT_EQ(partition_of(0).isr, brokers({2, 3}));
  EXPECT_EQ(partition_of(1).leader, BrokerId(2));
  EXPECT_EQ(partition_of(1).isr, brokers({1, 2}));  // or writes would be refused already
  EXPECT_EQ(partition_of(2).leader, BrokerId(1));   // nobody else
  EXPECT_EQ(partition_of(3).isr, brokers({2, 3}));
  EXPECT_TRUE(state.find_broker(BrokerId(1))->draining);
  EXPECT_FALSE(state.live().eligible.contains(BrokerId(1)));
}

TEST(BrokerControl, ADrainMovesLeadersAndLeavesEverythingElse) {
  ImageBuilder builder(3);
  builder.topic("a", {partition({1, 2, 3}, {1, 2, 3}, 1), partition({1, 2, 3}, {1}, 1)});
  PlannedState state(builder.build(), builder.next_offset());
  int32_t moved = 0;
  auto drained = plan_drain(state, {BrokerId(1)}, moved);
  ASSERT_TRUE(drained->ok());
  EXPECT_EQ(drained->value().moved, 1);
  EXPECT_EQ(drained->value().left, 1);
  EXPECT_EQ(state.find_topic("a")->partitions[0].isr, brokers({1, 2, 3}));
  EXPECT_FALSE(plan_drain(state, {BrokerId(9)}, moved)->ok());
}

TEST(BrokerControl, AFolderThatIsNotTheOneUsedLastIsNotTrusted) {  // C8
  ImageBuilder builder(3);
  builder.topic("a", {partition({1, 2, 3}, {1}, 1, {2})});
  auto elr_after = [&](const Registration& made) {
    PlannedState state(builder.build(), builder.next_offset());
    EXPECT_TRUE(plan_registration(state, made, {.expired = true})->ok());
    return state.find_topic("a")->partitions[0].elr;
  };
  EXPECT_EQ(elr_after(restart(2, builder)), brokers({2}));
  Registration old = restart(2, builder);
  old.recorded_epoch = old.recorded_epoch - 1;
  old.clean = true;  // a copy put back has a clean marker as well
  EXPECT_EQ(elr_after(old), brokers({}));
  Registration none = restart(2, builder);
  none.recorded_epoch = BrokerEpoch(-1);
  EXPECT_EQ(elr_after(none), brokers({}));
  Registration other = restart(2, builder);
  other.directory = DirectoryId(9, 9);
  EXPECT_EQ(elr_after(other), brokers({}));
}

// A process that died between its registration and writing its epoch down was never let in and changed nothing.
TEST(BrokerControl, AStartThatDiedBeforeItWasLetInCostsNoTrust) {
  ImageBuilder builder(3);
  builder.topic("a", {partition({1, 2, 3}, {1}, 1, {2})});
  Registration made = restart(2, builder);
  builder.add(RegisterBrokerRecord{BrokerId(2), made.directory, "x", "y"});
  PlannedState state(builder.build(), builder.next_offset());
  ASSERT_TRUE(plan_registration(state, made, {})->ok());
  EXPECT_EQ(state.find_topic("a")->partitions[0].elr, brokers({2}));
}

TEST(BrokerControl, ASoleReplicaStaysACandidateAndItsDamageIsReported) {  // C8
  ImageBuilder builder(3);
  builder.topic("a", {partition({2}, {2}, 2), partition({2}, {2}, 2)});
  PlannedState state(builder.build(), builder.next_offset());
  Registration made = restart(2, builder);
  made.recovered = peer::Recovered::kSomeDamaged;
  made.damaged = {{state.find_topic("a")->id, PartitionId(1)}};
  ASSERT_TRUE(plan_registration(state, made, {.now_ms = 77})->ok());
  EXPECT_EQ(state.find_topic("a")->partitions[1].elr, brokers({2}));
  size_t audits = 0;
  for (const MetadataRecord& record : state.records()) {
    const auto* audit = std::get_if<AuditRecord>(&record);
    if (audit == nullptr) continue;
    ++audits;
    EXPECT_EQ(audit->kind, AuditRecord::Kind::kLossReported);
    EXPECT_EQ(audit->broker, BrokerId(2));
    EXPECT_EQ(audit->time_ms, 77);
    EXPECT_NE(audit->text.find("a/1"), std::string::npos) << audit->text;
  }
  EXPECT_EQ(audits, 1u);
}

// C10: every step is bounded, every prefix legal, and a step goes on from what is committed, whoever computes it.
TEST(BrokerControl, ManyPartitionsAreFencedInStepsThatAnyControllerCanContinue) {
  ImageBuilder builder(3);
  builder.topic("wide", std::vector<PartitionImage>(2 * kPartitionChangesPerStep + 5, partition({1, 2, 3}, {1, 2}, 1)));
  const BrokerEpoch epoch = builder.build()->find_broker(BrokerId(1))->epoch;
  int steps = 0;
  for (bool complete = false; !complete;) {
    ++steps;
    PlannedState state(builder.build(), builder.next_offset());
    complete = plan_fence(state, {{BrokerId(1), epoch}}).has_value();
    EXPECT_LE(state.records().size(), kPartitionChangesPerStep + 1);
    EXPECT_EQ(state.find_broker(BrokerId(1))->fenced, complete);
    builder.add_all(state.records());
  }
  EXPECT_EQ(steps, 3);
  for (const PartitionImage& p : builder.build()->find_topic("wide")->partitions) {
    ASSERT_EQ(p.leader, BrokerId(2));
    ASSERT_EQ(p.elr, brokers({1}));
  }
}

// --- a lost quorum
// -----------------------------------------------------------------------------------------------------

TEST(QuorumRecoveryPlan, OnlyWhereNobodyElseCouldLeadTheSurvivorGoesOn) {
  ImageBuilder builder(3);
  builder.topic("a", {partition({1, 2, 3}, {1, 2, 3}, 1), partition({1, 2}, {1}, 1), partition({1, 2, 3}, {1}, 1, {2}),
                      partition({1, 2, 3}, {}, -1, {1}), partition({2, 3}, {2}, 2), partition({2}, {2}, 2)});
  PlannedState state(builder.build(), builder.next_offset());
  size_t done = 0;
  ASSERT_TRUE(plan_quorum_recovery(state, {4, BrokerId(1), 5'000}, builder.build().get(), done)->ok());
  const std::vector<PartitionImage>& after = state.find_topic("a")->partitions;
  EXPECT_EQ(after[1].leader, BrokerId(1));
  EXPECT_EQ(after[1].isr, brokers({1}));
  for (size_t p : {0u, 2u, 4u}) EXPECT_TRUE(after[p].nobody_trusted()) << p;
  EXPECT_EQ(after[3].elr, brokers({1}));
  EXPECT_EQ(after[5].leader, BrokerId(2));  // a sole replica has no rival; it is fenced like any other
  const std::vector<PartitionImage>& before = builder.build()->find_topic("a")->partitions;
  for (size_t p = 0; p < after.size(); ++p) {
    EXPECT_GT(after[p].leader_epoch, before[p].leader_epoch + 100) << p;
    EXPECT_GT(after[p].partition_epoch, before[p].partition_epoch + 100) << p;
    EXPECT_EQ(after[p].replicas, before[p].replicas);
  }
  EXPECT_GE(state.next_producer_id(), ProducerId(5'000'000));
  EXPECT_EQ(std::get<QuorumRecoveryRecord>(state.records().back()).number, 4);
  expect_legal_prefixes(builder, state.records());
  const api::RecoverQuorumResult foreseen = foresee_recovery(*builder.build(), BrokerId(1));
  EXPECT_EQ(foreseen.led, 2);
  EXPECT_EQ(foreseen.given_up, 2);
  EXPECT_EQ(foreseen.elsewhere, 2);
}

// As a leader whose followers were gone it had still asked to shrink the ISR; the others may have gone on meanwhile.
TEST(QuorumRecoveryPlan, WhatTheSurvivorOnlyWishedIsNotBelieved) {
  ImageBuilder builder(3);
  builder.topic("a", {partition({1, 2, 3}, {1, 2}, 1), partition({1, 2, 3}, {1}, 1)});
  const ImagePtr committed = builder.build();
  const TopicImage& topic = *committed->find_topic("a");
  PartitionImage wished = topic.partitions[0];
  wished.isr = brokers({1});
  wished.partition_epoch = wished.partition_epoch + 1;
  builder.add(partition_record(topic.id, PartitionId(0), wished));
  for (const MetadataImage* believed : {committed.get(), static_cast<const MetadataImage*>(nullptr)}) {
    PlannedState state(builder.build(), builder.next_offset());
    size_t done = 0;
    ASSERT_TRUE(plan_quorum_recovery(state, {1, BrokerId(1), 0}, believed, done)->ok());
    EXPECT_TRUE(state.find_topic("a")->partitions[0].nobody_trusted());
    EXPECT_EQ(state.find_topic("a")->partitions[1].nobody_trusted(), believed == nullptr);
  }
}

TEST(QuorumRecoveryPlan, GoesThroughManyPartitionsInSteps) {
  ImageBuilder builder(3);
  std::vector<PartitionImage> many(kPartitionChangesPerStep + 7, partition({1, 2, 3}, {1, 2, 3}, 1));
  builder.topic("a", many);
  const LeaderEpoch before = builder.build()->find_topic("a")->partitions[0].leader_epoch;
  size_t done = 0;
  int steps = 1;
  for (bool complete = false; !complete; ++steps) {
    PlannedState state(builder.build(), builder.next_offset());
    complete = plan_quorum_recovery(state, {1, BrokerId(1), 0}, nullptr, done).has_value();
    EXPECT_LE(state.records().size(), kPartitionChangesPerStep + 2);
    builder.add_all(state.records());
    ASSERT_LT(steps, 5);
  }
  EXPECT_EQ(steps, 3);
  for (const PartitionImage& p : builder.build()->find_topic("a")->partitions) {
    EXPECT_TRUE(p.nobody_trusted());
    EXPECT_EQ(p.leader_epoch, before + kUnheardEpochs);  // once
  }
  EXPECT_EQ(builder.build()->recovery()->survivor, BrokerId(1));
}

}  // namespace
}  // namespace trilog
