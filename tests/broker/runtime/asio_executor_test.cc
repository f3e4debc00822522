#include "broker/runtime/asio_executor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <thread>
#include <vector>

namespace trilog {
namespace {

constexpr int64_t kMs = 1'000'000;

// An executor with its thread, and a way to run something there and wait for it.
class Loop {
 public:
  Loop() : thread_([this] { executor.run(); }) {}
  ~Loop() { end(); }
  void end() {
    executor.stop();
    if (thread_.joinable()) thread_.join();
  }
  template <typename F>
  void on_thread(F work) {
    std::promise<void> done;
    executor.post([&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }
  AsioExecutor executor;

 private:
  std::thread thread_;
};

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

TEST(AsioExecutor, RunsTheTasksOfEveryPosterInTheirOrderOnOneThread) {
  Loop loop;
  constexpr int kPosters = 4;
  constexpr int kTasks = 5'000;
  std::vector<std::vector<int>> seen(kPosters);  // written on the loop's thread only
  std::vector<std::thread> posters;
  for (int poster = 0; poster < kPosters; ++poster) {
    posters.emplace_back([&, poster] {
      for (int i = 0; i < kTasks; ++i) loop.executor.post([&seen, poster, i] { seen[poster].push_back(i); });
    });
  }
  for (auto& poster : posters) poster.join();
  loop.on_thread([] {});
  for (const auto& order : seen) {
    ASSERT_EQ(order.size(), static_cast<size_t>(kTasks));
    for (int i = 0; i < kTasks; ++i) ASSERT_EQ(order[i], i);
  }
}

TEST(AsioExecutor, NeverRunsATaskInsideThePostThatBroughtIt) {
  Loop loop;
  std::vector<int> order;
  loop.on_thread([&] {
    loop.executor.post([&] { order.push_back(2); });
    order.push_back(1);
  });
  loop.on_thread([] {});
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(AsioExecutor, FiresTimersInTheOrderOfTheirTimesAndNotEarly) {
  Loop loop;
  std::vector<int> order;
  std::promise<void> last;
  int64_t start = now_ns();
  int64_t end = 0;
  loop.on_thread([&] {
    loop.executor.schedule_after(30 * kMs, [&] {
      order.push_back(30);
      end = now_ns();
      last.set_value();
    });
    loop.executor.schedule_after(10 * kMs, [&] { order.push_back(10); });
    loop.executor.schedule_after(20 * kMs, [&] { order.push_back(20); });
    loop.executor.schedule_after(-5, [&] { order.push_back(0); });
  });
  last.get_future().wait();
  EXPECT_EQ(order, (std::vector<int>{0, 10, 20, 30}));
  EXPECT_GE(end - start, 30 * kMs);
}

TEST(AsioExecutor, FiresTimersOfOneTimeInTheOrderTheyWereMade) {
  Loop loop;
  std::vector<int> order;
  std::promise<void> last;
  loop.on_thread([&] {
    for (int i = 0; i < 100; ++i) loop.executor.schedule_after(0, [&order, i] { order.push_back(i); });
    loop.executor.schedule_after(kMs, [&] { last.set_value(); });
  });
  last.get_future().wait();
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[i], i);
}

TEST(AsioExecutor, DoesNotRunACancelledTimerEvenIfItsTimeHasCome) {
  Loop loop;
  bool ran = false;
  TimerId doomed = 0;
  std::promise<void> last;
  loop.on_thread([&] {
    // Both are due when the loop looks; the first cancels the second.
    loop.executor.schedule_after(0, [&] { loop.executor.cancel(doomed); });
    doomed = loop.executor.schedule_after(0, [&] { ran = true; });
    EXPECT_NE(doomed, 0u);
    loop.executor.schedule_after(kMs, [&] { last.set_value(); });
    loop.executor.cancel(987'654);
    loop.executor.cancel(0);
  });
  last.get_future().wait();
  EXPECT_FALSE(ran);
}

TEST(AsioExecutor, ReleasesWhatACancelledTimerOwnedAtOnce) {
  Loop loop;
  auto owned = std::make_shared<int>(1);
  std::weak_ptr<int> watch = owned;
  loop.on_thread([&] {
    TimerId timer = loop.executor.schedule_after(3'600'000 * kMs, [owned = std::move(owned)] {});
    loop.executor.cancel(timer);
    EXPECT_TRUE(watch.expired());
  });
}

TEST(AsioExecutor, GivesPostedWorkItsTurnBetweenTimersThatKeepComing) {
  Loop loop;
  std::atomic<bool> posted_ran = false;
  std::promise<void> done;
  std::function<void()> again = [&] {
    if (posted_ran) {
      done.set_value();
    } else {
      loop.executor.schedule_after(0, [&] { again(); });
    }
  };
  loop.on_thread([&] { again(); });
  loop.executor.post([&] { posted_ran = true; });
  EXPECT_EQ(done.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
}

TEST(AsioExecutor, DestroysWithoutRunningWhatComesAfterItStopped) {
  auto owned = std::make_shared<int>(1);
  std::weak_ptr<int> watch = owned;
  bool ran = false;
  {
    Loop loop;
    loop.on_thread([&] { loop.executor.schedule_after(3'600'000 * kMs, [owned, &ran] { ran = true; }); });
    loop.on_thread([&] {
      loop.executor.stop();
      loop.executor.post([owned, &ran] { ran = true; });
    });
    loop.end();
    loop.executor.post([owned, &ran] { ran = true; });
    owned.reset();
  }
  EXPECT_FALSE(ran);
  EXPECT_TRUE(watch.expired());
}

}  // namespace
}  // namespace trilog
