#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/history/story.h"

namespace trilog::history {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(X7Position, GoesBackFromOnePollToTheNext) {
  Story story;
  story.sent({{0, 100}, {1, 101}});
  story.polled(0, {{0, 100}, {1, 101}});
  story.polled(1, {{1, 101}});
  EXPECT_THAT(story.flagged(), ElementsAre("X7"));
}

TEST(X7Position, GoesBackWithinOnePollOrOneFinalRead) {
  Story poll, final_read;
  poll.sent({{0, 100}, {1, 101}});
  poll.polled(0, {{1, 101}, {0, 100}}).next_offset = 2;
  EXPECT_THAT(poll.flagged(), ElementsAre("X7"));
  final_read.sent({{0, 100}, {1, 101}});
  final_read.read_to_the_end({{1, 101}, {0, 100}}).high_watermark = 2;
  EXPECT_THAT(final_read.flagged(), ElementsAre("X7"));
}

TEST(X7Position, IsNotRespectedWhereARecordLiesBeforeTheAskedOffset) {
  Story story;
  story.sent({{0, 100}, {1, 101}});
  story.polled(1, {{0, 100}, {1, 101}});
  EXPECT_THAT(story.flagged(), ElementsAre("X7"));
}

TEST(X7Position, MayGoBackInANewSessionAndForAnotherConsumer) {
  Story story;
  story.sent({{0, 100}, {1, 101}});
  story.polled(0, {{0, 100}, {1, 101}});
  story.polled(0, {{0, 100}}).session = 1;
  story.polled(0, {{0, 100}}).client = "another";
  EXPECT_THAT(story.flagged(), IsEmpty());
}

TEST(X8Skip, IsARecordMissingWithinAPoll) {
  Story story;
  story.sent({{0, 100}, {1, 101}, {2, 102}});
  story.polled(0, {{0, 100}, {2, 102}});
  story.read_to_the_end({{0, 100}, {1, 101}, {2, 102}});
  EXPECT_THAT(story.flagged(), ElementsAre("X8"));
}

TEST(X8Skip, IsARecordMissingBetweenTwoPolls) {
  Story story;
  story.sent({{0, 100}, {1, 101}, {2, 102}});
  story.polled(0, {{0, 100}});
  story.polled(2, {{2, 102}});
  story.read_to_the_end({{0, 100}, {1, 101}, {2, 102}});
  EXPECT_THAT(story.flagged(), ElementsAre("X8"));
}

TEST(X8Skip, IsNotAGapThatHoldsNoRecordOrOnlyTrimmedOnes) {
  Story gap, trimmed;
  gap.sent({{0, 100}});
  gap.sent({{5, 101}});
  gap.polled(0, {{0, 100}, {5, 101}});
  EXPECT_THAT(gap.flagged(), IsEmpty());
  trimmed.sent({{0, 100}, {1, 101}, {2, 102}});
  trimmed.trimmed(2);
  trimmed.polled(0, {{2, 102}});
  EXPECT_THAT(trimmed.flagged(), IsEmpty());
}

TEST(X8Skip, IsNotExcusedByATrimThatCameLater) {
  Story story;
  story.sent({{0, 100}, {1, 101}});
  story.polled(0, {{1, 101}});
  story.trimmed(1);
  story.read_to_the_end({{1, 101}});
  EXPECT_THAT(story.flagged(), ElementsAre("X8"));
}

TEST(X9OrderOfSends, IsBrokenWhereALaterSendLandsLower) {
  Story story;
  story.sent({{1, 100}});
  story.sent({{0, 101}});
  EXPECT_THAT(story.flagged(), ElementsAre("X9"));
}

TEST(X9OrderOfSends, IsBrokenWithinOneSend) {
  Story story;
  story.sent({{1, 100}, {0, 101}});
  EXPECT_THAT(story.flagged(), ElementsAre("X9"));
}

TEST(X9OrderOfSends, HoldsForConcurrentSendsAndForOthersProducers) {
  Story story;
  Produce& slow = story.sent({{2, 100}});
  slow.answered_ns += 2 * Story::kStepNs;
  story.sent({{1, 101}});
  story.sent({{0, 102}}).client = "another";
  EXPECT_THAT(story.flagged(), IsEmpty());
}

TEST(X10RecordsOfOthersBetweenThoseOfOneSend, AreAllowed) {
  Story story;
  story.sent({{0, 100}, {2, 102}}).answered_ns += Story::kStepNs;
  story.sent({{1, 101}}).client = "another";
  story.polled(0, {{0, 100}, {1, 101}, {2, 102}});
  story.read_to_the_end({{0, 100}, {1, 101}, {2, 102}});
  EXPECT_THAT(story.flagged(), IsEmpty());
}

TEST(X12Ends, MustNotGoBack) {
  Story high_watermark, log_start, in_fetch;
  high_watermark.told(0, 10);
  high_watermark.told(0, 9);
  EXPECT_THAT(high_watermark.flagged(), ElementsAre("X12"));
  log_start.told(5, 10);
  log_start.told(4, 10);
  EXPECT_THAT(log_start.flagged(), ElementsAre("X12"));
  in_fetch.told(0, 10);
  in_fetch.polled(0, {}).high_watermark = 9;
  EXPECT_THAT(in_fetch.flagged(), ElementsAre("X12"));
}

TEST(X12Ends, MayBeOldInAStaleAnswerInAConcurrentOneAndAfterAnAcceptedLoss) {
  Story stale, concurrent, lost;
  stale.told(0, 10);
  stale.told(0, 9).stale = true;
  stale.told(5, 10);
  EXPECT_THAT(stale.flagged(), IsEmpty());
  concurrent.told(0, 10).answered_ns += Story::kStepNs;
  concurrent.told(0, 9);
  EXPECT_THAT(concurrent.flagged(), IsEmpty());
  lost.told(0, 10);
  lost.accepted_loss(7);
  lost.told(0, 7);
  EXPECT_THAT(lost.flagged(), IsEmpty());
}

TEST(X12Ends, MayBeToldInAnyOrderByConcurrentAnswersAfterAnAcceptedLoss) {
  Story story;
  story.told(0, 10);
  story.accepted_loss(5);
  story.told(0, 8).answered_ns += Story::kStepNs;
  story.told(0, 7);
  EXPECT_THAT(story.flagged(), IsEmpty());
}

TEST(X12Ends, GoBackFurtherThanTheAcceptedLossOrOnceMoreAfterIt) {
  Story further, once_more;
  further.told(0, 10);
  further.accepted_loss(7);
  further.told(0, 6);
  EXPECT_THAT(further.flagged(), ElementsAre("X12"));
  once_more.told(0, 10);
  once_more.accepted_loss(7);
  once_more.told(0, 9);
  once_more.told(0, 8);
  EXPECT_THAT(once_more.flagged(), ElementsAre("X12"));
}

}  // namespace
}  // namespace trilog::history
