// Log lines for operators. No global logger: a Logger is handed in (through Env), its sink decides where lines go.
// Formatting is by stream-like concatenation, so that no logging library is included here.
#pragma once

#include <functional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

namespace trilog {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
std::string_view log_level_name(LogLevel level);  // "debug", "info", "warning", "error"

// Cheap to copy. The sink may be called from any thread that was given a copy, and must be safe for that.
class Logger {
 public:
  using Sink = std::function<void(LogLevel, std::string_view line)>;
  Logger() = default;  // drops everything
  explicit Logger(Sink sink, LogLevel minimum = LogLevel::kInfo) : sink_(std::move(sink)), minimum_(minimum) {}

  bool enabled(LogLevel level) const { return sink_ && level >= minimum_; }

  template <typename... Parts>
  void debug(const Parts&... parts) const {
    write(LogLevel::kDebug, parts...);
  }
  template <typename... Parts>
  void info(const Parts&... parts) const {
    write(LogLevel::kInfo, parts...);
  }
  template <typename... Parts>
  void warning(const Parts&... parts) const {
    write(LogLevel::kWarning, parts...);
  }
  template <typename... Parts>
  void error(const Parts&... parts) const {
    write(LogLevel::kError, parts...);
  }

 private:
  template <typename... Parts>
  void write(LogLevel level, const Parts&... parts) const {
    if (!enabled(level)) return;
    std::ostringstream line;
    (line << ... << parts);
    sink_(level, line.str());
  }
  Sink sink_;
  LogLevel minimum_ = LogLevel::kInfo;
};

}  // namespace trilog
