#include "broker/quorum/slot_file.h"

#include <gtest/gtest.h>

#include "storage/log/log_directory.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_env.h"

namespace trilog {
namespace {

constexpr char kPath[] = "/data/value";

class SlotFileTest : public ::testing::Test {
 protected:
  SlotFileTest() {
    disk.put_file("/data/meta", as_bytes("x"));
    start();
  }
  ~SlotFileTest() override { stop(); }
  void start() {
    env = world.make_env(disk, "node");
    file = std::make_unique<SlotFile>(*env, kPath);
  }
  void stop() {
    env.reset();
    file.reset();
  }
  void create(std::string_view value) {
    ASSERT_FALSE(load().has_value());
    std::optional<Status> done;
    file->create(as_bytes(value), [&](Status status) { done = std::move(status); });
    world.run_until_idle();
    ASSERT_TRUE(done.has_value() && done->ok());
    ASSERT_TRUE(env->files().sync_directory_now("/data").ok());
  }
  void write(std::string_view value) {
    file->write(as_bytes(value), [](const Status& status) { ASSERT_TRUE(status.ok()); });
    world.run_until_idle();
  }
  std::optional<std::string> load() {
    auto value = file->load();
    error = value.status();
    if (!value.ok() || !*value) return std::nullopt;
    return std::string(as_text(**value));
  }
  void reopen() {
    stop();
    start();
  }

  sim::World world{1};
  sim::SimDisk disk{world.scheduler()};
  std::unique_ptr<sim::SimEnv> env;
  std::unique_ptr<SlotFile> file;
  Status error;
};

TEST_F(SlotFileTest, IsMissingUntilItIsMade) {
  EXPECT_FALSE(load().has_value());
  EXPECT_TRUE(error.ok());
  create("one");
  reopen();
  EXPECT_EQ(load(), "one");
  EXPECT_FALSE(file->slots_differ());
}

TEST_F(SlotFileTest, GivesTheNewestValue) {
  create("one");
  for (const char* value : {"two", "three", "four", ""}) {
    write(value);
    reopen();
    EXPECT_EQ(load(), value);
    EXPECT_TRUE(file->slots_differ());
  }
}

TEST_F(SlotFileTest, AWriteCostsOneSync) {
  create("one");
  uint64_t before = disk.calls(sim::DiskCall::kSync);
  write("two");
  EXPECT_EQ(disk.calls(sim::DiskCall::kSync) - before, 1u);
}

TEST_F(SlotFileTest, ATornWriteLeavesTheValueBefore) {
  create("one");
  write("two");
  for (uint32_t granule : {512u, 4096u}) {
    for (uint64_t pattern = 0; pattern < 256; ++pattern) {
      sim::SimDisk copy(world.scheduler(), disk.durable());
      auto other = world.make_env(copy, "copy");
      auto torn = std::make_unique<SlotFile>(*other, kPath);
      ASSERT_TRUE(torn->load().ok());
      torn->write(as_bytes("three"), [](const Status&) {});
      other.reset();
      torn.reset();
      std::vector<sim::Fate> fates(copy.unsynced().size(), {sim::Fate::Kind::kPattern, granule, pattern});
      copy.power_cut(fates);
      other = world.make_env(copy, "copy");
      torn = std::make_unique<SlotFile>(*other, kPath);
      auto value = torn->load();
      ASSERT_TRUE(value.ok() && value->has_value()) << granule << "/" << pattern;
      std::string text(as_text(**value));
      EXPECT_TRUE(text == "two" || text == "three") << text;
      other.reset();
    }
  }
}

TEST_F(SlotFileTest, WithoutASlotThatCanBeReadItIsDamagedNotNew) {
  create("one");
  disk.flip_bit(kPath, 24 * 8);
  reopen();
  EXPECT_EQ(load(), "one");
  EXPECT_TRUE(file->slots_differ());
  disk.flip_bit(kPath, (kSlotBytes + 24) * 8);
  reopen();
  EXPECT_FALSE(load().has_value());
  EXPECT_EQ(error.code(), Errc::kCorruption);
  EXPECT_NE(error.message().find(kPath), std::string::npos);
  disk.put_file(kPath, {});
  reopen();
  EXPECT_FALSE(load().has_value());
  EXPECT_EQ(error.code(), Errc::kCorruption);
}

TEST_F(SlotFileTest, AFileOfANewerProgramIsRefused) {
  Bytes newer = frame_checkpoint(2, as_bytes("12345678 and more"));
  disk.put_file(kPath, newer);
  EXPECT_FALSE(load().has_value());
  EXPECT_EQ(error.code(), Errc::kUnsupported);
}

TEST_F(SlotFileTest, AFullDiskKeepsTheValueAndMayBeTriedAgain) {
  create("one");
  disk.add_fault({sim::DiskCall::kWrite, "value", 1, 1, Errc::kDiskFull});
  std::optional<Status> done;
  file->write(as_bytes("two"), [&](Status status) { done = std::move(status); });
  world.run_until_idle();
  EXPECT_EQ(done->code(), Errc::kDiskFull);
  write("two");
  reopen();
  EXPECT_EQ(load(), "two");
}

}  // namespace
}  // namespace trilog
