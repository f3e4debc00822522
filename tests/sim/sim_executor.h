// Virtual time: one clock and one heap of events for a whole simulated world, and an Executor per shard on top of it.
//
// A shard runs its due tasks in the order they came; which shard goes next is drawn from the seed. So one seed is one
// interleaving, and the same seed gives the same one again: every executed event is folded into a trace hash.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <queue>
#include <vector>

#include "storage/env/env.h"

namespace trilog::sim {

// SplitMix64 (Steele, Lea, Flood 2014): small, fast, and good enough for drawing faults.
class SeededRandom : public Random {
 public:
  explicit SeededRandom(uint64_t seed) : state_(seed) {}
  uint64_t next() override;
  uint64_t below(uint64_t bound) { return bound == 0 ? 0 : next() % bound; }
  bool chance(uint32_t percent) { return below(100) < percent; }

 private:
  uint64_t state_;
};

class Scheduler {
 public:
  // 0 is the world itself (disk, network, test); shards get 1, 2, ….
  using Owner = uint32_t;
  static constexpr Owner kWorld = 0;

  explicit Scheduler(uint64_t seed) : random_(seed) {}
  int64_t now_ns() const { return now_ns_; }
  SeededRandom& random() { return random_; }

  Owner add_owner();
  // Its events are destroyed, now and from now on.
  void stop(Owner owner);
  // Its events wait, and come in the same order after resume(), however late.
  void pause(Owner owner);
  void resume(Owner owner);

  // Returns the event's number, for cancel(). A time that has passed means now.
  uint64_t run_at(int64_t time_ns, Owner owner, UniqueFunction<void()> task);
  void cancel(Owner owner, uint64_t event);
  // Work of the outside world that is under way, such as a disk sync: run_until_idle() waits for it.
  void add_outstanding(int delta) { outstanding_ += delta; }

  // Runs the next event, if there is one due no later than `until_ns`; moves the clock to it.
  bool run_one(int64_t until_ns);
  bool has_due();  // something can run without moving the clock
  bool has_outstanding() const { return outstanding_ > 0; }
  void advance_to(int64_t time_ns) { now_ns_ = time_ns > now_ns_ ? time_ns : now_ns_; }

  void fold(uint64_t value);
  uint64_t trace_hash() const { return trace_hash_; }
  uint64_t executed() const { return executed_; }

 private:
  struct Event {
    int64_t time_ns;
    uint64_t number;
    Owner owner;
  };
  struct Later {
    bool operator()(const Event& a, const Event& b) const {
      return a.time_ns != b.time_ns ? a.time_ns > b.time_ns : a.number > b.number;
    }
  };
  struct Queue {
    bool stopped = false;
    bool paused = false;
    std::deque<uint64_t> due;                          // numbers, in the order they became due
    std::map<uint64_t, UniqueFunction<void()>> tasks;  // due and future; without those cancelled
  };

  void make_due(const Event& event);

  SeededRandom random_;
  int64_t now_ns_ = 1'000'000'000'000;  // not zero, so that a forgotten "last time" shows
  uint64_t next_number_ = 1;
  uint64_t trace_hash_ = 0;
  uint64_t executed_ = 0;
  int outstanding_ = 0;
  std::priority_queue<Event, std::vector<Event>, Later> future_;
  std::deque<Queue> queues_ = std::deque<Queue>(1);
  std::vector<Owner> ready_;  // owners with due events, in the order of becoming so
};

// The Executor of one shard. Destroying or stopping it destroys its tasks without running them.
class SimExecutor : public Executor {
 public:
  explicit SimExecutor(Scheduler& scheduler) : scheduler_(scheduler), owner_(scheduler.add_owner()) {}
  ~SimExecutor() override { stop(); }
  void stop() { scheduler_.stop(owner_); }
  void pause() { scheduler_.pause(owner_); }
  void resume() { scheduler_.resume(owner_); }

  void post(UniqueFunction<void()> task) override;
  TimerId schedule_after(int64_t delay_ns, UniqueFunction<void()> task) override;
  void cancel(TimerId timer) override { scheduler_.cancel(owner_, timer); }
  Scheduler::Owner owner() const { return owner_; }

 private:
  Scheduler& scheduler_;
  const Scheduler::Owner owner_;
};

}  // namespace trilog::sim
