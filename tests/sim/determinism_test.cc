// One seed is one run: the same tasks in the same order at the same virtual times, and the same trace hash.
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/sim_env.h"

namespace trilog::sim {
namespace {

// Three shards post to each other, set timers, write and sync, with random decisions.
uint64_t busy_run(uint64_t seed, std::string* order = nullptr) {
  World world(seed);
  SimDisk disk(world.scheduler());
  std::vector<std::unique_ptr<SimEnv>> envs;
  std::vector<std::unique_ptr<File>> open_files;
  for (int i = 0; i < 3; ++i) {
    envs.push_back(world.make_env(disk, "shard " + std::to_string(i)));
    open_files.push_back(envs.back()->files().open("f" + std::to_string(i), OpenMode::kCreate).value());
  }
  std::function<void(size_t, int)> work = [&](size_t shard, int left) {
    if (order != nullptr) *order += static_cast<char>('a' + shard);
    if (left == 0) return;
    Env& env = *envs[shard];
    auto next = static_cast<size_t>(env.random().next() % 3);
    envs[next]->executor().post([&work, next, left] { work(next, left - 1); });
    if (left % 3 != 0) return;
    auto delay = static_cast<int64_t>(env.random().next() % 1000);
    env.executor().schedule_after(delay, [&work, shard, left] { work(shard, left - 2); });
    EXPECT_TRUE(open_files[shard]->write_at(static_cast<uint64_t>(left), as_bytes("x")).ok());
    open_files[shard]->sync([&work, shard, left](const Status&) { work(shard, left - 3); });
  };
  for (size_t shard = 0; shard < 3; ++shard) {
    envs[shard]->executor().post([&work, shard] { work(shard, 12); });
  }
  world.run_until_idle();
  world.run_for(1'000'000'000);
  envs.clear();
  disk.power_cut();
  return world.trace_hash();
}

TEST(Determinism, TheSameSeedGivesTheSameTrace) {
  for (uint64_t seed = 1; seed < 30; ++seed) {
    std::string first;
    std::string second;
    EXPECT_EQ(busy_run(seed, &first), busy_run(seed, &second)) << seed;
    EXPECT_EQ(first, second);
  }
}

TEST(Determinism, DifferentSeedsGiveDifferentInterleavings) {
  std::set<uint64_t> hashes;
  std::set<std::string> orders;
  for (uint64_t seed = 1; seed < 30; ++seed) {
    std::string order;
    hashes.insert(busy_run(seed, &order));
    orders.insert(order);
  }
  EXPECT_EQ(hashes.size(), 29u);
  EXPECT_GT(orders.size(), 20u);
}

class WorldTest : public ::testing::Test {
 protected:
  Executor& executor() { return env_->executor(); }
  UniqueFunction<void()> note(char c) {
    return [this, c] { notes_ += c; };
  }
  World world_{1};
  SimDisk disk_{world_.scheduler()};
  std::unique_ptr<SimEnv> env_ = world_.make_env(disk_);
  std::string notes_;
};

TEST_F(WorldTest, AShardRunsItsTasksInTheOrderTheyCame) {
  for (char c = 'a'; c <= 'z'; ++c) executor().post(note(c));
  EXPECT_EQ(notes_, "") << "nothing runs inside post()";
  world_.run_until_idle();
  EXPECT_EQ(notes_, "abcdefghijklmnopqrstuvwxyz");
}

TEST_F(WorldTest, TimersRunInTimeOrderAndIdleDoesNotWaitForThem) {
  executor().schedule_after(30, note('c'));
  executor().schedule_after(10, note('a'));
  executor().schedule_after(20, note('b'));
  world_.run_until_idle();
  EXPECT_EQ(notes_, "");
  world_.run_for(20);
  EXPECT_EQ(notes_, "ab");
  EXPECT_TRUE(world_.run_until([&] { return notes_.size() == 3; }));
  EXPECT_FALSE(world_.run_until([] { return false; }));
}

TEST_F(WorldTest, ACancelledTimerDoesNotRunEvenIfItsTimeHasCome) {
  TimerId late = executor().schedule_after(10, note('x'));
  TimerId due = executor().schedule_after(5, note('y'));
  executor().schedule_after(5, note('a'));
  world_.after(5, [&] { executor().cancel(due); });
  // The world's event and the shard's are due together; whichever goes first, the rest must hold.
  executor().cancel(late);
  executor().cancel(late);
  executor().cancel(0);
  executor().cancel(12345);
  world_.run_for(100);
  EXPECT_TRUE(notes_ == "a" || notes_ == "ya") << notes_;
}

TEST_F(WorldTest, ATaskDueInTheSameInstantCanStillBeCancelled) {
  TimerId second = 0;
  executor().schedule_after(5, [&] { executor().cancel(second); });
  second = executor().schedule_after(5, note('x'));
  world_.run_for(100);
  EXPECT_EQ(notes_, "");
}

TEST_F(WorldTest, DestroyingAShardDestroysItsTasksUnrun) {
  auto owned = std::make_shared<int>(1);
  executor().post([owned] { FAIL(); });
  executor().schedule_after(5, [owned] { FAIL(); });
  EXPECT_EQ(owned.use_count(), 3);
  env_.reset();
  EXPECT_EQ(owned.use_count(), 1);
  world_.run_for(100);
}

TEST_F(WorldTest, PostingToAStoppedShardDestroysTheTask) {
  auto owned = std::make_shared<int>(1);
  env_->stop();
  executor().post([owned] { FAIL(); });
  EXPECT_EQ(owned.use_count(), 1);
  world_.run_until_idle();
}

TEST_F(WorldTest, FatalIsRecordedAndItsHookMayDestroyTheShard) {
  int calls = 0;
  env_->on_fatal([&](const Status& why) {
    EXPECT_EQ(why.message(), "sync failed");
    ++calls;
    env_.reset();
  });
  executor().post([&] {
    env_->fatal(Status(Errc::kIo, "sync failed"));
    env_->fatal(Status(Errc::kIo, "another"));
    EXPECT_EQ(env_->fatal_status().message(), "sync failed");
    EXPECT_EQ(calls, 0) << "the hook does not run inside fatal()";
  });
  world_.run_until_idle();
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(env_, nullptr);
}

TEST_F(WorldTest, TheWallClockMayJumpWhileMonotonicTimeGoesOn) {
  int64_t wall = env_->clock().wall_ms();
  int64_t monotonic = env_->clock().monotonic_ns();
  env_->set_wall_offset_ms(-3'600'000);
  world_.run_for(5'000'000);
  EXPECT_EQ(env_->clock().wall_ms(), wall - 3'600'000 + 5);
  EXPECT_EQ(env_->clock().monotonic_ns(), monotonic + 5'000'000);
}

}  // namespace
}  // namespace trilog::sim
