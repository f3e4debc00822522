// PlannedState: the newest committed image plus the records of operations that are about to be proposed together, so
// that each is computed against what the ones before it will have made (C1). It is thrown away after the proposal; only
// applying the committed records changes the image.
//
// Copies are independent of each other. It keeps only what differs from the image, because a copy of an image of ten
// thousand topics per operation would cost more than the operation.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "broker/controller/leader_election.h"
#include "broker/controller/replica_placement.h"
#include "broker/metadata/metadata_image.h"

namespace trilog {

class PlannedState {
 public:
  // `next_offset`: where the first record will be.
  PlannedState(ImagePtr image, Offset next_offset) : image_(std::move(image)), first_offset_(next_offset) {}

  const MetadataImage& image() const { return *image_; }
  // Valid until the topic is changed.
  const TopicImage* find_topic(std::string_view name) const;
  const BrokerImage* find_broker(BrokerId id) const;
  const std::map<BrokerId, BrokerImage>& brokers() const;
  ProducerId next_producer_id() const { return next_producer_id_.value_or(image_->next_producer_id()); }
  // A topic whose name differs from `name` only in '.' against '_'.
  const TopicImage* find_colliding(std::string_view name) const;
  // In order of name. The pointers are valid until a topic is changed.
  std::vector<const TopicImage*> topics() const;
  size_t topic_count() const;
  int64_t partition_count() const;
  // What the brokers carry, counted once; whoever places replicas brings it up to date. Topics that are removed
  // meanwhile count until the next proposal.
  std::map<BrokerId, BrokerLoad>& loads();
  LiveBrokers live() const;
  const TopicImage* find_topic(const TopicId& id) const;

  // Where the next record that is added will be.
  Offset next_offset() const { return first_offset_ + static_cast<int64_t>(records_.size()); }
  // Adds a record to the proposal and changes the state as the image will change. The record follows from the state.
  void add(MetadataRecord record);
  const std::vector<MetadataRecord>& records() const { return records_; }

 private:
  TopicImage& edit(const TopicId& id);
  std::map<BrokerId, BrokerImage>& edit_brokers();

  ImagePtr image_;
  const Offset first_offset_;
  std::vector<MetadataRecord> records_;
  std::map<std::string, std::shared_ptr<TopicImage>, std::less<>> changed_;  // by name; null: removed
  std::map<TopicId, std::string> changed_names_;
  std::optional<std::map<BrokerId, BrokerImage>> brokers_;
  std::optional<ProducerId> next_producer_id_;
  mutable std::optional<int64_t> image_partitions_;
  std::optional<std::map<BrokerId, BrokerLoad>> loads_;
};

}  // namespace trilog
