// Files that no crash leaves behind: somebody wrote into them, or several things went bad at once. A log stays usable,
// serves only what is sound, and says of everything else where it ends.
#include <gtest/gtest.h>

#include <functional>

#include "tests/storage/log/log_fixture.h"

namespace trilog {
namespace {

using testing::numbered_batch;

// Four segments of three batches, each batch of two records; a clean stop or a crash, and then the files are changed.
class LogDamageTest : public testing::LogFixture {
 protected:
  void SetUp() override {
    config.segment_bytes = 3 * batch_bytes();
    config.index_interval_bytes = 1;
    open();
    for (int i = 0; i < 12; ++i) append(2);
    sync();
    world.run_until_idle();
    ASSERT_EQ(list_log(files(), std::string(testing::kLogFolder))->segments,
              (std::vector<Offset>{Offset(0), Offset(6), Offset(12), Offset(18)}));
  }
  size_t batch_bytes() const { return numbered_batch(Offset(0), 2).size(); }
  uint64_t bit(size_t batch, size_t byte) const { return 8 * (batch * batch_bytes() + byte); }

  void expect_served_or_damaged() {
    std::map<int64_t, std::string> served;
    for (Offset at = log->log_start(); at < log->log_end(); ++at) {
      auto slice = log->read(at, 1, log->log_end());
      if (!slice.ok()) {
        EXPECT_EQ(slice.status().code(), Errc::kCorruption) << slice.status().to_string();
        const DamagedRange* range = log->damage_at(at);
        ASSERT_NE(range, nullptr) << at << ": " << slice.status().to_string();
        EXPECT_GT(range->next_good, at);
        EXPECT_NE(slice.status().message().find(".log at byte "), std::string::npos) << slice.status().message();
        continue;
      }
      auto run = read_slice(*slice);
      if (!run.ok()) {
        EXPECT_EQ(run.status().code(), Errc::kCorruption);
        EXPECT_NE(run.status().message().find(".log at byte "), std::string::npos) << run.status().message();
        continue;
      }
      ASSERT_EQ(run->batches.size(), 1u);
      int64_t offset = run->batches[0].base_offset().value();
      for (const testing::TestRecord& record : testing::records_of(run->bytes)) {
        EXPECT_TRUE(record.value->starts_with("v" + std::to_string(offset) + ".")) << offset << ": " << *record.value;
        ++offset;
      }
    }
  }
};

TEST_F(LogDamageTest, NoFlippedBitIsServedOrStopsTheLog) {
  LogMark mark = close();
  const sim::DiskImage image = disk().image();
  const uint64_t bytes = file_size(log_path(6));
  for (uint64_t byte = 0; byte < bytes; ++byte) {
    for (bool clean : {true, false}) {
      SCOPED_TRACE("byte " + std::to_string(byte) + (clean ? " after a clean stop" : " after a crash without marks"));
      copy_disk_from(image);
      disk().flip_bit(log_path(6), 8 * byte + byte % 8);
      open(clean ? std::optional(mark) : std::nullopt, clean);
      EXPECT_EQ(log->log_end(), Offset(24));
      expect_served_or_damaged();
      append(2);
      sync();
      expect_records(Offset(24), Offset(26));
      if (HasFailure()) return;
    }
  }
}

TEST_F(LogDamageTest, NoFlippedBitOfADerivedFileLeadsAstray) {  // S6
  LogMark mark = close();
  const sim::DiskImage image = disk().image();
  for (const DirectoryEntry& entry : files().list(testing::kLogFolder).value()) {
    if (entry.name.ends_with(kLogSuffix)) continue;
    const uint64_t bytes = image.content(image.find(path(entry.name))).size();
    for (uint64_t byte = 0; byte < bytes; ++byte) {
      SCOPED_TRACE(entry.name + ", byte " + std::to_string(byte));
      copy_disk_from(image);
      disk().flip_bit(path(entry.name), 8 * byte + byte % 8);
      open(mark, byte % 2 == 0);
      EXPECT_EQ(log->log_end(), Offset(24));
      EXPECT_TRUE(log->damaged_ranges().empty());
      expect_all_there();
      log->check_invariants();
      if (HasFailure()) return;
    }
  }
}

TEST_F(LogDamageTest, DerivedFilesMayBeMissingEmptyCutOrGarbage) {  // S6
  LogMark mark = close();
  const sim::DiskImage image = disk().image();
  for (const DirectoryEntry& entry : files().list(testing::kLogFolder).value()) {
    if (entry.name.ends_with(kLogSuffix)) continue;
    ByteView good = image.content(image.find(path(entry.name)));
    Bytes longer = Bytes::copy_of(good);
    longer.append(as_bytes("x"));
    const std::vector<std::pair<const char*, std::optional<Bytes>>> cases = [&] {
      std::vector<std::pair<const char*, std::optional<Bytes>>> all;
      all.emplace_back("missing", std::nullopt);
      all.emplace_back("empty", Bytes());
      all.emplace_back("cut", Bytes::copy_of(good.first(good.size() / 2)));
      all.emplace_back("longer", std::move(longer));
      all.emplace_back("garbage", Bytes::copy_of(std::string(5000, 'g')));
      return all;
    }();
    for (const auto& [what, content] : cases) {
      for (bool clean : {true, false}) {
        SCOPED_TRACE(entry.name + " is " + what);
        copy_disk_from(image);
        if (content) {
          disk().put_file(path(entry.name), *content);
        } else {
          ASSERT_TRUE(files().remove_file(path(entry.name)).ok());
        }
        open(clean ? std::optional(mark) : std::nullopt, clean);
        EXPECT_TRUE(log->damaged_ranges().empty());
        EXPECT_EQ(log->log_end(), Offset(24));
        expect_all_there();
        append(2);
        log->check_invariants();
      }
    }
  }
}

TEST_F(LogDamageTest, WhatAnEmptyFileLaysClaimToIsReadFromTheFileBeforeIt) {
  crash();
  disk().put_file(log_path(10), ByteView());
  open();
  EXPECT_FALSE(files().exists(log_path(10)));
  expect_served_or_damaged();
  EXPECT_TRUE(log->damaged_ranges().empty());
}

TEST_F(LogDamageTest, DamageThatGoesOnBehindDamageIsKnownToTheReader) {
  crash();
  ASSERT_TRUE(files().remove_file(path(kEpochsFile)).ok());
  disk().flip_bit(log_path(6), bit(2, 70));
  disk().flip_bit(log_path(12), bit(0, 70));
  disk().flip_bit(log_path(12), bit(1, 14));  // an epoch, which no batch but this one has
  open();
  expect_served_or_damaged();
  expect_records(Offset(18), Offset(24));
}

TEST_F(LogDamageTest, AFirstBatchThatWasMovedInItsFileIsDamageFromTheStart) {
  crash();
  Bytes moved = Bytes::copy_of(std::string(40, 'm'));
  moved.append(files().read_file(log_path(6))->view());
  disk().put_file(log_path(6), moved);
  Bytes before = files().read_file(log_path(0)).value();
  before.append(as_bytes("and more"));
  disk().put_file(log_path(0), before);
  open();
  EXPECT_NE(log->damage_at(Offset(6)), nullptr);
  expect_served_or_damaged();
  expect_records(Offset(8), Offset(24));
}

TEST_F(LogDamageTest, AFirstBatchWhoseOffsetIsNotTheFilesIsNotServedBehindDamage) {  // S1
  crash();
  disk().flip_bit(log_path(0), bit(2, 70));
  disk().flip_bit(log_path(6), bit(0, 7));  // 6 becomes 7, which the checksum does not cover
  open();
  EXPECT_NE(log->damage_at(Offset(7)), nullptr);
  expect_served_or_damaged();
  expect_records(Offset(8), Offset(24));
  reopen_cleanly();
  expect_served_or_damaged();
  expect_records(Offset(8), Offset(24));
}

TEST_F(LogDamageTest, ASoundBatchWithMoreOffsetsThanItsFileHasIsNoProducersLast) {
  crash();
  Bytes content = files().read_file(log_path(18)).value();
  Bytes last = numbered_batch(Offset(22), 2, 10, LeaderEpoch(1), testing::kTestTimestampMs,
                              {ProducerId(4), ProducerEpoch(0), 0});
  testing::patch<int32_t>(last, 23, 1'000'000);  // last offset delta
  std::memcpy(content.data() + 2 * batch_bytes(), last.data(), last.size());
  disk().put_file(log_path(18), content);
  for (const DirectoryEntry& entry : files().list(testing::kLogFolder).value()) {
    if (!entry.name.ends_with(kSnapshotSuffix)) continue;
    ASSERT_TRUE(files().remove_file(path(entry.name)).ok());
  }
  LogMark mark{.durable_end = Offset(24), .high_watermark = Offset(24), .log_start = Offset(0), .segment = Offset(18)};
  mark.position = content.size();
  open(mark);
  EXPECT_EQ(log->log_end(), Offset(24));
  close();  // writes what is known of producers
  EXPECT_EQ(log, nullptr);
}

// A flipped bit in the epoch of the last batch, and the epochs lost with it: who leads now cannot go on, but is told.
TEST_F(LogDamageTest, AnEpochAboveTheLeadersRefusesAppends) {
  crash();
  ASSERT_TRUE(files().remove_file(path(kEpochsFile)).ok());
  disk().flip_bit(log_path(18), bit(2, 14));
  open();
  log->begin_epoch(LeaderEpoch(2));
  Status refused = try_append().status();
  EXPECT_EQ(refused.code(), Errc::kCorruption);
  EXPECT_NE(refused.message().find("leader epoch 257"), std::string::npos) << refused.message();
  expect_served_or_damaged();
}

TEST_F(LogDamageTest, ARecordWithoutATimestampDoesNotMakeItsSegmentOld) {
  for (int64_t timestamp : {int64_t{-1}, INT64_MIN}) {
    timestamp_ms = timestamp;
    append(100);  // rolls
    size_t before = list_log(files(), std::string(testing::kLogFolder))->segments.size();
    config.segment_bytes = 1 << 20;
    reopen_cleanly();
    append();
    EXPECT_EQ(list_log(files(), std::string(testing::kLogFolder))->segments.size(), before);
    config.segment_bytes = 100;
    log->set_config(config);
  }
}

}  // namespace
}  // namespace trilog
