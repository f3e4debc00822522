#include "storage/base/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace trilog {
namespace {

TEST(Histogram, IsZeroWhenEmpty) {
  Histogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.max(), 0);
  EXPECT_EQ(histogram.mean(), 0);
  EXPECT_EQ(histogram.quantile(0.5), 0);
}

TEST(Histogram, SmallValuesAreExact) {
  Histogram histogram;
  for (int64_t value = 0; value < 16; ++value) histogram.record(value);
  for (int64_t value = 0; value < 16; ++value) {
    EXPECT_EQ(histogram.quantile((static_cast<double>(value) + 0.5) / 16), value);
  }
  EXPECT_EQ(histogram.mean(), 7.5);
  EXPECT_EQ(histogram.max(), 15);
}

TEST(Histogram, QuantilesLieWithinOneSixteenthAboveTheTruth) {
  std::mt19937_64 random(1);
  Histogram histogram;
  std::vector<int64_t> values;
  for (int i = 0; i < 20'000; ++i) {
    auto value = static_cast<int64_t>(random() >> (24 + random() % 30));
    values.push_back(value);
    histogram.record(value);
  }
  std::sort(values.begin(), values.end());
  for (double fraction : {0.001, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    auto rank = static_cast<size_t>(std::ceil(fraction * static_cast<double>(values.size())));
    int64_t truth = values[rank - 1];
    int64_t answer = histogram.quantile(fraction);
    EXPECT_GE(answer, truth) << fraction;
    EXPECT_LE(answer, truth + truth / 16 + 1) << fraction;
  }
  EXPECT_EQ(histogram.quantile(1.0), values.back());
}

TEST(Histogram, NegativeCountsAsZeroAndHugeAsTheLastBucket) {
  Histogram histogram;
  histogram.record(-5);
  EXPECT_EQ(histogram.max(), 0);
  histogram.record(std::numeric_limits<int64_t>::max() / 4);
  EXPECT_EQ(histogram.count(), 2u);
  EXPECT_EQ(histogram.quantile(0.5), 0);
  EXPECT_GT(histogram.quantile(1.0), int64_t{1} << 40);
}

TEST(Histogram, MergeIsAsIfAllHadBeenRecordedInOne) {
  Histogram left;
  Histogram right;
  Histogram both;
  for (int64_t value : {3, 500, 70'000}) {
    left.record(value);
    both.record(value);
  }
  for (int64_t value : {4, 900'000'000}) {
    right.record(value);
    both.record(value);
  }
  left.merge(right);
  EXPECT_EQ(left.count(), both.count());
  EXPECT_EQ(left.max(), both.max());
  EXPECT_EQ(left.mean(), both.mean());
  for (double fraction : {0.1, 0.3, 0.5, 0.7, 0.9}) EXPECT_EQ(left.quantile(fraction), both.quantile(fraction));
}

}  // namespace
}  // namespace trilog
