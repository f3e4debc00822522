#include "broker/replica/partition.h"

#include <algorithm>
#include <utility>

#include "broker/replica/append_validator.h"
#include "storage/base/check.h"

namespace trilog {
namespace {

using api::Error;
using api::ErrorCode;
using api::Outcome;

template <typename Id>
std::string text(Id id) {
  return std::to_string(id.value());
}

bool contains(const std::vector<BrokerId>& brokers, BrokerId broker) {
  return std::find(brokers.begin(), brokers.end(), broker) != brokers.end();
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

PartitionMeta partition_meta_of(const TopicImage& topic, PartitionId partition) {
  return {.topic_id = topic.id,
          .topic = topic.name,
          .partition = partition,
          .partition_count = static_cast<int32_t>(topic.partitions.size()),
          .replicas = topic.partitions[static_cast<size_t>(partition.value())].replicas,
          .settings = topic.configs};
}

LogConfig log_config_of(const TopicImage& topic) {
  const TopicSettings& settings = topic.settings;
  LogConfig config;
  config.segment_bytes = static_cast<uint64_t>(settings.segment_bytes);
  config.segment_ms = settings.segment_ms;
  // G3: what the coordinator still needs may be older than any retention; it moves the log start itself.
  config.retention_ms = topic.internal ? -1 : settings.retention_ms;
  config.retention_bytes = topic.internal ? -1 : settings.retention_bytes;
  return config;
}

Partition::Partition(Env& env, TopicPartition id, BrokerId self, std::unique_ptr<Log> log, Status offline)
    : env_(env), id_(id), self_(self), log_(std::move(log)), offline_(std::move(offline)) {
  // R13: after a restart the high watermark is somewhere between the mark and the log end. It starts low and rises when
  // the leader knows better; a lone replica knows at once.
  high_watermark_ = log_start();
}

std::string Partition::name() const { return topic_->name + "/" + text(id_.partition); }

void Partition::apply(std::shared_ptr<const TopicImage> topic) {
  const std::shared_ptr<const TopicImage> before = std::exchange(topic_, std::move(topic));
  if (log_ && before != topic_) {
    log_->set_config(log_config_of(*topic_));
    PartitionMeta meta = partition_meta_of(*topic_, id_.partition);
    if (before && partition_meta_of(*before, id_.partition) != meta) {
      if (Status written = log_->set_meta(std::move(meta)); !written.ok()) {
        env_.log().warning(name(), ": partition.meta keeps old settings: ", written.to_string());
      }
    }
  }
  if (state().leader == self_ && log_) {
    become_leader();
  } else {
    role_ = Role::kFollower;
  }
}

const PartitionImage& Partition::state() const {
  return topic_->partitions[static_cast<size_t>(id_.partition.value())];
}

void Partition::become_leader() {
  const LeaderEpoch epoch = state().leader_epoch;
  const bool leads_already = role_ == Role::kLeader;
  if (leads_already) CHECK_GE(epoch, led_epoch_);                       // A5
  if (!leads_already || epoch != led_epoch_) log_->begin_epoch(epoch);  // R11: before anything is served
  led_epoch_ = epoch;
  if (leads_already) return;
  role_ = Role::kLeader;
  ++tenure_;
  tenure_start_ = log_->log_end();
}

void Partition::retire() {
  retired_ = true;
  role_ = Role::kFollower;
}

Offset Partition::counted_position() const {
  if (!log_) return Offset(0);
  return synced() ? log_->durable_end() : log_->log_end();
}

bool Partition::too_few_in_sync() const {
  return static_cast<int32_t>(state().isr.size()) < topic_->settings.min_insync_replicas;
}

int32_t Partition::synced_replicas(Offset end) const {
  // Everything below the high watermark of a synced topic is on the disk of every in-sync replica (R2).
  if (synced() && high_watermark_ >= end) return static_cast<int32_t>(state().isr.size());
  return log_ && log_->durable_end() >= end ? 1 : 0;
}

std::optional<Offset> Partition::committed_position() const {
  if (role_ != Role::kLeader || too_few_in_sync()) return std::nullopt;  // R6
  for (BrokerId member : state().isr) {
    // Nothing is known of another member's position, so nothing can be counted for it.
    if (member != self_) return std::nullopt;
  }
  return counted_position();
}

bool Partition::advance_high_watermark() {
  const std::optional<Offset> position = committed_position();
  if (!position || *position <= high_watermark_) return false;
  CHECK_LE(*position, log_->log_end());
  high_watermark_ = *position;
  return true;
}

Error Partition::not_leader() const {
  if (retired_) return {ErrorCode::kUnknownTopic, "topic " + topic_->name + " was deleted"};
  if (state().leader == kNoBroker) {
    return {ErrorCode::kLeaderNotAvailable, "partition " + name() + " has no leader now"};
  }
  return Error(ErrorCode::kNotLeader, "partition " + name() + " is led by node " + text(state().leader))
      .with_detail("leader", text(state().leader));
}

Error Partition::offline_error(Outcome outcome) const {
  return {ErrorCode::kStorageError, outcome,
          "partition " + name() + " is out of service on this node: " +
              (log_ ? std::string("an earlier write or sync of its log failed") : offline_.to_string())};
}

std::optional<Error> Partition::refuse_append(api::Acks acks) const {
  if (failed() && (state().leader == self_ || role_ == Role::kLeader)) return offline_error(Outcome::kNotWritten);
  if (role_ != Role::kLeader) return not_leader();
  if (acks == api::Acks::kAll && too_few_in_sync()) {
    std::string missing;
    for (BrokerId replica : state().replicas) {
      if (!contains(state().isr, replica)) missing += (missing.empty() ? "" : ", ") + text(replica);
    }
    return Error(ErrorCode::kNotEnoughReplicas,
                 "partition " + name() + " has " + std::to_string(state().isr.size()) + " in-sync replicas and needs " +
                     std::to_string(topic_->settings.min_insync_replicas) +
                     (missing.empty() ? std::string("; it has no more replicas") : "; missing: node " + missing))
        .with_detail("missing", missing);
  }
  return std::nullopt;
}

api::Answer<Appended> Partition::append_as_leader(AppendRequest& request) {
  CHECK(role_ == Role::kLeader && log_ && !log_->failed());
  Bytes& batches = request.batches;
  const bool sized_here = request.internal || request.built_from_records;
  const int64_t batch_bytes_max = sized_here ? LogConfig().batch_bytes_max : topic_->settings.max_message_bytes;
  auto accepted = check_append(batches.view(), batch_bytes_max, log_->producers());
  if (!accepted.ok()) return std::move(accepted.error());
  const std::vector<CheckedBatch>& checked = accepted.value();

  std::optional<int64_t> append_time;
  if (topic_->settings.log_append_time) append_time = env_.clock().wall_ms();
  Appended appended;
  appended.batches.reserve(checked.size());
  Offset next = log_->log_end();
  size_t run = 0;  // the first batch that is stamped and not yet appended
  for (const CheckedBatch& batch : checked) {
    const size_t index = appended.batches.size();
    AppendedBatch& answer = appended.batches.emplace_back();
    if (!batch.duplicate) {
      stamp_batch(batches.mutable_view().subspan(batch.position, batch.size), next, state().leader_epoch, append_time);
      answer = {.first_offset = next,
                .timestamp_ms = append_time.value_or(kNoTimestamp),
                .leader_epoch = state().leader_epoch};
      next = next + batch.offset_count;
      continue;
    }
    if (index > run) {
      ByteView bytes = batches.view().subspan(checked[run].position, batch.position - checked[run].position);
      append_run(bytes, run, index, appended);
    }
    run = index + 1;
    if (batch.same_as) {
      answer = appended.batches[*batch.same_as];
    } else {
      answer = {.first_offset = batch.first_offset,
                .timestamp_ms = topic_->settings.log_append_time ? batch.timestamp_ms : kNoTimestamp,
                .leader_epoch = batch.leader_epoch};
      // R17: the first copy may still be on its way to the disk; a repeat is acknowledged no sooner.
      appended.end = std::max(appended.end, batch.first_offset + batch.offset_count);
    }
    answer.duplicate = !answer.error;
  }
  if (run < checked.size()) {
    append_run(batches.view().subspan(checked[run].position), run, checked.size(), appended);
  }
  return appended;
}

void Partition::append_run(ByteView bytes, size_t from, size_t to, Appended& appended) {
  const bool earlier_failed =
      std::any_of(appended.batches.begin(), appended.batches.begin() + static_cast<ptrdiff_t>(from),
                  [](const AppendedBatch& batch) { return batch.error.has_value(); });
  std::optional<Error> error;
  if (earlier_failed) {
    error = Error(ErrorCode::kPreviousFailed, "an earlier batch of the same request to " + name() + " failed");
  } else if (auto done = log_->append(bytes); done.ok()) {
    CHECK_EQ(done->first_offset, appended.batches[from].first_offset);  // A2
    appended.end = std::max(appended.end, done->next_offset);
    appended.bytes += bytes.size();
    return;
  } else {
    // The boundary is restored, but a power cut before that is on disk may bring whole batches back: unknown (X5).
    appended.disk_full = done.status().code() == Errc::kDiskFull;
    error = Error(ErrorCode::kStorageError, Outcome::kUnknown,
                  "appending to " + name() + " failed: " + done.status().to_string());
  }
  for (size_t i = from; i < to; ++i) appended.batches[i] = AppendedBatch{.error = error};
}

std::optional<Error> Partition::refuse_read(const ReadRequest& request) const {
  if (!log_) return offline_error(Outcome::kNotApplicable);
  if (role_ != Role::kLeader) {
    Error error = not_leader();
    error.outcome = Outcome::kNotApplicable;
    return error;
  }
  if (request.leader_epoch && *request.leader_epoch != kNoLeaderEpoch &&
      *request.leader_epoch != state().leader_epoch) {
    const bool older = *request.leader_epoch < state().leader_epoch;
    return Error(ErrorCode::kFencedLeaderEpoch, Outcome::kNotApplicable,
                 "leader epoch " + text(*request.leader_epoch) + " of " + name() + " is " +
                     (older ? "over" : "not known here yet") + "; current is " + text(state().leader_epoch))
        .with_detail("leader_epoch", text(state().leader_epoch));
  }
  const Offset asked = asked_offset(request);
  if (asked < log_->log_start() || asked > log_->log_end()) return out_of_range(asked);
  return std::nullopt;
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
  return isolation == api::Isolation::kCommitted ? high_watermark_ : log_end();
}

ReadPart Partition::read(const ReadRequest& request, uint32_t bytes_max, api::Isolation isolation) {
  ReadPart part;
  part.asked = asked_offset(request);
  part.high_watermark = high_watermark_;
  part.log_start = log_start();
  part.leader_epoch = state().leader_epoch;
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
  if (role_ != Role::kLeader) {
    Error error = not_leader();
    error.outcome = Outcome::kNotApplicable;
    return error;
  }
  if (high_watermark_ < tenure_start_) {  // R16
    return Error(ErrorCode::kOffsetNotAvailable, "the end of " + name() + " is not known yet after a change of leader");
  }
  return PartitionEnds{.start = log_->log_start(),
                       .high_watermark = high_watermark_,
                       .log_end = log_->log_end(),
                       .leader_epoch = state().leader_epoch,
                       .size_bytes = log_->size_bytes()};
}

api::Answer<std::optional<TimestampedOffset>> Partition::find_timestamp(int64_t timestamp_ms) {
  if (auto known = ends(); !known.ok()) return std::move(known.error());
  auto found = log_->find_timestamp(timestamp_ms, high_watermark_);
  if (found.ok()) return *found;
  if (found.status().code() == Errc::kCorruption) return damaged(log_start(), found.status());
  return Error(ErrorCode::kStorageError, Outcome::kNotApplicable,
               "looking up a time in " + name() + " failed: " + found.status().to_string());
}

api::Answer<api::Unit> Partition::trim(std::optional<Offset> before) {
  if (!log_ || log_->failed()) return offline_error(Outcome::kNotWritten);
  if (role_ != Role::kLeader) return not_leader();
  const Offset to = before.value_or(high_watermark_);
  if (to < Offset(0) || to > high_watermark_) {
    Error error = out_of_range(to);
    error.outcome = Outcome::kNotWritten;  // unlike a read, a trim could have changed something
    return error;
  }
  if (to > log_->log_start()) log_->advance_start(to);
  return api::Unit{};
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

void Partition::check_invariants() {
  if (!log_) return;
  CHECK_LE(high_watermark_, log_->log_end());
  CHECK_LE(log_->durable_end(), log_->log_end());
  CHECK_LE(log_->log_start(), log_->log_end());
  const LogMark mark = log_->mark(high_watermark_);
  CHECK_LE(mark.high_watermark, mark.durable_end);
  CHECK_LE(mark.durable_end, log_->durable_end());
  for (BrokerId member : state().isr) CHECK(contains(state().replicas, member));  // A4
  if (role_ == Role::kLeader) {
    CHECK_LE(log_->log_start(), high_watermark_);
    CHECK(contains(state().isr, self_));
    if (synced()) CHECK_LE(high_watermark_, log_->durable_end());
    if (auto latest = log_->epochs().latest()) CHECK_LE(latest->epoch, state().leader_epoch);
  }
  for (BrokerId candidate : state().elr) CHECK(!contains(state().isr, candidate));
  log_->check_invariants();
}

}  // namespace trilog
