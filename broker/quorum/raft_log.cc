#include "broker/quorum/raft_log.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "storage/base/codec.h"

namespace trilog {

Bytes encode_vote(const RaftHardState& state) {
  Bytes bytes;
  ByteWriter out(bytes);
  out.write<int32_t>(state.term.value());
  out.write<int32_t>(state.voted_for.value());
  return bytes;
}

Result<RaftHardState> decode_vote(ByteView bytes) {
  ByteReader in(bytes);
  RaftHardState state;
  state.term = Term(in.read<int32_t>());
  state.voted_for = BrokerId(in.read<int32_t>());
  if (!in.ok() || !in.at_end() || state.term < Term(0)) return Status(Errc::kCorruption, "it is no vote");
  return state;
}

Bytes encode_log_mark(const LogMark& mark) {
  Bytes bytes;
  ByteWriter out(bytes);
  out.write<int64_t>(mark.durable_end.value());
  out.write<int64_t>(mark.high_watermark.value());
  out.write<int64_t>(mark.log_start.value());
  out.write<int64_t>(mark.segment.value());
  out.write<uint64_t>(mark.position);
  return bytes;
}

Result<LogMark> decode_log_mark(ByteView bytes) {
  ByteReader in(bytes);
  LogMark mark;
  mark.durable_end = Offset(in.read<int64_t>());
  mark.high_watermark = Offset(in.read<int64_t>());
  mark.log_start = Offset(in.read<int64_t>());
  mark.segment = Offset(in.read<int64_t>());
  mark.position = in.read<uint64_t>();
  bool sane = Offset(0) <= mark.log_start && mark.log_start <= mark.durable_end &&
              mark.high_watermark <= mark.durable_end && mark.segment >= Offset(-1);
  if (!in.ok() || !in.at_end() || !sane) return Status(Errc::kCorruption, "it is no mark");
  return mark;
}

RaftLog::RaftLog(Env& env, RaftLogConfig config)
    : env_(env),
      config_(std::move(config)),
      vote_file_(env, join_path(config_.directory, "vote")),
      mark_file_(env, join_path(config_.directory, "durable")),
      self_(std::make_shared<RaftLog*>(this)) {}

// --- what Raft reads ---------------------------------------------------------------------------------------------

Offset RaftLog::end() const { return unwritten_.empty() ? visible_end_ : unwritten_.back().end(); }

std::optional<Term> RaftLog::term_before(Offset position) const {
  if (position == Offset(0)) return Term(0);
  if (position > end()) return std::nullopt;
  if (position > visible_end_) {
    for (const RaftEntry& entry : unwritten_) {
      if (position <= entry.end()) return entry.term;
    }
  }
  if (position > start_) return Term(log_->epochs().epoch_at(position - 1).value());
  if (job_ && job_->work.snapshot && job_->work.snapshot->end == position) return job_->work.snapshot->last_term;
  return snapshots_->term_at(position);
}

Result<std::vector<RaftEntry>> RaftLog::read(Offset from, size_t bytes_max) const {
  std::vector<RaftEntry> found;
  size_t bytes = 0;
  if (from >= visible_end_) {
    for (const RaftEntry& entry : unwritten_) {
      if (entry.end() <= from) continue;
      bytes += entry.batch.size();
      if (!found.empty() && bytes > bytes_max) break;
      found.push_back(entry);
    }
    return found;
  }
  auto slice_max = static_cast<uint32_t>(std::min<size_t>(bytes_max, 64u << 20));
  LogSlice slice = TRY(log_->read(from, slice_max, visible_end_));
  BatchRun run = TRY(read_slice(slice));
  if (run.batches.empty()) {
    return Status(Errc::kCorruption,
                  config_.directory + " has no whole entry at offset " + std::to_string(from.value()));
  }
  for (const RecordBatch& batch : run.batches) {
    found.push_back({batch.base_offset(), batch.last_offset_delta() + 1, Term(batch.leader_epoch().value()),
                     run.bytes.slice(bytes, batch.size())});
    bytes += batch.size();
  }
  return found;
}

std::optional<RaftSnapshot> RaftLog::snapshot() const {
  if (snapshots_->sound().empty()) return std::nullopt;
  auto content = snapshots_->read(snapshots_->sound().back());
  if (content.ok()) return std::move(*content);
  env_.log().error(content.status().to_string());
  return std::nullopt;
}

// --- steps -------------------------------------------------------------------------------------------------------

// Begins a step: it starts its parts and names the next step, if any; the last part to be done goes on there.
void RaftLog::run(Step step) {
  job_->step = step;
  job_->next = nullptr;
  job_->pending = 1;  // the step itself, so that it cannot be over before all its parts have begun
  job_->status = ok_status();
  (this->*step)();
  env_.executor().post([self = self_] {
    if (*self != nullptr) (*self)->part_done(ok_status());
  });
}

auto RaftLog::part_of_step() {
  ++job_->pending;
  return [self = self_](Status status) {
    if (*self != nullptr) (*self)->part_done(std::move(status));
  };
}

void RaftLog::part_done(Status status) {
  if (!job_) return;  // given up by close()
  if (!status.ok() && job_->status.ok()) job_->status = std::move(status);
  if (--job_->pending > 0) return;
  if (job_->status.ok()) return job_->next != nullptr ? run(job_->next) : persisted();
  if (job_->status.code() != Errc::kDiskFull) return finish(job_->status);
  // S8: nothing is lost, and nothing is promised either. Space may come back.
  env_.log().warning("metadata waits for space: ", job_->status.to_string());
  retry_ = env_.executor().schedule_after(config_.retry_ns, [self = self_] {
    if (*self == nullptr) return;
    (*self)->retry_ = 0;
    (*self)->run((*self)->job_->step);
  });
}

void RaftLog::finish(Status status) {
  auto job = std::move(job_);
  job->done(std::move(status));  // may destroy this
}

void RaftLog::on_log_durable() {
  if (!job_ || !job_->log_target) return;
  if (log_->failed()) {
    job_->log_target.reset();
    part_done(Status(Errc::kIo, config_.directory + ": a sync failed"));
  } else if (log_->durable_end() >= *job_->log_target) {
    job_->log_target.reset();
    part_done(ok_status());
  }
}

// --- forming -----------------------------------------------------------------------------------------------------

void RaftLog::form(std::optional<VoterSet> voters, UniqueFunction<void(Status)> done) {
  CHECK(!job_ && !formed_);
  job_ = std::make_unique<Job>();
  job_->done = std::move(done);
  formed_ = true;
  voters_ = std::move(voters);
  if (voters_) first_voters_ = {Offset(-1), voters_->voters, voters_->recovery};
  run(&RaftLog::form_files);
}

void RaftLog::form_files() {
  job_->next = &RaftLog::form_names;
  auto part = part_of_step();
  auto settle = [&](Status how) {
    env_.executor().post([part, how = std::move(how)]() mutable { part(std::move(how)); });
  };
  Status made = env_.files().create_directories(config_.directory);
  if (!made.ok()) return settle(made);
  // A crash during an earlier forming may have left the entry; open() has checked that there is nothing else.
  if (unformed_voters_ && unformed_voters_ != voters_) {
    return settle(
        Status(Errc::kInvalidArgument, config_.directory + " was begun with other voters or for another cluster"));
  }
  if (voters_ && log_->log_end() == Offset(0)) {
    auto batch = make_voters_batch(*voters_, env_.clock().wall_ms());
    if (!batch.ok()) return settle(batch.status());
    auto entry = encode({RaftEntry{Offset(0), 1, Term(0), SharedBytes(std::move(*batch))}});
    if (!entry.ok()) return settle(entry.status());
    auto appended = log_->append(*entry);
    if (!appended.ok()) return settle(appended.status());
    visible_end_ = log_->log_end();
  }
  vote_file_.create(encode_vote({}), part_of_step());
  mark_file_.create(encode_log_mark({}), part_of_step());
  if (log_->durable_end() >= visible_end_) return settle(ok_status());
  job_->log_target = visible_end_;  // its part is the one begun above
  log_->request_sync();
}

void RaftLog::form_names() {
  env_.files().sync_directory(config_.directory, part_of_step());
  env_.files().sync_directory(parent_path(config_.directory), part_of_step());
}

// --- persisting --------------------------------------------------------------------------------------------------

void RaftLog::persist(RaftPersist work, Offset committed, UniqueFunction<void(Status)> done) {
  CHECK(!job_ && formed_);
  job_ = std::make_unique<Job>();
  job_->work = std::move(work);
  job_->committed = committed;
  job_->done = std::move(done);
  const RaftPersist& now = job_->work;
  if (now.snapshot) start_ = visible_end_ = now.snapshot->end;
  if (now.truncate_to) visible_end_ = *now.truncate_to;
  unwritten_ = now.entries;
  run(now.snapshot      ? &RaftLog::save_snapshot
      : now.truncate_to ? &RaftLog::write_lowered_mark
                        : &RaftLog::write_entries);
}

void RaftLog::save_snapshot() {
  job_->next = &RaftLog::write_lowered_mark;
  snapshots_->save(*job_->work.snapshot, part_of_step());
}

// Before anything is cut the mark says so (S2): otherwise a crash would leave less than was promised.
void RaftLog::write_lowered_mark() {
  job_->next = &RaftLog::cut_log;
  LogMark mark = log_->mark(std::min(marked_commit_, visible_end_));
  mark.durable_end = visible_end_;
  mark.high_watermark = std::min(mark.high_watermark, visible_end_);
  if (job_->work.snapshot) mark.log_start = mark.high_watermark = visible_end_;
  mark.segment = Offset(-1);  // recovery finds the place
  mark.position = 0;
  mark_file_.write(encode_log_mark(mark), part_of_step());
}

void RaftLog::cut_log() {
  job_->next = &RaftLog::write_entries;
  Status cut = job_->work.snapshot ? log_->restart_at(visible_end_) : log_->truncate_to(visible_end_);
  if (!cut.ok()) job_->status = cut;
}

void RaftLog::write_entries() {
  job_->next = &RaftLog::write_mark;
  const RaftPersist& now = job_->work;
  if (!now.entries.empty() && !unwritten_.empty()) {
    auto bytes = encode(now.entries);
    Status appended = bytes.ok() ? log_->append(*bytes).status() : bytes.status();
    if (!appended.ok()) {
      job_->status = appended;
      return;
    }
    unwritten_.clear();
    visible_end_ = log_->log_end();
  }
  if (!now.entries.empty()) {
    ++job_->pending;
    job_->log_target = visible_end_;
    log_->request_sync();
  }
  if (now.hard_state) vote_file_.write(encode_vote(*now.hard_state), part_of_step());
}

// The vote is written again, into the other slot: from now on each of its slots can rot without the node forgetting
// whom it voted for (Q2).
void RaftLog::write_mark() {
  const RaftPersist& now = job_->work;
  if (now.hard_state) vote_file_.write(encode_vote(*now.hard_state), part_of_step());
  if (now.entries.empty() && !now.truncate_to && !now.snapshot) return;
  CHECK_EQ(log_->durable_end(), log_->log_end());
  mark_file_.write(encode_log_mark(log_->mark(job_->committed)), part_of_step());
}

void RaftLog::persisted() {
  if (job_->work.hard_state) hard_state_ = *job_->work.hard_state;
  marked_commit_ = std::max(marked_commit_, std::min(job_->committed, log_->durable_end()));
  if (std::exchange(trimmed_, false)) log_->apply_retention(0, false, marked_commit_);
  finish(ok_status());
}

Result<Bytes> RaftLog::encode(const std::vector<RaftEntry>& entries) const {
  Bytes bytes;
  for (const RaftEntry& entry : entries) {
    if (entry.batch.size() < kBatchHeaderBytes) return Status(Errc::kCorruption, "an entry is shorter than a batch");
    size_t at = bytes.size();
    bytes.append(entry.batch);
    MutableByteView batch = bytes.mutable_view().subspan(at);
    RecordBatch::set_base_offset(batch, entry.first);
    RecordBatch::set_leader_epoch(batch, LeaderEpoch(entry.term.value()));
    RecordBatch parsed = TRY(RecordBatch::parse(batch));
    if (parsed.size() != batch.size() || int64_t{parsed.last_offset_delta()} + 1 != entry.count) {
      return Status(Errc::kCorruption, "an entry is not one batch of its records");
    }
  }
  return bytes;
}

void RaftLog::trim(Offset start) {
  CHECK_LE(start, visible_end_);
  if (start <= start_) return;
  log_->advance_start(start);
  start_ = start;
  trimmed_ = true;
}

void RaftLog::close(UniqueFunction<void(Status)> done) {
  if (retry_ != 0) {
    // Nobody was promised what waits for space.
    env_.executor().cancel(std::exchange(retry_, 0));
    auto job = std::move(job_);
    env_.executor().post([job_done = std::move(job->done)]() mutable {
      job_done(Status(Errc::kFailed, "stopped while waiting for space"));
    });
  }
  CHECK(!job_);
  log_->close(std::move(done));
}

}  // namespace trilog
