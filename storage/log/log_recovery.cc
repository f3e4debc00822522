#include "storage/log/log_recovery.h"

#include <algorithm>
#include <utility>

#include "storage/log/log_files.h"

namespace trilog {

namespace {

constexpr size_t kOpenFilesMax = 8;

// One run over the files above the mark.
class Recovery {
 public:
  Recovery(SegmentContext& context, std::vector<std::unique_ptr<Segment>>& segments, const LogMark& mark)
      : context_(context), segments_(segments), mark_(mark) {}
  Result<RecoveredLog> run();

 private:
  struct Place {
    size_t segment = 0;
    uint64_t position = 0;
    Offset offset;
  };
  struct LaterBatch {
    Later later = Later::kNothing;
    Place place;
  };

  Segment& segment(size_t i) { return *segments_[i]; }
  size_t segment_of_mark() const;
  Result<ScanResult> find_mark(size_t i);
  Status set_aside(size_t i);
  Status make_durable(size_t from);
  Result<ScanResult> scan(const Place& from);
  Result<LaterBatch> find_later(size_t i, const ScanResult& stopped);
  Status end_here(size_t i, const ScanResult& stopped, bool cut);
  void leave(size_t i);
  Status drop_stale_files(Segment& last);
  void quarantine(size_t i, const ScanResult& stopped, Offset next_good, uint64_t next_position);
  Status scan_all(Place from);

  SegmentContext& context_;
  std::vector<std::unique_ptr<Segment>>& segments_;
  const LogMark mark_;
  bool many_ = false;
  RecoveredLog result_;
};

// The last segment that begins at or below the mark; the first one if none does.
size_t Recovery::segment_of_mark() const {
  size_t i = segments_.size() - 1;
  while (i > 0 && segments_[i]->base() > mark_.durable_end) --i;
  return i;
}

// Where the scan begins in segment `i`: as the mark says, or else by walking the headers below it. The walk may stop
// earlier; the answer then says why.
Result<ScanResult> Recovery::find_mark(size_t i) {
  Segment& at = segment(i);
  TRY(at.ensure_open());
  uint64_t size = at.known_size();
  ScanResult result;
  result.offset = at.base();
  if (at.base() == mark_.segment && mark_.position <= size) {
    result.position = mark_.position;
    result.offset = mark_.durable_end;
    return result;
  }
  HeaderReader reader(*at.file(), size, 256u << 10);
  BatchExpectation expected{at.base(), context_.epochs, kNoLeaderEpoch, context_.config.batch_bytes_max};
  std::optional<LocatedBatch> before;
  while (expected.offset < mark_.durable_end && result.position < size) {
    std::optional<BatchHeader> header = TRY(reader.at(result.position));
    const char* problem = header ? expected.problem(*header, size - result.position) : "the header is cut off";
    if (problem != nullptr) {
      result.stop = ScanStop::kBroken;
      result.why = problem;
      break;
    }
    // The batch that holds the mark is scanned again.
    if (header->next_offset() > mark_.durable_end) break;
    before = LocatedBatch{result.position, *header};
    result.position += header->size;
    expected.step(*header);
    result.offset = expected.offset;
  }
  // A wrong length shows only behind it; believed, it would make good batches above the mark look like a torn tail.
  if (before.has_value() && !TRY(batch_is_sound(*at.file(), *before))) {
    result = {ScanStop::kBroken, before->position, before->header.base_offset, "the checksum does not match"};
  }
  return result;
}

// A file, not the first, whose name says that it begins inside what comes before it. Empty: left over from a roll that
// failed.
Status Recovery::set_aside(size_t i) {
  Segment& stray = segment(i);
  TRY(remove_derived_files(context_.files, context_.directory, stray.base()));
  uint64_t size = TRY(stray.size());
  if (size == 0) {
    TRY(context_.files.remove_file(stray.path()));
  } else {
    context_.log.error("set aside ", stray.path(), " (", size, " bytes), which overlaps what comes before it");
    TRY(context_.files.rename(stray.path(), stray.path() + std::string(kStraySuffix)));
  }
  TRY(context_.files.sync_directory_now(context_.directory));
  segments_.erase(segments_.begin() + static_cast<std::ptrdiff_t>(i));
  // Its name had limited the file before it.
  segment(i - 1).set_end(i < segments_.size() ? segment(i).base() : Offset(INT64_MAX));
  return ok_status();
}

// S3: the cache may show bytes that are not on the disk, and a sync that failed before the crash does not say so again.
// Sync, forget the cache, and believe what is read then.
Status Recovery::make_durable(size_t from) {
  many_ = segments_.size() - from > kOpenFilesMax;
  for (size_t i = from; i < segments_.size(); ++i) {
    TRY(segment(i).open_for_writing());
    TRY(segment(i).file()->sync_now());
    segment(i).file()->drop_cache();
    TRY(segment(i).open_for_writing());  // a cut that never reached the disk is undone by that: the size is read again
    leave(i);
  }
  // The folders as well, up to the data folder: the process may have died before it synced the names it had made.
  std::string folder = context_.directory;
  for (int level = 0; level < kFolderLevels; ++level, folder = parent_path(folder)) {
    Status synced = context_.files.sync_directory_now(folder);
    if (!synced.ok() && (level < kOwnFolderLevels || synced.code() != Errc::kPermission)) return synced;
  }
  return ok_status();
}

// Done with a file for the moment: without a mark there may be very many (S16).
void Recovery::leave(size_t i) {
  if (many_ && segment(i).sealed()) segment(i).release();
}

Result<ScanResult> Recovery::scan(const Place& from) {
  Segment& at = segment(from.segment);
  TRY(at.ensure_open());
  BatchExpectation expected{from.offset, context_.epochs, kNoLeaderEpoch, context_.config.batch_bytes_max};
  at.restart_cover(from.position, from.offset);
  BatchVisitor note = [&](uint64_t position, const RecordBatch& batch) { at.note(BatchHeader::of(batch), position); };
  ScanResult result = TRY(scan_batches(*at.file(), from.position, at.known_size(), expected, &note));
  result_.report.bytes_scanned += result.bytes_read;
  return result;
}

// The next sound batch behind the place where the scan stopped, in this file or a later one.
Result<Recovery::LaterBatch> Recovery::find_later(size_t i, const ScanResult& stopped) {
  LaterBatch answer;
  SearchBounds bounds{stopped.offset + 1, Offset(INT64_MAX), context_.epochs, context_.config.batch_bytes_max};
  for (size_t j = i; j < segments_.size(); ++j) {
    if (j == i && stopped.stop != ScanStop::kBroken) continue;
    if (j > i) bounds.least = std::max(stopped.offset, segment(j).base());
    bounds.file_base = segment(j).base();
    bounds.before = j + 1 < segments_.size() ? segment(j + 1).base() : Offset(INT64_MAX);
    TRY(segment(j).ensure_open());
    uint64_t from = j == i ? stopped.position + 1 : 0;
    SearchResult search = TRY(find_batch(*segment(j).file(), from, segment(j).known_size(), bounds));
    if (search.gave_up) answer.later = Later::kUnknown;
    if (!search.found) continue;
    answer.later = Later::kBatch;
    answer.place = {j, search.found->position, search.found->offset};
    return answer;
  }
  return answer;
}

// The last segment grows again. What was saved when it was longer, before a crash took its tail, must not be there when
// it has grown back: it would seem to fit. Any of the files may have survived without the others.
Status Recovery::drop_stale_files(Segment& last) {
  auto name = [&](std::string_view suffix) {
    return join_path(context_.directory, numbered_file(last.base(), suffix));
  };
  bool index_fits = false;
  if (auto bytes = context_.files.read_file(name(kIndexSuffix)); bytes.ok()) {
    auto index = OffsetIndex::decode(*bytes);
    index_fits = index.ok() && index->cover.bytes <= last.known_size();
  }
  bool any = context_.files.exists(name(kChecksumSuffix));
  if (!index_fits) {
    any = any || context_.files.exists(name(kIndexSuffix)) || context_.files.exists(name(kTimeIndexSuffix));
  }
  if (!any) return ok_status();
  TRY(remove_derived_files(context_.files, context_.directory, last.base()));
  return context_.files.sync_directory_now(context_.directory);
}

// The log ends in segment `i`. What later files there are hold nothing of it; they go, the last one first, so that a
// crash in between leaves no gap.
Status Recovery::end_here(size_t i, const ScanResult& stopped, bool cut) {
  while (segments_.size() > i + 1) {
    Segment& last = *segments_.back();
    result_.report.bytes_cut += TRY(last.size());
    TRY(remove_derived_files(context_.files, context_.directory, last.base()));
    TRY(context_.files.remove_file(last.path()));
    TRY(context_.files.sync_directory_now(context_.directory));
    segments_.pop_back();
  }
  Segment& at = segment(i);
  at.unseal();
  TRY(at.open_for_writing());
  at.set_end(stopped.offset);
  result_.end = stopped.offset;
  if (!cut || stopped.position == at.known_size()) return drop_stale_files(at);
  result_.report.bytes_cut += at.known_size() - stopped.position;
  context_.log.info("cut ", at.path(), " from ", at.known_size(), " to ", stopped.position,
                    " bytes: ", stopped.stop == ScanStop::kZeros ? "zeros that were never written" : stopped.why);
  TRY(remove_derived_files(context_.files, context_.directory, at.base()));
  TRY(context_.files.sync_directory_now(context_.directory));
  TRY(at.cut_tail(stopped.position));
  return at.file()->sync_now();
}

void Recovery::quarantine(size_t i, const ScanResult& stopped, Offset next_good, uint64_t next_position) {
  std::string why = stopped.stop == ScanStop::kBroken  ? stopped.why
                    : stopped.stop == ScanStop::kZeros ? "zeros where batches were"
                                                       : "the file ends too early";
  context_.damage_found(
      {stopped.offset, next_good, segment(i).path(), stopped.position, std::move(why), next_position});
}

Status Recovery::scan_all(Place from) {
  ScanResult stopped = TRY(find_mark(from.segment));
  from.position = stopped.position;
  from.offset = stopped.offset;
  bool found_mark = stopped.stop == ScanStop::kEnd;
  while (true) {
    size_t i = from.segment;
    if (found_mark) stopped = TRY(scan(from));
    found_mark = true;
    while (i + 1 < segments_.size() && segment(i + 1).base() < stopped.offset) TRY(set_aside(i + 1));
    bool is_last = i + 1 == segments_.size();
    if (stopped.stop == ScanStop::kEnd && !is_last && segment(i + 1).base() == stopped.offset) {
      leave(i);
      from = {i + 1, 0, stopped.offset};
      continue;
    }
    LaterBatch later = TRY(find_later(i, stopped));
    switch (decide(stopped.stop, stopped.offset < mark_.durable_end, later.later, context_.config.has_copies)) {
      case Verdict::kKeep: return end_here(i, stopped, false);
      case Verdict::kCut: return end_here(i, stopped, true);
      case Verdict::kLost: result_.report.lost_below_mark = true; return end_here(i, stopped, false);
      case Verdict::kQuarantine:
        quarantine(i, stopped, later.place.offset, later.place.segment == i ? later.place.position : 0);
        if (later.place.segment != i) leave(i);
        from = later.place;
        continue;
      case Verdict::kFence: {
        Offset next = std::max(mark_.durable_end, stopped.offset + 1);
        quarantine(i, stopped, next, 0);
        while (segments_.size() > i + 1) TRY(set_aside(segments_.size() - 1));
        segment(i).set_end(next);
        result_.end = next;
        result_.needs_new_segment = true;
        return ok_status();
      }
    }
  }
}

Result<RecoveredLog> Recovery::run() {
  result_.report.scanned = true;
  size_t first = segment_of_mark();
  Segment& last = *segments_.back();
  bool nothing_above =
      first + 1 == segments_.size() && last.base() == mark_.segment && TRY(last.size()) == mark_.position;
  if (nothing_above) {
    last.unseal();
    TRY(last.open_for_writing());
    TRY(drop_stale_files(last));
    last.set_end(mark_.durable_end);
    result_.end = mark_.durable_end;
    return std::move(result_);
  }
  TRY(make_durable(first));
  TRY(scan_all({first, 0, segment(first).base()}));
  return std::move(result_);
}

}  // namespace

Verdict decide(ScanStop stop, bool below_mark, Later later, bool has_copies) {
  //  stop     below mark   nothing later   batch later    unknown
  //  end      no           keep            quarantine     fence
  //  end      yes          lost            quarantine     fence
  //  zeros    no           cut             quarantine     fence
  //  zeros    yes          fence           quarantine     fence
  //  broken   no           cut             quarantine     fence
  //  broken   yes          fence           quarantine     fence
  if (has_copies && !below_mark) later = Later::kNothing;
  if (later == Later::kBatch) return Verdict::kQuarantine;
  if (later == Later::kUnknown) return Verdict::kFence;
  if (stop == ScanStop::kEnd) return below_mark ? Verdict::kLost : Verdict::kKeep;
  return below_mark ? Verdict::kFence : Verdict::kCut;
}

Result<RecoveredLog> recover_log(SegmentContext& context, std::vector<std::unique_ptr<Segment>>& segments,
                                 const LogMark& mark) {
  CHECK(!segments.empty());
  return Recovery(context, segments, mark).run();
}

}  // namespace trilog
