// A log on a simulated disk: append, crash, open again. The vocabulary of the tests of segments, recovery and Log.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "storage/log/log.h"
#include "storage/log/log_files.h"
#include "storage/log/offset_index.h"
#include "tests/sim/sim_env.h"
#include "tests/support/batches.h"
#include "tests/support/partition.h"

namespace trilog::testing {

// Batches of `count` records with `value_size` bytes each, like "v17" padded.
inline Bytes numbered_batch(Offset base, int32_t count, size_t value_size = 10, LeaderEpoch epoch = LeaderEpoch(1),
                            int64_t timestamp_ms = kTestTimestampMs, BatchProducer producer = {}) {
  std::vector<TestRecord> records;
  for (int32_t i = 0; i < count; ++i) {
    std::string value = "v" + std::to_string(base.value() + i);
    value.resize(std::max(value.size(), value_size), '.');
    records.push_back({std::nullopt, std::move(value), {}, timestamp_ms});
  }
  return make_batch(records, {.producer = producer, .base_offset = base, .leader_epoch = epoch});
}

class LogFixture : public ::testing::Test {
 protected:
  LogFixture() { make_data_folder(); }
  ~LogFixture() override { log.reset(); }

  sim::SimDisk& disk() { return *disk_; }
  sim::SimEnv& env() { return *env_; }
  FileSystem& files() { return env_->files(); }
  std::string path(std::string_view name) const { return join_path(kLogFolder, name); }
  std::string log_path(int64_t base) const { return path(numbered_file(Offset(base), kLogSuffix)); }
  uint64_t file_size(const std::string& name) { return files().open(name, OpenMode::kRead).value()->size().value(); }

  Status try_open(std::optional<LogMark> mark, bool clean) {
    auto opened = Log::open(env(), std::string(kLogFolder), test_meta(), config, mark, clean);
    if (!opened.ok()) return opened.status();
    log = std::move(*opened);
    log->set_durable_listener([this] { ++durable_calls; });
    return ok_status();
  }
  void open(std::optional<LogMark> mark = std::nullopt, bool clean = false) {
    Status status = try_open(mark, clean);
    ASSERT_TRUE(status.ok()) << status.to_string();
  }

  // One batch of `count` records at the end.
  Result<AppendInfo> try_append(int32_t count = 1, size_t value_size = 10) {
    return log->append(numbered_batch(log->log_end(), count, value_size, epoch, timestamp_ms));
  }
  void append(int32_t count = 1, size_t value_size = 10) {
    auto info = try_append(count, value_size);
    ASSERT_TRUE(info.ok()) << info.status().to_string();
  }
  void sync() {
    log->request_sync();
    world.run_until_idle();
    ASSERT_EQ(log->durable_end(), log->log_end());
  }
  // Stops cleanly; the mark for the next open.
  LogMark close() {
    std::optional<Status> closed;
    log->close([&](Status status) { closed = std::move(status); });
    EXPECT_FALSE(closed.has_value());
    world.run_until_idle();
    EXPECT_TRUE(closed.has_value() && closed->ok()) << (closed ? closed->to_string() : "never answered");
    LogMark mark = log->mark(log->durable_end());
    log.reset();
    return mark;
  }
  void reopen_cleanly() { open(close(), true); }
  // kill -9 and, if `power` says so, a power cut; then a new process.
  void crash(std::optional<sim::CrashPolicy> power = std::nullopt) {
    env_.reset();
    log.reset();
    if (power.has_value()) disk_->power_cut(*power);
    env_ = world.make_env(*disk_);
  }
  // The same disk content on a fresh disk, whose bits a test may flip.
  void copy_disk_from(const sim::DiskImage& image) {
    env_.reset();
    log.reset();
    disk_ = std::make_unique<sim::SimDisk>(world.scheduler(), image);
    env_ = world.make_env(*disk_);
    make_data_folder();
  }
  // The node makes it, durably, before anything else.
  void make_data_folder() {
    ASSERT_TRUE(files().create_directories("data").ok());
    ASSERT_TRUE(files().sync_directory_now(".").ok());
  }

  // Values of all records from `from` up to `limit` or the log end, in slices of `bytes_max`.
  std::vector<std::string> values(Offset from, uint32_t bytes_max = 1u << 20, std::optional<Offset> limit = {}) {
    std::vector<std::string> result;
    Offset at = from;
    Offset end = limit.value_or(log->log_end());
    while (at < end) {
      auto slice = log->read(at, bytes_max, end);
      if (!slice.ok() || slice->empty()) break;
      auto run = read_slice(*slice);
      if (!run.ok()) break;
      for (const TestRecord& record : records_of(run->bytes)) result.push_back(*record.value);
      if (run->next_offset <= at) break;
      at = run->next_offset;
    }
    next_unread = at;
    return result;
  }
  // Every record from log start to log end is there and holds what was appended at its offset.
  void expect_all_there() {
    SCOPED_TRACE("log " + std::to_string(log->log_start().value()) + " to " + std::to_string(log->log_end().value()));
    expect_records(log->log_start(), log->log_end());
  }
  void expect_records(Offset from, Offset to) {
    Offset at = from;
    while (at < to) {
      auto slice = log->read(at, 4096, to);
      ASSERT_TRUE(slice.ok()) << slice.status().to_string();
      auto run = read_slice(*slice);
      ASSERT_TRUE(run.ok()) << run.status().to_string();
      ASSERT_GT(run->next_offset, at);
      for (const RecordBatch& batch : run->batches) {
        int64_t offset = batch.base_offset().value();
        for (const TestRecord& record : records_of(batch.bytes())) {
          std::string expected = "v" + std::to_string(offset++);
          ASSERT_EQ(record.value->substr(0, expected.size()), expected);
        }
      }
      at = run->next_offset;
    }
  }

  sim::World world{42};
  std::unique_ptr<sim::SimDisk> disk_ = std::make_unique<sim::SimDisk>(world.scheduler());
  std::unique_ptr<sim::SimEnv> env_ = world.make_env(*disk_);
  LogConfig config;
  LeaderEpoch epoch{1};
  int64_t timestamp_ms = kTestTimestampMs;
  std::unique_ptr<Log> log;
  int durable_calls = 0;
  Offset next_unread;
};

}  // namespace trilog::testing
