#include "broker/process_output.h"

#include <unistd.h>

#include <cerrno>

namespace trilog {
namespace {

void write_all(int fd, std::string text) {
  text += '\n';
  size_t done = 0;
  while (done < text.size()) {
    ssize_t written = ::write(fd, text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // nobody listens any more
    done += static_cast<size_t>(written);
  }
}

}  // namespace

void ProcessOutput::line(std::string_view text) const {
  if (!quiet_ || json_) write_all(STDOUT_FILENO, std::string(text));
}

void ProcessOutput::hint(std::string_view text) const {
  if (!quiet_ && !json_) write_all(STDERR_FILENO, std::string(text));
}

int ProcessOutput::fail(int exit_code, std::string_view code, std::string_view message) const {
  if (!json_) {
    write_all(STDERR_FILENO, std::string(message));
    return exit_code;
  }
  cli::JsonObject error;
  error.add("code", code)
      .add("message", message)
      .add("retriable", exit_code == kExitNotNow)
      .add("outcome", "NOT_WRITTEN");
  write_all(STDERR_FILENO, cli::JsonObject().add("error", std::move(error)).text());
  return exit_code;
}

int ProcessOutput::fail(const Status& status) const {
  switch (status.code()) {
    case Errc::kBusy:
    case Errc::kAlreadyExists: return fail(kExitNotNow, "BUSY", status.message());
    case Errc::kInvalidArgument: return fail(kExitUsage, "USAGE", status.message());
    case Errc::kNotFound: return fail(kExitNotFound, "NOT_FOUND", status.message());
    case Errc::kDiskFull: return fail(kExitNotNow, "DISK_FULL", status.message());
    case Errc::kCorruption: return fail(kExitRefused, "DATA_DAMAGED", status.message());
    case Errc::kOk:
    case Errc::kOutOfRange:
    case Errc::kIo:
    case Errc::kUnsupported:
    case Errc::kFailed:
    case Errc::kTooLarge:
    case Errc::kPermission: return fail(kExitRefused, "STORAGE_ERROR", status.message());
  }
  return kExitRefused;
}

}  // namespace trilog
