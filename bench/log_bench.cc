// The log beside the bare system calls it cannot avoid. Both are timed in turn within each iteration, so that a noisy
// minute hits both alike: the time shown is the log's, `bare` is the rate of the system calls alone, and `share` is how
// much of that rate the log reaches (1 = all).
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <optional>
#include <string>

#include "bench/local_env.h"
#include "storage/log/log.h"
#include "storage/record/record_batch_builder.h"

namespace trilog {
namespace {

using bench::LocalEnv;
using bench::ScratchFolder;

constexpr uint64_t kFileBytes = 128u << 20;  // both sides start a new file after so much
constexpr uint64_t kReadableBytes = 64u << 20;
constexpr uint32_t kReadBytes = 1u << 20;

Bytes make_batch(size_t bytes) {
  RecordBatchBuilder builder;
  const std::string value(1000, 'v');
  do {
    builder.add(1'700'000'000'000, std::nullopt, as_bytes(value));
  } while (builder.size() + 1020 <= bytes);
  return builder.build().value();
}

// Sums two competing times.
class Race {
 public:
  template <typename Function>
  double log(Function function) {
    const double seconds = time(function);
    log_seconds_ += seconds;
    return seconds;
  }
  template <typename Function>
  void bare(Function function) {
    bare_seconds_ += time(function);
  }
  void report(benchmark::State& state, uint64_t bytes) const {
    state.SetBytesProcessed(static_cast<int64_t>(bytes));
    state.counters["bare"] = benchmark::Counter(static_cast<double>(bytes) / bare_seconds_,
                                                benchmark::Counter::kDefaults, benchmark::Counter::kIs1024);
    state.counters["share"] = bare_seconds_ / log_seconds_;
  }

 private:
  template <typename Function>
  static double time(Function& function) {
    const auto begin = std::chrono::steady_clock::now();
    function();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  double log_seconds_ = 0;
  double bare_seconds_ = 0;
};

// A log and a plain file in one scratch folder.
class Contest {
 public:
  explicit Contest(size_t batch_bytes) : batch_(make_batch(batch_bytes)) { restart(); }
  ~Contest() { close(fd_); }
  Contest(const Contest&) = delete;
  Contest& operator=(const Contest&) = delete;

  Log& log() { return *log_; }
  LocalEnv& env() { return env_; }
  int fd() const { return fd_; }
  uint64_t position() const { return position_; }
  const Bytes& batch() const { return batch_; }

  // As the broker does before it appends: the batch gets its place in the log.
  void append_to_log() {
    RecordBatch::set_base_offset(batch_.mutable_view(), log_->log_end());
    RecordBatch::set_leader_epoch(batch_.mutable_view(), LeaderEpoch(1));
    CHECK(log_->append(batch_).ok());
  }
  void sync_log() {
    log_->request_sync();
    env_.drain();
    CHECK_EQ(log_->durable_end(), log_->log_end());
  }
  void append_bare() {
    CHECK_EQ(pwrite(fd_, batch_.data(), batch_.size(), static_cast<off_t>(position_)),
             static_cast<ssize_t>(batch_.size()));
    position_ += batch_.size();
  }
  void sync_bare() { CHECK_EQ(fdatasync(fd_), 0); }

  // New files on both sides once they are full; outside the measured time.
  void restart_if_full() {
    if (position_ + batch_.size() <= kFileBytes) return;
    restart();
  }

 private:
  void restart() {
    if (fd_ >= 0) close(fd_);
    log_.reset();
    env_.drain();
    folder_.emplace();
    const std::string path = folder_->path() + "/bare";
    fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK_GE(fd_, 0);
    position_ = 0;
    PartitionMeta meta;
    meta.topic_id = TopicId(1, 2);
    meta.topic = "bench";
    LogConfig config;
    config.segment_bytes = 2 * kFileBytes;
    log_ = Log::open(env_, folder_->path() + "/log", meta, config, std::nullopt, false).value();
    log_->begin_epoch(LeaderEpoch(1));
    append_to_log();  // makes the files
    append_bare();
  }

  LocalEnv env_;
  std::optional<ScratchFolder> folder_;
  Bytes batch_;
  std::unique_ptr<Log> log_;
  int fd_ = -1;
  uint64_t position_ = 0;
};

void append_beside_pwrite(benchmark::State& state) {
  Contest contest(static_cast<size_t>(state.range(0)));
  Race race;
  uint64_t bytes = 0;
  for (auto _ : state) {
    contest.restart_if_full();
    race.bare([&] { contest.append_bare(); });
    state.SetIterationTime(race.log([&] { contest.append_to_log(); }));
    bytes += contest.batch().size();
  }
  race.report(state, bytes);
}
BENCHMARK(append_beside_pwrite)->Arg(1 << 10)->Arg(16 << 10)->Arg(1 << 20)->UseManualTime();

void synced_append_beside_fdatasync(benchmark::State& state) {
  Contest contest(static_cast<size_t>(state.range(0)));
  contest.sync_log();
  contest.sync_bare();
  Race race;
  uint64_t bytes = 0;
  for (auto _ : state) {
    contest.restart_if_full();
    race.bare([&] {
      contest.append_bare();
      contest.sync_bare();
    });
    state.SetIterationTime(race.log([&] {
      contest.append_to_log();
      contest.sync_log();
    }));
    bytes += contest.batch().size();
  }
  race.report(state, bytes);
}
BENCHMARK(synced_append_beside_fdatasync)->Arg(1 << 10)->Arg(16 << 10)->Arg(1 << 20)->UseManualTime();

// Sequential reading from the page cache, a mebibyte at a time. The log finds the place, reads into new memory and
// checks every batch; bare is pread into memory that is used again.
void read_beside_pread(benchmark::State& state) {
  Contest contest(static_cast<size_t>(state.range(0)));
  while (contest.position() + contest.batch().size() <= kReadableBytes) {
    contest.append_to_log();
    contest.append_bare();
  }
  Race race;
  Bytes buffer(kReadBytes);
  uint64_t bytes = 0;
  Offset next(0);
  for (auto _ : state) {
    if (next == contest.log().log_end()) next = Offset(0);
    uint64_t size = 0;
    uint64_t position = 0;
    state.SetIterationTime(race.log([&] {
      const LogSlice slice = contest.log().read(next, kReadBytes, contest.log().log_end()).value();
      const BatchRun run = read_slice(slice).value();
      size = run.bytes.size();
      position = slice.slice.position;
      next = run.next_offset;
    }));
    buffer.resize_uninitialized(size);
    race.bare([&] {
      CHECK_EQ(pread(contest.fd(), buffer.data(), size, static_cast<off_t>(position)), static_cast<ssize_t>(size));
    });
    bytes += size;
  }
  race.report(state, bytes);
}
BENCHMARK(read_beside_pread)->Arg(1 << 10)->Arg(16 << 10)->Arg(1 << 20)->UseManualTime();

// One small batch from anywhere, as a consumer that starts somewhere or a look-up does.
void seek_beside_pread(benchmark::State& state) {
  Contest contest(1 << 10);
  while (contest.position() + contest.batch().size() <= kReadableBytes) {
    contest.append_to_log();
    contest.append_bare();
  }
  Race race;
  Bytes buffer(contest.batch().size());
  uint64_t bytes = 0;
  const auto records = static_cast<uint64_t>(contest.log().log_end().value());
  for (auto _ : state) {
    const Offset from(static_cast<int64_t>(contest.env().random().next() % records));
    uint64_t position = 0;
    uint64_t size = 0;
    state.SetIterationTime(race.log([&] {
      const LogSlice slice = contest.log().read(from, 1, contest.log().log_end()).value();
      size = read_slice(slice).value().bytes.size();
      position = slice.slice.position;
    }));
    race.bare([&] {
      CHECK_EQ(pread(contest.fd(), buffer.data(), buffer.size(), static_cast<off_t>(position)),
               static_cast<ssize_t>(buffer.size()));
    });
    bytes += size;
  }
  race.report(state, bytes);
}
BENCHMARK(seek_beside_pread)->UseManualTime();

}  // namespace
}  // namespace trilog
