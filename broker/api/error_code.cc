#include "broker/api/error_code.h"

#include <array>

#include "storage/base/check.h"

namespace trilog::api {
namespace {

struct Row {
  ErrorCode code;
  std::string_view name;
  bool retriable;
  Outcome outcome;
};

constexpr Outcome kNo = Outcome::kNotWritten;
constexpr Outcome kMaybe = Outcome::kUnknown;
constexpr Outcome kNa = Outcome::kNotApplicable;

// In the order of the enumerators (checked below), so that a look-up is an index.
constexpr std::array kRows = {
    Row{ErrorCode::kInvalidRequest, "INVALID_REQUEST", false, kNo},
    Row{ErrorCode::kInvalidTopic, "INVALID_TOPIC", false, kNo},
    Row{ErrorCode::kInvalidConfig, "INVALID_CONFIG", false, kNo},
    Row{ErrorCode::kRecordTooLarge, "RECORD_TOO_LARGE", false, kNo},
    Row{ErrorCode::kCorruptBatch, "CORRUPT_BATCH", false, kNo},
    Row{ErrorCode::kUnsupportedField, "UNSUPPORTED_FIELD", false, kNo},
    Row{ErrorCode::kUnsupportedCodec, "UNSUPPORTED_CODEC", false, kNo},
    Row{ErrorCode::kUnknownTopic, "UNKNOWN_TOPIC", false, kNo},
    Row{ErrorCode::kUnknownPartition, "UNKNOWN_PARTITION", false, kNo},
    Row{ErrorCode::kUnknownGroup, "UNKNOWN_GROUP", false, kNo},
    Row{ErrorCode::kTopicExists, "TOPIC_EXISTS", false, kNo},
    Row{ErrorCode::kGroupNotEmpty, "GROUP_NOT_EMPTY", false, kNo},
    Row{ErrorCode::kGroupInUse, "GROUP_IN_USE", false, kNo},
    Row{ErrorCode::kTopicBeingDeleted, "TOPIC_BEING_DELETED", false, kNo},
    Row{ErrorCode::kNotEnoughNodes, "NOT_ENOUGH_NODES", false, kNo},
    Row{ErrorCode::kDiskFull, "DISK_FULL", true, kNo},
    Row{ErrorCode::kUnknownProducer, "UNKNOWN_PRODUCER", false, kNo},
    Row{ErrorCode::kPreviousFailed, "PREVIOUS_FAILED", false, kNo},
    Row{ErrorCode::kFencedMember, "FENCED_MEMBER", false, kNo},
    Row{ErrorCode::kIllegalGeneration, "ILLEGAL_GENERATION", false, kNo},
    Row{ErrorCode::kInvalidProducerEpoch, "INVALID_PRODUCER_EPOCH", false, kNo},
    Row{ErrorCode::kOutOfOrderSequence, "OUT_OF_ORDER_SEQUENCE", false, kNo},
    Row{ErrorCode::kFencedLeaderEpoch, "FENCED_LEADER_EPOCH", true, kNo},
    Row{ErrorCode::kOffsetOutOfRange, "OFFSET_OUT_OF_RANGE", false, kNa},
    Row{ErrorCode::kOffsetNotAvailable, "OFFSET_NOT_AVAILABLE", true, kNa},
    Row{ErrorCode::kNotEnoughReplicas, "NOT_ENOUGH_REPLICAS", true, kNo},
    Row{ErrorCode::kLeaderNotAvailable, "LEADER_NOT_AVAILABLE", true, kNo},
    Row{ErrorCode::kNotLeader, "NOT_LEADER", true, kNo},
    Row{ErrorCode::kNodeStopping, "NODE_STOPPING", true, kNo},
    Row{ErrorCode::kThrottled, "THROTTLED", true, kNo},
    Row{ErrorCode::kRequestTimedOut, "REQUEST_TIMED_OUT", true, kNo},
    Row{ErrorCode::kLeadershipLost, "LEADERSHIP_LOST", false, kMaybe},
    Row{ErrorCode::kNotEnoughReplicasAfterAppend, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", false, kMaybe},
    Row{ErrorCode::kStorageError, "STORAGE_ERROR", false, kMaybe},
    Row{ErrorCode::kDataDamaged, "DATA_DAMAGED", false, kNa},
};

constexpr bool in_order() {
  for (size_t i = 0; i < kRows.size(); ++i) {
    if (static_cast<size_t>(kRows[i].code) != i) return false;
  }
  return kRows.size() == static_cast<size_t>(ErrorCode::kDataDamaged) + 1;
}
static_assert(in_order());

const Row& row(ErrorCode code) {
  CHECK_LT(static_cast<size_t>(code), kRows.size());
  return kRows[static_cast<size_t>(code)];
}

}  // namespace

std::string_view error_code_name(ErrorCode code) { return row(code).name; }
bool error_code_retriable(ErrorCode code) { return row(code).retriable; }
Outcome error_code_outcome(ErrorCode code) { return row(code).outcome; }

std::optional<ErrorCode> error_code_from_name(std::string_view name) {
  for (const Row& candidate : kRows) {
    if (candidate.name == name) return candidate.code;
  }
  return std::nullopt;
}

}  // namespace trilog::api
