#include "broker/group/group_coordinator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/broker/group/group_node.h"

namespace trilog {
namespace {

using api::ErrorCode;
using api::Outcome;
using ::testing::ElementsAre;
using testing::GroupNode;
using ::testing::HasSubstr;

TEST(GroupCoordinator, ACommitIsFoundAfterItsAnswer) {
  GroupNode node;
  node.fill(100);
  api::CommittedOffset offset = GroupNode::at(1, 42);
  offset.metadata = "half way";
  offset.leader_epoch = LeaderEpoch(3);
  int64_t now = node.env->clock().wall_ms();
  auto answer = node.commit("billing", {GroupNode::at(0, 7), offset});
  ASSERT_TRUE(answer.ok()) << answer.error().message;
  ASSERT_EQ(answer->size(), 2u);
  EXPECT_EQ((*answer.operator->())[1].offset, Offset(42));
  EXPECT_FALSE(answer->front().error.has_value());

  auto found = node.fetch("billing");
  ASSERT_TRUE(found.ok());
  ASSERT_EQ(found->size(), 2u);
  const api::CommittedOffset& second = found.value()[1];
  EXPECT_EQ(second.topic, "orders");
  EXPECT_EQ(second.partition, PartitionId(1));
  EXPECT_EQ(second.offset, Offset(42));
  EXPECT_EQ(second.metadata, "half way");
  EXPECT_EQ(second.leader_epoch, LeaderEpoch(3));
  EXPECT_GE(second.commit_timestamp_ms, now);
  EXPECT_EQ(node.committed("billing", 0), 7);
  EXPECT_EQ(node.committed("billing", 2), -1) << "nothing was committed there";
  EXPECT_EQ(node.committed("shipping", 0), -1);
}

TEST(GroupCoordinator, ACommitIsAnsweredWhenItIsOnDisk) {
  GroupNode node;
  node.fill(10);
  node.disk.hold_syncs(true);
  auto slot = node.begin_commit({.group = "billing", .offsets = {GroupNode::at(0, 5)}});
  node.settle();
  EXPECT_FALSE(slot->has_value());
  node.disk.hold_syncs(false);
  node.settle();
  ASSERT_TRUE(slot->has_value());
  EXPECT_TRUE((*slot)->ok());
}

TEST(GroupCoordinator, TheStoreIsNotOpenedBeforeAGroupIsUsed) {
  GroupNode node;
  node.fill(10);
  EXPECT_EQ(node.stores_opened, 0);
  node.must_commit("billing", {GroupNode::at(0, 5)});
  EXPECT_GT(node.stores_opened, 0);
}

TEST(GroupCoordinator, CommitsThatWaitShareOneAppend) {
  GroupNode node(1, 1);
  node.fill(10);
  node.must_commit("warm up", {GroupNode::at(0, 1)});
  Offset before = node.ends(node.offsets).log_end;
  uint64_t syncs = node.disk.calls(sim::DiskCall::kSync);
  std::vector<GroupNode::Slot<GroupNode::Offsets>> slots;
  for (int i = 0; i < 100; ++i) {
    slots.push_back(node.begin_commit({.group = "g" + std::to_string(i), .offsets = {GroupNode::at(0, i % 10)}}));
  }
  node.settle();
  for (const auto& slot : slots) {
    ASSERT_TRUE(slot->has_value());
    EXPECT_TRUE((*slot)->ok());
  }
  EXPECT_EQ(node.ends(node.offsets).log_end, before + 100);
  EXPECT_LE(node.disk.calls(sim::DiskCall::kSync) - syncs, 3u);
}

TEST(GroupCoordinator, RefusesSingleOffsetsAndTakesTheOthers) {
  GroupNode node;
  node.fill(10);
  api::CommittedOffset long_metadata = GroupNode::at(0, 1);
  long_metadata.metadata = std::string(4097, 'm');
  auto answer = node.commit("billing", {GroupNode::at(0, 1, "nothing"), GroupNode::at(9, 1), GroupNode::at(0, -1),
                                        long_metadata, GroupNode::at(0, 11), GroupNode::at(1, 10)});
  ASSERT_TRUE(answer.ok());
  std::vector<std::optional<ErrorCode>> codes;
  for (const api::CommittedOffset& offset : answer.value()) {
    codes.push_back(offset.error ? std::optional(offset.error->code) : std::nullopt);
    if (offset.error) {
      EXPECT_EQ(offset.error->outcome, Outcome::kNotWritten);
    }
  }
  EXPECT_THAT(codes, ElementsAre(ErrorCode::kUnknownTopic, ErrorCode::kUnknownPartition, ErrorCode::kInvalidRequest,
                                 ErrorCode::kInvalidRequest, ErrorCode::kOffsetOutOfRange, std::nullopt));
  EXPECT_EQ(node.committed("billing", 1), 10);
  EXPECT_EQ(node.committed("billing", 0), -1);
}

TEST(GroupCoordinator, RefusesWholeCommitsForTheGroupsReasons) {
  GroupNode node;
  node.fill(10);
  EXPECT_EQ(node.commit("", {GroupNode::at(0, 1)}).error().code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(node.commit("billing", {}).error().code, ErrorCode::kInvalidRequest);
  auto late = node.commit(api::CommitOffsetsRequest{
      .group = "billing", .offsets = {GroupNode::at(0, 1)}, .deadline_ns = node.world.now_ns()});
  EXPECT_EQ(late.error().code, ErrorCode::kRequestTimedOut);
  EXPECT_EQ(late.error().outcome, Outcome::kNotWritten);
  std::vector<api::CommittedOffset> many(node.group_options.offsets_per_commit_max + 1, GroupNode::at(0, 1));
  EXPECT_EQ(node.commit("billing", many).error().code, ErrorCode::kInvalidRequest);
  api::CommittedOffset wordy = GroupNode::at(0, 1);
  wordy.metadata = std::string(4096, 'm');
  std::vector<api::CommittedOffset> large(3000, wordy);
  EXPECT_THAT(node.commit("billing", large).error().message, HasSubstr("at most 8388608"));
  EXPECT_EQ(node.ends(node.home_of("billing")).log_end, Offset(0));
}

TEST(GroupCoordinator, RewindsOnlyWhenToldTo) {
  GroupNode node;
  node.fill(10);
  node.must_commit("billing", {GroupNode::at(0, 8)});
  node.must_commit("billing", {GroupNode::at(0, 3)});
  EXPECT_EQ(node.committed("billing", 0), 3) << "an explicit commit may go back";
}

TEST(GroupCoordinator, ATimeoutSaysWhetherTheCommitWasBegun) {
  GroupNode node;
  node.fill(10);
  node.must_commit("billing", {GroupNode::at(0, 1)});
  node.disk.hold_syncs(true);
  auto begun =
      node.begin_commit({.group = "billing", .offsets = {GroupNode::at(0, 2)}, .deadline_ns = node.in_ms(100)});
  node.settle();
  auto waiting =
      node.begin_commit({.group = "billing", .offsets = {GroupNode::at(0, 3)}, .deadline_ns = node.in_ms(100)});
  node.run_for_ms(101);
  ASSERT_TRUE(begun->has_value() && waiting->has_value());
  EXPECT_EQ((*begun)->error().code, ErrorCode::kRequestTimedOut);
  EXPECT_EQ((*begun)->error().outcome, Outcome::kUnknown);
  EXPECT_EQ((*waiting)->error().outcome, Outcome::kNotWritten);
  node.disk.hold_syncs(false);
  node.settle();
  EXPECT_EQ(node.committed("billing", 0), 2) << "the first came through, the second was never tried";
}

TEST(GroupCoordinator, RefusesMoreThanMayWait) {
  GroupNode node;
  node.kill_node();
  node.group_options.commits_waiting_max = 3;
  node.start_node();
  node.fill(10);
  node.disk.hold_syncs(true);
  for (int i = 0; i < 3; ++i) node.begin_commit({.group = "billing", .offsets = {GroupNode::at(0, 1)}});
  auto refused = node.begin_commit({.group = "billing", .offsets = {GroupNode::at(0, 1)}});
  node.settle();
  ASSERT_TRUE(refused->has_value());
  EXPECT_EQ((*refused)->error().code, ErrorCode::kThrottled);
}

TEST(GroupCoordinator, RefusesMoreGroupsThanTheLimit) {
  GroupNode node(1, 1);
  node.kill_node();
  node.group_options.groups_max = 2;
  node.start_node();
  node.fill(10);
  EXPECT_TRUE(node.commit("a", {GroupNode::at(0, 1)}).ok());
  EXPECT_TRUE(node.commit("b", {GroupNode::at(0, 1)}).ok());
  EXPECT_EQ(node.commit("c", {GroupNode::at(0, 1)}).error().code, ErrorCode::kThrottled);
  EXPECT_TRUE(node.commit("a", {GroupNode::at(1, 1)}).ok());
  node.restart();
  EXPECT_EQ(node.commit("c", {GroupNode::at(0, 1)}).error().code, ErrorCode::kThrottled);
  EXPECT_TRUE(node.remove_group("a").ok());
  EXPECT_TRUE(node.commit("c", {GroupNode::at(0, 1)}).ok());
}

TEST(GroupCoordinator, ListsGroupsInOrderPageByPage) {
  GroupNode node(1, 4);
  node.fill(10);
  for (const char* name : {"delta", "alpha", "beta", "charlie"}) node.must_commit(name, {GroupNode::at(0, 1)});
  ASSERT_TRUE(node.groups->claim({.group = "beta", .topics = {"orders"}, .stream = 1}).ok());
  ASSERT_TRUE(node.groups->claim({.group = "zulu", .topics = {"orders"}, .stream = 2}).ok());
  EXPECT_THAT(node.list(), ElementsAre("alpha Empty", "beta Stable", "charlie Empty", "delta Empty", "zulu Stable"));
  EXPECT_THAT(node.list("", "", 2), ElementsAre("alpha Empty", "beta Stable"));
  EXPECT_THAT(node.list("", "beta", 2), ElementsAre("charlie Empty", "delta Empty"));
  EXPECT_THAT(node.list("c"), ElementsAre("charlie Empty"));
}

TEST(GroupCoordinator, DescribesStateAndOffsets) {
  GroupNode node;
  node.fill(10);
  EXPECT_EQ(node.describe("billing").error().code, ErrorCode::kUnknownGroup);
  ASSERT_TRUE(node.groups->claim({.group = "billing", .topics = {"orders"}, .stream = 1}).ok());
  auto claimed = node.describe("billing");
  ASSERT_TRUE(claimed.ok());
  EXPECT_EQ(claimed->state, "Stable");
  EXPECT_TRUE(claimed->partitions.empty());
  node.groups->release("billing", 1);
  node.must_commit("billing", {GroupNode::at(2, 4), GroupNode::at(0, 3)});
  auto group = node.describe("billing");
  ASSERT_TRUE(group.ok());
  EXPECT_EQ(group->state, "Empty");
  ASSERT_EQ(group->partitions.size(), 2u);
  EXPECT_EQ(group->partitions[0].partition, PartitionId(0));
  EXPECT_EQ(group->partitions[1].committed, Offset(4));
}

TEST(GroupCoordinator, StreamsCommitWhileTheyHoldTheGroupAndNobodyElse) {
  GroupNode node;
  node.fill(10);
  ASSERT_TRUE(node.groups->claim({.group = "billing", .topics = {"orders"}, .stream = 7, .holder = "app"}).ok());
  auto second = node.groups->claim({.group = "billing", .topics = {"orders"}, .stream = 8});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::kGroupInUse);
  EXPECT_EQ(node.commit("billing", {GroupNode::at(0, 1)}).error().code, ErrorCode::kGroupInUse);
  api::CommitOffsetsRequest mine{.group = "billing", .offsets = {GroupNode::at(0, 2)}, .stream = 7};
  EXPECT_TRUE(node.commit(mine).ok());
  EXPECT_EQ(node.remove_group("billing").error().code, ErrorCode::kGroupNotEmpty);
  node.groups->release("billing", 7);
  EXPECT_EQ(node.commit(mine).error().code, ErrorCode::kFencedMember);
  EXPECT_TRUE(node.commit("billing", {GroupNode::at(0, 3)}).ok());
}

TEST(GroupCoordinator, ADeletedGroupIsGoneAlsoAfterARestart) {
  GroupNode node;
  node.fill(10);
  EXPECT_EQ(node.remove_group("billing").error().code, ErrorCode::kUnknownGroup);
  node.must_commit("billing", {GroupNode::at(0, 1), GroupNode::at(1, 2)});
  node.must_commit("shipping", {GroupNode::at(0, 5)});
  EXPECT_TRUE(node.remove_group("billing", true).ok());
  EXPECT_EQ(node.committed("billing", 0), 1) << "only validated";
  EXPECT_TRUE(node.remove_group("billing").ok());
  EXPECT_EQ(node.committed("billing", 0), -1);
  EXPECT_THAT(node.list(), ElementsAre("shipping Empty"));
  node.cut_power();
  node.start_node();
  EXPECT_EQ(node.committed("billing", 0), -1);
  EXPECT_EQ(node.describe("billing").error().code, ErrorCode::kUnknownGroup);
  EXPECT_EQ(node.committed("shipping", 0), 5);
}

TEST(GroupCoordinator, DeletesAGroupOfManyPartitionsPieceByPiece) {
  GroupNode node(1, 1);
  node.add_topic("wide", {.partitions = 2500});
  node.change({});
  GroupNode::Offsets all;
  for (int32_t p = 0; p < 2500; ++p) all.push_back(GroupNode::at(p, 0, "wide"));
  ASSERT_TRUE(node.commit("billing", all).ok());
  EXPECT_EQ(node.fetch("billing")->size(), 2500u);
  ASSERT_TRUE(node.remove_group("billing").ok());
  EXPECT_EQ(node.fetch("billing")->size(), 0u);
  EXPECT_EQ(node.ends(node.offsets).log_end, Offset(5000));
}

TEST(GroupCoordinator, OffsetsOfADeletedTopicGoAndDoNotComeBackWithItsName) {
  GroupNode node(1, 1);
  node.fill(10);
  node.add_topic("returns");
  node.change({});
  node.fill(10, "returns");
  node.must_commit("billing", {GroupNode::at(0, 1), GroupNode::at(0, 9, "returns")});
  node.must_commit("returning", {GroupNode::at(0, 9, "returns")});
  node.remove_topic("returns");
  node.settle();
  EXPECT_EQ(node.fetch("billing")->size(), 1u);
  EXPECT_THAT(node.list(), ElementsAre("billing Empty"));
  EXPECT_EQ(node.ends(node.offsets).log_end, Offset(5)) << "two tombstones were written";
  node.add_topic("returns");
  node.change({});
  EXPECT_EQ(node.committed("billing", 0, "returns"), -1);
  EXPECT_EQ(node.describe("returning").error().code, ErrorCode::kUnknownGroup);
}

TEST(GroupCoordinator, WithoutTheOffsetsTopicThereAreNoGroups) {
  GroupNode node;
  node.change({RemoveTopicRecord{node.offsets.topic}});
  EXPECT_EQ(node.describe("billing").error().code, ErrorCode::kUnknownGroup);
  EXPECT_EQ(node.remove_group("billing").error().code, ErrorCode::kUnknownGroup);
  EXPECT_THAT(node.list(), ElementsAre());
  EXPECT_EQ(node.commit("billing", {GroupNode::at(0, 0)}).error().code, ErrorCode::kLeaderNotAvailable);
}

TEST(GroupCoordinator, LosingThePartitionFailsWhatWaits) {
  GroupNode node(1, 1);
  node.fill(10);
  node.must_commit("billing", {GroupNode::at(0, 1)});
  node.disk.hold_syncs(true);
  auto in_flight = node.begin_commit({.group = "billing", .offsets = {GroupNode::at(0, 2)}});
  node.settle();
  auto waiting = node.begin_commit({.group = "billing", .offsets = {GroupNode::at(0, 3)}});
  testing::TopicSpec both{.replicas = {testing::kSelf, BrokerId(2)}, .isr = {BrokerId(2)}};
  node.change({testing::ReplicaNode::partition_record(node.offsets.topic, 0, both, 1, BrokerId(2))});
  node.settle();
  ASSERT_TRUE(in_flight->has_value() && waiting->has_value());
  EXPECT_EQ((*in_flight)->error().code, ErrorCode::kLeadershipLost);
  EXPECT_EQ((*in_flight)->error().outcome, Outcome::kUnknown);
  EXPECT_EQ((*waiting)->error().code, ErrorCode::kNotLeader);
  EXPECT_EQ((*waiting)->error().outcome, Outcome::kNotWritten);
  auto moved = node.commit("billing", {GroupNode::at(0, 4)});
  EXPECT_EQ(moved.error().code, ErrorCode::kNotLeader);
  EXPECT_EQ(moved.error().details.at("leader"), "2");
}

TEST(GroupCoordinator, StoppingAnswersEverybodyOnce) {
  GroupNode node(1, 1);
  node.fill(10);
  node.must_commit("billing", {GroupNode::at(0, 1)});
  auto in_flight = node.begin_commit({.group = "billing", .offsets = {GroupNode::at(0, 2)}});
  node.world.run_one();
  auto waiting = node.begin_commit({.group = "billing", .offsets = {GroupNode::at(0, 3)}});
  node.groups->stop();
  auto refused = node.begin_commit({.group = "billing", .offsets = {GroupNode::at(0, 4)}});
  EXPECT_FALSE(waiting->has_value());
  std::optional<bool> clean;
  node.replicas->stop([&](Result<Marks> marks) { clean = marks.ok(); });
  node.world.run_until_idle();
  EXPECT_EQ(clean, true);
  ASSERT_TRUE(in_flight->has_value() && waiting->has_value() && refused->has_value());
  EXPECT_EQ((*refused)->error().code, ErrorCode::kNodeStopping);
}

}  // namespace
}  // namespace trilog
