// What is done about damage in a log: it is looked for (S10), remembered, and mended (S9).
#include <algorithm>
#include <utility>

#include "storage/log/log_impl.h"

namespace trilog {

// --- what is known of it ---------------------------------------------------------------------------------------------

void Log::Impl::look_at_damage_later() {
  if (damage_posted) return;
  damage_posted = true;
  env.executor().post([alive = self] {
    if (*alive == nullptr) return;
    (*alive)->impl_->damage_posted = false;
    if (!(*alive)->damage_listener_) return;
    auto listener = (*alive)->damage_listener_;
    listener();
  });
}

// All of [from, to) is fine now. What a range had outside stays.
void Log::Impl::forget_damage(Offset from, Offset to) {
  std::vector<DamagedRange> left;
  for (DamagedRange& range : log.damaged_) {
    if (range.next_good <= from || range.first >= to) {
      left.push_back(std::move(range));
      continue;
    }
    if (range.first < from) {
      left.push_back(range);
      left.back().next_good = from;
      left.back().next_position = 0;
    }
    if (range.next_good > to) {
      left.push_back(std::move(range));
      left.back().first = to;
      left.back().position = 0;
      left.back().file = join_path(log.directory_, numbered_file(to, kLogSuffix));
    }
  }
  log.damaged_ = std::move(left);
}

// --- repair ----------------------------------------------------------------------------------------------------------

void Log::repair(FetchBatches fetch, UniqueFunction<void(Result<uint64_t>)> done) {
  Status begun = impl_->repair_done ? Status(Errc::kBusy, directory_ + " is being repaired")
                                    : impl_->begin_repair(std::move(fetch));
  if (begun.ok()) {
    impl_->repair_done = std::move(done);
    return;
  }
  env_.executor().post([done = std::move(done), begun = std::move(begun)]() mutable { done(std::move(begun)); });
}

Status Log::Impl::begin_repair(FetchBatches fetch) {
  if (closed || log.failed_) return Status(Errc::kFailed, log.directory_ + " is closed, or failed earlier");
  if (log.damaged_.empty() || segments.empty()) return Status(Errc::kNotFound, log.directory_ + " is not damaged");
  const DamagedRange& range = log.damaged_.front();
  Segment* segment = find(range.first);
  if (segment == nullptr) {
    // The first file is missing.
    auto missing = std::make_unique<Segment>(context, range.first, segments.front()->base(), true);
    segments.insert(segments.begin(), std::move(missing));
    segment = segments.front().get();
  }
  if (!segment->sealed()) TRY(roll());
  if (segment->dirty()) {
    log.request_sync();
    return Status(Errc::kBusy, segment->path() + " is not durable yet");
  }
  Status open_now = segment->ensure_open();
  if (!open_now.ok() && open_now.code() != Errc::kNotFound) return open_now;
  repair_truncations = truncations;
  repair = std::make_unique<SegmentRepair>(
      env, context, segment->file(), segment->known_size(), segment->base(), segment->end(), segment->path(),
      std::move(fetch), [this](Status status, bool replaced) { segment_repaired(std::move(status), replaced); });
  touch(*segment);
  return ok_status();
}

void Log::Impl::segment_repaired(Status status, bool replaced) {
  const std::unique_ptr<SegmentRepair> mended = std::move(repair);
  Segment* segment = find(mended->base());
  if (!status.ok()) return end_repair(std::move(status));
  CHECK(segment != nullptr && segment->base() == mended->base() && repair_truncations == truncations);
  segment->repaired(replaced ? mended->size() : segment->known_size());
  forget_damage(segment->base(), segment->end());
  scrub.reset();
  if (!replaced) return end_repair(uint64_t{0});
  seals_due.push_back(segment->base());
  write_due_files();
  files.sync_directory(
      log.directory_, [alive = self, fetched = mended->bytes_fetched(), number = repairs_ended](Status synced) {
        if (*alive == nullptr) return;
        Impl& impl = *(*alive)->impl_;
        if (!synced.ok()) {
          impl.fail(synced);
          impl.env.fatal(synced);
        }
        if (number == impl.repairs_ended)
          impl.end_repair(synced.ok() ? Result<uint64_t>(fetched) : Result<uint64_t>(std::move(synced)));
      });
}

void Log::Impl::end_repair(Result<uint64_t> result) {
  ++repairs_ended;
  if (repair != nullptr) std::exchange(repair, nullptr)->discard();
  if (!repair_done) return;
  env.executor().post(
      [done = std::exchange(repair_done, nullptr), result = std::move(result)]() mutable { done(std::move(result)); });
}

// --- scrub -----------------------------------------------------------------------------------------------------------

// Leaves `scrub` null if there are no more segments to look at.
void Log::Impl::next_to_scrub() {
  if (scrub != nullptr && scrub_truncations == truncations) {
    const Segment* segment = find(scrub_base);
    if (segment != nullptr && segment->base() == scrub_base) return;
  }
  scrub.reset();
  for (const auto& segment : segments) {
    // Of the file that is written to, what is on the disk.
    const bool active = !segment->sealed();
    const Offset end = active ? log.durable_end_ : segment->end();
    if (segment->base() < scrub_from || end <= log.log_start_) continue;
    if (active ? durable_segment != segment->base() : segment->dirty()) continue;
    if (!segment->ensure_open().ok()) continue;  // whoever reads it is told why
    const uint64_t bytes = active ? durable_position : segment->known_size();
    scrub_base = scrub_from = segment->base();
    scrub_truncations = truncations;
    scrub = std::make_unique<SegmentWalk>(context, segment->file(), bytes, segment->base(), end);
    touch(*segment);
    return;
  }
}

void Log::scrub(uint64_t bytes_max, UniqueFunction<void(uint64_t)> done) {
  if (!impl_->closed && !failed_) impl_->next_to_scrub();
  if (impl_->closed || failed_ || impl_->scrub == nullptr) {
    impl_->scrub_from = Offset(-1);
    env_.executor().post([done = std::move(done)]() mutable { done(0); });
    return;
  }
  SegmentWalk& walk = *impl_->scrub;
  walk.file()->load(walk.position(), bytes_max, [alive = impl_->self, bytes_max, done = std::move(done)]() mutable {
    done(*alive == nullptr ? 0 : (*alive)->impl_->scrub_piece(bytes_max));
  });
}

uint64_t Log::Impl::scrub_piece(uint64_t bytes_max) {
  if (closed || log.failed_) return 0;
  next_to_scrub();
  if (scrub == nullptr) return 1;  // the segments changed meanwhile; the next call says so
  const uint64_t before = scrub->position();
  const std::optional<SegmentWalk::Piece> piece = scrub->next(bytes_max);
  if (!piece) {
    scrub.reset();
    scrub_from = scrub_base + 1;
    return 1;
  }
  if (!piece->sound || piece->position != before) {
    const std::string file = join_path(log.directory_, numbered_file(scrub_base, kLogSuffix));
    const char* why = piece->sound ? "something stands between two batches" : piece->why;
    note_damage({piece->first, piece->next, file, before, why, piece->sound ? 0 : scrub->position()});
  }
  return std::max<uint64_t>(scrub->position() - before, 1);
}

}  // namespace trilog
