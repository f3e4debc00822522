#include "broker/controller/leader_election.h"

#include <utility>

#include "storage/base/check.h"

namespace trilog {

namespace {

template <typename May>
BrokerId first_of(const PartitionImage& partition, const std::vector<BrokerId>& among, May may) {
  for (BrokerId replica : partition.replicas) {
    if (contains(among, replica) && may(replica)) return replica;
  }
  return kNoBroker;
}

}  // namespace

PartitionImage with_raised_epochs(const PartitionImage& before, PartitionImage next, bool new_leadership) {
  CHECK_LT(before.partition_epoch.value(), INT32_MAX);
  CHECK_LT(before.leader_epoch.value(), INT32_MAX);
  next.partition_epoch = before.partition_epoch + 1;
  next.leader_epoch = before.leader_epoch + (new_leadership || next.leader != before.leader ? 1 : 0);
  return next;
}

PartitionImage with_isr(const PartitionImage& partition, std::vector<BrokerId> isr, int32_t min_in_sync) {
  PartitionImage next = partition;
  next.isr = std::move(isr);
  next.elr.clear();
  if (static_cast<int32_t>(next.isr.size()) < min_in_sync) {
    for (BrokerId replica : partition.replicas) {
      bool was = contains(partition.isr, replica) || contains(partition.elr, replica);
      if (was && !contains(next.isr, replica)) next.elr.push_back(replica);
    }
  }
  // Whoever joined the ISR has caught up with its leader: what its disk lost once was fetched again.
  std::erase_if(next.unclean, [&](BrokerId broker) { return !contains(next.elr, broker); });
  return next;
}

std::optional<PartitionImage> elect_leader(const PartitionImage& partition, const LiveBrokers& live,
                                           int32_t min_in_sync) {
  if (contains(partition.isr, partition.leader) && live.up.contains(partition.leader)) return std::nullopt;
  PartitionImage next = partition;
  auto eligible = [&](BrokerId broker) { return live.eligible.contains(broker); };
  next.leader = first_of(partition, partition.isr, eligible);
  if (next.leader == kNoBroker && partition.isr.empty()) {
    auto trusted = [&](BrokerId broker) {
      return eligible(broker) && (min_in_sync <= 1 || !contains(partition.unclean, broker));
    };
    BrokerId leader = first_of(partition, partition.elr, trusted);
    if (leader != kNoBroker) {
      next = with_isr(partition, {leader}, min_in_sync);
      next.leader = leader;
    }
  }
  if (next == partition) return std::nullopt;
  return with_raised_epochs(partition, std::move(next));
}

}  // namespace trilog
