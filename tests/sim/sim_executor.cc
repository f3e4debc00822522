#include "tests/sim/sim_executor.h"

#include <algorithm>
#include <utility>

namespace trilog::sim {

uint64_t SeededRandom::next() {
  state_ += 0x9e3779b97f4a7c15;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

Scheduler::Owner Scheduler::add_owner() {
  queues_.emplace_back();
  return static_cast<Owner>(queues_.size() - 1);
}

void Scheduler::stop(Owner owner) {
  Queue& queue = queues_[owner];
  queue.stopped = true;
  std::erase(ready_, owner);
  queue.due.clear();
  // A task's destructor may call back into this scheduler, so the tasks leave its tables before they die.
  std::map<uint64_t, UniqueFunction<void()>> dead = std::exchange(queue.tasks, {});
}

void Scheduler::pause(Owner owner) {
  queues_[owner].paused = true;
  std::erase(ready_, owner);
}

void Scheduler::resume(Owner owner) {
  if (!std::exchange(queues_[owner].paused, false)) return;
  if (!queues_[owner].due.empty()) ready_.push_back(owner);
}

uint64_t Scheduler::run_at(int64_t time_ns, Owner owner, UniqueFunction<void()> task) {
  Event event{std::max(time_ns, now_ns_), next_number_++, owner};
  if (queues_[owner].stopped) return event.number;  // the task dies here
  queues_[owner].tasks.emplace(event.number, std::move(task));
  if (event.time_ns == now_ns_) {
    make_due(event);
  } else {
    future_.push(event);
  }
  return event.number;
}

void Scheduler::cancel(Owner owner, uint64_t event) {
  // Its place in the queue stays and is skipped when its turn comes.
  auto task = queues_[owner].tasks.extract(event);
}

void Scheduler::make_due(const Event& event) {
  Queue& queue = queues_[event.owner];
  if (queue.stopped) return;
  if (queue.due.empty() && !queue.paused) ready_.push_back(event.owner);
  queue.due.push_back(event.number);
}

bool Scheduler::has_due() {
  while (!future_.empty() && future_.top().time_ns <= now_ns_) {
    make_due(future_.top());
    future_.pop();
  }
  return !ready_.empty();
}

bool Scheduler::run_one(int64_t until_ns) {
  while (true) {
    if (!has_due()) {
      if (future_.empty() || future_.top().time_ns > until_ns) return false;
      now_ns_ = future_.top().time_ns;
      continue;
    }
    size_t choice = ready_.size() == 1 ? 0 : static_cast<size_t>(random_.below(ready_.size()));
    Owner owner = ready_[choice];
    Queue& queue = queues_[owner];
    uint64_t number = queue.due.front();
    queue.due.pop_front();
    if (queue.due.empty()) ready_.erase(ready_.begin() + static_cast<ptrdiff_t>(choice));
    auto entry = queue.tasks.extract(number);
    if (entry.empty()) continue;  // was cancelled
    fold(static_cast<uint64_t>(now_ns_));
    fold(number << 16 | owner);
    ++executed_;
    entry.mapped()();
    return true;
  }
}

void Scheduler::fold(uint64_t value) {
  // A step of SplitMix64's mixing, keyed by what came before: order matters.
  uint64_t z = trace_hash_ * 0x9e3779b97f4a7c15 + value + 1;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  trace_hash_ = z ^ (z >> 27);
}

void SimExecutor::post(UniqueFunction<void()> task) { scheduler_.run_at(scheduler_.now_ns(), owner_, std::move(task)); }

TimerId SimExecutor::schedule_after(int64_t delay_ns, UniqueFunction<void()> task) {
  return scheduler_.run_at(scheduler_.now_ns() + std::max<int64_t>(delay_ns, 0), owner_, std::move(task));
}

}  // namespace trilog::sim
