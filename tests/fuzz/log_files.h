// The input of log_recovery_fuzz: the files of one partition's folder, and what the marks say of the log.
//
//   1 how   bit 0: the last stop was clean; bit 1: the marks know the log; bit 2: the second opening knows its new end
//   mark    five numbers of eight bytes (bit 1 of `how`): durable end, high watermark, log start, segment, position
//   files   1 kind | 8 offset in the name | 2 length | content, until the input ends
//
// A kind with bit 7 set has its checksums made right, so that what lies behind them is reached.
#pragma once

#include <cstdint>
#include <string_view>

#include "storage/log/log_files.h"

namespace trilog::fuzz {

enum HowOpened : uint8_t { kClean = 1, kKnown = 2, kMarkAnew = 4 };

struct LogFileKind {
  std::string_view name;  // a suffix behind the offset, or a whole name
  bool numbered = true;
};
inline constexpr LogFileKind kLogFileKinds[] = {
    {kLogSuffix},
    {kIndexSuffix},
    {kTimeIndexSuffix},
    {kChecksumSuffix},
    {kSnapshotSuffix},
    {kEpochsFile, false},
    {"leader-epochs.tmp0", false},
    {"leader-epochs.tmp1", false},
    {kMetaFile, false},
    {kStraySuffix},
    {"leader-epochs.tmp", false},
    {"README", false},
};
inline constexpr uint8_t kChecksumsRight = 0x80;

}  // namespace trilog::fuzz
