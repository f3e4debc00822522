#include "broker/replica/delayed_operations.h"

#include <string>
#include <utility>

#include "storage/base/check.h"

namespace trilog {

using api::Error;
using api::ErrorCode;
using api::Outcome;

DelayedProduce::DelayedProduce(Env& env, const Partition& partition, api::Acks acks, Offset end, AppendResult result,
                               AppendDone done)
    : env_(env),
      partition_(partition),
      tenure_(partition.tenure()),
      acks_(acks),
      end_(end),
      result_(std::move(result)),
      done_(std::move(done)) {
  CHECK(acks != api::Acks::kNone);
}

Watch DelayedProduce::watch() const {
  const Watched what = acks_ == api::Acks::kAll ? Watched::kHighWatermark : Watched::kLeaderPosition;
  return {{partition_.id(), what}, end_};
}

bool DelayedProduce::acks_met() const {
  // R5: the wait belongs to one tenure. After losing and regaining leadership the offset may hold another record.
  if (!partition_.is_leader() || partition_.tenure() != tenure_) return false;
  const Offset position = acks_ == api::Acks::kAll ? partition_.high_watermark() : partition_.counted_position();
  return position >= end_;
}

std::optional<Error> DelayedProduce::hopeless() const {
  if (!partition_.is_leader() || partition_.tenure() != tenure_) {
    return Error(ErrorCode::kLeadershipLost, Outcome::kUnknown,
                 "this node stopped leading " + partition_.name() + " before the write was acknowledged");
  }
  if (partition_.failed()) {
    return Error(ErrorCode::kStorageError, Outcome::kUnknown,
                 "the disk failed before the write to " + partition_.name() + " was known to be on it");
  }
  if (acks_ == api::Acks::kAll && partition_.too_few_in_sync()) {  // R6: tell at once
    return Error(ErrorCode::kNotEnoughReplicasAfterAppend, Outcome::kUnknown,
                 "too few replicas of " + partition_.name() + " are in sync to acknowledge the write");
  }
  if (acks_ == api::Acks::kAll && partition_.too_few_reachable()) {  // R1: the same trigger as for new ones
    return Error(ErrorCode::kNotEnoughReplicasAfterAppend, Outcome::kUnknown,
                 "too few in-sync replicas of " + partition_.name() + " can be reached to acknowledge the write");
  }
  return std::nullopt;
}

bool DelayedProduce::ready() { return acks_met() || hopeless().has_value(); }

Error DelayedProduce::gave_up(Ending ending) const {
  if (auto error = hopeless()) return *std::move(error);
  if (ending == Ending::kTimedOut) {
    return {ErrorCode::kRequestTimedOut, Outcome::kUnknown,
            "the write to " + partition_.name() + " was appended but not acknowledged in time"};
  }
  return {ErrorCode::kLeadershipLost, Outcome::kUnknown,
          "the node stopped before the write to " + partition_.name() + " was acknowledged"};
}

void DelayedProduce::complete(Ending ending) {
  if (acks_met()) {
    result_.synced_replicas = partition_.synced_replicas(end_);
  } else {
    const Error error = gave_up(ending);
    for (AppendedBatch& batch : result_.batches) {
      if (!batch.error) batch = AppendedBatch{.error = error};
    }
    result_.synced_replicas = 0;
  }
  env_.executor().post([done = std::move(done_), result = std::move(result_)]() mutable { done(std::move(result)); });
}

DelayedFetch::DelayedFetch(Env& env, std::vector<Part> parts, uint32_t bytes_min, api::Isolation isolation,
                           UniqueFunction<void()> done)
    : env_(env), parts_(std::move(parts)), bytes_min_(bytes_min), isolation_(isolation), done_(std::move(done)) {}

bool DelayedFetch::ready() {
  uint64_t bytes = 0;
  for (const Part& part : parts_) {
    if (part.partition->failed() || part.partition->refuse_read(part.request)) return true;
    if (bytes < bytes_min_) {
      bytes += part.partition->readable_bytes(part.request, static_cast<uint32_t>(bytes_min_ - bytes), isolation_);
    }
  }
  return bytes >= bytes_min_;
}

void DelayedFetch::complete(Ending) {
  env_.executor().post([done = std::move(done_)]() mutable { done(); });
}

std::vector<Watch> DelayedFetch::watches() const {
  const Watched what = isolation_ == api::Isolation::kCommitted ? Watched::kHighWatermark : Watched::kLogEnd;
  std::vector<Watch> watches;
  watches.reserve(parts_.size());
  for (const Part& part : parts_) {
    // The first thing that could be new to the reader is at or past what it has seen, and past the limit of now.
    const Offset seen = std::max(part.partition->asked_offset(part.request), part.partition->read_limit(isolation_));
    watches.push_back({{part.partition->id(), what}, seen + 1});
  }
  return watches;
}

}  // namespace trilog
