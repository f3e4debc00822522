// The inside of Log: its state and the jobs that run behind it. Private to this room; shared by the files log*.cc.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "storage/log/log.h"
#include "storage/log/log_files.h"
#include "storage/log/producer_snapshots.h"
#include "storage/log/segment.h"
#include "storage/log/segment_repair.h"
#include "storage/log/segment_walk.h"

namespace trilog {

// Sealed segments of one log that keep their file and indexes (S16). Those with unsynced bytes do not count.
inline constexpr size_t kOpenSealedSegmentsMax = 4;
// Positions in an index have 32 bits.
inline constexpr uint64_t kSegmentBytesMax = 2u << 30;
// Beyond it a new damaged range is joined to the last one.
inline constexpr size_t kDamagedRangesMax = 256;
// After so many bytes the producer state is saved, so that a replay after a crash is short; or after eight times the
// size of the snapshot, so that saving stays cheap.
inline constexpr uint64_t kSnapshotIntervalBytes = 4u << 20;

// leader-epochs, written but perhaps not yet under its name, and not yet durable.
struct PendingEpochs {
  std::shared_ptr<File> file;
  std::string temporary;  // empty: written in place, since there was none
};

// Everything that must be on the disk before durable_end may move to `end`.
struct SyncJob {
  uint64_t truncations = 0;  // of the log when the job began; offsets mean something else after one
  Offset end;
  Offset segment;
  uint64_t position = 0;
  struct Part {
    Offset base;
    std::shared_ptr<File> file;
    uint64_t bytes = 0;
  };
  std::vector<Part> segments;
  std::vector<std::shared_ptr<File>> files;
  std::vector<std::string> directories;
  std::optional<PendingEpochs> epochs;
  size_t pending = 0;
  Status status;
  UniqueFunction<void(Status)> closed;  // of a close; the job's last act
};

struct Log::Impl {
  explicit Impl(Log& owner);
  ~Impl();

  // log_open.cc
  Status open(const std::optional<LogMark>& mark, bool clean);
  Result<bool> ends_at(const LogMark& mark);
  Status recover(const LogMark& mark);
  Status load_epochs(const LogListing& listing, bool use_temporaries, bool at_mark);
  bool epochs_reach_start();
  Status rebuild_epochs();
  Status restore_producers();
  Status replay_producers(const ReplayStart& from);
  Status keep_meta(const LogListing& listing);
  Status drop_all_segments();
  void make_segments(const LogListing& listing);

  // log.cc
  Status parse_batches(ByteView batches);
  Status prepare_append(uint64_t bytes, Offset next_offset);
  Status create_folder();
  Status roll();
  bool must_roll(uint64_t bytes, Offset next_offset);
  Segment* find(Offset offset);
  void touch(Segment& segment);
  void note_damage(DamagedRange range);
  void write_due_files();
  void write_snapshot();

  // log_sync.cc
  void start_sync();
  void add_parts(SyncJob& job);
  void run(std::shared_ptr<SyncJob> job);
  void names_written(const std::shared_ptr<SyncJob>& job);
  void finish(SyncJob& job);
  void fail(const Status& why);
  void notify_later();
  bool has_unsynced() const;
  Status write_epochs(const LeaderEpochCache& epochs);
  void start_close();

  // log_maintenance.cc
  Status sync_all_now();
  Status cut(Segment& last, uint64_t position, Offset end);
  void retire(size_t count);
  void remove_trash();
  Status remove_trash_now();
  void save_if_idle();
  Status rewrite_epochs_now();
  Status remove_epochs_temporaries();

  // log_repair.cc
  Status begin_repair(FetchBatches fetch);
  void segment_repaired(Status status, bool replaced);
  void end_repair(Result<uint64_t> result);
  void cancel_repair() { end_repair(Status(Errc::kFailed, log.directory_ + " changed while it was repaired")); }
  void forget_damage(Offset from, Offset to);
  void look_at_damage_later();
  void next_to_scrub();
  uint64_t scrub_piece(uint64_t bytes_max);

  Segment& active() { return *segments.back(); }

  Log& log;
  Env& env;
  FileSystem& files;
  SegmentContext context;
  std::shared_ptr<Log*> self;  // null inside once the log is gone; for callbacks
  std::vector<std::unique_ptr<Segment>> segments;
  std::deque<Offset> opened;  // sealed segments that are open, longest unused first
  ProducerSnapshots snapshots;

  bool created = false;  // folder, partition.meta and the first segment exist
  bool closed = false;
  bool roll_next = false;  // nothing may be written behind the last file's content
  std::optional<int64_t> active_since_ms;
  std::vector<RecordBatch> batches;  // of the append under way
  std::vector<BatchHeader> headers;

  bool sync_in_flight = false;
  std::shared_ptr<SyncJob> job_in_flight;
  bool sync_wanted = false;
  uint64_t truncations = 0;
  std::shared_ptr<File> unsynced_meta;
  std::vector<std::string> unsynced_directories;
  std::optional<PendingEpochs> pending_epochs;
  bool epochs_changed = false;  // since they were last written
  bool epochs_file_exists = false;
  unsigned epochs_writes = 0;
  Offset durable_segment{-1};
  uint64_t durable_position = 0;
  UniqueFunction<void(Status)> close_done;

  bool due_posted = false;
  bool snapshot_due = false;
  uint64_t bytes_since_snapshot = 0;
  uint64_t bytes_at_retention = 0;  // of bytes_since_snapshot, at the last retention run
  std::vector<Offset> seals_due;    // sealed segments whose indexes are not saved
  std::deque<Offset> trash;         // removed segments whose files are still there, oldest first

  std::unique_ptr<SegmentRepair> repair;
  uint64_t repair_truncations = 0;
  UniqueFunction<void(Result<uint64_t>)> repair_done;  // of the repair under way
  uint64_t repairs_ended = 0;
  bool damage_posted = false;
  std::unique_ptr<SegmentWalk> scrub;  // of the segment that begins at scrub_base
  uint64_t scrub_truncations = 0;
  Offset scrub_base;
  Offset scrub_from{-1};  // the next segment to be looked at begins here or later
};

}  // namespace trilog
