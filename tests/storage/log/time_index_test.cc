#include "storage/log/time_index.h"

#include <gtest/gtest.h>

#include "storage/base/codec.h"
#include "storage/log/checkpoint_file.h"

namespace trilog {
namespace {

constexpr Offset kBase{100};
constexpr SegmentCover kCover{kBase, Offset(200), 5000, 7};

TimeIndex three_entries() {
  TimeIndex index(kBase);
  index.add(1000, Offset(100));
  index.add(2000, Offset(120));
  index.add(3000, Offset(150));
  return index;
}

TEST(TimeIndex, SaysFromWhereToSearch) {
  TimeIndex index = three_entries();
  // Nothing is known to be older: from the start.
  EXPECT_EQ(index.search_from(500), std::nullopt);
  EXPECT_EQ(index.search_from(1000), std::nullopt);
  // Everything up to the batch at 100 is no later than 1000.
  EXPECT_EQ(index.search_from(1001), Offset(100));
  EXPECT_EQ(index.search_from(2001), Offset(120));
  EXPECT_EQ(index.search_from(9999), Offset(150));
}

TEST(TimeIndex, MovesAnEntryOnWhileTimeStandsStill) {
  TimeIndex index(kBase);
  index.add(1000, Offset(100));
  index.add(1000, Offset(110));
  index.add(1000, Offset(130));
  EXPECT_EQ(index.size(), 1u);
  EXPECT_EQ(index.search_from(1001), Offset(130));
}

TEST(TimeIndex, ToleratesBatchesWithoutTimestamps) {
  TimeIndex index(kBase);
  index.add(kNoTimestamp, Offset(100));
  index.add(kNoTimestamp, Offset(105));
  index.add(50, Offset(110));
  EXPECT_EQ(index.search_from(0), Offset(105));
  EXPECT_EQ(index.search_from(51), Offset(110));
}

TEST(TimeIndex, ComesBackFromItsFile) {
  auto decoded = TimeIndex::decode(three_entries().encode(kCover, 3500));
  ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
  EXPECT_EQ(decoded->cover, kCover);
  EXPECT_EQ(decoded->max_timestamp, 3500);
  EXPECT_EQ(decoded->index.search_from(2500), Offset(120));
}

TEST(TimeIndex, EveryCutAndEveryFlippedBitOfItsFileIsFound) {
  Bytes good = three_entries().encode(kCover, 3500);
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(TimeIndex::decode(good.view().first(size)).status().code(), Errc::kCorruption) << size;
  }
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    Bytes bad = Bytes::copy_of(good.view());
    bad.data()[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_EQ(TimeIndex::decode(bad).status().code(), Errc::kCorruption) << bit;
  }
}

TEST(TimeIndex, RefusesEntriesThatDoNotRiseOrLieOutsideTheCover) {
  auto file_with = [](int64_t time1, uint32_t relative1, int64_t time2, uint32_t relative2) {
    Bytes payload;
    write_cover(payload, kCover);
    ByteWriter out(payload);
    out.write<int64_t>(5000);
    out.write<uint32_t>(2);
    out.write<int64_t>(time1);
    out.write<uint32_t>(relative1);
    out.write<int64_t>(time2);
    out.write<uint32_t>(relative2);
    return frame_checkpoint(1, payload);
  };
  EXPECT_TRUE(TimeIndex::decode(file_with(1, 0, 5000, 99)).ok());
  EXPECT_FALSE(TimeIndex::decode(file_with(1, 0, 1, 99)).ok());
  EXPECT_FALSE(TimeIndex::decode(file_with(1, 9, 2, 9)).ok());
  EXPECT_FALSE(TimeIndex::decode(file_with(1, 0, 5001, 99)).ok());
  EXPECT_FALSE(TimeIndex::decode(file_with(1, 0, 2, 100)).ok());
}

}  // namespace
}  // namespace trilog
