#include "storage/base/ids.h"

#include <gtest/gtest.h>

#include <sstream>
#include <type_traits>
#include <unordered_set>

namespace trilog {
namespace {

static_assert(!std::is_convertible_v<Offset, LeaderEpoch>, "an offset is not an epoch");
static_assert(!std::is_convertible_v<int64_t, Offset>, "a plain number becomes an offset only by name");
static_assert(sizeof(Offset) == sizeof(int64_t));

template <typename T>
std::string printed(const T& value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

TEST(StrongId, CountsAndCompares) {
  Offset offset(10);
  EXPECT_EQ(offset + 5, Offset(15));
  EXPECT_EQ(offset - 5, Offset(5));
  EXPECT_EQ(Offset(15) - offset, 5);
  EXPECT_EQ(++offset, Offset(11));
  EXPECT_LT(kNoOffset, Offset(0));
  EXPECT_GT(LeaderEpoch(3), kNoLeaderEpoch);
}

TEST(StrongId, PrintsItsNumber) {
  EXPECT_EQ(printed(Offset(42)), "42");
  EXPECT_EQ(printed(ProducerEpoch(-1)), "-1");
}

TEST(Uuid, TextSurvivesARoundTrip) {
  TopicId id(0x0123456789abcdef, 0xfedcba9876543210);
  EXPECT_EQ(id.to_string(), "0123456789abcdeffedcba9876543210");
  Result<TopicId> parsed = TopicId::parse(id.to_string());
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(*parsed, id);
  EXPECT_EQ(TopicId(0, 1).to_string(), "00000000000000000000000000000001");
}

TEST(Uuid, RefusesEverythingButThirtyTwoLowerCaseHexadecimalDigits) {
  for (const char* text :
       {"", "0123", "0123456789abcdeffedcba987654321", "0123456789abcdeffedcba98765432100",
        "0123456789ABCDEFfedcba9876543210", "0123456789abcdef-edcba9876543210", "0123456789abcdeffedcba987654321g"}) {
    Result<TopicId> parsed = TopicId::parse(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.status().code(), Errc::kInvalidArgument);
  }
}

TEST(Uuid, ZeroMeansUnassigned) {
  EXPECT_TRUE(TopicId().is_zero());
  EXPECT_FALSE(TopicId(0, 1).is_zero());
  EXPECT_FALSE(TopicId(1, 0).is_zero());
}

TEST(TopicPartition, OrdersByTopicThenPartitionAndPrintsBoth) {
  TopicPartition first{TopicId(1, 0), PartitionId(7)};
  TopicPartition second{TopicId(1, 1), PartitionId(0)};
  EXPECT_LT(first, second);
  EXPECT_LT((TopicPartition{TopicId(1, 0), PartitionId(6)}), first);
  EXPECT_EQ(printed(first), "00000000000000010000000000000000/7");
}

TEST(TopicPartition, IsFoundInAHashTable) {
  std::unordered_set<TopicPartition> set;
  for (int32_t i = 0; i < 100; ++i) set.insert({TopicId(1, static_cast<uint64_t>(i % 10)), PartitionId(i)});
  EXPECT_EQ(set.size(), 100u);
  EXPECT_TRUE(set.contains({TopicId(1, 3), PartitionId(13)}));
  EXPECT_FALSE(set.contains({TopicId(1, 4), PartitionId(13)}));
}

}  // namespace
}  // namespace trilog
