#include "broker/controller/topic_control.h"

#include <gtest/gtest.h>

#include "broker/metadata/topic_settings.h"
#include "tests/broker/controller/image_builder.h"
#include "tests/sim/sim_executor.h"

namespace trilog {
namespace {

using api::ErrorCode;
using testing::ImageBuilder;
using testing::partition;

class TopicControl : public ::testing::Test {
 protected:
  TopicControl() { use(ImageBuilder(1)); }
  void use(const ImageBuilder& from) {
    builder = from;
    state.emplace(builder.build(), builder.next_offset());
  }
  api::Answer<api::CreateTopicResult> create(api::CreateTopicRequest request) {
    return plan_create_topic(*state, request, options, random);
  }
  api::Answer<api::AlterTopicResult> alter(api::AlterTopicRequest request) {
    return plan_alter_topic(*state, request, options);
  }
  // What replaying the records makes of the image: the plan must have foreseen exactly that.
  void expect_foreseen() {
    ImageBuilder replay = builder;
    for (const MetadataRecord& record : state->records()) replay.add(record);
    ImagePtr image = replay.build();
    EXPECT_EQ(image->topics().size(), state->topic_count());
    for (const TopicImage* planned : state->topics()) {
      const TopicImage* real = image->find_topic(planned->name);
      ASSERT_NE(real, nullptr) << planned->name;
      EXPECT_EQ(real->id, planned->id);
      EXPECT_EQ(real->partitions, planned->partitions);
      EXPECT_EQ(real->configs, planned->configs);
      EXPECT_EQ(real->durability, planned->durability);
    }
    EXPECT_EQ(image->next_producer_id(), state->next_producer_id());
  }

  ControllerOptions options;
  sim::SeededRandom random{3};
  ImageBuilder builder;
  std::optional<PlannedState> state;
};

// --- create ------------------------------------------------------------------------------------------------------

TEST_F(TopicControl, CreatesATopicWithLeadersAndAnIdOfItsOwn) {
  auto made = create({.name = "orders", .partitions = 6, .configs = {{"retention.ms", "60000"}}});
  ASSERT_TRUE(made.ok());
  EXPECT_TRUE(made->created);
  EXPECT_FALSE(made->topic.id.is_zero());
  EXPECT_EQ(made->topic.replicas, 1);
  EXPECT_TRUE(made->topic.unsafe);
  ASSERT_EQ(made->topic.partitions.size(), 6u);
  for (const api::PartitionState& p : made->topic.partitions) {
    EXPECT_EQ(p.leader, BrokerId(1));
    EXPECT_EQ(p.leader_epoch, LeaderEpoch(0));
    EXPECT_TRUE(p.lagging.empty());
  }
  EXPECT_EQ(made->topic.configs.at("retention.ms").value, "60000");
  EXPECT_EQ(made->topic.configs.at("retention.ms").source, "topic");
  expect_foreseen();
}

TEST_F(TopicControl, UsesTheNodesDefaults) {
  options.default_partitions = 4;
  use(ImageBuilder(5));
  auto made = create({.name = "orders"});
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made->topic.partitions.size(), 4u);
  EXPECT_EQ(made->topic.replicas, 3);
  EXPECT_FALSE(made->topic.unsafe);
}

TEST_F(TopicControl, TakesTheDurabilityOutOfTheSettings) {
  auto made = create({.name = "fast", .configs = {{"durability", "replicated"}}});
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made->topic.durability, api::Durability::kReplicated);
  EXPECT_TRUE(state->find_topic("fast")->configs.empty());
  expect_foreseen();
}

TEST_F(TopicControl, CountsOnBrokersThatAreDownOnlyForReplicas) {
  ImageBuilder three(2);
  three.broker(3, false);
  use(three);
  auto made = create({.name = "orders", .partitions = 9, .replicas = 3});
  ASSERT_TRUE(made.ok());
  for (const api::PartitionState& p : made->topic.partitions) {
    EXPECT_NE(p.leader, BrokerId(3));
    EXPECT_EQ(p.lagging, testing::brokers({3}));
  }
}

struct BadCreate {
  const char* what;
  api::CreateTopicRequest request;
  ErrorCode code;
  const char* says;
};

TEST_F(TopicControl, RefusesWhatIsNotAcceptableAndSaysWhy) {
  builder.topic("a.b", {partition({1}, {1}, 1)}).topic("orders", {partition({1}, {1}, 1)});
  use(builder);
  options.partitions_max = 100;
  options.partitions_total_max = 50;
  options.topics_max = 2;
  std::vector<BadCreate> cases;
  cases.push_back({"no name", {.name = ""}, ErrorCode::kInvalidTopic, "empty"});
  cases.push_back({"dots", {.name = ".."}, ErrorCode::kInvalidTopic, ".."});
  cases.push_back({"slash", {.name = "a/b"}, ErrorCode::kInvalidTopic, "only letters"});
  cases.push_back({"collision", {.name = "a_b"}, ErrorCode::kInvalidTopic, "'a.b'"});
  cases.push_back({"there", {.name = "orders"}, ErrorCode::kTopicExists, "exists already"});
  cases.push_back({"internal", {.name = std::string(kOffsetsTopic)}, ErrorCode::kInvalidTopic, "internal"});
  cases.push_back({"negative", {.name = "x", .partitions = -1}, ErrorCode::kInvalidRequest, "at least 1"});
  cases.push_back({"too many", {.name = "x", .partitions = 101}, ErrorCode::kInvalidRequest, "at most 100"});
  cases.push_back({"in sum", {.name = "x", .partitions = 49}, ErrorCode::kInvalidRequest, "its limit is 50"});
  cases.push_back({"replicas", {.name = "x", .replicas = -2}, ErrorCode::kInvalidRequest, "at least 1"});
  cases.push_back({"nodes", {.name = "x", .replicas = 3}, ErrorCode::kInvalidConfig, "1 node is registered"});
  cases.push_back({"setting",
                   {.name = "x", .configs = {{"retention.mss", "1"}}},
                   ErrorCode::kInvalidConfig,
                   "did you mean retention.ms"});
  cases.push_back({"value", {.name = "x", .configs = {{"retention.ms", "soon"}}}, ErrorCode::kInvalidConfig, "soon"});
  cases.push_back(
      {"compact", {.name = "x", .configs = {{"cleanup.policy", "compact"}}}, ErrorCode::kInvalidConfig, "compact"});
  cases.push_back(
      {"recompression", {.name = "x", .configs = {{"compression.type", "zstd"}}}, ErrorCode::kInvalidConfig, "zstd"});
  cases.push_back({"min in sync",
                   {.name = "x", .configs = {{"min.insync.replicas", "2"}}},
                   ErrorCode::kInvalidConfig,
                   "1 replica"});
  cases.push_back({"topics", {.name = "x"}, ErrorCode::kInvalidRequest, "limit"});
  for (const BadCreate& bad : cases) {
    auto answer = create(bad.request);
    ASSERT_FALSE(answer.ok()) << bad.what;
    EXPECT_EQ(answer.error().code, bad.code) << bad.what << ": " << answer.error().message;
    EXPECT_NE(answer.error().message.find(bad.says), std::string::npos) << bad.what << ": " << answer.error().message;
    EXPECT_EQ(answer.error().outcome, api::Outcome::kNotWritten);
    EXPECT_TRUE(state->records().empty()) << bad.what;
  }
}

TEST_F(TopicControl, WithoutANodeThatIsUpNothingCanBeCreated) {
  ImageBuilder down;
  use(down.broker(1, false));
  EXPECT_EQ(create({.name = "x"}).error().code, ErrorCode::kNotEnoughNodes);
}

TEST_F(TopicControl, AnExistingTopicIsNoErrorIfAskedSo) {
  ASSERT_TRUE(create({.name = "orders", .partitions = 3}).ok());
  size_t records = state->records().size();
  auto again = create({.name = "orders", .partitions = 5, .if_not_exists = true});
  ASSERT_TRUE(again.ok());
  EXPECT_FALSE(again->created);
  EXPECT_EQ(again->topic.partitions.size(), 3u);
  EXPECT_EQ(state->records().size(), records);
}

TEST_F(TopicControl, OnlyAskingGivesTheSameAnswerAndChangesNothing) {
  auto asked = create({.name = "orders", .partitions = 2, .validate_only = true});
  ASSERT_TRUE(asked.ok());
  EXPECT_TRUE(asked->created);
  EXPECT_EQ(asked->topic.partitions.size(), 2u);
  EXPECT_TRUE(state->records().empty());
  EXPECT_EQ(state->find_topic("orders"), nullptr);
  ASSERT_TRUE(create({.name = "orders", .partitions = 2}).ok());
  auto grow = alter({.name = "orders", .set = {{"retention.ms", "5"}}, .partitions = 4, .validate_only = true});
  ASSERT_TRUE(grow.ok());
  EXPECT_TRUE(grow->changed);
  EXPECT_EQ(grow->topic.partitions.size(), 4u);
  EXPECT_EQ(state->find_topic("orders")->partitions.size(), 2u);
  EXPECT_TRUE(state->find_topic("orders")->configs.empty());
  expect_foreseen();
}

TEST_F(TopicControl, TheBrokerItselfMayMakeInternalTopics) {
  auto made = create({.name = std::string(kOffsetsTopic), .partitions = 8, .internal = true});
  ASSERT_TRUE(made.ok());
  EXPECT_TRUE(state->find_topic(kOffsetsTopic)->internal);
  EXPECT_EQ(plan_delete_topic(*state, {.name = std::string(kOffsetsTopic)}).error().code, ErrorCode::kInvalidTopic);
  EXPECT_EQ(alter({.name = std::string(kOffsetsTopic), .partitions = 9}).error().code, ErrorCode::kInvalidTopic);
}

// --- delete ------------------------------------------------------------------------------------------------------

TEST_F(TopicControl, DeletesATopicAndItsNameCanBeUsedAgain) {
  TopicId first = create({.name = "orders"})->topic.id;
  ASSERT_TRUE(plan_delete_topic(*state, {.name = "orders", .id = first}).value());
  EXPECT_EQ(state->find_topic("orders"), nullptr);
  TopicId second = create({.name = "orders"})->topic.id;
  EXPECT_NE(first, second);
  // C11: whoever still means the first one does not hit the second.
  auto late = plan_delete_topic(*state, {.name = "orders", .id = first});
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().code, ErrorCode::kUnknownTopic);
  expect_foreseen();
}

TEST_F(TopicControl, AMissingTopicIsAnErrorThatNamesItsNeighbours) {
  use(builder.topic("orders", {partition({1}, {1}, 1)}));
  auto missing = plan_delete_topic(*state, {.name = "ordrs"});
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kUnknownTopic);
  EXPECT_NE(missing.error().message.find("did you mean orders?"), std::string::npos) << missing.error().message;
  auto tolerated = plan_delete_topic(*state, {.name = "ordrs", .if_exists = true});
  ASSERT_TRUE(tolerated.ok());
  EXPECT_FALSE(tolerated.value());
  auto asked = plan_delete_topic(*state, {.name = "orders", .validate_only = true});
  ASSERT_TRUE(asked.ok());
  EXPECT_TRUE(asked.value());
  EXPECT_TRUE(state->records().empty());
}

// --- alter -------------------------------------------------------------------------------------------------------

TEST_F(TopicControl, SetsUnsetsAndGrows) {
  ASSERT_TRUE(
      create({.name = "t", .partitions = 2, .configs = {{"retention.ms", "1000"}, {"segment.ms", "5000"}}}).ok());
  auto altered = alter({.name = "t", .set = {{"retention.bytes", "4096"}}, .unset = {"segment.ms"}, .partitions = 3});
  ASSERT_TRUE(altered.ok());
  EXPECT_TRUE(altered->changed);
  EXPECT_EQ(altered->topic.partitions.size(), 3u);
  EXPECT_EQ(altered->topic.configs.at("segment.ms").source, "default");
  EXPECT_EQ(state->find_topic("t")->configs,
            (std::map<std::string, std::string>{{"retention.bytes", "4096"}, {"retention.ms", "1000"}}));
  expect_foreseen();
}

TEST_F(TopicControl, WhatIsSoAlreadyIsNoChange) {
  ASSERT_TRUE(create({.name = "t", .partitions = 2, .configs = {{"retention.ms", "1000"}}}).ok());
  size_t records = state->records().size();
  auto same = alter({.name = "t", .set = {{"retention.ms", "1000"}}, .unset = {"segment.ms"}, .partitions = 2});
  ASSERT_TRUE(same.ok());
  EXPECT_FALSE(same->changed);
  EXPECT_FALSE(alter({.name = "t"})->changed);
  EXPECT_EQ(state->records().size(), records);
}

TEST_F(TopicControl, RefusesChangesThatCannotBe) {
  ASSERT_TRUE(create({.name = "t", .partitions = 2}).ok());
  size_t records = state->records().size();
  struct Bad {
    api::AlterTopicRequest request;
    ErrorCode code;
    const char* says;
  };
  std::vector<Bad> cases;
  cases.push_back({{.name = "t", .set = {{"durability", "replicated"}}}, ErrorCode::kInvalidConfig, "fixed"});
  cases.push_back({{.name = "t", .unset = {"durability"}}, ErrorCode::kInvalidConfig, "fixed"});
  cases.push_back({{.name = "t", .unset = {"retention"}}, ErrorCode::kInvalidConfig, "retention"});
  cases.push_back({{.name = "t", .set = {{"segment.ms", "x"}}}, ErrorCode::kInvalidConfig, "whole number"});
  cases.push_back(
      {{.name = "t", .set = {{"segment.ms", "5000"}}, .unset = {"segment.ms"}}, ErrorCode::kInvalidRequest, "both"});
  cases.push_back({{.name = "t", .set = {{"min.insync.replicas", "3"}}}, ErrorCode::kInvalidConfig, "at most"});
  cases.push_back({{.name = "t", .partitions = 1}, ErrorCode::kInvalidRequest, "only grow"});
  cases.push_back({{.name = "t", .partitions = -4}, ErrorCode::kInvalidRequest, "at least"});
  cases.push_back({{.name = "t", .partitions = 10'001}, ErrorCode::kInvalidRequest, "at most"});
  cases.push_back({{.name = "tt"}, ErrorCode::kUnknownTopic, "no topic tt"});
  cases.push_back({{.name = "t/t"}, ErrorCode::kInvalidTopic, "only letters"});
  for (const Bad& bad : cases) {
    auto answer = alter(bad.request);
    ASSERT_FALSE(answer.ok()) << bad.says;
    EXPECT_EQ(answer.error().code, bad.code) << answer.error().message;
    EXPECT_NE(answer.error().message.find(bad.says), std::string::npos) << answer.error().message;
    EXPECT_EQ(state->records().size(), records);
  }
}

}  // namespace
}  // namespace trilog
