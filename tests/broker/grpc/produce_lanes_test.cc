#include "broker/grpc/produce_lanes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trilog::grpc_edge {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct How {
  bool sequenced = false;
  bool resume = false;
};

class LanesTest : public testing::Test {
 protected:
  std::vector<uint64_t> arrive(uint64_t id, std::optional<int32_t> partition, How how = {}) {
    std::vector<uint64_t> startable;
    lanes.admit({.id = id, .topic = "t", .partition = partition, .sequenced = how.sequenced, .resume = how.resume},
                startable);
    return startable;
  }
  std::vector<uint64_t> succeed(uint64_t id) {
    std::vector<uint64_t> startable;
    lanes.finish(id, {}, startable);
    return startable;
  }
  std::vector<uint64_t> fail(uint64_t id, std::vector<int32_t> partitions = {}) {
    std::vector<uint64_t> startable;
    lanes.finish(id, {.whole = partitions.empty(), .partitions = std::move(partitions)}, startable);
    return startable;
  }
  ProduceLanes lanes;
};

TEST_F(LanesTest, RunsRequestsOfDifferentPartitionsSideBySide) {
  EXPECT_THAT(arrive(1, 0), ElementsAre(1));
  EXPECT_THAT(arrive(2, 1), ElementsAre(2));
  EXPECT_TRUE(lanes.begin(1));
  EXPECT_TRUE(lanes.begin(2));
}

TEST_F(LanesTest, RunsRequestsOfOnePartitionOneAfterAnother) {
  EXPECT_THAT(arrive(1, 0), ElementsAre(1));
  EXPECT_THAT(arrive(2, 0), IsEmpty());
  EXPECT_THAT(arrive(3, 0), IsEmpty());
  EXPECT_THAT(succeed(1), ElementsAre(2));
  EXPECT_THAT(succeed(2), ElementsAre(3));
}

TEST_F(LanesTest, PipelinesRequestsWithSequences) {
  EXPECT_THAT(arrive(1, 0, {.sequenced = true}), ElementsAre(1));
  EXPECT_THAT(arrive(2, 0, {.sequenced = true}), ElementsAre(2));
  EXPECT_THAT(arrive(3, 0), IsEmpty()) << "one without waits for both";
  EXPECT_THAT(arrive(4, 0, {.sequenced = true}), IsEmpty()) << "and is not overtaken";
  EXPECT_THAT(succeed(1), IsEmpty());
  EXPECT_THAT(succeed(2), ElementsAre(3));
  EXPECT_THAT(succeed(3), ElementsAre(4));
}

TEST_F(LanesTest, RefusesWhatFollowsAFailureUntilOneResumes) {
  arrive(1, 0);
  arrive(2, 0);
  arrive(3, 0, {.resume = true});
  arrive(4, 0);
  EXPECT_TRUE(lanes.begin(1));
  EXPECT_THAT(fail(1), ElementsAre(2));
  EXPECT_FALSE(lanes.begin(2));
  EXPECT_EQ(lanes.failed_count(), 1u);
  EXPECT_THAT(fail(2), ElementsAre(3));
  EXPECT_TRUE(lanes.begin(3));
  EXPECT_THAT(succeed(3), ElementsAre(4));
  EXPECT_TRUE(lanes.begin(4));
  EXPECT_EQ(lanes.failed_count(), 0u);
}

TEST_F(LanesTest, LeavesOtherPartitionsAloneAfterAFailure) {
  arrive(1, 0);
  lanes.begin(1);
  fail(1);
  EXPECT_THAT(arrive(2, 1), ElementsAre(2));
  EXPECT_TRUE(lanes.begin(2));
  EXPECT_THAT(arrive(3, 0), ElementsAre(3));
  EXPECT_FALSE(lanes.begin(3));
}

TEST_F(LanesTest, DoesNotLetAnOldFailureUndoALaterResume) {
  arrive(1, 0, {.sequenced = true});
  arrive(2, 0, {.sequenced = true, .resume = true});
  EXPECT_TRUE(lanes.begin(1));
  EXPECT_TRUE(lanes.begin(2));
  fail(1);
  arrive(3, 0, {.sequenced = true});
  EXPECT_TRUE(lanes.begin(3));
}

TEST_F(LanesTest, TellsAGapOfItsOwnMakingFromTheClients) {
  arrive(1, 0, {.sequenced = true});
  arrive(2, 0, {.sequenced = true});
  lanes.begin(1);
  lanes.begin(2);
  EXPECT_TRUE(lanes.in_order(1));
  fail(1);
  EXPECT_FALSE(lanes.in_order(2));
}

// Answers come as they like: after a failover the second request may be refused for the gap before anybody knows what
// became of the first.
TEST_F(LanesTest, AGapBehindARequestWithoutAnAnswerIsNotTheClients) {
  arrive(1, 0, {.sequenced = true});
  arrive(2, 0, {.sequenced = true});
  arrive(3, 1, {.sequenced = true});
  for (uint64_t id : {1, 2, 3}) ASSERT_TRUE(lanes.begin(id));
  EXPECT_TRUE(lanes.in_order(1));
  EXPECT_FALSE(lanes.in_order(2));
  EXPECT_TRUE(lanes.in_order(3)) << "another partition";
  succeed(1);
  EXPECT_TRUE(lanes.in_order(2));
}

TEST_F(LanesTest, MakesARequestWithoutPartitionWaitForAllOfItsTopicAndThemForIt) {
  EXPECT_THAT(arrive(1, 0), ElementsAre(1));
  EXPECT_THAT(arrive(2, 1), ElementsAre(2));
  EXPECT_THAT(arrive(3, std::nullopt), IsEmpty());
  EXPECT_THAT(arrive(4, 5), IsEmpty());
  EXPECT_THAT(succeed(1), IsEmpty());
  EXPECT_THAT(succeed(2), ElementsAre(3));
  EXPECT_TRUE(lanes.begin(3));
  EXPECT_THAT(succeed(3), ElementsAre(4));
}

TEST_F(LanesTest, RefusesARequestWithoutPartitionWhileAnyPartitionOfItsTopicFailed) {
  arrive(1, std::nullopt);
  lanes.begin(1);
  fail(1, {4});
  arrive(2, std::nullopt);
  EXPECT_FALSE(lanes.begin(2));
  fail(2);
  arrive(3, 2);
  EXPECT_FALSE(lanes.begin(3)) << "the second one failed without saying where";
  fail(3);
  arrive(4, std::nullopt, {.resume = true});
  EXPECT_TRUE(lanes.begin(4));
  succeed(4);
  EXPECT_EQ(lanes.failed_count(), 0u);
}

TEST_F(LanesTest, ForgetsWhatIsQuiet) {
  for (uint64_t id = 1; id <= 1'000; ++id) {
    arrive(id, static_cast<int32_t>(id));
    lanes.begin(id);
    succeed(id);
  }
  EXPECT_EQ(lanes.failed_count(), 0u);
}

}  // namespace
}  // namespace trilog::grpc_edge
