#include "broker/metadata/topic_settings.h"

#include <gtest/gtest.h>

#include "storage/base/names.h"

namespace trilog {
namespace {

using api::Durability;

TEST(TopicSettings, EveryDefaultInTheRegistryIsAcceptedOrExplained) {
  for (const TopicSettingInfo& info : topic_setting_infos()) {
    if (info.name == "min.insync.replicas" || info.name == "segment.ms") continue;  // derived
    EXPECT_FALSE(check_topic_setting(info.name, info.default_text).has_value()) << info.name;
  }
}

TEST(TopicSettings, SaysWhatIsWrongWithAValue) {
  struct Case {
    const char* name;
    const char* value;
    const char* says;
  };
  const Case cases[] = {{"retention.ms", "soon", "whole number"},
                        {"retention.ms", "-2", "-1 to"},
                        {"retention.ms", "0", "not 0"},
                        {"retention.bytes", "12MB", "whole number"},
                        {"segment.bytes", "10", "1048576"},
                        {"max.message.bytes", "999999999", "16777216"},
                        {"cleanup.policy", "compact", "not built"},
                        {"compression.type", "zstd", "not built"},
                        {"durability", "maybe", "synced or replicated"},
                        {"retention.mss", "1", "did you mean retention.ms?"},
                        {"retention.ms", "99999999999999999999999", "whole number"}};
  for (const Case& c : cases) {
    auto error = check_topic_setting(c.name, c.value);
    ASSERT_TRUE(error.has_value()) << c.name << "=" << c.value;
    EXPECT_EQ(error->code, api::ErrorCode::kInvalidConfig);
    EXPECT_NE(error->message.find(c.says), std::string::npos) << error->message;
  }
}

TEST(TopicSettings, MinInSyncFollowsTheNumberOfReplicas) {
  EXPECT_EQ(resolve_topic_settings({}, Durability::kSynced, 1).min_insync_replicas, 1);
  EXPECT_EQ(resolve_topic_settings({}, Durability::kSynced, 2).min_insync_replicas, 1);
  EXPECT_EQ(resolve_topic_settings({}, Durability::kSynced, 3).min_insync_replicas, 2);
  EXPECT_EQ(resolve_topic_settings({}, Durability::kSynced, 5).min_insync_replicas, 3);
}

TEST(TopicSettings, SegmentsAreClosedOftenEnoughForRetentionToBePrecise) {
  EXPECT_EQ(resolve_topic_settings({}, Durability::kSynced, 1).segment_ms, 24LL * 3600 * 1000);
  EXPECT_EQ(resolve_topic_settings({{"retention.ms", "70000"}}, Durability::kSynced, 1).segment_ms, 10'000);
  EXPECT_EQ(resolve_topic_settings({{"retention.ms", "-1"}}, Durability::kSynced, 1).segment_ms, 24LL * 3600 * 1000);
}

TEST(TopicSettings, DescribesValuesWithTheirSource) {
  auto described = describe_topic_settings({{"retention.ms", "5"}}, Durability::kReplicated, 1);
  EXPECT_EQ(described["retention.ms"].value, "5");
  EXPECT_EQ(described["retention.ms"].source, "topic");
  EXPECT_EQ(described["durability"].value, "replicated");
  EXPECT_EQ(described["segment.bytes"].source, "default");
  EXPECT_EQ(described["min.insync.replicas"].value, "1");
}

TEST(TopicName, AcceptsWhatKafkaAcceptsAndNothingElse) {
  for (const char* name : {"a", "orders", "A.b_c-9", "__consumer_offsets"}) {
    EXPECT_FALSE(check_topic_name(name).has_value()) << name;
  }
  EXPECT_FALSE(check_topic_name(std::string(249, 'x')).has_value());
  const std::string refused[] = {
      "", ".", "..", "a/b", "a b", std::string("a\0b", 3), "größe", "a\n", std::string(250, 'x'), "日本"};
  for (const std::string& name : refused) {
    auto error = check_topic_name(name);
    ASSERT_TRUE(error.has_value()) << name;
    EXPECT_EQ(error->code, api::ErrorCode::kInvalidTopic);
    for (char c : error->message) EXPECT_TRUE(c >= 0x20 && c < 0x7f) << "an error must not repeat hostile bytes";
  }
}

}  // namespace
}  // namespace trilog
