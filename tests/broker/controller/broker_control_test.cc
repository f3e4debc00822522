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

// Every prefix of the records must be a state that may be seen (C10).
void expect_legal_prefixes(const ImageBuilder& before, const std::vector<MetadataRecord>& records) {
  ImageBuilder builder = before;
  for (const MetadataRecord& record : records) {
    builder.add(record);
    for (const auto& [name, topic] : builder.build()->topics()) {
      for (const PartitionImage& p : topic->partitions) {
        auto in = [](const std::vector<BrokerId>& list, BrokerId id) {
          return std::find(list.begin(), list.end(), id) != list.end();
        };
        EXPECT_TRUE(p.leader == kNoBroker || in(p.isr, p.leader));
        for (BrokerId id : p.isr) {
          EXPECT_TRUE(in(p.replicas, id));
          EXPECT_FALSE(in(p.elr, id));
        }
      }
    }
  }
}

TEST(BrokerControl, ANewBrokerGetsItsEpochFromTheOffsetOfItsRegistration) {
  ImageBuilder builder;
  PlannedState state(builder.build(), Offset(17));
  auto epoch = plan_registration(state, registration(1), true);
  ASSERT_TRUE(epoch.ok());
  EXPECT_EQ(epoch.value(), BrokerEpoch(17));
  ASSERT_EQ(state.records().size(), 2u);
  EXPECT_EQ(std::get<FenceBrokerRecord>(state.records()[1]), (FenceBrokerRecord{BrokerId(1), BrokerEpoch(17), false}));
  EXPECT_FALSE(state.find_broker(BrokerId(1))->fenced);
}

TEST(BrokerControl, ABrokerThatIsNotCaughtUpStartsFenced) {
  PlannedState state(ImageBuilder(1).build(), Offset(3));
  ASSERT_TRUE(plan_registration(state, registration(2, DirectoryId(7, 2)), false).ok());
  EXPECT_TRUE(state.find_broker(BrokerId(2))->fenced);
  EXPECT_EQ(state.brokers_up(), std::set<BrokerId>{BrokerId(1)});
}

TEST(BrokerControl, ARestartTakesOverAllItsPartitionsInANewEpochInOneStep) {
  ImageBuilder builder(1);
  builder.topic("a", {partition({1}, {1}, 1), partition({1}, {1}, 1)}).topic("b", {partition({1}, {1}, 1)});
  PlannedState state(builder.build(), builder.next_offset());
  ASSERT_TRUE(plan_registration(state, registration(1), true).ok());
  EXPECT_EQ(state.records().size(), 2u + 3u);
  for (const TopicImage* topic : state.topics()) {
    for (const PartitionImage& p : topic->partitions) {
      EXPECT_EQ(p.leader, BrokerId(1));
      EXPECT_EQ(p.isr, brokers({1}));
      EXPECT_EQ(p.leader_epoch, LeaderEpoch(6));
      EXPECT_EQ(p.partition_epoch, PartitionEpoch(10));
    }
  }
  expect_legal_prefixes(builder, state.records());
}

TEST(BrokerControl, ARestartedLeaderGivesWayToAnotherThatIsInSync) {
  ImageBuilder builder(3);
  builder.topic("a", {partition({1, 2, 3}, {1, 2}, 1), partition({2, 1}, {2, 1}, 2), partition({2, 3}, {2, 3}, 2)});
  PlannedState state(builder.build(), builder.next_offset());
  ASSERT_TRUE(plan_registration(state, registration(1), false).ok());
  const auto& partitions = state.find_topic("a")->partitions;
  EXPECT_EQ(partitions[0].leader, BrokerId(2));
  EXPECT_EQ(partitions[0].isr, brokers({2}));
  EXPECT_EQ(partitions[0].leader_epoch, LeaderEpoch(6));
  EXPECT_EQ(partitions[1].leader, BrokerId(2));
  EXPECT_EQ(partitions[1].isr, brokers({2}));
  EXPECT_EQ(partitions[1].leader_epoch, LeaderEpoch(5));  // led by the same process as before
  EXPECT_EQ(partitions[1].partition_epoch, PartitionEpoch(10));
  EXPECT_EQ(partitions[2], (partition({2, 3}, {2, 3}, 2)));  // not its business
  expect_legal_prefixes(builder, state.records());
}

TEST(BrokerControl, TheLastInSyncStaysInTheIsrButLeadsOnlyWhenItIsUp) {
  PartitionImage last = partition({1, 2}, {1}, 1, {});
  auto fenced = after_restart(last, BrokerId(1), {});
  ASSERT_TRUE(fenced.has_value());
  EXPECT_EQ(fenced->leader, kNoBroker);
  EXPECT_EQ(fenced->isr, brokers({1}));
  EXPECT_EQ(fenced->leader_epoch, LeaderEpoch(6));
  auto back = after_restart(*fenced, BrokerId(1), {BrokerId(1)});
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->leader, BrokerId(1));
  EXPECT_EQ(back->leader_epoch, LeaderEpoch(7));
}

TEST(BrokerControl, NobodyIsElectedFromTheElrByARestartAlone) {
  auto next = after_restart(partition({1, 2}, {}, -1, {1, 2}), BrokerId(1), {BrokerId(1), BrokerId(2)});
  EXPECT_FALSE(next.has_value());
}

TEST(BrokerControl, ARestartWithoutALookAtTheDiskLeavesTheElr) {
  auto next = after_restart(partition({1, 2, 3}, {2}, 2, {1, 3}), BrokerId(1), {BrokerId(1), BrokerId(2)});
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->elr, brokers({3}));
}

TEST(BrokerControl, RefusesAnotherDataFolderForALiveNode) {
  ImageBuilder builder(1);
  PlannedState state(builder.build(), builder.next_offset());
  auto refused = plan_registration(state, registration(1, DirectoryId(8, 8)), true);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, api::ErrorCode::kInvalidRequest);
  EXPECT_TRUE(state.records().empty());
}

}  // namespace
}  // namespace trilog
