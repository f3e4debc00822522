#include "tests/sim/sim_env.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "storage/base/check.h"

namespace trilog::sim {
namespace {

constexpr int64_t kWallStartMs = 1'700'000'000'000;  // when the monotonic clock stands at 0
constexpr uint64_t kEventsMax = 10'000'000;

}  // namespace

int64_t SimEnv::SimClock::wall_ms() const { return kWallStartMs + scheduler.now_ns() / 1'000'000 + wall_offset_ms; }

SimEnv::SimEnv(World& world, SimDisk& disk, std::string name)
    : world_(world),
      name_(std::move(name)),
      clock_(world.scheduler()),
      executor_(world.scheduler()),
      files_(disk.make_file_system(executor_)),
      random_(world.random().next()),
      log_(world.make_logger(name_)),
      alive_(std::make_shared<SimEnv*>(this)) {}

SimEnv::~SimEnv() {
  *alive_ = nullptr;
  executor_.stop();
}

void SimEnv::fatal(const Status& why) {
  log_.error("fatal: ", why.to_string());
  if (!fatal_status_.ok()) return;
  fatal_status_ = why;
  if (!on_fatal_) return;
  // The hook is moved out before it runs, because it may destroy this env, which owns it.
  world_.post([alive = alive_, hook = std::move(on_fatal_), why]() mutable {
    if (*alive != nullptr) hook(why);
  });
}

void World::set_log(LogSink sink, LogLevel minimum) {
  log_ = std::move(sink);
  log_minimum_ = minimum;
}

Logger World::make_logger(const std::string& env_name) const {
  if (log_) {
    return Logger([sink = log_, env_name](LogLevel level, std::string_view line) { sink(env_name, level, line); },
                  log_minimum_);
  }
  if (std::getenv("TRILOG_SIM_LOG") == nullptr) return {};
  auto write = [this, env_name](LogLevel level, std::string_view line) {
    std::fprintf(stderr, "%12.6f %s %s: %.*s\n", static_cast<double>(now_ns()) / 1e9, env_name.c_str(),
                 std::string(log_level_name(level)).c_str(), static_cast<int>(line.size()), line.data());
  };
  return Logger(write, LogLevel::kDebug);
}

std::unique_ptr<SimEnv> World::make_env(SimDisk& disk, std::string name) {
  return std::make_unique<SimEnv>(*this, disk, std::move(name));
}

uint64_t World::after(int64_t delay_ns, UniqueFunction<void()> task) {
  return scheduler_.run_at(scheduler_.now_ns() + delay_ns, Scheduler::kWorld, std::move(task));
}

void World::run_until_idle() {
  uint64_t start = scheduler_.executed();
  while (scheduler_.has_due() || scheduler_.has_outstanding()) {
    if (!run_one()) break;
    CHECK_LT(scheduler_.executed() - start, kEventsMax);
  }
}

void World::run_for(int64_t duration_ns) {
  int64_t end = scheduler_.now_ns() + duration_ns;
  while (scheduler_.run_one(end)) {
  }
  scheduler_.advance_to(end);
}

bool World::run_until(const std::function<bool()>& predicate, int64_t timeout_ns) {
  int64_t end = scheduler_.now_ns() + timeout_ns;
  while (!predicate()) {
    if (!scheduler_.run_one(end)) return false;
  }
  return true;
}

}  // namespace trilog::sim
