// ConsumePartitions: where one Consume stream stands in each of its partitions. Pure bookkeeping; not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/api/requests.h"
#include "broker/broker.h"

namespace trilog::grpc_edge {

struct ConsumePartition {
  std::string topic;
  PartitionId partition{0};
  std::optional<Offset> next;  // absent: the first available record
  uint64_t version = 0;        // grows with every seek: what was fetched for an older one is dropped
  bool paused = false;
  bool failed = false;   // rests until a seek
  bool seeking = false;  // its new position is being looked up
  bool caught_up = false;
  // As last seen, for heartbeats.
  api::FetchedPartition seen;
  bool active() const { return !paused && !failed && !seeking; }
};

class ConsumePartitions {
 public:
  // Index of the partition, made if it is new.
  size_t add(const std::string& topic, PartitionId partition);
  std::optional<size_t> find(const std::string& topic, PartitionId partition) const;
  ConsumePartition& at(size_t index) { return partitions_[index]; }
  size_t size() const { return partitions_.size(); }
  // Adds the partitions that `topics` have got by now.
  void follow(const std::vector<std::string>& topics, const ImagePtr& image);

  // The next fetch over all active partitions, beginning with another one each time, so that a busy partition does not
  // starve the rest. `indexes` and `versions` say what each position stands for.
  struct Round {
    std::vector<api::Position> positions;
    std::vector<size_t> indexes;
    std::vector<uint64_t> versions;
    bool all_caught_up = true;
  };
  Round next_round();

  // From now on reads from `next`; nothing fetched before counts.
  void seek(size_t index, std::optional<Offset> next);

  // For heartbeats: what to ask for, and what was answered.
  api::ListOffsetsRequest end_queries() const;
  void take_ends(const std::vector<api::ListedOffset>& ends);

 private:
  std::vector<ConsumePartition> partitions_;
  std::map<std::pair<std::string, PartitionId>, size_t> index_;
  size_t turn_ = 0;
  ImagePtr followed_;
};

}  // namespace trilog::grpc_edge
