#include "storage/base/murmur2.h"

#include <gtest/gtest.h>

#include <string_view>

namespace trilog {
namespace {

// What Kafka's Java client computes for these keys (its own published test values).
TEST(Murmur2, GivesTheValuesOfKafkasJavaClient) {
  const std::pair<std::string_view, int32_t> hashes[] = {
      {"21", -973932308},
      {"foobar", -790332482},
      {"a-little-bit-long-string", -985981536},
      {"a-little-bit-longer-string", -1486304829},
      {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
      {"abc", 479470107}};
  for (const auto& [key, hash] : hashes) EXPECT_EQ(static_cast<int32_t>(murmur2(as_bytes(key))), hash) << key;
}

// Its partitioner drops the sign and takes the remainder.
TEST(Murmur2, TheSignIsDroppedBeforeThePartitionIsChosen) {
  EXPECT_EQ(partition_index_for_key(as_bytes("21"), 6), (-973932308 & 0x7fffffff) % 6);
  EXPECT_EQ(partition_index_for_key(as_bytes("abc"), 6), 479470107 % 6);
}

TEST(Murmur2, EveryKeyHasAPartitionAlsoEmptyOnesAndBytesThatAreNoText) {
  for (int count : {1, 2, 3, 1'000'003}) {
    for (int length = 0; length < 70; ++length) {
      std::string key(static_cast<size_t>(length), '\xff');
      int32_t partition = partition_index_for_key(as_bytes(key), count);
      EXPECT_GE(partition, 0);
      EXPECT_LT(partition, count);
    }
  }
}

TEST(Murmur2, EachByteCounts) {
  std::string key = "0123456789";
  uint32_t whole = murmur2(as_bytes(key));
  for (char& c : key) {
    ++c;
    EXPECT_NE(murmur2(as_bytes(key)), whole);
    --c;
  }
}

}  // namespace
}  // namespace trilog
