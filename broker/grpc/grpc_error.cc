#include "broker/grpc/grpc_error.h"

#include "broker/grpc/wire.h"
#include "google/rpc/status.pb.h"
#include "storage/base/check.h"

namespace trilog::grpc_edge {
namespace {

constexpr size_t kMessageBytesMax = 500;
constexpr size_t kDetailBytesMax = 500;  // of all details together

grpc::StatusCode status_code_of_code(api::ErrorCode code) {
  using api::ErrorCode;
  switch (code) {
    case ErrorCode::kInvalidRequest:
    case ErrorCode::kInvalidTopic:
    case ErrorCode::kInvalidConfig:
    case ErrorCode::kRecordTooLarge:
    case ErrorCode::kCorruptBatch: return grpc::StatusCode::INVALID_ARGUMENT;
    case ErrorCode::kUnsupportedField:
    case ErrorCode::kUnsupportedCodec: return grpc::StatusCode::UNIMPLEMENTED;
    case ErrorCode::kUnknownTopic:
    case ErrorCode::kUnknownPartition:
    case ErrorCode::kUnknownGroup: return grpc::StatusCode::NOT_FOUND;
    case ErrorCode::kTopicExists: return grpc::StatusCode::ALREADY_EXISTS;
    case ErrorCode::kGroupNotEmpty:
    case ErrorCode::kGroupInUse:
    case ErrorCode::kTopicBeingDeleted:
    case ErrorCode::kNotEnoughNodes:
    case ErrorCode::kDiskFull:
    case ErrorCode::kUnknownProducer:
    case ErrorCode::kPreviousFailed: return grpc::StatusCode::FAILED_PRECONDITION;
    case ErrorCode::kFencedMember:
    case ErrorCode::kIllegalGeneration:
    case ErrorCode::kInvalidProducerEpoch:
    case ErrorCode::kOutOfOrderSequence:
    case ErrorCode::kFencedLeaderEpoch: return grpc::StatusCode::ABORTED;
    case ErrorCode::kOffsetOutOfRange: return grpc::StatusCode::OUT_OF_RANGE;
    case ErrorCode::kOffsetNotAvailable:
    case ErrorCode::kNotEnoughReplicas:
    case ErrorCode::kLeaderNotAvailable:
    case ErrorCode::kNotLeader:
    case ErrorCode::kNodeStopping: return grpc::StatusCode::UNAVAILABLE;
    case ErrorCode::kThrottled: return grpc::StatusCode::RESOURCE_EXHAUSTED;
    case ErrorCode::kRequestTimedOut: return grpc::StatusCode::DEADLINE_EXCEEDED;
    case ErrorCode::kLeadershipLost:
    case ErrorCode::kNotEnoughReplicasAfterAppend: return grpc::StatusCode::UNKNOWN;
    case ErrorCode::kStorageError: return grpc::StatusCode::INTERNAL;
    case ErrorCode::kDataDamaged: return grpc::StatusCode::DATA_LOSS;
  }
  UNREACHABLE("ErrorCode");
}

v1::Error::Outcome outcome_of(api::Outcome outcome) {
  switch (outcome) {
    case api::Outcome::kNotWritten: return v1::Error::NOT_WRITTEN;
    case api::Outcome::kUnknown: return v1::Error::UNKNOWN;
    case api::Outcome::kNotApplicable: return v1::Error::NOT_APPLICABLE;
  }
  UNREACHABLE("Outcome");
}

}  // namespace

std::string_view outcome_name(api::Outcome outcome) {
  switch (outcome) {
    case api::Outcome::kNotWritten: return "NOT_WRITTEN";
    case api::Outcome::kUnknown: return "UNKNOWN";
    case api::Outcome::kNotApplicable: return "NOT_APPLICABLE";
  }
  UNREACHABLE("Outcome");
}

grpc::StatusCode status_code_of(const api::Error& error) {
  grpc::StatusCode code = status_code_of_code(error.code);
  bool repeated_by_others = code == grpc::StatusCode::UNAVAILABLE;
  return repeated_by_others && error.outcome == api::Outcome::kUnknown ? grpc::StatusCode::UNKNOWN : code;
}

bool is_retriable(const api::Error& error) {
  return api::error_code_retriable(error.code) && error.outcome != api::Outcome::kUnknown;
}

std::string printable(std::string_view text, size_t bytes_max) {
  std::string clean = to_utf8(as_bytes(text.substr(0, bytes_max)));
  for (char& c : clean) {
    auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) c = '?';
  }
  if (clean.size() <= bytes_max && text.size() <= bytes_max) return clean;
  // Cut at the start of a character.
  size_t end = bytes_max > 3 ? bytes_max - 3 : 0;
  while (end > 0 && (static_cast<unsigned char>(clean[end]) & 0xc0) == 0x80) --end;
  clean.resize(end);
  return clean + "…";
}

void fill_error(const api::Error& error, BrokerId node, v1::Error& out) {
  out.set_code(std::string(api::error_code_name(error.code)));
  out.set_message(printable(error.message, kMessageBytesMax));
  out.set_retriable(is_retriable(error));
  out.set_outcome(outcome_of(error.outcome));
  out.set_retry_after_ms(error.retry_after_ms);
  out.set_node_id(node.value());
  size_t left = kDetailBytesMax;
  for (const auto& [key, value] : error.details) {
    std::string name = printable(key, 64);
    std::string text = printable(value, 256);
    if (name.size() + text.size() > left) break;
    left -= name.size() + text.size();
    (*out.mutable_details())[name] = text;
  }
}

grpc::Status make_status(const api::Error& error, BrokerId node) {
  v1::Error detail;
  fill_error(error, node, detail);
  google::rpc::Status status;
  status.set_code(static_cast<int>(status_code_of(error)));
  status.set_message(detail.message());
  status.add_details()->PackFrom(detail);
  return {status_code_of(error), detail.message(), status.SerializeAsString()};
}

void add_trailers(grpc::ServerContextBase& context, const api::Error& error) {
  context.AddTrailingMetadata("trilog-code", std::string(api::error_code_name(error.code)));
  context.AddTrailingMetadata("trilog-outcome", std::string(outcome_name(error.outcome)));
  context.AddTrailingMetadata("trilog-retriable", is_retriable(error) ? "true" : "false");
}

}  // namespace trilog::grpc_edge
