#include "broker/runtime/asio_executor.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

namespace trilog {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;
// A mailbox that grew larger than this in a burst gives its memory back.
constexpr size_t kMailboxKept = 4'096;

SteadyTime after(int64_t delay_ns) {
  SteadyTime now = std::chrono::steady_clock::now();
  std::chrono::nanoseconds delay(delay_ns > 0 ? delay_ns : 0);
  return delay < SteadyTime::max() - now ? now + delay : SteadyTime::max();
}

}  // namespace

struct AsioExecutor::Impl {
  boost::asio::io_context context{1};  // one thread runs it
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> keep_running{context.get_executor()};

  std::mutex mailbox_mutex;
  std::vector<UniqueFunction<void()>> mailbox;
  std::vector<UniqueFunction<void()>> batch;  // the shard's thread only
  bool stopped = false;                       // under mailbox_mutex

  // The shard's thread only. One Asio timer stands for the earliest of all.
  using TimerKey = std::pair<SteadyTime, TimerId>;
  std::map<TimerKey, UniqueFunction<void()>> timers;
  std::unordered_map<TimerId, SteadyTime> times;
  TimerId next_timer = 1;
  boost::asio::steady_timer earliest{context};
  SteadyTime armed_for = SteadyTime::max();

  void drain() {
    {
      std::lock_guard lock(mailbox_mutex);
      batch.swap(mailbox);
    }
    for (UniqueFunction<void()>& task : batch) {
      if (context.stopped()) break;
      task();
      task = nullptr;
    }
    batch.clear();
    if (batch.capacity() > kMailboxKept) std::vector<UniqueFunction<void()>>().swap(batch);
  }

  // Called when the set of timers changed. A cancelled earliest timer leaves its alarm armed: one needless wake-up is
  // cheaper than two system calls for each of the many timeouts that never fire.
  void arm() {
    if (timers.empty() || timers.begin()->first.first >= armed_for) return;
    armed_for = timers.begin()->first.first;
    earliest.expires_at(armed_for);
    earliest.async_wait([this](const boost::system::error_code& error) {
      if (error) return;  // armed anew
      armed_for = SteadyTime::max();
      fire();
      arm();
    });
  }

  void fire() {
    SteadyTime now = std::chrono::steady_clock::now();
    // A task may add timers that are due at once; they wait for the next round, so that posted work gets its turn.
    TimerId first_new = next_timer;
    while (!timers.empty() && !context.stopped()) {
      auto due = timers.begin();
      if (due->first.first > now || due->first.second >= first_new) break;
      UniqueFunction<void()> task = std::move(due->second);
      times.erase(due->first.second);
      timers.erase(due);
      task();
    }
  }
};

AsioExecutor::AsioExecutor() : impl_(std::make_unique<Impl>()) {}

AsioExecutor::~AsioExecutor() {
  // What a destroyed task owns may post or cancel once more, so the tables stay whole while it goes.
  std::vector<UniqueFunction<void()>> tasks;
  {
    std::lock_guard lock(impl_->mailbox_mutex);
    impl_->stopped = true;
    tasks.swap(impl_->mailbox);
  }
  tasks.clear();
  auto timers = std::move(impl_->timers);
  timers.clear();
}

void AsioExecutor::run() { impl_->context.run(); }

void AsioExecutor::stop() {
  {
    std::lock_guard lock(impl_->mailbox_mutex);
    impl_->stopped = true;
  }
  impl_->context.stop();
}

void AsioExecutor::post(UniqueFunction<void()> task) {
  bool wake = false;
  {
    std::lock_guard lock(impl_->mailbox_mutex);
    if (impl_->stopped) return;  // `task` is destroyed with this call, outside the lock
    wake = impl_->mailbox.empty();
    impl_->mailbox.push_back(std::move(task));
  }
  if (wake) boost::asio::post(impl_->context, [impl = impl_.get()] { impl->drain(); });
}

TimerId AsioExecutor::schedule_after(int64_t delay_ns, UniqueFunction<void()> task) {
  SteadyTime when = after(delay_ns);
  TimerId timer = impl_->next_timer++;
  impl_->timers.emplace(std::pair(when, timer), std::move(task));
  impl_->times.emplace(timer, when);
  impl_->arm();
  return timer;
}

void AsioExecutor::cancel(TimerId timer) {
  auto time = impl_->times.find(timer);
  if (time == impl_->times.end()) return;
  auto entry = impl_->timers.find({time->second, timer});
  UniqueFunction<void()> task;
  if (entry != impl_->timers.end()) {
    task = std::move(entry->second);  // destroyed last: it may own what cancels others
    impl_->timers.erase(entry);
  }
  impl_->times.erase(time);
}

}  // namespace trilog
