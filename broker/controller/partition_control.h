// Partitions: changes that their leaders, hearings and operators ask for (rules C2, C7, C8, C11, C14, R8). Each adds
// the records that make it, or refuses.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "broker/controller/controller.h"
#include "broker/controller/planned_state.h"
#include "proto/kafka/peer_messages.h"

namespace trilog {

// Each partition by itself; the answer tells the state that each will have then.
peer::AlterPartitionAnswer plan_alter_partitions(PlannedState& state, const peer::AlterPartitionRequest& request);

// The outcome of a hearing: valid only while the partition and the leader's process are those that were heard.
struct HeardElection {
  TopicPartition partition;
  PartitionEpoch partition_epoch{-1};
  BrokerId leader = kNoBroker;
  BrokerEpoch leader_process{-1};
};
void plan_heard_elections(PlannedState& state, const std::vector<HeardElection>& elections);

// UNKNOWN_TOPIC, UNKNOWN_PARTITION, INVALID_REQUEST (it is not in sync, or not up).
api::Answer<api::MoveLeaderResult> plan_move_leader(PlannedState& state, const api::MoveLeaderRequest& request);
// The same, and INVALID_REQUEST if the partition has a leader: then nothing has to be lost. `request.leader` is set.
api::Answer<api::ElectLeaderResult> plan_elect_with_loss(PlannedState& state, const api::ElectLeaderRequest& request,
                                                         int64_t now_ms);

// C14: up to `moves_max` partitions go back to the first replica of their assignment, if that is one of `returned`,
// each as plan_move_leader() does it; not those in `kept`. How many did. None, and nothing is lost by it, while
// all_in_sync() does not hold.
size_t plan_preferred_leaders(PlannedState& state, const std::set<BrokerId>& returned,
                              const std::set<TopicPartition>& kept, size_t moves_max);
// Every partition has a leader and all its replicas in sync, and none of these is down, shutting down or recovering.
bool all_in_sync(const std::vector<const TopicImage*>& topics, const std::map<BrokerId, BrokerImage>& brokers);

// The partition as requested, or what is wrong.
api::Answer<TopicPartition> find_partition(const PlannedState& state, const std::string& topic, PartitionId partition);

}  // namespace trilog
