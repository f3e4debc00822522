#include "storage/log/segment.h"

#include <gtest/gtest.h>

#include "tests/storage/log/log_fixture.h"

namespace trilog {
namespace {

using testing::kTestTimestampMs;
using testing::numbered_batch;

// One segment without a Log around it: 20 batches of two records from offset 100.
class SegmentTest : public testing::LogFixture {
 protected:
  void SetUp() override {
    ASSERT_TRUE(files().create_directories(testing::kLogFolder).ok());
    config.index_interval_bytes = 250;
    epochs_.assign(LeaderEpoch(1), Offset(0));
    segment_ = std::make_unique<Segment>(context_, Offset(100), Offset(100), false);
    ASSERT_TRUE(segment_->create().ok());
    for (int i = 0; i < 20; ++i) add(Offset(100 + 2 * i), kTestTimestampMs + i);
  }
  void add(Offset base, int64_t timestamp) {
    Bytes batch = numbered_batch(base, 2, 10, LeaderEpoch(1), timestamp);
    BatchHeader header = BatchHeader::of(RecordBatch::parse(batch).value());
    positions_.push_back(segment_->known_size());
    ASSERT_TRUE(segment_->append(batch, {&header, 1}).ok());
  }
  // As after a restart: nothing is known but the name and the end.
  void open_again(bool sealed) { segment_ = std::make_unique<Segment>(context_, Offset(100), Offset(140), sealed); }
  void expect_every_offset_is_found() {
    for (int64_t offset = 100; offset < 140; ++offset) {
      auto at = segment_->locate(Offset(offset));
      ASSERT_TRUE(at.ok()) << at.status().to_string();
      auto batch = static_cast<size_t>(offset - 100) / 2;
      EXPECT_EQ(at->position, positions_[batch]) << offset;
      EXPECT_EQ(at->header.base_offset, Offset(100 + 2 * static_cast<int64_t>(batch)));
    }
  }
  void flip(size_t batch, size_t byte, std::byte bits = std::byte{0x04}) {
    Bytes content = files().read_file(log_path(100)).value();
    content.data()[positions_[batch] + byte] ^= bits;
    disk().put_file(log_path(100), content);
  }

  const std::string folder_{testing::kLogFolder};
  LeaderEpochCache epochs_;
  std::vector<DamagedRange> damage_;
  SegmentContext context_{files(), env().log(), folder_, config, &epochs_, damage_, [this](DamagedRange range) {
                            damage_.push_back(std::move(range));
                          }};
  std::unique_ptr<Segment> segment_;
  std::vector<uint64_t> positions_;
};

TEST_F(SegmentTest, FindsEveryOffsetWhileItIsWritten) { expect_every_offset_is_found(); }

TEST_F(SegmentTest, FindsEveryOffsetAfterARestartWithoutAnyIndex) {
  for (bool sealed : {false, true}) {
    open_again(sealed);
    expect_every_offset_is_found();
    EXPECT_TRUE(damage_.empty());
  }
}

TEST_F(SegmentTest, FindsEveryOffsetFromItsSavedIndexReadingLittle) {
  segment_->seal();
  segment_->save_derived(true);
  open_again(true);
  uint64_t reads = disk().calls(sim::DiskCall::kRead);
  ASSERT_TRUE(segment_->locate(Offset(139)).ok());
  EXPECT_LE(disk().calls(sim::DiskCall::kRead) - reads, 6u);
  expect_every_offset_is_found();
  EXPECT_EQ(segment_->max_timestamp().value(), kTestTimestampMs + 19);
}

TEST_F(SegmentTest, AnOffsetJustWrittenAfterARestartIsFoundWithoutReadingTheRest) {
  segment_ = std::make_unique<Segment>(context_, Offset(100), Offset(140), false);
  ASSERT_TRUE(segment_->open_for_writing().ok());
  add(Offset(140), kTestTimestampMs);
  uint64_t reads = disk().calls(sim::DiskCall::kRead);
  EXPECT_EQ(segment_->locate(Offset(141)).value().position, positions_[20]);
  EXPECT_EQ(disk().calls(sim::DiskCall::kRead) - reads, 1u);
  // An older one makes it read the headers.
  EXPECT_EQ(segment_->locate(Offset(101)).value().position, 0u);
}

TEST_F(SegmentTest, ASavedIndexOfTheActiveSegmentIsContinued) {
  segment_->save_derived(false);
  segment_ = std::make_unique<Segment>(context_, Offset(100), Offset(140), false);
  ASSERT_TRUE(segment_->open_for_writing().ok());
  for (int i = 20; i < 30; ++i) add(Offset(100 + 2 * i), kTestTimestampMs + i);
  for (int64_t offset = 100; offset < 160; ++offset) {
    EXPECT_EQ(segment_->locate(Offset(offset)).value().position, positions_[static_cast<size_t>(offset - 100) / 2]);
  }
  segment_->seal();
  segment_->save_derived(true);
  segment_->check_invariants([](Offset) { return false; });
}

TEST_F(SegmentTest, AFailedAppendRestoresTheSize) {
  uint64_t size = segment_->known_size();
  Bytes batch = numbered_batch(Offset(140), 2);
  BatchHeader header = BatchHeader::of(RecordBatch::parse(batch).value());
  disk().set_capacity(disk().bytes_used() + 20);
  EXPECT_EQ(segment_->append(batch, {&header, 1}).code(), Errc::kDiskFull);
  EXPECT_EQ(file_size(log_path(100)), size);
  EXPECT_EQ(segment_->end(), Offset(140));
  EXPECT_FALSE(segment_->broken());
  disk().set_capacity(UINT64_MAX);
  EXPECT_TRUE(segment_->append(batch, {&header, 1}).ok());
  EXPECT_EQ(segment_->locate(Offset(141)).value().position, size);
}

TEST_F(SegmentTest, TruncationForgetsTheIndex) {
  ASSERT_TRUE(segment_->truncate(positions_[7], Offset(114)).ok());
  EXPECT_EQ(segment_->end(), Offset(114));
  EXPECT_EQ(segment_->locate(Offset(113)).value().position, positions_[6]);
  positions_.resize(7);
  for (int i = 7; i < 20; ++i) add(Offset(100 + 2 * i), kTestTimestampMs);
  expect_every_offset_is_found();
  segment_->seal();
  segment_->save_derived(true);
  segment_->check_invariants([](Offset) { return false; });
}

TEST_F(SegmentTest, AFlipAnywhereInAHeaderIsBlamedOnItsBatchOrFoundByItsChecksum) {
  for (size_t byte = 0; byte < kBatchHeaderBytes; ++byte) {
    for (std::byte bits : {std::byte{0x01}, std::byte{0x40}}) {
      damage_.clear();
      flip(9, byte, bits);
      open_again(true);
      for (int64_t offset = 100; offset < 140; ++offset) {
        auto at = segment_->locate(Offset(offset));
        if (!at.ok()) {
          EXPECT_EQ(at.status().code(), Errc::kCorruption);
          EXPECT_TRUE(offset == 118 || offset == 119) << offset << ": " << at.status().to_string();
          continue;
        }
        // A header may lie about what only the batch's checksum covers; then the reader finds out.
        bool is_bad_one = at->header.base_offset == Offset(118);
        EXPECT_EQ(at->position, positions_[is_bad_one ? 9 : static_cast<size_t>(offset - 100) / 2]);
        EXPECT_TRUE(!is_bad_one || !batch_is_sound(*segment_->file(), *at).value()) << byte;
      }
      for (const DamagedRange& range : damage_) {
        EXPECT_EQ(range.first, Offset(118)) << byte;
        EXPECT_EQ(range.next_good, Offset(120)) << byte;
        EXPECT_EQ(range.position, positions_[9]);
      }
      flip(9, byte, bits);
    }
  }
}

TEST_F(SegmentTest, AMissingFileIsAnError) {
  open_again(true);
  ASSERT_TRUE(files().remove_file(log_path(100)).ok());
  EXPECT_EQ(segment_->locate(Offset(100)).status().code(), Errc::kNotFound);
  EXPECT_EQ(segment_->size().status().code(), Errc::kNotFound);
}

TEST_F(SegmentTest, ABatchThatCannotBeDecompressedIsFoundByTimeAsAWhole) {
  Bytes batch = testing::make_batch({{std::nullopt, std::string(500, 'x'), {}, kTestTimestampMs + 1000}},
                                    {.codec = Codec::kLz4, .base_offset = Offset(140), .leader_epoch = LeaderEpoch(1)});
  batch.data()[kBatchHeaderBytes + 9] ^= std::byte{0xff};
  testing::fix_crc(batch);
  BatchHeader header = BatchHeader::of(RecordBatch::parse(batch).value());
  ASSERT_TRUE(segment_->append(batch, {&header, 1}).ok());
  auto found = segment_->find_timestamp(kTestTimestampMs + 500, Offset(0), Offset(141)).value();
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->offset, Offset(140));
  EXPECT_EQ(found->timestamp_ms, kTestTimestampMs + 1000);
}

TEST_F(SegmentTest, ATimestampInADamagedBatchIsAnError) {
  flip(19, kBatchHeaderBytes + 5);
  open_again(true);
  EXPECT_EQ(segment_->find_timestamp(kTestTimestampMs + 19, Offset(0), Offset(140)).status().code(), Errc::kCorruption);
  EXPECT_EQ(damage_.size(), 1u);
  EXPECT_FALSE(segment_->find_timestamp(kTestTimestampMs + 20, Offset(0), Offset(140)).value().has_value());
}

// --- searching behind damage

TEST(FindBatch, SkipsLookAlikesAndStopsAtItsBounds) {
  sim::World world(1);
  sim::SimDisk disk(world.scheduler());
  auto env = world.make_env(disk);
  Bytes content = Bytes::copy_of(std::string(1000, '\2'));
  // The header of a batch without the batch.
  content.append(numbered_batch(Offset(50), 2).view().first(kBatchHeaderBytes));
  content.append(as_bytes(std::string(300, '\0')));
  uint64_t position = content.size();
  content.append(numbered_batch(Offset(60), 2));
  disk.put_file("f", content);
  auto file = env->files().open("f", OpenMode::kRead).value();
  auto search = [&](Offset least, Offset before) {
    return find_batch(*file, 0, content.size(), {least, before, nullptr, 1 << 20}).value().found;
  };
  ASSERT_TRUE(search(Offset(1), Offset(100)).has_value());
  EXPECT_EQ(search(Offset(1), Offset(100))->position, position);
  EXPECT_EQ(search(Offset(60), Offset(61))->offset, Offset(60));
  EXPECT_FALSE(search(Offset(61), Offset(100)).has_value());
  EXPECT_FALSE(search(Offset(1), Offset(60)).has_value());
}

TEST(FindBatch, GivesUpOnRecordsCraftedToLookLikeBatches) {
  // Every 61 bytes a header that claims 32 MiB would make a start take minutes.
  sim::World world(1);
  sim::SimDisk disk(world.scheduler());
  auto env = world.make_env(disk);
  Bytes header = numbered_batch(Offset(50), 1);
  header.resize_uninitialized(kBatchHeaderBytes);
  constexpr int32_t kClaimed = 24 << 20;
  store_big_endian<int32_t>(header.data() + 8, kClaimed);
  Bytes content;
  for (size_t i = 0; i < 1000; ++i) content.append(header);
  size_t headers = content.size();
  content.resize_uninitialized(headers + kClaimed + 100);
  std::fill(content.data() + headers, content.data() + content.size(), std::byte{1});
  disk.put_file("f", content);
  auto file = env->files().open("f", OpenMode::kRead).value();
  SearchResult result = find_batch(*file, 0, content.size(), {Offset(1), Offset(100), nullptr, 32 << 20}).value();
  EXPECT_FALSE(result.found.has_value());
  EXPECT_TRUE(result.gave_up);
}

}  // namespace
}  // namespace trilog
