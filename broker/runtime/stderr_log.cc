#include "broker/runtime/stderr_log.h"

#include <time.h>
#include <unistd.h>

#include <array>
#include <cstdio>

namespace trilog {

std::string format_log_line(int64_t wall_ms, LogLevel level, std::string_view text) {
  time_t seconds = static_cast<time_t>(wall_ms / 1000);
  tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 64> stamp{};
  std::snprintf(stamp.data(), stamp.size(), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ ", parts.tm_year + 1900,
                parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                static_cast<int>(wall_ms % 1000));
  std::string line(stamp.data());
  line += log_level_name(level);
  line += ' ';
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      line += c;
      continue;
    }
    std::array<char, 8> escaped{};
    std::snprintf(escaped.data(), escaped.size(), "\\x%02x", byte);
    line += escaped.data();
  }
  line += '\n';
  return line;
}

Logger make_stderr_logger(LogLevel minimum) {
  return Logger(
      [](LogLevel level, std::string_view text) {
        timespec now{};
        ::clock_gettime(CLOCK_REALTIME, &now);
        std::string line =
            format_log_line(static_cast<int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000, level, text);
        // Nobody can be told that a log line was lost.
        [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
      },
      minimum);
}

}  // namespace trilog
