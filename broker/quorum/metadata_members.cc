// Who belongs to the quorum: forming it once (Q8), coming back to it with an empty or damaged folder (Q8, Q11), and
// putting a new folder in the place of a lost one (Q9).
//
// Why two entries replace a voter, and not one: the sets {1,2,3} and {1,2,3'} have majorities without a common member,
// {1,3} and {2,3'}; what the first committed the second might not know. {1,2,3} -> {1,2} -> {1,2,3'} has them at each
// step, and the middle one commits only with every voter that is left: that is why all of them must be well.
#include <algorithm>
#include <utility>

#include "broker/quorum/quorum_folder.h"
#include "broker/quorum/raft_metadata_log.h"

namespace trilog {

namespace {

bool contains(const VoterSet& set, const Voter& voter) {
  return std::find(set.voters.begin(), set.voters.end(), voter) != set.voters.end();
}

}  // namespace

void RaftMetadataLog::add_member(BrokerId id) {
  if (id != config_.self.id) peers_.try_emplace(id);
}

// --- what the folder is --------------------------------------------------------------------------------------------

Status RaftMetadataLog::load() {
  if (!peers_.empty()) {
    auto identity = read_learner_file(env_, config_.directory);
    if (identity.ok() && *identity) {
      learner_ = true;
      self_.directory = **identity;
      link_.set_self(self_);
    } else if (!identity.ok()) {
      if (identity.status().code() != Errc::kCorruption) return identity.status();
      be_damaged(identity.status());
    }
  }
  if (phase_ != Phase::kDamaged) {
    Status opened = open_log();
    if (opened.ok()) opened = log_->formed() ? check_formed() : check_empty();
    if (!opened.ok()) {
      if (peers_.empty() || transport_ == nullptr || opened.code() != Errc::kCorruption) return opened;
      be_damaged(opened);
    }
  }
  if (!peers_.empty() && transport_ == nullptr) {
    return Status(Errc::kInvalidArgument, config_.directory + " has several voters; they need a transport");
  }
  tell_whether_empty();
  return ok_status();
}

Status RaftMetadataLog::check_formed() {
  phase_ = Phase::kRunning;
  if (!log_->voters()) return ok_status();  // a learner at its beginning
  if (voters_.cluster != config_.cluster) {
    return Status(Errc::kInvalidArgument, config_.directory + " belongs to cluster " + voters_.cluster.to_string() +
                                              ", this node to " + config_.cluster.to_string());
  }
  if (contains(voters_, self_) || !peers_.empty()) return ok_status();
  return Status(Errc::kInvalidArgument, "node " + std::to_string(self_.id.value()) + " with data folder " +
                                            self_.directory.to_string() + " is no voter of the cluster in " +
                                            config_.directory);
}

Status RaftMetadataLog::check_empty() {
  phase_ = Phase::kEmpty;
  if (learner_) return ok_status();
  if (config_.was_member) {
    return Status(Errc::kCorruption, config_.directory +
                                         " is empty, but this node was a member of its cluster: its metadata is lost; "
                                         "restore the folder from a copy, or replace this node");
  }
  voters_ = {config_.cluster, config_.voters, config_.recovery};
  bool member = std::any_of(voters_.voters.begin(), voters_.voters.end(),
                            [&](const Voter& voter) { return voter.id == self_.id; });
  if (peers_.empty()) member = contains(voters_, self_);
  if (!member) {
    return Status(Errc::kInvalidArgument, "node " + std::to_string(self_.id.value()) + " is none of the voters that " +
                                              config_.directory + " is to be formed with");
  }
  if (peers_.empty()) return ok_status();
  auto given = TRY(read_voters_file(env_, config_.directory));
  if (!given) return ok_status();
  if (given->cluster != config_.cluster || !contains(*given, self_)) {
    return Status(Errc::kInvalidArgument, config_.directory + " was prepared for another cluster or data folder");
  }
  voters_ = std::move(*given);
  set_was_given_ = true;
  return ok_status();
}

void RaftMetadataLog::be_damaged(const Status& why) {
  phase_ = Phase::kDamaged;
  damage_ = why.message();
  log_.reset();
  env_.log().error(
      "this node's metadata is damaged, and takes no part until a leader repairs it (if the metadata of all "
      "nodes is lost: trilog rescue): ",
      damage_);
}

// Only as long as nothing was promised to any.
bool RaftMetadataLog::may_come_to_another_cluster() const {
  return listener_.on_cluster && phase_ == Phase::kEmpty && !peers_.empty() && !learner_ && !set_was_given_ && log_ &&
         !log_->begun();
}

// False if the node stops because of it.
bool RaftMetadataLog::come_to(const ClusterId& cluster) {
  if (cluster == config_.cluster || !may_come_to_another_cluster()) return true;
  Status kept = listener_.on_cluster(cluster);
  if (!kept.ok()) fail(kept.with_context("the id of the cluster"));
  if (!kept.ok()) return false;
  env_.log().info("this empty folder belongs to cluster ", cluster.to_string());
  config_.cluster = cluster;
  link_.set_cluster(cluster);
  link_.listen_to_any_cluster(false);
  transport_->set_cluster(cluster);
  return true;
}

void RaftMetadataLog::tell_whether_empty() {
  link_.listen_to_any_cluster(may_come_to_another_cluster());
  if (transport_ != nullptr) transport_->set_empty(phase_ == Phase::kEmpty && !learner_ && !set_was_given_);
}

std::string RaftMetadataLog::trouble() const {
  switch (phase_) {
    case Phase::kEmpty:
    case Phase::kForming:
    case Phase::kFormed: return "the cluster is being formed; it waits for all of its voters";
    case Phase::kDamaged: return "the metadata is damaged (" + damage_ + "); it waits for a leader to repair it";
    case Phase::kRunning: break;
  }
  if (raft_ && !raft_->is_voter(self_)) return "the metadata is being fetched from the leader; no voter until then";
  if (!raft_ || raft_->leader() != kNoBroker) return "";
  std::string ids;
  for (const Voter& voter : raft_->voters()) ids += (ids.empty() ? "" : ", ") + std::to_string(voter.id.value());
  return "there is no leader; " + std::to_string(raft_->voters().size() / 2 + 1) + " of the voters " + ids +
         " must be up to elect one";
}

// --- forming, and coming in from outside -----------------------------------------------------------------------------

void RaftMetadataLog::on_connected(const PeerIdentity& peer, PeerChannel channel) {
  auto known = peers_.find(peer.broker);
  if (channel != PeerChannel::kControl || known == peers_.end() || !started_) return;
  known->second = {};
  known->second.identity = peer;
  announce(peer.broker);
  consider();
}

void RaftMetadataLog::on_disconnected(BrokerId peer, PeerChannel channel, bool refused) {
  auto known = peers_.find(peer);
  if (known == peers_.end()) return;
  link_.on_disconnected(peer, channel);
  if (channel != PeerChannel::kControl) return;
  known->second = {};
  if (!raft_ || !refused || stopped()) return;
  raft_->peer_unreachable(peer, env_.clock().monotonic_ns());
  process_later();
}

// That it leads a node says only once a majority has confirmed it since: on that word a damaged folder is cleared.
void RaftMetadataLog::announce(BrokerId to) {
  if (phase_ != Phase::kFormed && !raft_) return;
  link_.send_presence(to, {raft_ != nullptr, false, {config_.cluster, voters(), recovery()}});
  if (!leading()) return;
  announce_leading_to_.insert(to);
  announce_round_ = raft_->ask_round();
  process_later();
}

void RaftMetadataLog::announce_leading() {
  if (announce_leading_to_.empty() || !leading() || raft_->confirmed_round() < announce_round_) return;
  for (BrokerId to : std::exchange(announce_leading_to_, {})) {
    link_.send_presence(to, {true, true, {config_.cluster, voters(), recovery()}});
  }
}

void RaftMetadataLog::announce_to_all() {
  for (const auto& [id, peer] : peers_) {
    if (peer.identity) announce(id);
  }
}

void RaftMetadataLog::on_presence(const Voter& from, const RaftPresence& presence) {
  Peer& peer = peers_.at(from.id);
  peer.presence = presence;
  peer.directory = from.directory;
  if (raft_) {
    raft_->peer_present(from, env_.clock().monotonic_ns());
    if (!presence.running) announce(from.id);  // it may have asked before this node ran
    stand_first_if_due();
    process_later();
  }
  consider();
}

// A set that was just formed has no leader to wait for: an election is due when a majority is there to vote.
void RaftMetadataLog::stand_first_if_due() {
  size_t running = 1;
  for (const auto& [id, peer] : peers_) running += peer.presence && peer.presence->running ? 1 : 0;
  if (running > voters().size() / 2) raft_->stand_first(env_.clock().monotonic_ns());
}

// What to do next, as long as there is no Raft to ask.
void RaftMetadataLog::consider() {
  if (!started_ || stopped()) return;
  if (phase_ == Phase::kFormed) {
    if (all_others_formed() || set_with_this_node(true) != nullptr) begin();
    return;
  }
  if (phase_ == Phase::kDamaged && set_without_this_node() != nullptr) {
    uint64_t high = env_.random().next();
    return become_learner(DirectoryId(high, env_.random().next() | 1));
  }
  if (phase_ != Phase::kEmpty || learner_ || set_was_given_) return;
  // Who runs knows that this node had the set on its disk; if there is no trace of it the folder was emptied since, and
  // may have voted before.
  if (set_with_this_node(true) != nullptr && !log_->begun()) {
    be_damaged(Status(Errc::kCorruption, config_.directory + " is empty, but this node is a voter of its cluster"));
    tell_whether_empty();
    return consider();
  }
  // Somebody saw all of us empty, this folder among them: the rest is to follow.
  if (const VoterSet* found = set_with_this_node(false)) {
    const VoterSet set = *found;
    if (come_to(set.cluster)) form(set);
  } else if (auto empty = set_of_the_empty()) {
    if (come_to(empty->cluster)) form(std::move(empty));
  } else if (const VoterSet* others = set_without_this_node()) {
    if (come_to(ClusterId(others->cluster))) become_learner(config_.self.directory);
  }
}

std::optional<VoterSet> RaftMetadataLog::set_of_the_empty() const {
  std::map<BrokerId, DirectoryId> directories{{self_.id, self_.directory}};
  for (const auto& [id, peer] : peers_) {
    if (!peer.identity || !peer.identity->empty) return std::nullopt;
    directories.emplace(id, peer.identity->directory);
  }
  VoterSet set{config_.cluster, {}};
  uint64_t high = 0;
  uint64_t low = 0;
  for (const auto& [id, directory] : directories) {
    set.voters.push_back({id, directory});
    high ^= directory.high();
    low ^= directory.low();
  }
  // All find the same, and it is as random as the directories are.
  if (may_come_to_another_cluster()) set.cluster = ClusterId(high, low);
  return set;
}

bool RaftMetadataLog::all_others_formed() const {
  return std::all_of(peers_.begin(), peers_.end(),
                     [&](const auto& each) { return each.second.presence && each.second.presence->voters == voters_; });
}

// The set of a peer that names this folder.
const VoterSet* RaftMetadataLog::set_with_this_node(bool running) const {
  for (const auto& [id, peer] : peers_) {
    if (!peer.presence || (running && !peer.presence->running)) continue;
    if (contains(peer.presence->voters, self_)) return &peer.presence->voters;
  }
  return nullptr;
}

// Of a majority that works without this folder: it leads, and does not count this node, or cannot rely on it any more.
const VoterSet* RaftMetadataLog::set_without_this_node() const {
  for (const auto& [id, peer] : peers_) {
    const auto& presence = peer.presence;
    if (!presence || !presence->leading) continue;
    if (phase_ == Phase::kDamaged || !contains(presence->voters, self_)) return &presence->voters;
  }
  return nullptr;
}

void RaftMetadataLog::form(std::optional<VoterSet> voters) {
  phase_ = Phase::kForming;
  forming_ = true;
  if (voters) voters_ = *voters;
  log_->form(std::move(voters), [alive = alive_](const Status& formed) {
    if (*alive == nullptr) return;
    RaftMetadataLog& log = **alive;
    log.forming_ = false;
    if (!formed.ok()) return log.fail(formed);
    if (log.stopped()) return log.close_if_idle();
    if (log.set_was_given_) {
      Status removed = remove_voters_file(log.env_, log.config_.directory);
      if (!removed.ok()) log.env_.log().warning(removed.to_string());
    }
    bool nobody_to_wait_for = log.peers_.empty() || log.set_was_given_ || log.learner_;
    log.phase_ = Phase::kFormed;
    log.tell_whether_empty();
    if (nobody_to_wait_for) return log.begin();
    log.announce_to_all();
    log.consider();
  });
}

void RaftMetadataLog::become_learner(DirectoryId identity) {
  env_.log().warning("node ", self_.id, " joins its cluster again with an empty metadata folder");
  log_.reset();
  learner_ = true;
  self_.directory = identity;
  link_.set_self(self_);
  Status cleared = begin_as_learner(env_, config_.directory, identity);
  if (cleared.ok()) cleared = open_log();
  if (!cleared.ok()) return fail(cleared);
  phase_ = Phase::kEmpty;
  tell_whether_empty();
  form(std::nullopt);
}

// --- replacing a voter (Q9) ------------------------------------------------------------------------------------------

bool RaftMetadataLog::is_well(const RaftPeer& peer) const {
  return peer.streaming && peer.heard_ns > env_.clock().monotonic_ns() - config_.election_timeout_ns;
}

bool RaftMetadataLog::is_well(const Voter& voter) const {
  if (voter == self_) return true;
  auto peer = raft_->peer(voter.id);
  return peer && peer->directory == voter.directory && is_well(*peer);
}

bool RaftMetadataLog::has_caught_up(const RaftPeer& peer) const {
  return is_well(peer) && peer.match >= raft_->committed();
}

// Every remaining voter can confirm it at once; by hand, enough of them for both steps.
bool RaftMetadataLog::may_change(BrokerId id, const std::vector<Voter>& others) const {
  auto well = std::count_if(others.begin(), others.end(), [&](const Voter& voter) { return is_well(voter); });
  return static_cast<size_t>(well) > (replacing_ == id ? others.size() / 2 : others.size() - 1);
}

// After a lost quorum: an even number of voters bears no more losses than the odd one below it, so they come in pairs.
bool RaftMetadataLog::may_grow(const std::vector<Voter>& now) const {
  if (now.size() % 2 == 0 || now.size() + 1 == config_.voters.size()) return true;
  auto waits = [&](const auto& member) {
    auto peer = raft_->peer(member.first);
    return peer && !raft_->is_voter({member.first, peer->directory}) && has_caught_up(*peer);
  };
  return std::count_if(peers_.begin(), peers_.end(), waits) > 1;
}

// One change at a time.
void RaftMetadataLog::change_voters_if_due() {
  if (peers_.empty() || closing_ || !raft_->may_change_voters()) return;
  const std::vector<Voter>& now = raft_->voters();
  if (replacing_) {
    auto replaced = raft_->peer(*replacing_);
    if (replaced && raft_->is_voter({*replacing_, replaced->directory})) end_replacing(ok_status());
  }
  for (const auto& member : peers_) {
    BrokerId id = member.first;
    auto peer = raft_->peer(id);
    if (!peer || raft_->is_voter({id, peer->directory})) continue;
    if (!has_caught_up(*peer)) continue;
    std::vector<Voter> others;
    std::copy_if(now.begin(), now.end(), std::back_inserter(others), [&](const Voter& v) { return v.id != id; });
    if (!may_change(id, others)) continue;
    Voter changed{id, peer->directory};
    if (others.size() == now.size()) {
      if (replacing_ != id && !may_grow(now)) continue;
      others.push_back(changed);
      std::sort(others.begin(), others.end(), [](const Voter& a, const Voter& b) { return a.id < b.id; });
    }
    return propose_voters(std::move(others), changed);
  }
}

void RaftMetadataLog::propose_voters(std::vector<Voter> voters, const Voter& changed) {
  bool added = std::find(voters.begin(), voters.end(), changed) != voters.end();
  VoterSet set{config_.cluster, std::move(voters), raft_->recovery()};
  env_.log().warning("the voters of the cluster change to ", to_string(set), ": node ", changed.id, " with folder ",
                     changed.directory.to_string(), added ? " has caught up" : " takes the place of an earlier folder");
  auto batch = make_voters_batch(set, env_.clock().wall_ms());
  if (!batch.ok()) return fail(batch.status());
  if (raft_->propose(SharedBytes(std::move(*batch)), 1)) process_later();
}

}  // namespace trilog
