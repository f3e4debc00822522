#include "broker/group/offsets_partition.h"

#include <algorithm>
#include <set>
#include <utility>

#include "storage/base/check.h"

namespace trilog {
namespace {

using api::Error;
using api::ErrorCode;
using api::Outcome;

constexpr uint32_t kReplayBytes = 1u << 20;       // read and applied in one go while loading
constexpr size_t kPieceEntries = 1'000;           // of a pass, in one go
constexpr uint64_t kAppendBytes = 1u << 20;       // no further write joins an append of this size
constexpr int64_t kRetryAfterNs = 1'000'000'000;  // after a failed load

}  // namespace

OffsetsPartition::OffsetsPartition(const Context& context, TopicPartition id, LeaderEpoch epoch)
    : context_(context), id_(id), begun_ns_(context.env.clock().monotonic_ns()), epoch_(epoch) {}

// --- what waits ----------------------------------------------------------------------------------------------------

void OffsetsPartition::when_ready(Task task) {
  tasks_.push_back(std::move(task));
  schedule_step();
}

void OffsetsPartition::write(Write write) {
  auto queued = std::make_shared<Queued>();
  const int64_t deadline_ns = write.deadline_ns;
  queued->write = std::move(write);
  queue_.push_back(queued);
  queued->deadline = context_.deadlines.add(deadline_ns, [self = shared_from_this(), queued] {
    // In flight it may still succeed (X5); waiting, it is dropped when its turn comes.
    const Outcome outcome = queued->in_flight ? Outcome::kUnknown : Outcome::kNotWritten;
    self->answer(*queued, Error(ErrorCode::kRequestTimedOut, outcome, "the commit was not acknowledged in time"));
  });
  schedule_step();
}

void OffsetsPartition::answer(Queued& queued, std::optional<Error> error) {
  if (!queued.write.done) return;
  context_.deadlines.remove(queued.deadline);
  auto done = std::exchange(queued.write.done, nullptr);
  done(std::move(error));
}

void OffsetsPartition::close(const Error& why) {
  closed_ = true;
  pass_.reset();
  for (std::shared_ptr<Queued>& queued : std::exchange(queue_, {})) answer(*queued, why);
  for (Task& task : std::exchange(tasks_, {})) {
    // Whoever closes may be in the middle of something; a task answers a caller and does no more.
    Status ignored = task(&why);
    (void)ignored;
  }
  view_.reset();
  state_ = State::kUnloaded;
}

void OffsetsPartition::epoch_changed(LeaderEpoch epoch) {
  epoch_ = epoch;
  if (state_ == State::kReady) state_ = State::kUnloaded;
}

void OffsetsPartition::sweep() {
  if (state_ != State::kReady || pass_) return;
  pass_ = Pass{.full_set = false, .start = applied_.next, .bytes_before = bytes_since_};
  schedule_step();
}

void OffsetsPartition::schedule_step() {
  if (step_posted_ || closed_) return;
  step_posted_ = true;
  context_.env.executor().post([self = std::weak_ptr<OffsetsPartition>(shared_from_this())] {
    if (auto partition = self.lock()) partition->step();
  });
}

void OffsetsPartition::step() {
  step_posted_ = false;
  if (closed_) return;
  if (tasks_.empty() && queue_.empty() && !pass_) return;
  if (state_ == State::kFailed) {
    const int64_t now_ns = context_.env.clock().monotonic_ns();
    if (now_ns - failed_ns_ < kRetryAfterNs) return fail(load_error_);
    state_ = State::kUnloaded;
  }
  // While an append is in flight, its end decides what the view has to catch up with.
  if (state_ == State::kUnloaded && !in_flight_) return begin_load();
  if (state_ != State::kReady) return;
  // Something was committed that did not come this way, such as a write whose end we were not told.
  if (!in_flight_ && applied_.next < context_.replicas.high_watermark(id_)) {
    state_ = State::kLoading;
    return load_piece();
  }
  run_tasks();
  if (state_ == State::kReady && !in_flight_) begin_append();
}

void OffsetsPartition::run_tasks() {
  // Another coordinator may have answered newer commits by now (R18); what is known here would take them back (X13).
  const auto ends = tasks_.empty() ? api::Answer<PartitionEnds>(PartitionEnds()) : context_.replicas.ends(id_);
  if (ends.ok() && ends->stale) {
    const Error silent(
        ErrorCode::kLeaderNotAvailable, Outcome::kNotApplicable,
        "this node kept these committed offsets, but has not heard from the controller for longer than the "
        "session time; another one may keep them now");
    for (Task& task : std::exchange(tasks_, {})) (void)task(&silent);
    return;
  }
  for (size_t count = tasks_.size(); count > 0 && state_ == State::kReady && !closed_; --count) {
    Task task = std::move(tasks_.front());
    tasks_.pop_front();
    Status status = task(nullptr);
    if (status.ok()) continue;
    view_failed(status);
    // Again when the view is rebuilt, and then for the last time.
    tasks_.push_back([task = std::move(task)](const Error* error) mutable {
      if (error != nullptr) return task(error);
      Status again = task(nullptr);
      if (again.ok()) return again;
      const Error final_error(ErrorCode::kStorageError, Outcome::kNotApplicable,
                              "committed offsets cannot be read: " + again.to_string());
      return task(&final_error);
    });
  }
}

Result<bool> OffsetsPartition::has_group(std::string_view group) {
  return !TRY(view_->scan_group(group, std::nullopt, 1)).empty();
}

std::optional<Error> OffsetsPartition::left_undone(const Queued& queued) {
  if (!queued.more) return std::nullopt;
  return Error(ErrorCode::kLeadershipLost, Outcome::kUnknown, "the request was done in part only; repeat it");
}

// --- loading -------------------------------------------------------------------------------------------------------

void OffsetsPartition::fail(Error error) {
  state_ = State::kFailed;
  if (error.code != load_error_.code || error.message != load_error_.message || failed_ns_ == 0) {
    context_.env.log().error("committed offsets, partition ", id_.partition, ": ", error.message);
  }
  load_error_ = std::move(error);
  failed_ns_ = context_.env.clock().monotonic_ns();
  pass_.reset();
  const Error why = load_error_;
  for (std::shared_ptr<Queued>& queued : std::exchange(queue_, {})) {
    Error not_written = why;
    not_written.outcome = Outcome::kNotWritten;
    answer(*queued, std::move(not_written));
  }
  for (Task& task : std::exchange(tasks_, {})) {
    Status ignored = task(&why);
    (void)ignored;
  }
}

// G7: on doubt the view is thrown away and made anew from the log.
void OffsetsPartition::view_failed(const Status& why) {
  context_.env.log().warning("committed offsets, partition ", id_.partition,
                             ": the view is rebuilt from the log: ", why.to_string());
  reset_view_ = true;
  state_ = State::kUnloaded;
  pass_.reset();
  schedule_step();
}

void OffsetsPartition::begin_load() {
  auto ends = context_.replicas.ends(id_);
  if (!ends.ok()) {
    if (ends.error().code != ErrorCode::kOffsetNotAvailable) return fail(std::move(ends.error()));
    // G1: nothing is served before the high watermark has reached the start of this leadership.
    context_.replicas.set_high_watermark_listener(id_, [self = std::weak_ptr<OffsetsPartition>(shared_from_this())] {
      if (auto partition = self.lock()) partition->schedule_step();
    });
    return;
  }
  context_.replicas.clear_high_watermark_listener(id_);
  auto store = context_.open_store();
  if (!store.ok()) {
    return fail(Error(ErrorCode::kStorageError, Outcome::kNotApplicable,
                      "the store of committed offsets cannot be opened: " + store.status().to_string()));
  }
  view_.emplace(**store, id_.partition);
  state_ = State::kLoading;

  auto known = view_->applied();
  bool fits = false;
  if (known.ok() && *known && !reset_view_) {
    auto checked = position_fits(**known);
    fits = checked.ok() && *checked;
  }
  if (fits) {
    applied_ = **known;
  } else {
    applied_ = {.topic = id_.topic, .next = ends->start, .epoch = kNoLeaderEpoch};
    if (Status status = view_->reset(applied_); !status.ok()) {
      return fail(Error(ErrorCode::kStorageError, Outcome::kNotApplicable,
                        "the store of committed offsets cannot be written: " + status.to_string()));
    }
  }
  reset_view_ = false;
  bytes_since_ = ends->size_bytes;
  load_piece();
}

// G3: the view may be behind the log, but never beside it: same topic, inside the log, same epoch at that place.
Result<bool> OffsetsPartition::position_fits(const AppliedPosition& position) const {
  const Log* log = context_.replicas.leader_log(id_);
  if (log == nullptr || position.topic != id_.topic) return false;
  if (position.next < log->log_start() || position.next > context_.replicas.high_watermark(id_)) return false;
  if (position.next == log->log_start()) return true;
  return log->epochs().epoch_at(position.next - 1) == position.epoch;
}

void OffsetsPartition::load_piece() {
  if (closed_ || state_ != State::kLoading) return;
  Log* log = context_.replicas.leader_log(id_);
  if (log == nullptr) return fail(Error(ErrorCode::kNotLeader, "this node does not lead the group's partition now"));
  const Offset limit = context_.replicas.high_watermark(id_);
  if (applied_.next >= limit) return loaded();
  auto slice = log->read(applied_.next, kReplayBytes, limit);
  auto run = slice.ok() ? read_slice(*slice) : Result<BatchRun>(slice.status());
  if (!run.ok() || run->batches.empty()) {
    const Status why = run.ok() ? Status(Errc::kCorruption, "no batch where one must be") : run.status();
    const bool damaged = why.code() == Errc::kCorruption;
    return fail(Error(damaged ? ErrorCode::kDataDamaged : ErrorCode::kStorageError, Outcome::kNotApplicable,
                      "committed offsets cannot be loaded from the log: " + why.to_string()));
  }
  if (Status status = replay(run->batches); !status.ok()) {
    return fail(Error(ErrorCode::kStorageError, Outcome::kNotApplicable,
                      "committed offsets cannot be loaded: " + status.to_string()));
  }
  // Between two pieces the shard does other work.
  context_.env.executor().post([self = std::weak_ptr<OffsetsPartition>(shared_from_this())] {
    if (auto partition = self.lock()) partition->load_piece();
  });
}

Status OffsetsPartition::replay(const std::vector<RecordBatch>& batches) {
  std::vector<GroupRecord> records;
  AppliedPosition position = applied_;
  for (const RecordBatch& batch : batches) {
    RecordIterator iterator = TRY(RecordIterator::open(batch, batch.size()));
    while (std::optional<RecordView> record = TRY(iterator.next())) {
      if (batch.base_offset() + record->offset_delta < applied_.next) continue;
      records.push_back(TRY(decode_group_record(*record)));
    }
    position.next = batch.next_offset();
    position.epoch = batch.leader_epoch();
  }
  TRY(view_->apply(records, position));
  applied_ = position;
  return {};
}

void OffsetsPartition::loaded() {
  group_count_ = 0;
  std::string last;
  while (true) {
    auto next = view_->next_group("", last);
    if (!next.ok()) return view_failed(next.status());
    if (!*next) break;
    last = **next;
    ++group_count_;
  }
  state_ = State::kReady;
  schedule_step();
}

// --- writing -------------------------------------------------------------------------------------------------------

void OffsetsPartition::begin_append() {
  Flight flight;
  if (!take_piece(flight) || !take_writes(flight)) return;
  if (flight.records.empty()) {
    if (pass_ && pass_->exhausted) finish_pass();
    if (pass_ || !queue_.empty()) schedule_step();
    return;
  }
  auto bytes = build(flight);
  if (!bytes.ok()) {
    for (const std::shared_ptr<Queued>& queued : flight.writes) {
      answer(*queued, Error(ErrorCode::kStorageError, Outcome::kNotWritten, bytes.status().to_string()));
    }
    return;
  }
  flight.bytes = bytes->size();
  in_flight_ = true;
  context_.replicas.append({.partition = id_, .batches = std::move(*bytes), .acks = api::Acks::kAll, .internal = true},
                           [self = shared_from_this(), flight = std::move(flight)](AppendResult result) mutable {
                             self->appended(std::move(flight), result);
                           });
}

// The next piece of a pass goes before the writes of the same append: it repeats what is known, they are newer.
bool OffsetsPartition::take_piece(Flight& flight) {
  if (!pass_ || pass_->exhausted) return true;
  auto entries = view_->scan(pass_->at, kPieceEntries);
  if (!entries.ok()) {
    view_failed(entries.status());
    return false;
  }
  pass_->exhausted = entries->size() < kPieceEntries;
  for (GroupRecord& entry : *entries) {
    pass_->at = entry.key;
    const bool lives = context_.topic_lives(entry.key.topic);
    if (!lives) entry.value.reset();
    if (lives && !pass_->full_set) continue;
    flight.bytes += record_size_bound(entry);
    pass_->bytes += record_size_bound(entry);
    flight.records.push_back(std::move(entry));
  }
  flight.has_piece = true;
  return true;
}

bool OffsetsPartition::take_writes(Flight& flight) {
  bool others = false;
  while (!queue_.empty() && flight.bytes < kAppendBytes) {
    std::shared_ptr<Queued> queued = queue_.front();
    if (!queued->write.done) {  // its time ran out
      queue_.pop_front();
      continue;
    }
    if (queued->write.reads_view && others) break;
    auto made = queued->write.make();
    if (!made.ok()) {
      // It stays in the queue, for after the view is rebuilt. What was taken before it goes back in front of it.
      for (auto it = flight.writes.rbegin(); it != flight.writes.rend(); ++it) {
        (*it)->in_flight = false;
        queue_.push_front(*it);
      }
      view_failed(made.status());
      return false;
    }
    queue_.pop_front();
    if (made->error || made->records.empty()) {
      answer(*queued, std::move(made->error));
      continue;
    }
    others = true;
    queued->in_flight = true;
    queued->more = made->more;
    for (GroupRecord& record : made->records) {
      flight.bytes += record_size_bound(record);
      flight.records.push_back(std::move(record));
    }
    flight.writes.push_back(std::move(queued));
  }
  return true;
}

Result<Bytes> OffsetsPartition::build(const Flight& flight) const {
  const int64_t now_ms = context_.env.clock().wall_ms();
  RecordBatchBuilder builder;
  for (const GroupRecord& record : flight.records) add_group_record(builder, record, now_ms);
  return builder.build();
}

void OffsetsPartition::appended(Flight flight, const AppendResult& result) {
  in_flight_ = false;
  const AppendedBatch* failed = nullptr;
  for (const AppendedBatch& batch : result.batches) {
    if (batch.error && failed == nullptr) failed = &batch;
  }
  const std::optional<Error> error = failed != nullptr ? failed->error : std::nullopt;
  if (!closed_ && !error) {
    // Applied before anything is answered: who was told of a commit must find it.
    const Offset first = result.batches.front().first_offset;
    const auto count = static_cast<int64_t>(flight.records.size());
    const LeaderEpoch epoch = result.batches.back().leader_epoch;
    Status status;
    if (state_ == State::kReady && first == applied_.next) {
      status = apply(flight.records, {.topic = id_.topic, .next = first + count, .epoch = epoch});
    } else if (state_ == State::kReady) {
      state_ = State::kUnloaded;  // something lies between: the log tells
    }
    bytes_since_ += flight.bytes;
    if (!status.ok()) {
      // Committed all the same. The view is behind and must not be read before it has caught up.
      context_.env.log().error("committed offsets, partition ", id_.partition,
                               ": the view is behind the log: ", status.to_string());
      state_ = State::kUnloaded;
    }
    if (state_ == State::kReady) advance_pass(flight);
  } else if (!closed_) {
    pass_.reset();
    // Whether it is in the log is not known: what the log says from now on is.
    if (error->outcome == Outcome::kUnknown && state_ == State::kReady) state_ = State::kUnloaded;
  }
  for (auto it = flight.writes.rbegin(); it != flight.writes.rend(); ++it) {
    std::shared_ptr<Queued>& queued = *it;
    queued->in_flight = false;
    if (!error && queued->more && !closed_ && queued->write.done) queue_.push_front(queued);
  }
  for (const std::shared_ptr<Queued>& queued : flight.writes) {
    if (error || !queued->more || closed_) answer(*queued, error ? error : left_undone(*queued));
  }
  if (!closed_) schedule_step();
}

Status OffsetsPartition::apply(const std::vector<GroupRecord>& records, const AppliedPosition& position) {
  std::set<std::string_view> groups;
  for (const GroupRecord& record : records) groups.insert(record.key.group);
  size_t before = 0;
  for (std::string_view group : groups) before += TRY(has_group(group)) ? 1 : 0;
  TRY(view_->apply(records, position));
  applied_ = position;
  size_t after = 0;
  for (std::string_view group : groups) after += TRY(has_group(group)) ? 1 : 0;
  group_count_ = group_count_ + after - before;
  return ok_status();
}

void OffsetsPartition::advance_pass(const Flight& flight) {
  if (pass_ && pass_->exhausted && flight.has_piece) finish_pass();
  if (!pass_ && bytes_since_ >= std::max(context_.options.offsets_segment_bytes, last_full_set_bytes_)) {
    pass_ = Pass{.full_set = true, .start = applied_.next, .bytes_before = bytes_since_};
  }
}

void OffsetsPartition::finish_pass() {
  const Pass pass = *std::exchange(pass_, std::nullopt);
  if (!pass.full_set) return;
  bytes_since_ -= std::min(bytes_since_, pass.bytes_before);
  last_full_set_bytes_ = pass.bytes;
  context_.replicas.trim(
      id_, pass.start, [log = context_.env.log(), partition = id_.partition](const api::Answer<PartitionEnds>& done) {
        if (done.ok()) return;
        log.warning("committed offsets, partition ", partition, ": the log start did not move: ", done.error().message);
      });
}

void OffsetsPartition::check_invariants() {
  if (state_ != State::kReady || closed_) return;
  CHECK_LE(applied_.next, context_.replicas.high_watermark(id_));
  auto stored = view_->applied();
  if (stored.ok() && *stored) CHECK(**stored == applied_);
}

}  // namespace trilog
