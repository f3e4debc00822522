// LogMark: what the marks file remembers of one log.
#pragma once

#include "storage/base/ids.h"

namespace trilog {

// What the marks file says of one log (S2). Behind the truth by at most 5 s or 64 MiB, never ahead of the disk.
struct LogMark {
  Offset durable_end{0};
  Offset high_watermark{0};  // <= durable_end (R13)
  Offset log_start{0};
  bool operator==(const LogMark&) const = default;
};

}  // namespace trilog
