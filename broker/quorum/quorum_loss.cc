// What an operator does when voters are lost (Q9).
#include <algorithm>
#include <utility>

#include "broker/quorum/quorum_folder.h"
#include "broker/quorum/raft_metadata_log.h"

namespace trilog {

namespace {

constexpr int64_t kReplaceNs = 10'000'000'000;

std::string node_text(BrokerId id) { return "node " + std::to_string(id.value()); }

Status must_not(std::string why) { return Status(Errc::kInvalidArgument, std::move(why)); }

}  // namespace

// As long as a majority is there or may come back by itself, nobody has to give anything up.
Status RaftMetadataLog::check_lost() const {
  if (closing_ || failed_) return Status(Errc::kFailed, "the node is stopping");
  const std::string self = node_text(self_.id);
  if (!raft_) return must_not(self + " takes no part in the quorum: " + trouble());
  if (raft_->leader() != kNoBroker) {
    return must_not(node_text(raft_->leader()) + " leads the cluster's metadata: there is a quorum");
  }
  if (!raft_->is_voter(self_)) return must_not(self + " is no voter: its metadata may lack what was committed");
  std::string there;
  size_t count = 1;
  for (const Voter& voter : raft_->voters()) {
    auto peer = peers_.find(voter.id);
    if (peer == peers_.end() || !peer->second.identity || !peer->second.presence) continue;
    if (!peer->second.presence->running || peer->second.directory != voter.directory) continue;
    there += (there.empty() ? "" : ", ") + std::to_string(voter.id.value());
    ++count;
  }
  const size_t all = raft_->voters().size();
  if (count <= all / 2) return ok_status();
  if (all == 1) return must_not(self + " is the only voter; it leads as soon as it has started");
  return must_not("a majority of the voters is within reach of " + self + " (" + there +
                  "): they elect a leader by themselves");
}

void RaftMetadataLog::recover_quorum(bool dry, UniqueFunction<void(Status)> done) {
  Status status = check_lost();
  if (status.ok() && recovery_done_) status = Status(Errc::kBusy, "it is being done already");
  if (status.ok() && !dry) {
    VoterSet set{config_.cluster, {self_}, {raft_->recovery().number + 1, self_.id}};
    auto batch = make_voters_batch(set, env_.clock().wall_ms());
    if (!batch.ok()) {
      status = batch.status();
    } else if (raft_->become_only_voter(SharedBytes(std::move(*batch)), env_.clock().monotonic_ns())) {
      env_.log().warning("the quorum was lost: node ", self_.id, " is the only voter from now on (recovery ",
                         set.recovery.number, ")");
      recovery_done_ = std::move(done);
      return process_later();
    } else {
      status = must_not(node_text(self_.id) + " does not have the newest set of voters");
    }
  }
  env_.executor().post([done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
}

void RaftMetadataLog::answer_recovery(const Status& status) {
  env_.executor().post(
      [done = std::exchange(recovery_done_, nullptr), status = status]() mutable { done(std::move(status)); });
}

// --- a voter whose folder is lost ------------------------------------------------------------------------------------

Status RaftMetadataLog::check_replaceable(BrokerId id) const {
  if (closing_ || !leading()) return Status(Errc::kFailed, "this node does not lead the metadata log");
  if (id != self_.id && !peers_.contains(id))
    return Status(Errc::kNotFound, "no " + node_text(id) + " in this cluster");
  auto peer = raft_->peer(id);
  if (id == self_.id || (peer && raft_->is_voter({id, peer->directory}) && is_well(*peer))) {
    return must_not(node_text(id) +
                    " is a voter with the folder that it has now, and answers: nothing has to be replaced");
  }
  if (!peer || raft_->is_voter({id, peer->directory})) {
    return must_not(node_text(id) + " does not answer with a new folder; start it with an empty one, then ask again");
  }
  if (!has_caught_up(*peer)) {
    return must_not(node_text(id) + " has not caught up yet: it has the metadata up to offset " +
                    std::to_string(peer->match.value()) + " of " + std::to_string(raft_->committed().value()));
  }
  std::string silent;
  size_t well = 0;
  std::vector<Voter> others = raft_->voters();
  std::erase_if(others, [&](const Voter& voter) { return voter.id == id; });
  for (const Voter& voter : others) {
    if (is_well(voter)) {
      ++well;
    } else {
      silent += (silent.empty() ? "" : ", ") + std::to_string(voter.id.value());
    }
  }
  if (well > others.size() / 2) return ok_status();
  return must_not("nodes " + silent + " do not answer, and without them no majority can confirm it");
}

void RaftMetadataLog::replace_voter(BrokerId id, bool dry, UniqueFunction<void(Status)> done) {
  Status status = check_replaceable(id);
  if (status.ok() && replacing_) status = must_not(node_text(*replacing_) + " is being replaced; one at a time");
  if (!status.ok() || dry) {
    env_.executor().post([done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
    return;
  }
  replacing_ = id;
  replace_done_ = std::move(done);
  replace_timer_ = env_.executor().schedule_after(kReplaceNs, [alive = alive_] {
    if (*alive == nullptr) return;
    (*alive)->replace_timer_ = 0;
    (*alive)->end_replacing(Status(Errc::kFailed, "it was begun and did not end in time"));
  });
  process_later();
}

void RaftMetadataLog::end_replacing(const Status& status) {
  replacing_.reset();
  if (replace_timer_ != 0) env_.executor().cancel(std::exchange(replace_timer_, 0));
  env_.executor().post(
      [done = std::exchange(replace_done_, nullptr), status = status]() mutable { done(std::move(status)); });
}

// --- where the others went on without this node ----------------------------------------------------------------------

// What was applied here cannot be taken back in a running process: the next one begins with an empty folder (Q11).
void RaftMetadataLog::leave_lost_quorum() {
  uint64_t high = env_.random().next();
  Status noted = note_learner(env_, config_.directory, DirectoryId(high, env_.random().next() | 1));
  if (!noted.ok()) return fail(noted);
  fail(Status(Errc::kCorruption,
              "the quorum was recovered without this node, which had committed something else; start "
              "it again: it fetches the metadata anew, and the old one is set aside"));
}

}  // namespace trilog
