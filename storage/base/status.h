// Errors as values: Status (we could do it, or why not) and Result<T> (a T, or why not).
// A Status is one pointer wide and success allocates nothing. Status is for "we could not do it" (I/O, corruption,
// bad argument), with a sentence a person can act on; a legitimate answer to a client is an api::ErrorCode.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "storage/base/check.h"

namespace trilog {

enum class Errc {
  kOk = 0,
  kInvalidArgument,  // the caller's value is not acceptable
  kNotFound,
  kAlreadyExists,
  kOutOfRange,  // an offset or position outside what is there
  kCorruption,  // stored or received bytes are damaged
  kDiskFull,    // ENOSPC, EDQUOT
  kIo,          // any other failure of the disk or the operating system
  kUnsupported,
  kFailed,      // an earlier failure made this object unusable
  kBusy,        // held by somebody else (lock file)
  kTooLarge,    // over a named limit
  kPermission,  // EACCES, EPERM, EROFS
};

// The name of the value without the "k", e.g. "Corruption".
std::string_view errc_name(Errc code);

class [[nodiscard]] Status {
 public:
  Status() = default;  // success
  Status(Errc code, std::string message);

  Status(const Status& other);
  Status& operator=(const Status& other);
  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;

  bool ok() const { return rep_ == nullptr; }
  Errc code() const { return ok() ? Errc::kOk : rep_->code; }
  // Empty on success. Valid as long as this Status.
  std::string_view message() const { return ok() ? std::string_view() : rep_->message; }
  // "Corruption: batch at 4096 …", or "ok".
  std::string to_string() const;
  // The same failure with "context: " before the message; success stays success.
  Status with_context(std::string_view context) const;

  // So that TRY serves Status and Result alike.
  Status status() const& { return *this; }
  Status status() && { return std::move(*this); }
  void value() const {}

 private:
  struct Rep {
    Errc code;
    std::string message;
  };
  std::unique_ptr<Rep> rep_;
};

inline Status ok_status() { return {}; }

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}                                 // NOLINT: implicit on purpose
  Result(Status status) : status_(std::move(status)) { CHECK(!status_.ok()); }  // NOLINT: implicit on purpose

  bool ok() const { return value_.has_value(); }
  Status status() const& { return status_; }
  Status status() && { return std::move(status_); }
  // Only if ok().
  T& value() & { return checked(); }
  const T& value() const& { return const_cast<Result*>(this)->checked(); }
  T value() && { return std::move(checked()); }
  T& operator*() { return checked(); }
  const T& operator*() const { return const_cast<Result*>(this)->checked(); }
  T* operator->() { return &checked(); }
  const T* operator->() const { return &const_cast<Result*>(this)->checked(); }

 private:
  T& checked() {
    CHECK(value_.has_value());
    return *value_;
  }
  std::optional<T> value_;
  Status status_;
};

}  // namespace trilog

// auto segment = TRY(Segment::open(fs, path));    TRY(segment->sanity_check());
// Returns from the enclosing function on failure. Not usable in a coroutine.
#define TRY(...)                              \
  __extension__({                             \
    auto try_result_ = (__VA_ARGS__);         \
    if (!try_result_.ok()) [[unlikely]] {     \
      return std::move(try_result_).status(); \
    }                                         \
    std::move(try_result_).value();           \
  })
