// Deadlines: what is to happen at a time unless it is taken back first. One timer of the Env for all.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "storage/env/env.h"

namespace trilog {

class Deadlines {
 public:
  using Id = std::pair<int64_t, uint64_t>;

  explicit Deadlines(Env& env) : env_(env) {}

  // `expired` runs at the time on the shard's thread, unless removed before. INT64_MAX: never; not even remembered.
  Id add(int64_t deadline_ns, UniqueFunction<void()> expired);
  // A spent id is ignored.
  void remove(const Id& id) { entries_.erase(id); }
  size_t size() const { return entries_.size(); }

 private:
  void arm();
  void fire();

  Env& env_;
  uint64_t next_ = 1;
  std::map<Id, UniqueFunction<void()>> entries_;
  TimerId timer_ = 0;
  int64_t timer_ns_ = INT64_MAX;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trilog
