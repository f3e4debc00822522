#include "storage/base/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace trilog {
namespace {

using testing::HasSubstr;

TEST(Units, ReadsSizesInPowersOfTenAndOfTwo) {
  const std::pair<const char*, uint64_t> sizes[] = {{"0", 0},
                                                    {"123", 123},
                                                    {"7B", 7},
                                                    {"3KB", 3'000},
                                                    {"3KiB", 3'072},
                                                    {"10MB", 10'000'000},
                                                    {"1MiB", 1'048'576},
                                                    {"1GB", 1'000'000'000},
                                                    {"1GiB", 1'073'741'824},
                                                    {"2TB", 2'000'000'000'000},
                                                    {"2TiB", 2'199'023'255'552},
                                                    {"9223372036854775807", std::numeric_limits<int64_t>::max()},
                                                    {"8388607TiB", 8'388'607ull << 40}};
  for (const auto& [text, bytes] : sizes) {
    Result<uint64_t> parsed = parse_size(text);
    ASSERT_TRUE(parsed.ok()) << text;
    EXPECT_EQ(*parsed, bytes) << text;
  }
}

TEST(Units, RefusesWhatIsNoSizeWithAnExample) {
  for (const char* text :
       {"", "B", "KiB", "-1", "+1", "1.5GiB", "1 GiB", " 1", "1 ", "1k", "1kb", "1Kib", "1PiB", "0x10", "1e3",
        "9223372036854775808", "8388608TiB", "18446744073709551616", "99999999999999999999999"}) {
    Result<uint64_t> parsed = parse_size(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.status().code(), Errc::kInvalidArgument);
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(std::string("'") + text + "'"));
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("64KiB"));
  }
  EXPECT_LT(parse_size(std::string(10'000, '9')).status().message().size(), 300u);
}

TEST(Units, ReadsDurations) {
  const std::pair<const char*, int64_t> durations[] = {{"0s", 0},
                                                       {"500ms", 500},
                                                       {"5s", 5'000},
                                                       {"2m", 120'000},
                                                       {"2min", 120'000},
                                                       {"2h", 7'200'000},
                                                       {"7d", 604'800'000},
                                                       {"9223372036854775807ms", std::numeric_limits<int64_t>::max()},
                                                       {"106751991167d", 106'751'991'167 * 86'400'000}};
  for (const auto& [text, ms] : durations) {
    Result<int64_t> parsed = parse_duration_ms(text);
    ASSERT_TRUE(parsed.ok()) << text;
    EXPECT_EQ(*parsed, ms) << text;
  }
}

TEST(Units, RefusesWhatIsNoDurationWithAnExample) {
  for (const char* text :
       {"", "5", "s", "-5s", "1.5h", "5 s", "5S", "5w", "5sec", "106751991168d", "9223372036854775808ms"}) {
    Result<int64_t> parsed = parse_duration_ms(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("7d"));
  }
}

TEST(Units, ReadsTimesOfRfc3339) {
  const std::pair<const char*, int64_t> times[] = {{"1970-01-01T00:00:00Z", 0},
                                                   {"1970-01-01", 0},
                                                   {"2026-03-01", 1'772'323'200'000},
                                                   {"2026-03-01T12:00:00Z", 1'772'366'400'000},
                                                   {"2026-03-01t12:00:00z", 1'772'366'400'000},
                                                   {"2026-03-01 12:00:00Z", 1'772'366'400'000},
                                                   {"2026-03-01T12:00:00.250+01:00", 1'772'362'800'250},
                                                   {"2026-03-01T12:00:00-05:30", 1'772'386'200'000},
                                                   {"2026-03-01T12:00:00.123456789Z", 1'772'366'400'123},
                                                   {"2024-02-29T23:59:59.9Z", 1'709'251'199'900},
                                                   {"1969-12-31T23:59:59Z", -1'000}};
  for (const auto& [text, ms] : times) {
    Result<int64_t> parsed = parse_time_ms(text);
    ASSERT_TRUE(parsed.ok()) << text;
    EXPECT_EQ(*parsed, ms) << text;
  }
}

TEST(Units, RefusesWhatIsNoTime) {
  for (const char* text : {"",
                           "yesterday",
                           "2026",
                           "2026-03",
                           "2026-3-1",
                           "2026-13-01",
                           "2026-02-29",
                           "2026-00-10",
                           "2026-01-32",
                           "2026-03-01T",
                           "2026-03-01T12:00Z",
                           "2026-03-01T12:00:00",
                           "2026-03-01T24:00:00Z",
                           "2026-03-01T12:60:00Z",
                           "2026-03-01T12:00:61Z",
                           "2026-03-01T12:00:00.Z",
                           "2026-03-01T12:00:00+24:00",
                           "2026-03-01T12:00:00+0100",
                           "2026-03-01T12:00:00ZZ",
                           "-026-03-01",
                           "2026-03-01x12:00:00Z",
                           "1772366400000"}) {
    Result<int64_t> parsed = parse_time_ms(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("2026-03-01T12:00:00Z"));
  }
}

TEST(Units, PrintsSizes) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(1'023), "1023 B");
  EXPECT_EQ(format_size(1'024), "1.0 KiB");
  EXPECT_EQ(format_size(1'536), "1.5 KiB");
  EXPECT_EQ(format_size(20 << 10), "20 KiB");
  EXPECT_EQ(format_size(1 << 20), "1.0 MiB");
  EXPECT_EQ(format_size(3'435'973'837), "3.2 GiB");
  EXPECT_EQ(format_size(5ull << 40), "5.0 TiB");
  EXPECT_EQ(format_size(5'000ull << 40), "5000 TiB");
}

// Just below the next unit it is rounded up to it, not to "1024 KiB" or "10.0 KiB".
TEST(Units, PrintsSizesJustBelowTheNextUnit) {
  EXPECT_EQ(format_size((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(format_size((1 << 30) - 1), "1.0 GiB");
  EXPECT_EQ(format_size(10 * 1'024 - 1), "10 KiB");
}

TEST(Units, PrintsDurations) {
  const std::pair<int64_t, const char*> durations[] = {
      {0, "0 ms"},           {250, "250 ms"},         {5'000, "5 s"},          {1'500, "1500 ms"},
      {12'345, "12 s"},      {120'000, "2 min"},      {3'600'000, "1 hour"},   {7'200'000, "2 hours"},
      {86'400'000, "1 day"}, {604'800'000, "7 days"}, {90'000'000, "25 hours"}};
  for (const auto& [ms, text] : durations) EXPECT_EQ(format_duration_ms(ms), text);
}

TEST(Units, PrintsTimesAsItReadsThem) {
  EXPECT_EQ(format_time_ms(1'772'366'400'250), "2026-03-01T12:00:00.250Z");
  EXPECT_EQ(format_time_ms(-1), "1969-12-31T23:59:59.999Z");
  for (int64_t ms : {int64_t{0}, int64_t{1'709'251'199'901}, int64_t{253'402'300'799'999}}) {
    Result<int64_t> parsed = parse_time_ms(format_time_ms(ms));
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(*parsed, ms);
  }
}

}  // namespace
}  // namespace trilog
