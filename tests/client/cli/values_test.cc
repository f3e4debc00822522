#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "client/cli/commands.h"

namespace trilog::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
using Kind = Place::Kind;

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

TEST(Values, APlaceIsTheStartTheEndAnOffsetOrATime) {
  EXPECT_EQ(parse_place("start", false)->kind, Kind::kStart);
  EXPECT_EQ(parse_place("end", false)->kind, Kind::kEnd);
  EXPECT_EQ(parse_place("0", false)->kind, Kind::kOffset);
  EXPECT_EQ(parse_place("9223372036854775807", false)->value, INT64_MAX);
  Result<Place> time = parse_place("2026-03-01T12:00:00Z", false);
  ASSERT_TRUE(time.ok());
  EXPECT_EQ(time->kind, Kind::kTime);
  EXPECT_EQ(time->value, 1'772'366'400'000);
  int64_t before = now_ms();
  Result<Place> ago = parse_place("-2h", false);
  int64_t after = now_ms();
  ASSERT_TRUE(ago.ok());
  EXPECT_EQ(ago->kind, Kind::kTime);
  EXPECT_GE(ago->value, before - 7'200'000);
  EXPECT_LE(ago->value, after - 7'200'000);
}

TEST(Values, StepsOnlyWhereTheyAreAllowed) {
  EXPECT_EQ(parse_place("+1", true)->kind, Kind::kStep);
  EXPECT_EQ(parse_place("+1", true)->value, 1);
  EXPECT_EQ(parse_place("-10", true)->value, -10);
  EXPECT_EQ(parse_place("-2h", true)->kind, Kind::kTime);
  EXPECT_EQ(parse_place("5", true)->kind, Kind::kOffset);
  EXPECT_FALSE(parse_place("+1", false).ok());
  EXPECT_FALSE(parse_place("-10", false).ok());
}

TEST(Values, WhatIsNoPlaceIsRefusedWithExamples) {
  for (const char* text : {"", "yesterday", "-", "+", "--2h", "+-1", "1.5", "-2 h", "9223372036854775808", "-2parsecs",
                           " 5", "5 ", "2026-02-30", "-99999999999999999999d", "START"}) {
    for (bool steps : {false, true}) {
      Result<Place> place = parse_place(text, steps);
      ASSERT_FALSE(place.ok()) << text;
      EXPECT_THAT(std::string(place.status().message()), HasSubstr("2026-03-01T12:00:00Z"));
      EXPECT_EQ(std::string(place.status().message()).find("+1") != std::string::npos, steps);
    }
  }
}

TEST(Values, PartitionsAreNumbersAndRanges) {
  EXPECT_THAT(*parse_partitions("0"), ElementsAre(0));
  EXPECT_THAT(*parse_partitions("0,2-4"), ElementsAre(0, 2, 3, 4));
  EXPECT_THAT(*parse_partitions("7-7,3"), ElementsAre(7, 3));
  EXPECT_THAT(*parse_partitions("0-99999"), SizeIs(100'000));
  for (const char* text : {"", ",", "0,", ",0", "a", "1-", "-1", "4-2", "1-2-3", "1,,2", "+1", "0-100001",
                           "99999999999999999999", "1 2", "0-99999,0-99999"})
    EXPECT_FALSE(parse_partitions(text).ok()) << text;
}

TEST(Values, AnAddressHasAHostAndAPortOrIsAUnixSocket) {
  for (const char* text :
       {"localhost:9092", "127.0.0.1:1", "[::1]:65535", "a:1,b:2", "unix:x.sock", "unix:/a/b,localhost:9092"})
    EXPECT_TRUE(check_servers(text).ok()) << text;
  for (const char* text :
       {"", "localhost", ":9092", "localhost:", "localhost:0", "localhost:65536", "localhost:abc", "localhost:-1",
        "localhost:99999999999999999999", "unix:", "a:1,", ",a:1", "a:1,,b:2", "a:1 ,b:2"}) {
    Status status = check_servers(text);
    ASSERT_FALSE(status.ok()) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("localhost:9092"));
  }
}

TEST(Values, AnAssignmentHasANameAndMayHaveAnEmptyValue) {
  EXPECT_EQ(*parse_assignment("a=b", "--set"), std::pair(std::string("a"), std::string("b")));
  EXPECT_EQ(*parse_assignment("a=", "--set"), std::pair(std::string("a"), std::string()));
  EXPECT_EQ(*parse_assignment("a=b=c", "--set"), std::pair(std::string("a"), std::string("b=c")));
  for (const char* text : {"", "a", "=b", "="}) {
    auto refused = parse_assignment(text, "--set");
    ASSERT_FALSE(refused.ok()) << text;
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("--set"));
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("NAME=VALUE"));
  }
}

}  // namespace
}  // namespace trilog::cli
