#include "storage/log/segment_repair.h"

#include <utility>

#include "storage/log/log_files.h"

namespace trilog {

namespace {
Status nobody_has(Offset offset) {
  return Status(Errc::kNotFound, "no other copy has offset " + std::to_string(offset.value()));
}
}  // namespace

SegmentRepair::SegmentRepair(Env& env, const SegmentContext& context, std::shared_ptr<const File> file, uint64_t size,
                             Offset base, Offset end, std::string path, Log::FetchBatches fetch, Done done)
    : env_(env),
      context_(context),
      old_(std::move(file)),
      old_size_(size),
      base_(base),
      end_(end),
      path_(std::move(path)),
      fetch_(std::move(fetch)),
      done_(std::move(done)),
      walk_(std::make_unique<SegmentWalk>(context, old_, size, base, end)) {
  step_later();
}

void SegmentRepair::discard() {
  if (std::exchange(file_, nullptr) != nullptr) static_cast<void>(env_.files().remove_file(temporary()));
}

std::string SegmentRepair::temporary() const {
  return join_path(context_.directory, numbered_file(base_, kRepairSuffix));
}

void SegmentRepair::step_later() {
  env_.executor().post([self = self_] {
    if (*self != nullptr) (*self)->step();
  });
}

void SegmentRepair::step() {
  std::optional<SegmentWalk::Piece> piece = walk_->next(kStepBytes);
  if (!piece) return walk_ended();
  if (phase_ == Phase::kCheck && !piece->sound) return ask_first(piece->first);
  if (phase_ == Phase::kWrite && !piece->sound) return fetch(piece->first);
  if (Status taken = take(*piece); !taken.ok()) return finish(std::move(taken), false);
  step_later();
}

Status SegmentRepair::take(const SegmentWalk::Piece& piece) {
  if (phase_ == Phase::kWrite) {
    Bytes bytes(static_cast<size_t>(piece.bytes));
    bytes.resize_uninitialized(TRY(old_->read_at(piece.position, bytes.mutable_view())));
    TRY(file_->write_at(written_, bytes.view()));
    written_ += bytes.size();
    return ok_status();
  }
  if (piece.sound && piece.position == checked_) {
    checked_ += piece.bytes;
    return ok_status();
  }
  if (phase_ == Phase::kVerify) return Status(Errc::kIo, path_ + " cannot be read back as it was written");
  return begin_writing();
}

Status SegmentRepair::begin_writing() {
  phase_ = Phase::kWrite;
  file_ = TRY(env_.files().open(temporary(), OpenMode::kCreate));
  TRY(file_->truncate(0));
  walk_ = std::make_unique<SegmentWalk>(context_, old_, old_size_, base_, end_);
  return ok_status();
}

// Nothing is written before somebody has what is missing.
void SegmentRepair::ask_first(Offset from) {
  fetch_(from, end_, [self = self_, from](const Result<SharedBytes>& batches) {
    if (*self == nullptr) return;
    SegmentRepair& repair = **self;
    Status begun = batches.status();
    if (batches.ok()) begun = batches->empty() ? nobody_has(from) : repair.begin_writing();
    if (!begun.ok()) return repair.finish(std::move(begun), false);
    repair.step_later();
  });
}

void SegmentRepair::fetch(Offset from) {
  fetch_(from, end_, [self = self_, from](const Result<SharedBytes>& batches) {
    if (*self == nullptr) return;
    SegmentRepair& repair = **self;
    Status taken = batches.status();
    if (batches.ok()) taken = repair.take_fetched(from, batches->view());
    if (!taken.ok()) return repair.finish(std::move(taken), false);
    repair.step_later();
  });
}

// Believed as little as what is read from the disk: every batch has to be the one that belongs there (S1).
Status SegmentRepair::take_fetched(Offset from, ByteView batches) {
  BatchExpectation expected{from, context_.epochs, kNoLeaderEpoch, context_.config.batch_bytes_max, end_};
  ByteView rest = batches;
  // The gap may end sooner than what was sent.
  const Offset gap_end = walk_->gap_end();
  while (!rest.empty() && expected.offset < gap_end) {
    const char* problem = "the header is cut off";
    if (rest.size() >= kBatchHeaderBytes) problem = expected.problem(BatchHeader::decode(rest), rest.size());
    if (problem != nullptr) return Status(Errc::kCorruption, std::string("what another copy sent: ") + problem);
    const RecordBatch batch = TRY(RecordBatch::parse(rest));
    if (!batch.crc_matches()) return Status(Errc::kCorruption, "what another copy sent is damaged");
    rest = rest.subspan(batch.size());
    expected.step(BatchHeader::of(batch));
  }
  if (expected.offset == from) return nobody_has(from);
  const ByteView used = batches.first(batches.size() - rest.size());
  TRY(file_->write_at(written_, used));
  written_ += used.size();
  fetched_ += used.size();
  walk_->skip_to(expected.offset);
  return ok_status();
}

void SegmentRepair::walk_ended() {
  switch (phase_) {
    case Phase::kCheck: return finish(ok_status(), false);
    case Phase::kWrite:
      phase_ = Phase::kVerify;
      checked_ = 0;
      walk_ = std::make_unique<SegmentWalk>(context_, file_, written_, base_, end_);
      return step_later();
    case Phase::kVerify:
      file_->sync([self = self_, file = file_](const Status& synced) {
        if (*self != nullptr) (*self)->replace(synced);
      });
  }
}

// Indexes go first: they would not fit if the old file missed bytes.
void SegmentRepair::replace(const Status& synced) {
  if (!synced.ok()) return finish(synced, false);
  Status status = remove_derived_files(env_.files(), context_.directory, base_);
  if (status.ok()) status = env_.files().rename(temporary(), path_);
  if (!status.ok()) return finish(std::move(status), false);
  file_.reset();
  finish(ok_status(), true);
}

// Its owner destroys it in there.
void SegmentRepair::finish(Status status, bool replaced) {
  if (!status.ok()) discard();
  Done done = std::move(done_);
  done(std::move(status), replaced);
}

}  // namespace trilog
