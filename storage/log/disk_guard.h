// DiskGuard: watches free space of the data folder (rule S8, fault F10) with three marks: low (warn), reject (records
// are refused while reads, commits and retention go on), reserve (a ballast file given up for internal writes).
#pragma once

#include <cstdint>
#include <string>

#include "storage/env/env.h"

namespace trilog {

enum class DiskState { kOk, kLow, kReject };

struct DiskMarks {
  uint64_t low_bytes = 0;     // 10 % of the file system, at least 8 MiB, at most 2 GiB
  uint64_t reject_bytes = 0;  // 5 %, at least 4 MiB, at most 1 GiB
};
DiskMarks disk_marks(const Space& space);

class DiskGuard {
 public:
  // `path`: the data folder. The ballast file `reserve` in it is made in the background of start-up when there is room.
  DiskGuard(Env& env, std::string path);

  // Cheap: asks the file system at most once per second or 8 MiB of `about_to_write` in sum. Leaves kReject by itself
  // once 10 % more than the mark is free (hysteresis). A file system that cannot be asked counts as kOk.
  DiskState check(uint64_t about_to_write);
  // An append ran out of space: look again at the next check.
  void note_disk_full();
  const Space& last_seen() const { return space_; }

  // Makes the ballast (1 MiB) if missing and there is room; called from housekeeping.
  void keep_reserve();
  // Frees it so that an internal write (metadata, commit) can be repeated. False if there was none.
  bool release_reserve();

 private:
  Env& env_;
  std::string path_;
  DiskState state_ = DiskState::kOk;
  Space space_;
  int64_t asked_ns_ = INT64_MIN;
  uint64_t written_since_ = 0;
};

}  // namespace trilog
