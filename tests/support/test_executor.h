// An Executor and a SyncRunner with real threads, for tests of code that talks to the real file system: the test's own
// thread is the shard, and blocking work runs on a thread per call.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "storage/base/check.h"
#include "storage/env/env.h"
#include "storage/env/posix_file_system.h"

namespace trilog::testing {

// Timers are not offered: CHECKs when one is wanted.
class TestExecutor : public Executor {
 public:
  void post(UniqueFunction<void()> task) override {
    std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    changed_.notify_one();
  }
  TimerId schedule_after(int64_t, UniqueFunction<void()>) override { UNREACHABLE("no timers here"); }
  void cancel(TimerId) override {}

  // Runs tasks on this thread until the predicate holds; false after half a minute without any.
  bool run_until(const std::function<bool()>& predicate) {
    while (!predicate()) {
      std::unique_lock lock(mutex_);
      if (!changed_.wait_for(lock, std::chrono::seconds(30), [this] { return !tasks_.empty(); })) return false;
      UniqueFunction<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
    }
    return true;
  }
  size_t waiting() {
    std::lock_guard lock(mutex_);
    return tasks_.size();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<UniqueFunction<void()>> tasks_;
};

class ThreadSyncRunner : public SyncRunner {
 public:
  ~ThreadSyncRunner() override {
    for (std::thread& thread : threads_) thread.join();
  }
  void run(UniqueFunction<void()> blocking_work) override {
    threads_.emplace_back([work = std::move(blocking_work)]() mutable { work(); });
  }

 private:
  std::vector<std::thread> threads_;
};

}  // namespace trilog::testing
