#include "tests/client/client_fixture.h"

namespace trilog {
namespace {

using client::Error;
using client::OffsetSpec;
using client::TopicSpec;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class AdminTest : public ClientTest {
 protected:
  static TopicSpec spec(const std::string& name, int32_t partitions = 0) {
    return {.name = name, .partitions = partitions, .configs = {}};
  }
};

MATCHER_P(FailsWith, code, "") {
  if (arg.ok()) return false;
  *result_listener << arg.error().code << ": " << arg.error().message;
  return arg.error().code == code && arg.error().outcome == Error::Outcome::kNotWritten && !arg.error().message.empty();
}

TEST_F(AdminTest, ATopicIsMadeShownChangedAndDeleted) {
  start();
  TopicSpec wanted = spec("orders", 2);
  wanted.configs["retention.ms"] = "3600000";
  auto created = admin().create_topic(wanted);
  ASSERT_TRUE(created.ok()) << created.error().message;
  EXPECT_TRUE(created->second);
  EXPECT_THAT(created->first.partitions, SizeIs(2));
  EXPECT_THAT(admin().create_topic(wanted), FailsWith("TOPIC_EXISTS"));
  wanted.if_not_exists = true;
  auto again = admin().create_topic(wanted);
  ASSERT_TRUE(again.ok());
  EXPECT_FALSE(again->second);

  fill("orders", 0, 5, 1);
  auto shown = admin().describe_topic("orders");
  ASSERT_TRUE(shown.ok());
  EXPECT_EQ(shown->name, "orders");
  EXPECT_EQ(shown->durability, "synced");
  EXPECT_EQ(shown->topic_id, created->first.topic_id);
  EXPECT_EQ(shown->partitions[1].end_offset, 5);
  EXPECT_GT(shown->partitions[1].size_bytes, 0);
  EXPECT_EQ(shown->configs["retention.ms"].value, "3600000");
  EXPECT_EQ(shown->configs["retention.ms"].source, "topic");
  EXPECT_EQ(shown->configs["retention.bytes"].source, "default");

  auto altered = admin().alter_topic(
      {.name = "orders", .set = {{"retention.bytes", "1000000"}}, .unset = {"retention.ms"}, .partitions = 3});
  ASSERT_TRUE(altered.ok()) << altered.error().message;
  EXPECT_TRUE(altered->second);
  EXPECT_THAT(altered->first.partitions, SizeIs(3));
  EXPECT_EQ(altered->first.configs["retention.ms"].source, "default");
  EXPECT_EQ(altered->first.configs["retention.bytes"].value, "1000000");

  auto deleted = admin().delete_topic("orders", false, false);
  ASSERT_TRUE(deleted.ok());
  EXPECT_TRUE(deleted.value());
  EXPECT_THAT(admin().describe_topic("orders"), FailsWith("UNKNOWN_TOPIC"));
  EXPECT_THAT(admin().delete_topic("orders", false, false), FailsWith("UNKNOWN_TOPIC"));
  auto missing = admin().delete_topic("orders", true, false);
  ASSERT_TRUE(missing.ok());
  EXPECT_FALSE(missing.value());
}

TEST_F(AdminTest, WhatIsOnlyValidatedChangesNothing) {
  start();
  TopicSpec wanted = spec("orders");
  wanted.validate_only = true;
  EXPECT_TRUE(admin().create_topic(wanted).ok());
  EXPECT_THAT(admin().describe_topic("orders"), FailsWith("UNKNOWN_TOPIC"));
  create_topic("orders");
  fill("orders", 0, 5);
  EXPECT_TRUE(
      admin().alter_topic({.name = "orders", .set = {}, .unset = {}, .partitions = 4, .validate_only = true}).ok());
  EXPECT_TRUE(admin().trim_topic("orders", {{"orders", 0, 3}}, true).ok());
  EXPECT_TRUE(admin().delete_topic("orders", false, true).ok());
  auto shown = admin().describe_topic("orders");
  ASSERT_TRUE(shown.ok());
  EXPECT_THAT(shown->partitions, SizeIs(1));
  EXPECT_EQ(shown->partitions[0].start_offset, 0);
}

TEST_F(AdminTest, RefusalsHaveTheirCodesAndSayWhatIsWrong) {
  start();
  create_topic("orders", 2);
  EXPECT_THAT(admin().create_topic(spec("a/b")), FailsWith("INVALID_TOPIC"));
  TopicSpec unknown_setting = spec("payments");
  unknown_setting.configs["retention.mss"] = "1";
  auto refused = admin().create_topic(unknown_setting);
  EXPECT_THAT(refused, FailsWith("INVALID_CONFIG"));
  EXPECT_THAT(refused.error().message, HasSubstr("retention.ms"));
  auto similar = admin().describe_topic("ordrs");
  EXPECT_THAT(similar, FailsWith("UNKNOWN_TOPIC"));
  EXPECT_THAT(similar.error().message, HasSubstr("orders"));
  EXPECT_FALSE(similar.error().retriable);
  auto fewer = admin().alter_topic({.name = "orders", .set = {}, .unset = {}, .partitions = 1});
  ASSERT_FALSE(fewer.ok());
  EXPECT_THAT(fewer.error().message, HasSubstr("2"));
  EXPECT_THAT(admin().describe_group("nobody"), FailsWith("UNKNOWN_GROUP"));
  EXPECT_THAT(admin().delete_group("nobody", false), FailsWith("UNKNOWN_GROUP"));
  EXPECT_FALSE(admin().list_offsets("nothing", OffsetSpec::kLatest).ok());
  EXPECT_FALSE(admin().list_offsets("nothing", OffsetSpec::kTimestamp, 5).ok());
}

TEST_F(AdminTest, LeadersAreMovedElectedAndDrained) {
  start();
  create_topic("orders", 2);
  auto moved = admin().move_leader("orders", 1, 1, false);
  ASSERT_TRUE(moved.ok()) << moved.error().message;
  EXPECT_EQ(moved->leader, 1);
  EXPECT_FALSE(moved->changed);
  EXPECT_THAT(admin().move_leader("orders", 1, 2, true), FailsWith("INVALID_REQUEST"));
  EXPECT_THAT(admin().move_leader("orders", 5, 1, false), FailsWith("UNKNOWN_PARTITION"));
  EXPECT_THAT(admin().elect_leader_with_loss("orders", 0, 1, false), FailsWith("INVALID_REQUEST"));
  EXPECT_THAT(admin().elect_leader_with_loss("nothing", 0, 1, true), FailsWith("UNKNOWN_TOPIC"));
  auto drained = admin().drain_node(1, false);
  ASSERT_TRUE(drained.ok()) << drained.error().message;
  EXPECT_EQ(drained->left, 2);
  EXPECT_FALSE(drained->changed);
  EXPECT_THAT(admin().drain_node(9, true), FailsWith("INVALID_REQUEST"));
}

TEST_F(AdminTest, ListsTopicsByPrefixOverAllPages) {
  start();
  for (int i = 0; i < 30; ++i) create_topic("orders-" + std::to_string(i));
  create_topic("payments");
  auto all = admin().list_topics("", false);
  ASSERT_TRUE(all.ok());
  EXPECT_THAT(all.value(), SizeIs(31));
  auto some = admin().list_topics("orders-1", false);
  ASSERT_TRUE(some.ok());
  EXPECT_THAT(some.value(), SizeIs(11));
  auto none = admin().list_topics("x", false);
  ASSERT_TRUE(none.ok());
  EXPECT_THAT(none.value(), IsEmpty());
}

TEST_F(AdminTest, TrimMovesTheStartAndKeepsTheEnd) {
  start();
  create_topic("orders", 2);
  fill("orders", 0, 10, 1);
  auto trimmed = admin().trim_topic("orders", {{"orders", 1, 4}}, false);
  ASSERT_TRUE(trimmed.ok()) << trimmed.error().message;
  auto starts = admin().list_offsets("orders", OffsetSpec::kEarliest);
  ASSERT_TRUE(starts.ok());
  ASSERT_THAT(starts.value(), SizeIs(2));
  EXPECT_EQ(starts.value()[1].offset, 4);
  EXPECT_EQ(end_of("orders", 1), 10);
}

TEST_F(AdminTest, OffsetsAreFoundByTime) {
  start();
  create_topic("orders", 2);
  v1::ProduceRequest request = records("orders", {"a", "b", "c"}, 1);
  for (int i = 0; i < 3; ++i) request.mutable_records(i)->set_timestamp_ms(1'000 * (i + 1));
  produce(request);
  auto found = admin().list_offsets("orders", OffsetSpec::kTimestamp, 1'500);
  ASSERT_TRUE(found.ok());
  ASSERT_THAT(found.value(), SizeIs(2));
  EXPECT_EQ(found.value()[0].timestamp_ms, std::nullopt);
  EXPECT_EQ(found.value()[1].offset, 1);
  EXPECT_EQ(found.value()[1].timestamp_ms, 2'000);
}

TEST_F(AdminTest, GroupsKeepTheirOffsetsUntilTheyAreDeleted) {
  start();
  create_topic("orders", 2);
  fill("orders", 0, 10, 1);
  auto stored = admin().commit_offsets("billing", {{"orders", 1, 7, {}, "a note"}});
  ASSERT_TRUE(stored.ok()) << stored.error().message;
  ASSERT_THAT(stored.value(), SizeIs(1));
  EXPECT_FALSE(stored.value()[0].error);
  auto fetched = admin().fetch_offsets("billing", "orders");
  ASSERT_TRUE(fetched.ok());
  ASSERT_THAT(fetched.value(), SizeIs(1));
  EXPECT_EQ(fetched.value()[0].offset, 7);
  EXPECT_EQ(fetched.value()[0].metadata, "a note");
  EXPECT_GT(fetched.value()[0].commit_timestamp_ms, 0);

  auto listed = admin().list_groups("bill");
  ASSERT_TRUE(listed.ok());
  ASSERT_THAT(listed.value(), SizeIs(1));
  EXPECT_EQ(listed.value()[0].group, "billing");
  EXPECT_EQ(listed.value()[0].state, "Empty");
  auto shown = admin().describe_group("billing");
  ASSERT_TRUE(shown.ok());
  int64_t lag = 0;
  for (const auto& partition : shown->partitions) lag += partition.lag;
  EXPECT_EQ(lag, 3);

  ASSERT_TRUE(admin().delete_group("billing", true).ok());
  EXPECT_EQ(committed("billing", "orders", 1), 7);
  ASSERT_TRUE(admin().delete_group("billing", false).ok());
  EXPECT_EQ(committed("billing", "orders", 1), std::nullopt);
}

TEST_F(AdminTest, ACommitForAPartitionThatIsNotThereFailsAlone) {
  start();
  create_topic("orders");
  auto committed = admin().commit_offsets("billing", {{"orders", 0, 0}, {"orders", 9, 0}});
  ASSERT_TRUE(committed.ok()) << committed.error().message;
  ASSERT_THAT(committed.value(), SizeIs(2));
  EXPECT_FALSE(committed.value()[0].error);
  ASSERT_TRUE(committed.value()[1].error);
  EXPECT_EQ(committed.value()[1].error->code, "UNKNOWN_PARTITION");
}

TEST_F(AdminTest, TheClusterSaysWhoIsThereAndWhatIsWrong) {
  start();
  auto cluster = admin().describe_cluster();
  ASSERT_TRUE(cluster.ok());
  EXPECT_FALSE(cluster->cluster_id.empty());
  EXPECT_EQ(cluster->controller, 1);
  ASSERT_THAT(cluster->nodes, SizeIs(1));
  EXPECT_EQ(cluster->nodes[0].state, "up");
  EXPECT_THAT(cluster->problems, IsEmpty());
  create_topic("orders");
  cluster = admin().describe_cluster();
  ASSERT_TRUE(cluster.ok());
  EXPECT_THAT(cluster->problems, SizeIs(1));
}

TEST_F(AdminTest, NobodyThereIsSaidWithTheAddressAndWhatToStart) {
  start();
  std::string address = server_->addresses()[0];
  stop();
  auto nobody = connect_to({address});
  StopWatch watch;
  auto listed = client::Admin(*nobody).list_topics("", false);
  EXPECT_LT(watch.ms(), 10'000);
  ASSERT_FALSE(listed.ok());
  EXPECT_EQ(listed.error().code, "NO_SERVER");
  EXPECT_THAT(listed.error().message, HasSubstr(address));
  EXPECT_THAT(listed.error().message, HasSubstr("trilog up"));
}

TEST_F(AdminTest, TheFirstServerThatAnswersIsUsed) {
  start();
  std::string nobody = "unix:" + folder_ + "/nobody.sock";
  auto both = connect_to({nobody, socket()});
  EXPECT_TRUE(client::Admin(*both).describe_cluster().ok());
}

TEST_F(AdminTest, AReadWaitsForARestartAndAWriteThatMayHaveHappenedIsUnknown) {
  start();
  create_topic("orders");
  EXPECT_TRUE(admin().describe_topic("orders").ok());
  std::thread restart([&] {
    stop();
    start();
  });
  auto shown = admin().describe_topic("orders");
  EXPECT_TRUE(shown.ok()) << shown.error().message;
  restart.join();

  start_proxy();
  auto cut = connect_to({proxy_->address()});
  EXPECT_TRUE(client::Admin(*cut).describe_topic("orders").ok());
  proxy_->hold_answers(true);
  std::thread cutter([&] {
    EXPECT_TRUE(eventually([&] { return admin().describe_topic("payments").ok(); }));
    proxy_->cut();
    proxy_->hold_answers(false);
  });
  auto created = client::Admin(*cut).create_topic(spec("payments"));
  cutter.join();
  ASSERT_FALSE(created.ok());
  EXPECT_EQ(created.error().code, "OUTCOME_UNKNOWN");
  EXPECT_EQ(created.error().outcome, Error::Outcome::kUnknown);
}

TEST_F(AdminTest, AServerThatDoesNotAnswerEndsTheCallInTime) {
  start();
  create_topic("orders");
  start_proxy();
  auto reading = connect_to({proxy_->address()}, 600);
  auto writing = connect_to({proxy_->address()}, 600);
  EXPECT_TRUE(client::Admin(*reading).describe_topic("orders").ok());
  EXPECT_TRUE(client::Admin(*writing).describe_topic("orders").ok());
  proxy_->hold_answers(true);
  StopWatch watch;
  auto read = client::Admin(*reading).describe_topic("orders");
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().code, "REQUEST_TIMED_OUT");
  auto write = client::Admin(*writing).create_topic(spec("payments"));
  ASSERT_FALSE(write.ok());
  EXPECT_EQ(write.error().outcome, Error::Outcome::kUnknown);
  // Where nobody answers at all, nothing was sent.
  auto unsent = client::Admin(*writing).create_topic(spec("payments"));
  EXPECT_THAT(unsent, FailsWith("NO_SERVER"));
  EXPECT_LT(watch.ms(), 10'000);
}

}  // namespace
}  // namespace trilog
