#include "storage/log/log.h"

#include <algorithm>
#include <utility>

#include "storage/log/log_impl.h"

namespace trilog {

Log::Log(Env& env, std::string directory, PartitionMeta meta, LogConfig config)
    : env_(env),
      directory_(std::move(directory)),
      meta_(std::move(meta)),
      config_(config),
      impl_(std::make_unique<Impl>(*this)) {}

Log::~Log() = default;

Log::Impl::Impl(Log& owner)
    : log(owner),
      env(owner.env_),
      files(owner.env_.files()),
      context{files,
              owner.env_.log(),
              owner.directory_,
              owner.config_,
              nullptr,
              owner.damaged_,
              [this](DamagedRange range) { note_damage(std::move(range)); }},
      self(std::make_shared<Log*>(&owner)),
      snapshots(files, owner.directory_) {}

Log::Impl::~Impl() {
  *self = nullptr;
  if (repair_done) {
    env.executor().post([done = std::move(repair_done)]() mutable {
      done(Status(Errc::kFailed, "the log was destroyed while it was repaired"));
    });
  }
  if (!close_done) return;
  env.executor().post([done = std::move(close_done)]() mutable {
    done(Status(Errc::kFailed, "the log was destroyed while it was closing"));
  });
}

Result<std::unique_ptr<Log>> Log::open(Env& env, std::string directory, PartitionMeta meta, LogConfig config,
                                       std::optional<LogMark> mark, bool clean) {
  std::unique_ptr<Log> log(new Log(env, std::move(directory), std::move(meta), config));
  TRY(log->impl_->open(mark, clean));
  if (mark) log->recovery_.high_watermark = std::min(mark->high_watermark, log->log_end_);
  return log;
}

Result<AppendInfo> Log::append(ByteView bytes) {
  if (impl_->closed) return Status(Errc::kFailed, directory_ + " is closed");
  if (failed_) return Status(Errc::kFailed, directory_ + " failed earlier");
  TRY(impl_->parse_batches(bytes));
  Offset next_offset = impl_->headers.back().next_offset();

  LeaderEpoch latest = epochs_.latest().value_or(EpochEntry{kNoLeaderEpoch, {}}).epoch;
  LeaderEpochCache with_new_epochs;
  bool epochs_grow = impl_->headers.back().leader_epoch > latest;
  if (epochs_grow) {
    with_new_epochs = epochs_;
    for (const BatchHeader& header : impl_->headers) {
      if (header.leader_epoch > latest) with_new_epochs.assign(header.leader_epoch, header.base_offset);
    }
  }
  TRY(impl_->prepare_append(bytes.size(), next_offset));
  // Recovery keeps no batch of an epoch that it finds nowhere else, since a flipped bit in the epoch is not covered by
  // the batch's checksum (S1). Therefore the epoch is written before the batch, and synced with it.
  if (epochs_grow || impl_->epochs_changed) TRY(impl_->write_epochs(epochs_grow ? with_new_epochs : epochs_));

  Segment& active = impl_->active();
  if (active.known_size() == 0) impl_->active_since_ms = env_.clock().wall_ms();
  Status written = active.append(bytes, impl_->headers);
  if (!written.ok()) {
    if (active.broken()) {
      impl_->fail(written);
      env_.fatal(written);
    }
    return written;
  }
  if (epochs_grow) epochs_ = std::move(with_new_epochs);
  for (const RecordBatch& batch : impl_->batches) {
    if (batch.producer_id() >= ProducerId(0)) producers_.record(batch, env_.clock().wall_ms());
  }
  AppendInfo info{log_end_, next_offset};
  log_end_ = next_offset;
  impl_->bytes_since_snapshot += bytes.size();
  if (impl_->bytes_since_snapshot >= std::max<uint64_t>(kSnapshotIntervalBytes, 8 * impl_->snapshots.last_bytes())) {
    impl_->snapshot_due = true;
    impl_->write_due_files();
  }
  return info;
}

Status Log::Impl::parse_batches(ByteView bytes) {
  batches.clear();
  headers.clear();
  Offset expected = log.log_end_;
  LeaderEpoch epoch = log.epochs_.latest().value_or(EpochEntry{kNoLeaderEpoch, {}}).epoch;
  while (!bytes.empty()) {
    RecordBatch batch = TRY(RecordBatch::parse(bytes));
    if (batch.size() > log.config_.batch_bytes_max) {
      return Status(Errc::kTooLarge, "a batch of " + std::to_string(batch.size()) + " bytes; at most " +
                                         std::to_string(log.config_.batch_bytes_max) + " are stored");
    }
    CHECK_EQ(batch.base_offset(), expected);
    if (batch.leader_epoch() < epoch) {
      return Status(Errc::kCorruption, log.directory_ + " holds records of leader epoch " +
                                           std::to_string(epoch.value()) + ", which is above the present one, " +
                                           std::to_string(batch.leader_epoch().value()));
    }
    expected = batch.next_offset();
    epoch = batch.leader_epoch();
    bytes = bytes.subspan(batch.size());
    headers.push_back(BatchHeader::of(batch));
    batches.push_back(batch);
  }
  CHECK(!headers.empty());
  return ok_status();
}

Status Log::Impl::prepare_append(uint64_t bytes, Offset next_offset) {
  if (!created) return create_folder();
  if (!must_roll(bytes, next_offset)) return ok_status();
  return roll();
}

// S4: the first durable point covers the new files and every folder whose entries are new. A folder that another log
// made a moment ago may not be durable either, so the three above are always synced.
Status Log::Impl::create_folder() {
  std::vector<std::string> directories{log.directory_};
  for (int level = 1; level < kFolderLevels; ++level) directories.push_back(parent_path(directories.back()));
  for (std::string path = directories.back(); !files.exists(path) && parent_path(path) != path;) {
    path = parent_path(path);
    directories.push_back(path);
  }
  for (std::string& path : directories) {
    if (std::find(unsynced_directories.begin(), unsynced_directories.end(), path) == unsynced_directories.end()) {
      unsynced_directories.push_back(std::move(path));
    }
  }
  TRY(files.create_directories(log.directory_));
  std::shared_ptr<File> meta = TRY(files.open(join_path(log.directory_, kMetaFile), OpenMode::kCreate));
  TRY(meta->truncate(0));
  TRY(meta->write_at(0, encode_partition_meta(log.meta_)));
  auto segment = std::make_unique<Segment>(context, log.log_end_, log.log_end_, false);
  TRY(segment->create());
  segments.clear();
  segments.push_back(std::move(segment));
  epochs_changed = true;
  unsynced_meta = std::move(meta);
  created = true;
  return ok_status();
}

bool Log::Impl::must_roll(uint64_t bytes, Offset next_offset) {
  Segment& segment = active();
  if (roll_next) return true;
  if (segment.known_size() == 0) return false;
  if (segment.known_size() + bytes > std::min(log.config_.segment_bytes, kSegmentBytesMax)) return true;
  if (next_offset - segment.base() > INT32_MAX) return true;
  int64_t now_ms = env.clock().wall_ms();
  // After a restart the age is that of the oldest record, as far as clients told the truth; without a timestamp it has
  // none.
  if (!active_since_ms.has_value()) {
    int64_t first_ms = segment.first_timestamp().value_or(now_ms);
    active_since_ms = first_ms < 0 ? now_ms : std::min(now_ms, first_ms);
  }
  return log.config_.segment_ms > 0 && now_ms - *active_since_ms >= log.config_.segment_ms;
}

// The new file comes first: if it cannot be made, the old segment stays the active one and nothing has changed.
Status Log::Impl::roll() {
  auto next = std::make_unique<Segment>(context, log.log_end_, log.log_end_, false);
  TRY(next->create());
  Segment& old = active();
  old.seal();
  opened.push_back(old.base());
  seals_due.push_back(old.base());
  segments.push_back(std::move(next));
  roll_next = false;
  active_since_ms.reset();
  if (unsynced_directories.empty()) unsynced_directories.push_back(log.directory_);
  snapshot_due = true;
  write_due_files();
  return ok_status();
}

// Indexes and snapshots are derived; they are written after the append that made them due, not inside it.
void Log::Impl::write_due_files() {
  if (due_posted) return;
  due_posted = true;
  env.executor().post([alive = self] {
    if (*alive == nullptr) return;
    Impl& impl = *(*alive)->impl_;
    impl.due_posted = false;
    if (impl.closed) return;
    for (Offset base : std::exchange(impl.seals_due, {})) {
      Segment* segment = impl.find(base);
      if (segment != nullptr && segment->base() == base && segment->sealed()) {
        segment->save_derived(true);
        impl.touch(*segment);
      }
    }
    if (std::exchange(impl.snapshot_due, false)) impl.write_snapshot();
  });
}

void Log::Impl::write_snapshot() {
  if (!created || snapshots.newest() == log.log_end_) return;
  auto written =
      snapshots.write({log.log_end_, active().base(), active().known_size()}, log.producers_, log.durable_end_);
  if (!written.ok()) {
    env.log().warning("no producer snapshot in ", log.directory_, ": ", written.status().to_string());
    return;
  }
  bytes_since_snapshot = 0;
  bytes_at_retention = 0;
}

Segment* Log::Impl::find(Offset offset) {
  auto after = std::upper_bound(segments.begin(), segments.end(), offset,
                                [](Offset wanted, const auto& segment) { return wanted < segment->base(); });
  return after == segments.begin() ? nullptr : std::prev(after)->get();
}

// S16: remembers that a sealed segment is open, and closes the one that was not used for longest.
void Log::Impl::touch(Segment& segment) {
  if (!segment.sealed() || !segment.is_open()) return;
  if (!opened.empty() && opened.back() == segment.base() && opened.size() <= kOpenSealedSegmentsMax) return;
  std::erase(opened, segment.base());
  opened.push_back(segment.base());
  for (size_t i = 0; opened.size() > kOpenSealedSegmentsMax && i < opened.size() - 1;) {
    Segment* oldest = find(opened[i]);
    bool known = oldest != nullptr && oldest->base() == opened[i] && oldest->sealed();
    bool busy =
        known && (oldest->dirty() || std::find(seals_due.begin(), seals_due.end(), opened[i]) != seals_due.end());
    if (busy) {
      ++i;
      continue;
    }
    if (known && oldest->is_open()) oldest->release();
    opened.erase(opened.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

Result<LogSlice> Log::read(Offset from, uint32_t bytes_max, Offset limit) {
  if (from < log_start_ || from > log_end_) {
    return Status(Errc::kOutOfRange, directory_ + " has offsets " + std::to_string(log_start_.value()) + " to " +
                                         std::to_string(log_end_.value()) + ", not " + std::to_string(from.value()));
  }
  LogSlice slice;
  slice.first = from;
  slice.limit = limit;
  if (from >= std::min(limit, log_end_)) return slice;
  if (const DamagedRange* damage = damage_at(from)) {
    return Status(Errc::kCorruption,
                  damage->file + " at byte " + std::to_string(damage->position) + ": " + damage->what);
  }
  Segment* segment = impl_->find(from);
  if (segment == nullptr) return Status(Errc::kCorruption, "the first file of " + directory_ + " is missing");
  LocatedBatch at = TRY(segment->locate(from));
  impl_->touch(*segment);
  if (at.header.next_offset() > limit) return slice;

  uint64_t end = std::min(segment->known_size(), at.position + std::max<uint64_t>(bytes_max, at.header.size));
  auto stop_at = [&](uint64_t position) { end = std::min(end, std::max(position, at.position + at.header.size)); };
  if (limit < segment->end()) stop_at(segment->position_bound(limit));
  auto epoch_ends = std::upper_bound(epochs_.entries().begin(), epochs_.entries().end(), from,
                                     [](Offset wanted, const EpochEntry& e) { return wanted < e.start; });
  slice.epoch_min = slice.epoch_max = epochs_.epoch_at(from);
  if (epoch_ends != epochs_.entries().end() && epoch_ends->start < segment->end()) {
    auto next_epoch = segment->locate(epoch_ends->start);
    if (next_epoch.ok()) stop_at(next_epoch->position);
    if (!next_epoch.ok()) slice.epoch_max = epochs_.entries().back().epoch;
  }
  slice.file = segment->path();
  for (const DamagedRange& range : damaged_) {
    if (range.first > from && range.file == slice.file) stop_at(range.position);
  }
  slice.first = at.header.base_offset;
  slice.slice = {segment->file(), at.position, static_cast<uint32_t>(end - at.position)};
  return slice;
}

Result<std::optional<TimestampedOffset>> Log::find_timestamp(int64_t timestamp_ms, Offset limit) {
  for (size_t i = 0; i < impl_->segments.size(); ++i) {
    Segment& segment = *impl_->segments[i];
    if (segment.end() <= log_start_) continue;
    if (segment.base() >= limit) break;
    auto found = TRY(segment.find_timestamp(timestamp_ms, log_start_, limit));
    impl_->touch(segment);
    if (found.has_value()) return found;
  }
  return std::optional<TimestampedOffset>();
}

LogMark Log::mark(Offset high_watermark) const {
  return {durable_end_, std::min(high_watermark, durable_end_), log_start_, impl_->durable_segment,
          impl_->durable_position};
}

uint64_t Log::size_bytes() const {
  uint64_t total = 0;
  for (const auto& segment : impl_->segments) {
    auto size = segment->size();
    if (size.ok()) total += *size;
  }
  return total;
}

uint64_t Log::unsynced_bytes() const {
  uint64_t total = 0;
  for (auto segment = impl_->segments.rbegin(); segment != impl_->segments.rend(); ++segment) {
    if ((*segment)->dirty()) {
      total += (*segment)->known_size() - (*segment)->synced_bytes();
    } else if ((*segment)->sealed()) {
      break;  // segments become durable in order
    }
  }
  return total;
}

const DamagedRange* Log::damage_at(Offset offset) const {
  for (const DamagedRange& range : damaged_) {
    if (range.first <= offset && offset < range.next_good) return &range;
  }
  return nullptr;
}

void Log::report_damage(DamagedRange range) {
  Segment* segment = impl_->find(range.first);
  if (range.next_good <= range.first && segment != nullptr) {
    // The reader knows where it begins, not where it ends.
    range.next_good = segment->end();
    if (segment->ensure_open().ok()) {
      SearchBounds bounds{range.first + 1, segment->end(), impl_->context.epochs, config_.batch_bytes_max,
                          segment->base()};
      auto search = find_batch(*segment->file(), range.position + 1, segment->known_size(), bounds);
      if (search.ok() && search->found) {
        range.next_good = search->found->offset;
        range.next_position = search->found->position;
      }
      impl_->touch(*segment);
    }
  }
  impl_->note_damage(std::move(range));
}

void Log::Impl::note_damage(DamagedRange range) {
  if (range.next_good <= range.first) return;
  for (const DamagedRange& known : log.damaged_) {
    if (known.first <= range.first && range.next_good <= known.next_good) return;
  }
  env.log().error("damage in ", range.file, " at byte ", range.position, ": ", range.what, "; offsets ", range.first,
                  " to ", range.next_good - 1, " cannot be served");
  look_at_damage_later();
  std::vector<DamagedRange>& ranges = log.damaged_;
  ranges.push_back(std::move(range));
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (size_t i = 0; i + 1 < ranges.size();) {
    if (ranges[i + 1].first < ranges[i].next_good) {
      if (ranges[i + 1].next_good > ranges[i].next_good) {
        ranges[i].next_good = ranges[i + 1].next_good;
        bool same_file = ranges[i].file == ranges[i + 1].file;
        ranges[i].next_position = same_file ? ranges[i + 1].next_position : 0;
      }
      ranges.erase(ranges.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    } else {
      ++i;
    }
  }
  if (ranges.size() > kDamagedRangesMax) {
    ranges[kDamagedRangesMax - 1].next_good = ranges.back().next_good;
    ranges[kDamagedRangesMax - 1].next_position = 0;
    ranges.resize(kDamagedRangesMax);
  }
}

}  // namespace trilog
