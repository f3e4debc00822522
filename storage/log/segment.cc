#include "storage/log/segment.h"

#include <algorithm>
#include <utility>

#include "storage/base/codec.h"
#include "storage/base/crc32c.h"
#include "storage/log/checkpoint_file.h"
#include "storage/log/log_files.h"

namespace trilog {

namespace {

constexpr size_t kLocateReadAhead = 16u << 10;
constexpr size_t kWalkReadAhead = 256u << 10;
constexpr size_t kDecompressedBytesMax = 128u << 20;  // of one batch, for finding a timestamp inside it
constexpr uint32_t kChecksumVersion = 1;

// What a saved file says: only used if the whole of it can be read and decoded.
template <typename Decoded, typename Decode>
std::optional<Decoded> read_derived(FileSystem& files, const std::string& path, Decode decode) {
  auto bytes = files.read_file(path);
  if (!bytes.ok()) return std::nullopt;
  Result<Decoded> decoded = decode(*bytes);
  if (!decoded.ok()) return std::nullopt;
  return std::move(*decoded);
}

// Not synced: a torn or missing file is found out by its checksum and made again.
Status write_derived(FileSystem& files, const std::string& path, ByteView content) {
  std::unique_ptr<File> file = TRY(files.open(path, OpenMode::kCreate));
  TRY(file->truncate(0));
  return file->write_at(0, content);
}

}  // namespace

Segment::Segment(SegmentContext& context, Offset base, Offset end, bool sealed)
    : context_(context), base_(base), end_(end), sealed_(sealed), index_(base), times_(base) {}

std::string Segment::path() const { return join_path(context_.directory, numbered_file(base_, kLogSuffix)); }

Status Segment::ensure_open() {
  if (file_ != nullptr) return ok_status();
  std::shared_ptr<File> file = TRY(context_.files.open(path(), sealed_ ? OpenMode::kRead : OpenMode::kReadWrite));
  if (!size_.has_value()) {
    size_ = TRY(file->size());
    synced_bytes_ = *size_;
  }
  file_ = std::move(file);
  return ok_status();
}

Result<uint64_t> Segment::size() {
  if (!size_.has_value()) {
    TRY(ensure_open());
    if (sealed_) file_.reset();
  }
  return *size_;
}

void Segment::release() {
  CHECK(sealed_ && !dirty());
  file_.reset();
  if (cover_position_ != UINT64_MAX && covers_all()) sealed_max_timestamp_ = cover_max_timestamp_;
  restart_cover(UINT64_MAX, end_);
}

void Segment::repaired(uint64_t size) {
  CHECK(sealed_);
  file_.reset();
  size_ = synced_bytes_ = size;
  restart_cover(UINT64_MAX, end_);
  sealed_max_timestamp_.reset();
  damage_seen_ = false;
}

Status Segment::create() {
  std::shared_ptr<File> file = TRY(context_.files.open(path(), OpenMode::kCreate));
  // Left over from an attempt that failed half-way.
  if (TRY(file->size()) != 0) TRY(file->truncate(0));
  file_ = std::move(file);
  size_ = 0;
  synced_bytes_ = 0;
  restart_cover(0, base_);
  return ok_status();
}

Status Segment::open_for_writing() {
  file_ = TRY(context_.files.open(path(), OpenMode::kReadWrite));
  size_ = TRY(file_->size());
  synced_bytes_ = *size_;
  return ok_status();
}

Status Segment::append(ByteView bytes, std::span<const BatchHeader> headers) {
  Status written = file_->write_at(*size_, bytes);
  if (!written.ok()) {
    // S8: whatever part arrived must not stand before the next batch, not even after a crash that forgets the cut: a
    // whole batch could have arrived, and what was appended in its place be lost.
    Status restored = file_->truncate(*size_);
    if (restored.ok()) restored = file_->sync_now();
    if (!restored.ok()) broken_ = true;
    return written;
  }
  uint64_t position = *size_;
  if (cover_position_ == UINT64_MAX) restart_cover(position, end_);
  for (const BatchHeader& header : headers) {
    note(header, position);
    position += header.size;
  }
  size_ = position;
  end_ = headers.back().next_offset();
  return ok_status();
}

Status Segment::truncate(uint64_t position, Offset end) {
  TRY(file_->truncate(position));
  size_ = position;
  end_ = end;
  synced_bytes_ = std::min(synced_bytes_, position);
  restart_cover(position == 0 ? 0 : UINT64_MAX, end);
  sealed_max_timestamp_.reset();
  damage_seen_ = false;
  return ok_status();
}

Status Segment::cut_tail(uint64_t position) {
  TRY(file_->truncate(position));
  size_ = position;
  synced_bytes_ = std::min(synced_bytes_, position);
  return ok_status();
}

void Segment::restart_cover(uint64_t position, Offset offset) {
  cover_position_ = position;
  cover_offset_ = offset;
  index_ = OffsetIndex(base_);
  times_ = TimeIndex(base_);
  header_crc_ = 0;
  last_epoch_ = kNoLeaderEpoch;
  cover_max_timestamp_ = kNoTimestamp;
  index_from_file_ = false;
}

void Segment::note(const BatchHeader& header, uint64_t position) {
  header_crc_ = crc32c(header.prefix, header_crc_);
  cover_max_timestamp_ = std::max(cover_max_timestamp_, header.max_timestamp);
  std::optional<IndexEntry> last = index_.last();
  // An entry where an epoch begins lets a read stop exactly there (LogSlice has one epoch).
  if (last.has_value() && position - last->position < context_.config.index_interval_bytes &&
      header.leader_epoch == last_epoch_) {
    return;
  }
  last_epoch_ = header.leader_epoch;
  index_.add(header.base_offset, position);
  times_.add(cover_max_timestamp_, header.base_offset);
}

BatchExpectation Segment::expectation(Offset offset) const {
  return {offset, context_.epochs, kNoLeaderEpoch, context_.config.batch_bytes_max, end_};
}

Status Segment::damage_status(uint64_t position, const char* why) const {
  return Status(Errc::kCorruption, path() + " at byte " + std::to_string(position) + ": " + why);
}

// Reports what is broken at `position`, or in the batch before it, and says where sound batches go on; nothing if not
// in this file.
Result<std::optional<FoundBatch>> Segment::skip_damage(uint64_t position, Offset expected, const char* why,
                                                       const std::optional<LocatedBatch>& before) {
  damage_seen_ = true;
  if (before.has_value() && !TRY(batch_is_sound(*file_, *before))) {
    position = before->position;
    expected = before->header.base_offset;
    why = "the checksum does not match";
  }
  SearchBounds bounds{expected + 1, end_, context_.epochs, context_.config.batch_bytes_max, base_};
  SearchResult search = TRY(find_batch(*file_, position + 1, *size_, bounds));
  Offset next_good = search.found ? search.found->offset : end_;
  uint64_t next_position = search.found ? search.found->position : 0;
  if (next_good > expected) context_.damage_found({expected, next_good, path(), position, why, next_position});
  return search.found;
}

// Goes on behind a damaged range that begins with the expected batch. True if it did; the position is then the end of
// the file if nothing good follows in it.
Result<bool> Segment::step_over_known(uint64_t* position, BatchExpectation* expected) {
  for (const DamagedRange& range : context_.damaged) {
    if (range.first > expected->offset || range.next_good <= expected->offset) continue;
    damage_seen_ = true;
    if (range.next_good < end_ && range.next_position != 0) {
      *position = range.next_position;
      expected->offset = range.next_good;
      return true;
    }
    // Behind damage that reaches into this file, or where what was to follow it has gone bad as well.
    const Offset gap = std::max(range.next_good, base_);
    SearchBounds bounds{gap, end_, context_.epochs, context_.config.batch_bytes_max, base_};
    SearchResult search = TRY(find_batch(*file_, *position, *size_, bounds));
    const uint64_t gap_position = *position;
    *position = search.found ? search.found->position : *size_;
    expected->offset = search.found ? search.found->offset : end_;
    uint64_t next_position = search.found ? search.found->position : 0;
    if (expected->offset > gap) {  // changes what this loop walks over
      context_.damage_found(
          {gap, expected->offset, path(), gap_position, "no sound batch follows the damage before it", next_position});
    }
    return true;
  }
  return false;
}

Status Segment::walk(uint64_t position, Offset offset, const std::function<void(uint64_t, const BatchHeader&)>& visit) {
  HeaderReader reader(*file_, *size_, kWalkReadAhead);
  BatchExpectation expected = expectation(offset);
  std::optional<LocatedBatch> before;
  while (position < *size_ && expected.offset < end_) {
    if (!context_.damaged.empty() && TRY(step_over_known(&position, &expected))) {
      before.reset();
      continue;
    }
    std::optional<BatchHeader> header = TRY(reader.at(position));
    const char* problem = header ? expected.problem(*header, *size_ - position) : "the header is cut off";
    if (problem != nullptr) {
      auto found = TRY(skip_damage(position, expected.offset, problem, before));
      if (!found.has_value()) return ok_status();
      position = found->position;
      expected.offset = found->offset;
      before.reset();
      continue;
    }
    visit(position, *header);
    before = LocatedBatch{position, *header};
    position += header->size;
    expected.step(*header);
    expected.epoch_min = kNoLeaderEpoch;  // a flipped bit in one epoch must not condemn the batches behind it
  }
  if (expected.offset < end_) TRY(skip_damage(position, expected.offset, "the file ends too early", before));
  return ok_status();
}

Status Segment::visit_headers(const std::function<void(uint64_t, const BatchHeader&)>& visit) {
  TRY(ensure_open());
  return walk(0, base_, visit);
}

bool Segment::load_files(uint64_t* position, Offset* offset) {
  auto index = read_derived<OffsetIndex::Decoded>(
      context_.files, join_path(context_.directory, numbered_file(base_, kIndexSuffix)), OffsetIndex::decode);
  if (!index.has_value()) return false;
  auto times = read_derived<TimeIndex::Decoded>(
      context_.files, join_path(context_.directory, numbered_file(base_, kTimeIndexSuffix)), TimeIndex::decode);
  if (!times.has_value() || index->cover != times->cover) return false;
  const SegmentCover& saved = index->cover;
  bool fits = saved.base == base_ &&
              (sealed_ ? saved.bytes == *size_ && saved.end == end_ : saved.bytes <= *size_ && saved.end <= end_);
  if (!fits || (saved.bytes != 0 && (index->index.size() == 0 || index->index.at(0).position != 0))) return false;
  index_ = std::move(index->index);
  times_ = std::move(times->index);
  header_crc_ = saved.header_crc;
  cover_max_timestamp_ = times->max_timestamp;
  index_from_file_ = true;
  *position = saved.bytes;
  *offset = saved.end;
  return true;
}

// Makes the indexes cover the whole file.
Status Segment::load(bool use_files) {
  TRY(ensure_open());
  restart_cover(0, base_);
  uint64_t position = 0;
  Offset offset = base_;
  bool from_files = use_files && load_files(&position, &offset);
  Status walked = walk(position, offset, [this](uint64_t at, const BatchHeader& header) { note(header, at); });
  if (!walked.ok()) {
    restart_cover(UINT64_MAX, end_);
    return walked;
  }
  if (sealed_ && !from_files && !damage_seen_) {
    context_.log.info("made the indexes of ", path(), " again from its ", *size_, " bytes");
    save_derived(false);
  }
  return ok_status();
}

Result<LocatedBatch> Segment::locate(Offset offset) {
  CHECK_GE(offset, base_);
  CHECK_LT(offset, end_);
  TRY(ensure_open());
  if (cover_position_ == UINT64_MAX || offset < cover_offset_) TRY(load(true));
  for (bool second_try = false;; second_try = true) {
    IndexEntry from = index_.floor(offset).value_or(IndexEntry{cover_offset_, cover_position_});
    bool index_is_wrong = false;
    auto located = locate_from(from, offset, index_from_file_ && !second_try ? &index_is_wrong : nullptr);
    if (!index_is_wrong) return located;
    // An index that passes its checksum and yet points elsewhere: believe the log (S6).
    context_.log.warning("the index of ", path(), " does not fit; making it again");
    TRY(load(false));
  }
}

Result<LocatedBatch> Segment::locate_from(IndexEntry from, Offset offset, bool* index_is_wrong) {
  HeaderReader reader(*file_, *size_, kLocateReadAhead);
  BatchExpectation expected = expectation(from.offset);
  uint64_t position = from.position;
  std::optional<LocatedBatch> before;
  while (expected.offset <= offset) {
    if (!context_.damaged.empty() && TRY(step_over_known(&position, &expected))) {
      before.reset();
      continue;
    }
    std::optional<BatchHeader> header = TRY(reader.at(position));
    const char* problem = header ? expected.problem(*header, *size_ - position) : "the file ends too early";
    if (problem == nullptr) {
      before = LocatedBatch{position, *header};
      if (offset < header->next_offset()) return *before;
      position += header->size;
      expected.step(*header);
      expected.epoch_min = kNoLeaderEpoch;
      continue;
    }
    if (index_is_wrong != nullptr) {
      *index_is_wrong = true;
      return damage_status(position, problem);
    }
    auto found = TRY(skip_damage(position, expected.offset, problem, before));
    if (!found.has_value() || found->offset > offset) return damage_status(position, problem);
    position = found->position;
    expected = expectation(found->offset);
    before.reset();
  }
  return damage_status(position, "the batch found behind damage lies beyond the offset");
}

uint64_t Segment::position_bound(Offset offset) const {
  if (cover_position_ == UINT64_MAX || offset < cover_offset_) return *size_;
  std::optional<IndexEntry> entry = index_.ceiling(offset);
  return entry ? entry->position : *size_;
}

Result<int64_t> Segment::max_timestamp() {
  if (sealed_max_timestamp_.has_value()) return *sealed_max_timestamp_;
  if (cover_position_ == UINT64_MAX || !covers_all()) TRY(load(true));
  if (sealed_) sealed_max_timestamp_ = cover_max_timestamp_;
  return cover_max_timestamp_;
}

std::optional<int64_t> Segment::first_timestamp() {
  if (!ensure_open().ok()) return std::nullopt;
  HeaderReader reader(*file_, *size_, kBatchHeaderBytes);
  auto header = reader.at(0);
  if (!header.ok() || !header->has_value()) return std::nullopt;
  return (*header)->max_timestamp;
}

Result<std::optional<TimestampedOffset>> Segment::find_timestamp(int64_t timestamp_ms, Offset least, Offset limit) {
  std::optional<TimestampedOffset> nothing;
  if (TRY(max_timestamp()) < timestamp_ms) return nothing;
  TRY(ensure_open());
  if (cover_position_ == UINT64_MAX || !covers_all()) TRY(load(true));
  Offset from = std::max(times_.search_from(timestamp_ms).value_or(base_), std::max(least, base_));
  while (from < std::min(limit, end_)) {
    LocatedBatch at = TRY(locate(from));
    from = at.header.next_offset();
    if (at.header.max_timestamp < timestamp_ms) continue;
    auto found = TRY(find_in_batch(at, timestamp_ms, least));
    if (!found.has_value()) continue;
    return found->offset < limit ? found : nothing;
  }
  return nothing;
}

Result<std::optional<TimestampedOffset>> Segment::find_in_batch(const LocatedBatch& at, int64_t timestamp_ms,
                                                                Offset least) {
  Bytes bytes(static_cast<size_t>(at.header.size));
  bytes.resize_uninitialized(TRY(file_->read_at(at.position, bytes.mutable_view())));
  Result<RecordBatch> batch = RecordBatch::parse(bytes);
  if (!batch.ok() || !batch->crc_matches()) {
    const char* why = "the checksum does not match";
    context_.damage_found({at.header.base_offset, at.header.next_offset(), path(), at.position, why});
    return damage_status(at.position, why);
  }
  auto records = RecordIterator::open(*batch, kDecompressedBytesMax);
  TimestampedOffset answer{batch->base_offset(), batch->max_timestamp(), batch->leader_epoch()};
  // A client may have stored records that nobody can decompress. The whole batch is then the best answer.
  bool readable = records.ok();
  while (readable) {
    auto record = records->next();
    readable = record.ok();
    if (!readable) break;
    if (!record->has_value()) return std::optional<TimestampedOffset>();
    answer.offset = batch->base_offset() + (*record)->offset_delta;
    answer.timestamp_ms = (*record)->timestamp_ms;
    if (answer.timestamp_ms >= timestamp_ms && answer.offset >= least) return std::optional(answer);
  }
  answer.offset = std::max(batch->base_offset(), least);
  answer.timestamp_ms = batch->max_timestamp();
  return std::optional(answer);
}

void Segment::save_derived(bool whole) {
  if (!size_.has_value() || damage_seen_) return;
  if (cover_position_ == UINT64_MAX || !covers_all()) {
    if (!whole) return;
    if (Status loaded = load(true); !loaded.ok()) {
      context_.log.warning("no index for ", path(), ": ", loaded.to_string());
      return;
    }
    if (damage_seen_) return;
  }
  auto save = [this](std::string_view suffix, const Bytes& content) {
    std::string target = join_path(context_.directory, numbered_file(base_, suffix));
    Status written = write_derived(context_.files, target, content);
    if (!written.ok()) context_.log.warning("cannot save ", target, ": ", written.to_string());
  };
  save(kIndexSuffix, index_.encode(cover()));
  save(kTimeIndexSuffix, times_.encode(cover(), cover_max_timestamp_));
  if (!sealed_) return;
  Bytes payload;
  write_cover(payload, cover());
  save(kChecksumSuffix, frame_checkpoint(kChecksumVersion, payload));
}

void Segment::check_invariants(const std::function<bool(Offset)>& damaged) {
  if (Status opened = ensure_open(); !opened.ok()) {
    CHECK(opened.code() != Errc::kNotFound || damaged(base_));
    return;
  }
  bool clean = true;
  uint32_t crc = 0;
  size_t next_entry = 0;
  Offset last_end = base_;
  uint64_t size = *size_;
  BatchVisitor visitor = [&](uint64_t position, const RecordBatch& batch) {
    crc = crc32c(batch.bytes().first(kBatchCrcStart), crc);
    last_end = batch.next_offset();
    while (next_entry < index_.size() && index_.at(next_entry).position < position) ++next_entry;
    if (next_entry < index_.size() && index_.at(next_entry).position == position) {
      CHECK_EQ(index_.at(next_entry).offset, batch.base_offset());
    }
  };
  auto scanned = scan_batches(*file_, 0, size, expectation(base_), &visitor);
  if (!scanned.ok()) return;  // the disk failed, which is no bug of ours
  if (scanned->stop != ScanStop::kEnd) {
    CHECK(scanned->offset == end_ || damaged(scanned->offset));  // behind the last batch may lie anything
    clean = false;
  }
  if (!clean) return;
  CHECK_EQ(scanned->position, size);
  if (last_end != end_) {
    CHECK(damaged(last_end));
    return;
  }
  // What could not be read when the indexes were made is missing from them, though it may be read again by now.
  if (cover_position_ != UINT64_MAX && covers_all() && !damage_seen_) CHECK_EQ(crc, header_crc_);
  if (!sealed_) return;
  auto checksum = context_.files.read_file(join_path(context_.directory, numbered_file(base_, kChecksumSuffix)));
  if (!checksum.ok()) return;
  auto payload = unframe_checkpoint(*checksum, kChecksumVersion);
  if (!payload.ok() || payload->size() != kCoverBytes) return;
  CHECK(read_cover(*payload) == (SegmentCover{base_, end_, size, crc}));
}

}  // namespace trilog
