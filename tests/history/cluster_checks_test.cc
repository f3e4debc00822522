#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/history/story.h"

namespace trilog::history {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using What = Membership::What;

TEST(X13CommittedOffset, MustNotGoBackOrBeForgotten) {
  Story back, forgotten;
  back.committed(10);
  back.found_committed(9);
  EXPECT_THAT(back.flagged(), ElementsAre("X13"));
  forgotten.committed(10);
  forgotten.found_committed(-1);
  EXPECT_THAT(forgotten.flagged(), ElementsAre("X13"));
}

TEST(X13CommittedOffset, MayBeRewoundOrDeletedWithItsGroup) {
  Story rewound, deleted, lost;
  rewound.committed(10);
  rewound.committed(3).outcome = Outcome::kUnknown;
  rewound.found_committed(3);
  EXPECT_THAT(rewound.flagged(), IsEmpty());
  deleted.committed(10);
  deleted.deleted("billing", ObjectKind::kGroup);
  deleted.found_committed(-1);
  EXPECT_THAT(deleted.flagged(), IsEmpty());
  lost.committed(10);
  lost.accepted_loss(0).partition.topic = "__consumer_offsets";
  lost.found_committed(-1);
  EXPECT_THAT(lost.flagged(), IsEmpty());
}

TEST(X13CommittedOffset, IsNotExcusedByAnOlderOrARefusedCommit) {
  Story older, refused;
  older.committed(3);
  older.committed(10);
  older.found_committed(3);
  EXPECT_THAT(older.flagged(), ElementsAre("X13"));
  refused.committed(10);
  refused.committed(3).outcome = Outcome::kNotWritten;
  refused.found_committed(3);
  EXPECT_THAT(refused.flagged(), ElementsAre("X13"));
}

TEST(X13CommittedOffset, MustNotGoBackAfterARewindEither) {
  Story story;
  story.committed(10);
  story.committed(3);
  story.found_committed(3);
  story.found_committed(-1);
  EXPECT_THAT(story.flagged(), ElementsAre("X13"));
}

TEST(X13CommittedOffset, MayBeTheHigherOneOfACommitWithoutAnswer) {
  Story story;
  story.committed(10);
  story.committed(20).outcome = Outcome::kUnknown;
  story.found_committed(20);
  story.found_committed(20);
  EXPECT_THAT(story.flagged(), IsEmpty());
}

TEST(X14ZombieCommit, IsOneOfAnOldGeneration) {
  Story story;
  story.member("a", What::kJoined, 1);
  story.member("b", What::kJoined, 2);
  story.committed(10, "a", 1);
  EXPECT_THAT(story.flagged(), ElementsAre("X14"));
}

TEST(X14ZombieCommit, IsOneOfAMemberThatIsOut) {
  Story fenced, left;
  fenced.member("a", What::kJoined, 1);
  fenced.member("a", What::kFenced, 1);
  fenced.committed(10, "a", 1);
  EXPECT_THAT(fenced.flagged(), ElementsAre("X14"));
  left.member("a", What::kJoined, 1);
  left.member("a", What::kLeft, 1);
  left.committed(10, "a", 1);
  EXPECT_THAT(left.flagged(), ElementsAre("X14"));
}

TEST(X14ZombieCommit, IsNotOneThatWasRefusedOrThatOfAnotherMemberOrOfTheNextGeneration) {
  Story story;
  story.member("a", What::kJoined, 1);
  story.member("b", What::kJoined, 1);
  story.member("b", What::kFenced, 1);
  story.committed(10, "a", 1);
  story.committed(11, "b", 1).outcome = Outcome::kNotWritten;
  story.member("b", What::kJoined, 2);
  story.committed(12, "b", 2);
  EXPECT_THAT(story.flagged(), IsEmpty());
}

TEST(X16Object, IsLostOrComesBack) {
  Story lost, back;
  lost.created("orders");
  lost.listed({});
  EXPECT_THAT(lost.flagged(), ElementsAre("X16"));
  back.created("orders");
  back.deleted("orders");
  back.listed({"orders"});
  EXPECT_THAT(back.flagged(), ElementsAre("X16"));
}

TEST(X16Object, IsJudgedByTheLastOfManyChanges) {
  Story story;
  for (int i = 0; i < 10; ++i) {
    story.created("orders");
    story.listed({"orders"});
    story.deleted("orders").outcome = i == 9 ? Outcome::kNotWritten : Outcome::kOk;
  }
  story.listed({"orders"});
  EXPECT_THAT(story.flagged(), IsEmpty());
  story.listed({});
  EXPECT_THAT(story.flagged(), ElementsAre("X16"));
}

TEST(X16Object, MayBeEitherWayAfterACreationAndADeletionAtTheSameTime) {
  Story story;
  story.created("orders").answered_ns += 3 * Story::kStepNs;
  story.deleted("orders");
  story.created("payments");
  story.created("refunds");
  story.listed({"orders", "payments", "refunds"});
  story.listed({"payments", "refunds"});
  EXPECT_THAT(story.flagged(), IsEmpty());
}

TEST(X16Object, MayBeListedOrNotWhileItIsChangedOrIfTheOutcomeIsUnknown) {
  Story concurrent, unknown, again;
  concurrent.created("orders").answered_ns += Story::kStepNs;
  concurrent.listed({});
  EXPECT_THAT(concurrent.flagged(), IsEmpty());
  unknown.created("orders");
  unknown.deleted("orders").outcome = Outcome::kUnknown;
  unknown.listed({});
  unknown.listed({"orders"});
  EXPECT_THAT(unknown.flagged(), IsEmpty());
  again.created("orders");
  again.deleted("orders");
  again.created("orders");
  again.listed({"orders"});
  EXPECT_THAT(again.flagged(), IsEmpty());
}

TEST(X18Stuck, IsAPartitionThatTakesNoWriteOrCannotBeReadAfterHealing) {
  Story no_write, too_late, no_read;
  no_write.sent({{0, 100}});
  no_write.healed(1000);
  no_write.read_to_the_end({{0, 100}});
  EXPECT_THAT(no_write.flagged(), ElementsAre("X18"));
  too_late.healed(1000);
  too_late.sent({{0, 100}}).answered_ns += 1000;
  too_late.read_to_the_end({{0, 100}});
  EXPECT_THAT(too_late.flagged(), ElementsAre("X18"));
  no_read.healed(1000);
  no_read.sent({{0, 100}});
  EXPECT_THAT(no_read.flagged(), ElementsAre("X18"));
}

TEST(X18Stuck, IsAGroupThatTakesNoCommitAndWhatDoesNotEndInTime) {
  Story group, late, never;
  group.committed(1);
  group.healed(1000);
  group.committed(2).outcome = Outcome::kNotWritten;
  EXPECT_THAT(group.flagged(), ElementsAre("X18"));
  late.awaited("move of orders/0", Story::kStepNs).answered_ns += Story::kStepNs;
  EXPECT_THAT(late.flagged(), ElementsAre("X18"));
  never.awaited("rebalance of billing", 1000).outcome = Outcome::kUnknown;
  EXPECT_THAT(never.flagged(), ElementsAre("X18"));
}

TEST(X18Stuck, IsNotAClusterInWhichAllWorksAgainNorATopicThatWasDeleted) {
  Story story;
  story.sent({{0, 10}}).partition.topic = "old";
  story.deleted("old");
  story.sent_without_answer({100});
  story.committed(0);
  story.healed(1000);
  story.sent({{0, 101}});
  story.committed(1);
  story.awaited("rebalance of billing", 1000);
  story.read_to_the_end({{0, 101}});
  EXPECT_THAT(story.flagged(), IsEmpty());
}

}  // namespace
}  // namespace trilog::history
