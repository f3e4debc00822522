#include "broker/replica/replica_progress.h"

#include <algorithm>
#include <utility>

#include "storage/base/check.h"

namespace trilog {
namespace {

bool contains(const std::vector<BrokerId>& brokers, BrokerId broker) {
  return std::find(brokers.begin(), brokers.end(), broker) != brokers.end();
}

}  // namespace

void ReplicaProgress::lead(const ReplicaPeers& peers, bool synced, const PartitionImage& state, Offset log_end,
                           int64_t now_ns) {
  synced_ = synced;
  isr_ = state.isr;
  partition_epoch_ = state.partition_epoch;
  proposed_.reset();
  ++change_number_;
  followers_.clear();
  refresh(peers, state);
  for (Follower& follower : followers_) {
    follower.mark_end = log_end;
    // R9: those out of sync have to show themselves anew; the others get the whole lag limit to do so.
    if (contains(isr_, follower.broker)) follower.caught_up_ns = now_ns;
  }
}

void ReplicaProgress::accept(PartitionEpoch epoch, const std::vector<BrokerId>& isr) {
  if (epoch <= partition_epoch_) return;
  partition_epoch_ = epoch;
  isr_ = isr;
  // What was proposed started from an older state: it was made, and this is it or a later one, or never will be.
  proposed_.reset();
  ++change_number_;
}

void ReplicaProgress::refresh(const ReplicaPeers& peers, const PartitionImage& state) {
  self_ = peers.self;
  self_epoch_ = peers.self_epoch;
  replicas_ = state.replicas;
  std::vector<Follower> followers;
  for (BrokerId replica : state.replicas) {
    if (replica == self_) continue;
    const Follower* known = find(replica);
    Follower& follower = followers.emplace_back(known != nullptr ? *known : Follower{.broker = replica});
    const BrokerImage* broker = peers.image ? peers.image->find_broker(replica) : nullptr;
    follower.registered_epoch = broker != nullptr && !broker->fenced ? broker->epoch : BrokerEpoch(-1);
    follower.leaving = broker != nullptr && broker->draining;
  }
  followers_ = std::move(followers);
}

ReplicaProgress::Follower* ReplicaProgress::find(BrokerId broker) {
  for (Follower& follower : followers_) {
    if (follower.broker == broker) return &follower;
  }
  return nullptr;
}

void ReplicaProgress::opened(BrokerId broker, BrokerEpoch epoch, Offset fetched, Offset durable, const Moment& at) {
  Follower* follower = find(broker);
  if (follower == nullptr) return;
  follower->session_epoch = epoch;
  follower->fetched = follower->durable = kNoOffset;
  follower->mark_end = at.log_end;
  follower->mark_ns = at.now_ns;
  moved(broker, fetched, durable, at);
}

void ReplicaProgress::moved(BrokerId broker, Offset fetched, Offset durable, const Moment& at) {
  Follower* follower = find(broker);
  if (follower == nullptr || follower->session_epoch < BrokerEpoch(0)) return;
  follower->fetched = std::max(follower->fetched, std::min(fetched, at.log_end));
  follower->durable = std::max(follower->durable, std::min(durable, at.log_end));
  const Offset position = counted(*follower);
  if (position >= at.log_end) {
    follower->caught_up_ns = at.now_ns;
  } else if (position >= follower->mark_end) {
    // Under steady load nobody is ever at the very end. Having all that was there at the mark, it was caught up then.
    follower->caught_up_ns = std::max(follower->caught_up_ns, follower->mark_ns);
  }
  if (position >= follower->mark_end) {
    follower->mark_end = at.log_end;
    follower->mark_ns = at.now_ns;
  }
}

void ReplicaProgress::closed(BrokerId broker, const Moment& at) {
  Follower* follower = find(broker);
  if (follower == nullptr || follower->session_epoch < BrokerEpoch(0)) return;
  if (!contains(isr_, broker)) {
    follower->caught_up_ns = INT64_MIN;
  } else if (counted(*follower) >= at.log_end) {
    follower->caught_up_ns = at.now_ns;
  }
  follower->session_epoch = BrokerEpoch(-1);
  follower->fetched = follower->durable = kNoOffset;
}

void ReplicaProgress::appending(Offset end, int64_t now_ns) {
  for (Follower& follower : followers_) {
    if (counted(follower) >= end) follower.caught_up_ns = now_ns;
  }
}

bool ReplicaProgress::in_isr(BrokerId broker) const { return contains(isr_, broker); }

bool ReplicaProgress::in_maximal_isr(BrokerId broker) const {
  return contains(isr_, broker) || (proposed_ && contains(*proposed_, broker));
}

// R9, as far as it does not depend on positions.
bool ReplicaProgress::may_join(const Follower& follower) const {
  return follower.session_epoch >= BrokerEpoch(0) && follower.session_epoch == follower.registered_epoch &&
         !follower.leaving;
}

bool ReplicaProgress::behind(const Follower& follower, const Moment& at, int64_t lag_ns_max) const {
  if (counted(follower) >= at.log_end) return false;
  return follower.caught_up_ns == INT64_MIN || at.now_ns - follower.caught_up_ns > lag_ns_max;
}

std::optional<Offset> ReplicaProgress::committed(const Moment& at, int64_t lag_ns_max) const {
  if (static_cast<int32_t>(isr_.size()) < at.in_sync_min) return std::nullopt;
  Offset position = at.counted;
  for (const Follower& follower : followers_) {
    // Who is about to join is waited for: otherwise it could be left behind again by the time it has joined.
    const bool joins = may_join(follower) && !behind(follower, at, lag_ns_max);
    if (in_maximal_isr(follower.broker) || joins) position = std::min(position, counted(follower));
  }
  // A member that is no replica any more has no position here: nothing can be counted for it.
  for (BrokerId member : isr_) {
    if (member != self_ && !contains(replicas_, member)) return std::nullopt;
  }
  if (position < Offset(0)) return std::nullopt;
  return position;
}

std::optional<std::vector<BrokerId>> ReplicaProgress::wanted(const Moment& at, int64_t lag_ns_max) const {
  if (proposed_) return std::nullopt;
  // R16: while the end of what earlier leaders committed is not known, nobody joins; unless nothing can become known
  // without somebody joining.
  const bool open_to_join = at.high_watermark >= at.epoch_start || static_cast<int32_t>(isr_.size()) < at.in_sync_min;
  std::vector<BrokerId> isr;
  for (BrokerId replica : replicas_) {
    if (replica == self_) {
      isr.push_back(replica);
      continue;
    }
    auto follower =
        std::find_if(followers_.begin(), followers_.end(), [&](const Follower& one) { return one.broker == replica; });
    CHECK(follower != followers_.end());
    if (contains(isr_, replica)) {
      if (!behind(*follower, at, lag_ns_max)) isr.push_back(replica);
    } else if (open_to_join && may_join(*follower) && counted(*follower) >= at.high_watermark &&
               counted(*follower) >= at.epoch_start) {
      isr.push_back(replica);
    }
  }
  const bool same = isr.size() == isr_.size() &&
                    std::all_of(isr.begin(), isr.end(), [&](BrokerId member) { return contains(isr_, member); });
  if (same) return std::nullopt;
  return isr;
}

bool ReplicaProgress::anyone_behind(Offset log_end) const {
  return std::any_of(followers_.begin(), followers_.end(), [&](const Follower& follower) {
    return in_maximal_isr(follower.broker) && counted(follower) < log_end;
  });
}

IsrChange ReplicaProgress::change(const TopicPartition& id, LeaderEpoch epoch, const std::vector<BrokerId>& isr) const {
  IsrChange change{.partition = id, .leader_epoch = epoch, .partition_epoch = partition_epoch_, .isr = {}};
  for (BrokerId member : isr) {
    auto follower =
        std::find_if(followers_.begin(), followers_.end(), [&](const Follower& one) { return one.broker == member; });
    if (member == self_) {
      change.isr.push_back({member, self_epoch_});
    } else if (follower != followers_.end()) {
      // Of an in-sync replica without a session now, the incarnation that metadata knows is meant.
      const bool has_session = follower->session_epoch >= BrokerEpoch(0);
      change.isr.push_back({member, has_session ? follower->session_epoch : follower->registered_epoch});
    }
  }
  return change;
}

IsrChange ReplicaProgress::propose(const TopicPartition& id, LeaderEpoch epoch, std::vector<BrokerId> isr) {
  CHECK(!proposed_);
  proposed_ = std::move(isr);
  ++change_number_;
  return change(id, epoch, *proposed_);
}

std::optional<IsrChange> ReplicaProgress::repeat(const TopicPartition& id, LeaderEpoch epoch) const {
  if (!proposed_) return std::nullopt;
  return change(id, epoch, *proposed_);
}

}  // namespace trilog
