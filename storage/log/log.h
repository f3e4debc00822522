// One partition's log on disk: an endless row of RecordBatches, cut into segments.
//
// Files in the folder of a partition:
//   <20-digit base offset>.log        record batches and nothing else
//   <base>.index, .timeindex          written once when the segment is sealed; derived, never trusted unchecked (S6)
//   <base>.checksum                   written at the seal; covers the header fields outside Kafka's CRC (S1)
//   <offset>.snapshot                 producer state as of that offset (R17)
//   leader-epochs                     epoch -> first offset (R11); rebuilt from the batches if missing or bad
//   partition.meta                    who this partition is, so that a lost catalogue can be rebuilt
// Nothing is created before the first append (S7).
//
// Three ends: log_end (appended), durable_end (synced to disk), and the high watermark, which belongs to the partition.
// A crash keeps everything below durable_end and may keep any part of what is above it.
//
// All methods on the shard's thread. The class never decides who leads, never validates a client's batch, and knows no
// topic settings but LogConfig.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "storage/base/ids.h"
#include "storage/env/env.h"
#include "storage/log/leader_epoch_cache.h"
#include "storage/log/log_mark.h"
#include "storage/log/log_slice.h"
#include "storage/log/partition_meta.h"
#include "storage/log/producer_state_manager.h"
#include "storage/record/record_batch.h"

namespace trilog {

struct LogConfig {
  uint64_t segment_bytes = 128u << 20;            // a segment is sealed before it would grow past this
  int64_t segment_ms = 24 * 3600 * 1000;          // or when its first append is this old at the next append
  int64_t retention_ms = 7LL * 24 * 3600 * 1000;  // -1: none
  int64_t retention_bytes = -1;                   // -1: none
  uint32_t index_interval_bytes = 16u << 10;      // one index entry per so many bytes at most
  uint32_t batch_bytes_max = 32u << 20;           // a larger length in a file is damage, not a batch
  // Other brokers have copies, and this log is filled up from theirs: recovery cuts at a gap above the mark, whatever
  // is behind it. A sync covers all that was written before, so nothing behind the gap was ever counted for this copy.
  bool has_copies = false;
};

// A part of the log that must not be served: from the first offset not readable up to the next good one (S9).
struct DamagedRange {
  Offset first;
  Offset next_good;
  std::string file;
  uint64_t position = 0;
  std::string what;
  uint64_t next_position = 0;  // of next_good, if that is in the same file and known
};

struct RecoveryReport {
  bool scanned = false;  // false after a clean stop
  uint64_t bytes_scanned = 0;
  uint64_t bytes_cut = 0;        // torn tail that was removed
  bool lost_below_mark = false;  // the log ends before its mark: acknowledged records are missing
  bool front_in_doubt = false;   // before the first file there may have been others that a power cut took
  Offset high_watermark{0};      // of the mark, if there was one and the log reaches it (R13)
};

struct AppendInfo {
  Offset first_offset;
  Offset next_offset;
};

class Log {
 public:
  // `mark`: nothing if the marks file does not know this log. `clean`: the whole node stopped cleanly, so files are
  // trusted up to `mark`, which is exact. Otherwise recovery runs (log_recovery.h), blocking, over what lies above the
  // mark; damage does not fail the opening but shows in damaged_ranges(). A folder that does not exist is an empty log
  // (with lost_below_mark if the mark says otherwise). kIo if the disk refuses.
  static Result<std::unique_ptr<Log>> open(Env& env, std::string directory, PartitionMeta meta, LogConfig config,
                                           std::optional<LogMark> mark, bool clean);
  ~Log();

  // Appends whole batches that are checked and stamped: base offsets continue log_end exactly, leader epochs do not
  // fall (A2; kCorruption if damage has left a higher one). Rolls first if the segment is full or old. Updates producer
  // state and epoch cache. On failure nothing was appended: the previous record boundary is restored (S8, kDiskFull or
  // kIo); if that fails too the log is failed.
  Result<AppendInfo> append(ByteView batches);

  // Everything appended so far shall become durable. One sync is in flight per log; requests made meanwhile share the
  // next one. A failed sync calls Env::fatal and fails the log for good (S3).
  void request_sync();
  // Called on the shard's thread, never inside another call of this class, whenever durable_end moved or the log
  // failed.
  void set_durable_listener(std::function<void()> listener) { durable_listener_ = std::move(listener); }

  // Batches from the one that contains `from` on, out of one segment: at most `bytes_max`, but at least one whole batch
  // if `from` < `limit`. The slice may end inside a batch and may hold batches at or past `limit`: read_slice() checks
  // and trims. Empty slice at the end of the log. kOutOfRange outside [log_start, log_end]; kCorruption inside a
  // damaged range (see damage_at()).
  Result<LogSlice> read(Offset from, uint32_t bytes_max, Offset limit);

  // The first record at or after `timestamp_ms`, or nothing. Looks below `limit` only.
  Result<std::optional<TimestampedOffset>> find_timestamp(int64_t timestamp_ms, Offset limit);

  // Cuts the log so that `end` becomes log_end (log_start <= end <= log_end, else kOutOfRange); if `end` lies inside a
  // batch or a damaged range, all of that goes too. The lowered mark must have been persisted before (S2).
  // Blocking. Only for followers and recovery: never below the high watermark (R15), which the caller checks. An error
  // half-way is fatal (S3), as one of restart_at() is: only the next open knows what is there then.
  Status truncate_to(Offset end);

  // Forgets all records; the log is empty and goes on at `start`. The mark with that start must have been persisted
  // before, as both its log_start and its durable_end: a crash in between is then finished at the next open, or, with
  // a start below log_start, nothing was forgotten. Blocking. For a follower that is behind its leader's log start, or
  // has nothing that its leader has.
  Status restart_at(Offset start);

  // Records below `offset` (log_start..log_end) may go: whole segments below it are removed at the next retention run.
  // Durable once the marks file has been written with the new log_start.
  void advance_start(Offset offset);

  // Removes sealed segments that are too old, too many bytes, or wholly below log_start; never at or above `limit` (the
  // high watermark), never the active one (S17). `clock_trusted` false (F14) suspends removal by age. Returns bytes
  // freed.
  uint64_t apply_retention(int64_t now_ms, bool clock_trusted, Offset limit);

  // A leader begins: its epoch starts at log_end, unless it is known already (R11).
  void begin_epoch(LeaderEpoch epoch);
  // A follower begins: epochs without records are those of its own leaderships that came to nothing. The leader may
  // hold older ones at the same offsets.
  void drop_empty_epochs();

  void set_config(const LogConfig& config) { config_ = config; }
  // Replaces partition.meta, if the folder exists. Blocking.
  Status set_meta(PartitionMeta meta);

  // Syncs, writes producer snapshot and epochs, so that the next open can trust the files. `done` is posted. Appends
  // are refused from now on.
  void close(UniqueFunction<void(Status)> done);
  // For removing a log: drops files from memory; the caller removes the folder.
  void abandon();

  Offset log_start() const { return log_start_; }
  Offset log_end() const { return log_end_; }
  Offset durable_end() const { return durable_end_; }
  LogMark mark(Offset high_watermark) const;
  uint64_t size_bytes() const;
  uint64_t unsynced_bytes() const;
  bool failed() const { return failed_; }
  const RecoveryReport& recovery() const { return recovery_; }
  const std::vector<DamagedRange>& damaged_ranges() const { return damaged_; }
  const DamagedRange* damage_at(Offset offset) const;
  // A reader found a bad batch (read_slice): remembers the range so that it is not served again. A `next_good` that is
  // not above `first` means unknown: the file is searched for the next sound batch (blocking, bounded by a segment).
  void report_damage(DamagedRange range);
  // Called on the shard's thread, never inside another call of this class, after damage was found.
  void set_damage_listener(std::function<void()> listener) { damage_listener_ = std::move(listener); }
  // Makes the segment with the first damaged range whole again (segment_repair.h): ranges that turn out to be readable
  // are forgotten, the others are taken from another copy. `fetch(from, to, done)`: whole committed batches, the first
  // one beginning at `from`, none reaching beyond `to`; a few are enough, it is asked again for the rest. `done` is
  // posted, with the bytes that were fetched; kBusy if one is under way, kNotFound if nothing is damaged, kFailed if
  // the log changed meanwhile, or what `fetch` or the disk said.
  using FetchBatches = std::function<void(Offset from, Offset to, UniqueFunction<void(Result<SharedBytes>)> done)>;
  void repair(FetchBatches fetch, UniqueFunction<void(Result<uint64_t>)> done);
  // S10. Checks the next piece of what is on the disk, about `bytes_max` bytes, after loading it off this thread.
  // Damage shows in damaged_ranges(). `done` is posted with the bytes checked; 0: that was all, the next call begins
  // anew.
  void scrub(uint64_t bytes_max, UniqueFunction<void(uint64_t)> done);
  const LeaderEpochCache& epochs() const { return epochs_; }
  ProducerStateManager& producers() { return producers_; }
  const std::string& directory() const { return directory_; }
  // Walks everything and CHECKs what must hold between segments, indexes, epochs and ends. For tests and the simulator.
  void check_invariants();

 private:
  struct Impl;
  Log(Env& env, std::string directory, PartitionMeta meta, LogConfig config);

  Env& env_;
  std::string directory_;
  PartitionMeta meta_;
  LogConfig config_;
  Offset log_start_{0};
  Offset log_end_{0};
  Offset durable_end_{0};
  bool failed_ = false;
  RecoveryReport recovery_;
  std::vector<DamagedRange> damaged_;
  LeaderEpochCache epochs_;
  ProducerStateManager producers_;
  std::function<void()> durable_listener_;
  std::function<void()> damage_listener_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trilog
