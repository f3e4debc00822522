#include "broker/controller/isr_control.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "broker/metadata/topic_settings.h"
#include "storage/base/check.h"

namespace trilog {

using peer::PeerError;

int32_t min_in_sync(const TopicImage& topic) {
  auto replicas = topic.partitions.empty() ? 1 : static_cast<int32_t>(topic.partitions.front().replicas.size());
  // Resolved here: the settings of a topic that is being changed are not.
  TopicSettings settings = resolve_topic_settings(topic.configs, topic.durability, replicas);
  return std::clamp(settings.min_insync_replicas, 1, replicas);
}

Leaving judge_restart(const RestartFacts& facts, api::Durability durability, const TopicPartition& partition) {
  // "Damaged" comes first: neither a clean marker nor a log recovery can vouch for bytes that are not there.
  if (!facts.same_folder || facts.damaged.contains(partition)) return Leaving::kLost;
  if (facts.clean) return Leaving::kClean;
  if (facts.recovered == peer::Recovered::kUnknown) return Leaving::kLost;
  // What was acknowledged from the page cache is gone with it; what was synced is not.
  bool survived = facts.same_boot || durability == api::Durability::kSynced;
  return survived ? Leaving::kUnclean : Leaving::kLost;
}

namespace {

// With epochs raised, if anything changed.
std::optional<PartitionImage> settled(const PartitionImage& before, PartitionImage next, const LiveBrokers& live,
                                      int32_t min_in_sync, bool new_leadership) {
  if (auto elected = elect_leader(next, live, min_in_sync)) {
    next = std::move(*elected);
    next.partition_epoch = before.partition_epoch;
    next.leader_epoch = before.leader_epoch;
  }
  if (next == before && !new_leadership) return std::nullopt;
  return with_raised_epochs(before, std::move(next), new_leadership);
}

}  // namespace

std::optional<PartitionImage> depart(const PartitionImage& partition, const std::map<BrokerId, Leaving>& gone,
                                     const LiveBrokers& live, int32_t min_in_sync) {
  std::vector<BrokerId> isr = partition.isr;
  std::erase_if(isr, [&](BrokerId broker) { return gone.contains(broker); });
  PartitionImage next = partition;
  if (isr.size() != partition.isr.size()) next = with_isr(partition, std::move(isr), min_in_sync);
  for (const auto& [broker, leaving] : gone) {
    if (!contains(next.elr, broker)) continue;
    if (leaving == Leaving::kLost && partition.replicas.size() > 1) {
      std::erase(next.elr, broker);
      std::erase(next.unclean, broker);
    } else if (leaving == Leaving::kUnclean && !contains(next.unclean, broker)) {
      next.unclean.push_back(broker);
    }
  }
  const bool leader_gone = gone.contains(partition.leader);
  if (leader_gone) next.leader = kNoBroker;
  // A leader that is elected again after a restart leads in a new epoch: the old process' appends are of another one.
  return settled(partition, std::move(next), live, min_in_sync, leader_gone);
}

std::optional<PartitionImage> set_aside(const PartitionImage& partition, BrokerId damaged, const LiveBrokers& live,
                                        int32_t min_in_sync) {
  PartitionImage next = partition;
  if (contains(partition.isr, damaged)) {
    std::vector<BrokerId> isr = partition.isr;
    std::erase(isr, damaged);
    next = with_isr(partition, std::move(isr), min_in_sync);
  } else if (!contains(partition.elr, damaged) || (partition.isr.empty() && partition.elr.size() == 1)) {
    return std::nullopt;
  }
  std::erase(next.elr, damaged);
  std::erase(next.unclean, damaged);
  if (next.leader == damaged) next.leader = kNoBroker;
  auto result = settled(partition, std::move(next), live, min_in_sync, false);
  // The last one in sync goes on with what it has if nobody trusted can take over.
  bool nobody = result && result->leader == kNoBroker && partition.leader != kNoBroker;
  return nobody ? std::nullopt : result;
}

std::optional<PartitionImage> hand_over(const PartitionImage& partition, BrokerId broker, const LiveBrokers& live,
                                        int32_t min_in_sync, bool leaves_isr) {
  if (!contains(partition.isr, broker)) return std::nullopt;
  BrokerId other = kNoBroker;
  for (BrokerId replica : partition.replicas) {
    if (other == kNoBroker && replica != broker && contains(partition.isr, replica) && live.eligible.contains(replica))
      other = replica;
  }
  if (other == kNoBroker) return std::nullopt;
  PartitionImage next = partition;
  std::vector<BrokerId> isr = partition.isr;
  std::erase(isr, broker);
  if (leaves_isr && static_cast<int32_t>(isr.size()) >= min_in_sync) {
    next = with_isr(partition, std::move(isr), min_in_sync);
  }
  if (next.leader == broker) next.leader = other;
  if (next == partition) return std::nullopt;
  return with_raised_epochs(partition, std::move(next));
}

namespace {

bool same_members(std::vector<BrokerId> a, std::vector<BrokerId> b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  return a == b;
}

// Whoever joins must be fit to lead; whoever is in already may be on its way out (it leaves by C9).
bool may_be_in_sync(const PartitionImage& partition, const peer::InSyncReplica& member,
                    const std::map<BrokerId, BrokerImage>& brokers) {
  auto broker = brokers.find(member.broker);
  if (broker == brokers.end() || broker->second.fenced || broker->second.epoch != member.epoch) return false;
  return !broker->second.draining || contains(partition.isr, member.broker);
}

}  // namespace

AlterVerdict alter_isr(const PartitionImage& partition, BrokerId sender, const peer::AlterPartition& asked,
                       const std::map<BrokerId, BrokerImage>& brokers, int32_t min_in_sync) {
  // The sender has seen more than is committed here: this node leads no longer, or not yet.
  if (asked.leader_epoch > partition.leader_epoch || asked.partition_epoch > partition.partition_epoch) {
    return {PeerError::kNotController, {}};
  }
  if (asked.leader_epoch < partition.leader_epoch) return {PeerError::kFencedLeaderEpoch, {}};
  if (sender != partition.leader) return {PeerError::kNotLeader, {}};
  std::vector<BrokerId> isr;
  for (const peer::InSyncReplica& member : asked.isr) isr.push_back(member.broker);
  if (asked.partition_epoch < partition.partition_epoch) {
    // R8: the answer to the same request was lost. Refused, its leader would ask with the old epoch for ever.
    bool applied = same_members(isr, partition.isr) && asked.recovering == partition.recovering;
    return {applied ? PeerError::kNone : PeerError::kStalePartitionEpoch, {}};
  }
  std::set<BrokerId> members(isr.begin(), isr.end());
  if (members.size() != isr.size() || !members.contains(sender)) return {PeerError::kInvalidRequest, {}};
  for (BrokerId member : isr) {
    if (!contains(partition.replicas, member)) return {PeerError::kInvalidRequest, {}};
  }
  if (asked.recovering && (isr.size() > 1 || !partition.recovering)) return {PeerError::kInvalidRequest, {}};
  for (const peer::InSyncReplica& member : asked.isr) {
    if (!may_be_in_sync(partition, member, brokers)) return {PeerError::kIneligibleReplica, {}};
  }
  PartitionImage next = with_isr(partition, isr, min_in_sync);
  next.recovering = asked.recovering;
  if (same_members(next.isr, partition.isr) && next.recovering == partition.recovering) return {};
  return {PeerError::kNone, with_raised_epochs(partition, std::move(next))};
}

bool needs_hearing(const PartitionImage& partition, int32_t min_in_sync) {
  return partition.leader == kNoBroker && partition.isr.empty() && min_in_sync > 1 && !partition.unclean.empty();
}

BrokerId choose_heard(const PartitionImage& partition, const std::vector<Heard>& heard, int32_t min_in_sync) {
  std::map<BrokerId, std::tuple<LeaderEpoch, Offset>> reach;
  for (const Heard& each : heard) {
    if (contains(partition.elr, each.broker)) reach[each.broker] = {each.last_epoch, each.log_end};
  }
  if (reach.empty() || static_cast<int32_t>(reach.size()) < min_in_sync) return kNoBroker;
  BrokerId best = kNoBroker;
  for (BrokerId replica : partition.replicas) {
    if (!reach.contains(replica)) continue;
    if (best == kNoBroker || reach.at(replica) > reach.at(best)) best = replica;
  }
  return best;
}

PartitionImage elect_heard(const PartitionImage& partition, BrokerId leader, int32_t min_in_sync) {
  CHECK(partition.isr.empty() && contains(partition.elr, leader));
  PartitionImage next = with_isr(partition, {leader}, min_in_sync);
  next.leader = leader;
  return with_raised_epochs(partition, std::move(next), true);
}

PartitionImage elect_with_loss(const PartitionImage& partition, BrokerId leader) {
  PartitionImage next = partition;
  next.isr = {leader};
  next.elr.clear();
  next.unclean.clear();
  next.leader = leader;
  next = with_raised_epochs(partition, std::move(next), true);
  next.loss_epoch = next.leader_epoch;
  next.recovering = true;
  return next;
}

AfterLoss judge_after_loss(const PartitionImage& partition, BrokerId survivor) {
  std::set<BrokerId> trusted(partition.isr.begin(), partition.isr.end());
  trusted.insert(partition.elr.begin(), partition.elr.end());
  if (trusted == std::set<BrokerId>{survivor}) return AfterLoss::kLed;
  return contains(partition.replicas, survivor) ? AfterLoss::kGivenUp : AfterLoss::kElsewhere;
}

PartitionImage after_lost_quorum(const PartitionImage& partition, const PartitionImage* committed, BrokerId survivor) {
  PartitionImage next = partition;
  const bool led = committed != nullptr && judge_after_loss(*committed, survivor) == AfterLoss::kLed &&
                   judge_after_loss(partition, survivor) == AfterLoss::kLed;
  if (partition.replicas.size() > 1 && !led) {
    next.isr.clear();
    next.elr.clear();
    next.unclean.clear();
    next.leader = kNoBroker;
    next.recovering = false;
  }
  CHECK_LT(partition.partition_epoch.value(), INT32_MAX - kUnheardEpochs);
  CHECK_LT(partition.leader_epoch.value(), INT32_MAX - kUnheardEpochs);
  next.partition_epoch = partition.partition_epoch + kUnheardEpochs;
  next.leader_epoch = partition.leader_epoch + kUnheardEpochs;
  return next;
}

PartitionImage move_leadership(const PartitionImage& partition, BrokerId to) {
  CHECK(contains(partition.isr, to));
  PartitionImage next = partition;
  next.leader = to;
  return with_raised_epochs(partition, std::move(next));
}

std::optional<PartitionImage> with_minimum(const PartitionImage& partition, int32_t min_in_sync) {
  PartitionImage next = with_isr(partition, partition.isr, min_in_sync);
  if (next == partition) return std::nullopt;
  return with_raised_epochs(partition, std::move(next));
}

}  // namespace trilog
