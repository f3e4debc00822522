#include "storage/base/status.h"

namespace trilog {

std::string_view errc_name(Errc code) {
  switch (code) {
    case Errc::kOk: return "Ok";
    case Errc::kInvalidArgument: return "InvalidArgument";
    case Errc::kNotFound: return "NotFound";
    case Errc::kAlreadyExists: return "AlreadyExists";
    case Errc::kOutOfRange: return "OutOfRange";
    case Errc::kCorruption: return "Corruption";
    case Errc::kDiskFull: return "DiskFull";
    case Errc::kIo: return "Io";
    case Errc::kUnsupported: return "Unsupported";
    case Errc::kFailed: return "Failed";
    case Errc::kBusy: return "Busy";
    case Errc::kTooLarge: return "TooLarge";
    case Errc::kPermission: return "Permission";
  }
  UNREACHABLE("Errc");
}

Status::Status(Errc code, std::string message) {
  if (code != Errc::kOk) rep_ = std::make_unique<Rep>(Rep{code, std::move(message)});
}

Status::Status(const Status& other) : rep_(other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr) {}

Status& Status::operator=(const Status& other) {
  if (this != &other) rep_ = other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr;
  return *this;
}

std::string Status::to_string() const {
  if (ok()) return "ok";
  return std::string(errc_name(rep_->code)) + ": " + rep_->message;
}

Status Status::with_context(std::string_view context) const {
  if (ok()) return {};
  return Status(rep_->code, std::string(context) + ": " + rep_->message);
}

}  // namespace trilog
