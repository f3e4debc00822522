#include "storage/base/logging.h"

#include "storage/base/check.h"

namespace trilog {

std::string_view log_level_name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return "debug";
    case LogLevel::kInfo: return "info";
    case LogLevel::kWarning: return "warning";
    case LogLevel::kError: return "error";
  }
  UNREACHABLE("LogLevel");
}

}  // namespace trilog
