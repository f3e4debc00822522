#include "broker/controller/broker_control.h"

#include <algorithm>
#include <utility>

#include "broker/controller/leader_election.h"

namespace trilog {

namespace {

bool contains(const std::vector<BrokerId>& brokers, BrokerId broker) {
  return std::find(brokers.begin(), brokers.end(), broker) != brokers.end();
}

}  // namespace

std::optional<PartitionImage> after_restart(const PartitionImage& partition, BrokerId broker,
                                            const std::set<BrokerId>& eligible) {
  PartitionImage next = partition;
  bool last_in_sync = partition.isr.size() == 1 && partition.isr.front() == broker;
  if (!last_in_sync) {
    std::erase(next.isr, broker);
    // The last candidates stay candidates: who lost its tail is found out before one of them is elected.
    if (!next.isr.empty()) std::erase(next.elr, broker);
  }
  if (next.leader == broker) next.leader = kNoBroker;
  // Nobody is taken from the ELR here: after a restart its members are asked how far they come first (C8).
  auto elected = next.isr.empty() ? std::nullopt : elect_leader(next, eligible);
  if (elected) {
    next.leader = elected->leader;
    next.isr = elected->isr;
    next.elr = elected->elr;
  }
  // A leader that is elected again after a restart leads in a new epoch: the old process' appends are of another one.
  bool new_leadership = partition.leader == broker || next.leader == broker;
  if (next == partition && !new_leadership) return std::nullopt;
  return with_raised_epochs(partition, std::move(next), new_leadership);
}

api::Answer<BrokerEpoch> plan_registration(PlannedState& state, const Registration& registration, bool caught_up) {
  const BrokerImage* known = state.find_broker(registration.broker);
  if (known != nullptr && known->directory != registration.directory && !known->fenced) {
    return api::Error(api::ErrorCode::kInvalidRequest,
                      "node " + std::to_string(registration.broker.value()) + " is registered with data folder " +
                          known->directory.to_string() + "; this one is " + registration.directory.to_string() +
                          ": give every node an id of its own");
  }
  BrokerEpoch epoch(state.next_offset().value());
  state.add(
      RegisterBrokerRecord{registration.broker, registration.directory, registration.address, registration.version});
  if (caught_up) state.add(FenceBrokerRecord{registration.broker, epoch, false});
  std::set<BrokerId> eligible = state.brokers_up();
  std::vector<PartitionRecord> changes;
  for (const TopicImage* topic : state.topics()) {
    for (size_t p = 0; p < topic->partitions.size(); ++p) {
      const PartitionImage& partition = topic->partitions[p];
      if (!contains(partition.replicas, registration.broker)) continue;
      auto next = after_restart(partition, registration.broker, eligible);
      if (!next) continue;
      changes.push_back({topic->id, PartitionId(static_cast<int32_t>(p)), next->replicas, next->isr, next->elr,
                         next->leader, next->leader_epoch, next->partition_epoch});
    }
  }
  for (PartitionRecord& change : changes) state.add(std::move(change));
  return epoch;
}

}  // namespace trilog
