#include "broker/replica/purgatory.h"

#include <algorithm>

#include "storage/base/check.h"

namespace trilog {

Purgatory::OperationId Purgatory::add(std::unique_ptr<DelayedOperation> operation, std::vector<Watch> watches,
                                      int64_t deadline_ns) {
  CHECK(!full());
  const OperationId id = next_id_++;
  for (const Watch& watch : watches) waiting_[watch.key].emplace(watch.at, id);
  if (deadline_ns != INT64_MAX) {
    deadlines_.emplace(deadline_ns, id);
    if (deadline_ns < timer_ns_) arm(deadline_ns);
  }
  operations_.emplace(id, Parked{std::move(operation), std::move(watches), deadline_ns});
  return id;
}

void Purgatory::reached(const WatchKey& key, Offset position) {
  auto found = waiting_.find(key);
  if (found == waiting_.end()) return;
  std::vector<OperationId> candidates;
  for (const auto& [at, id] : found->second) {
    if (at > position) break;
    candidates.push_back(id);
  }
  finish_ready(candidates);
}

void Purgatory::recheck(const TopicPartition& partition) {
  std::vector<OperationId> candidates;
  auto it = waiting_.lower_bound(WatchKey{partition, Watched::kHighWatermark});
  for (; it != waiting_.end() && it->first.partition == partition; ++it) {
    for (const auto& [at, id] : it->second) candidates.push_back(id);
  }
  finish_ready(candidates);
}

void Purgatory::finish_ready(const std::vector<OperationId>& candidates) {
  for (OperationId id : candidates) {
    // One operation may wait at several places and be gone by the second.
    auto found = operations_.find(id);
    if (found != operations_.end() && found->second.operation->ready()) finish(id, Ending::kReady);
  }
}

void Purgatory::cancel(OperationId id) {
  if (operations_.contains(id)) finish(id, Ending::kCancelled);
}

void Purgatory::stop() {
  std::vector<OperationId> all;
  all.reserve(operations_.size());
  for (const auto& [id, parked] : operations_) all.push_back(id);
  std::sort(all.begin(), all.end());  // not the hash table's order
  for (OperationId id : all) finish(id, Ending::kStopped);
}

void Purgatory::finish(OperationId id, Ending ending) {
  auto node = operations_.extract(id);
  Parked& parked = node.mapped();
  for (const Watch& watch : parked.watches) {
    auto found = waiting_.find(watch.key);
    if (found == waiting_.end()) continue;  // the same place was watched twice
    found->second.erase({watch.at, id});
    if (found->second.empty()) waiting_.erase(found);
  }
  if (parked.deadline_ns != INT64_MAX) deadlines_.erase({parked.deadline_ns, id});
  // The timer stays armed: most operations end long before their time, and it finds out by itself what is due.
  parked.operation->complete(ending);
}

void Purgatory::arm(int64_t deadline_ns) {
  if (timer_ != 0) env_.executor().cancel(timer_);
  timer_ns_ = deadline_ns;
  const int64_t delay_ns = std::max<int64_t>(0, deadline_ns - env_.clock().monotonic_ns());
  timer_ = env_.executor().schedule_after(delay_ns, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    timer_ = 0;
    timer_ns_ = INT64_MAX;
    expire();
  });
}

void Purgatory::expire() {
  const int64_t now_ns = env_.clock().monotonic_ns();
  while (!deadlines_.empty() && deadlines_.begin()->first <= now_ns) {
    finish(deadlines_.begin()->second, Ending::kTimedOut);
  }
  if (!deadlines_.empty()) arm(deadlines_.begin()->first);
}

void Purgatory::check_invariants() const {
  CHECK_LE(operations_.size(), operations_max_);
  size_t watches = 0;
  for (const auto& [key, waiting] : waiting_) {
    CHECK(!waiting.empty());
    watches += waiting.size();
    for (const auto& [at, id] : waiting) CHECK(operations_.contains(id));
  }
  size_t expected_at_most = 0;
  for (const auto& [id, parked] : operations_) expected_at_most += parked.watches.size();
  CHECK_LE(watches, expected_at_most);
  for (const auto& [deadline_ns, id] : deadlines_) CHECK(operations_.contains(id));
  if (!deadlines_.empty()) CHECK_LE(timer_ns_, deadlines_.begin()->first);
}

}  // namespace trilog
