// Taking away from a log: truncation, retention; and what else changes it besides appending.
#include <algorithm>
#include <utility>

#include "storage/log/log_impl.h"

namespace trilog {

namespace {
constexpr uint64_t kIdleSnapshotBytes = 64u << 10;
}  // namespace

void Log::begin_epoch(LeaderEpoch epoch) {
  auto latest = epochs_.latest();
  if (latest.has_value() && latest->epoch == epoch) return;
  if (latest.has_value() && latest->epoch > epoch) {
    // Damage; append() says so to everybody who writes.
    env_.log().error(directory_, " holds records of leader epoch ", latest->epoch, "; the present one is ", epoch);
    return;
  }
  epochs_.assign(epoch, log_end_);
  impl_->epochs_changed = true;
}

void Log::drop_empty_epochs() {
  auto latest = epochs_.latest();
  if (!latest.has_value() || latest->start < log_end_) return;
  epochs_.truncate_from_end(log_end_);
  impl_->epochs_changed = true;
}

Status Log::set_meta(PartitionMeta meta) {
  meta_ = std::move(meta);
  if (!impl_->created) return ok_status();
  return impl_->files.replace_file(join_path(directory_, kMetaFile), encode_partition_meta(meta_));
}

// Everything appended is durable on return.
Status Log::Impl::sync_all_now() {
  for (const auto& segment : segments) {
    if (!segment->dirty()) continue;
    TRY(segment->file()->sync_now());
    segment->set_synced(segment->known_size());
  }
  // What a job has taken over and not finished is not durable either.
  if (job_in_flight != nullptr) {
    for (const auto& file : job_in_flight->files) TRY(file->sync_now());
    for (const std::string& directory : job_in_flight->directories) unsynced_directories.push_back(directory);
  }
  if (unsynced_meta != nullptr) TRY(unsynced_meta->sync_now());
  unsynced_meta = nullptr;
  for (const std::string& directory : unsynced_directories) {
    bool own = directory == log.directory_ || directory == parent_path(log.directory_);
    Status synced = files.sync_directory_now(directory);
    if (!synced.ok() && (own || synced.code() != Errc::kPermission)) return synced;
  }
  unsynced_directories.clear();
  return ok_status();
}

Status Log::Impl::rewrite_epochs_now() {
  TRY(files.replace_file(join_path(log.directory_, kEpochsFile), log.epochs_.encode()));
  pending_epochs.reset();
  epochs_changed = false;
  epochs_file_exists = true;
  return remove_epochs_temporaries();
}

Status Log::Impl::remove_epochs_temporaries() {
  bool removed = false;
  for (unsigned which = 0; which < 2; ++which) {
    removed |= files.remove_file(join_path(log.directory_, epochs_temporary(which))).ok();
  }
  return removed ? files.sync_directory_now(log.directory_) : ok_status();
}

Status Log::truncate_to(Offset end) {
  if (failed_) return Status(Errc::kFailed, directory_ + " failed earlier");
  if (end < log_start_ || end > log_end_) {
    return Status(Errc::kOutOfRange, "cannot cut " + directory_ + " to " + std::to_string(end.value()) + ": it has " +
                                         std::to_string(log_start_.value()) + " to " +
                                         std::to_string(log_end_.value()));
  }
  if (end == log_end_) return ok_status();
  // Where the cut goes is found out before anything changes.
  Segment* last = impl_->find(end);
  uint64_t position = 0;
  if (const DamagedRange* damage = damage_at(end)) {
    end = damage->first;
    position = damage->position;
    last = impl_->find(end);
  } else if (last != nullptr && end > last->base()) {
    LocatedBatch at = TRY(last->locate(end));
    position = at.position;
    end = at.header.base_offset;
  }
  if (last == nullptr) return Status(Errc::kCorruption, "the first file of " + directory_ + " is missing");
  // What is cut begins below log_start: nothing readable is left, and the offsets up to log_start stay used up.
  if (end < log_start_) return restart_at(log_start_);

  ++impl_->truncations;
  impl_->cancel_repair();
  log_end_ = end;
  durable_end_ = std::min(durable_end_, end);
  std::erase_if(damaged_, [&](const DamagedRange& range) { return range.first >= end; });
  epochs_.truncate_from_end(end);
  impl_->roll_next = false;
  Status status = impl_->cut(*last, position, end);
  if (status.ok()) {
    durable_end_ = end;
    impl_->durable_segment = impl_->active().base();
    impl_->durable_position = impl_->active().known_size();
    producers_.clear();
    status = impl_->restore_producers();  // without them a retry would be stored twice
  }
  if (!status.ok()) {
    impl_->fail(status);
    impl_->env.fatal(status.with_context("cutting " + directory_));
  }
  return status;
}

// Files go one by one from the end, each removal durable before the next: a crash in between leaves no gap, which
// recovery would have to take for damage.
Status Log::Impl::cut(Segment& last, uint64_t position, Offset end) {
  while (segments.back().get() != &last) {
    TRY(remove_derived_files(files, log.directory_, active().base()));
    TRY(files.remove_file(active().path()));
    TRY(files.sync_directory_now(log.directory_));
    segments.pop_back();
  }
  std::erase_if(opened, [&](Offset base) { return base >= last.base(); });
  std::erase_if(seals_due, [&](Offset base) { return base >= last.base(); });
  // Indexes of what is cut must not come back with a crash: their cover might fit what is appended later.
  TRY(remove_derived_files(files, log.directory_, last.base()));
  TRY(files.sync_directory_now(log.directory_));
  last.unseal();
  uint64_t synced = last.synced_bytes();
  TRY(last.open_for_writing());
  last.set_synced(std::min(synced, position));
  TRY(last.truncate(position, end));
  TRY(last.file()->sync_now());
  last.set_synced(position);
  active_since_ms.reset();
  TRY(sync_all_now());
  return rewrite_epochs_now();
}

Status Log::restart_at(Offset start) {
  if (failed_) return Status(Errc::kFailed, directory_ + " failed earlier");
  CHECK_GE(start, Offset(0));
  ++impl_->truncations;
  impl_->cancel_repair();
  log_start_ = log_end_ = durable_end_ = start;
  epochs_.clear();
  producers_.clear();
  recovery_.front_in_doubt = false;
  impl_->opened.clear();
  impl_->seals_due.clear();
  impl_->pending_epochs.reset();
  impl_->unsynced_meta.reset();
  impl_->created = false;
  impl_->durable_segment = Offset(-1);
  impl_->durable_position = 0;
  Status status = impl_->snapshots.remove_above(Offset(-1));
  if (status.ok()) status = impl_->remove_trash_now();
  if (status.ok()) status = impl_->drop_all_segments();
  // The old epochs would condemn the records to come.
  if (status.ok() && impl_->epochs_file_exists) status = impl_->rewrite_epochs_now();
  if (!status.ok()) {
    impl_->fail(status);
    impl_->env.fatal(status.with_context("beginning " + directory_ + " again"));
  }
  return status;
}

void Log::advance_start(Offset offset) {
  CHECK_GE(offset, log_start_);
  CHECK_LE(offset, log_end_);
  log_start_ = offset;
  // The epochs below stay until the next open: if they went now, a crash before the mark is written would bring back
  // records whose epochs are forgotten.
  std::erase_if(damaged_, [&](const DamagedRange& range) { return range.next_good <= offset; });
}

uint64_t Log::apply_retention(int64_t now_ms, bool clock_trusted, Offset limit) {
  if (impl_->closed || failed_) return 0;
  std::vector<std::unique_ptr<Segment>>& segments = impl_->segments;
  uint64_t total = config_.retention_bytes >= 0 ? size_bytes() : 0;
  uint64_t freed = 0;
  size_t count = 0;
  while (count + 1 < segments.size()) {
    Segment& oldest = *segments[count];
    if (oldest.end() > limit || oldest.dirty()) break;
    // S4: the next file's name is known to be on the disk once a record of it is. Were it lost and this one's removal
    // not, the log would begin at 0 again and give its offsets twice.
    if (durable_end_ <= oldest.end()) break;
    auto size = oldest.size();
    bool below_start = oldest.end() <= log_start_;
    bool too_many = config_.retention_bytes >= 0 && size.ok() &&
                    total - freed >= *size + static_cast<uint64_t>(config_.retention_bytes);
    bool too_old = false;
    if (!below_start && !too_many && clock_trusted && config_.retention_ms >= 0) {
      auto newest = oldest.max_timestamp();
      impl_->touch(oldest);
      // Records without a timestamp have no age; only size takes them away.
      too_old = newest.ok() && *newest >= 0 && now_ms - *newest > config_.retention_ms;
    }
    if (!below_start && !too_many && !too_old) break;
    freed += size.ok() ? *size : 0;
    ++count;
  }
  impl_->retire(count);
  impl_->save_if_idle();
  return freed;
}

// The oldest `count` segments are no longer part of the log. Their files go one at a time.
void Log::Impl::retire(size_t count) {
  if (count == 0) return;
  bool idle = trash.empty();
  Offset start = segments[count]->base();
  env.log().info("removing ", count, " segments of ", log.directory_, " below ", start);
  if (repair != nullptr && repair->base() < start) cancel_repair();
  for (size_t i = 0; i < count; ++i) trash.push_back(segments[i]->base());
  segments.erase(segments.begin(), segments.begin() + static_cast<std::ptrdiff_t>(count));
  std::erase_if(opened, [&](Offset base) { return base < start; });
  std::erase_if(seals_due, [&](Offset base) { return base < start; });
  if (start > log.log_start_) log.advance_start(start);
  if (idle) remove_trash();
}

// In order, and each removal durable before the next: what a crash leaves is without gaps.
void Log::Impl::remove_trash() {
  if (trash.empty()) return;
  Offset base = trash.front();
  Status removed = files.remove_file(join_path(log.directory_, numbered_file(base, kLogSuffix)));
  if (!removed.ok() && removed.code() != Errc::kNotFound) {
    env.log().warning("retention: ", removed.to_string());
    trash.clear();  // the next start finds them below log_start
    return;
  }
  // Their base is never used again, so one that stays is only in the way until the next start.
  static_cast<void>(remove_derived_files(files, log.directory_, base));
  files.sync_directory(log.directory_, [alive = self](Status status) {
    if (*alive == nullptr) return;
    Impl& impl = *(*alive)->impl_;
    if (!status.ok()) {
      impl.fail(status);
      impl.env.fatal(status);
      return;
    }
    if (impl.trash.empty()) return;
    impl.trash.pop_front();
    impl.remove_trash();
  });
}

Status Log::Impl::remove_trash_now() {
  while (!trash.empty()) {
    Status removed = files.remove_file(join_path(log.directory_, numbered_file(trash.front(), kLogSuffix)));
    if (!removed.ok() && removed.code() != Errc::kNotFound) return removed;
    TRY(remove_derived_files(files, log.directory_, trash.front()));
    TRY(files.sync_directory_now(log.directory_));
    trash.pop_front();
  }
  return ok_status();
}

// A log that has gone quiet gets a snapshot, so that a crash much later need not replay its last megabytes.
void Log::Impl::save_if_idle() {
  bool quiet = bytes_since_snapshot == bytes_at_retention;
  bytes_at_retention = bytes_since_snapshot;
  if (!quiet || bytes_since_snapshot < kIdleSnapshotBytes) return;
  snapshot_due = true;
  write_due_files();
}

void Log::check_invariants() {
  Impl& impl = *impl_;
  CHECK_LE(log_start_, log_end_);
  CHECK_LE(durable_end_, log_end_);
  Offset previous{-1};
  for (const EpochEntry& entry : epochs_.entries()) {
    CHECK_GT(entry.start, previous);
    CHECK_LE(entry.start, log_end_);
    previous = entry.start;
  }
  if (!impl.created) {
    CHECK_EQ(log_start_, log_end_);
    return;
  }
  CHECK_LE(impl.segments.front()->base(), log_start_);
  CHECK_EQ(impl.active().end(), log_end_);
  CHECK(!impl.active().sealed());
  CHECK(!impl.active().dirty() || durable_end_ < log_end_);
  auto damaged = [this](Offset offset) { return damage_at(offset) != nullptr; };
  for (size_t i = 0; i < impl.segments.size(); ++i) {
    Segment& segment = *impl.segments[i];
    if (i + 1 < impl.segments.size()) {
      CHECK(segment.sealed());
      CHECK_EQ(segment.end(), impl.segments[i + 1]->base());
    }
    if (segment.end() > log_start_) segment.check_invariants(damaged);
    impl.touch(segment);
  }
}

}  // namespace trilog
