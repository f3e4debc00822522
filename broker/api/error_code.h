// ErrorCode: every answer other than success that a client can legitimately get, with its text, whether repeating
// helps, and the honest outcome (X5): NOT_WRITTEN is said only when nothing was appended.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace trilog::api {

enum class ErrorCode : uint8_t {
  kInvalidRequest,
  kInvalidTopic,
  kInvalidConfig,
  kRecordTooLarge,
  kCorruptBatch,
  kUnsupportedField,
  kUnsupportedCodec,
  kUnknownTopic,
  kUnknownPartition,
  kUnknownGroup,
  kTopicExists,
  kGroupNotEmpty,
  kGroupInUse,
  kTopicBeingDeleted,
  kNotEnoughNodes,
  kDiskFull,
  kUnknownProducer,
  kPreviousFailed,
  kFencedMember,
  kIllegalGeneration,
  kInvalidProducerEpoch,
  kOutOfOrderSequence,
  kFencedLeaderEpoch,
  kOffsetOutOfRange,
  kOffsetNotAvailable,
  kNotEnoughReplicas,
  kLeaderNotAvailable,
  kNotLeader,
  kNodeStopping,
  kThrottled,
  kRequestTimedOut,
  kLeadershipLost,
  kNotEnoughReplicasAfterAppend,
  kStorageError,
  kDataDamaged,
};

enum class Outcome : uint8_t { kNotWritten, kUnknown, kNotApplicable };

// "UNKNOWN_TOPIC" and so on: fixed, part of the public interface.
std::string_view error_code_name(ErrorCode code);
std::optional<ErrorCode> error_code_from_name(std::string_view name);
// Whether the same request may succeed later without being changed.
bool error_code_retriable(ErrorCode code);
// The outcome that goes with the code unless whoever made the error knows better (a time-out after the append).
Outcome error_code_outcome(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::kInvalidRequest;
  std::string message;  // names the thing, the value, the limit and what to do
  Outcome outcome = Outcome::kNotWritten;
  uint32_t retry_after_ms = 0;
  std::map<std::string, std::string> details = {};

  Error() = default;
  Error(ErrorCode error_code, std::string text)
      : code(error_code), message(std::move(text)), outcome(error_code_outcome(error_code)) {}
  Error(ErrorCode error_code, Outcome what_happened, std::string text)
      : code(error_code), message(std::move(text)), outcome(what_happened) {}
  Error with_detail(std::string key, std::string value) && {
    details.emplace(std::move(key), std::move(value));
    return std::move(*this);
  }
};

// A value, or the Error a client gets. (Status is for what we could not do; this is for what we answer.)
template <typename T>
class [[nodiscard]] Answer {
 public:
  Answer(T value) : value_(std::move(value)) {}      // NOLINT: implicit on purpose
  Answer(Error error) : error_(std::move(error)) {}  // NOLINT: implicit on purpose
  bool ok() const { return value_.has_value(); }
  T& value() { return *value_; }
  const T& value() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }
  Error& error() { return error_; }
  const Error& error() const { return error_; }

 private:
  std::optional<T> value_;
  Error error_;
};

struct Unit {};  // Answer<Unit>: done, nothing to tell

}  // namespace trilog::api
