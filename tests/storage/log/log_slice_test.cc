#include "storage/log/log_slice.h"

#include <gtest/gtest.h>

#include "tests/storage/log/log_fixture.h"

namespace trilog {
namespace {

using testing::numbered_batch;

// Five batches of two records, in a file.
class LogSliceTest : public testing::LogFixture {
 protected:
  void SetUp() override {
    for (int64_t base = 0; base < 10; base += 2) {
      starts_.push_back(content_.size());
      content_.append(numbered_batch(Offset(base), 2));
    }
  }
  LogSlice slice_of(ByteView bytes) {
    disk().put_file("slice", bytes);
    LogSlice slice;
    slice.slice = {files().open("slice", OpenMode::kRead).value(), 0, static_cast<uint32_t>(bytes.size())};
    slice.first = Offset(0);
    slice.limit = Offset(10);
    slice.epoch_min = slice.epoch_max = LeaderEpoch(1);
    slice.file = "slice";
    return slice;
  }
  LogSlice whole() { return slice_of(content_); }

  Bytes content_;
  std::vector<size_t> starts_;
};

TEST_F(LogSliceTest, GivesTheBatchesAndOneBufferForThem) {
  BatchRun run = read_slice(whole()).value();
  EXPECT_EQ(run.batches.size(), 5u);
  EXPECT_EQ(run.next_offset, Offset(10));
  EXPECT_TRUE(bytes_equal(run.bytes, content_));
  EXPECT_EQ(run.batches[3].bytes().data(), run.bytes.view().data() + starts_[3]);
}

TEST_F(LogSliceTest, AnEmptySliceGivesNothing) {
  LogSlice slice;
  slice.first = Offset(17);
  BatchRun run = read_slice(slice).value();
  EXPECT_TRUE(run.batches.empty());
  EXPECT_EQ(run.next_offset, Offset(17));
}

TEST_F(LogSliceTest, DropsABatchThatIsCutOff) {
  for (size_t size = starts_[2]; size < starts_[3]; ++size) {
    LogSlice slice = whole();
    slice.slice.length = static_cast<uint32_t>(size);
    BatchRun run = read_slice(slice).value();
    EXPECT_EQ(run.next_offset, Offset(4)) << size;
    EXPECT_EQ(run.bytes.size(), starts_[2]);
  }
}

TEST_F(LogSliceTest, ShowsNothingAtOrPastTheLimit) {
  for (int64_t limit = 0; limit <= 10; ++limit) {
    LogSlice slice = whole();
    slice.limit = Offset(limit);
    // Of a batch that the limit cuts in two, some records are not committed: it is not shown.
    EXPECT_EQ(read_slice(slice).value().next_offset, Offset(limit / 2 * 2)) << limit;
  }
}

TEST_F(LogSliceTest, EveryFlippedBitIsFoundAndTheBatchesBeforeItAreServed) {
  for (size_t bit = 0; bit < content_.size() * 8; ++bit) {
    size_t byte = bit / 8;
    size_t batch = 4;
    while (starts_[batch] > byte) --batch;
    Bytes bad = Bytes::copy_of(content_.view());
    bad.data()[byte] ^= static_cast<std::byte>(1 << bit % 8);
    auto run = read_slice(slice_of(bad));
    if (batch == 0) {
      ASSERT_EQ(run.status().code(), Errc::kCorruption) << bit;
      EXPECT_NE(run.status().message().find("slice at byte 0"), std::string_view::npos);
    } else {
      ASSERT_TRUE(run.ok()) << bit;
      ASSERT_EQ(run->next_offset, Offset(static_cast<int64_t>(batch) * 2)) << bit;
      ASSERT_TRUE(bytes_equal(run->bytes, content_.view().first(starts_[batch])));
    }
  }
}

TEST_F(LogSliceTest, AFileThatIsShorterThanItWasIsDamage) {
  LogSlice slice = slice_of(content_.view().first(10));
  slice.slice.length = static_cast<uint32_t>(content_.size());
  EXPECT_EQ(read_slice(slice).status().code(), Errc::kCorruption);
  slice = slice_of(ByteView());
  slice.slice.length = 100;
  EXPECT_EQ(read_slice(slice).status().code(), Errc::kCorruption);
}

TEST_F(LogSliceTest, AnErrorOfTheDiskIsPassedOn) {
  LogSlice slice = whole();
  disk().add_fault({.call = sim::DiskCall::kRead, .path_part = "slice"});
  EXPECT_EQ(read_slice(slice).status().code(), Errc::kIo);
}

}  // namespace
}  // namespace trilog
