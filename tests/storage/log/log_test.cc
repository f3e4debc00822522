#include "storage/log/log.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/storage/log/log_fixture.h"

namespace trilog {
namespace {

using testing::kLogFolder;
using testing::kTestTimestampMs;
using testing::numbered_batch;

class LogTest : public testing::LogFixture {
 protected:
  std::vector<Offset> bases() { return list_log(files(), std::string(kLogFolder)).value().segments; }
  bool has(int64_t base, std::string_view suffix) { return files().exists(path(numbered_file(Offset(base), suffix))); }
  // `count` segments of three batches with two records each, and one batch in the active one.
  void fill_segments(int count) {
    config.segment_bytes = 3 * numbered_batch(Offset(0), 2).size() + 20;
    if (log == nullptr) open();
    log->set_config(config);
    for (int i = 0; i < 3 * count + 1; ++i) append(2);
    sync();
  }
};

TEST_F(LogTest, MakesNothingBeforeTheFirstAppend) {
  open();
  EXPECT_FALSE(files().exists("data/topics"));
  EXPECT_EQ(log->log_end(), Offset(0));
  log->request_sync();
  world.run_until_idle();
  EXPECT_EQ(durable_calls, 0);
  append();
  EXPECT_TRUE(files().exists(log_path(0)));
  EXPECT_TRUE(files().exists(path("partition.meta")));
}

TEST_F(LogTest, ReadsWhatWasAppended) {
  open();
  for (int i = 0; i < 100; ++i) append(1 + i % 3);
  EXPECT_EQ(log->log_end(), Offset(199));
  expect_all_there();
  EXPECT_EQ(values(Offset(0), 1).size(), 199u);
  log->check_invariants();
}

TEST_F(LogTest, AppendsSeveralBatchesAtOnce) {
  open();
  Bytes bytes = numbered_batch(Offset(0), 2);
  bytes.append(numbered_batch(Offset(2), 3));
  AppendInfo info = log->append(bytes).value();
  EXPECT_EQ(info.first_offset, Offset(0));
  EXPECT_EQ(info.next_offset, Offset(5));
  expect_all_there();
}

TEST_F(LogTest, ReadStartsWithTheBatchThatContainsTheOffset) {
  open();
  append(5);
  append(5);
  LogSlice slice = log->read(Offset(7), 1, Offset(10)).value();
  EXPECT_EQ(slice.first, Offset(5));
  EXPECT_EQ(read_slice(slice).value().next_offset, Offset(10));
}

TEST_F(LogTest, ReadGivesAtLeastOneBatchAndOtherwiseAtMostWhatIsAsked) {
  open();
  for (int i = 0; i < 10; ++i) append(1, 1000);
  LogSlice slice = log->read(Offset(0), 10, Offset(10)).value();
  EXPECT_EQ(read_slice(slice).value().next_offset, Offset(1));
  slice = log->read(Offset(0), 3500, Offset(10)).value();
  EXPECT_EQ(slice.slice.length, 3500u);
  EXPECT_EQ(read_slice(slice).value().next_offset, Offset(3));
}

TEST_F(LogTest, ReadStopsAtTheLimit) {
  open();
  for (int i = 0; i < 10; ++i) append(2);
  for (int64_t limit = 0; limit <= 20; ++limit) {
    values(Offset(0), 1 << 20, Offset(limit));
    EXPECT_EQ(next_unread, Offset(limit / 2 * 2));
  }
  EXPECT_TRUE(log->read(Offset(4), 100, Offset(4)).value().empty());
  EXPECT_TRUE(log->read(Offset(20), 100, Offset(20)).value().empty());
}

TEST_F(LogTest, ReadOutsideTheLogIsRefused) {
  open();
  append(10);
  log->advance_start(Offset(4));
  EXPECT_EQ(log->read(Offset(3), 100, Offset(10)).status().code(), Errc::kOutOfRange);
  EXPECT_EQ(log->read(Offset(11), 100, Offset(10)).status().code(), Errc::kOutOfRange);
  EXPECT_TRUE(log->read(Offset(4), 100, Offset(10)).ok());
}

TEST_F(LogTest, RefusesABatchAboveTheLimit) {
  config.batch_bytes_max = 500;
  open();
  EXPECT_EQ(try_append(1, 1000).status().code(), Errc::kTooLarge);
  EXPECT_EQ(log->log_end(), Offset(0));
  append(1, 100);
  expect_all_there();
}

// --- rolling

TEST_F(LogTest, RollsBeforeASegmentGrowsPastItsSize) {
  fill_segments(4);
  EXPECT_EQ(bases(), (std::vector<Offset>{Offset(0), Offset(6), Offset(12), Offset(18), Offset(24)}));
  for (Offset base : bases()) EXPECT_LE(file_size(log_path(base.value())), config.segment_bytes);
  expect_all_there();
  log->check_invariants();
}

TEST_F(LogTest, AnAppendLargerThanASegmentGetsItsOwn) {
  config.segment_bytes = 300;
  open();
  append(2);
  append(2, 1000);
  append(2);
  EXPECT_EQ(bases(), (std::vector<Offset>{Offset(0), Offset(2), Offset(4)}));
  expect_all_there();
}

TEST_F(LogTest, RollsWhenTheOldestAppendIsOldEnough) {
  config.segment_ms = 1000;
  open();
  append();
  world.run_for(999'000'000);
  append();
  EXPECT_EQ(bases().size(), 1u);
  world.run_for(1'000'000);
  append();
  EXPECT_EQ(bases(), (std::vector<Offset>{Offset(0), Offset(2)}));
  world.run_for(500'000'000);
  append();
  EXPECT_EQ(bases().size(), 2u);
}

TEST_F(LogTest, TheAgeOfASegmentSurvivesARestart) {
  config.segment_ms = 1000;
  open();
  timestamp_ms = env().clock().wall_ms();
  append();
  reopen_cleanly();
  world.run_for(1'500'000'000);
  append();
  EXPECT_EQ(bases().size(), 2u);
}

TEST_F(LogTest, SavesIndexesAndChecksumOfASealedSegment) {
  fill_segments(2);
  world.run_until_idle();
  for (int64_t base : {0, 6}) {
    EXPECT_TRUE(has(base, ".index") && has(base, ".timeindex") && has(base, ".checksum")) << base;
  }
  EXPECT_FALSE(has(12, ".index") || has(12, ".timeindex") || has(12, ".checksum"));
}

TEST_F(LogTest, AFailedRollLeavesTheOldSegmentActive) {
  config.segment_bytes = 300;
  open();
  append(2);
  append(2);
  disk().add_fault({.call = sim::DiskCall::kOpen, .path_part = "04.log", .code = Errc::kDiskFull});
  EXPECT_EQ(try_append(2, 100).status().code(), Errc::kDiskFull);
  EXPECT_EQ(log->log_end(), Offset(4));
  log->check_invariants();
  append(2, 100);
  EXPECT_EQ(bases(), (std::vector<Offset>{Offset(0), Offset(4)}));
  expect_all_there();
}

// --- durability

TEST_F(LogTest, DurableEndMovesWithTheSync) {
  open();
  append(3);
  EXPECT_EQ(log->durable_end(), Offset(0));
  EXPECT_GT(log->unsynced_bytes(), 0u);
  log->request_sync();
  append(2);
  world.run_until_idle();
  EXPECT_EQ(log->durable_end(), Offset(3));
  EXPECT_EQ(durable_calls, 1);
  sync();
  EXPECT_EQ(log->durable_end(), Offset(5));
  EXPECT_EQ(durable_calls, 2);
  EXPECT_EQ(log->unsynced_bytes(), 0u);
}

TEST_F(LogTest, RequestsMadeDuringASyncShareTheNextOne) {
  open();
  append();
  sync();
  uint64_t before = disk().calls(sim::DiskCall::kSync);
  for (int i = 0; i < 10; ++i) {
    append();
    log->request_sync();
  }
  world.run_until_idle();
  EXPECT_EQ(log->durable_end(), Offset(11));
  EXPECT_EQ(disk().calls(sim::DiskCall::kSync) - before, 2u);
}

TEST_F(LogTest, OnlyTheFirstSyncOfALogTouchesFolders) {
  open();
  append();
  sync();
  EXPECT_GE(disk().calls(sim::DiskCall::kSyncDirectory), 3u);
  uint64_t before = disk().calls(sim::DiskCall::kSyncDirectory);
  append();
  sync();
  EXPECT_EQ(disk().calls(sim::DiskCall::kSyncDirectory), before);
}

TEST_F(LogTest, WhatWasSyncedSurvivesAPowerCutRightAfterEachAppend) {
  // From the first append with its new folders (S4) over several rolls and an epoch change.
  for (int appends = 1; appends <= 12; ++appends) {
    copy_disk_from(sim::DiskImage());
    config.segment_bytes = 400;
    epoch = LeaderEpoch(1);
    open();
    for (int i = 0; i < appends; ++i) {
      if (i == 8) epoch = LeaderEpoch(2);
      append(2);
    }
    sync();
    crash(sim::CrashPolicy::lose_all());
    open();
    ASSERT_EQ(log->log_end(), Offset(2 * appends));
    expect_all_there();
    EXPECT_TRUE(log->damaged_ranges().empty());
    EXPECT_EQ(log->epochs().end_of(LeaderEpoch(1), log->log_end()).end, Offset(2 * std::min(appends, 8)));
    log->check_invariants();
  }
}

TEST_F(LogTest, ASyncAfterARollCoversTheTailOfTheOldSegment) {
  config.segment_bytes = 300;
  open();
  append(2);
  sync();
  disk().hold_syncs(true);
  append(2);
  log->request_sync();
  for (int i = 0; i < 5; ++i) append(2);
  disk().hold_syncs(false);
  world.run_until_idle();
  EXPECT_EQ(log->durable_end(), Offset(4));
  LogMark mark = log->mark(log->durable_end());
  log->request_sync();
  world.run_until_idle();
  EXPECT_EQ(log->durable_end(), Offset(14));
  crash(sim::CrashPolicy::lose_all());
  open(mark);
  EXPECT_EQ(log->log_end(), Offset(14));
  expect_all_there();
}

TEST_F(LogTest, AFailedSyncIsFinal) {
  open();
  append();
  sync();
  append();
  disk().add_fault({.call = sim::DiskCall::kSync, .path_part = ".log"});
  log->request_sync();
  world.run_until_idle();
  EXPECT_TRUE(log->failed());
  EXPECT_EQ(env().fatal_status().code(), Errc::kIo);
  EXPECT_EQ(log->durable_end(), Offset(1));
  EXPECT_EQ(durable_calls, 2);
  EXPECT_EQ(try_append().status().code(), Errc::kFailed);
  log->request_sync();
  world.run_until_idle();
  EXPECT_EQ(log->durable_end(), Offset(1));
  // What is durable can still be read.
  expect_records(Offset(0), Offset(1));
}

TEST_F(LogTest, AFailedSyncOfAFolderIsFinal) {
  open();
  append();
  disk().add_fault({.call = sim::DiskCall::kSyncDirectory});
  log->request_sync();
  world.run_until_idle();
  EXPECT_TRUE(log->failed());
  EXPECT_FALSE(env().fatal_status().ok());
  EXPECT_EQ(log->durable_end(), Offset(0));
}

TEST_F(LogTest, ALogMayGoWhileItsSyncIsUnderWay) {
  open();
  append();
  log->request_sync();
  log.reset();
  world.run_until_idle();
  EXPECT_EQ(durable_calls, 0);
}

TEST_F(LogTest, TheListenerMayDestroyTheLog) {
  open();
  append();
  log->set_durable_listener([this] { log.reset(); });
  log->request_sync();
  world.run_until_idle();
  EXPECT_EQ(log, nullptr);
}

// --- closing

TEST_F(LogTest, OpensAgainAfterACleanStop) {
  fill_segments(5);
  reopen_cleanly();
  EXPECT_FALSE(log->recovery().scanned);
  EXPECT_EQ(log->log_end(), Offset(32));
  EXPECT_EQ(log->durable_end(), Offset(32));
  expect_all_there();
  append(2);
  sync();
  log->check_invariants();
}

TEST_F(LogTest, AClosedLogSurvivesAPowerCut) {
  fill_segments(3);
  append(2);
  LogMark mark = close();
  EXPECT_EQ(mark.durable_end, Offset(22));
  crash(sim::CrashPolicy::lose_all());
  open(mark, true);
  EXPECT_FALSE(log->recovery().scanned);
  EXPECT_EQ(log->log_end(), Offset(22));
  expect_all_there();
}

TEST_F(LogTest, ClosingWaitsForTheSyncUnderWay) {
  open();
  append();
  disk().hold_syncs(true);
  log->request_sync();
  append();
  bool closed = false;
  log->close([&](Status status) { closed = status.ok(); });
  EXPECT_EQ(try_append().status().code(), Errc::kFailed);
  world.run_until_idle();
  EXPECT_FALSE(closed);
  disk().hold_syncs(false);
  world.run_until_idle();
  EXPECT_TRUE(closed);
  EXPECT_EQ(log->durable_end(), Offset(2));
}

TEST_F(LogTest, ClosingALogWithoutFilesAnswers) {
  open();
  close();
  EXPECT_FALSE(files().exists("data/topics"));
}

TEST_F(LogTest, DestroyingALogThatIsClosingAnswersOnce) {
  open();
  append();
  for (bool sync_first : {false, true}) {
    if (log == nullptr) open();
    append();
    disk().hold_syncs(true);
    if (sync_first) log->request_sync();
    int answers = 0;
    log->close([&](Status status) {
      ++answers;
      EXPECT_EQ(status.code(), Errc::kFailed);
    });
    log.reset();
    disk().hold_syncs(false);
    world.run_until_idle();
    EXPECT_EQ(answers, 1);
  }
}

TEST_F(LogTest, ClosingAFailedLogSaysSo) {
  open();
  append();
  disk().add_fault({.call = sim::DiskCall::kSync, .path_part = ".log"});
  log->request_sync();
  world.run_until_idle();
  Errc answer = Errc::kOk;
  log->close([&](Status status) { answer = status.code(); });
  world.run_until_idle();
  EXPECT_EQ(answer, Errc::kFailed);
}

TEST_F(LogTest, AFileThatChangedAfterACleanStopIsRecovered) {
  open();
  append(2);
  append(2);
  LogMark mark = close();
  Bytes content = files().read_file(log_path(0)).value();
  disk().put_file(log_path(0), content.view().first(content.size() - 1));
  open(mark, true);
  EXPECT_TRUE(log->recovery().scanned);
  EXPECT_EQ(log->log_end(), Offset(4));
  // The record was acknowledged: this is damage, not a torn tail.
  ASSERT_EQ(log->damaged_ranges().size(), 1u);
  EXPECT_EQ(log->damaged_ranges()[0].first, Offset(2));
}

TEST_F(LogTest, AMissingFirstFileAfterACleanStopIsDamage) {
  fill_segments(3);
  LogMark mark = close();
  ASSERT_TRUE(files().remove_file(log_path(0)).ok());
  open(mark, true);
  EXPECT_EQ(log->log_start(), Offset(0));
  EXPECT_EQ(log->read(Offset(0), 100, Offset(20)).status().code(), Errc::kCorruption);
  expect_records(Offset(6), Offset(20));
}

TEST_F(LogTest, OpeningAfterACleanStopOpensThreeFiles) {
  fill_segments(20);
  LogMark mark = close();
  uint64_t opens = disk().calls(sim::DiskCall::kOpen);
  open(mark, true);
  EXPECT_LE(disk().calls(sim::DiskCall::kOpen) - opens, 3u);  // the last .log, leader-epochs, the snapshot
  expect_all_there();
}

TEST_F(LogTest, OldSegmentsAreClosedAgainAfterTheyWereRead) {
  fill_segments(20);
  reopen_cleanly();
  expect_all_there();
  uint64_t opens = disk().calls(sim::DiskCall::kOpen);
  // The last few are still open; the first ones are not any more.
  expect_records(Offset(114), Offset(122));
  EXPECT_EQ(disk().calls(sim::DiskCall::kOpen), opens);
  expect_records(Offset(0), Offset(6));
  EXPECT_GT(disk().calls(sim::DiskCall::kOpen), opens);
}

// --- truncation

TEST_F(LogTest, TruncatesAtEveryBatchOfSeveralSegments) {
  for (int64_t end = 0; end <= 20; end += 2) {
    copy_disk_from(sim::DiskImage());
    fill_segments(3);
    ASSERT_TRUE(log->truncate_to(Offset(end)).ok());
    EXPECT_EQ(log->log_end(), Offset(end));
    EXPECT_EQ(log->durable_end(), Offset(end));
    expect_all_there();
    log->check_invariants();
    append(2, 33);
    sync();
    expect_all_there();
    log->check_invariants();
    crash(sim::CrashPolicy::lose_all());
    open(LogMark{Offset(end), Offset(end), Offset(0)});
    EXPECT_EQ(log->log_end(), Offset(end + 2));
    EXPECT_TRUE(log->damaged_ranges().empty());
    expect_all_there();
  }
}

TEST_F(LogTest, TruncatingInsideABatchTakesTheWholeBatch) {
  open();
  append(5);
  append(5);
  ASSERT_TRUE(log->truncate_to(Offset(7)).ok());
  EXPECT_EQ(log->log_end(), Offset(5));
  expect_all_there();
}

TEST_F(LogTest, TruncatingOutsideTheLogIsRefused) {
  open();
  append(5);
  append(5);
  log->advance_start(Offset(5));
  EXPECT_EQ(log->truncate_to(Offset(11)).code(), Errc::kOutOfRange);
  EXPECT_EQ(log->truncate_to(Offset(0)).code(), Errc::kOutOfRange);
  EXPECT_TRUE(log->truncate_to(Offset(10)).ok());
  EXPECT_EQ(log->log_end(), Offset(10));
}

TEST_F(LogTest, ASyncUnderWayAcrossATruncationProvesNothing) {
  open();
  append(2);
  sync();
  disk().hold_syncs(true);
  append(2);
  append(2);
  log->request_sync();
  ASSERT_TRUE(log->truncate_to(Offset(2)).ok());
  append(2, 50);
  append(2, 50);
  log->request_sync();
  EXPECT_EQ(log->durable_end(), Offset(2));
  disk().hold_syncs(false);
  // The first sync covered other bytes at these offsets; only the second counts.
  ASSERT_TRUE(world.run_until([&] { return log->durable_end() > Offset(2); }));
  EXPECT_EQ(log->durable_end(), Offset(6));
  crash(sim::CrashPolicy::lose_all());
  open();
  EXPECT_EQ(log->log_end(), Offset(6));
  expect_all_there();
}

TEST_F(LogTest, TruncationForgetsEpochsAndProducersOfWhatIsCut) {
  open();
  auto batch_of = [this](int32_t sequence) {
    return numbered_batch(log->log_end(), 1, 10, epoch, kTestTimestampMs, {ProducerId(5), ProducerEpoch(0), sequence});
  };
  ASSERT_TRUE(log->append(batch_of(0)).ok());
  epoch = LeaderEpoch(2);
  ASSERT_TRUE(log->append(batch_of(1)).ok());
  Bytes repeated = batch_of(1);
  auto verdict = [&] { return log->producers().check(RecordBatch::parse(repeated).value()).verdict; };
  EXPECT_EQ(verdict(), SequenceVerdict::kDuplicate);
  ASSERT_TRUE(log->truncate_to(Offset(1)).ok());
  EXPECT_EQ(verdict(), SequenceVerdict::kAppend);
  EXPECT_EQ(log->epochs().latest()->epoch, LeaderEpoch(1));
  ASSERT_TRUE(log->append(batch_of(1)).ok());
  EXPECT_EQ(verdict(), SequenceVerdict::kDuplicate);
  EXPECT_EQ(log->epochs().end_of(LeaderEpoch(1), log->log_end()).end, Offset(1));
}

TEST_F(LogTest, ACrashAtAnyStepOfATruncationLeavesNoGap) {
  fill_segments(4);
  ASSERT_TRUE(log->truncate_to(Offset(24)).ok());
  disk().start_recording();
  ASSERT_TRUE(log->truncate_to(Offset(4)).ok());
  sim::Recording recording = disk().stop_recording();
  for (size_t steps = 0; steps <= recording.ops.size(); ++steps) {
    sim::DiskState state(recording.base);
    for (size_t i = 0; i < steps; ++i) state.add(recording.ops[i]);
    for (bool kept : {false, true}) {
      std::vector<sim::Fate> fates(state.unsynced().size());
      for (sim::Fate& fate : fates) fate.kind = kept ? sim::Fate::Kind::kKept : sim::Fate::Kind::kDropped;
      copy_disk_from(state.after_crash(fates));
      open(LogMark{Offset(4), Offset(4), Offset(0)});
      EXPECT_GE(log->log_end(), Offset(4));
      EXPECT_TRUE(log->damaged_ranges().empty()) << "after step " << steps;
      expect_all_there();
    }
  }
}

TEST_F(LogTest, RestartsAtALaterOffset) {
  fill_segments(3);
  ASSERT_TRUE(log->restart_at(Offset(1000)).ok());
  EXPECT_EQ(log->log_start(), Offset(1000));
  EXPECT_EQ(log->durable_end(), Offset(1000));
  EXPECT_TRUE(bases().empty());
  log->check_invariants();
  append(2);
  sync();
  expect_all_there();
  log->check_invariants();
  LogMark mark = log->mark(log->durable_end());
  crash(sim::CrashPolicy::lose_all());
  open(mark);
  EXPECT_EQ(log->log_start(), Offset(1000));
  expect_all_there();
}

TEST_F(LogTest, RestartsAtAnEarlierOffset) {
  fill_segments(3);
  ASSERT_TRUE(log->restart_at(Offset(1000)).ok());
  append(2);
  sync();
  ASSERT_TRUE(log->restart_at(Offset(7)).ok());
  EXPECT_EQ(log->log_start(), Offset(7));
  EXPECT_EQ(log->log_end(), Offset(7));
  EXPECT_TRUE(bases().empty());
  append(2);
  sync();
  log->check_invariants();
  LogMark mark = log->mark(log->durable_end());
  crash(sim::CrashPolicy::lose_all());
  open(mark);
  EXPECT_EQ(log->log_start(), Offset(7));
  expect_all_there();
}

// --- retention and trimming

TEST_F(LogTest, RemovesTheOldestSegmentsBySize) {
  fill_segments(5);
  config.retention_bytes = static_cast<int64_t>(log->size_bytes()) - 1;
  log->set_config(config);
  EXPECT_EQ(log->apply_retention(kTestTimestampMs, true, log->log_end()), 0u);
  config.retention_bytes = static_cast<int64_t>(2 * config.segment_bytes);
  log->set_config(config);
  uint64_t size = log->size_bytes();
  uint64_t freed = log->apply_retention(kTestTimestampMs, true, log->log_end());
  world.run_until_idle();
  EXPECT_EQ(log->size_bytes(), size - freed);
  EXPECT_EQ(log->log_start(), Offset(18));
  EXPECT_EQ(bases().front(), Offset(18));
  EXPECT_FALSE(has(0, ".index"));
  expect_all_there();
  log->check_invariants();
}

TEST_F(LogTest, RemovesSegmentsWhoseYoungestRecordIsTooOld) {
  config.retention_ms = 10'000;
  for (int i = 0; i < 4; ++i) {
    timestamp_ms = kTestTimestampMs + i * 1000;
    fill_segments(1);
  }
  EXPECT_EQ(log->apply_retention(kTestTimestampMs + 11'000, true, log->log_end()), file_size(log_path(0)));
  Offset start = log->log_start();
  EXPECT_GT(start, Offset(0));
  EXPECT_EQ(log->apply_retention(kTestTimestampMs + 11'000, true, log->log_end()), 0u);
  // F14: a clock that jumped takes nothing away.
  EXPECT_EQ(log->apply_retention(kTestTimestampMs + 1'000'000, false, log->log_end()), 0u);
  EXPECT_EQ(log->log_start(), start);
  EXPECT_GT(log->apply_retention(kTestTimestampMs + 1'000'000, true, log->log_end()), 0u);
  // The active segment stays however old it is.
  EXPECT_LT(log->log_start(), log->log_end());
  world.run_until_idle();
  expect_all_there();
}

TEST_F(LogTest, RetentionStaysBelowTheHighWatermark) {
  fill_segments(5);
  config.retention_bytes = 0;
  log->set_config(config);
  log->apply_retention(kTestTimestampMs, true, Offset(11));
  EXPECT_EQ(log->log_start(), Offset(6));
  log->apply_retention(kTestTimestampMs, true, Offset(12));
  EXPECT_EQ(log->log_start(), Offset(12));
}

TEST_F(LogTest, TrimmingRemovesWholeSegmentsAtTheNextRetention) {
  fill_segments(3);
  log->advance_start(Offset(13));
  EXPECT_EQ(log->apply_retention(kTestTimestampMs, false, log->log_end()),
            file_size(log_path(0)) + file_size(log_path(6)));
  world.run_until_idle();
  EXPECT_EQ(bases(), (std::vector<Offset>{Offset(12), Offset(18)}));
  EXPECT_EQ(log->log_start(), Offset(13));
  LogMark mark = close();
  EXPECT_EQ(mark.log_start, Offset(13));
  open(mark, true);
  EXPECT_EQ(log->log_start(), Offset(13));
  EXPECT_EQ(read_slice(log->read(Offset(13), 10, Offset(20)).value()).value().next_offset, Offset(14));
  log->check_invariants();
}

TEST_F(LogTest, ASliceStaysReadableWhenItsSegmentIsRemoved) {
  fill_segments(3);
  LogSlice slice = log->read(Offset(0), 1000, Offset(20)).value();
  log->advance_start(Offset(18));
  log->apply_retention(kTestTimestampMs, true, log->log_end());
  world.run_until_idle();
  EXPECT_FALSE(files().exists(log_path(0)));
  EXPECT_EQ(read_slice(slice).value().next_offset, Offset(6));
}

TEST_F(LogTest, ACrashWhileSegmentsAreRemovedLeavesNoGap) {
  fill_segments(5);
  LogMark mark = log->mark(log->durable_end());
  disk().start_recording();
  log->advance_start(Offset(24));
  log->apply_retention(kTestTimestampMs, true, log->log_end());
  world.run_until_idle();
  sim::Recording recording = disk().stop_recording();
  for (size_t steps = 0; steps <= recording.ops.size(); ++steps) {
    sim::DiskState state(recording.base);
    for (size_t i = 0; i < steps; ++i) state.add(recording.ops[i]);
    size_t unsynced = state.unsynced().size();
    ASSERT_LE(unsynced, 8u);
    for (size_t kept = 0; kept < (size_t{1} << unsynced); ++kept) {
      std::vector<sim::Fate> fates(unsynced);
      for (size_t i = 0; i < unsynced; ++i) {
        fates[i].kind = (kept >> i & 1) != 0 ? sim::Fate::Kind::kKept : sim::Fate::Kind::kDropped;
      }
      copy_disk_from(state.after_crash(fates));
      open(mark);
      EXPECT_EQ(log->log_end(), Offset(32));
      EXPECT_TRUE(log->damaged_ranges().empty());
      expect_all_there();
    }
  }
}

TEST_F(LogTest, AFileThatCannotBeRemovedIsTriedAgainAfterARestart) {
  fill_segments(3);
  disk().add_fault({.call = sim::DiskCall::kRemove, .path_part = "00.log", .count = 1});
  log->advance_start(Offset(12));
  EXPECT_GT(log->apply_retention(kTestTimestampMs, true, log->log_end()), 0u);
  world.run_until_idle();
  EXPECT_TRUE(files().exists(log_path(0)));
  reopen_cleanly();
  log->apply_retention(kTestTimestampMs, true, log->log_end());
  world.run_until_idle();
  EXPECT_EQ(bases().front(), Offset(12));
}

// --- time

TEST_F(LogTest, FindsTheFirstRecordAtOrAfterATime) {
  config.segment_bytes = 2000;
  config.index_interval_bytes = 300;
  open();
  std::vector<int64_t> times;
  sim::SeededRandom random(7);
  for (int i = 0; i < 60; ++i) {
    std::vector<testing::TestRecord> records;
    for (uint64_t j = 0; j <= random.below(4); ++j) {
      times.push_back(1000 + i * 10 + static_cast<int64_t>(random.below(40)));
      records.push_back({std::nullopt, "v" + std::to_string(times.size() - 1), {}, times.back()});
    }
    Codec codec = i % 3 == 0 ? Codec::kZstd : Codec::kNone;
    ASSERT_TRUE(
        log->append(testing::make_batch(
                        records, {.codec = codec, .base_offset = log->log_end(), .leader_epoch = LeaderEpoch(i / 20)}))
            .ok());
  }
  for (int round = 0; round < 2; ++round) {
    for (Offset limit : {log->log_end(), Offset(37)}) {
      for (int64_t time = 980; time < 1660; ++time) {
        auto expected = std::find_if(times.begin() + log->log_start().value(), times.begin() + limit.value(),
                                     [&](int64_t t) { return t >= time; });
        auto found = log->find_timestamp(time, limit).value();
        if (expected == times.begin() + limit.value()) {
          ASSERT_FALSE(found.has_value()) << time;
          continue;
        }
        ASSERT_TRUE(found.has_value()) << time;
        ASSERT_EQ(found->offset.value(), expected - times.begin()) << time;
        ASSERT_EQ(found->timestamp_ms, *expected);
        ASSERT_EQ(found->leader_epoch, log->epochs().epoch_at(found->offset));
      }
    }
    log->advance_start(Offset(11));
    reopen_cleanly();
  }
}

// --- epochs

TEST_F(LogTest, ASliceHoldsOneEpoch) {
  open();
  for (int i = 1; i <= 10; ++i) {
    epoch = LeaderEpoch(i);
    for (int j = 0; j < i; ++j) append(2);
  }
  Offset at(0);
  int slices = 0;
  while (at < log->log_end()) {
    LogSlice slice = log->read(at, 1 << 20, log->log_end()).value();
    EXPECT_EQ(slice.epoch_min, slice.epoch_max);
    at = read_slice(slice).value().next_offset;
    ++slices;
  }
  EXPECT_EQ(slices, 10);
}

TEST_F(LogTest, EpochsSurviveACleanStopAndACrash) {
  open();
  append(2);
  log->begin_epoch(LeaderEpoch(3));
  EXPECT_EQ(log->epochs().end_of(LeaderEpoch(1), log->log_end()).end, Offset(2));
  epoch = LeaderEpoch(3);
  append(2);
  sync();
  epoch = LeaderEpoch(4);
  append(2);
  std::vector<EpochEntry> expected = log->epochs().entries();
  EXPECT_EQ(expected.size(), 3u);
  LogMark mark = log->mark(log->durable_end());
  crash();
  open(mark);
  EXPECT_EQ(log->epochs().entries(), expected);
  EXPECT_EQ(log->log_end(), Offset(6));
  reopen_cleanly();
  EXPECT_EQ(log->epochs().entries(), expected);
}

TEST_F(LogTest, EpochsAreMadeAgainFromTheBatchesIfTheirFileIsMissingOrBad) {
  config.segment_bytes = 400;
  open();
  for (int i = 0; i < 12; ++i) {
    epoch = LeaderEpoch(i / 3);
    append(2);
  }
  std::vector<EpochEntry> expected = log->epochs().entries();
  LogMark mark = close();
  for (bool clean : {true, false}) {
    for (std::string content : {"", "garbage", "missing"}) {
      if (content == "missing") {
        ASSERT_TRUE(files().remove_file(path("leader-epochs")).ok());
      } else {
        disk().put_file(path("leader-epochs"), as_bytes(content));
      }
      open(mark, clean);
      EXPECT_EQ(log->epochs().entries(), expected) << content;
      expect_all_there();
      log->check_invariants();
      mark = close();
    }
  }
}

TEST_F(LogTest, ABatchOfAnEpochThatNobodyKnowsIsNotKept) {
  // Its record was never acknowledged: the sync would have made the epoch durable too.
  open();
  append(2);
  sync();
  LogMark mark = log->mark(log->durable_end());
  Bytes content = files().read_file(log_path(0)).value();
  content.append(numbered_batch(Offset(2), 2, 10, LeaderEpoch(99)));
  crash();
  disk().put_file(log_path(0), content);
  open(mark);
  EXPECT_EQ(log->log_end(), Offset(2));
  EXPECT_EQ(log->epochs().latest()->epoch, LeaderEpoch(1));
}

// --- producers

TEST_F(LogTest, ProducersSurviveACleanStopAndACrash) {
  config.segment_bytes = 700;
  open();
  auto batch_of = [this](int64_t producer, int32_t sequence) {
    return numbered_batch(log->log_end(), 1, 10, epoch, kTestTimestampMs,
                          {ProducerId(producer), ProducerEpoch(0), sequence});
  };
  for (int32_t i = 0; i < 40; ++i) {
    ASSERT_TRUE(log->append(batch_of(i % 3, i / 3)).ok());
    if (i == 20) sync();
  }
  LogMark mark = log->mark(log->durable_end());
  auto expect_known = [&] {
    for (int32_t i = 0; i < 40; ++i) {
      Bytes repeated = batch_of(i % 3, i / 3);
      SequenceCheck check = log->producers().check(RecordBatch::parse(repeated).value());
      ASSERT_EQ(check.verdict, SequenceVerdict::kDuplicate) << i;
      ASSERT_EQ(check.first_offset, Offset(i));
    }
  };
  expect_known();
  world.run_until_idle();
  crash();
  open(mark);
  expect_known();
  reopen_cleanly();
  expect_known();
  // Without any snapshot the whole log is replayed.
  mark = close();
  for (const DirectoryEntry& entry : files().list(kLogFolder).value()) {
    if (!entry.name.ends_with(kSnapshotSuffix)) continue;
    disk().put_file(path(entry.name), as_bytes("torn"));
  }
  open(mark, true);
  expect_known();
}

TEST_F(LogTest, KeepsFewSnapshots) {
  fill_segments(30);
  world.run_until_idle();
  EXPECT_LE(list_log(files(), std::string(kLogFolder)).value().snapshots.size(), 3u);
}

// --- indexes

TEST_F(LogTest, IndexesAreMadeAgainFromTheLogWhateverIsInTheirFiles) {
  config.index_interval_bytes = 100;
  fill_segments(4);
  world.run_until_idle();
  Bytes other_index = files().read_file(path("00000000000000000006.index")).value();
  Bytes other_times = files().read_file(path("00000000000000000006.timeindex")).value();
  LogMark mark = close();
  enum class What { kMissing, kEmpty, kGarbage, kCut, kOther };
  for (What what : {What::kMissing, What::kEmpty, What::kGarbage, What::kCut, What::kOther}) {
    for (std::string_view suffix : {kIndexSuffix, kTimeIndexSuffix}) {
      std::string file = path(numbered_file(Offset(12), suffix));
      Bytes good = files().read_file(file).value();
      switch (what) {
        case What::kMissing: ASSERT_TRUE(files().remove_file(file).ok()); break;
        case What::kEmpty: disk().put_file(file, ByteView()); break;
        case What::kGarbage: disk().put_file(file, as_bytes(std::string(300, 'x'))); break;
        case What::kCut: disk().put_file(file, good.view().first(good.size() - 3)); break;
        case What::kOther: disk().put_file(file, suffix == kIndexSuffix ? other_index : other_times); break;
      }
      open(mark, true);
      expect_all_there();
      EXPECT_EQ(log->find_timestamp(kTestTimestampMs, log->log_end()).value()->offset, Offset(0));
      log->check_invariants();
      mark = close();
      // And they are saved again.
      EXPECT_TRUE(bytes_equal(files().read_file(file).value(), good));
    }
  }
}

TEST_F(LogTest, AnIndexThatPointsToTheWrongPlacesIsNotBelieved) {
  config.index_interval_bytes = 1;
  fill_segments(3);
  LogMark mark = close();
  std::string file = path(numbered_file(Offset(6), kIndexSuffix));
  auto decoded = OffsetIndex::decode(files().read_file(file).value());
  ASSERT_TRUE(decoded.ok());
  OffsetIndex wrong(Offset(6));
  wrong.add(Offset(6), 0);
  wrong.add(Offset(9), 3);
  wrong.add(Offset(10), 50);
  disk().put_file(file, wrong.encode(decoded->cover));
  open(mark, true);
  expect_all_there();
  EXPECT_TRUE(log->damaged_ranges().empty());
}

TEST_F(LogTest, TheChecksumFileFindsAFlippedEpoch) {
  fill_segments(2);
  world.run_until_idle();
  log->check_invariants();
  disk().flip_bit(log_path(0), 8 * 15);
  EXPECT_DEATH(log->check_invariants(), "check failed");
}

TEST_F(LogTest, ReportedDamageIsNotServedAgainAndTheRestIs) {
  open();
  for (int i = 0; i < 10; ++i) append(2);
  sync();
  size_t batch = numbered_batch(Offset(0), 2).size();
  disk().flip_bit(log_path(0), 8 * (4 * batch + 70));
  LogSlice slice = log->read(Offset(8), 1 << 20, Offset(20)).value();
  Status bad = read_slice(slice).status();
  EXPECT_EQ(bad.code(), Errc::kCorruption);
  log->report_damage({slice.first, kNoOffset, slice.file, slice.slice.position, std::string(bad.message())});
  ASSERT_EQ(log->damaged_ranges().size(), 1u);
  EXPECT_EQ(log->damaged_ranges()[0].next_good, Offset(10));
  EXPECT_EQ(log->read(Offset(9), 100, Offset(20)).status().code(), Errc::kCorruption);
  expect_records(Offset(0), Offset(8));
  expect_records(Offset(10), Offset(20));
  log->check_invariants();
}

TEST_F(LogTest, PartitionMetaCanBeReplaced) {
  PartitionMeta meta = testing::test_meta();
  meta.settings["retention.ms"] = "5";
  open();
  ASSERT_TRUE(log->set_meta(meta).ok());
  EXPECT_FALSE(files().exists(path("partition.meta")));
  append();
  EXPECT_EQ(decode_partition_meta(files().read_file(path("partition.meta")).value()).value(), meta);
  meta.settings["retention.ms"] = "6";
  ASSERT_TRUE(log->set_meta(meta).ok());
  EXPECT_EQ(decode_partition_meta(files().read_file(path("partition.meta")).value()).value(), meta);
}

TEST_F(LogTest, AnAbandonedLogLeavesNothingBehindInMemory) {
  fill_segments(2);
  append();
  log->request_sync();
  log->abandon();
  ASSERT_TRUE(files().remove_tree(kLogFolder).ok());
  world.run_until_idle();
  EXPECT_EQ(try_append().status().code(), Errc::kFailed);
}

}  // namespace
}  // namespace trilog
