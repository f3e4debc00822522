// How appended bytes become durable: one job at a time, all its syncs side by side, durable_end moves when the last of
// them is done (rules S3, S4). Closing is such a job too.
#include <algorithm>
#include <utility>

#include "storage/log/log_impl.h"

namespace trilog {

void Log::request_sync() {
  if (failed_ || impl_->closed) return;
  if (impl_->sync_in_flight) {
    impl_->sync_wanted = true;
    return;
  }
  if (impl_->has_unsynced()) impl_->start_sync();
}

bool Log::Impl::has_unsynced() const {
  if (!created) return false;
  return log.durable_end_ < log.log_end_ || unsynced_meta != nullptr || !unsynced_directories.empty() ||
         pending_epochs.has_value();
}

void Log::Impl::start_sync() {
  auto job = std::make_shared<SyncJob>();
  add_parts(*job);
  run(std::move(job));
}

void Log::Impl::add_parts(SyncJob& job) {
  job.truncations = truncations;
  job.end = log.log_end_;
  job.segment = active().base();
  job.position = active().known_size();
  for (auto segment = segments.rbegin(); segment != segments.rend(); ++segment) {
    if ((*segment)->dirty()) {
      job.segments.push_back({(*segment)->base(), (*segment)->file(), (*segment)->known_size()});
    } else if ((*segment)->sealed()) {
      break;
    }
  }
  if (unsynced_meta != nullptr) job.files.push_back(std::move(unsynced_meta));
  unsynced_meta = nullptr;
  job.directories = std::exchange(unsynced_directories, {});
  job.epochs = std::exchange(pending_epochs, std::nullopt);
  if (job.epochs.has_value()) ++epochs_writes;
}

void Log::Impl::run(std::shared_ptr<SyncJob> job) {
  sync_in_flight = true;
  job_in_flight = job;
  bool rename_first = job->epochs.has_value() && !job->epochs->temporary.empty();
  if (rename_first) std::erase(job->directories, log.directory_);
  std::vector<std::shared_ptr<File>> to_sync = job->files;
  for (const SyncJob::Part& part : job->segments) to_sync.push_back(part.file);
  if (job->epochs.has_value()) to_sync.push_back(job->epochs->file);

  // One more than there are, so that the job cannot end before all its syncs are on their way. That one is posted, so
  // that it cannot end inside the call that began it either.
  job->pending = 1 + to_sync.size() + job->directories.size();
  auto done = [alive = self, job](Status status) {
    if (!status.ok() && job->status.ok()) job->status = std::move(status);
    if (--job->pending != 0) return;
    if (*alive != nullptr) {
      (*alive)->impl_->names_written(job);
    } else if (job->closed) {
      job->closed(Status(Errc::kFailed, "the log was destroyed while it was closing"));
    }
  };
  for (const auto& file : to_sync) {
    file->sync([done, file](Status status) mutable { done(std::move(status)); });
  }
  for (const std::string& directory : job->directories) {
    bool own = directory == log.directory_ || directory == parent_path(log.directory_);
    files.sync_directory(directory, [done, own](Status status) mutable {
      done(!own && status.code() == Errc::kPermission ? ok_status() : std::move(status));
    });
  }
  env.executor().post([done]() mutable { done(ok_status()); });
}

// All contents are durable. A new leader-epochs gets its name now, and only if it is still true.
void Log::Impl::names_written(const std::shared_ptr<SyncJob>& job) {
  bool rename =
      job->status.ok() && job->epochs.has_value() && !job->epochs->temporary.empty() && job->truncations == truncations;
  if (!rename) return finish(*job);
  job->status = files.rename(join_path(log.directory_, job->epochs->temporary), join_path(log.directory_, kEpochsFile));
  if (!job->status.ok()) return finish(*job);
  job->pending = 1;
  files.sync_directory(log.directory_, [alive = self, job](Status status) {
    job->status = std::move(status);
    if (*alive != nullptr) {
      (*alive)->impl_->finish(*job);
    } else if (job->closed) {
      job->closed(Status(Errc::kFailed, "the log was destroyed while it was closing"));
    }
  });
}

void Log::Impl::finish(SyncJob& job) {
  sync_in_flight = false;
  job_in_flight = nullptr;
  bool notify = false;
  if (!job.status.ok()) {
    // S3: the pages are clean now and lost; a second sync would succeed and lie.
    log.failed_ = true;
    notify = true;
    env.fatal(job.status.with_context("sync of " + log.directory_));
  } else if (job.truncations == truncations) {
    for (const SyncJob::Part& part : job.segments) {
      Segment* segment = find(part.base);
      if (segment != nullptr && segment->base() == part.base) segment->set_synced(part.bytes);
    }
    epochs_file_exists |= job.epochs.has_value();
    notify = log.durable_end_ < job.end;
    log.durable_end_ = job.end;
    durable_segment = job.segment;
    durable_position = job.position;
  }
  if (job.closed) {
    env.executor().post([done = std::move(job.closed), status = job.status]() mutable { done(std::move(status)); });
  } else if (close_done) {
    start_close();
  } else if (std::exchange(sync_wanted, false) && !log.failed_ && !closed && has_unsynced()) {
    start_sync();
  }
  // Last, since the listener may destroy the log.
  if (!notify || !log.durable_listener_) return;
  auto listener = log.durable_listener_;
  listener();
}

void Log::Impl::fail(const Status& why) {
  log.failed_ = true;
  env.log().error(log.directory_, " failed: ", why.to_string());
  notify_later();
}

void Log::Impl::notify_later() {
  env.executor().post([alive = self] {
    if (*alive == nullptr || !(*alive)->durable_listener_) return;
    auto listener = (*alive)->durable_listener_;
    listener();
  });
}

// Not durable yet: the next job syncs it, and gives it its name if that is taken.
Status Log::Impl::write_epochs(const LeaderEpochCache& epochs) {
  PendingEpochs pending;
  if (epochs_file_exists || sync_in_flight) pending.temporary = epochs_temporary(epochs_writes);
  std::string name = pending.temporary.empty() ? std::string(kEpochsFile) : pending.temporary;
  pending.file = TRY(files.open(join_path(log.directory_, name), OpenMode::kCreate));
  TRY(pending.file->truncate(0));
  TRY(pending.file->write_at(0, epochs.encode()));
  pending_epochs = std::move(pending);
  epochs_changed = false;
  if (unsynced_directories.empty()) unsynced_directories.push_back(log.directory_);
  return ok_status();
}

void Log::close(UniqueFunction<void(Status)> done) {
  CHECK(!impl_->closed);
  impl_->closed = true;
  impl_->cancel_repair();
  impl_->close_done = std::move(done);
  if (!impl_->sync_in_flight) impl_->start_close();
}

// S12: what the next start would otherwise have to work out is written now. Indexes and snapshots may fail to be, but
// not the epochs: after a clean stop they are believed.
void Log::Impl::start_close() {
  auto answer = [this](Status status) {
    env.executor().post([done = std::move(close_done), status = std::move(status)]() mutable { done(status); });
    close_done = nullptr;
  };
  if (log.failed_) return answer(Status(Errc::kFailed, log.directory_ + " failed earlier"));
  if (!created) return answer(ok_status());
  for (Offset base : std::exchange(seals_due, {})) {
    Segment* segment = find(base);
    if (segment != nullptr && segment->base() == base && segment->sealed()) segment->save_derived(true);
  }
  active().save_derived(false);
  auto job = std::make_shared<SyncJob>();
  auto snapshot =
      snapshots.write({log.log_end_, active().base(), active().known_size()}, log.producers_, log.durable_end_);
  if (snapshot.ok()) job->files.push_back(*snapshot);
  if (epochs_changed || (!epochs_file_exists && !pending_epochs.has_value())) {
    Status written = write_epochs(log.epochs_);
    if (!written.ok()) return answer(written);
  }
  if (unsynced_directories.empty()) unsynced_directories.push_back(log.directory_);
  add_parts(*job);
  job->closed = std::move(close_done);
  close_done = nullptr;
  run(std::move(job));
}

void Log::abandon() {
  impl_->closed = true;
  ++impl_->truncations;
  impl_->cancel_repair();
  impl_->created = false;
  impl_->segments.clear();
  impl_->opened.clear();
  impl_->seals_due.clear();
  impl_->trash.clear();
  impl_->pending_epochs.reset();
  impl_->unsynced_meta.reset();
  durable_listener_ = nullptr;
}

}  // namespace trilog
