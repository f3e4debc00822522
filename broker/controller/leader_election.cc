#include "broker/controller/leader_election.h"

#include <algorithm>
#include <utility>

#include "storage/base/check.h"

namespace trilog {

namespace {

bool contains(const std::vector<BrokerId>& brokers, BrokerId broker) {
  return std::find(brokers.begin(), brokers.end(), broker) != brokers.end();
}

BrokerId first_of(const PartitionImage& partition, const std::vector<BrokerId>& among,
                  const std::set<BrokerId>& eligible) {
  for (BrokerId replica : partition.replicas) {
    if (contains(among, replica) && eligible.contains(replica)) return replica;
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

std::optional<PartitionImage> elect_leader(const PartitionImage& partition, const std::set<BrokerId>& eligible) {
  if (contains(partition.isr, partition.leader) && eligible.contains(partition.leader)) return std::nullopt;
  PartitionImage next = partition;
  next.leader = first_of(partition, partition.isr, eligible);
  if (next.leader == kNoBroker && partition.isr.empty()) {
    next.leader = first_of(partition, partition.elr, eligible);
    if (next.leader != kNoBroker) {
      next.isr = {next.leader};
      std::erase(next.elr, next.leader);
    }
  }
  if (next == partition) return std::nullopt;
  return with_raised_epochs(partition, std::move(next));
}

}  // namespace trilog
