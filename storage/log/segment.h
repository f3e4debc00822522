// Segment: one .log file with its two indexes. Knows positions; Log knows offsets' meaning and durability.
//
// A segment is active (the last one, written) or sealed (never written again, S15). Files are opened when first needed.
// Indexes cover the file from some batch on to its end: for a segment that was opened after a restart that is nothing
// until somebody asks for an offset; then the saved index is read, or the headers are walked (S6).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "storage/env/env.h"
#include "storage/log/batch_scanner.h"
#include "storage/log/log.h"
#include "storage/log/offset_index.h"
#include "storage/log/time_index.h"

namespace trilog {

// What the segments of one log share. Outlives them.
struct SegmentContext {
  FileSystem& files;
  const Logger& log;
  const std::string& directory;
  const LogConfig& config;
  const LeaderEpochCache* epochs = nullptr;        // null while it is being rebuilt
  const std::vector<DamagedRange>& damaged;        // what is known of it, so that walks step over
  std::function<void(DamagedRange)> damage_found;  // may be called from any method that reads
};

class Segment {
 public:
  // A sealed segment that ends before `end`, or the active one with `end` = log end. Opens nothing.
  Segment(SegmentContext& context, Offset base, Offset end, bool sealed);

  Offset base() const { return base_; }
  Offset end() const { return end_; }
  bool sealed() const { return sealed_; }
  std::string path() const;
  bool is_open() const { return file_ != nullptr; }
  // Opens the file if need be. Any Errc of opening, kNotFound included.
  Status ensure_open();
  const std::shared_ptr<File>& file() const { return file_; }  // after ensure_open()
  Result<uint64_t> size();                                     // opens once; known from then on
  uint64_t known_size() const { return size_.value_or(0); }
  // Forgets file and indexes; a sealed, synced segment only. Slices keep the file.
  void release();
  // The same, and what was known of damage: the file is whole, and perhaps another one of `size` bytes.
  void repaired(uint64_t size);

  // Makes the file, empty, and the segment active.
  Status create();
  // Recovery: opens for writing; the file has content whose end is not known yet.
  Status open_for_writing();
  // Appends whole batches. On failure the old size is restored; if that fails too, broken() is true.
  Status append(ByteView bytes, std::span<const BatchHeader> headers);
  bool broken() const { return broken_; }
  // Cuts the file to `position`, where a batch ends and `end` is the next offset. Not durable.
  Status truncate(uint64_t position, Offset end);
  // Recovery: the same, but what was scanned before `position` stays indexed.
  Status cut_tail(uint64_t position);
  void seal() { sealed_ = true; }
  void unseal() { sealed_ = false; }
  // A sealed segment whose file turned out to end elsewhere than where the next one begins, or an active one whose end
  // recovery has found.
  void set_end(Offset end) { end_ = end; }

  // Durability, kept by Log: bytes of the file that a sync has covered.
  bool dirty() const { return size_.has_value() && *size_ > synced_bytes_; }
  uint64_t synced_bytes() const { return synced_bytes_; }
  void set_synced(uint64_t bytes) { synced_bytes_ = bytes; }

  // The batch that contains `offset`, in [base, end). kCorruption if it lies in damage, which was then reported.
  Result<LocatedBatch> locate(Offset offset);
  // A position at or behind the batch that begins at or above `offset`, as far as the index knows: where a read that is
  // limited there may stop.
  uint64_t position_bound(Offset offset) const;
  // The first record at or after `timestamp_ms` in [least, limit).
  Result<std::optional<TimestampedOffset>> find_timestamp(int64_t timestamp_ms, Offset least, Offset limit);
  Result<int64_t> max_timestamp();  // kNoTimestamp if no record has one
  // The oldest batch's max timestamp, or nothing if the file is empty or unreadable.
  std::optional<int64_t> first_timestamp();

  // Recovery and replay. Begins a new cover at `position`, where the batch with `offset` begins.
  void restart_cover(uint64_t position, Offset offset);
  void note(const BatchHeader& header, uint64_t position);
  // All headers from the start of the file, damage skipped and reported.
  Status visit_headers(const std::function<void(uint64_t position, const BatchHeader&)>& visit);
  // Writes .index and .timeindex, and .checksum if sealed. Best effort: failures are logged. `whole`: also if the
  // headers must be walked for it.
  void save_derived(bool whole);
  // Walks everything, checks CRCs, indexes and the checksum file; CHECKs. `damaged` says which offsets are known bad.
  void check_invariants(const std::function<bool(Offset)>& damaged);

 private:
  Status load(bool use_files);
  bool load_files(uint64_t* position, Offset* offset);
  Status walk(uint64_t position, Offset offset, const std::function<void(uint64_t, const BatchHeader&)>& visit);
  Result<std::optional<FoundBatch>> skip_damage(uint64_t position, Offset expected, const char* why,
                                                const std::optional<LocatedBatch>& before);
  Result<bool> step_over_known(uint64_t* position, BatchExpectation* expected);
  Result<LocatedBatch> locate_from(IndexEntry from, Offset offset, bool* index_is_wrong);
  Result<std::optional<TimestampedOffset>> find_in_batch(const LocatedBatch& at, int64_t timestamp_ms, Offset least);
  BatchExpectation expectation(Offset offset) const;
  SegmentCover cover() const { return {base_, end_, *size_, header_crc_}; }
  Status damage_status(uint64_t position, const char* why) const;
  bool covers_all() const { return cover_position_ == 0; }

  SegmentContext& context_;
  const Offset base_;
  Offset end_;
  bool sealed_;
  bool broken_ = false;
  std::shared_ptr<File> file_;
  std::optional<uint64_t> size_;
  uint64_t synced_bytes_ = 0;

  // The indexes know [cover_position_, *size_) of the file, which begins with offset cover_offset_.
  uint64_t cover_position_ = UINT64_MAX;
  Offset cover_offset_;
  OffsetIndex index_;
  TimeIndex times_;
  uint32_t header_crc_ = 0;  // of the cover
  LeaderEpoch last_epoch_ = kNoLeaderEpoch;
  int64_t cover_max_timestamp_ = kNoTimestamp;
  bool index_from_file_ = false;
  bool damage_seen_ = false;                     // then nothing derived is written any more
  std::optional<int64_t> sealed_max_timestamp_;  // kept when the indexes are released
};

}  // namespace trilog
