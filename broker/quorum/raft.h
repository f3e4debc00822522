// Raft: consensus on one log, as a pure state machine: step/tick/propose in, RaftReady out. It does no I/O, reads no
// clock and sends nothing; the caller (MetadataLog, a test, a simulator) does what RaftReady says. Written for any
// number of fixed voters. Rules Q1-Q8 and Q12.
//
// Sources: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014), named "paper", figure 2;
// Ongaro's dissertation (2014), named "thesis", for pre-vote (9.6), leadership transfer (3.10) and stepping down
// without a quorum (6.2).
//
// The caller's loop:
//   raft.step(...) / tick(...) / propose(...)
//   while (raft.has_ready()) {
//     RaftReady ready = raft.take_ready();
//     1. write ready.persist into the RaftStorage, which shows it at once; call persisted() once it is durable
//     2. send ready.messages (they depend on nothing that is not durable yet)
//     3. apply the committed entries, then announce the change of leadership
//   }
// One persist is out at a time; what arrives meanwhile goes into the next, so that one sync serves many proposals.
// Messages that depend on a persist are held back until it is durable (Q1).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "broker/quorum/raft_message.h"
#include "storage/env/env.h"

namespace trilog {

struct RaftHardState {
  Term term;
  BrokerId voted_for = kNoBroker;
  bool operator==(const RaftHardState&) const = default;
};

struct RaftConfig {
  Voter self;
  std::vector<Voter> voters;                  // fixed; `self` is one of them
  SharedBytes no_op;                          // the batch, of one record, that a new leader begins its term with (Q5)
  int64_t election_timeout_ns = 500'000'000;  // drawn from [this, twice this) each time
  int64_t heartbeat_ns = 100'000'000;
  size_t append_bytes_max = 1u << 20;  // of entries in one message; a larger entry goes alone
  size_t appends_in_flight_max = 16;   // unanswered messages with entries to one follower
};

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

struct RaftLeadership {
  bool leading = false;  // with the whole log committed and applied up to the first entry of the term (Q5)
  Term term;
};

struct RaftReady {
  std::vector<RaftMessage> messages;
  std::optional<RaftPersist> persist;
  Offset apply_from;  // committed, durable here, not yet handed out: [apply_from, apply_to)
  Offset apply_to;
  std::optional<RaftLeadership> leadership;
};

class Raft {
 public:
  enum class Role : uint8_t { kFollower, kPreCandidate, kCandidate, kLeader };

  // `applied` <= `committed` <= storage.end(): what the caller has applied already (a snapshot), and what is known to
  // be committed. All that `storage` holds is durable. The references must outlive this.
  Raft(RaftConfig config, RaftHardState hard_state, Offset committed, Offset applied, const RaftStorage& storage,
       Random& random);

  // Times are of a monotonic clock and never go back (Q7).
  // A single voter leads at once, without waiting for a timeout.
  void start(int64_t now_ns);
  void tick(int64_t now_ns);
  int64_t next_deadline_ns() const;  // when tick() has something to do; INT64_MAX: never
  // Messages from strangers, for somebody else, or that make no sense are dropped. Two leaders of one term, or a
  // truncation of what is committed, stop the process (Q6, Q12).
  void step(const RaftMessage& message, int64_t now_ns);
  // Where the entry of `count` records will be, or nothing if this node does not lead (in the sense of leading()).
  std::optional<Offset> propose(SharedBytes batch, int32_t count);
  // Hands the leadership over; false if this node does not lead, or `target` is no other voter. Proposals are refused
  // until it has worked or an election timeout passed.
  bool transfer_leadership(BrokerId target, int64_t now_ns);
  // The connection to this voter was refused or reset: if it led, it counts as not heard (Q3).
  void peer_unreachable(BrokerId voter, int64_t now_ns);

  bool has_ready() const;
  RaftReady take_ready();
  void persisted();  // the persist of an earlier RaftReady is durable

  Role role() const { return role_; }
  bool leading() const { return announced_leading_; }
  Term term() const { return hard_.term; }
  BrokerId voted_for() const { return hard_.voted_for; }
  BrokerId leader() const { return leader_; }
  Offset end() const;
  Offset committed() const { return committed_; }
  Offset applied() const { return applied_; }
  Offset durable_end() const { return durable_end_; }
  // Entries could not be read for a follower: this node cannot lead with them (Q11). It has stepped down.
  const Status& failure() const { return failure_; }

 private:
  struct Progress {  // the leader's view of one follower
    enum class State : uint8_t { kProbe, kReplicate, kSnapshot };
    State state = State::kProbe;
    Offset match;  // its log is known to equal ours up to here
    Offset next;
    bool probing = false;          // kProbe: a message is out
    std::deque<Offset> in_flight;  // kReplicate: ends of unanswered messages with entries
    Offset snapshot_end;
    int64_t snapshot_deadline_ns = 0;
    bool heard = false;  // since the last check of the quorum
  };

  // raft.cc: terms, elections, and what leaves
  bool is_acceptable(const RaftMessage& message) const;
  bool settle_term(const RaftMessage& message);
  void answer_stale(const RaftMessage& message);
  bool heard_leader_lately() const;
  void become_follower(Term term, BrokerId leader);
  void campaign(bool pre, bool transfer);
  void become_leader();
  void on_vote(const RaftMessage& message, const RaftVote& vote);
  void on_vote_reply(const RaftMessage& message, const RaftVoteReply& reply);
  void on_transfer(const RaftMessage& message);
  void check_quorum();
  void reset_election_deadline();
  void set_hard_state(Term term, BrokerId voted_for);
  void send(BrokerId to, decltype(RaftMessage::body) body);
  void send_when_durable(BrokerId to, decltype(RaftMessage::body) body);
  RaftMessage make_message(BrokerId to, decltype(RaftMessage::body) body) const;
  bool has_pending_persist() const;
  size_t majority() const { return config_.voters.size() / 2 + 1; }
  Offset apply_limit() const;
  bool should_lead() const;

  // raft_replication.cc: entries
  std::optional<Term> term_before(Offset end) const;
  Term last_term() const;
  Offset newest_end_with_term_at_most(Offset end, Term term) const;
  Result<std::vector<RaftEntry>> entries_from(Offset from) const;
  void append_own(SharedBytes batch, int32_t count);
  void truncate_to(Offset end);
  void take_entries(const RaftAppend& append);
  void on_append(const RaftMessage& message, const RaftAppend& append);
  void on_append_reply(const RaftMessage& message, const RaftAppendReply& reply);
  void on_refusal(BrokerId from, const RaftAppendReply& reply);
  void on_install(const RaftMessage& message, const RaftInstall& install);
  void follow(BrokerId leader);
  void replicate_to(BrokerId to, bool heartbeat);
  void send_snapshot(BrokerId to, Progress& progress);
  void broadcast(bool heartbeat);
  void advance_commit();
  void commit_to(Offset end);

  const RaftConfig config_;
  const RaftStorage& storage_;
  Random& random_;
  int64_t now_ns_ = 0;

  RaftHardState hard_;
  bool hard_state_changed_ = false;
  Role role_ = Role::kFollower;
  BrokerId leader_ = kNoBroker;
  int64_t leader_heard_ns_ = INT64_MIN;
  int64_t election_deadline_ns_ = INT64_MAX;

  std::set<BrokerId> votes_for_;
  std::set<BrokerId> votes_against_;

  // As a leader.
  std::map<BrokerId, Progress> peers_;
  Offset term_begin_end_;  // end of the no-op of this term
  int64_t heartbeat_deadline_ns_ = INT64_MAX;
  int64_t quorum_deadline_ns_ = INT64_MAX;
  BrokerId transfer_target_ = kNoBroker;
  int64_t transfer_deadline_ns_ = INT64_MAX;
  bool announced_leading_ = false;
  Term announced_term_;

  // The log: [.., pending_first_) is in the storage (as far as it is not shadowed), the rest waits in pending_.
  std::vector<RaftEntry> pending_;
  Offset pending_first_;
  std::optional<Offset> pending_truncate_;
  std::optional<RaftSnapshot> pending_snapshot_;
  std::vector<RaftMessage> pending_messages_;  // leave when the next persist is durable

  bool persist_out_ = false;
  bool snapshot_out_ = false;                  // the persist that is out replaces the log
  Offset persist_end_;                         // what will be durable when it is done; lowered by truncations
  std::vector<RaftMessage> persist_messages_;  // leave when it is durable
  std::vector<RaftMessage> messages_;

  Offset durable_end_;
  Offset committed_;
  Offset applied_;
  Status failure_;
};

std::string_view raft_role_name(Raft::Role role);  // "follower", "pre-candidate", "candidate", "leader"

}  // namespace trilog
