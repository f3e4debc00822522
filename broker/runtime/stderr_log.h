// Where a broker process writes its log: one plain line per event to standard error, for systemd, containers and eyes.
// No logging library: this costs nothing at start and nothing at rest.
#pragma once

#include "storage/base/logging.h"

namespace trilog {

// "2026-11-21T11:05:21.123Z warning text"; one write(2) per line, so lines of several threads do not mix. Control
// characters in the text are escaped: what a client calls itself cannot forge a line.
Logger make_stderr_logger(LogLevel minimum = LogLevel::kInfo);

// For the above and for tests.
std::string format_log_line(int64_t wall_ms, LogLevel level, std::string_view text);

}  // namespace trilog
