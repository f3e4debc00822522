#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/history/story.h"

namespace trilog::history {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(X1LostWrite, IsAnAcknowledgedRecordThatNobodyReadThoughLaterOnesWere) {
  Story story;
  story.sent({{0, 100}});
  story.sent({{1, 101}});
  story.read_to_the_end({{1, 101}});
  EXPECT_THAT(story.flagged(), ElementsAre("X1"));
}

TEST(X1LostWrite, IsPartOfABatchOfWhichAnotherPartWasRead) {
  Story story;
  story.sent_without_answer({100, 101});
  story.sent({{2, 102}});
  story.read_to_the_end({{1, 101}, {2, 102}});
  EXPECT_THAT(story.flagged(), ElementsAre("X1"));
}

TEST(X1LostWrite, IsProvedByTheSendAndTheHighestRead) {
  Story story;
  story.sent({{0, 100}});
  story.sent({{1, 101}});
  story.read_to_the_end({{1, 101}});
  const auto violations = check(story.history).value();
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_THAT(violations[0].what, HasSubstr("record 100 at offset 0 of orders/0 is lost"));
  EXPECT_THAT(violations[0].operations, ElementsAre(HasSubstr("produce"), HasSubstr("final_read")));
}

TEST(X1LostWrite, IsNotWhatWasNeverPromised) {
  Story story;
  story.sent({{0, 100}}).acks = Acks::kLeader;
  story.sent_without_answer({101});
  story.refused({102});
  story.sent({{0, 103}});
  story.read_to_the_end({{0, 103}});
  EXPECT_THAT(story.flagged(), IsEmpty());
}

TEST(X1LostWrite, IsNotWhatWasTrimmed) {
  Story story;
  story.sent({{0, 100}, {1, 101}, {2, 102}});
  story.trimmed(2);
  story.read_to_the_end({{2, 102}});
  EXPECT_THAT(story.flagged(), IsEmpty());
}

TEST(X1LostWrite, IsNotWhatAnOperatorAcceptedToLose) {
  Story story;
  story.sent({{0, 100}});
  story.sent({{1, 101}});
  story.accepted_loss(1);
  story.sent({{1, 102}, {2, 103}});
  story.read_to_the_end({{0, 100}, {1, 102}, {2, 103}});
  EXPECT_THAT(story.flagged(), IsEmpty());
}

TEST(X1LostWrite, IsWhatWasWrittenAfterTheAcceptedLossOrBelowIt) {
  Story after, below;
  after.accepted_loss(0);
  after.sent({{0, 100}, {1, 101}});
  after.read_to_the_end({{1, 101}});
  EXPECT_THAT(after.flagged(), ElementsAre("X1"));
  below.sent({{0, 100}, {1, 101}});
  below.accepted_loss(1);
  below.sent({{1, 102}});
  below.read_to_the_end({{1, 102}});
  EXPECT_THAT(below.flagged(), ElementsAre("X1"));
}

TEST(X2Unseen, IsAnAcknowledgedRecordPastTheEndOfTheLastRead) {
  Story story;
  story.sent({{0, 100}});
  story.sent({{1, 101}});
  story.read_to_the_end({{0, 100}});
  EXPECT_THAT(story.flagged(), ElementsAre("X2"));
}

TEST(X2Unseen, IsWholePartitionThatIsEmptyAtTheEnd) {
  Story story;
  story.sent({{0, 100}});
  story.read_to_the_end({});
  EXPECT_THAT(story.flagged(), ElementsAre("X2"));
}

TEST(X2Unseen, NeedsALastRead) {
  Story story;
  story.sent({{0, 100}});
  EXPECT_THAT(story.flagged(), IsEmpty());
  story.read_to_the_end({{0, 100}});
  EXPECT_THAT(story.flagged(), IsEmpty());
}

TEST(X3InconsistentOffset, IsOneOffsetWithTwoRecords) {
  Story two_reads, acknowledged_and_read;
  two_reads.sent_without_answer({100});
  two_reads.sent_without_answer({101});
  two_reads.polled(0, {{0, 100}});
  two_reads.polled(0, {{0, 101}}).client = "another";
  EXPECT_THAT(two_reads.flagged(), ElementsAre("X3"));
  acknowledged_and_read.sent({{0, 100}});
  acknowledged_and_read.sent_without_answer({101});
  acknowledged_and_read.polled(0, {{0, 101}});
  EXPECT_THAT(acknowledged_and_read.flagged(), Contains("X3"));
}

TEST(X3InconsistentOffset, IsNotAnOffsetUsedAgainAfterAnAcceptedLoss) {
  Story story;
  story.sent({{0, 100}});
  story.polled(0, {{0, 100}});
  story.accepted_loss(0);
  story.sent({{0, 101}});
  story.polled(0, {{0, 101}}).session = 1;
  story.read_to_the_end({{0, 101}});
  EXPECT_THAT(story.flagged(), IsEmpty());
}

TEST(X3InconsistentOffset, IsNotWhatTheLeaderAloneAcknowledgedOrWhatWasReadAboveTheHighWatermark) {
  Story story;
  story.sent({{0, 100}}).acks = Acks::kLeader;
  story.polled(0, {{0, 100}}).uncommitted = true;
  story.sent({{0, 101}});
  story.polled(0, {{0, 101}});
  EXPECT_THAT(story.flagged(), IsEmpty());
}

TEST(X4Duplicate, IsARecordOfAnIdempotentProducerAtTwoOffsets) {
  Story story;
  story.sent({{0, 100}});
  story.read_to_the_end({{0, 100}, {1, 100}});
  EXPECT_THAT(story.flagged(), ElementsAre("X4"));
}

TEST(X4Duplicate, IsAllowedToAProducerThatIsNotIdempotent) {
  Story story;
  story.sent_without_answer({100}).idempotent = false;
  story.read_to_the_end({{0, 100}, {1, 100}});
  EXPECT_THAT(story.flagged(), IsEmpty());
}

TEST(X4Duplicate, IsNotARecordWrittenAgainAfterAnAcceptedLoss) {
  Story story;
  story.sent_without_answer({100});
  story.sent({{1, 101}});
  story.polled(0, {{0, 100}, {1, 101}});
  story.accepted_loss(0);
  story.read_to_the_end({{0, 101}, {1, 100}});
  EXPECT_THAT(story.flagged(), IsEmpty());
}

TEST(X5RefusedWrite, IsReadThoughTheServerSaidItWasNotWritten) {
  Story story;
  story.refused({100});
  story.polled(0, {{0, 100}});
  story.read_to_the_end({{0, 100}});
  EXPECT_THAT(story.flagged(), ElementsAre("X5"));
}

TEST(X5RefusedWrite, IsNotAWriteWhoseOutcomeIsUnknown) {
  Story story;
  story.sent_without_answer({100});
  story.polled(0, {{0, 100}});
  story.read_to_the_end({{0, 100}});
  EXPECT_THAT(story.flagged(), IsEmpty());
}

TEST(X6DirtyRead, IsARecordThatWasReadAndIsGone) {
  Story story;
  story.sent_without_answer({100});
  story.polled(0, {{0, 100}});
  story.read_to_the_end({});
  EXPECT_THAT(story.flagged(), ElementsAre("X6"));
}

TEST(X6DirtyRead, IsAlsoWhatAFailedPollReturned) {
  Story story;
  story.sent_without_answer({100});
  story.polled(0, {{0, 100}}).outcome = Outcome::kUnknown;
  story.read_to_the_end({});
  EXPECT_THAT(story.flagged(), ElementsAre("X6"));
}

TEST(X6DirtyRead, IsNotATrimmedRecordNorALossThatWasAccepted) {
  Story story;
  story.sent({{0, 100}, {1, 101}, {2, 102}});
  story.polled(0, {{0, 100}, {1, 101}, {2, 102}});
  story.trimmed(1);
  story.accepted_loss(2);
  story.read_to_the_end({{1, 101}});
  EXPECT_THAT(story.flagged(), IsEmpty());
}

TEST(X6PhantomRead, IsARecordThatNobodySentToThisPartition) {
  Story story;
  story.sent({{0, 100}}).partition = {"orders", 1};
  story.polled(0, {{0, 100}});
  EXPECT_THAT(story.flagged(), ElementsAre("X6"));
}

TEST(X17SplitBrain, IsTwoReplicasThatDifferBelowTheSmallerHighWatermark) {
  Story other_record, missing_record;
  for (Story* story : {&other_record, &missing_record}) {
    story->sent({{0, 100}, {1, 101}, {2, 102}});
    story->read_to_the_end({{0, 100}, {1, 101}, {2, 102}});
    story->replica_holds(1, {{0, 100}, {1, 101}, {2, 102}});
  }
  other_record.replica_holds(2, {{0, 100}, {1, 666}});
  EXPECT_THAT(other_record.flagged(), ElementsAre("X17"));
  missing_record.replica_holds(3, {{0, 100}, {2, 102}});
  EXPECT_THAT(missing_record.flagged(), ElementsAre("X17"));
}

TEST(X17SplitBrain, IsNotAReplicaThatKnowsLessOrWasTrimmedFurther) {
  Story story;
  story.sent({{0, 100}, {1, 101}, {2, 102}});
  story.read_to_the_end({{0, 100}, {1, 101}, {2, 102}});
  story.replica_holds(1, {{0, 100}, {1, 101}, {2, 102}});
  story.replica_holds(2, {{0, 100}, {1, 101}});
  story.replica_holds(3, {{1, 101}, {2, 666}}).high_watermark = 2;
  EXPECT_THAT(story.flagged(), IsEmpty());
}

}  // namespace
}  // namespace trilog::history
