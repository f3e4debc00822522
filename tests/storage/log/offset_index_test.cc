#include "storage/log/offset_index.h"

#include <gtest/gtest.h>

#include "storage/base/codec.h"
#include "storage/log/checkpoint_file.h"

namespace trilog {
namespace {

constexpr Offset kBase{1000};
constexpr SegmentCover kCover{kBase, Offset(2000), 65536, 0xabcd};

OffsetIndex three_entries() {
  OffsetIndex index(kBase);
  index.add(Offset(1000), 0);
  index.add(Offset(1100), 16384);
  index.add(Offset(1500), 40000);
  return index;
}

TEST(OffsetIndex, FindsTheLastEntryAtOrBelowAnOffset) {
  OffsetIndex index = three_entries();
  EXPECT_EQ(index.floor(Offset(999)), std::nullopt);
  EXPECT_EQ(index.floor(Offset(1000)), (IndexEntry{Offset(1000), 0}));
  EXPECT_EQ(index.floor(Offset(1099)), (IndexEntry{Offset(1000), 0}));
  EXPECT_EQ(index.floor(Offset(1100)), (IndexEntry{Offset(1100), 16384}));
  EXPECT_EQ(index.floor(Offset(99999)), (IndexEntry{Offset(1500), 40000}));
}

TEST(OffsetIndex, FindsTheFirstEntryAtOrAboveAnOffset) {
  OffsetIndex index = three_entries();
  EXPECT_EQ(index.ceiling(Offset(1000)), (IndexEntry{Offset(1000), 0}));
  EXPECT_EQ(index.ceiling(Offset(1001)), (IndexEntry{Offset(1100), 16384}));
  EXPECT_EQ(index.ceiling(Offset(1501)), std::nullopt);
}

TEST(OffsetIndex, IsEmptyAtFirst) {
  OffsetIndex index(kBase);
  EXPECT_EQ(index.floor(kBase), std::nullopt);
  EXPECT_EQ(index.ceiling(kBase), std::nullopt);
  EXPECT_EQ(index.last(), std::nullopt);
}

TEST(OffsetIndex, LeavesOutWhatDoesNotFitInto32Bits) {
  OffsetIndex index = three_entries();
  index.add(kBase + (int64_t{1} << 32), 50000);
  index.add(Offset(1600), uint64_t{1} << 32);
  EXPECT_EQ(index.size(), 3u);
  index.add(kBase + ((int64_t{1} << 32) - 1), 50000);
  EXPECT_EQ(index.last(), (IndexEntry{kBase + ((int64_t{1} << 32) - 1), 50000}));
}

TEST(OffsetIndex, ComesBackFromItsFile) {
  auto decoded = OffsetIndex::decode(three_entries().encode(kCover));
  ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
  EXPECT_EQ(decoded->cover, kCover);
  ASSERT_EQ(decoded->index.size(), 3u);
  EXPECT_EQ(decoded->index.at(1), (IndexEntry{Offset(1100), 16384}));
}

TEST(OffsetIndex, EveryCutAndEveryFlippedBitOfItsFileIsFound) {
  Bytes good = three_entries().encode(kCover);
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(OffsetIndex::decode(good.view().first(size)).status().code(), Errc::kCorruption) << size;
  }
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    Bytes bad = Bytes::copy_of(good.view());
    bad.data()[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_EQ(OffsetIndex::decode(bad).status().code(), Errc::kCorruption) << bit;
  }
}

TEST(OffsetIndex, RefusesEntriesThatDoNotRiseOrLieOutsideTheCover) {
  auto file_with = [](uint32_t relative1, uint32_t position1, uint32_t relative2, uint32_t position2) {
    Bytes payload;
    write_cover(payload, kCover);
    ByteWriter out(payload);
    out.write<uint32_t>(2);
    for (uint32_t number : {relative1, position1, relative2, position2}) out.write<uint32_t>(number);
    return frame_checkpoint(1, payload);
  };
  EXPECT_TRUE(OffsetIndex::decode(file_with(0, 0, 999, 65535)).ok());
  EXPECT_FALSE(OffsetIndex::decode(file_with(5, 0, 5, 100)).ok());
  EXPECT_FALSE(OffsetIndex::decode(file_with(0, 100, 5, 100)).ok());
  EXPECT_FALSE(OffsetIndex::decode(file_with(0, 0, 1000, 100)).ok());
  EXPECT_FALSE(OffsetIndex::decode(file_with(0, 0, 5, 65536)).ok());
}

}  // namespace
}  // namespace trilog
