// The simulated disk must lose exactly what a real one may lose: too kind, and it hides bugs; too cruel, and it blames
// correct code.
#include "tests/sim/sim_disk.h"

#include <gtest/gtest.h>

#include <algorithm>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/sim_env.h"

namespace trilog::sim {
namespace {

class SimDiskTest : public ::testing::Test {
 protected:
  FileSystem& files() { return env_->files(); }
  std::unique_ptr<File> open(std::string_view path, OpenMode mode = OpenMode::kCreate) {
    Result<std::unique_ptr<File>> file = files().open(path, mode);
    EXPECT_TRUE(file.ok()) << file.status().to_string();
    return std::move(file).value();
  }
  // A file whose content and name are durable.
  std::unique_ptr<File> durable_file(std::string_view path, std::string_view content) {
    std::unique_ptr<File> file = open(path);
    EXPECT_TRUE(file->write_at(0, as_bytes(content)).ok());
    EXPECT_TRUE(file->sync_now().ok());
    EXPECT_TRUE(files().sync_directory_now(parent_path(path)).ok());
    return file;
  }
  std::string read(std::string_view path) {
    Result<Bytes> content = files().read_file(path);
    return content.ok() ? std::string(as_text(*content)) : "(" + std::string(errc_name(content.status().code())) + ")";
  }
  void restart_after_power_cut(const CrashPolicy& policy) {
    env_.reset();
    disk_.power_cut(policy);
    env_ = world_.make_env(disk_);
  }

  World world_{7};
  SimDisk disk_{world_.scheduler()};
  std::unique_ptr<SimEnv> env_ = world_.make_env(disk_);
};

TEST_F(SimDiskTest, APowerCutKeepsWhatWasSyncedAndMayLoseTheRest) {
  std::unique_ptr<File> file = durable_file("a", "synced");
  ASSERT_TRUE(file->write_at(6, as_bytes(" lost")).ok());
  EXPECT_EQ(read("a"), "synced lost");
  restart_after_power_cut(CrashPolicy::lose_all());
  EXPECT_EQ(read("a"), "synced");
}

TEST_F(SimDiskTest, APowerCutMayAlsoKeepWhatWasNotSynced) {
  std::unique_ptr<File> file = durable_file("a", "synced");
  ASSERT_TRUE(file->write_at(6, as_bytes(" kept")).ok());
  restart_after_power_cut(CrashPolicy::keep_all());
  EXPECT_EQ(read("a"), "synced kept");
}

TEST_F(SimDiskTest, KillingTheProcessLosesNothing) {
  ASSERT_TRUE(open("a")->write_at(0, as_bytes("in the cache")).ok());
  env_.reset();
  env_ = world_.make_env(disk_);
  EXPECT_EQ(read("a"), "in the cache");
}

TEST_F(SimDiskTest, ANameNeedsTheSyncOfItsFolder) {
  std::unique_ptr<File> file = open("a");
  ASSERT_TRUE(file->write_at(0, as_bytes("x")).ok());
  ASSERT_TRUE(file->sync_now().ok());
  restart_after_power_cut(CrashPolicy::lose_all());
  EXPECT_FALSE(files().exists("a"));
}

TEST_F(SimDiskTest, AFolderNeedsTheSyncOfItsParent) {
  ASSERT_TRUE(files().create_directories("p/q").ok());
  durable_file("p/q/file", "x");
  ASSERT_TRUE(files().sync_directory_now("p").ok());
  EXPECT_TRUE(disk_.durable().find("p/q/file") == kNoInode);  // p itself has no durable name yet
  ASSERT_TRUE(files().sync_directory_now(".").ok());
  restart_after_power_cut(CrashPolicy::lose_all());
  EXPECT_EQ(read("p/q/file"), "x");
}

TEST_F(SimDiskTest, ARemovedFileComesBackUnlessItsFolderIsSynced) {
  durable_file("a", "x");
  ASSERT_TRUE(files().remove_file("a").ok());
  restart_after_power_cut(CrashPolicy::lose_all());
  EXPECT_EQ(read("a"), "x");
  ASSERT_TRUE(files().remove_file("a").ok());
  ASSERT_TRUE(files().sync_directory_now(".").ok());
  restart_after_power_cut(CrashPolicy::lose_all());
  EXPECT_FALSE(files().exists("a"));
}

TEST_F(SimDiskTest, ASyncCoversOnlyWhatCameBeforeIt) {
  std::unique_ptr<File> file = durable_file("a", "one ");
  ASSERT_TRUE(file->write_at(4, as_bytes("two ")).ok());
  bool done = false;
  file->sync([&](const Status& status) { done = status.ok(); });
  ASSERT_TRUE(file->write_at(8, as_bytes("three")).ok());
  world_.run_until_idle();
  ASSERT_TRUE(done);
  restart_after_power_cut(CrashPolicy::lose_all());
  EXPECT_EQ(read("a"), "one two ");
}

TEST_F(SimDiskTest, ASyncUnderWayAtAPowerCutPromisesNothing) {
  std::unique_ptr<File> file = durable_file("a", "one");
  ASSERT_TRUE(file->write_at(3, as_bytes(" two")).ok());
  bool answered = false;
  file->sync([&](const Status&) { answered = true; });
  restart_after_power_cut(CrashPolicy::lose_all());
  world_.run_until_idle();
  EXPECT_FALSE(answered);
  EXPECT_EQ(read("a"), "one");
}

TEST_F(SimDiskTest, ASyncGoesOnWhenOnlyTheProcessDies) {
  std::unique_ptr<File> file = durable_file("a", "one");
  ASSERT_TRUE(file->write_at(3, as_bytes(" two")).ok());
  bool answered = false;
  file->sync([&](const Status&) { answered = true; });
  env_.reset();
  world_.run_until_idle();
  EXPECT_FALSE(answered);
  EXPECT_EQ(as_text(disk_.durable().content(disk_.durable().find("a"))), "one two");
}

TEST_F(SimDiskTest, ATruncationIsLostLikeAWrite) {
  std::unique_ptr<File> file = durable_file("a", "0123456789");
  ASSERT_TRUE(file->truncate(3).ok());
  restart_after_power_cut(CrashPolicy::lose_all());
  EXPECT_EQ(read("a"), "0123456789");
}

TEST_F(SimDiskTest, TearsAreCutAtSectorsOfTheFile) {
  std::unique_ptr<File> file = durable_file("a", std::string(300, '.'));
  ASSERT_TRUE(file->write_at(300, as_bytes(std::string(1000, 'x'))).ok());
  ASSERT_EQ(disk_.unsynced().size(), 1u);
  auto torn = [&](Fate fate) {
    DiskState state(disk_.durable());
    state.add(disk_.unsynced()[0]);
    DiskImage image = state.after_crash(std::vector<Fate>{fate});
    return std::string(as_text(image.content(image.find("a"))));
  };
  EXPECT_EQ(torn({Fate::Kind::kPrefix, 512, 0}).size(), 300u);
  EXPECT_EQ(torn({Fate::Kind::kPrefix, 512, 1}), std::string(300, '.') + std::string(212, 'x'));
  EXPECT_EQ(torn({Fate::Kind::kPrefix, 512, 2}).size(), 1024u);
  EXPECT_EQ(torn({Fate::Kind::kPrefix, 4096, 1}).size(), 1300u);
  // The middle of three sectors only: the file has its full size, with zeros where nothing arrived.
  std::string holes = torn({Fate::Kind::kPattern, 512, 0b010});
  EXPECT_EQ(holes, std::string(300, '.') + std::string(212, '\0') + std::string(512, 'x') + std::string(276, '\0'));
}

TEST_F(SimDiskTest, RandomPowerCutsLoseKeepAndTear) {
  bool lost = false;
  bool kept = false;
  bool torn = false;
  for (int round = 0; round < 100; ++round) {
    durable_file("a", "")->truncate(0).ok();
    ASSERT_TRUE(open("a")->write_at(0, as_bytes(std::string(20'000, 'x'))).ok());
    restart_after_power_cut({});
    std::string left = read("a");
    auto arrived = static_cast<size_t>(std::count(left.begin(), left.end(), 'x'));
    lost |= arrived == 0;
    kept |= arrived == 20'000;
    torn |= arrived > 0 && arrived < 20'000;
    ASSERT_TRUE(files().remove_tree("a").ok());
    ASSERT_TRUE(files().sync_directory_now(".").ok());
  }
  EXPECT_TRUE(lost && kept && torn);
}

TEST_F(SimDiskTest, AFailedSyncLeavesPagesThatLookWellAndAreNotOnDisk) {
  std::unique_ptr<File> file = durable_file("a", "good");
  ASSERT_TRUE(file->write_at(4, as_bytes(" gone")).ok());
  disk_.add_fault({.call = DiskCall::kSync});
  EXPECT_EQ(file->sync_now().code(), Errc::kIo);
  EXPECT_EQ(read("a"), "good gone");
  EXPECT_EQ(file->sync_now().code(), Errc::kFailed) << "a failed sync is never retried";
  // A new process may sync again, with success, and must not believe it.
  std::unique_ptr<File> again = open("a", OpenMode::kReadWrite);
  EXPECT_TRUE(again->sync_now().ok());
  EXPECT_EQ(read("a"), "good gone");
  again->drop_cache();
  EXPECT_EQ(read("a"), "good");
}

TEST_F(SimDiskTest, AnAsynchronousSyncFailsAsWell) {
  std::unique_ptr<File> file = durable_file("a", "good");
  ASSERT_TRUE(file->write_at(4, as_bytes(" gone")).ok());
  disk_.add_fault({.call = DiskCall::kSync});
  std::vector<Errc> answers;
  file->sync([&](const Status& status) { answers.push_back(status.code()); });
  world_.run_until_idle();
  file->sync([&](const Status& status) { answers.push_back(status.code()); });
  world_.run_until_idle();
  EXPECT_EQ(answers, (std::vector<Errc>{Errc::kIo, Errc::kFailed}));
  restart_after_power_cut(CrashPolicy::keep_all());
  EXPECT_EQ(read("a"), "good");
}

TEST_F(SimDiskTest, TheNthMatchingCallFails) {
  disk_.add_fault({.call = DiskCall::kWrite, .path_part = "log", .first = 2, .count = 2});
  std::unique_ptr<File> log = open("a.log");
  std::unique_ptr<File> other = open("a.index");
  std::vector<bool> answers;
  for (int i = 0; i < 4; ++i) {
    answers.push_back(log->write_at(0, as_bytes("x")).ok());
    EXPECT_TRUE(other->write_at(0, as_bytes("x")).ok());
  }
  EXPECT_EQ(answers, (std::vector<bool>{true, false, false, true}));
  EXPECT_EQ(disk_.calls(DiskCall::kWrite), 8u);
  disk_.add_fault({.call = DiskCall::kRead});
  std::byte buffer[1];
  EXPECT_EQ(log->read_at(0, buffer).status().code(), Errc::kIo);
  EXPECT_TRUE(log->read_at(0, buffer).ok());
}

TEST_F(SimDiskTest, AFullDiskTakesWhatFitsAndAnswersDiskFull) {
  disk_.set_capacity(100);
  std::unique_ptr<File> ballast = open("ballast");
  ASSERT_TRUE(ballast->write_at(0, as_bytes(std::string(60, 'b'))).ok());
  std::unique_ptr<File> log = open("log");
  EXPECT_EQ(log->write_at(0, as_bytes(std::string(50, 'x'))).code(), Errc::kDiskFull);
  EXPECT_EQ(*log->size(), 40u);
  EXPECT_TRUE(log->write_at(0, as_bytes("overwriting needs no space")).ok());
  EXPECT_EQ(files().space(".")->available_bytes, 0u);
  ASSERT_TRUE(files().remove_file("ballast").ok());
  EXPECT_EQ(files().space(".")->available_bytes, 0u) << "an open file keeps its space";
  ballast.reset();
  EXPECT_EQ(files().space(".")->available_bytes, 60u);
  EXPECT_TRUE(log->write_at(40, as_bytes(std::string(60, 'x'))).ok());
}

TEST_F(SimDiskTest, HeldSyncsWaitUntilLetGo) {
  disk_.hold_syncs(true);
  std::unique_ptr<File> file = durable_file("a", "");
  int answers = 0;
  file->sync([&](const Status&) { ++answers; });
  world_.run_for(10'000'000'000);
  EXPECT_EQ(answers, 0);
  EXPECT_EQ(disk_.syncs_held(), 1u);
  disk_.hold_syncs(false);
  world_.run_until_idle();
  EXPECT_EQ(answers, 1);
}

TEST_F(SimDiskTest, ASlowDiskTakesItsTime) {
  disk_.set_sync_delay(5'000'000, 10'000'000);
  std::unique_ptr<File> file = durable_file("a", "");
  int64_t start = world_.now_ns();
  file->sync([](const Status&) {});
  world_.run_until_idle();
  EXPECT_GE(world_.now_ns() - start, 5'000'000);
  EXPECT_LT(world_.now_ns() - start, 10'000'000);
}

TEST_F(SimDiskTest, AFlippedBitIsThereBeforeAndAfterAPowerCut) {
  durable_file("a", "abc");
  disk_.flip_bit("a", 9);  // bit 1 of the second byte
  EXPECT_EQ(read("a"), "a`c");
  restart_after_power_cut(CrashPolicy::lose_all());
  EXPECT_EQ(read("a"), "a`c");
}

TEST_F(SimDiskTest, FilesOpenAtAPowerCutAnswerNothingMore) {
  std::unique_ptr<File> file = durable_file("a", "x");
  std::unique_ptr<FileLock> lock = files().lock("lock").value();
  disk_.power_cut();
  EXPECT_EQ(file->write_at(0, as_bytes("y")).code(), Errc::kIo);
  EXPECT_EQ(file->size().status().code(), Errc::kIo);
  EXPECT_TRUE(files().create_directories("d").ok());
  std::unique_ptr<FileLock> next = files().lock("d/lock").value();
  lock.reset();
  EXPECT_EQ(files().lock("d/lock").status().code(), Errc::kBusy) << "the old lock's end must not free the new one";
}

TEST_F(SimDiskTest, PutFileIsDurableAtOnce) {
  disk_.put_file("x/y/file", as_bytes("put"));
  restart_after_power_cut(CrashPolicy::lose_all());
  EXPECT_EQ(read("x/y/file"), "put");
}

TEST_F(SimDiskTest, TwoShardsSeeTheSameFiles) {
  std::unique_ptr<SimEnv> other = world_.make_env(disk_);
  ASSERT_TRUE(open("a")->write_at(0, as_bytes("x")).ok());
  EXPECT_TRUE(other->files().exists("a"));
  std::unique_ptr<FileLock> lock = files().lock("lock").value();
  EXPECT_EQ(other->files().lock("lock").status().code(), Errc::kBusy);
}

TEST_F(SimDiskTest, ForgetsRemovedFiles) {
  disk_.set_capacity(1u << 30);
  for (int i = 0; i < 500; ++i) {
    std::string name = "f" + std::to_string(i);
    durable_file(name, std::string(1000, 'x'));
    ASSERT_TRUE(files().remove_file(name).ok());
    ASSERT_TRUE(files().sync_directory_now(".").ok());
  }
  open("last").reset();
  EXPECT_EQ(disk_.bytes_used(), 0u);
  EXPECT_LT(disk_.durable().inodes().size(), 10u);
}

}  // namespace
}  // namespace trilog::sim
