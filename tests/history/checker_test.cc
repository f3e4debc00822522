#include "tests/history/checker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/history/story.h"

namespace trilog::history {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

TEST(Checker, KeepsAFewViolationsOfAClassAndCountsTheOthers) {
  Story story;
  for (uint64_t token = 0; token < 50; ++token) {
    story.refused({token});
    story.polled(static_cast<int64_t>(token), {{static_cast<int64_t>(token), token}});
  }
  const auto violations = check(story.history).value();
  ASSERT_EQ(violations.size(), kViolationsPerClassMax + 1);
  EXPECT_EQ(violations.back().what, "and 30 more of this class");
}

TEST(Checker, ShortensTheProof) {
  Story story;
  story.refused({1}).detail = std::string(5000, 'x');
  story.polled(0, {{0, 1}});
  const auto violations = check(story.history).value();
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_LT(violations[0].operations[0].size(), kProofBytesMax + 10);
}

TEST(Checker, RefusesAHistoryInWhichATokenWasSentTwice) {
  Story story;
  story.sent({{0, 100}});
  story.sent({{1, 100}});
  const Status status = check(story.history).status();
  EXPECT_EQ(status.code(), Errc::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("token 100 was sent twice to orders/0"));
}

TEST(Checker, FindsNothingInAnEmptyHistory) { EXPECT_THAT(check(History()).value(), IsEmpty()); }

}  // namespace
}  // namespace trilog::history
