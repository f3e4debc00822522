// Images for tests: cluster with so many brokers, topics by hand.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "broker/metadata/metadata_image.h"
#include "storage/base/check.h"

namespace trilog::testing {

class ImageBuilder {
 public:
  ImageBuilder() : image_(std::make_shared<const MetadataImage>()) {}
  explicit ImageBuilder(int brokers) : ImageBuilder() {
    for (int id = 1; id <= brokers; ++id) broker(id);
  }
  ImageBuilder& add(const MetadataRecord& record) {
    MetadataDelta delta(image_);
    Status applied = delta.apply(record, Offset(next_++));
    CHECK(applied.ok());
    image_ = delta.build();
    return *this;
  }
  ImageBuilder& add_all(const std::vector<MetadataRecord>& records) {
    MetadataDelta delta(image_);
    for (const MetadataRecord& record : records) CHECK(delta.apply(record, Offset(next_++)).ok());
    image_ = delta.build();
    return *this;
  }
  ImageBuilder& broker(int id, bool up = true) {
    add(RegisterBrokerRecord{BrokerId(id), DirectoryId(7, static_cast<uint64_t>(id)), "host:" + std::to_string(id),
                             "1"});
    if (up) add(FenceBrokerRecord{BrokerId(id), BrokerEpoch(next_ - 1), false});
    return *this;
  }
  ImageBuilder& topic(const std::string& name, std::vector<PartitionImage> partitions, bool internal = false) {
    TopicId id(1, static_cast<uint64_t>(next_ + 1));
    add(TopicRecord{id, name, api::Durability::kSynced, internal});
    std::vector<MetadataRecord> records;
    for (size_t p = 0; p < partitions.size(); ++p) {
      records.push_back(partition_record(id, PartitionId(static_cast<int32_t>(p)), partitions[p]));
    }
    return add_all(records);
  }
  ImagePtr build() const { return image_; }
  Offset next_offset() const { return Offset(next_); }

 private:
  ImagePtr image_;
  int64_t next_ = 0;
};

inline std::vector<BrokerId> brokers(std::initializer_list<int> ids) {
  std::vector<BrokerId> list;
  for (int id : ids) list.push_back(BrokerId(id));
  return list;
}

inline PartitionImage partition(std::initializer_list<int> replicas, std::initializer_list<int> isr, int leader,
                                std::initializer_list<int> elr = {}) {
  PartitionImage made;
  made.replicas = brokers(replicas);
  made.isr = brokers(isr);
  made.elr = brokers(elr);
  made.leader = BrokerId(leader);
  made.leader_epoch = LeaderEpoch(5);
  made.partition_epoch = PartitionEpoch(9);
  return made;
}

}  // namespace trilog::testing
