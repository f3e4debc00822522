#include "broker/group/offset_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/state/memory_state_store.h"

namespace trilog {
namespace {

using ::testing::ElementsAre;

const TopicId kOrders(1, 1);
const TopicId kOthers(1, 2);

GroupRecord record(const std::string& group, TopicId topic, int32_t partition, int64_t offset) {
  return {{group, topic, PartitionId(partition)}, OffsetValue{.offset = Offset(offset), .topic_name = "t"}};
}
AppliedPosition position(int64_t next, int32_t epoch = 0) { return {TopicId(9, 9), Offset(next), LeaderEpoch(epoch)}; }

struct OffsetStoreTest : ::testing::Test {
  void apply(std::vector<GroupRecord> records, int64_t next) { ASSERT_TRUE(view.apply(records, position(next)).ok()); }
  std::vector<std::string> groups(const std::string& prefix = "", std::string after = "") {
    std::vector<std::string> names;
    while (auto next = view.next_group(prefix, after).value()) names.push_back(after = *next);
    return names;
  }
  MemoryStateStore store;
  OffsetStore view{store, PartitionId(3)};
};

TEST_F(OffsetStoreTest, StartsWithoutAPosition) { EXPECT_FALSE(view.applied().value().has_value()); }

TEST_F(OffsetStoreTest, RecordsAndPositionComeTogether) {
  apply({record("billing", kOrders, 0, 5), record("billing", kOrders, 0, 6)}, 2);
  EXPECT_EQ(view.applied().value(), position(2));
  EXPECT_EQ(view.get({"billing", kOrders, PartitionId(0)}).value()->offset, Offset(6)) << "the later record counts";
  EXPECT_FALSE(view.get({"billing", kOrders, PartitionId(1)}).value().has_value());
}

TEST_F(OffsetStoreTest, ATombstoneRemoves) {
  apply({record("billing", kOrders, 0, 5)}, 1);
  apply({{{"billing", kOrders, PartitionId(0)}, std::nullopt}}, 2);
  EXPECT_FALSE(view.get({"billing", kOrders, PartitionId(0)}).value().has_value());
  EXPECT_THAT(groups(), ElementsAre());
}

TEST_F(OffsetStoreTest, GroupsComeInOrderAndAreNotMixedUp) {
  apply({record("b", kOrders, 0, 1), record("ba", kOrders, 0, 2), record("b a", kOrders, 1, 3),
         record("a", kOthers, 0, 4), record("b", kOthers, 1, 5), record("\xc3\xa9", kOrders, 0, 6)},
        6);
  EXPECT_THAT(groups(), ElementsAre("a", "b", "b a", "ba", "\xc3\xa9"));
  EXPECT_THAT(groups("b"), ElementsAre("b", "b a", "ba"));
  EXPECT_THAT(groups("b", "b a"), ElementsAre("ba"));
  EXPECT_THAT(groups("", "b"), ElementsAre("b a", "ba", "\xc3\xa9"));
  EXPECT_EQ(view.scan_group("b", std::nullopt, 10).value().size(), 2u);
  EXPECT_EQ(view.scan_group("ba", std::nullopt, 10).value().size(), 1u);
}

TEST_F(OffsetStoreTest, ScansPageByPage) {
  std::vector<GroupRecord> all;
  for (int32_t p = 0; p < 25; ++p) all.push_back(record("g", kOrders, p, p));
  apply(all, 25);
  std::vector<GroupRecord> seen;
  std::optional<OffsetKey> after;
  while (true) {
    std::vector<GroupRecord> page = view.scan(after, 10).value();
    for (GroupRecord& entry : page) seen.push_back(entry);
    if (page.size() < 10) break;
    after = page.back().key;
  }
  EXPECT_EQ(seen, all);
}

TEST_F(OffsetStoreTest, PartitionsDoNotSeeEachOther) {
  OffsetStore other(store, PartitionId(4));
  apply({record("g", kOrders, 0, 1)}, 1);
  EXPECT_FALSE(other.applied().value().has_value());
  ASSERT_TRUE(other.apply(std::vector<GroupRecord>{record("h", kOrders, 0, 2)}, position(8)).ok());
  ASSERT_TRUE(view.reset(position(0)).ok());
  EXPECT_THAT(groups(), ElementsAre());
  EXPECT_EQ(view.applied().value(), position(0));
  EXPECT_EQ(other.applied().value(), position(8));
  EXPECT_EQ(other.next_group("", "").value(), "h");
}

TEST_F(OffsetStoreTest, ForeignBytesAreCorruption) {
  apply({record("g", kOrders, 0, 1)}, 1);
  StateBatch garbage;
  for (const StateEntry& entry : store.scan({.limit = 10}).value()) {
    garbage.put(as_bytes(entry.key), as_bytes("garbage"));
  }
  ASSERT_TRUE(store.write(garbage, StateSync::kLater).ok());
  EXPECT_EQ(view.applied().status().code(), Errc::kCorruption);
  EXPECT_FALSE(view.get({"g", kOrders, PartitionId(0)}).ok());
  EXPECT_FALSE(view.scan(std::nullopt, 10).ok());
}

}  // namespace
}  // namespace trilog
