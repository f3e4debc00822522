#include "storage/base/logging.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "storage/base/check.h"

namespace trilog {
namespace {

using testing::ElementsAre;

TEST(Logging, LinesFromTheLowestLevelWantedOnGoToTheSink) {
  std::vector<std::string> lines;
  Logger log(
      [&](LogLevel level, std::string_view line) {
        lines.push_back(std::string(log_level_name(level)) + " " + std::string(line));
      },
      LogLevel::kWarning);
  log.debug("a");
  log.info("b ", 1);
  log.warning("c ", 2, " of ", 3);
  log.error("d");
  EXPECT_THAT(lines, ElementsAre("warning c 2 of 3", "error d"));
  EXPECT_FALSE(log.enabled(LogLevel::kInfo));
  EXPECT_TRUE(log.enabled(LogLevel::kError));
}

TEST(Logging, WithoutASinkNothingIsEnabled) {
  Logger log;
  EXPECT_FALSE(log.enabled(LogLevel::kError));
  log.error("dropped");
}

TEST(Check, AFailureNamesTheExpressionAndItsValues) {
  int left = 3;
  EXPECT_DEATH(CHECK(left == 4), "logging_test.cc:[0-9]+: check failed: left == 4");
  EXPECT_DEATH(CHECK_EQ(left, 4), "left == 4 .*3 vs 4");
  EXPECT_DEATH(CHECK_LT(left, 3), "3 vs 3");
  CHECK_LE(left, 3);
  CHECK_NE(left, 4);
}

}  // namespace
}  // namespace trilog
