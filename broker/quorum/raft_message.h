// What Raft nodes say to each other, and what a Raft log is made of. Plain values: who carries them, and in which
// bytes, is not Raft's business.
//
// Positions are record offsets. An entry covers [first, end); "the log up to `end`" and "the term before `end`" name a
// prefix and the term of its last record. Within one term an offset has one writer, so two logs that agree on the term
// before `end` are equal up to `end` (the Log Matching property of the Raft paper, section 5.3).
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "broker/quorum/metadata_log.h"
#include "storage/base/bytes.h"
#include "storage/base/ids.h"

namespace trilog {

struct RaftEntry {
  Offset first;
  int32_t count = 0;  // of records, at least 1
  Term term;
  SharedBytes batch;  // opaque to Raft
  Offset end() const { return first + count; }
};

// The state of the applied prefix [0, end), whose last record has `last_term`.
struct RaftSnapshot {
  Offset end;
  Term last_term;
  SharedBytes state;  // opaque to Raft
};

// A request for a vote. `pre`: would you vote for me in `term`? Nobody's state changes (thesis, section 9.6).
struct RaftVote {
  bool pre = false;
  bool transfer = false;  // the leader asked for this election, so having heard it lately is no objection
  Offset log_end;
  Term last_term;
  DirectoryId asked;  // the voter that is asked, as the candidate's set of voters names it (Q8)
};
struct RaftVoteReply {
  bool pre = false;
  bool granted = false;
};
// Entries that follow the prefix [0, prev_end); none: a heartbeat.
struct RaftAppend {
  Offset prev_end;
  Term prev_term;
  std::vector<RaftEntry> entries;
  Offset commit;
  uint64_t round = 0;  // of confirming the leadership (Q7); the answer repeats it
};
// `matched`: the log equals the leader's up to `end`, as verified by the message this answers and no further (Q4), and
// durably so. Otherwise the message's prefix (`refused_end`) is not in this log, and (`end`, `end_term`) is the newest
// place where the leader may try.
struct RaftAppendReply {
  bool matched = false;
  Offset end;
  Term end_term;
  Offset refused_end;
  uint64_t round = 0;
};
struct RaftInstall {
  RaftSnapshot snapshot;
};
// The leader asks the receiver to campaign at once (thesis, section 3.10).
struct RaftTransfer {};

struct RaftMessage {
  BrokerId from = kNoBroker;
  BrokerId to = kNoBroker;
  DirectoryId directory;  // the sender's (Q8)
  Term term;
  std::variant<RaftVote, RaftVoteReply, RaftAppend, RaftAppendReply, RaftInstall, RaftTransfer> body;
  QuorumRecovery recovery = {};  // the newest that the sender knows of
};

}  // namespace trilog
