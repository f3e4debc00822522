// SnapshotStore: the snapshots in the folder of a metadata log: <20-digit end>-<10-digit term>.snapshot, the state of
// the prefix [0, end) of the log, whose last record has that term. Two are kept, so that a damaged one costs nothing as
// long as the log reaches back to the other.
//
// File: a checksummed frame (checkpoint_file.h) around i64 end | i32 term | state.
//
// Saving (Q10): temporary file -> sync -> rename -> sync of the folder -> opened again and verified; only then are
// older ones removed, and only then may the caller trim the log. A crash anywhere leaves the earlier ones, and at most
// a temporary file, which the next open() removes unread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/quorum/raft_message.h"
#include "storage/env/env.h"

namespace trilog {

class SnapshotStore {
 public:
  struct Entry {
    Offset end;
    Term term;
    std::string path;
  };

  // Blocking; reads and checks every snapshot. A missing folder has none. kUnsupported if a newer program wrote one.
  static Result<std::unique_ptr<SnapshotStore>> open(Env& env, std::string directory);
  ~SnapshotStore() { *self_ = nullptr; }

  const std::vector<Entry>& sound() const { return sound_; }            // rising by end
  const std::vector<std::string>& damaged() const { return damaged_; }  // paths, with what is wrong
  // Not to be used after all, because the log does not continue it.
  void reject(Offset end, std::string why);
  // Checks the file again. kCorruption names it.
  Result<RaftSnapshot> read(const Entry& entry) const;
  std::optional<Term> term_at(Offset end) const;  // of a sound snapshot that ends there

  // One at a time (CHECKed); `end` is above all sound ones. `done` is posted. kTooLarge or kDiskFull: nothing changed.
  // A failed sync ends the process (S3).
  void save(RaftSnapshot snapshot, UniqueFunction<void(Status)> done);
  bool saving() const { return saving_; }

 private:
  SnapshotStore(Env& env, std::string directory)
      : env_(env), directory_(std::move(directory)), self_(std::make_shared<SnapshotStore*>(this)) {}
  void named(Entry entry, UniqueFunction<void(Status)> done);
  Status keep(Entry entry);

  Env& env_;
  const std::string directory_;
  std::vector<Entry> sound_;
  std::vector<std::string> damaged_;
  std::vector<std::string> damaged_paths_;
  bool saving_ = false;
  std::shared_ptr<SnapshotStore*> self_;  // null inside once this is gone
};

}  // namespace trilog
