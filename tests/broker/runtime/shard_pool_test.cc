#include "broker/runtime/shard_pool.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <future>
#include <set>
#include <string>
#include <thread>

#include "broker/runtime/stderr_log.h"

namespace trilog {
namespace {

class Folder {
 public:
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "trilog-runtime-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path;
};

std::thread::id thread_of(Env& env) {
  std::promise<std::thread::id> id;
  env.executor().post([&] { id.set_value(std::this_thread::get_id()); });
  return id.get_future().get();
}

TEST(ShardPool, GivesEveryShardAThreadOfItsOwn) {
  ShardPool pool({.shards = 3, .io_threads_max = 2, .log = {}, .fatal = {}});
  std::set<std::thread::id> threads = {std::this_thread::get_id()};
  ASSERT_EQ(pool.envs().size(), 3u);
  for (Env* env : pool.envs()) {
    EXPECT_TRUE(threads.insert(thread_of(*env)).second);
    EXPECT_EQ(thread_of(*env), thread_of(*env));
  }
}

TEST(ShardPool, AnswersASyncOnTheThreadOfTheShardThatAsked) {
  Folder folder;
  ShardPool pool({.shards = 2, .io_threads_max = 4, .log = {}, .fatal = {}});
  for (Env* env : pool.envs()) {
    std::thread::id shard = thread_of(*env);
    std::promise<std::pair<std::thread::id, bool>> answer;
    std::unique_ptr<File> file;
    env->executor().post([&] {
      auto opened = env->files().open(folder.path + "/f", OpenMode::kCreate);
      ASSERT_TRUE(opened.ok());
      file = std::move(opened).value();
      ASSERT_TRUE(file->write_at(0, as_bytes("abc")).ok());
      file->sync([&](Status status) { answer.set_value({std::this_thread::get_id(), status.ok()}); });
    });
    auto [thread, synced] = answer.get_future().get();
    EXPECT_EQ(thread, shard);
    EXPECT_TRUE(synced);
    std::promise<void> closed;
    env->executor().post([&] {
      file.reset();
      closed.set_value();
    });
    closed.get_future().wait();
  }
}

TEST(ShardPool, HandsOutRandomNumbersThatDifferBetweenShards) {
  ShardPool pool({.shards = 2, .io_threads_max = 1, .log = {}, .fatal = {}});
  std::set<uint64_t> numbers;
  for (Env* env : pool.envs()) {
    std::promise<void> done;
    env->executor().post([&] {
      for (int i = 0; i < 1'000; ++i) numbers.insert(env->random().next());
      done.set_value();
    });
    done.get_future().wait();
  }
  EXPECT_EQ(numbers.size(), 2'000u);
}

TEST(ShardPool, TellsTheProcessWhenGoingOnCouldLie) {
  std::promise<std::string> why;
  ShardPool pool({.shards = 1, .io_threads_max = 1, .log = {}, .fatal = [&](const Status& status) {
                    why.set_value(status.to_string());
                  }});
  Env* env = pool.envs()[0];
  env->executor().post([&] { env->fatal(Status(Errc::kIo, "sync of a file failed")); });
  EXPECT_NE(why.get_future().get().find("sync of a file failed"), std::string::npos);
}

TEST(ShardPool, ClockOfAShardNeverGoesBack) {
  ShardPool pool({.shards = 1, .io_threads_max = 1, .log = {}, .fatal = {}});
  Clock& clock = pool.envs()[0]->clock();
  int64_t before = clock.monotonic_ns();
  for (int i = 0; i < 10'000; ++i) {
    int64_t now = clock.monotonic_ns();
    ASSERT_GE(now, before);
    before = now;
  }
  EXPECT_GT(clock.wall_ms(), 1'500'000'000'000);
}

TEST(StderrLog, CannotBeMadeToPrintASecondLine) {
  EXPECT_EQ(format_log_line(0, LogLevel::kWarning, "client evil\nerror x\x1b"),
            "1970-01-01T00:00:00.000Z warning client evil\\x0aerror x\\x1b\n");
  EXPECT_EQ(format_log_line(1'700'000'000'007, LogLevel::kInfo, "grün"), "2023-11-14T22:13:20.007Z info grün\n");
}

}  // namespace
}  // namespace trilog
