#include "bench/limit_support.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>

#include "storage/record/record_batch_builder.h"

namespace trilog::bench {

void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

LimitOptions parse_options(int argc, char** argv, const char* program) {
  LimitOptions options;
  const std::map<std::string, std::function<void(double)>> numbers = {
      {"--total-mb", [&](double value) { options.total_bytes = static_cast<size_t>(value * 1048576); }},
      {"--batch-kb", [&](double value) { options.batch_bytes = static_cast<size_t>(value * 1024); }},
      {"--record-bytes", [&](double value) { options.record_bytes = static_cast<size_t>(value); }},
      {"--window", [&](double value) { options.window = static_cast<int>(value); }},
      {"--replicas", [&](double value) { options.replicas = static_cast<int>(value); }},
      {"--unsynced-mb", [&](double value) { options.unsynced_bytes = static_cast<size_t>(value * 1048576); }},
      {"--rounds", [&](double value) { options.rounds = static_cast<int>(value); }},
      {"--seconds", [&](double value) { options.seconds = value; }},
  };
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const auto number = numbers.find(name);
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (name == "--sync") {
      options.sync = true;
    } else if (name == "--json") {
      options.json = true;
    } else if (name == "--server" && value != nullptr) {
      options.server = value;
      ++i;
    } else if (name == "--topic" && value != nullptr) {
      options.topic = value;
      ++i;
    } else if (name == "--directory" && value != nullptr) {
      options.directory = value;
      ++i;
    } else if (number != numbers.end() && value != nullptr && std::atof(value) > 0) {
      number->second(std::atof(value));
      ++i;
    } else {
      std::fprintf(stderr,
                   "usage: %s [--directory DIR] [--total-mb N] [--batch-kb N] [--record-bytes N] [--window N] "
                   "[--replicas N] [--unsynced-mb N] [--rounds N] [--seconds S] [--server HOST:PORT] [--topic NAME] "
                   "[--sync] [--json]\n",
                   program);
      std::exit(2);
    }
  }
  return options;
}

Bytes make_limit_batch(const LimitOptions& options) {
  // Of now, so that no retention finds it old.
  const int64_t now_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  std::mt19937_64 random(1);
  Bytes value(options.record_bytes);
  for (size_t i = 0; i < value.size(); ++i) value.data()[i] = static_cast<std::byte>(random());
  RecordBatchBuilder builder;
  builder.reserve(options.batch_bytes);
  const size_t record = RecordBatchBuilder::record_size_bound(std::nullopt, value, {});
  do {
    builder.add(now_ms, std::nullopt, value);
  } while (builder.size() + record <= options.batch_bytes);
  return builder.build().value();
}

ScratchFile::ScratchFile(const std::string& directory) : folder_(directory + "/limit-XXXXXX") {
  if (mkdtemp(folder_.data()) == nullptr) die(folder_.c_str());
  fd_ = open((folder_ + "/log").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd_ < 0) die("open");
}

ScratchFile::~ScratchFile() {
  close(fd_);
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void ScratchFile::clear() {
  if (ftruncate(fd_, 0) != 0) die("ftruncate");
}

void write_at(int fd, ByteView bytes, uint64_t position) {
  while (!bytes.empty()) {
    ssize_t written = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(position));
    if (written < 0 && errno != EINTR) die("pwrite");
    if (written < 0) continue;
    bytes = bytes.subspan(static_cast<size_t>(written));
    position += static_cast<uint64_t>(written);
  }
}

GroupSync::GroupSync(int fd, std::function<void(uint64_t)> on_synced)
    : fd_(fd), on_synced_(std::move(on_synced)), thread_([this] { run(); }) {}

GroupSync::~GroupSync() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void GroupSync::written(uint64_t count) {
  {
    std::lock_guard lock(mutex_);
    written_ = std::max(written_, count);
  }
  changed_.notify_one();
}

void GroupSync::run() {
  uint64_t synced = 0;
  for (;;) {
    uint64_t upto;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return written_ > synced || stopping_; });
      upto = written_;
    }
    if (upto == synced) return;
    if (fdatasync(fd_) != 0) die("fdatasync");
    synced = upto;
    on_synced_(synced);
  }
}

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void print(const LimitOptions& options, Figure figure) {
  std::vector<double>& us = figure.latencies_us;
  std::sort(us.begin(), us.end());
  auto quantile = [&](double q) {
    return us.empty() ? 0 : us[std::min(us.size() - 1, static_cast<size_t>(q * static_cast<double>(us.size())))];
  };
  const double mb_per_second = static_cast<double>(figure.bytes) / figure.seconds / 1e6;
  const double per_second = static_cast<double>(figure.operations) / figure.seconds;
  const char* durability = options.sync ? "synced" : "page cache";
  const char* format = options.json
                           ? "{\"name\":\"%s\",\"durability\":\"%s\",\"mb_per_second\":%.1f,\"per_second\":%.0f,"
                             "\"latency_us\":{\"p50\":%.0f,\"p99\":%.0f,\"max\":%.0f}}\n"
                           : "%-28s %-10s %8.1f MB/s %9.0f acknowledged/s   p50 %6.0f us  p99 %6.0f us  max %6.0f us\n";
  std::printf(format, figure.name.c_str(), durability, mb_per_second, per_second, quantile(0.5), quantile(0.99),
              us.empty() ? 0 : us.back());
  std::fflush(stdout);
}

}  // namespace trilog::bench
