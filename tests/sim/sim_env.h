// A simulated world for tests: virtual time, shards and disks, all from one seed.
//
//   sim::World world(seed);
//   sim::SimDisk disk(world.scheduler());
//   auto env = world.make_env(disk);                  // one shard: clock, executor, files, randomness
//   log->append(..., [&](Status s) { acknowledged = s.ok(); });
//   world.run_until_idle();                           // or run_for(ns), run_until(predicate)
//   env.reset();                                      // kill -9: its tasks die, the disk keeps its cache
//   disk.power_cut();                                 // and now the cache is gone too
//   env = world.make_env(disk);                       // start again
//
// With the environment variable TRILOG_SIM_LOG set, log lines go to standard error with the virtual time; set_log()
// gives them to the program.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "storage/env/env.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_executor.h"

namespace trilog::sim {

class World;

// One shard's Env. Destroying it is what kill -9 does to a shard: tasks and callbacks are destroyed, not run. Destroy
// it before the objects that its queued tasks refer to, and never from one of its own tasks (use World::post).
class SimEnv : public Env {
 public:
  SimEnv(World& world, SimDisk& disk, std::string name);
  ~SimEnv() override;

  Clock& clock() override { return clock_; }
  Executor& executor() override { return executor_; }
  FileSystem& files() override { return *files_; }
  Random& random() override { return random_; }
  const Logger& log() const override { return log_; }
  // Recorded; then the hook runs as an event of the world, at the same virtual time.
  void fatal(const Status& why) override;

  // The first fatal() status, or ok.
  const Status& fatal_status() const { return fatal_status_; }
  // Runs at most once. A test crashes its node here; the env may be destroyed inside.
  void on_fatal(UniqueFunction<void(const Status&)> hook) { on_fatal_ = std::move(hook); }
  // Stops this shard's clockwork without destroying it: due and later tasks are destroyed.
  void stop() { executor_.stop(); }
  // SIGSTOP and SIGCONT: nothing runs here meanwhile; what became due comes late.
  void pause() { executor_.pause(); }
  void resume() { executor_.resume(); }
  // A jump of the wall clock, kept until the next call (fault F14); monotonic time goes on.
  void set_wall_offset_ms(int64_t offset) { clock_.wall_offset_ms = offset; }
  const std::string& name() const { return name_; }

 private:
  struct SimClock : Clock {
    explicit SimClock(const Scheduler& from) : scheduler(from) {}
    int64_t monotonic_ns() const override { return scheduler.now_ns(); }
    int64_t wall_ms() const override;
    const Scheduler& scheduler;
    int64_t wall_offset_ms = 0;
  };

  World& world_;
  const std::string name_;
  SimClock clock_;
  SimExecutor executor_;
  std::unique_ptr<FileSystem> files_;
  SeededRandom random_;
  Logger log_;
  Status fatal_status_;
  UniqueFunction<void(const Status&)> on_fatal_;
  const std::shared_ptr<SimEnv*> alive_;  // null inside once this is gone
};

class World {
 public:
  explicit World(uint64_t seed) : seed_(seed), scheduler_(seed) {}

  // `disk` must outlive the env. Several envs may share one disk: the shards of one node.
  std::unique_ptr<SimEnv> make_env(SimDisk& disk, std::string name = "shard");

  // Of every env made from now on: its log lines from `minimum` on.
  using LogSink = std::function<void(const std::string& env, LogLevel level, std::string_view line)>;
  void set_log(LogSink sink, LogLevel minimum = LogLevel::kInfo);
  Logger make_logger(const std::string& env_name) const;

  uint64_t seed() const { return seed_; }
  Scheduler& scheduler() { return scheduler_; }
  SeededRandom& random() { return scheduler_.random(); }
  int64_t now_ns() const { return scheduler_.now_ns(); }
  // Events of the world itself: faults, the network, the test's own steps.
  void post(UniqueFunction<void()> task) { after(0, std::move(task)); }
  uint64_t after(int64_t delay_ns, UniqueFunction<void()> task);

  // Runs the next event, moving the clock if need be; false if there is none at all.
  bool run_one() { return scheduler_.run_one(INT64_MAX); }
  // Until nothing is due and no disk work is under way (except held syncs). The clock moves only as far as that work
  // takes; later timers stay. CHECKs that it ends within ten million events.
  void run_until_idle();
  // Everything within the next `duration_ns`; the clock then stands exactly there.
  void run_for(int64_t duration_ns);
  // Until the predicate holds; false if it still does not after `timeout_ns` of virtual time, or when nothing is left.
  bool run_until(const std::function<bool()>& predicate, int64_t timeout_ns = 60'000'000'000);
  // Of every executed event and every disk operation so far: equal for equal seeds and programs.
  uint64_t trace_hash() const { return scheduler_.trace_hash(); }

 private:
  const uint64_t seed_;
  Scheduler scheduler_;
  LogSink log_;
  LogLevel log_minimum_ = LogLevel::kInfo;
};

}  // namespace trilog::sim
