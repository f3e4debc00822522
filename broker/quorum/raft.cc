// Terms, elections, and what leaves a node. Entries are in raft_replication.cc.
#include "broker/quorum/raft.h"

#include <algorithm>
#include <utility>

#include "storage/base/check.h"

namespace trilog {

namespace {

// A peer may be broken or of another version: what does not add up is dropped, not believed.
bool entries_add_up(const RaftAppend& append, Term term) {
  if (append.prev_end < Offset(0) || append.prev_term < Term(0) || append.commit < Offset(0)) return false;
  Offset next = append.prev_end;
  Term newest = append.prev_term;
  for (const RaftEntry& entry : append.entries) {
    if (entry.first != next || entry.count < 1 || entry.term < newest || entry.end() <= entry.first) return false;
    next = entry.end();
    newest = entry.term;
  }
  return newest <= term;
}

bool body_adds_up(const RaftMessage& message) {
  if (const auto* append = std::get_if<RaftAppend>(&message.body)) return entries_add_up(*append, message.term);
  if (const auto* reply = std::get_if<RaftAppendReply>(&message.body)) return reply->end >= Offset(0);
  if (const auto* install = std::get_if<RaftInstall>(&message.body)) {
    return install->snapshot.end > Offset(0) && install->snapshot.last_term <= message.term;
  }
  return true;
}

}  // namespace

std::string_view raft_role_name(Raft::Role role) {
  switch (role) {
    case Raft::Role::kFollower: return "follower";
    case Raft::Role::kPreCandidate: return "pre-candidate";
    case Raft::Role::kCandidate: return "candidate";
    case Raft::Role::kLeader: return "leader";
  }
  UNREACHABLE("role");
}

Raft::Raft(RaftConfig config, RaftHardState hard_state, Offset committed, Offset applied, const RaftStorage& storage,
           Random& random)
    : config_(std::move(config)),
      storage_(storage),
      random_(random),
      hard_(hard_state),
      pending_first_(storage.end()),
      persist_end_(storage.end()),
      durable_end_(storage.end()),
      committed_(committed),
      applied_(applied) {
  voters_.push_back({Offset(-1), config_.voters, config_.recovery});
  for (const RaftVoters& change : config_.voter_changes) voters_.push_back(change);
  recovery_ = voters_.back().recovery;
  CHECK(config_.voters_in_entry || is_voter(config_.self));
  CHECK_LE(applied_, committed_);
  CHECK_LE(committed_, storage_.end());
  CHECK_GE(applied_, storage_.start());
  // An entry of a term may be durable before the note that the term began, because both are written at once. No vote
  // was given in that term then: a vote is durable before anybody hears of it.
  if (last_term() > hard_.term) set_hard_state(last_term(), kNoBroker);
}

// --- what comes in ---------------------------------------------------------------------------------------------------

void Raft::start(int64_t now_ns) {
  now_ns_ = now_ns;
  reset_election_deadline();
  // Nobody else could object or be waited for.
  if (voters().size() == 1 && is_voter(config_.self)) campaign(false, false);
}

void Raft::stand_first(int64_t now_ns) {
  now_ns_ = std::max(now_ns_, now_ns);
  if (role_ != Role::kFollower || hard_.term > Term(0) || voters().empty()) return;
  const auto first =
      std::min_element(voters().begin(), voters().end(), [](const Voter& a, const Voter& b) { return a.id < b.id; });
  if (*first == config_.self) campaign(true, false);
}

void Raft::tick(int64_t now_ns) {
  now_ns_ = std::max(now_ns_, now_ns);
  if (role_ != Role::kLeader) {
    if (now_ns_ >= election_deadline_ns_) campaign(true, false);
    return;
  }
  if (now_ns_ >= quorum_deadline_ns_) check_quorum();
  if (role_ != Role::kLeader) return;
  if (now_ns_ >= transfer_deadline_ns_) {
    transfer_target_ = kNoBroker;
    transfer_deadline_ns_ = INT64_MAX;
  }
  if (now_ns_ >= heartbeat_deadline_ns_) beat(false);
}

int64_t Raft::next_deadline_ns() const {
  // An idle node of one has nothing to wake up for, and a learner waits for others.
  if (role_ == Role::kLeader && voters().size() <= 1 && peers_.empty()) return INT64_MAX;
  if (role_ != Role::kLeader) return is_voter(config_.self) ? election_deadline_ns_ : INT64_MAX;
  return std::min({heartbeat_deadline_ns_, quorum_deadline_ns_, transfer_deadline_ns_});
}

void Raft::step(const RaftMessage& message, int64_t now_ns) {
  now_ns_ = std::max(now_ns_, now_ns);
  if (superseded_ || !is_acceptable(message) || !settle_recovery(message) || !settle_term(message)) return;
  if (const auto* vote = std::get_if<RaftVote>(&message.body)) on_vote(message, *vote);
  if (const auto* reply = std::get_if<RaftVoteReply>(&message.body)) on_vote_reply(message, *reply);
  if (const auto* append = std::get_if<RaftAppend>(&message.body)) on_append(message, *append);
  if (const auto* reply = std::get_if<RaftAppendReply>(&message.body)) on_append_reply(message, *reply);
  if (const auto* install = std::get_if<RaftInstall>(&message.body)) on_install(message, *install);
  if (std::holds_alternative<RaftTransfer>(message.body)) on_transfer(message);
}

std::optional<Offset> Raft::propose(SharedBytes batch, int32_t count) {
  if (!leading() || !should_lead() || transfer_target_ != kNoBroker) return std::nullopt;
  CHECK_GT(count, 0);
  Offset first = end();
  append_own(std::move(batch), count);
  broadcast(false);
  return first;
}

bool Raft::transfer_leadership(BrokerId target, int64_t now_ns) {
  now_ns_ = std::max(now_ns_, now_ns);
  auto peer = peers_.find(target);
  if (!leading() || role_ != Role::kLeader || peer == peers_.end()) return false;
  if (!is_voter({target, peer->second.directory})) return false;
  transfer_target_ = target;
  transfer_deadline_ns_ = now_ns_ + config_.election_timeout_ns;
  if (peer->second.match == end()) {
    send(target, RaftTransfer{});
  } else {
    replicate_to(target, true);
  }
  return true;
}

bool Raft::become_only_voter(SharedBytes set, int64_t now_ns) {
  now_ns_ = std::max(now_ns_, now_ns);
  const bool may = role_ != Role::kLeader && end() > Offset(0) && is_voter(config_.self) && of_this_recovery();
  if (!may || hard_.term > Term(INT32_MAX - 2 * kRecoveryTerms)) return false;
  become_follower(hard_.term + kRecoveryTerms, kNoBroker);
  set_hard_state(hard_.term, config_.self.id);
  append_own(std::move(set), 1);
  become_leader();
  return true;
}

void Raft::peer_unreachable(BrokerId voter, int64_t now_ns) {
  now_ns_ = std::max(now_ns_, now_ns);
  if (role_ == Role::kLeader || voter != leader_) return;
  leader_heard_ns_ = INT64_MIN;
  auto sooner = static_cast<int64_t>(random_.next() % static_cast<uint64_t>(config_.election_timeout_ns));
  election_deadline_ns_ = std::min(election_deadline_ns_, now_ns_ + sooner / 2);
}

// Q8, Q9: an answer counts only from a voter with its own directory, or from the learner it was asked of: a node whose
// disk was replaced is somebody else. A question may come from a voter that this node does not know as one yet, because
// the entry that made it one is still to come (thesis, 4.1); its number must be known.
bool Raft::is_acceptable(const RaftMessage& message) const {
  if (message.to != config_.self.id || message.from == config_.self.id || message.term < Term(0)) return false;
  bool answers =
      std::holds_alternative<RaftVoteReply>(message.body) || std::holds_alternative<RaftAppendReply>(message.body);
  if (!answers) return is_known(message.from) && body_adds_up(message);
  auto peer = peers_.find(message.from);
  bool asked = role_ == Role::kLeader ? peer != peers_.end() && peer->second.directory == message.directory
                                      : is_voter({message.from, message.directory});
  return asked && body_adds_up(message);
}

bool Raft::is_voter(const Voter& node) const {
  return std::find(voters().begin(), voters().end(), node) != voters().end();
}

bool Raft::is_known(BrokerId id) const {
  auto has_id = [id](const Voter& voter) { return voter.id == id; };
  return std::any_of(voters().begin(), voters().end(), has_id) ||
         std::find(config_.known.begin(), config_.known.end(), id) != config_.known.end();
}

// Q9: of a lost majority nothing counts any more, not even its terms. Who hears of the newer set neither stands nor
// votes until its own log has it.
bool Raft::settle_recovery(const RaftMessage& message) {
  if (message.recovery == recovery_) return true;
  if (message.recovery.number <= recovery_.number) return false;
  recovery_ = message.recovery;
  become_follower(hard_.term, kNoBroker);
  return true;
}

// Brings the terms together (paper, 5.1). False: the message is dealt with.
bool Raft::settle_term(const RaftMessage& message) {
  if (message.term < hard_.term) {
    answer_stale(message);
    return false;
  }
  if (message.term == hard_.term) return true;
  if (const auto* vote = std::get_if<RaftVote>(&message.body)) {
    // Q3: who hears its leader does not help to depose it, and does not even move its term.
    if (!vote->transfer && heard_leader_lately()) return false;
    if (vote->pre) return true;
  }
  if (const auto* reply = std::get_if<RaftVoteReply>(&message.body)) {
    if (reply->pre && reply->granted) return true;  // carries the term that was asked about
  }
  become_follower(message.term, kNoBroker);
  return true;
}

// The sender learns our term and steps down; a candidate of a lower term is always refused.
void Raft::answer_stale(const RaftMessage& message) {
  if (const auto* vote = std::get_if<RaftVote>(&message.body)) {
    send_when_durable(message.from, RaftVoteReply{vote->pre, false});
  } else if (const auto* append = std::get_if<RaftAppend>(&message.body)) {
    send_when_durable(message.from, RaftAppendReply{false, Offset(0), Term(0), append->prev_end});
  } else if (std::holds_alternative<RaftInstall>(message.body)) {
    send_when_durable(message.from, RaftAppendReply{});
  }
}

// --- elections ---------------------------------------------------------------------------------------------------

bool Raft::heard_leader_lately() const {
  if (role_ == Role::kLeader) return true;  // a leader without a quorum steps down by check_quorum()
  return leader_ != kNoBroker && leader_heard_ns_ != INT64_MIN &&
         now_ns_ - leader_heard_ns_ < config_.election_timeout_ns;
}

void Raft::become_follower(Term term, BrokerId leader) {
  CHECK_GE(term, hard_.term);
  if (term > hard_.term) set_hard_state(term, kNoBroker);
  role_ = Role::kFollower;
  leader_ = leader;
  peers_.clear();
  transfer_target_ = kNoBroker;
  transfer_deadline_ns_ = INT64_MAX;
  reset_election_deadline();
}

// Paper 5.2; with `pre` only asks (thesis 9.6), so that a node that was cut off does not disturb the others with its
// term when it returns.
void Raft::campaign(bool pre, bool transfer) {
  reset_election_deadline();
  // An empty log is no voter's log: it begins with the set of voters. Such a node neither votes nor stands (Q8).
  if (end() == Offset(0) || !is_voter(config_.self) || !of_this_recovery()) return;
  leader_ = kNoBroker;
  role_ = pre ? Role::kPreCandidate : Role::kCandidate;
  if (!pre) {
    CHECK_LT(hard_.term, Term(INT32_MAX));
    set_hard_state(hard_.term + 1, config_.self.id);
  }
  votes_for_ = {config_.self.id};
  votes_against_.clear();
  if (votes_for_.size() >= majority()) return become_leader();
  for (const Voter& voter : voters()) {
    if (voter.id == config_.self.id) continue;
    RaftVote vote{pre, transfer, end(), last_term(), voter.directory};
    if (pre) {
      messages_.push_back(make_message(voter.id, vote));
      messages_.back().term = hard_.term + 1;
    } else {
      send_when_durable(voter.id, vote);  // Q1: the vote for oneself is a vote
    }
  }
}

void Raft::become_leader() {
  role_ = Role::kLeader;
  leader_ = config_.self.id;
  peers_.clear();
  sync_peers();
  round_waits_ = false;
  heartbeat_deadline_ns_ = now_ns_ + config_.heartbeat_ns;
  quorum_deadline_ns_ = now_ns_ + config_.election_timeout_ns;
  append_own(config_.no_op, 1);
  term_begin_end_ = end();
  broadcast(true);
}

void Raft::on_vote(const RaftMessage& message, const RaftVote& vote) {
  // One vote per term for the life of the disk (Q2): only settle_term() with a higher term clears it.
  bool free = hard_.voted_for == message.from || (hard_.voted_for == kNoBroker && leader_ == kNoBroker) ||
              (vote.pre && message.term > hard_.term);
  // A learner votes only if the candidate's set of voters names it: then it is one, although it has not heard of it.
  bool asked = is_voter(config_.self) || vote.asked == config_.self.directory;
  // Q3: at least as up to date (paper, 5.4.1).
  bool up_to_date = std::pair(vote.last_term, vote.log_end) >= std::pair(last_term(), end());
  bool granted = asked && free && up_to_date && end() > Offset(0) && of_this_recovery();
  if (!granted) return send_when_durable(message.from, RaftVoteReply{vote.pre, false});
  if (vote.pre) {
    messages_.push_back(make_message(message.from, RaftVoteReply{true, true}));
    messages_.back().term = message.term;
    return;
  }
  set_hard_state(hard_.term, message.from);
  reset_election_deadline();
  send_when_durable(message.from, RaftVoteReply{false, true});
}

void Raft::on_vote_reply(const RaftMessage& message, const RaftVoteReply& reply) {
  bool pre = role_ == Role::kPreCandidate;
  if ((!pre && role_ != Role::kCandidate) || reply.pre != pre) return;
  // A granted pre-vote must answer the question asked now, not one of an earlier term.
  if (reply.granted && message.term != (pre ? hard_.term + 1 : hard_.term)) return;
  (reply.granted ? votes_for_ : votes_against_).insert(message.from);
  if (votes_for_.size() >= majority()) {
    if (pre) return campaign(false, false);
    return become_leader();
  }
  if (votes_against_.size() >= majority()) become_follower(hard_.term, kNoBroker);
}

void Raft::on_transfer(const RaftMessage& message) {
  if (role_ == Role::kFollower && message.from == leader_) campaign(false, true);
}

// A leader that a majority no longer answers must not go on telling clients that it leads (thesis 6.2, Q3).
void Raft::check_quorum() {
  quorum_deadline_ns_ = now_ns_ + config_.election_timeout_ns;
  size_t heard = is_voter(config_.self) ? 1 : 0;
  for (const Voter& voter : voters()) {
    const Progress* progress = progress_of(voter);
    heard += progress != nullptr && progress->heard ? 1 : 0;
  }
  for (auto& [id, progress] : peers_) progress.heard = false;
  if (heard < majority()) become_follower(hard_.term, kNoBroker);
}

void Raft::reset_election_deadline() {
  auto extra = static_cast<int64_t>(random_.next() % static_cast<uint64_t>(config_.election_timeout_ns));
  election_deadline_ns_ = now_ns_ + config_.election_timeout_ns + extra;
}

void Raft::set_hard_state(Term term, BrokerId voted_for) {
  CHECK_GE(term, hard_.term);
  if (term > hard_.term) {
    // Answers of an older term that still wait for the disk are of no use to anybody now.
    pending_messages_.clear();
    persist_messages_.clear();
  } else {
    CHECK(hard_.voted_for == kNoBroker || hard_.voted_for == voted_for);
  }
  RaftHardState next{term, voted_for};
  hard_state_changed_ = hard_state_changed_ || next != hard_;
  hard_ = next;
}

// --- what goes out -----------------------------------------------------------------------------------------------

RaftMessage Raft::make_message(BrokerId to, decltype(RaftMessage::body) body) const {
  return {config_.self.id, to, config_.self.directory, hard_.term, std::move(body), recovery_};
}

void Raft::send(BrokerId to, decltype(RaftMessage::body) body) {
  messages_.push_back(make_message(to, std::move(body)));
}

void Raft::send_when_durable(BrokerId to, decltype(RaftMessage::body) body) {
  auto& queue = has_pending_persist() ? pending_messages_ : persist_out_ ? persist_messages_ : messages_;
  queue.push_back(make_message(to, std::move(body)));
}

bool Raft::has_pending_persist() const {
  return hard_state_changed_ || pending_snapshot_ || pending_truncate_ || !pending_.empty();
}

// What is committed is applied when it is durable here too, so that no snapshot is ever ahead of the own log.
Offset Raft::apply_limit() const {
  if (pending_snapshot_ || snapshot_out_) return applied_;
  return std::max(applied_, std::min(committed_, durable_end_));
}

bool Raft::should_lead() const { return role_ == Role::kLeader && apply_limit() >= term_begin_end_; }

bool Raft::has_ready() const {
  return !messages_.empty() || (!persist_out_ && has_pending_persist()) || apply_limit() > applied_ ||
         should_lead() != announced_leading_ || (announced_leading_ && announced_term_ != hard_.term);
}

RaftReady Raft::take_ready() {
  RaftReady ready;
  ready.messages = std::exchange(messages_, {});
  if (!persist_out_ && has_pending_persist()) {
    Offset new_end = end();
    RaftPersist persist;
    if (std::exchange(hard_state_changed_, false)) persist.hard_state = hard_;
    snapshot_out_ = pending_snapshot_.has_value();
    persist.snapshot = std::exchange(pending_snapshot_, std::nullopt);
    persist.truncate_to = std::exchange(pending_truncate_, std::nullopt);
    persist.entries = std::exchange(pending_, {});
    pending_first_ = persist_end_ = new_end;
    persist_messages_ = std::exchange(pending_messages_, {});
    persist_out_ = true;
    ready.persist = std::move(persist);
  }
  ready.apply_from = applied_;
  ready.apply_to = applied_ = apply_limit();
  bool lead = should_lead();
  if (announced_leading_ && (!lead || announced_term_ != hard_.term)) {
    announced_leading_ = false;
    ready.leadership = RaftLeadership{false, announced_term_};
  } else if (lead && !announced_leading_) {
    announced_leading_ = true;
    announced_term_ = hard_.term;
    ready.leadership = RaftLeadership{true, hard_.term};
  }
  return ready;
}

void Raft::persisted() {
  CHECK(std::exchange(persist_out_, false));
  // persist_end_ was lowered by every truncation since the entries went out: what lies above it now is other entries at
  // the same offsets, which this write did not make durable.
  durable_end_ = persist_end_;
  if (std::exchange(snapshot_out_, false)) applied_ = storage_.start();
  for (RaftMessage& message : std::exchange(persist_messages_, {})) messages_.push_back(std::move(message));
  if (role_ == Role::kLeader) advance_commit();
}

}  // namespace trilog
