#include "storage/log/log_recovery.h"

#include <gtest/gtest.h>

#include <tuple>

#include "tests/storage/log/log_fixture.h"

namespace trilog {
namespace {

using testing::kLogFolder;
using testing::numbered_batch;

TEST(LogRecovery, DecidesByTheTable) {
  struct Row {
    ScanStop stop;
    bool below_mark;
    Later later;
    Verdict verdict;
  };
  const Row rows[] = {
      {ScanStop::kEnd, false, Later::kNothing, Verdict::kKeep},
      {ScanStop::kEnd, false, Later::kBatch, Verdict::kQuarantine},
      {ScanStop::kEnd, false, Later::kUnknown, Verdict::kFence},
      {ScanStop::kEnd, true, Later::kNothing, Verdict::kLost},
      {ScanStop::kEnd, true, Later::kBatch, Verdict::kQuarantine},
      {ScanStop::kEnd, true, Later::kUnknown, Verdict::kFence},
      {ScanStop::kZeros, false, Later::kNothing, Verdict::kCut},
      {ScanStop::kZeros, false, Later::kBatch, Verdict::kQuarantine},
      {ScanStop::kZeros, false, Later::kUnknown, Verdict::kFence},
      {ScanStop::kZeros, true, Later::kNothing, Verdict::kFence},
      {ScanStop::kZeros, true, Later::kBatch, Verdict::kQuarantine},
      {ScanStop::kZeros, true, Later::kUnknown, Verdict::kFence},
      {ScanStop::kBroken, false, Later::kNothing, Verdict::kCut},
      {ScanStop::kBroken, false, Later::kBatch, Verdict::kQuarantine},
      {ScanStop::kBroken, false, Later::kUnknown, Verdict::kFence},
      {ScanStop::kBroken, true, Later::kNothing, Verdict::kFence},
      {ScanStop::kBroken, true, Later::kBatch, Verdict::kQuarantine},
      {ScanStop::kBroken, true, Later::kUnknown, Verdict::kFence},
  };
  EXPECT_EQ(std::size(rows), 3u * 2u * 3u);
  for (const Row& row : rows) {
    EXPECT_EQ(decide(row.stop, row.below_mark, row.later), row.verdict)
        << static_cast<int>(row.stop) << row.below_mark << static_cast<int>(row.later);
    // With copies elsewhere what lies above the mark ends at the first gap.
    const Verdict copied = row.below_mark ? row.verdict : row.stop == ScanStop::kEnd ? Verdict::kKeep : Verdict::kCut;
    EXPECT_EQ(decide(row.stop, row.below_mark, row.later, true), copied);
  }
}

// Ten batches of two records in one segment, the mark after the fifth; then the file is changed behind the log's back.
class LogRecoveryTest : public testing::LogFixture {
 protected:
  void SetUp() override { write_log(); }

  void write_log() {
    open();
    for (int i = 0; i < 10; ++i) {
      starts_.push_back(content_.size());
      content_.append(numbered_batch(log->log_end(), 2));
      append(2);
      if (i != 4) continue;
      sync();
      mark_ = log->mark(log->durable_end());
    }
    sync();
    starts_.push_back(content_.size());
    crash();
  }
  // The file as it is found on the disk by the next process.
  void put(ByteView bytes) {
    crash(sim::CrashPolicy::keep_all());
    disk().put_file(log_path(0), bytes);
  }
  Bytes flipped(size_t at) {
    Bytes bad = Bytes::copy_of(content_.view());
    bad.data()[at] ^= std::byte{0x10};
    return bad;
  }
  Bytes cut_and_padded(size_t size, size_t padding, char fill) {
    Bytes bytes = Bytes::copy_of(content_.view().first(size));
    bytes.append(as_bytes(std::string(padding, fill)));
    return bytes;
  }
  // Marks with and without the hint of where durable_end lies must lead to the same.
  std::vector<LogMark> marks() const {
    LogMark without = mark_;
    without.segment = Offset(-1);
    without.position = 0;
    return {mark_, without};
  }
  void expect_damage(Offset first, Offset next_good) {
    ASSERT_EQ(log->damaged_ranges().size(), 1u);
    EXPECT_EQ(log->damaged_ranges()[0].first, first);
    EXPECT_EQ(log->damaged_ranges()[0].next_good, next_good);
    EXPECT_EQ(log->read(first, 100, log->log_end()).status().code(), Errc::kCorruption);
    EXPECT_NE(log->damage_at(next_good - 1), nullptr);
    EXPECT_EQ(log->damage_at(next_good), nullptr);
  }

  Bytes content_;
  std::vector<size_t> starts_;
  LogMark mark_;
};

TEST_F(LogRecoveryTest, KeepsAllThatIsSound) {
  for (const LogMark& mark : marks()) {
    open(mark);
    EXPECT_TRUE(log->recovery().scanned);
    EXPECT_EQ(log->log_end(), Offset(20));
    EXPECT_EQ(log->durable_end(), Offset(20));
    EXPECT_EQ(log->recovery().bytes_cut, 0u);
    EXPECT_FALSE(log->recovery().lost_below_mark);
    expect_all_there();
    log->check_invariants();
  }
}

TEST_F(LogRecoveryTest, ReadsOnlyWhatIsAboveTheMark) {
  open(mark_);
  EXPECT_EQ(log->recovery().bytes_scanned, content_.size() - starts_[5]);
}

// Above the mark nothing behind a gap was ever counted for this copy; the others' copies fill it up again.
TEST_F(LogRecoveryTest, WithCopiesElsewhereEndsAtTheFirstGapAboveTheMark) {  // R2, S2
  config.has_copies = true;
  for (size_t batch = 5; batch < 9; ++batch) {
    put(flipped(starts_[batch] + 70));
    open(mark_);
    EXPECT_EQ(log->log_end(), Offset(static_cast<int64_t>(2 * batch)));
    EXPECT_TRUE(log->damaged_ranges().empty());
    EXPECT_FALSE(log->recovery().lost_below_mark);
    EXPECT_GT(log->recovery().bytes_cut, 0u);
    append(2);
    sync();
    expect_all_there();
    log->check_invariants();
  }
}

TEST_F(LogRecoveryTest, CutsATailTornAtAnyByte) {
  for (size_t size = starts_[5]; size < starts_.back(); ++size) {
    size_t whole = 5;
    while (starts_[whole + 1] <= size) ++whole;
    for (const LogMark& mark : marks()) {
      put(content_.view().first(size));
      open(mark);
      ASSERT_EQ(log->log_end(), Offset(static_cast<int64_t>(whole) * 2)) << size;
      ASSERT_EQ(log->recovery().bytes_cut, size - starts_[whole]);
      ASSERT_EQ(file_size(log_path(0)), starts_[whole]);
      ASSERT_TRUE(log->damaged_ranges().empty());
      ASSERT_FALSE(log->recovery().lost_below_mark);
      expect_all_there();
      append(2);
      log->check_invariants();
    }
  }
}

TEST_F(LogRecoveryTest, RecoveringTwiceIsTheSame) {
  put(content_.view().first(starts_[8] + 30));
  open(mark_);
  LogMark after = log->mark(log->durable_end());
  crash();
  open(mark_);
  EXPECT_EQ(log->log_end(), Offset(16));
  EXPECT_EQ(log->recovery().bytes_cut, 0u);
  crash();
  open(after);
  EXPECT_EQ(log->log_end(), Offset(16));
  EXPECT_EQ(log->recovery().bytes_scanned, 0u);
  expect_all_there();
}

TEST_F(LogRecoveryTest, ZerosAtTheEndWereNeverWritten) {
  for (size_t padding : {1u, 60u, 61u, 5000u}) {
    put(cut_and_padded(starts_[7], padding, '\0'));
    open(mark_);
    EXPECT_EQ(log->log_end(), Offset(14));
    EXPECT_EQ(log->recovery().bytes_cut, padding);
    EXPECT_TRUE(log->damaged_ranges().empty());
    expect_all_there();
  }
}

TEST_F(LogRecoveryTest, GarbageAtTheEndIsATornTail) {
  for (size_t padding : {1u, 61u, 5000u}) {
    put(cut_and_padded(starts_[7], padding, '\2'));
    open(mark_);
    EXPECT_EQ(log->log_end(), Offset(14));
    EXPECT_EQ(log->recovery().bytes_cut, padding);
    expect_all_there();
  }
}

TEST_F(LogRecoveryTest, DamageBeforeGoodBatchesIsQuarantinedAndNeverCut) {
  for (size_t batch = 5; batch < 9; ++batch) {
    for (size_t at = starts_[batch]; at < starts_[batch + 1]; ++at) {
      Bytes bad = flipped(at);
      put(bad);
      open(mark_);
      Offset first(static_cast<int64_t>(batch) * 2);
      ASSERT_EQ(log->log_end(), Offset(20)) << at;
      ASSERT_NO_FATAL_FAILURE(expect_damage(first, first + 2)) << at;
      ASSERT_EQ(log->damaged_ranges()[0].file, log_path(0));
      ASSERT_EQ(log->damaged_ranges()[0].position, starts_[batch]);
      ASSERT_TRUE(bytes_equal(files().read_file(log_path(0)).value(), bad));
      ASSERT_NO_FATAL_FAILURE(expect_records(Offset(0), first)) << at;
      ASSERT_NO_FATAL_FAILURE(expect_records(first + 2, Offset(20))) << at;
      log->check_invariants();
    }
  }
}

TEST_F(LogRecoveryTest, AFlipInTheLastBatchIsATornTail) {
  // It cannot be told from one. The mark of the metadata log is exact for this reason (Q11).
  for (size_t at = starts_[9]; at < starts_[10]; ++at) {
    put(flipped(at));
    open(mark_);
    ASSERT_EQ(log->log_end(), Offset(18)) << at;
    ASSERT_TRUE(log->damaged_ranges().empty());
  }
}

TEST_F(LogRecoveryTest, ZerosBeforeGoodBatchesAreDamage) {
  Bytes bad = Bytes::copy_of(content_.view());
  std::fill(bad.data() + starts_[6], bad.data() + starts_[8], std::byte{0});
  put(bad);
  open(mark_);
  EXPECT_EQ(log->log_end(), Offset(20));
  expect_damage(Offset(12), Offset(16));
  expect_records(Offset(16), Offset(20));
}

TEST_F(LogRecoveryTest, AFileThatEndsBeforeItsMarkHasLostRecords) {
  for (const LogMark& mark : marks()) {
    put(content_.view().first(starts_[3]));
    open(mark);
    EXPECT_TRUE(log->recovery().lost_below_mark);
    EXPECT_EQ(log->log_end(), Offset(6));
    EXPECT_TRUE(log->damaged_ranges().empty());
    expect_all_there();
  }
}

TEST_F(LogRecoveryTest, ATailTornBelowTheMarkIsFencedOff) {
  for (const LogMark& mark : marks()) {
    for (size_t size : {starts_[3] + 1, starts_[3] + 70, starts_[4] + 61}) {
      copy_disk_from(disk().image());
      for (const DirectoryEntry& entry : files().list(kLogFolder).value()) {
        if (!entry.name.ends_with(kLogSuffix)) continue;
        ASSERT_TRUE(files().remove_file(path(entry.name)).ok());
      }
      put(content_.view().first(size));
      open(mark);
      Offset first(size > starts_[4] ? 8 : 6);
      EXPECT_EQ(log->log_end(), Offset(10));
      expect_damage(first, Offset(10));
      append(2);
      sync();
      // What was there is still there, and the new batch is in a file of its own.
      EXPECT_EQ(file_size(log_path(0)), size);
      expect_records(Offset(0), first);
      expect_records(Offset(10), Offset(12));
      LogMark later = log->mark(log->durable_end());
      crash(sim::CrashPolicy::lose_all());
      open(later);
      EXPECT_EQ(log->log_end(), Offset(12));
      expect_records(Offset(10), Offset(12));
      EXPECT_EQ(log->read(first, 100, Offset(12)).status().code(), Errc::kCorruption);
    }
  }
}

TEST_F(LogRecoveryTest, DamageBelowTheMarkIsFoundWhenTheMarkHasNoPosition) {
  put(flipped(starts_[2] + 3));
  open(marks()[1]);
  EXPECT_EQ(log->log_end(), Offset(20));
  expect_damage(Offset(4), Offset(6));
}

TEST_F(LogRecoveryTest, DamageBelowTheMarkIsFoundWhenItIsRead) {
  put(flipped(starts_[2] + 3));
  open(mark_);
  EXPECT_TRUE(log->damaged_ranges().empty());
  EXPECT_EQ(log->read(Offset(4), 100, Offset(20)).status().code(), Errc::kCorruption);
  expect_damage(Offset(4), Offset(6));
  expect_records(Offset(6), Offset(20));
}

TEST_F(LogRecoveryTest, WithoutAMarkEverythingIsScanned) {
  open();
  EXPECT_EQ(log->log_end(), Offset(20));
  EXPECT_EQ(log->recovery().bytes_scanned, content_.size());
  expect_all_there();
}

TEST_F(LogRecoveryTest, AMissingFolderIsAnEmptyLogThatSaysWhatItLost) {
  ASSERT_TRUE(files().remove_tree(kLogFolder).ok());
  open(mark_);
  EXPECT_EQ(log->log_end(), Offset(0));
  EXPECT_TRUE(log->recovery().lost_below_mark);
  open();
  EXPECT_FALSE(log->recovery().lost_below_mark);
}

TEST_F(LogRecoveryTest, ALogStartBeyondTheEndMakesAnEmptyLogThere) {
  LogMark mark{Offset(50), Offset(50), Offset(50)};
  open(mark);
  EXPECT_EQ(log->log_start(), Offset(50));
  EXPECT_EQ(log->log_end(), Offset(50));
  EXPECT_FALSE(log->recovery().lost_below_mark);
  EXPECT_FALSE(files().exists(log_path(0)));
  append(2);
  EXPECT_TRUE(files().exists(log_path(50)));
  sync();
  expect_all_there();
  log->check_invariants();
}

TEST_F(LogRecoveryTest, AnErrorOfTheDiskFailsTheOpening) {
  for (sim::DiskCall call : {sim::DiskCall::kRead, sim::DiskCall::kSync, sim::DiskCall::kSyncDirectory}) {
    disk().clear_faults();
    disk().add_fault({.call = call, .path_part = call == sim::DiskCall::kSyncDirectory ? "" : ".log"});
    Status status = try_open(mark_, false);
    EXPECT_EQ(status.code(), Errc::kIo) << status.to_string();
  }
  disk().clear_faults();
}

TEST_F(LogRecoveryTest, BelievesTheDiskAndNotTheCacheAfterAFailedSync) {
  open(mark_);
  append(2);
  disk().add_fault({.call = sim::DiskCall::kSync, .path_part = ".log"});
  log->request_sync();
  world.run_until_idle();
  EXPECT_TRUE(log->failed());
  EXPECT_FALSE(env().fatal_status().ok());
  crash();
  disk().clear_faults();
  // The cache still shows the batch whose sync failed, but it is not on the disk (S3).
  EXPECT_EQ(file_size(log_path(0)), content_.size() + numbered_batch(Offset(20), 2).size());
  open(mark_);
  EXPECT_EQ(log->log_end(), Offset(20));
  expect_all_there();
}

// Simulator, seed 16: the cut was in the cache only. The next batch went where the log had seemed to end, in front of
// which the disk still had what was to be cut.
TEST_F(LogRecoveryTest, ACutWhoseSyncFailedIsUndoneWithTheCache) {
  open(mark_);
  disk().add_fault({.call = sim::DiskCall::kSync, .path_part = ".log"});
  EXPECT_FALSE(log->truncate_to(Offset(10)).ok());
  crash();
  disk().clear_faults();
  EXPECT_LT(file_size(log_path(0)), content_.size());
  open(LogMark{.durable_end = Offset(10), .segment = Offset(-1)});
  EXPECT_EQ(log->log_end(), Offset(20));
  append(2);
  sync();
  expect_all_there();
  log->check_invariants();
}

// A crash may keep the epochs and not the batches before them; then the log grows to that offset again.
TEST_F(LogRecoveryTest, AnEpochAboveTheEndDoesNotComeBackWhenTheLogHasGrown) {
  LeaderEpochCache epochs;
  epochs.assign(LeaderEpoch(1), Offset(0));
  epochs.assign(LeaderEpoch(2), Offset(22));
  disk().put_file(path(kEpochsFile), epochs.encode());
  open(mark_);
  ASSERT_EQ(log->log_end(), Offset(20));
  append(2);
  append(2);
  sync();
  crash(sim::CrashPolicy::lose_all());
  open(mark_);
  EXPECT_EQ(log->log_end(), Offset(24));
  EXPECT_EQ(log->epochs().entries().size(), 1u);
  expect_all_there();
}

TEST_F(LogRecoveryTest, EpochsThatAnEarlierLogLeftDoNotJudgeANewOne) {
  ASSERT_TRUE(files().remove_file(log_path(0)).ok());
  ASSERT_TRUE(files().sync_directory_now(kLogFolder).ok());
  LeaderEpochCache epochs;
  epochs.assign(LeaderEpoch(1), Offset(0));
  epochs.assign(LeaderEpoch(2), Offset(2));
  disk().put_file(path(epochs_temporary(1)), epochs.encode());
  open();
  append(2);
  append(2);
  sync();
  crash(sim::CrashPolicy::lose_all());
  open();
  EXPECT_EQ(log->log_end(), Offset(4));
  expect_all_there();
}

// Several segments above the mark.
class LogRecoverySegmentsTest : public testing::LogFixture {
 protected:
  void SetUp() override {
    config.segment_bytes = 300;
    open();
    for (int i = 0; i < 4; ++i) append(2);
    sync();
    mark_ = log->mark(log->durable_end());
    for (int i = 0; i < 12; ++i) append(2);
    sync();
    world.run_until_idle();
    bases_ = list_log(files(), std::string(kLogFolder)).value().segments;
    ASSERT_GT(bases_.size(), 5u);
    crash();
  }
  std::string last(size_t from_end) { return log_path(bases_[bases_.size() - 1 - from_end].value()); }

  LogMark mark_;
  std::vector<Offset> bases_;
};

TEST_F(LogRecoverySegmentsTest, KeepsAllSegments) {
  open(mark_);
  EXPECT_EQ(log->log_end(), Offset(32));
  EXPECT_TRUE(log->damaged_ranges().empty());
  expect_all_there();
  append(2);
  log->check_invariants();
}

TEST_F(LogRecoverySegmentsTest, AMissingFileInTheMiddleIsDamage) {
  ASSERT_TRUE(files().remove_file(last(1)).ok());
  open(mark_);
  EXPECT_EQ(log->log_end(), Offset(32));
  ASSERT_EQ(log->damaged_ranges().size(), 1u);
  EXPECT_EQ(log->damaged_ranges()[0].first, bases_[bases_.size() - 2]);
  EXPECT_EQ(log->damaged_ranges()[0].next_good, bases_.back());
  expect_records(bases_.back(), Offset(32));
}

TEST_F(LogRecoverySegmentsTest, AMissingLastFileIsACrashBeforeItsNameWasDurable) {
  ASSERT_TRUE(files().remove_file(last(0)).ok());
  open(mark_);
  EXPECT_EQ(log->log_end(), bases_.back());
  EXPECT_TRUE(log->damaged_ranges().empty());
  expect_all_there();
}

TEST_F(LogRecoverySegmentsTest, ATailTornBeforeEmptyFilesIsCutAndTheyGo) {
  ByteView nothing;
  disk().put_file(last(0), nothing);
  Bytes before = files().read_file(last(1)).value();
  disk().put_file(last(1), before.view().first(before.size() - 5));
  open(mark_);
  EXPECT_LT(log->log_end(), bases_.back());
  EXPECT_TRUE(log->damaged_ranges().empty());
  EXPECT_FALSE(files().exists(last(0)));
  expect_all_there();
  append(2);
  sync();
  log->check_invariants();
}

TEST_F(LogRecoverySegmentsTest, ATailTornBeforeAGoodFileIsDamage) {
  Bytes before = files().read_file(last(1)).value();
  disk().put_file(last(1), before.view().first(before.size() - 5));
  open(mark_);
  EXPECT_EQ(log->log_end(), Offset(32));
  ASSERT_EQ(log->damaged_ranges().size(), 1u);
  EXPECT_EQ(log->damaged_ranges()[0].next_good, bases_.back());
  EXPECT_TRUE(bytes_equal(files().read_file(last(1)).value(), before.view().first(before.size() - 5)));
}

TEST_F(LogRecoverySegmentsTest, AnEmptyFileThatBeginsInsideAnotherIsRemoved) {
  ByteView nothing;
  disk().put_file(log_path(bases_.back().value() + 1), nothing);
  open(mark_);
  EXPECT_EQ(log->log_end(), Offset(32));
  EXPECT_TRUE(log->damaged_ranges().empty());
  EXPECT_FALSE(files().exists(log_path(bases_.back().value() + 1)));
  expect_all_there();
}

TEST_F(LogRecoverySegmentsTest, AFileThatBeginsInsideAnotherIsSetAside) {
  std::string stray = log_path(bases_.back().value() + 1);
  disk().put_file(stray, numbered_batch(bases_.back() + 1, 2));
  open(mark_);
  EXPECT_EQ(log->log_end(), Offset(32));
  EXPECT_FALSE(files().exists(stray));
  EXPECT_TRUE(files().exists(stray + ".stray"));
  expect_all_there();
}

// By seed 82014 of the simulator: a power cut takes any file that was not synced, also the first.
TEST_F(LogRecoverySegmentsTest, AFirstFileThatIsGoneWasRemovedByRetentionOnlyIfItHadBeenOnTheDisk) {
  const auto in_doubt = [&](std::optional<LogMark> mark) {
    open(mark);
    const bool doubt = log->recovery().front_in_doubt;
    close();
    return doubt;
  };
  EXPECT_FALSE(in_doubt(std::nullopt));
  ASSERT_TRUE(files().remove_file(log_path(bases_[0].value())).ok());
  EXPECT_TRUE(in_doubt(std::nullopt));
  EXPECT_TRUE(in_doubt(LogMark{}));
  EXPECT_FALSE(in_doubt(LogMark{.durable_end = bases_[1], .high_watermark = bases_[1]}));
  EXPECT_FALSE(in_doubt(LogMark{.durable_end = bases_[1], .high_watermark = bases_[1], .log_start = bases_[1]}));
}

TEST_F(LogRecoverySegmentsTest, SealedSegmentsBelowTheMarkAreNotOpened) {
  std::string first = log_path(0);
  ASSERT_NE(mark_.segment, Offset(0));
  disk().add_fault({.call = sim::DiskCall::kOpen, .path_part = first, .count = 100});
  open(mark_);
  EXPECT_EQ(log->log_end(), Offset(32));
}

TEST_F(LogRecoverySegmentsTest, AMarkThatNamesAFileAboveItsEndDoesNotPutTheEndBelowTheStart) {
  for (size_t i = 0; i + 1 < bases_.size(); ++i) {
    ASSERT_TRUE(files().remove_file(log_path(bases_[i].value())).ok());
  }
  for (uint64_t position : {file_size(last(0)), uint64_t{0}}) {
    LogMark mark{Offset(4), Offset(4), Offset(0), bases_.back(), position};
    for (bool clean : {true, false}) {
      open(mark, clean);
      EXPECT_TRUE(log->recovery().scanned);
      EXPECT_EQ(log->log_start(), bases_.back());
      EXPECT_EQ(log->log_end(), Offset(32));
      expect_all_there();
      log->check_invariants();
      crash();
    }
  }
}

TEST_F(LogRecoverySegmentsTest, WithoutAMarkManyFilesAreReadOneAfterAnother) {
  open();
  EXPECT_EQ(log->log_end(), Offset(32));
  expect_all_there();
  log->check_invariants();
}

}  // namespace
}  // namespace trilog
