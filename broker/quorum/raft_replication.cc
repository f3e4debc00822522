// The part of Raft that is about entries: append, match, commit (paper, section 5.3).
#include <algorithm>
#include <functional>
#include <utility>

#include "broker/quorum/raft.h"
#include "storage/base/check.h"

namespace trilog {

// --- the log as Raft sees it: the storage, and behind it what waits to be written ---------------------------------

Offset Raft::end() const { return pending_.empty() ? pending_first_ : pending_.back().end(); }

std::optional<Term> Raft::term_before(Offset position) const {
  if (position > end()) return std::nullopt;
  if (position > pending_first_) {
    for (const RaftEntry& entry : pending_) {
      if (position <= entry.end()) return entry.term;
    }
  }
  if (pending_snapshot_) {
    if (position == pending_snapshot_->end) return pending_snapshot_->last_term;
    return position == Offset(0) ? std::optional(Term(0)) : std::nullopt;
  }
  return storage_.term_before(position);
}

Term Raft::last_term() const {
  auto term = term_before(end());
  CHECK(term.has_value());
  return *term;
}

Offset Raft::newest_end_with_term_at_most(Offset position, Term term) const {
  position = std::min(position, end());
  while (position > Offset(0)) {
    auto own = term_before(position);
    if (!own || *own <= term) break;  // below the start everything is committed and may be tried
    position = position - 1;
  }
  return position;
}

// Entries from the one that contains `from` on.
Result<std::vector<RaftEntry>> Raft::entries_from(Offset from) const {
  std::vector<RaftEntry> entries;
  if (from < pending_first_) {
    entries = TRY(storage_.read(from, config_.append_bytes_max));
    while (!entries.empty() && entries.back().end() > pending_first_) entries.pop_back();  // shadowed
    return entries;
  }
  size_t bytes = 0;
  for (const RaftEntry& entry : pending_) {
    if (entry.end() <= from) continue;
    bytes += entry.batch.size();
    if (!entries.empty() && bytes > config_.append_bytes_max) break;
    entries.push_back(entry);
  }
  return entries;
}

void Raft::append_own(SharedBytes batch, int32_t count) {
  pending_.push_back(RaftEntry{end(), count, hard_.term, std::move(batch)});
  note_voters(pending_.back());
}

void Raft::truncate_to(Offset new_end) {
  CHECK_GE(new_end, committed_);  // Q6
  if (new_end >= pending_first_) {
    while (!pending_.empty() && pending_.back().end() > new_end) pending_.pop_back();
  } else {
    pending_.clear();
    pending_first_ = new_end;
    pending_truncate_ = new_end;
  }
  CHECK_EQ(end(), new_end);
  forget_voters_from(new_end);
  durable_end_ = std::min(durable_end_, new_end);
  persist_end_ = std::min(persist_end_, new_end);
}

// --- as a follower ------------------------------------------------------------------------------------------------

void Raft::follow(BrokerId leader) {
  // Q12: one leader per term, or the votes were not kept. Both ends see it and stop.
  CHECK(role_ != Role::kLeader);
  CHECK(leader_ == kNoBroker || leader_ == leader);
  role_ = Role::kFollower;
  leader_ = leader;
  leader_heard_ns_ = now_ns_;
  reset_election_deadline();
}

void Raft::on_append(const RaftMessage& message, const RaftAppend& append) {
  follow(message.from);
  // What is committed equals every later leader's log (leader completeness, paper 5.4.3), even where it is trimmed. Not
  // so after a lost majority: then every entry is compared.
  bool known =
      (append.prev_end <= committed_ && of_this_recovery()) || term_before(append.prev_end) == append.prev_term;
  if (!known) {
    Offset hint = newest_end_with_term_at_most(append.prev_end, append.prev_term);
    send_when_durable(message.from,
                      RaftAppendReply{false, hint, term_before(hint).value_or(Term(0)), append.prev_end, append.round});
    return;
  }
  if (!take_entries(append)) return;
  leader_committed_ = std::max(leader_committed_, append.commit);
  // Q4: verified by this message, which may be less than what is in the log.
  Offset verified = append.entries.empty() ? append.prev_end : append.entries.back().end();
  commit_to(std::min(append.commit, verified));
  send_when_durable(message.from, RaftAppendReply{true, verified, {}, {}, append.round});
}

// Skips what is there and cuts only at a real conflict: a short, old or repeated message must not remove anything (Q4).
// False: this log has committed something else.
bool Raft::take_entries(const RaftAppend& append) {
  for (const RaftEntry& entry : append.entries) {
    if (entry.end() <= committed_ && of_this_recovery()) continue;
    if (entry.end() < storage_.start()) continue;  // the snapshot's term is compared where it ends
    if (entry.end() <= end() && term_before(entry.end()) == entry.term) continue;
    superseded_ = entry.first < committed_ && !of_this_recovery();
    if (superseded_) return false;
    if (entry.first < end()) truncate_to(entry.first);
    pending_.push_back(entry);
    note_voters(entry);
  }
  return true;
}

void Raft::on_install(const RaftMessage& message, const RaftInstall& install) {
  follow(message.from);
  const RaftSnapshot& snapshot = install.snapshot;
  if (snapshot.end > committed_) {
    if (snapshot.end <= end() && term_before(snapshot.end) == snapshot.last_term) {
      commit_to(snapshot.end);  // the log has all of it: no need to replace anything
    } else {
      pending_.clear();
      pending_truncate_.reset();
      // What an earlier write makes durable is no longer part of the log, except below the commit.
      durable_end_ = std::min(durable_end_, committed_);
      persist_end_ = std::min(persist_end_, committed_);
      pending_snapshot_ = snapshot;
      pending_first_ = snapshot.end;
      committed_ = snapshot.end;
      if (config_.voters_in_snapshot) {
        voters_ = {config_.voters_in_snapshot(snapshot)};
        voters_.front().at = snapshot.end - 1;
      }
    }
  } else if (!of_this_recovery() && term_before(snapshot.end) != snapshot.last_term) {
    superseded_ = snapshot.end >= storage_.start();
    return;
  }
  send_when_durable(message.from, RaftAppendReply{true, snapshot.end, {}, {}});
}

void Raft::commit_to(Offset position) {
  committed_ = std::max(committed_, position);  // never back (Q6)
  while (voters_.size() > 1 && voters_[1].at < committed_) voters_.erase(voters_.begin());
}

// An entry of the leader's own term is above all that its predecessors have committed.
bool Raft::current() const {
  return leader_ != kNoBroker && applied_ >= leader_committed_ && term_before(applied_) == hard_.term;
}

// --- voters (Q9) ---------------------------------------------------------------------------------------------------

void Raft::note_voters(const RaftEntry& entry) {
  if (!config_.voters_in_entry) return;
  auto next = config_.voters_in_entry(entry);
  if (!next) return;
  next->at = entry.first;
  voters_.push_back(std::move(*next));
  if (voters_.back().recovery.number > recovery_.number) recovery_ = voters_.back().recovery;
  if (role_ == Role::kLeader) sync_peers();
}

void Raft::forget_voters_from(Offset new_end) {
  while (voters_.size() > 1 && voters_.back().at >= new_end) voters_.pop_back();
}

bool Raft::may_change_voters() const {
  return leading() && should_lead() && transfer_target_ == kNoBroker && voters_.back().at < committed_;
}

// Everybody to send to: the voters, and learners that are there. Under one number there is one node.
void Raft::sync_peers() {
  auto add = [&](BrokerId id, DirectoryId directory) {
    if (id == config_.self.id) return;
    auto found = peers_.find(id);
    if (found != peers_.end() && found->second.directory == directory) return;
    Progress progress;
    progress.directory = directory;
    progress.next = end();
    peers_.insert_or_assign(id, std::move(progress));
  };
  for (const Voter& voter : voters()) {
    if (!present_.contains(voter.id)) add(voter.id, voter.directory);
  }
  for (const auto& [id, directory] : present_) {
    if (is_known(id)) add(id, directory);
  }
}

void Raft::peer_present(const Voter& peer, int64_t now_ns) {
  now_ns_ = std::max(now_ns_, now_ns);
  auto [known, fresh] = present_.try_emplace(peer.id, peer.directory);
  if (!fresh && std::exchange(known->second, peer.directory) == peer.directory) return;
  if (role_ != Role::kLeader || !is_known(peer.id)) return;
  sync_peers();
  replicate_to(peer.id, true);
}

const Raft::Progress* Raft::progress_of(const Voter& voter) const {
  auto found = peers_.find(voter.id);
  return found != peers_.end() && found->second.directory == voter.directory ? &found->second : nullptr;
}

std::optional<RaftPeer> Raft::peer(BrokerId id) const {
  auto found = peers_.find(id);
  if (role_ != Role::kLeader || found == peers_.end()) return std::nullopt;
  const Progress& progress = found->second;
  return RaftPeer{progress.directory, progress.match, progress.state == Progress::State::kReplicate, progress.heard_ns};
}

void Raft::snapshot_moves(BrokerId id, int64_t now_ns) {
  now_ns_ = std::max(now_ns_, now_ns);
  auto found = peers_.find(id);
  if (found != peers_.end()) found->second.snapshot_deadline_ns = now_ns_ + 4 * config_.election_timeout_ns;
}

// --- confirming the leadership (Q7) ----------------------------------------------------------------------------------

uint64_t Raft::ask_round(bool patiently) {
  if (!leading() || !should_lead()) return 0;
  if (patiently && voters().size() > 1) {
    round_waits_ = true;
    return round_ + 1;
  }
  beat(true);
  return round_;
}

void Raft::beat(bool new_round) {
  if (std::exchange(round_waits_, false) || new_round) ++round_;
  heartbeat_deadline_ns_ = now_ns_ + config_.heartbeat_ns;
  broadcast(true);
}

uint64_t Raft::confirmed_round() const {
  std::vector<uint64_t> rounds;
  for (const Voter& voter : voters()) {
    const Progress* progress = progress_of(voter);
    rounds.push_back(voter == config_.self ? round_ : progress != nullptr ? progress->round : 0);
  }
  std::sort(rounds.begin(), rounds.end(), std::greater<>());
  return role_ == Role::kLeader && !rounds.empty() ? rounds[majority() - 1] : 0;
}

// --- as the leader ------------------------------------------------------------------------------------------------

void Raft::broadcast(bool heartbeat) {
  std::vector<BrokerId> ids;
  for (const auto& [id, progress] : peers_) ids.push_back(id);
  for (BrokerId id : ids) {
    // Stepping down in between (entries that cannot be read) empties peers_.
    if (peers_.contains(id)) replicate_to(id, heartbeat);
  }
}

// Sends what the follower lacks, as far as its window allows; a heartbeat is sent in any case.
void Raft::replicate_to(BrokerId to, bool heartbeat) {
  Progress& progress = peers_.at(to);
  if (progress.state == Progress::State::kSnapshot) {
    if (now_ns_ >= progress.snapshot_deadline_ns) return send_snapshot(to, progress);
    // The empty prefix always matches: says "I lead" and nothing about the log.
    if (heartbeat) send(to, RaftAppend{{}, {}, {}, {}, round_});
    return;
  }
  bool probe = progress.state == Progress::State::kProbe;
  bool window_full = !probe && progress.in_flight.size() >= config_.appends_in_flight_max;
  if (!heartbeat && (window_full || (probe && progress.probing))) return;
  auto prev_term = term_before(progress.next);
  if (!prev_term || progress.next < storage_.start()) return send_snapshot(to, progress);
  RaftAppend append{progress.next, *prev_term, {}, committed_, round_};
  if (!window_full && progress.next < end()) {
    auto entries = entries_from(progress.next);
    if (!entries.ok()) {
      failure_ = entries.status();
      return become_follower(hard_.term, kNoBroker);
    }
    append.entries = std::move(*entries);
  }
  if (append.entries.empty() && !heartbeat) return;
  if (probe) progress.probing = true;
  if (!probe && !append.entries.empty()) {
    progress.next = append.entries.back().end();
    progress.in_flight.push_back(progress.next);
  }
  send(to, std::move(append));
}

void Raft::send_snapshot(BrokerId to, Progress& progress) {
  auto snapshot = storage_.snapshot();
  if (!snapshot) return;
  progress.state = Progress::State::kSnapshot;
  progress.in_flight.clear();
  progress.probing = false;
  progress.snapshot_end = snapshot->end;
  progress.snapshot_deadline_ns = now_ns_ + 4 * config_.election_timeout_ns;
  send(to, RaftInstall{std::move(*snapshot)});
}

void Raft::on_append_reply(const RaftMessage& message, const RaftAppendReply& reply) {
  if (role_ != Role::kLeader) return;
  Progress& progress = peers_.at(message.from);
  progress.heard = true;
  progress.heard_ns = now_ns_;
  progress.round = std::max(progress.round, reply.round);
  if (!reply.matched) return on_refusal(message.from, reply);
  if (reply.end > end()) return;  // nobody can match what is not there
  progress.match = std::max(progress.match, reply.end);
  while (!progress.in_flight.empty() && progress.in_flight.front() <= progress.match) progress.in_flight.pop_front();
  bool probed = progress.state == Progress::State::kProbe && reply.end >= progress.next;
  bool installed = progress.state == Progress::State::kSnapshot && reply.end >= progress.snapshot_end;
  if (probed || installed) {
    progress.state = Progress::State::kReplicate;
    progress.probing = false;
  }
  progress.next = std::max(progress.next, progress.match);
  advance_commit();
  if (role_ != Role::kLeader) return;  // an entry could not be read; `progress` is gone
  if (message.from == transfer_target_ && progress.match == end()) return send(transfer_target_, RaftTransfer{});
  if (progress.next < end()) replicate_to(message.from, false);
}

void Raft::on_refusal(BrokerId from, const RaftAppendReply& reply) {
  Progress& progress = peers_.at(from);
  if (progress.state == Progress::State::kSnapshot) return;
  // Late answers, overtaken by a newer match or probe, say nothing about now.
  if (reply.refused_end <= progress.match) return;
  if (progress.state == Progress::State::kProbe && reply.refused_end != progress.next) return;
  progress.state = Progress::State::kProbe;
  progress.probing = false;
  progress.in_flight.clear();
  Offset next = newest_end_with_term_at_most(std::min(reply.end, reply.refused_end), reply.end_term);
  // The follower's position may lie inside an entry of ours; entries are sent whole.
  if (next >= storage_.start() && next < end()) {
    auto entries = entries_from(next);
    if (!entries.ok()) {
      failure_ = entries.status();
      return become_follower(hard_.term, kNoBroker);
    }
    if (!entries->empty()) next = std::min(next, entries->front().first);
  }
  progress.next = std::max(next, progress.match);
  replicate_to(from, false);
}

// The newest position that a majority has durably, if its last entry is of this term: an older one could still be
// overwritten although it is on a majority (paper, 5.4.2 and figure 8; Q5).
void Raft::advance_commit() {
  std::vector<Offset> ends;
  for (const Voter& voter : voters()) {
    const Progress* progress = progress_of(voter);
    ends.push_back(voter == config_.self ? durable_end_ : progress != nullptr ? progress->match : Offset(0));
  }
  std::sort(ends.begin(), ends.end(), std::greater<>());
  Offset everywhere = ends[majority() - 1];
  if (everywhere <= committed_ || term_before(everywhere) != hard_.term) return;
  commit_to(everywhere);
  broadcast(true);
}

}  // namespace trilog
