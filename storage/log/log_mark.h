// LogMark: what the marks file remembers of one log.
#pragma once

#include <cstdint>

#include "storage/base/ids.h"

namespace trilog {

// What the marks file says of one log (S2). Behind the truth by at most 5 s or 64 MiB, never ahead of the disk.
struct LogMark {
  Offset durable_end{0};
  Offset high_watermark{0};  // <= durable_end (R13)
  Offset log_start{0};
  // Where durable_end lies: base offset of the segment and position in its file, so that recovery starts there (S12).
  // No segment (-1): recovery finds the place by walking the headers.
  Offset segment{-1};
  uint64_t position = 0;
  bool operator==(const LogMark&) const = default;
};

}  // namespace trilog
