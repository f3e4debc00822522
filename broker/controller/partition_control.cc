#include "broker/controller/partition_control.h"

#include <algorithm>
#include <string>
#include <utility>

#include "broker/controller/isr_control.h"

namespace trilog {

using api::Error;
using api::ErrorCode;
using peer::PeerError;

namespace {

const PartitionImage* partition_of(const TopicImage* topic, PartitionId partition) {
  if (topic == nullptr || partition.value() < 0) return nullptr;
  auto index = static_cast<size_t>(partition.value());
  return index < topic->partitions.size() ? &topic->partitions[index] : nullptr;
}

peer::AlteredPartition alter_one(PlannedState& state, BrokerId sender, const peer::AlterPartition& asked) {
  peer::AlteredPartition answer;
  answer.partition = asked.partition;
  // C11: by id. A topic that was made again under the same name is another one.
  const TopicImage* topic = state.find_topic(asked.partition.topic);
  const PartitionImage* image = partition_of(topic, asked.partition.partition);
  if (image == nullptr) {
    answer.error = PeerError::kUnknownPartition;
    return answer;
  }
  const int32_t minimum = min_in_sync(*topic);
  AlterVerdict verdict = alter_isr(*image, sender, asked, state.brokers(), minimum);
  answer.error = verdict.error;
  const PartitionImage after = verdict.next ? *verdict.next : *image;
  if (verdict.next) state.add(partition_record(asked.partition.topic, asked.partition.partition, after));
  answer.leader = after.leader;
  answer.leader_epoch = after.leader_epoch;
  answer.partition_epoch = after.partition_epoch;
  answer.isr = after.isr;
  answer.elr = after.elr;
  answer.min_in_sync = minimum;
  return answer;
}

}  // namespace

peer::AlterPartitionAnswer plan_alter_partitions(PlannedState& state, const peer::AlterPartitionRequest& request) {
  peer::AlterPartitionAnswer answer;
  const BrokerImage* sender = state.find_broker(request.broker);
  if (sender == nullptr || sender->epoch != request.epoch || sender->fenced) {
    bool newer = sender != nullptr && request.epoch > sender->epoch;
    answer.error = newer ? PeerError::kNotController : PeerError::kStaleBrokerEpoch;
    return answer;
  }
  for (const peer::AlterPartition& asked : request.partitions) {
    answer.partitions.push_back(alter_one(state, request.broker, asked));
  }
  return answer;
}

void plan_heard_elections(PlannedState& state, const std::vector<HeardElection>& elections) {
  for (const HeardElection& election : elections) {
    const TopicImage* topic = state.find_topic(election.partition.topic);
    const PartitionImage* image = partition_of(topic, election.partition.partition);
    const BrokerImage* leader = state.find_broker(election.leader);
    if (image == nullptr || image->partition_epoch != election.partition_epoch) continue;
    if (leader == nullptr || !leader->eligible() || leader->epoch != election.leader_process) continue;
    const int32_t minimum = min_in_sync(*topic);
    if (!needs_hearing(*image, minimum) || !contains(image->elr, election.leader)) continue;
    state.add(partition_record(election.partition.topic, election.partition.partition,
                               elect_heard(*image, election.leader, minimum)));
  }
}

api::Answer<TopicPartition> find_partition(const PlannedState& state, const std::string& topic, PartitionId partition) {
  const TopicImage* found = state.find_topic(topic);
  if (found == nullptr) return Error(ErrorCode::kUnknownTopic, "no topic " + topic).with_detail("topic", topic);
  if (partition_of(found, partition) == nullptr) {
    return Error(ErrorCode::kUnknownPartition, "topic " + topic + " has " + std::to_string(found->partitions.size()) +
                                                   " partitions, from 0; there is no " +
                                                   std::to_string(partition.value()))
        .with_detail("topic", topic);
  }
  return TopicPartition{found->id, partition};
}

namespace {

std::string list_text(const std::vector<BrokerId>& brokers) {
  std::string text;
  for (BrokerId broker : brokers) text += (text.empty() ? "" : ", ") + std::to_string(broker.value());
  return text.empty() ? "nobody" : text;
}

std::string partition_text(const std::string& topic, PartitionId partition) {
  return topic + "/" + std::to_string(partition.value());
}

}  // namespace

api::Answer<api::MoveLeaderResult> plan_move_leader(PlannedState& state, const api::MoveLeaderRequest& request) {
  api::Answer<TopicPartition> found = find_partition(state, request.topic, request.partition);
  if (!found.ok()) return std::move(found.error());
  const PartitionImage& image = *partition_of(state.find_topic(found->topic), request.partition);
  const std::string name = partition_text(request.topic, request.partition);
  const std::string to = "node " + std::to_string(request.to.value());
  if (!contains(image.isr, request.to)) {
    return Error(ErrorCode::kInvalidRequest,
                 to + " is not in sync with partition " + name + "; in sync: " + list_text(image.isr));
  }
  const BrokerImage* broker = state.find_broker(request.to);
  if (broker == nullptr || !broker->eligible()) {
    return Error(ErrorCode::kInvalidRequest,
                 to + " is down or shutting down; partition " + name + " stays where it is");
  }
  api::MoveLeaderResult result{image.leader, image.leader_epoch, false};
  if (image.leader == request.to) return result;
  PartitionImage next = move_leadership(image, request.to);
  result = {next.leader, next.leader_epoch, true};
  if (!request.validate_only) state.add(partition_record(found->topic, request.partition, next));
  return result;
}

bool all_in_sync(const std::vector<const TopicImage*>& topics, const std::map<BrokerId, BrokerImage>& brokers) {
  auto up = [&](BrokerId replica) {
    auto found = brokers.find(replica);
    return found != brokers.end() && found->second.eligible();
  };
  return std::all_of(topics.begin(), topics.end(), [&](const TopicImage* topic) {
    return std::all_of(topic->partitions.begin(), topic->partitions.end(), [&](const PartitionImage& partition) {
      return partition.leader != kNoBroker && !partition.recovering &&
             partition.isr.size() == partition.replicas.size() &&
             std::all_of(partition.replicas.begin(), partition.replicas.end(), up);
    });
  });
}

size_t plan_preferred_leaders(PlannedState& state, const std::set<BrokerId>& returned,
                              const std::set<TopicPartition>& kept, size_t moves_max) {
  if (!all_in_sync(state.topics(), state.brokers())) return 0;
  std::vector<api::MoveLeaderRequest> moves;
  for (const TopicImage* topic : state.topics()) {
    for (size_t p = 0; p < topic->partitions.size() && moves.size() < moves_max; ++p) {
      const PartitionImage& partition = topic->partitions[p];
      const PartitionId id(static_cast<int32_t>(p));
      const BrokerId first = partition.replicas.front();
      if (partition.leader == first || !returned.contains(first) || kept.contains({topic->id, id})) continue;
      moves.push_back({topic->name, id, first, false});
    }
  }
  size_t moved = 0;
  for (const api::MoveLeaderRequest& move : moves) moved += plan_move_leader(state, move).ok() ? 1 : 0;
  return moved;
}

api::Answer<api::ElectLeaderResult> plan_elect_with_loss(PlannedState& state, const api::ElectLeaderRequest& request,
                                                         int64_t now_ms) {
  api::Answer<TopicPartition> found = find_partition(state, request.topic, request.partition);
  if (!found.ok()) return std::move(found.error());
  const PartitionImage& image = *partition_of(state.find_topic(found->topic), request.partition);
  const std::string name = partition_text(request.topic, request.partition);
  if (image.leader != kNoBroker) {
    return Error(ErrorCode::kInvalidRequest, "partition " + name + " is led by node " +
                                                 std::to_string(image.leader.value()) + "; nothing has to be given up");
  }
  const BrokerId leader = *request.leader;
  const BrokerImage* broker = state.find_broker(leader);
  if (!contains(image.replicas, leader) || broker == nullptr || !broker->eligible()) {
    return Error(ErrorCode::kInvalidRequest,
                 "node " + std::to_string(leader.value()) + " cannot lead partition " + name +
                     ": it has no replica of it, or is down; replicas: " + list_text(image.replicas));
  }
  PartitionImage next = elect_with_loss(image, leader);
  if (!request.validate_only) {
    AuditRecord audit{
        AuditRecord::Kind::kUncleanElection, now_ms, found->topic, request.partition, leader, next.leader_epoch};
    audit.text = "partition " + name + ": in sync was " + list_text(image.isr) + ", eligible " + list_text(image.elr);
    state.add(std::move(audit));
    state.add(partition_record(found->topic, request.partition, next));
  }
  api::ElectLeaderResult result;
  result.leader = leader;
  result.leader_epoch = next.leader_epoch;
  result.trusted = image.isr;
  result.trusted.insert(result.trusted.end(), image.elr.begin(), image.elr.end());
  if (result.trusted.empty()) result.trusted = image.replicas;  // nobody knows who had everything
  return result;
}

}  // namespace trilog
