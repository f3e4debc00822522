#include "storage/log/disk_guard.h"

#include <gtest/gtest.h>

#include "tests/storage/log/state_files/support.h"

namespace trilog {
namespace {

constexpr uint64_t kMiB = 1u << 20;
constexpr uint64_t kGiB = 1u << 30;

// A file system of 1,000 MiB: low is 100 MiB, reject 50 MiB.
class DiskGuardTest : public testing::InFolder {
 protected:
  void SetUp() override {
    InFolder::SetUp();
    guard_.emplace(env_, folder_);
    free_mib(500);
  }
  void free_mib(uint64_t available) { files().free_space = {1000 * kMiB, available * kMiB}; }
  void a_second_later() { env_.clock().now_ns += 1'000'000'000; }
  DiskState after_a_second(uint64_t available) {
    free_mib(available);
    a_second_later();
    return guard_->check(0);
  }
  uint64_t reserve_bytes() { return content("reserve").size(); }

  std::optional<DiskGuard> guard_;
};

TEST(DiskMarks, AreSharesOfTheFileSystemWithinBounds) {
  auto marks = [](uint64_t total) { return disk_marks({total, 0}); };
  EXPECT_EQ(marks(1000 * kMiB).low_bytes, 100 * kMiB);
  EXPECT_EQ(marks(1000 * kMiB).reject_bytes, 50 * kMiB);
  EXPECT_EQ(marks(16 * kMiB).low_bytes, 8 * kMiB);
  EXPECT_EQ(marks(16 * kMiB).reject_bytes, 4 * kMiB);
  EXPECT_EQ(marks(1000 * kGiB).low_bytes, 2 * kGiB);
  EXPECT_EQ(marks(1000 * kGiB).reject_bytes, 1 * kGiB);
}

TEST_F(DiskGuardTest, GoesThroughTheThreeStates) {
  EXPECT_EQ(guard_->check(0), DiskState::kOk);
  EXPECT_EQ(after_a_second(100), DiskState::kOk);
  EXPECT_EQ(after_a_second(99), DiskState::kLow);
  EXPECT_EQ(after_a_second(50), DiskState::kLow);
  EXPECT_EQ(after_a_second(49), DiskState::kReject);
}

TEST_F(DiskGuardTest, LeavesRejectByItselfButNotAtOnce) {
  EXPECT_EQ(after_a_second(10), DiskState::kReject);
  EXPECT_EQ(after_a_second(52), DiskState::kReject) << "a tenth more than the mark is asked for";
  EXPECT_EQ(after_a_second(55), DiskState::kLow);
  EXPECT_EQ(after_a_second(52), DiskState::kLow);
  EXPECT_EQ(after_a_second(300), DiskState::kOk);
}

TEST_F(DiskGuardTest, AsksAtMostOncePerSecond) {
  for (int i = 0; i < 1000; ++i) (void)guard_->check(100);
  EXPECT_EQ(files().space_asked, 1);
  a_second_later();
  (void)guard_->check(0);
  EXPECT_EQ(files().space_asked, 2);
}

TEST_F(DiskGuardTest, AsksAfterEightMebibytesWithinASecond) {
  for (int i = 0; i < 80; ++i) (void)guard_->check(kMiB);
  EXPECT_EQ(files().space_asked, 10);
}

TEST_F(DiskGuardTest, CountsWhatWasAnnouncedSinceItAsked) {
  free_mib(52);
  EXPECT_EQ(guard_->check(0), DiskState::kLow);
  EXPECT_EQ(guard_->check(kMiB), DiskState::kLow);
  EXPECT_EQ(guard_->check(2 * kMiB), DiskState::kReject);
  EXPECT_EQ(files().space_asked, 1);
}

TEST_F(DiskGuardTest, RefusedWritesDoNotCount) {
  EXPECT_EQ(after_a_second(49), DiskState::kReject);
  int asked = files().space_asked;
  for (int i = 0; i < 100; ++i) EXPECT_EQ(guard_->check(kMiB), DiskState::kReject);
  EXPECT_EQ(files().space_asked, asked);
}

TEST_F(DiskGuardTest, LooksAgainAfterAnAppendRanOutOfSpace) {
  EXPECT_EQ(guard_->check(0), DiskState::kOk);
  free_mib(0);
  EXPECT_EQ(guard_->check(0), DiskState::kOk);
  guard_->note_disk_full();
  EXPECT_EQ(guard_->check(0), DiskState::kReject);
}

TEST_F(DiskGuardTest, AFileSystemThatCannotBeAskedCountsAsOk) {
  EXPECT_EQ(after_a_second(10), DiskState::kReject);
  files().space_status = Status(Errc::kIo, "no");
  a_second_later();
  EXPECT_EQ(guard_->check(0), DiskState::kOk);
}

TEST_F(DiskGuardTest, KeepsAReserveWhenThereIsRoom) {
  guard_->keep_reserve();
  EXPECT_EQ(reserve_bytes(), kMiB);
  guard_->keep_reserve();
  EXPECT_EQ(reserve_bytes(), kMiB);
  EXPECT_TRUE(guard_->release_reserve());
  EXPECT_FALSE(files().exists(path("reserve")));
  EXPECT_FALSE(guard_->release_reserve());
}

TEST_F(DiskGuardTest, MakesNoReserveNearTheLowMark) {
  free_mib(100);
  guard_->keep_reserve();
  EXPECT_FALSE(files().exists(path("reserve")));
  free_mib(101);
  guard_->keep_reserve();
  EXPECT_EQ(reserve_bytes(), kMiB);
}

TEST_F(DiskGuardTest, AReserveThatACrashLeftShortIsFilled) {
  put("reserve", as_bytes("short"));
  guard_->keep_reserve();
  EXPECT_EQ(reserve_bytes(), kMiB);
}

}  // namespace
}  // namespace trilog
