#include "broker/runtime/io_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <latch>
#include <vector>

namespace trilog {
namespace {

TEST(IoPool, StartsNoThreadBeforeThereIsWork) {
  IoPool pool;
  EXPECT_EQ(pool.threads(), 0u);
}

TEST(IoPool, RunsBlockingWorkSideBySideUpToItsLimit) {
  IoPool pool({.threads_max = 8, .idle_ms = 5'000});
  std::latch all_inside(8);
  std::promise<void> done;
  std::atomic<int> left = 8;
  for (int i = 0; i < 8; ++i) {
    pool.run([&] {
      all_inside.arrive_and_wait();  // only possible if all eight are blocked at once
      if (--left == 0) done.set_value();
    });
  }
  EXPECT_EQ(done.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
  EXPECT_LE(pool.threads(), 8u);
}

TEST(IoPool, QueuesWhatIsBeyondItsThreadsAndRunsItInOrder) {
  IoPool pool({.threads_max = 1, .idle_ms = 5'000});
  std::promise<void> gate;
  std::vector<int> order;
  std::promise<void> done;
  pool.run([&] { gate.get_future().wait(); });
  for (int i = 0; i < 100; ++i) pool.run([&order, i] { order.push_back(i); });
  pool.run([&] { done.set_value(); });
  gate.set_value();
  done.get_future().wait();
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[i], i);
  EXPECT_EQ(pool.threads(), 1u);
}

TEST(IoPool, KeepsOneThreadWhenItHasNothingToDoForLong) {
  IoPool pool({.threads_max = 4, .idle_ms = 0});
  std::latch all_inside(4);
  for (int i = 0; i < 4; ++i) pool.run([&] { all_inside.arrive_and_wait(); });
  all_inside.wait();
  // Each further task may end idle threads; with no idle time allowed the pool comes down to the last one.
  while (pool.threads() > 1) {
    std::promise<void> ran;
    pool.run([&] { ran.set_value(); });
    ran.get_future().wait();
  }
  std::promise<void> ran;
  pool.run([&] { ran.set_value(); });
  EXPECT_EQ(ran.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
}

TEST(IoPool, FinishesWhatWasHandedInBeforeItGoes) {
  std::atomic<int> ran = 0;
  {
    IoPool pool({.threads_max = 2, .idle_ms = 5'000});
    for (int i = 0; i < 1'000; ++i) pool.run([&] { ++ran; });
  }
  EXPECT_EQ(ran, 1'000);
}

}  // namespace
}  // namespace trilog
