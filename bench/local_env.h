// An Env on the real machine for measuring one thread: real files and clock, blocking syncs inside the call, callbacks
// when drain() runs. Timers never fire.
#pragma once

#include <stdlib.h>

#include <chrono>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "storage/env/env.h"
#include "storage/env/posix_file_system.h"

namespace trilog::bench {

class LocalEnv : public Env {
 public:
  Clock& clock() override { return clock_; }
  Executor& executor() override { return executor_; }
  FileSystem& files() override { return *files_; }
  Random& random() override { return random_; }
  const Logger& log() const override { return log_; }
  void fatal(const Status& why) override {
    std::fprintf(stderr, "%s\n", why.to_string().c_str());
    std::exit(1);
  }

  // Runs what was posted, and what that posts.
  void drain() {
    while (!executor_.tasks.empty()) {
      UniqueFunction<void()> task = std::move(executor_.tasks.front());
      executor_.tasks.pop_front();
      task();
    }
  }

 private:
  struct RealClock : Clock {
    int64_t monotonic_ns() const override {
      return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
    }
    int64_t wall_ms() const override {
      auto now = std::chrono::system_clock::now().time_since_epoch();
      return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
    }
  };
  struct Queue : Executor {
    void post(UniqueFunction<void()> task) override { tasks.push_back(std::move(task)); }
    TimerId schedule_after(int64_t, UniqueFunction<void()>) override { return ++timers; }
    void cancel(TimerId) override {}
    std::deque<UniqueFunction<void()>> tasks;
    TimerId timers = 0;
  };
  struct SeededRandom : Random {
    uint64_t next() override { return engine(); }
    std::mt19937_64 engine{1};
  };
  struct InlineRunner : SyncRunner {
    void run(UniqueFunction<void()> blocking_work) override { blocking_work(); }
  };

  RealClock clock_;
  Queue executor_;
  SeededRandom random_;
  InlineRunner runner_;
  Logger log_;
  std::unique_ptr<FileSystem> files_ = make_posix_file_system(executor_, runner_, runner_);
};

// A folder in the working directory that goes away with this object.
class ScratchFolder {
 public:
  ScratchFolder() {
    if (mkdtemp(path_.data()) == nullptr) {
      std::perror(path_.c_str());
      std::exit(1);
    }
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_ = "storage_bench-XXXXXX";
};

}  // namespace trilog::bench
