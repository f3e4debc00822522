#include "broker/group/group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "broker/group/group_coordinator.h"

namespace trilog {
namespace {

using api::ErrorCode;
using ::testing::HasSubstr;

api::ClaimGroupRequest claim(api::StreamId stream, std::vector<std::string> topics, const std::string& holder = "cli") {
  return {.group = "billing", .topics = std::move(topics), .stream = stream, .holder = holder};
}
api::CommitOffsetsRequest commit(api::StreamId stream, const std::string& topic = "orders") {
  return {.group = "billing", .offsets = {{.topic = topic, .offset = Offset(1)}}, .stream = stream};
}

TEST(Group, IsEmptyUntilAStreamHoldsIt) {
  Group group("billing");
  EXPECT_EQ(group_state_name(group.state()), "Empty");
  EXPECT_EQ(group.claim(claim(1, {"orders"}), 0), std::nullopt);
  EXPECT_EQ(group_state_name(group.state()), "Stable");
  group.release(2);
  EXPECT_EQ(group.state(), GroupState::kStable);
  group.release(1);
  EXPECT_EQ(group.state(), GroupState::kEmpty);
}

TEST(Group, ASecondStreamOfATopicIsToldWhoHoldsItAndSinceWhen) {
  Group group("billing");
  ASSERT_EQ(group.claim(claim(1, {"orders", "returns"}, "billing-app at 10.0.0.7"), 1234), std::nullopt);
  auto refused = group.claim(claim(2, {"payments", "returns"}), 2000);
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->code, ErrorCode::kGroupInUse);
  EXPECT_THAT(refused->message, HasSubstr("billing-app at 10.0.0.7"));
  EXPECT_EQ(refused->details.at("since_ms"), "1234");
  EXPECT_EQ(group.claim(claim(3, {"payments"}), 2000), std::nullopt) << "another topic is free";
  group.release(1);
  EXPECT_EQ(group.claim(claim(2, {"returns"}), 3000), std::nullopt);
}

TEST(Group, AStreamMayReplaceItsOwnTopics) {
  Group group("billing");
  ASSERT_EQ(group.claim(claim(1, {"orders"}), 0), std::nullopt);
  ASSERT_EQ(group.claim(claim(1, {"returns"}), 0), std::nullopt);
  EXPECT_EQ(group.claim(claim(2, {"orders"}), 0), std::nullopt);
}

TEST(Group, CommitsFromOutsideWaitUntilNoStreamHasTheTopic) {
  Group group("billing");
  EXPECT_EQ(group.refuse_commit(commit(0)), std::nullopt);
  ASSERT_EQ(group.claim(claim(1, {"orders"}), 0), std::nullopt);
  EXPECT_EQ(group.refuse_commit(commit(0))->code, ErrorCode::kGroupInUse);
  EXPECT_EQ(group.refuse_commit(commit(0, "payments")), std::nullopt);
  EXPECT_EQ(group.refuse_commit(commit(1)), std::nullopt);
  group.release(1);
  EXPECT_EQ(group.refuse_commit(commit(0)), std::nullopt);
}

TEST(Group, AStreamThatLostTheGroupCommitsNothing) {
  Group group("billing");
  ASSERT_EQ(group.claim(claim(1, {"orders"}), 0), std::nullopt);
  group.release(1);
  EXPECT_EQ(group.refuse_commit(commit(1))->code, ErrorCode::kFencedMember);
  ASSERT_EQ(group.claim(claim(2, {"orders"}), 0), std::nullopt);
  EXPECT_NE(group.refuse_commit(commit(1)), std::nullopt);
}

TEST(Group, AStreamWhoseNodeIsAwayIsInNobodysWayAndComesBackIfNobodyCame) {
  constexpr BrokerId kAway{3};
  const api::StreamId stream = api::stream_of_node(1, kAway);
  Group group("billing");
  ASSERT_EQ(group.claim(claim(stream, {"orders"}), 0), std::nullopt);
  group.lapse(kAway);
  EXPECT_EQ(group.state(), GroupState::kEmpty);
  EXPECT_EQ(group.refuse_delete(), std::nullopt);
  EXPECT_EQ(group.refuse_commit(commit(stream)), std::nullopt);
  EXPECT_EQ(group.state(), GroupState::kStable);
  EXPECT_EQ(group.claim(claim(2, {"orders"}), 0)->code, ErrorCode::kGroupInUse);

  group.lapse(kAway);
  EXPECT_EQ(group.claim(claim(2, {"payments"}), 0), std::nullopt);
  EXPECT_EQ(group.refuse_commit(commit(stream)), std::nullopt) << "another topic";
  group.lapse(kAway);
  EXPECT_EQ(group.claim(claim(4, {"orders"}), 0), std::nullopt);
  group.release(4);
  EXPECT_EQ(group.refuse_commit(commit(stream))->code, ErrorCode::kFencedMember);

  ASSERT_EQ(group.claim(claim(stream, {"orders"}), 0), std::nullopt);
  group.lapse(kAway);
  EXPECT_EQ(group.refuse_commit(commit(0)), std::nullopt);
  EXPECT_EQ(group.refuse_commit(commit(stream))->code, ErrorCode::kFencedMember)
      << "a commit from outside came between";
}

TEST(Group, HasNeitherMembersNorGenerations) {
  Group group("billing");
  api::CommitOffsetsRequest member = commit(0);
  member.member_id = "consumer-1";
  EXPECT_EQ(group.refuse_commit(member)->code, ErrorCode::kFencedMember);
  api::CommitOffsetsRequest generation = commit(0);
  generation.generation = 3;
  EXPECT_EQ(group.refuse_commit(generation)->code, ErrorCode::kIllegalGeneration);
  generation.generation = -1;  // how a client says that it has none
  EXPECT_EQ(group.refuse_commit(generation), std::nullopt);
}

TEST(Group, IsNotDeletedWhileAStreamLives) {
  Group group("billing");
  EXPECT_EQ(group.refuse_delete(), std::nullopt);
  ASSERT_EQ(group.claim(claim(1, {"orders"}), 0), std::nullopt);
  EXPECT_EQ(group.refuse_delete()->code, ErrorCode::kGroupNotEmpty);
}

TEST(Group, NamesAreUtf8WithoutControlCharacters) {
  GroupOptions options;
  for (std::string good : {"a", "billing-1", "r\xc3\xa9sum\xc3\xa9", "\xe6\x97\xa5\xe6\x9c\xac", "\xf0\x9f\x98\x80"}) {
    EXPECT_EQ(check_group_name(good, options), std::nullopt) << good;
  }
  EXPECT_EQ(check_group_name(std::string(255, 'x'), options), std::nullopt);
  std::vector<std::string> bad = {
      "",         std::string(256, 'x'), std::string("a\0b", 3), "a\nb",     "a\x7f",     "a\xc2\x85", "\xff", "\xc3",
      "\xc0\x80", "\xed\xa0\x80",        "\xf4\x90\x80\x80",     "\xe2\x82", "ok\x80 cut"};
  for (const std::string& name : bad) {
    auto error = check_group_name(name, options);
    ASSERT_TRUE(error.has_value()) << name;
    EXPECT_EQ(error->code, ErrorCode::kInvalidRequest);
  }
}

TEST(Group, AlwaysLivesInTheSameOffsetsPartition) {
  // On disk for ever.
  EXPECT_EQ(offsets_partition_of("billing", 1), PartitionId(0));
  std::vector<int32_t> places;
  for (const char* name : {"billing", "shipping", "a", "b"}) places.push_back(offsets_partition_of(name, 8).value());
  std::vector<int32_t> again;
  for (const char* name : {"billing", "shipping", "a", "b"}) again.push_back(offsets_partition_of(name, 8).value());
  EXPECT_EQ(places, again);
  std::set<int32_t> used;
  for (int i = 0; i < 200; ++i) used.insert(offsets_partition_of("group-" + std::to_string(i), 8).value());
  EXPECT_EQ(used.size(), 8u);
}

}  // namespace
}  // namespace trilog
