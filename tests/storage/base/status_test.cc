#include "storage/base/status.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "storage/base/logging.h"

namespace trilog {
namespace {

static_assert(sizeof(Status) == sizeof(void*));

Status fails() { return Status(Errc::kNotFound, "no such topic"); }
Result<int> answers(bool well) {
  if (!well) return fails();
  return 7;
}
Result<std::string> tries(bool well, bool& went_on) {
  int number = TRY(answers(well));
  TRY(ok_status());
  went_on = true;
  return std::to_string(number);
}

TEST(Status, SuccessHasNoMessage) {
  Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), Errc::kOk);
  EXPECT_EQ(status.message(), "");
  EXPECT_EQ(status.to_string(), "ok");
  EXPECT_TRUE(Status(Errc::kOk, "ignored").ok());
}

TEST(Status, FailureSaysWhatAndWhy) {
  Status status = fails();
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.code(), Errc::kNotFound);
  EXPECT_EQ(status.to_string(), "NotFound: no such topic");
}

TEST(Status, ContextGoesInFrontAndSuccessStaysSuccess) {
  EXPECT_EQ(fails().with_context("open").to_string(), "NotFound: open: no such topic");
  EXPECT_TRUE(ok_status().with_context("open").ok());
}

TEST(Status, CopiesAreIndependentOfTheOriginal) {
  Status original = fails();
  Status copy = original;
  original = Status();
  EXPECT_EQ(copy.message(), "no such topic");
  copy = *&copy;
  EXPECT_EQ(copy.message(), "no such topic");
  original = copy;
  EXPECT_EQ(original.code(), Errc::kNotFound);
}

TEST(Status, EveryCodeHasAName) {
  for (int code = 0; code <= static_cast<int>(Errc::kPermission); ++code) {
    EXPECT_NE(errc_name(static_cast<Errc>(code)), "");
  }
}

TEST(Result, HoldsAValueOrAFailure) {
  EXPECT_EQ(*answers(true), 7);
  EXPECT_FALSE(answers(false).ok());
  EXPECT_EQ(answers(false).status().code(), Errc::kNotFound);
}

TEST(Result, MovesItsValueOut) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(5));
  std::unique_ptr<int> value = std::move(result).value();
  EXPECT_EQ(*value, 5);
}

TEST(ResultDeathTest, TheValueOfAFailureStopsTheProcess) {
  EXPECT_DEATH(static_cast<void>(answers(false).value()), "check failed");
  EXPECT_DEATH(static_cast<void>(Result<int>(Status())), "check failed");
}

TEST(Try, ReturnsTheFailureAtOnceAndTheValueOtherwise) {
  bool went_on = false;
  Result<std::string> failed = tries(false, went_on);
  EXPECT_EQ(failed.status().code(), Errc::kNotFound);
  EXPECT_FALSE(went_on);
  EXPECT_EQ(*tries(true, went_on), "7");
  EXPECT_TRUE(went_on);
}

TEST(CheckDeathTest, PrintsBothValues) {
  int left = 1;
  EXPECT_DEATH(CHECK_EQ(left, 2), "left == 2.*1 vs 2");
  EXPECT_DEATH(UNREACHABLE("here"), "unreachable: here");
}

TEST(Logger, WritesLinesFromItsMinimumLevelOn) {
  std::string lines;
  Logger logger([&lines](LogLevel level, std::string_view line) {
    lines += log_level_name(level);
    lines += ' ';
    lines += line;
    lines += '\n';
  });
  logger.debug("not ", 1);
  logger.info("topic ", "orders", " has ", 3, " partitions");
  logger.error("disk");
  EXPECT_EQ(lines, "info topic orders has 3 partitions\nerror disk\n");
  Logger().error("goes nowhere");
}

}  // namespace
}  // namespace trilog
