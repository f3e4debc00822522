#include "broker/runtime/shard_pool.h"

#include <sys/random.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <thread>
#include <utility>

#include "broker/runtime/asio_executor.h"
#include "broker/runtime/io_pool.h"
#include "storage/env/posix_file_system.h"

namespace trilog {
namespace {

constexpr int kShardsMax = 64;
constexpr int kFatalExitCode = 70;  // EX_SOFTWARE

int64_t clock_value(clockid_t clock, int64_t units_per_second) {
  timespec now{};
  CHECK_EQ(::clock_gettime(clock, &now), 0);
  return static_cast<int64_t>(now.tv_sec) * units_per_second + now.tv_nsec / (1'000'000'000 / units_per_second);
}

class RealClock final : public Clock {
 public:
  int64_t monotonic_ns() const override { return clock_value(CLOCK_MONOTONIC, 1'000'000'000); }
  int64_t wall_ms() const override { return clock_value(CLOCK_REALTIME, 1'000); }
};

// The kernel's random numbers, fetched in blocks: they become ids that must differ between machines for ever.
class RealRandom final : public Random {
 public:
  uint64_t next() override {
    if (used_ == block_.size()) refill();
    return block_[used_++];
  }

 private:
  void refill() {
    auto* at = reinterpret_cast<char*>(block_.data());
    size_t missing = sizeof block_;
    while (missing > 0) {
      ssize_t got = ::getrandom(at, missing, 0);
      if (got < 0 && errno == EINTR) continue;
      CHECK_GT(got, 0);
      at += got;
      missing -= static_cast<size_t>(got);
    }
    used_ = 0;
  }
  std::array<uint64_t, 16> block_;
  size_t used_ = 16;
};

}  // namespace

int default_shard_count() {
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()) - 1, 1, kShardsMax);
}

struct ShardPool::Impl {
  class Shard final : public Env {
   public:
    explicit Shard(Impl& pool) : pool_(pool), files_(make_posix_file_system(executor_, pool.syncs, pool.loads)) {}
    void start() {
      thread_ = std::thread([this] { executor_.run(); });
    }
    void stop() {
      executor_.stop();
      if (thread_.joinable()) thread_.join();
    }
    Clock& clock() override { return clock_; }
    Executor& executor() override { return executor_; }
    FileSystem& files() override { return *files_; }
    Random& random() override { return random_; }
    const Logger& log() const override { return pool_.options.log; }
    void fatal(const Status& why) override { pool_.options.fatal(why); }

   private:
    Impl& pool_;
    RealClock clock_;
    RealRandom random_;
    AsioExecutor executor_;
    std::unique_ptr<FileSystem> files_;
    std::thread thread_;
  };

  explicit Impl(ShardPoolOptions given)
      : options(std::move(given)),
        syncs({.threads_max = options.io_threads_max}),
        loads({.threads_max = options.io_threads_max}) {
    if (!options.fatal) {
      options.fatal = [log = options.log](const Status& why) {
        log.error("stopping at once, nothing more is acknowledged: ", why.to_string());
        std::_Exit(kFatalExitCode);
      };
    }
  }

  // Destroyed in reverse: the pools first, because their threads post to the shards' executors.
  ShardPoolOptions options;
  std::vector<std::unique_ptr<Shard>> shards;
  IoPool syncs;
  IoPool loads;
};

ShardPool::ShardPool(ShardPoolOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {
  for (int i = 0; i < std::clamp(impl_->options.shards, 1, kShardsMax); ++i) {
    impl_->shards.push_back(std::make_unique<Impl::Shard>(*impl_));
  }
  for (auto& shard : impl_->shards) shard->start();
}

ShardPool::~ShardPool() { stop(); }

std::vector<Env*> ShardPool::envs() {
  std::vector<Env*> envs;
  for (auto& shard : impl_->shards) envs.push_back(shard.get());
  return envs;
}

void ShardPool::stop() {
  for (auto& shard : impl_->shards) shard->stop();
}

}  // namespace trilog
