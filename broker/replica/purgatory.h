// Purgatory: where operations wait until a position of a partition is reached, something about it changes, or their
// time is up. An operation is completed exactly once.
//
// All on the shard's thread. One timer of the Env serves all deadlines.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "storage/base/ids.h"
#include "storage/env/env.h"

namespace trilog {

// The three positions of a partition that somebody may wait for.
enum class Watched : uint8_t {
  kHighWatermark,
  kLeaderPosition,  // what the leader alone counts: its durable end, or its log end (rule R2)
  kLogEnd,
};

struct WatchKey {
  TopicPartition partition;
  Watched what = Watched::kHighWatermark;
  auto operator<=>(const WatchKey&) const = default;
};

// The operation is looked at when the position is at or past `at`.
struct Watch {
  WatchKey key;
  Offset at;
};

enum class Ending { kReady, kTimedOut, kCancelled, kStopped };

class DelayedOperation {
 public:
  virtual ~DelayedOperation() = default;
  // Whether it can be answered now, be it with an error. Must not call the purgatory.
  virtual bool ready() = 0;
  // Called exactly once, and the operation is destroyed after it. Posts its answer; must not call the purgatory.
  virtual void complete(Ending ending) = 0;
};

class Purgatory {
 public:
  using OperationId = uint64_t;  // 0 is never handed out

  // Holds at most `operations_max` operations.
  Purgatory(Env& env, size_t operations_max) : env_(env), operations_max_(operations_max) {}

  bool full() const { return operations_.size() >= operations_max_; }
  size_t size() const { return operations_.size(); }

  // Parks an operation that is not ready. CHECKs that there is room. INT64_MAX: no deadline.
  OperationId add(std::unique_ptr<DelayedOperation> operation, std::vector<Watch> watches, int64_t deadline_ns);

  // The position moved: completes those that wait for it and are ready, in the order of what they wait for.
  void reached(const WatchKey& key, Offset position);
  // Something else about the partition changed (leadership, in-sync replicas, a failure): asks all that wait there.
  void recheck(const TopicPartition& partition);
  // An unknown or spent id is ignored.
  void cancel(OperationId id);
  // Completes everything with kStopped, in the order of arrival.
  void stop();

  void check_invariants() const;

 private:
  struct Parked {
    std::unique_ptr<DelayedOperation> operation;
    std::vector<Watch> watches;
    int64_t deadline_ns;
  };
  using Waiting = std::set<std::pair<Offset, OperationId>>;

  void finish(OperationId id, Ending ending);
  void finish_ready(const std::vector<OperationId>& candidates);
  void arm(int64_t deadline_ns);
  void expire();

  Env& env_;
  const size_t operations_max_;
  OperationId next_id_ = 1;
  std::unordered_map<OperationId, Parked> operations_;  // looked up only, never walked
  std::map<WatchKey, Waiting> waiting_;
  std::set<std::pair<int64_t, OperationId>> deadlines_;
  TimerId timer_ = 0;
  int64_t timer_ns_ = INT64_MAX;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trilog
