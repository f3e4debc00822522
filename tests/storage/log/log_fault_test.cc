// What a log does when the disk fails at any step, when bits flip anywhere, and under random histories with crashes.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "tests/sim/crash_states.h"
#include "tests/storage/log/log_fixture.h"

// More with -DTRILOG_HISTORY_SEEDS=400.
#ifndef TRILOG_HISTORY_SEEDS
#define TRILOG_HISTORY_SEEDS 12
#endif

namespace trilog {
namespace {

using testing::kLogFolder;
using testing::kTestTimestampMs;
using testing::numbered_batch;

class LogFaultTest : public testing::LogFixture {
 protected:
  // Appends, rolls, syncs, changes the epoch, trims, truncates, retains. Stops at nothing; what was durable is noted.
  void run_history() {
    config.segment_bytes = 400;
    config.retention_bytes = 1500;
    epoch = LeaderEpoch(1);
    durable_ = Offset(0);
    cut_failed_ = false;
    log.reset();
    if (!try_open(std::nullopt, false).ok()) return;
    for (int i = 0; i < 30 && !log->failed(); ++i) {
      if (i == 10) epoch = LeaderEpoch(2);
      note(try_append(2).status());
      if (i % 3 == 0) log->request_sync();
      if (i % 2 == 0) world.run_until_idle();
      durable_ = std::max(durable_, log->durable_end());
      if (i == 14 && log->log_end() > durable_) {
        const Status cut = log->truncate_to(durable_);
        cut_failed_ = log->failed() && !cut.ok();
        note(cut);
      }
      if (i == 20) log->apply_retention(kTestTimestampMs, true, durable_);
    }
    log->request_sync();
    world.run_until_idle();
    durable_ = std::max(durable_, log->durable_end());
  }
  void note(const Status& status) {
    if (status.ok()) return;
    ++failures_;
    last_failure_ = status;
  }
  // Everything that was durable is there after the crash, and nothing is wrong.
  void expect_recovers(const sim::CrashPolicy& policy) {
    disk().clear_faults();
    disk().set_capacity(UINT64_MAX);
    crash(policy);
    open();
    EXPECT_GE(log->log_end(), durable_);
    EXPECT_LE(log->log_start(), durable_);
    if (log->damaged_ranges().empty()) expect_all_there();
    // Only what was never acknowledged may be damaged: a hole that a power cut left.
    for (const DamagedRange& range : log->damaged_ranges()) EXPECT_GE(range.first, durable_);
    expect_records(log->log_start(), durable_);
    log->check_invariants();
    EXPECT_TRUE(try_append(2).ok());
    sync();
  }

  Offset durable_{0};
  int failures_ = 0;
  bool cut_failed_ = false;  // half-way
  Status last_failure_;
};

TEST_F(LogFaultTest, SurvivesAnErrorOfEveryCallOfTheDisk) {
  using sim::DiskCall;
  for (DiskCall call : {DiskCall::kOpen, DiskCall::kRead, DiskCall::kWrite, DiskCall::kTruncate, DiskCall::kSync,
                        DiskCall::kSyncDirectory, DiskCall::kRename, DiskCall::kRemove, DiskCall::kCreateDirectory}) {
    copy_disk_from(sim::DiskImage());
    run_history();
    ASSERT_FALSE(log->failed());
    ASSERT_EQ(durable_, log->log_end());
    uint64_t calls = disk().calls(call);
    for (uint64_t n = 1; n <= calls; ++n) {
      for (Errc code : {Errc::kIo, Errc::kDiskFull}) {
        SCOPED_TRACE("call kind " + std::to_string(static_cast<int>(call)) + " number " + std::to_string(n));
        copy_disk_from(sim::DiskImage());
        disk().add_fault({.call = call, .first = n, .code = code});
        run_history();
        bool is_sync = call == DiskCall::kSync || call == DiskCall::kSyncDirectory;
        // S3: a failed sync ends the process, and so does a cut that fails half-way: the next start finds out what is
        // there. Nothing else does.
        EXPECT_TRUE(is_sync || call == DiskCall::kRename || cut_failed_ == !env().fatal_status().ok());
        expect_recovers(n % 2 == 0 ? sim::CrashPolicy::lose_all() : sim::CrashPolicy::keep_all());
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(LogFaultTest, SurvivesADiskThatFillsUpAtAnyByte) {
  run_history();
  uint64_t needed = disk().bytes_used();
  for (uint64_t capacity = 0; capacity < needed; capacity += 37) {
    SCOPED_TRACE("capacity " + std::to_string(capacity));
    copy_disk_from(sim::DiskImage());
    disk().set_capacity(capacity);
    failures_ = 0;
    run_history();
    // S8: no crash, reads go on, and the log is not failed for good.
    ASSERT_TRUE(env().fatal_status().ok());
    ASSERT_FALSE(log->failed());
    ASSERT_EQ(durable_, log->log_end());
    if (capacity < 1000) {
      ASSERT_GT(failures_, 0);
      ASSERT_EQ(last_failure_.code(), Errc::kDiskFull) << last_failure_.to_string();
    }
    expect_all_there();
    log->check_invariants();
    // Space comes back.
    disk().set_capacity(UINT64_MAX);
    append(2);
    sync();
    expect_all_there();
    if (HasFatalFailure()) return;
  }
}

TEST_F(LogFaultTest, AnAppendThatCannotBeUndoneFailsTheLog) {
  open();
  append(2);
  sync();
  disk().add_fault({.call = sim::DiskCall::kWrite, .path_part = ".log"});
  disk().add_fault({.call = sim::DiskCall::kTruncate, .path_part = ".log"});
  EXPECT_EQ(try_append(2).status().code(), Errc::kIo);
  EXPECT_TRUE(log->failed());
  world.run_until_idle();
  EXPECT_EQ(durable_calls, 2);
  EXPECT_EQ(try_append(2).status().code(), Errc::kFailed);
  expect_records(Offset(0), Offset(2));
}

TEST_F(LogFaultTest, AReadErrorIsAnswered) {
  open();
  append(2);
  sync();
  reopen_cleanly();
  disk().add_fault({.call = sim::DiskCall::kRead, .path_part = ".log", .count = 2});
  EXPECT_EQ(log->read(Offset(0), 100, Offset(2)).status().code(), Errc::kIo);
  EXPECT_EQ(log->find_timestamp(kTestTimestampMs, Offset(2)).status().code(), Errc::kIo);
  EXPECT_TRUE(log->damaged_ranges().empty());
  expect_all_there();
}

// By seed 20767 of the simulator.
TEST_F(LogFaultTest, IndexesMadeWithoutARangeThatCouldNotBeReadAreKnownToHaveAHole) {  // S9
  open();
  for (int i = 0; i < 8; ++i) append(2);
  sync();
  const LogSlice refused = *log->read(Offset(6), 1, log->log_end());
  const LogMark mark = log->mark(log->durable_end());
  crash(sim::CrashPolicy::keep_all());
  open(mark);
  log->report_damage({.first = refused.first,
                      .next_good = refused.first + 2,
                      .file = refused.file,
                      .position = refused.slice.position,
                      .what = "the disk refused to read it"});
  EXPECT_TRUE(log->find_timestamp(kTestTimestampMs, log->log_end()).ok());
  log->check_invariants();
}

// --- flipped bits

class LogFlipTest : public testing::LogFixture {
 protected:
  void SetUp() override {
    config.segment_bytes = 400;
    config.index_interval_bytes = 150;
    open();
    for (int i = 0; i < 12; ++i) {
      if (i == 5) epoch = LeaderEpoch(2);
      append(2);
      if (i == 6) {
        sync();
        mark_ = log->mark(log->durable_end());
      }
    }
    sync();
    clean_mark_ = close();
    good_ = disk().image();
  }

  // Every record is the right one or refused with a message that names its file; returns how many were refused.
  int read_everything() {
    int refused = 0;
    for (Offset at(0); at < log->log_end();) {
      auto slice = log->read(at, 1 << 20, log->log_end());
      auto run = slice.ok() ? read_slice(*slice) : Result<BatchRun>(slice.status());
      if (!run.ok()) {
        EXPECT_EQ(run.status().code(), Errc::kCorruption);
        EXPECT_NE(run.status().message().find(kLogFolder), std::string_view::npos) << run.status().to_string();
        EXPECT_NE(run.status().message().find(" at byte "), std::string_view::npos) << run.status().to_string();
        if (slice.ok()) {
          log->report_damage({slice->first, kNoOffset, slice->file, slice->slice.position, "found by a reader"});
        }
        const DamagedRange* range = log->damage_at(at);
        if (range == nullptr) {
          ADD_FAILURE() << "no damage at " << at << " although " << run.status().to_string();
          return refused;
        }
        refused += static_cast<int>(range->next_good - at);
        at = range->next_good;
        continue;
      }
      for (const RecordBatch& batch : run->batches) {
        int64_t offset = batch.base_offset().value();
        EXPECT_EQ(batch.leader_epoch(), offset < 10 ? LeaderEpoch(1) : LeaderEpoch(2));
        for (const testing::TestRecord& record : testing::records_of(batch.bytes())) {
          std::string expected = "v" + std::to_string(offset++);
          EXPECT_EQ(record.value->substr(0, expected.size()), expected);
        }
      }
      if (run->next_offset <= at) {
        ADD_FAILURE() << "no progress at " << at;
        return refused;
      }
      at = run->next_offset;
    }
    return refused;
  }

  LogMark mark_;
  LogMark clean_mark_;
  sim::DiskImage good_;
};

TEST_F(LogFlipTest, AFlippedBitInAnyFileIsNeverServedAndNeverFatal) {
  struct Start {
    std::optional<LogMark> mark;
    bool clean;
  };
  const Start starts[] = {{clean_mark_, true}, {mark_, false}, {std::nullopt, false}};
  for (const std::string& file : good_.all_files()) {
    size_t size = good_.content(good_.find(file)).size();
    for (size_t byte = 0; byte < size; ++byte) {
      for (const Start& start : starts) {
        // Other files than logs are small and many: one way of starting for each byte.
        if (!file.ends_with(".log") && &start != &starts[byte % 3]) continue;
        size_t bit = byte * 8 + byte % 8;
        SCOPED_TRACE(file + " bit " + std::to_string(bit) + (start.clean ? " clean" : start.mark ? " mark" : ""));
        copy_disk_from(good_);
        disk().flip_bit(file, bit);
        open(start.mark, start.clean);
        ASSERT_NE(log, nullptr);
        int refused = read_everything();
        // One batch at most; all of it is gone if it was the last one and looked like a torn tail.
        bool is_log = file.ends_with(".log");
        EXPECT_LE(refused + (24 - log->log_end().value()), is_log ? 2 : 0);
        EXPECT_TRUE(!start.clean || log->log_end() == Offset(24));
        EXPECT_TRUE(log->find_timestamp(kTestTimestampMs, log->log_end()).ok() || is_log);
        epoch = std::max(LeaderEpoch(3), log->epochs().latest()->epoch);
        EXPECT_TRUE(try_append(2).ok());
        sync();
        if (HasFailure()) return;
      }
    }
  }
}

// --- random histories

// A model of what was appended: the bytes of each batch by base offset.
class LogHistoryTest : public testing::LogFixture, public ::testing::WithParamInterface<int> {
 protected:
  void step(sim::SeededRandom& random);
  void append_one(sim::SeededRandom& random);
  void crash_and_recover(sim::SeededRandom& random);
  void check();
  void note_durable() {
    if (log != nullptr) durable_ = std::max(durable_, log->durable_end());
  }

  std::map<Offset, Bytes> written_;  // batches of this log's present content
  Offset durable_{0};
  Offset start_{0};
  LogMark mark_;
  int generation_ = 0;
};

void LogHistoryTest::append_one(sim::SeededRandom& random) {
  std::vector<testing::TestRecord> records;
  auto count = static_cast<int32_t>(1 + random.below(3));
  for (int32_t i = 0; i < count; ++i) {
    records.push_back({std::nullopt, "g" + std::to_string(generation_) + std::string(random.below(60), 'x')});
  }
  Offset base = log->log_end();
  Bytes batch = testing::make_batch(records, {.base_offset = base, .leader_epoch = epoch});
  auto info = log->append(batch);
  ASSERT_TRUE(info.ok()) << info.status().to_string();
  written_[base] = std::move(batch);
}

void LogHistoryTest::check() {
  ASSERT_GE(log->log_end(), durable_);
  for (Offset at = log->log_start(); at < log->log_end();) {
    auto slice = log->read(at, 200, log->log_end());
    auto run = slice.ok() ? read_slice(*slice) : Result<BatchRun>(slice.status());
    if (!run.ok()) {
      const DamagedRange* range = log->damage_at(at);
      ASSERT_NE(range, nullptr) << run.status().to_string();
      ASSERT_GE(range->first, durable_);
      at = range->next_good;
      continue;
    }
    ASSERT_GT(run->next_offset, at);
    for (const RecordBatch& batch : run->batches) {
      auto known = written_.find(batch.base_offset());
      ASSERT_NE(known, written_.end()) << batch.base_offset();
      ASSERT_TRUE(bytes_equal(known->second, batch.bytes())) << batch.base_offset();
    }
    at = run->next_offset;
  }
  log->check_invariants();
}

void LogHistoryTest::crash_and_recover(sim::SeededRandom& random) {
  note_durable();
  bool power = random.chance(60);
  std::optional<sim::CrashPolicy> policy;
  if (power) {
    auto keep = static_cast<uint32_t>(random.below(101));
    policy = sim::CrashPolicy{keep, static_cast<uint32_t>(random.below(101 - keep))};
  }
  Offset end = log->log_end();
  // Where a log without records stands only the mark remembers.
  bool has_records = log->durable_end() > log->log_start();
  size_t known_damage = log->damaged_ranges().size();
  crash(policy);
  open(has_records && random.chance(20) ? std::nullopt : std::optional(mark_));
  if (!power) {
    EXPECT_EQ(log->log_end(), end);
    EXPECT_LE(log->damaged_ranges().size(), known_damage);
  }
  check();
  // A damaged hole cannot be served for ever; a follower would cut there and fetch again.
  if (!log->damaged_ranges().empty()) {
    Offset to = log->damaged_ranges().front().first;
    mark_ = LogMark{std::min(mark_.durable_end, to), Offset(0), log->log_start()};
    ASSERT_TRUE(log->truncate_to(to).ok());
  }
  written_.erase(written_.lower_bound(log->log_end()), written_.end());
  durable_ = log->durable_end();
  mark_ = log->mark(durable_);
  epoch = std::max(epoch, LeaderEpoch(epoch.value() + static_cast<int32_t>(random.below(2))));
  ++generation_;
}

void LogHistoryTest::step(sim::SeededRandom& random) {
  switch (random.below(20)) {
    case 0: crash_and_recover(random); break;
    case 1: {
      LogMark mark = close();
      open(mark, true);
      EXPECT_FALSE(log->recovery().scanned);
      durable_ = log->durable_end();
      mark_ = mark;
      check();
      break;
    }
    case 2: {
      // Cuts somewhere at or above the high watermark; the lowered mark is written first.
      note_durable();
      auto room = static_cast<uint64_t>(log->log_end() - log->log_start());
      Offset to = log->log_end() - static_cast<int64_t>(random.below(std::min<uint64_t>(room, 12) + 1));
      auto batch = written_.upper_bound(to);
      if (batch == written_.begin()) break;
      Offset base = std::prev(batch)->first;
      if (to < log->log_end()) to = std::max(base, log->log_start());
      mark_ = LogMark{std::min(mark_.durable_end, to), Offset(0), log->log_start()};
      ASSERT_TRUE(log->truncate_to(to).ok());
      written_.erase(written_.lower_bound(log->log_end()), written_.end());
      durable_ = log->durable_end();
      ++generation_;
      break;
    }
    case 3:
      note_durable();
      log->advance_start(std::max(log->log_start(), durable_ - static_cast<int64_t>(random.below(20))));
      if (random.chance(50)) mark_ = log->mark(durable_);
      break;
    case 4:
      note_durable();
      log->apply_retention(kTestTimestampMs, true, durable_);
      break;
    case 5: check(); break;
    case 6:
      note_durable();
      mark_ = log->mark(durable_);
      break;
    case 7:
      epoch = epoch + 1;
      if (random.chance(50)) log->begin_epoch(epoch);
      break;
    case 8:
    case 9:
    case 10: log->request_sync(); break;
    case 11:
    case 12: world.run_for(static_cast<int64_t>(random.below(300'000))); break;
    default: append_one(random); break;
  }
  note_durable();
}

TEST_P(LogHistoryTest, KeepsWhatWasAcknowledgedThroughRandomHistories) {
  sim::SeededRandom random(static_cast<uint64_t>(GetParam()));
  for (int history = 0; history < 10; ++history) {
    copy_disk_from(sim::DiskImage());
    config.segment_bytes = 300 + random.below(800);
    config.index_interval_bytes = 1 + static_cast<uint32_t>(random.below(400));
    config.retention_bytes = random.chance(50) ? 1000 + static_cast<int64_t>(random.below(2000)) : -1;
    epoch = LeaderEpoch(1);
    written_.clear();
    durable_ = Offset(0);
    mark_ = LogMark{};
    open();
    for (int i = 0; i < 150; ++i) {
      step(random);
      if (HasFatalFailure() || HasNonfatalFailure()) {
        FAIL() << "seed " << GetParam() << " history " << history << " step " << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, LogHistoryTest, ::testing::Range(1, 1 + TRILOG_HISTORY_SEEDS));

}  // namespace
}  // namespace trilog
