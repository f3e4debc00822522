// Raft: consensus on one log, as a pure state machine: step/tick/propose in, RaftReady out. It does no I/O, reads no
// clock and sends nothing; the caller (MetadataLog, a test, a simulator) does what RaftReady says. Rules Q1-Q9 and Q12.
//
// Voters change one at a time, by entries that carry the whole set: in force from the moment such an entry is in the
// log, undone if it is cut off. A node that is in no set is a learner: it takes entries, never stands, and votes only
// if the candidate's own set names it.
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
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "broker/quorum/raft_storage.h"
#include "storage/env/env.h"

namespace trilog {

struct RaftConfig {
  Voter self;
  std::vector<Voter> voters;                  // before the first of `voter_changes`; none: not known yet
  QuorumRecovery recovery = {};               // of these
  std::vector<RaftVoters> voter_changes;      // in the storage's entries, rising
  std::vector<BrokerId> known;                // may speak although they are no voters (they become some later)
  SharedBytes no_op;                          // the batch, of one record, that a new leader begins its term with (Q5)
  int64_t election_timeout_ns = 500'000'000;  // drawn from [this, twice this) each time
  int64_t heartbeat_ns = 100'000'000;
  size_t append_bytes_max = 1u << 20;  // of entries in one message; a larger entry goes alone
  size_t appends_in_flight_max = 16;   // unanswered messages with entries to one follower
  // The set that an entry or a snapshot carries, if any. Without these functions voters are fixed.
  std::function<std::optional<RaftVoters>(const RaftEntry&)> voters_in_entry;
  std::function<RaftVoters(const RaftSnapshot&)> voters_in_snapshot;
};

// What a leader knows of another node.
struct RaftPeer {
  DirectoryId directory;
  Offset match;            // its log is known to equal the leader's, durably, up to here
  bool streaming = false;  // takes entries as they come: neither being probed nor installing a snapshot
  int64_t heard_ns = 0;    // INT64_MIN: never in this leadership
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
  void stand_first(int64_t now_ns);  // the first voter of a set without any term yet: asks for votes at once
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
  // `set`: with this voter as the only one, of the next recovery; then it leads. False: it is no voter, or leads.
  bool become_only_voter(SharedBytes set, int64_t now_ns);
  // The connection to this voter was refused or reset: if it led, it counts as not heard (Q3).
  void peer_unreachable(BrokerId voter, int64_t now_ns);
  // Who answers under this number now: if that is no voter, a leader treats it as a learner.
  void peer_present(const Voter& peer, int64_t now_ns);
  // A snapshot on its way to this peer moves: it is not sent again yet.
  void snapshot_moves(BrokerId peer, int64_t now_ns);
  // A round of asking a majority whether this node still leads (Q7); 0 if it does not lead. It begins at once, or
  // patiently with the next heartbeat, which then costs no message more. The round is confirmed once confirmed_round()
  // has reached it in the same term.
  uint64_t ask_round(bool patiently = false);
  uint64_t confirmed_round() const;

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
  bool current() const;  // all is applied that was committed when this node first heard of the present leader
  Offset durable_end() const { return durable_end_; }
  const std::vector<Voter>& voters() const { return voters_.back().voters; }
  bool is_voter(const Voter& node) const;
  // This node leads and no change of voters is under way: an entry with the next set may be proposed (Q9).
  bool may_change_voters() const;
  std::optional<RaftPeer> peer(BrokerId id) const;  // as the leader
  const QuorumRecovery& recovery() const { return recovery_; }
  // This log has committed what a recovered quorum does not have: it cannot go on.
  bool superseded() const { return superseded_; }
  // Entries that could not be read for a follower (Q11). It has stepped down.
  const Status& failure() const { return failure_; }

 private:
  struct Progress {  // the leader's view of one follower
    enum class State : uint8_t { kProbe, kReplicate, kSnapshot };
    DirectoryId directory;  // who answers; counts only if this is the voter's
    State state = State::kProbe;
    Offset match;  // its log is known to equal ours up to here
    Offset next;
    bool probing = false;          // kProbe: a message is out
    std::deque<Offset> in_flight;  // kReplicate: ends of unanswered messages with entries
    Offset snapshot_end;
    int64_t snapshot_deadline_ns = 0;
    bool heard = false;  // since the last check of the quorum
    int64_t heard_ns = INT64_MIN;
    uint64_t round = 0;  // the newest that it answered
  };

  // raft.cc: terms, elections, and what leaves
  bool is_acceptable(const RaftMessage& message) const;
  bool settle_recovery(const RaftMessage& message);
  bool of_this_recovery() const { return voters_.back().recovery == recovery_; }  // the log has its set
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
  size_t majority() const { return voters().size() / 2 + 1; }
  const Progress* progress_of(const Voter& voter) const;  // null for this node, or if somebody else answers there
  bool is_known(BrokerId id) const;
  void sync_peers();
  void note_voters(const RaftEntry& entry);
  void forget_voters_from(Offset end);
  Offset apply_limit() const;
  bool should_lead() const;

  // raft_replication.cc: entries
  std::optional<Term> term_before(Offset end) const;
  Term last_term() const;
  Offset newest_end_with_term_at_most(Offset end, Term term) const;
  Result<std::vector<RaftEntry>> entries_from(Offset from) const;
  void append_own(SharedBytes batch, int32_t count);
  void truncate_to(Offset end);
  bool take_entries(const RaftAppend& append);
  void on_append(const RaftMessage& message, const RaftAppend& append);
  void on_append_reply(const RaftMessage& message, const RaftAppendReply& reply);
  void on_refusal(BrokerId from, const RaftAppendReply& reply);
  void on_install(const RaftMessage& message, const RaftInstall& install);
  void follow(BrokerId leader);
  void replicate_to(BrokerId to, bool heartbeat);
  void send_snapshot(BrokerId to, Progress& progress);
  void broadcast(bool heartbeat);
  // A heartbeat to everyone.
  void beat(bool new_round);
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

  std::vector<RaftVoters> voters_;  // the newest committed set and those behind it; the last is in force
  QuorumRecovery recovery_;         // the newest heard of
  bool superseded_ = false;
  std::map<BrokerId, DirectoryId> present_;  // told by peer_present()

  std::set<BrokerId> votes_for_;
  std::set<BrokerId> votes_against_;

  // As a leader.
  std::map<BrokerId, Progress> peers_;  // voters, and learners that are present
  uint64_t round_ = 0;
  bool round_waits_ = false;  // the next heartbeat begins another one
  Offset term_begin_end_;     // end of the no-op of this term
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
  Offset leader_committed_{0};  // the furthest that any leader has told
  Status failure_;
};

std::string_view raft_role_name(Raft::Role role);  // "follower", "pre-candidate", "candidate", "leader"

}  // namespace trilog
