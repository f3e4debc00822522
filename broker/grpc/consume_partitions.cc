#include "broker/grpc/consume_partitions.h"

namespace trilog::grpc_edge {

size_t ConsumePartitions::add(const std::string& topic, PartitionId partition) {
  auto [entry, is_new] = index_.try_emplace({topic, partition}, partitions_.size());
  if (is_new) {
    ConsumePartition& added = partitions_.emplace_back();
    added.topic = topic;
    added.partition = partition;
    added.seen.topic = topic;
    added.seen.partition = partition;
  }
  return entry->second;
}

std::optional<size_t> ConsumePartitions::find(const std::string& topic, PartitionId partition) const {
  auto entry = index_.find({topic, partition});
  if (entry == index_.end()) return std::nullopt;
  return entry->second;
}

void ConsumePartitions::follow(const std::vector<std::string>& topics, const ImagePtr& image) {
  if (image == followed_) return;
  followed_ = image;
  for (const std::string& name : topics) {
    const TopicImage* topic = image ? image->find_topic(name) : nullptr;
    if (topic == nullptr) continue;
    for (size_t i = 0; i < topic->partitions.size(); ++i) add(name, PartitionId(static_cast<int32_t>(i)));
  }
}

ConsumePartitions::Round ConsumePartitions::next_round() {
  Round round;
  if (partitions_.empty()) return round;
  turn_ = (turn_ + 1) % partitions_.size();
  for (size_t i = 0; i < partitions_.size(); ++i) {
    size_t index = (turn_ + i) % partitions_.size();
    const ConsumePartition& partition = partitions_[index];
    if (!partition.active()) continue;
    api::Position& position = round.positions.emplace_back();
    position.topic = partition.topic;
    position.partition = partition.partition;
    position.offset = partition.next;
    round.indexes.push_back(index);
    round.versions.push_back(partition.version);
    round.all_caught_up = round.all_caught_up && partition.caught_up;
  }
  return round;
}

void ConsumePartitions::seek(size_t index, std::optional<Offset> next) {
  ConsumePartition& partition = partitions_[index];
  partition.next = next;
  ++partition.version;
  partition.failed = false;
  partition.seeking = false;
  partition.caught_up = false;
}

api::ListOffsetsRequest ConsumePartitions::end_queries() const {
  api::ListOffsetsRequest request{.topic = {}, .queries = {}, .spec = api::OffsetSpec::kLatest};
  for (const ConsumePartition& partition : partitions_) {
    if (!partition.failed) request.queries.push_back({partition.topic, partition.partition, 0});
  }
  return request;
}

void ConsumePartitions::take_ends(const std::vector<api::ListedOffset>& ends) {
  for (const api::ListedOffset& end : ends) {
    std::optional<size_t> index = find(end.topic, end.partition);
    if (index && !end.error) partitions_[*index].seen.high_watermark = end.offset;
  }
}

}  // namespace trilog::grpc_edge
