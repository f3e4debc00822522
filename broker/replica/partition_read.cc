// What may be read of a partition, and what is done about damage.
#include "broker/replica/partition.h"

#include <algorithm>
#include <utility>

#include "storage/base/check.h"

namespace trilog {

using api::Error;
using api::ErrorCode;
using api::Outcome;

namespace {

template <typename Id>
std::string text(Id id) {
  return std::to_string(id.value());
}

// What the fields outside Kafka's CRC say of a batch.
struct BatchFrame {
  Offset base;
  Offset next;
  uint64_t size = 0;
};
std::optional<BatchFrame> read_frame(const File& file, uint64_t position) {
  std::byte header[kBatchHeaderBytes];
  auto got = file.read_at(position, header);
  if (!got.ok() || *got < sizeof(header)) return std::nullopt;
  auto size = RecordBatch::peek_size(header, LogConfig().batch_bytes_max);
  const auto base = load_big_endian<int64_t>(header);
  const auto magic = load_big_endian<int8_t>(header + 16);
  const auto last_delta = load_big_endian<int32_t>(header + 23);
  if (!size.ok() || magic != kBatchMagic || base < 0 || last_delta < 0 || base > INT64_MAX - last_delta - 1) {
    return std::nullopt;
  }
  return BatchFrame{Offset(base), Offset(base + last_delta + 1), *size};
}

// "00000000000000000042.log" -> 42.
std::optional<Offset> segment_base(std::string_view file_name) {
  constexpr size_t kDigits = 20;
  if (file_name.size() != kDigits + 4 || file_name.substr(kDigits) != ".log") return std::nullopt;
  int64_t base = 0;
  for (char c : file_name.substr(0, kDigits)) {
    if (c < '0' || c > '9' || base > (INT64_MAX - 9) / 10) return std::nullopt;
    base = base * 10 + (c - '0');
  }
  return Offset(base);
}

}  // namespace

std::optional<Error> Partition::refuse_read(const ReadRequest& request) const {
  if (!log_) return offline_error(Outcome::kNotApplicable);
  if (role_ != Role::kLeader && !without_leader()) {
    Error error = not_leader();
    error.outcome = Outcome::kNotApplicable;
    return error;
  }
  if (role_ == Role::kLeader && request.leader_epoch && *request.leader_epoch != kNoLeaderEpoch &&
      *request.leader_epoch != state().leader_epoch) {
    const bool older = *request.leader_epoch < state().leader_epoch;
    return Error(ErrorCode::kFencedLeaderEpoch, Outcome::kNotApplicable,
                 "leader epoch " + text(*request.leader_epoch) + " of " + name() + " is " +
                     (older ? "over" : "not known here yet") + "; current is " + text(state().leader_epoch))
        .with_detail("leader_epoch", text(state().leader_epoch));
  }
  const Offset asked = asked_offset(request);
  if (asked < log_->log_start() && front_unknown()) return front_not_available();
  // R16: past the end of a replica that cannot ask a leader there may well be something.
  if (asked < log_->log_start() || (asked > log_->log_end() && !without_leader())) return out_of_range(asked);
  return std::nullopt;
}

bool Partition::front_unknown() const {
  return role_ != Role::kLeader && without_leader() && log_->recovery().front_in_doubt;
}

Error Partition::front_not_available() const {
  return Error(ErrorCode::kOffsetNotAvailable,
               "a power cut may have taken the first records of " + name() + " here, and no leader can be asked");
}

Error Partition::out_of_range(Offset asked) const {
  return Error(ErrorCode::kOffsetOutOfRange, "offset " + text(asked) + " of " + name() + " is outside what is there: " +
                                                 text(log_start()) + " to " + text(high_watermark_))
      .with_detail("start_offset", text(log_start()))
      .with_detail("end_offset", text(high_watermark_));
}

Error Partition::damaged(Offset asked, const Status& why) const {
  Error error(ErrorCode::kDataDamaged, "stored bytes of " + name() + " at offset " + text(asked) +
                                           " are damaged: " + std::string(why.message()));
  error.details["partition"] = name();
  error.details["offset"] = text(asked);
  if (const DamagedRange* range = log_->damage_at(asked); range != nullptr) {
    error.details["file"] = range->file;
    error.details["next_good_offset"] = text(range->next_good);
  }
  return error;
}

Offset Partition::read_limit(api::Isolation isolation) const {
  return isolation == api::Isolation::kCommitted || role_ != Role::kLeader ? high_watermark_ : log_end();
}

ReadPart Partition::read(const ReadRequest& request, uint32_t bytes_max, api::Isolation isolation) {
  ReadPart part;
  part.asked = asked_offset(request);
  part.high_watermark = high_watermark_;
  part.log_start = log_start();
  part.leader_epoch = state().leader_epoch;
  part.stale = without_leader() || !end_is_known();
  part.error = refuse_read(request);
  const Offset limit = read_limit(isolation);
  if (part.error || part.asked >= limit) {
    // Between the high watermark and the log end there is nothing to see yet, which is no error. But nothing will ever
    // come out of a failed log, and who waits for it must be told.
    if (!part.error && log_->failed()) part.error = offline_error(Outcome::kNotApplicable);
    return part;
  }
  auto slice = log_->read(part.asked, bytes_max, limit);
  if (slice.ok()) {
    part.slice = std::move(*slice);
    return part;
  }
  switch (slice.status().code()) {
    case Errc::kOutOfRange: part.error = out_of_range(part.asked); break;
    case Errc::kCorruption: part.error = damaged(part.asked, slice.status()); break;
    default:
      part.error = Error(ErrorCode::kStorageError, Outcome::kNotApplicable,
                         "reading " + name() + " failed: " + slice.status().to_string());
  }
  return part;
}

uint64_t Partition::readable_bytes(const ReadRequest& request, uint32_t bytes_enough, api::Isolation isolation) {
  const Offset asked = asked_offset(request);
  const Offset limit = read_limit(isolation);
  if (asked >= limit) return 0;
  if (bytes_enough <= 1) return 1;
  // A read ends with a whole batch, so that one more than asked for has to be looked at.
  const uint32_t look_at = bytes_enough + std::min(LogConfig().batch_bytes_max, UINT32_MAX - bytes_enough);
  auto slice = log_->read(asked, look_at, limit);
  if (!slice.ok()) return bytes_enough;  // an error is something to tell as well
  if (slice->slice.length < bytes_enough) return slice->slice.length;
  // The slice may hold batches past the limit. Counting those would wake a reader who then finds less than he asked
  // for, and waits again, in a circle.
  auto run = read_slice(*slice);
  return run.ok() ? run->bytes.size() : bytes_enough;
}

api::Answer<PartitionEnds> Partition::ends() const {
  if (!log_) return offline_error(Outcome::kNotApplicable);
  const bool stale = without_leader();
  if (role_ != Role::kLeader && !stale) {
    Error error = not_leader();
    error.outcome = Outcome::kNotApplicable;
    return error;
  }
  if (front_unknown()) return front_not_available();
  if (!stale && !end_is_known()) {
    return Error(ErrorCode::kOffsetNotAvailable, "the end of " + name() + " is not known yet after a change of leader");
  }
  return PartitionEnds{.start = log_->log_start(),
                       .high_watermark = high_watermark_,
                       .log_end = log_->log_end(),
                       .leader_epoch = state().leader_epoch,
                       .size_bytes = log_->size_bytes(),
                       .stale = stale};
}

api::Answer<std::optional<TimestampedOffset>> Partition::find_timestamp(int64_t timestamp_ms) {
  if (auto known = ends(); !known.ok()) return std::move(known.error());
  auto found = log_->find_timestamp(timestamp_ms, high_watermark_);
  if (found.ok()) return *found;
  if (found.status().code() == Errc::kCorruption) return damaged(log_start(), found.status());
  return Error(ErrorCode::kStorageError, Outcome::kNotApplicable,
               "looking up a time in " + name() + " failed: " + found.status().to_string());
}

void Partition::report_damage(const LogSlice& slice, const Status& why) {
  if (!log_ || slice.empty() || log_->damage_at(slice.first) != nullptr) return;
  const Offset next_good = next_good_after(slice);
  env_.log().error(name(), ": damaged bytes in ", slice.file, " at ", slice.slice.position, ", offsets ", slice.first,
                   " to ", next_good, ": ", why.to_string());
  log_->report_damage({.first = slice.first,
                       .next_good = next_good,
                       .file = slice.file,
                       .position = slice.slice.position,
                       .what = std::string(why.message())});
}

// The damage may be in the payload, and then the header says where the next batch begins; or in the header, and then
// only the name of the next segment's file is beyond doubt.
Offset Partition::next_good_after(const LogSlice& slice) const {
  const uint64_t position = slice.slice.position;
  const std::optional<BatchFrame> bad = read_frame(*slice.slice.file, position);
  if (bad && bad->base == slice.first && bad->next <= log_->log_end()) {
    if (bad->next == log_->log_end()) return bad->next;
    const std::optional<BatchFrame> after = read_frame(*slice.slice.file, position + bad->size);
    auto file_size = slice.slice.file->size();
    const bool at_end = file_size.ok() && *file_size == position + bad->size;
    if (at_end || (after && after->base == bad->next)) return bad->next;
  }
  Offset next = log_->log_end();
  auto files = env_.files().list(log_->directory());
  if (!files.ok()) return next;
  for (const DirectoryEntry& entry : *files) {
    const std::optional<Offset> base = segment_base(entry.name);
    if (base && *base > slice.first) next = std::min(next, *base);
  }
  return next;
}

}  // namespace trilog
