// RaftLog: what one node of the quorum keeps on its disk, and how it gets there. Entries are record batches of a
// storage Log (term = leader epoch), durable up to an *exact* mark; beside it the term and the vote. Rules Q1, Q6, Q8,
// Q11.
//
// Files in the folder: those of storage::Log, and
//   vote     term and vote; written twice per change, into both slots, so that either can rot
//   durable  how far the entries are durable (LogMark); written after them and before anybody hears of them
// and the snapshots (snapshot.h). Because the mark is exact, an unreadable entry below it is damage and one above it is
// a write that nobody was promised.
//
// One persist():   entries, and the vote into slot A: both synced, side by side
//                  -> `durable`, and the vote into slot B: the same -> done
// A crash before `durable` keeps none, some or all of the entries; with the vote it is the same. Either may be kept
// without the other: a term without its entries is harmless, and entries of a term that the vote file does not know
// yet come from before any vote of that term was given (see the constructor of Raft).
//
// Forming an empty folder: the entry with the VoterSet, `vote` (term 0) and `durable` (offset 0) are written side by
// side, then the folder is synced. Before that nothing has been promised, so open() lets the node begin again. A
// learner's folder is formed without the entry: its log begins with what the leader sends.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/quorum/raft.h"
#include "broker/quorum/raft_entry.h"
#include "broker/quorum/slot_file.h"
#include "broker/quorum/snapshot.h"
#include "storage/env/env.h"
#include "storage/log/log.h"

namespace trilog {

struct RaftLogConfig {
  std::string directory;
  uint64_t segment_bytes = 512u << 10;
  int64_t retry_ns = 500'000'000;  // after a full disk
  bool learner = false;            // a log without a set of voters is one that has not got it yet
};

class RaftLog final : public RaftStorage {
 public:
  // Blocking: checks everything above the newest usable snapshot. kCorruption, naming the file, for damage: it is never
  // taken for an empty or shorter log (Q11).
  static Result<std::unique_ptr<RaftLog>> open(Env& env, RaftLogConfig config);
  ~RaftLog() override { *self_ = nullptr; }

  bool formed() const { return formed_; }
  // Not formed, but the entry with the set of voters is there: a forming was broken off.
  bool begun() const { return unformed_voters_.has_value(); }
  // The newest set. Nothing, until the folder is formed, or a learner's log has it.
  const std::optional<VoterSet>& voters() const { return voters_; }
  // Found by open(): the set that the log (or start_snapshot()) begins with, and those behind it.
  const RaftVoters& first_voters() const { return first_voters_; }
  const std::vector<RaftVoters>& voter_changes() const { return voter_changes_; }
  const RaftHardState& hard_state() const { return hard_state_; }
  // What a mark has said to be committed; a lower bound.
  Offset marked_commit() const { return marked_commit_; }
  // From which to start, if any: found by open(). Its state begins with the set of voters as of then.
  const std::optional<RaftSnapshot>& start_snapshot() const { return start_snapshot_; }
  void forget_start_snapshot() { start_snapshot_->state = {}; }
  SnapshotStore& snapshots() { return *snapshots_; }

  // Writes the first entry (none for a learner) and the two files. `done` is posted when all of it is durable.
  void form(std::optional<VoterSet> voters, UniqueFunction<void(Status)> done);
  // Shown at once, durable when `done` is posted. One at a time (CHECKed). `committed`: to be remembered in the mark. A
  // full disk is waited out, with a warning; any other failure is final: the node must stop (S3).
  void persist(RaftPersist work, Offset committed, UniqueFunction<void(Status)> done);
  // A write is under way that will end by itself; one that waits for space is not.
  bool writing() const { return job_ != nullptr && retry_ == 0; }
  // Entries below `start` (a sound snapshot's end) are not needed any more; their files go some time after a next mark.
  void trim(Offset start);
  // Not while writing(). A write that waits for space is given up (kFailed). `done` is posted.
  void close(UniqueFunction<void(Status)> done);

  Offset start() const override { return start_; }
  Offset end() const override;
  std::optional<Term> term_before(Offset end) const override;
  Result<std::vector<RaftEntry>> read(Offset from, size_t bytes_max) const override;
  std::optional<RaftSnapshot> snapshot() const override;
  const Log& log() const { return *log_; }

 private:
  using Step = void (RaftLog::*)();
  struct Job {  // one persist, or the forming, under way: a row of steps, each with its syncs side by side
    RaftPersist work;
    Offset committed;
    UniqueFunction<void(Status)> done;
    Step step = nullptr;
    Step next = nullptr;
    int pending = 0;
    std::optional<Offset> log_target;  // durable_end of the log that this step waits for
    Status status;
  };

  RaftLog(Env& env, RaftLogConfig config);
  // raft_log_open.cc
  Status load();
  Status load_unformed();
  Status load_formed(const LogMark& mark);
  Status cut_broken_write(const LogMark& mark);
  Status choose_snapshot();
  Status scan(Offset from);

  void run(Step step);
  auto part_of_step();
  void part_done(Status status);
  void finish(Status status);
  void form_files();
  void form_names();
  void save_snapshot();
  void write_lowered_mark();
  void cut_log();
  void write_entries();
  void write_mark();
  void persisted();
  Result<Bytes> encode(const std::vector<RaftEntry>& entries) const;
  void on_log_durable();

  Env& env_;
  const RaftLogConfig config_;
  std::unique_ptr<SnapshotStore> snapshots_;
  std::unique_ptr<Log> log_;
  SlotFile vote_file_;
  SlotFile mark_file_;

  bool formed_ = false;
  std::optional<VoterSet> voters_;
  RaftVoters first_voters_;
  std::vector<RaftVoters> voter_changes_;
  std::optional<VoterSet> unformed_voters_;  // of an entry that a broken-off forming left
  RaftHardState hard_state_;
  Offset marked_commit_{0};
  std::optional<RaftSnapshot> start_snapshot_;

  // What readers see: [start_, visible_end_) of the log, then unwritten_.
  Offset start_{0};
  Offset visible_end_{0};
  std::vector<RaftEntry> unwritten_;

  std::unique_ptr<Job> job_;
  bool trimmed_ = false;  // files below start_ may go after the next mark
  TimerId retry_ = 0;
  std::shared_ptr<RaftLog*> self_;  // null inside once this is gone
};

// The values of the two files.
Bytes encode_vote(const RaftHardState& state);
Result<RaftHardState> decode_vote(ByteView bytes);
Bytes encode_log_mark(const LogMark& mark);
Result<LogMark> decode_log_mark(ByteView bytes);

}  // namespace trilog
