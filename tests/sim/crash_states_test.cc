// The crash enumeration, tried on the smallest thing worth protecting: replacing one small file (rule S5). Right code
// passes every state; each way to do it wrong is caught, so the enumeration can fail.
#include "tests/sim/crash_states.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "tests/sim/sim_env.h"

namespace trilog::sim {
namespace {

const std::string kOld(5000, 'o');
const std::string kNew(5000, 'n');

using Replace = std::function<void(FileSystem&)>;

struct Outcome {
  size_t states = 0;
  std::set<std::string> contents;  // of "state" after the crashes; "(missing)" if it is not there
  size_t lost_after_mark = 0;      // states in which the mark was set and the old content came back
};

Outcome crash_everywhere(const Replace& replace) {
  World world(3);
  SimDisk disk(world.scheduler());
  disk.put_file("state", as_bytes(kOld));
  disk.start_recording();
  std::unique_ptr<SimEnv> env = world.make_env(disk);
  replace(env->files());
  disk.mark(1);
  env.reset();

  Outcome outcome;
  CrashStates states(disk.stop_recording());
  do {
    states.for_each_choice({}, world.random(), [&](std::span<const Fate> fates) {
      ++outcome.states;
      DiskImage image = states.image(fates);
      InodeId inode = image.find("state");
      std::string content = inode == kNoInode ? "(missing)" : std::string(as_text(image.content(inode)));
      if (states.last_mark().has_value() && content != kNew) ++outcome.lost_after_mark;
      outcome.contents.insert(std::move(content));
      return true;
    });
  } while (states.advance());
  return outcome;
}

void write_temporary(FileSystem& files, bool sync) {
  std::unique_ptr<File> file = files.open("state.tmp", OpenMode::kCreate).value();
  EXPECT_TRUE(file->write_at(0, as_bytes(kNew)).ok());
  if (!sync) return;
  EXPECT_TRUE(file->sync_now().ok());
}

TEST(CrashStates, AtomicReplacementIsOldOrNewInEveryState) {
  Outcome outcome =
      crash_everywhere([](FileSystem& files) { EXPECT_TRUE(files.replace_file("state", as_bytes(kNew)).ok()); });
  EXPECT_GT(outcome.states, 50u);
  EXPECT_EQ(outcome.contents, (std::set<std::string>{kOld, kNew}));
  EXPECT_EQ(outcome.lost_after_mark, 0u);
}

TEST(CrashStates, FindsTheMissingSyncOfTheFile) {
  Outcome outcome = crash_everywhere([](FileSystem& files) {
    write_temporary(files, false);
    EXPECT_TRUE(files.rename("state.tmp", "state").ok());
    EXPECT_TRUE(files.sync_directory_now(".").ok());
  });
  EXPECT_GT(outcome.contents.size(), 2u);
  EXPECT_GT(outcome.lost_after_mark, 0u);
}

TEST(CrashStates, FindsTheMissingSyncOfTheFolder) {
  Outcome outcome = crash_everywhere([](FileSystem& files) {
    write_temporary(files, true);
    EXPECT_TRUE(files.rename("state.tmp", "state").ok());
  });
  EXPECT_EQ(outcome.contents, (std::set<std::string>{kOld, kNew}));
  EXPECT_GT(outcome.lost_after_mark, 0u);
}

TEST(CrashStates, FindsTheFolderSyncedBeforeTheRename) {
  Outcome outcome = crash_everywhere([](FileSystem& files) {
    write_temporary(files, true);
    EXPECT_TRUE(files.sync_directory_now(".").ok());
    EXPECT_TRUE(files.rename("state.tmp", "state").ok());
  });
  EXPECT_GT(outcome.lost_after_mark, 0u);
}

TEST(CrashStates, FindsWritingInPlace) {
  Outcome outcome = crash_everywhere([](FileSystem& files) {
    std::unique_ptr<File> file = files.open("state", OpenMode::kReadWrite).value();
    EXPECT_TRUE(file->write_at(0, as_bytes(kNew)).ok());
    EXPECT_TRUE(file->sync_now().ok());
  });
  EXPECT_GT(outcome.contents.size(), 2u);
  EXPECT_EQ(outcome.lost_after_mark, 0u);
}

TEST(CrashStates, FindsRemovingBeforeRenaming) {
  Outcome outcome = crash_everywhere([](FileSystem& files) {
    write_temporary(files, true);
    EXPECT_TRUE(files.remove_file("state").ok());
    EXPECT_TRUE(files.rename("state.tmp", "state").ok());
    EXPECT_TRUE(files.sync_directory_now(".").ok());
  });
  EXPECT_TRUE(outcome.contents.contains("(missing)"));
}

TEST(CrashStates, ThreeUnsyncedOperationsMakeEightSubsets) {
  World world(1);
  SimDisk disk(world.scheduler());
  disk.put_file("f", {});
  disk.start_recording();
  std::unique_ptr<SimEnv> env = world.make_env(disk);
  std::unique_ptr<File> file = env->files().open("f", OpenMode::kReadWrite).value();
  for (uint64_t i = 0; i < 3; ++i) ASSERT_TRUE(file->write_at(i, as_bytes("x")).ok());
  CrashStates states(disk.stop_recording());
  while (states.advance()) {
  }
  std::set<std::string> contents;
  states.for_each_choice({.exhaustive_max = 3, .tears_max = 0, .samples = 0}, world.random(),
                         [&](std::span<const Fate> fates) {
                           DiskImage image = states.image(fates);
                           contents.insert(std::string(as_text(image.content(image.find("f")))));
                           return true;
                         });
  EXPECT_EQ(states.unsynced().size(), 3u);
  // Each subset, except that a write of one byte that is torn off may still have lengthened the file.
  for (const std::string& expected :
       {std::string(), std::string("x"), std::string("\0x", 2), std::string("xx"), std::string("\0\0x", 3),
        std::string("x\0x", 3), std::string("\0xx", 3), std::string("xxx")}) {
    EXPECT_TRUE(contents.contains(expected));
  }
}

TEST(CrashStates, AnImageIsADiskAgain) {
  World world(1);
  SimDisk disk(world.scheduler());
  disk.put_file("d/f", as_bytes("content"));
  SimDisk copy(world.scheduler(), disk.durable());
  std::unique_ptr<SimEnv> env = world.make_env(copy);
  EXPECT_EQ(as_text(*env->files().read_file("d/f")), "content");
  ASSERT_TRUE(env->files().open("d/g", OpenMode::kCreateNew).ok());
  ASSERT_TRUE(env->files().open("d/f", OpenMode::kReadWrite).value()->write_at(0, as_bytes("C")).ok());
  EXPECT_EQ(as_text(disk.durable().content(disk.durable().find("d/f"))), "content") << "copies do not share changes";
  EXPECT_FALSE(disk.durable().same_tree(copy.image()));
}

TEST(CrashStates, DescribesAStateForAPerson) {
  DiskOp op;
  op.kind = DiskOp::Kind::kWrite;
  op.inode = 5;
  op.offset = 100;
  op.number = 3;
  op.bytes = SharedBytes(Bytes::copy_of("abc"));
  Fate torn{Fate::Kind::kPrefix, 512, 1};
  EXPECT_EQ(describe({&op, 1}, {&torn, 1}), "3: write inode 5 [100, 103) — first 1 of granules of 512\n");
}

}  // namespace
}  // namespace trilog::sim
