// What Raft keeps, and how it asks for more to be kept. Implemented by RaftLog on a disk, and by tests in memory.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "broker/quorum/raft_message.h"
#include "storage/base/status.h"

namespace trilog {

struct RaftHardState {
  Term term;
  BrokerId voted_for = kNoBroker;
  bool operator==(const RaftHardState&) const = default;
};

// A set of voters, and the offset of its entry.
struct RaftVoters {
  Offset at{-1};
  std::vector<Voter> voters;
  QuorumRecovery recovery = {};
};
// By how much the term of a recovered quorum is above the survivor's: the lost majority may have gone on without it,
// and one position must never have two entries of one term.
inline constexpr int32_t kRecoveryTerms = 1 << 20;

// The log as it is written (durable or not), and the newest snapshot. Owned by the caller.
class RaftStorage {
 public:
  virtual ~RaftStorage() = default;
  virtual Offset start() const = 0;
  virtual Offset end() const = 0;
  // Term of the record before `end`: 0 for the empty prefix, nothing below the log's start or past its end. At the
  // start of a trimmed log the snapshot knows it.
  virtual std::optional<Term> term_before(Offset end) const = 0;
  // Entries from the one that begins at `from` (>= start) on: at most `bytes_max`, but at least one if from < end.
  virtual Result<std::vector<RaftEntry>> read(Offset from, size_t bytes_max) const = 0;
  virtual std::optional<RaftSnapshot> snapshot() const = 0;
};

// To be made durable as one step, in this order.
struct RaftPersist {
  std::optional<RaftHardState> hard_state;
  std::optional<RaftSnapshot> snapshot;  // replaces the whole log, which goes on at snapshot.end; apply it, too
  std::optional<Offset> truncate_to;     // never below what is committed (Q6)
  std::vector<RaftEntry> entries;
};

}  // namespace trilog
