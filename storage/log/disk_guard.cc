#include "storage/log/disk_guard.h"

#include <algorithm>

namespace trilog {

namespace {

constexpr uint64_t kMiB = 1u << 20;
constexpr uint64_t kGiB = 1u << 30;
constexpr int64_t kAskEveryNs = 1'000'000'000;
constexpr uint64_t kAskEveryBytes = 8 * kMiB;
constexpr uint64_t kReserveBytes = 1 * kMiB;
constexpr std::string_view kReserveName = "reserve";

// Bytes that do not compress, so that the ballast takes its room on a compressing file system too (xorshift64).
Bytes ballast_block() {
  Bytes block(64u << 10);
  uint64_t state = 0x9e3779b97f4a7c15;
  for (size_t i = 0; i < block.size(); ++i) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    block.data()[i] = static_cast<std::byte>(state);
  }
  return block;
}

}  // namespace

DiskMarks disk_marks(const Space& space) {
  return {std::clamp(space.total_bytes / 10, 8 * kMiB, 2 * kGiB),
          std::clamp(space.total_bytes / 20, 4 * kMiB, 1 * kGiB)};
}

DiskGuard::DiskGuard(Env& env, std::string path) : env_(env), path_(std::move(path)) {}

DiskState DiskGuard::check(uint64_t about_to_write) {
  // A refused write will not happen, so it does not count.
  if (state_ != DiskState::kReject) written_since_ += std::min(about_to_write, kAskEveryBytes);
  int64_t now_ns = env_.clock().monotonic_ns();
  if (asked_ns_ == INT64_MIN || now_ns - asked_ns_ >= kAskEveryNs || written_since_ >= kAskEveryBytes) {
    asked_ns_ = now_ns;
    written_since_ = 0;
    auto space = env_.files().space(path_);
    space_ = space.ok() ? *space : Space{};
  }
  if (space_.total_bytes == 0) return state_ = DiskState::kOk;
  uint64_t available = space_.available_bytes - std::min(written_since_, space_.available_bytes);
  DiskMarks marks = disk_marks(space_);
  uint64_t leave_reject = state_ == DiskState::kReject ? marks.reject_bytes / 10 : 0;
  if (available < marks.reject_bytes + leave_reject) {
    state_ = DiskState::kReject;
  } else {
    state_ = available < marks.low_bytes ? DiskState::kLow : DiskState::kOk;
  }
  return state_;
}

void DiskGuard::note_disk_full() { asked_ns_ = INT64_MIN; }

void DiskGuard::keep_reserve() {
  FileSystem& files = env_.files();
  std::string path = join_path(path_, kReserveName);
  if (auto present = files.open(path, OpenMode::kRead); present.ok()) {
    auto size = (*present)->size();
    if (!size.ok() || *size >= kReserveBytes) return;
  }
  auto space = files.space(path_);
  if (!space.ok() || space->available_bytes < disk_marks(*space).low_bytes + kReserveBytes) return;
  auto file = files.open(path, OpenMode::kCreate);
  if (!file.ok()) return;
  Bytes block = ballast_block();
  for (uint64_t at = 0; at < kReserveBytes; at += block.size()) {
    if (Status written = (*file)->write_at(at, block.view()); !written.ok()) {
      // No ballast is better than half of one that nobody gives up.
      env_.log().warning("no disk reserve: ", written.to_string());
      file->reset();
      if (Status removed = files.remove_file(path); !removed.ok()) {
        env_.log().warning("a partial disk reserve stays: ", removed.to_string());
      }
      return;
    }
  }
}

bool DiskGuard::release_reserve() { return env_.files().remove_file(join_path(path_, kReserveName)).ok(); }

}  // namespace trilog
