// Opening a log: after a clean stop the mark is believed and one file is opened; otherwise recovery decides what to
// keep, and epochs and producer state are brought in line with it.
#include <algorithm>
#include <utility>

#include "storage/log/log_impl.h"
#include "storage/log/log_recovery.h"

namespace trilog {

Status Log::Impl::open(const std::optional<LogMark>& known_mark, bool clean) {
  LogListing listing = TRY(list_log(files, log.directory_));
  LogMark mark = known_mark.value_or(LogMark{});
  // It contradicts itself: its end lies below the file that it names. The end counts; recovery finds the place.
  if (mark.durable_end < mark.segment) mark.segment = Offset(-1);
  log.log_start_ = mark.log_start;
  for (Offset base : listing.orphans) TRY(remove_derived_files(files, log.directory_, base));
  for (Offset base : listing.repairs)
    TRY(files.remove_file(join_path(log.directory_, numbered_file(base, kRepairSuffix))));
  snapshots.set_known(listing.snapshots);
  make_segments(listing);
  bool at_mark = !segments.empty() && known_mark.has_value() && TRY(ends_at(mark));
  bool trusted = clean && (segments.empty() || at_mark);
  if (clean && !trusted) env.log().warning(log.directory_, " is not as the clean stop left it; recovering");
  TRY(load_epochs(listing, !trusted, at_mark));
  if (segments.empty()) {
    log.log_end_ = log.log_start_;
    log.recovery_.scanned = !clean;
  } else if (!trusted) {
    if (!known_mark.has_value()) log.log_start_ = mark.log_start = segments.front()->base();
    TRY(recover(mark));
  }
  if (log.log_end_ < log.log_start_) TRY(drop_all_segments());
  log.recovery_.lost_below_mark = mark.durable_end > log.log_end_;
  // What was on the disk once is removed by retention only; of what never was a power cut takes any files.
  const bool nothing_was_durable = !known_mark.has_value() || known_mark->durable_end == known_mark->log_start;
  const Offset known_start = known_mark.has_value() ? known_mark->log_start : Offset(0);
  log.recovery_.front_in_doubt =
      !trusted && nothing_was_durable && !segments.empty() && segments.front()->base() > known_start;

  created = !segments.empty();
  if (created && segments.front()->base() > log.log_start_) {
    // Retention removes the oldest files before the mark says so; after a clean stop the mark is exact.
    if (trusted) {
      note_damage({log.log_start_, segments.front()->base(), log.directory_, 0, "the first file is missing"});
    } else {
      env.log().info(log.directory_, " begins at ", segments.front()->base(), ", behind its mark");
      log.log_start_ = segments.front()->base();
    }
  }
  if (created && !epochs_reach_start()) context.epochs = nullptr;
  bool epochs_are_old = context.epochs == nullptr || listing.has_epochs_temporary;
  if (context.epochs == nullptr) TRY(rebuild_epochs());
  // An epoch that begins at the end stays: it did begin there, its records are just not kept. One that begins above it
  // goes for good: the log grows past that offset again, and its batches would be judged by it.
  size_t known_epochs = log.epochs_.entries().size();
  log.epochs_.truncate_from_end(log.log_end_ + 1);
  epochs_are_old |= log.epochs_.entries().size() < known_epochs;
  // As far down as there are batches, read or not: recovery judges them by their epochs.
  log.epochs_.truncate_from_start(created ? std::min(log.log_start_, segments.front()->base()) : log.log_start_);
  log.durable_end_ = log.log_end_;
  if (created) {
    durable_segment = active().base();
    durable_position = active().known_size();
    if (epochs_are_old) TRY(rewrite_epochs_now());
    if (!trusted && !at_mark) TRY(keep_meta(listing));
    // What was read may be in the cache only. That is enough as long as nothing is judged by it.
    if (!trusted && at_mark) epochs_changed = true;
  }
  // The next file of epochs is the first; what an earlier log has left under a temporary name would outlive it.
  if (!created && listing.has_epochs_temporary) TRY(remove_epochs_temporaries());
  TRY(restore_producers());
  if (roll_next && roll().ok()) {
    durable_segment = active().base();
    durable_position = 0;
  } else if (roll_next) {
    durable_segment = Offset(-1);  // so that the next start looks at the file again
  }
  return ok_status();
}

// Without its marks a log begins lower than before, where the trimmed epochs say nothing.
bool Log::Impl::epochs_reach_start() {
  if (context.epochs == nullptr || log.log_start_ == log.log_end_) return true;
  if (log.epochs_.epoch_at(log.log_start_) != kNoLeaderEpoch) return true;
  Segment* first = find(log.log_start_);
  if (first == nullptr) return true;
  auto at = first->locate(log.log_start_);
  touch(*first);
  return !at.ok() || at->header.leader_epoch == kNoLeaderEpoch;
}

void Log::Impl::make_segments(const LogListing& listing) {
  for (size_t i = 0; i < listing.segments.size(); ++i) {
    bool last = i + 1 == listing.segments.size();
    // The last one's end is found below. Until then it may reach anywhere.
    Offset end = last ? Offset(INT64_MAX) : listing.segments[i + 1];
    segments.push_back(std::make_unique<Segment>(context, listing.segments[i], end, !last));
  }
}

// Whether the last file ends exactly where the mark says: nothing has been written since, or it was a clean stop.
Result<bool> Log::Impl::ends_at(const LogMark& mark) {
  Segment& last = active();
  TRY(last.open_for_writing());
  if (mark.segment != last.base() || mark.position != last.known_size()) return false;
  last.set_end(mark.durable_end);
  log.log_end_ = mark.durable_end;
  return true;
}

// Leaves context.epochs null if there is nothing to go by. A temporary file is newer than leader-epochs: it was written
// before the first batch of its epoch, and its name may not have been changed yet.
Status Log::Impl::load_epochs(const LogListing& listing, bool use_temporaries, bool at_mark) {
  auto read = [&](const std::string& name) -> Result<std::optional<LeaderEpochCache>> {
    std::string path = join_path(log.directory_, name);
    // S3: the process may have died before it synced them, and batches are judged by them at every later start.
    if (use_temporaries && !at_mark) {
      auto file = files.open(path, OpenMode::kReadWrite);
      if (!file.ok() && file.status().code() == Errc::kNotFound) return std::optional<LeaderEpochCache>();
      TRY(file.status());
      TRY((*file)->sync_now());
      (*file)->drop_cache();
    }
    auto bytes = files.read_file(path);
    if (!bytes.ok()) return std::optional<LeaderEpochCache>();
    auto cache = LeaderEpochCache::decode(*bytes);
    if (!cache.ok()) return std::optional<LeaderEpochCache>();
    return std::optional<LeaderEpochCache>(std::move(*cache));
  };
  if (segments.empty()) {
    context.epochs = &log.epochs_;
    return ok_status();
  }
  std::optional<LeaderEpochCache> best;
  if (listing.has_epochs) best = TRY(read(std::string(kEpochsFile)));
  epochs_file_exists = listing.has_epochs;
  for (unsigned which = 0; use_temporaries && listing.has_epochs_temporary && which < 2; ++which) {
    auto newer = TRY(read(epochs_temporary(which)));
    if (!newer.has_value() || !newer->latest().has_value()) continue;
    if (!best.has_value() || !best->latest().has_value() || newer->latest()->epoch > best->latest()->epoch) {
      best = std::move(newer);
    }
  }
  if (!best.has_value()) {
    if (listing.has_epochs) env.log().warning("the leader epochs of ", log.directory_, " cannot be read");
    return ok_status();
  }
  log.epochs_ = std::move(*best);
  context.epochs = &log.epochs_;
  return ok_status();
}

Status Log::Impl::recover(const LogMark& mark) {
  RecoveredLog recovered = TRY(recover_log(context, segments, mark));
  log.log_end_ = recovered.end;
  log.recovery_ = recovered.report;
  roll_next = recovered.needs_new_segment;
  return ok_status();
}

// What there is lies wholly below log_start: it was to be removed, and its offsets must not be given again.
Status Log::Impl::drop_all_segments() {
  while (!segments.empty()) {
    TRY(remove_derived_files(files, log.directory_, active().base()));
    TRY(files.remove_file(active().path()));
    TRY(files.sync_directory_now(log.directory_));
    segments.pop_back();
  }
  log.damaged_.clear();
  log.log_end_ = log.log_start_;
  roll_next = false;
  return ok_status();
}

// Reads all headers. An epoch that a single batch has, and that those behind it do not keep up, is a flipped bit.
Status Log::Impl::rebuild_epochs() {
  size_t batches_of_latest = 0;
  LeaderEpochCache& cache = log.epochs_;
  cache.clear();
  auto visit = [&](uint64_t, const BatchHeader& header) {
    auto latest = cache.latest();
    if (latest.has_value() && header.leader_epoch < latest->epoch && batches_of_latest == 1) {
      cache.truncate_from_end(latest->start);
      batches_of_latest = 2;  // of the epoch before; how many does not matter
      latest = cache.latest();
    }
    if (!latest.has_value() || header.leader_epoch > latest->epoch) {
      cache.assign(header.leader_epoch, header.base_offset);
      batches_of_latest = 0;
    }
    if (header.leader_epoch == cache.latest().value_or(EpochEntry{}).epoch) ++batches_of_latest;
  };
  for (const auto& segment : segments) {
    TRY(segment->visit_headers(visit));
    if (segment->sealed() && !segment->dirty()) segment->release();
  }
  context.epochs = &cache;
  return ok_status();
}

Status Log::Impl::restore_producers() {
  auto from = TRY(snapshots.load(log.log_end_, log.producers_));
  // Between a snapshot and the first file there would be batches that nobody knows: a producer whose last one lies
  // there would be told that its next one is out of order.
  if (from.has_value() && !segments.empty() && from->offset < segments.front()->base()) {
    log.producers_.clear();
    from.reset();
  }
  if (segments.empty() || (from.has_value() && from->offset == log.log_end_)) return ok_status();
  return replay_producers(from.value_or(ReplayStart{segments.front()->base()}));
}

Status Log::Impl::replay_producers(const ReplayStart& from) {
  Offset offset = std::max(from.offset, segments.front()->base());
  Segment* first = find(offset);
  uint64_t position = 0;
  if (first->base() == from.segment && from.offset == offset && from.position <= TRY(first->size())) {
    position = from.position;
  } else {
    offset = first->base();
  }
  int64_t now_ms = env.clock().wall_ms();
  BatchVisitor record = [&](uint64_t, const RecordBatch& batch) {
    if (batch.base_offset() >= from.offset) log.producers_.record(batch, now_ms);
  };
  uint64_t bytes = 0;
  for (const auto& segment : segments) {
    if (segment->end() <= offset || segment->base() < first->base()) continue;
    TRY(segment->ensure_open());
    uint64_t size = TRY(segment->size());
    SearchBounds bounds{offset, segment->end(), context.epochs, log.config_.batch_bytes_max, segment->base()};
    while (position < size) {
      BatchExpectation expected{std::max(offset, segment->base()), context.epochs, kNoLeaderEpoch,
                                log.config_.batch_bytes_max, segment->end()};
      ScanResult stopped = TRY(scan_batches(*segment->file(), position, size, expected, &record));
      bytes += stopped.bytes_read;
      bounds.least = stopped.offset + 1;
      if (stopped.stop == ScanStop::kEnd) break;
      auto next = TRY(find_batch(*segment->file(), stopped.position + 1, size, bounds)).found;
      if (!next.has_value()) break;
      position = next->position;
      offset = next->offset;
    }
    position = 0;
    offset = segment->end();
    touch(*segment);
  }
  if (bytes < kSnapshotIntervalBytes) return ok_status();
  snapshot_due = true;
  write_due_files();
  return ok_status();
}

// After a crash partition.meta may be torn, if it was being written for the first time.
Status Log::Impl::keep_meta(const LogListing& listing) {
  if (listing.has_meta) {
    // It may also look whole and not be on the disk (S3).
    std::string path = join_path(log.directory_, kMetaFile);
    std::unique_ptr<File> file = TRY(files.open(path, OpenMode::kReadWrite));
    TRY(file->sync_now());
    file->drop_cache();
    auto bytes = files.read_file(path);
    if (bytes.ok()) {
      auto meta = decode_partition_meta(*bytes);
      if (meta.ok() && *meta == log.meta_) return ok_status();
    }
  }
  Status written = files.replace_file(join_path(log.directory_, kMetaFile), encode_partition_meta(log.meta_));
  if (written.ok() || written.code() != Errc::kDiskFull) return written;
  env.log().warning("cannot write ", log.directory_, "/", kMetaFile, ": ", written.to_string());
  return ok_status();
}

}  // namespace trilog
