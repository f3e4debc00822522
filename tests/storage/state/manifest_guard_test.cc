#include "storage/state/manifest_guard.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/sim/sim_env.h"

namespace trilog {
namespace {

class ManifestGuardTest : public ::testing::Test {
 protected:
  void SetUp() override {
    put("CURRENT", "MANIFEST-000007\n");
    put("MANIFEST-000007", "first entries, more entries");
  }
  void put(const std::string& name, std::string_view content) { disk_.put_file("state/" + name, as_bytes(content)); }
  void note_first_entries() { guard_.note("MANIFEST-000007", 13); }
  Errc check() { return ManifestGuard(env_->files(), "state").check().code(); }

  sim::World world_{1};
  sim::SimDisk disk_{world_.scheduler()};
  std::unique_ptr<sim::SimEnv> env_ = world_.make_env(disk_);
  ManifestGuard guard_{env_->files(), "state"};
};

TEST_F(ManifestGuardTest, KnowsNothingWithoutANote) {
  EXPECT_EQ(check(), Errc::kOk);
  EXPECT_EQ(ManifestGuard(env_->files(), "no/such/folder").check().code(), Errc::kOk);
}

TEST_F(ManifestGuardTest, AcceptsTheManifestItNotedAndWhatWasAddedToIt) {
  note_first_entries();
  EXPECT_EQ(check(), Errc::kOk);
  put("MANIFEST-000007", "first entries");
  EXPECT_EQ(check(), Errc::kOk);
}

TEST_F(ManifestGuardTest, FindsAManifestThatLostItsEnd) {
  note_first_entries();
  put("MANIFEST-000007", "first entrie");
  EXPECT_EQ(check(), Errc::kCorruption);
  put("MANIFEST-000007", "");
  EXPECT_EQ(check(), Errc::kCorruption);
  ASSERT_TRUE(env_->files().remove_file("state/MANIFEST-000007").ok());
  EXPECT_EQ(check(), Errc::kCorruption);
}

TEST_F(ManifestGuardTest, FindsAManifestThatChanged) {
  note_first_entries();
  disk_.flip_bit("state/MANIFEST-000007", 3);
  EXPECT_EQ(check(), Errc::kCorruption);
}

TEST_F(ManifestGuardTest, AcceptsANewerManifestAndRefusesAnOlderOne) {
  note_first_entries();
  put("CURRENT", "MANIFEST-000012\n");
  EXPECT_EQ(check(), Errc::kCorruption) << "there is none of this name";
  put("MANIFEST-000012", "new");
  EXPECT_EQ(check(), Errc::kOk) << "stopped before the new one was noted";
  put("CURRENT", "MANIFEST-000003\n");
  put("MANIFEST-000003", "old");
  EXPECT_EQ(check(), Errc::kCorruption);
}

TEST_F(ManifestGuardTest, FindsAMissingOrSenselessCurrent) {
  note_first_entries();
  for (const char* content : {"", "MANIFEST-", "MANIFEST-x\n", "MANIFEST-000007x", "something"}) {
    put("CURRENT", content);
    EXPECT_EQ(check(), Errc::kCorruption) << content;
  }
  ASSERT_TRUE(env_->files().remove_file("state/CURRENT").ok());
  EXPECT_EQ(check(), Errc::kCorruption);
}

TEST_F(ManifestGuardTest, FindsTheRemainsOfAStoreWithoutANoteToo) {
  ASSERT_TRUE(env_->files().remove_file("state/CURRENT").ok());
  EXPECT_EQ(check(), Errc::kCorruption);
  ASSERT_TRUE(env_->files().remove_file("state/MANIFEST-000007").ok());
  EXPECT_EQ(check(), Errc::kOk);
  for (const char* name : {"000012.log", "000009.sst"}) {
    put(name, "x");
    EXPECT_EQ(check(), Errc::kCorruption);
    ASSERT_TRUE(env_->files().remove_file(join_path("state", name)).ok());
  }
}

TEST_F(ManifestGuardTest, ANoteThatIsDamagedSaysNothing) {
  note_first_entries();
  Bytes note = env_->files().read_file("state/GUARD").value();
  put("MANIFEST-000007", "cut");
  ASSERT_EQ(check(), Errc::kCorruption);
  for (uint64_t bit = 0; bit < note.size() * 8; ++bit) {
    disk_.flip_bit("state/GUARD", bit);
    EXPECT_EQ(check(), Errc::kOk) << bit;
    disk_.flip_bit("state/GUARD", bit);
  }
  for (size_t size = 0; size < note.size(); ++size) {
    put("GUARD", as_text(note).substr(0, size));
    EXPECT_EQ(check(), Errc::kOk) << size;
  }
}

TEST_F(ManifestGuardTest, ANoteThatCannotBeWrittenLeavesTheOldOne) {
  note_first_entries();
  disk_.set_capacity(0);
  guard_.note("MANIFEST-000007", 27);
  put("MANIFEST-000007", "first entries");
  EXPECT_EQ(check(), Errc::kOk);
}

}  // namespace
}  // namespace trilog
