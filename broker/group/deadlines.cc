#include "broker/group/deadlines.h"

#include <algorithm>

namespace trilog {

Deadlines::Id Deadlines::add(int64_t deadline_ns, UniqueFunction<void()> expired) {
  const Id id{deadline_ns, next_++};
  if (deadline_ns == INT64_MAX) return id;
  entries_.emplace(id, std::move(expired));
  arm();
  return id;
}

void Deadlines::arm() {
  if (entries_.empty() || entries_.begin()->first.first >= timer_ns_) return;
  if (timer_ != 0) env_.executor().cancel(timer_);
  timer_ns_ = entries_.begin()->first.first;
  const int64_t delay_ns = std::max<int64_t>(0, timer_ns_ - env_.clock().monotonic_ns());
  timer_ = env_.executor().schedule_after(delay_ns, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) fire();
  });
}

void Deadlines::fire() {
  timer_ = 0;
  timer_ns_ = INT64_MAX;
  const int64_t now_ns = env_.clock().monotonic_ns();
  while (!entries_.empty() && entries_.begin()->first.first <= now_ns) {
    // Taken out first: it may add and remove others.
    auto due = entries_.extract(entries_.begin());
    due.mapped()();
  }
  arm();
}

}  // namespace trilog
