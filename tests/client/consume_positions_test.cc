#include "client/consume_positions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trilog::client {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

// Records at `first` up to before `next`.
v1::FetchedPartition part(int64_t first, int64_t next, int64_t log_start = 0) {
  v1::FetchedPartition fetched;
  fetched.set_topic("orders");
  for (int64_t offset = first; offset < next; ++offset) fetched.add_records()->set_offset(offset);
  fetched.set_next_offset(next);
  fetched.set_log_start_offset(log_start);
  return fetched;
}
v1::Position end(int64_t offset) {
  v1::Position position;
  position.set_topic("orders");
  position.set_offset(offset);
  return position;
}
const Position kOrders{"orders", 0, {}};
Position orders_at(int64_t offset) { return {"orders", 0, offset}; }

TEST(ConsumePositions, FollowsWhatIsTaken) {
  ConsumePositions positions;
  EXPECT_EQ(positions.take(part(5, 8)), 0);
  EXPECT_EQ(positions.take(part(8, 9)), 0);
  ASSERT_THAT(positions.all(), SizeIs(1));
  EXPECT_EQ(positions.all()[0].offset, 9);
  EXPECT_TRUE(positions.take_end(end(9)));
}

TEST(ConsumePositions, AnEndIsAPositionToGoOnFrom) {
  ConsumePositions positions;
  EXPECT_TRUE(positions.take_end(end(7)));
  EXPECT_EQ(positions.all()[0].offset, 7);
}

TEST(ConsumePositions, LeavesOutWhatWasOnItsWayBeforeASeek) {
  ConsumePositions positions;
  positions.take(part(0, 10));
  positions.seek(orders_at(3));
  EXPECT_EQ(positions.take(part(10, 20)), std::nullopt);
  EXPECT_EQ(positions.take(part(20, 30)), std::nullopt);
  EXPECT_FALSE(positions.take_end(end(30)));
  EXPECT_EQ(positions.take(part(3, 20)), 0);
  EXPECT_EQ(positions.take(part(20, 30)), 0);
}

TEST(ConsumePositions, OfSeveralSeeksTheLastCounts) {
  ConsumePositions positions;
  positions.take(part(0, 10));
  positions.seek(orders_at(100));
  positions.seek(orders_at(50));
  EXPECT_EQ(positions.take(part(10, 20)), std::nullopt);
  EXPECT_EQ(positions.take(part(100, 110)), std::nullopt);
  EXPECT_EQ(positions.take(part(110, 120)), std::nullopt);
  EXPECT_EQ(positions.take(part(50, 60)), 0);
}

TEST(ConsumePositions, ShowsNothingTwiceWhenOldAnswersReachTheTarget) {
  ConsumePositions positions;
  positions.take(part(0, 10));
  positions.seek(orders_at(20));
  EXPECT_EQ(positions.take(part(10, 20)), std::nullopt);
  EXPECT_EQ(positions.take(part(20, 30)), 0);  // old, but what was asked for
  EXPECT_EQ(positions.take(part(20, 25)), std::nullopt);
  EXPECT_EQ(positions.take(part(25, 35)), 5);
}

TEST(ConsumePositions, SeeksBeforeAnythingWasRead) {
  ConsumePositions positions;
  positions.seek(orders_at(4));
  EXPECT_EQ(positions.take(part(0, 3)), std::nullopt);
  EXPECT_EQ(positions.take(part(4, 6)), 0);
}

TEST(ConsumePositions, SeeksToTheFirstRecordWhereverItIs) {
  ConsumePositions positions;
  positions.take(part(10, 20, 7));
  positions.seek(kOrders);
  EXPECT_EQ(positions.take(part(20, 25, 7)), std::nullopt);
  EXPECT_FALSE(positions.take_end(end(25)));
  EXPECT_EQ(positions.take(part(7, 25, 7)), 0);
  EXPECT_EQ(positions.all()[0].offset, 25);
}

TEST(ConsumePositions, TheFirstRecordOfAnEmptyPartitionIsItsEnd) {
  ConsumePositions positions;
  positions.take_end(end(9));
  positions.seek(kOrders);
  EXPECT_TRUE(positions.take_end(end(5)));
  EXPECT_EQ(positions.take(part(5, 6, 5)), 0);
}

TEST(ConsumePositions, AfterAReconnectOnlyTheTargetOfASeekIsLeft) {
  ConsumePositions positions;
  positions.take(part(0, 10));
  positions.seek(orders_at(3));
  positions.reconnected();
  ASSERT_THAT(positions.all(), SizeIs(1));
  EXPECT_EQ(positions.all()[0].offset, 3);
  EXPECT_EQ(positions.take(part(3, 10)), 0);
}

// The old answers reached the target first; the answer to the first seek comes after the second.
TEST(ConsumePositions, AnAnswerToAnEarlierSeekIsKnownEvenIfOldAnswersCameInItsPlace) {
  ConsumePositions positions;
  positions.take(part(0, 10));
  positions.seek(orders_at(20));
  positions.take(part(10, 20));
  EXPECT_EQ(positions.take(part(20, 30)), 0);
  positions.seek(orders_at(5));
  EXPECT_EQ(positions.take(part(30, 40)), std::nullopt);
  EXPECT_EQ(positions.take(part(20, 30)), std::nullopt);
  EXPECT_EQ(positions.take(part(30, 40)), std::nullopt);
  EXPECT_EQ(positions.take(part(5, 15)), 0);
}

TEST(ConsumePositions, WhatWasSkippedIsBroughtBackByASeekToThePosition) {
  ConsumePositions positions;
  positions.take(part(0, 10));
  positions.skip(part(10, 20));
  positions.skip(part(20, 30));
  EXPECT_EQ(positions.position("orders", 0).offset, 10);
  positions.seek(positions.position("orders", 0));
  EXPECT_EQ(positions.take(part(30, 40)), std::nullopt);
  EXPECT_EQ(positions.take(part(10, 20)), 0);
  EXPECT_EQ(positions.take(part(20, 30)), 0);
}

TEST(ConsumePositions, SkippedBeforeAnythingWasReadItBeginsThere) {
  ConsumePositions positions;
  positions.skip(part(7, 9));
  EXPECT_EQ(positions.position("orders", 0).offset, 7);
}

}  // namespace
}  // namespace trilog::client
