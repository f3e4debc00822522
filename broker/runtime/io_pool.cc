#include "broker/runtime/io_pool.h"

#include <chrono>
#include <system_error>
#include <utility>

namespace trilog {

IoPool::~IoPool() {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  wake_.notify_all();
  while (!threads_.empty()) {
    // Each thread moves itself to ended_ when the queue is empty.
    wake_.wait(lock, [this] { return !ended_.empty() || threads_.empty(); });
    join_ended(lock);
  }
  join_ended(lock);
}

void IoPool::run(UniqueFunction<void()> blocking_work) {
  std::unique_lock lock(mutex_);
  queue_.push_back(std::move(blocking_work));
  // Whoever is idle may already be called for by an earlier entry of the queue.
  if (queue_.size() <= idle_ || threads_.size() >= options_.threads_max || !start_thread()) wake_.notify_one();
  if (threads_.empty()) {
    // The system gives us no thread at all: slow is better than never.
    UniqueFunction<void()> inline_work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    inline_work();
    return;
  }
  join_ended(lock);
}

bool IoPool::start_thread() {
  auto self = threads_.emplace(threads_.end());
  try {
    *self = std::thread([this, self] { work(self); });
    return true;
  } catch (const std::system_error&) {
    threads_.erase(self);
    return false;
  }
}

size_t IoPool::threads() const {
  std::lock_guard lock(mutex_);
  return threads_.size();
}

void IoPool::work(Threads::iterator self) {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (queue_.empty()) {
      if (stopping_) break;
      ++idle_;
      bool called = wake_.wait_for(lock, std::chrono::milliseconds(options_.idle_ms),
                                   [this] { return !queue_.empty() || stopping_; });
      --idle_;
      if (called) continue;
      if (threads_.size() > 1) break;
      // The last one stays, and need not look at the time any more.
      ++idle_;
      wake_.wait(lock, [this] { return !queue_.empty() || stopping_; });
      --idle_;
      continue;
    }
    UniqueFunction<void()> next = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    next();
    next = nullptr;  // what it owns goes before the lock is taken
    lock.lock();
  }
  ended_.splice(ended_.end(), threads_, self);
  if (stopping_) wake_.notify_all();
}

void IoPool::join_ended(std::unique_lock<std::mutex>& lock) {
  if (ended_.empty()) return;
  Threads ended;
  ended.splice(ended.end(), ended_);
  lock.unlock();
  for (std::thread& thread : ended) thread.join();
  lock.lock();
}

}  // namespace trilog
