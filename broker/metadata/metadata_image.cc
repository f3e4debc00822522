#include "broker/metadata/metadata_image.h"

#include <algorithm>

#include "storage/base/crc32c.h"
#include "storage/base/names.h"

namespace trilog {

PartitionRecord partition_record(const TopicId& topic, PartitionId partition, const PartitionImage& image) {
  return {topic,         partition,        image.replicas,     image.isr,
          image.elr,     image.leader,     image.leader_epoch, image.partition_epoch,
          image.unclean, image.loss_epoch, image.recovering};
}

PartitionImage partition_image(const PartitionRecord& record) {
  return {record.replicas,        record.isr,     record.elr,        record.leader,    record.leader_epoch,
          record.partition_epoch, record.unclean, record.loss_epoch, record.recovering};
}

std::string leaderless_text(const std::string& name, const PartitionImage& image) {
  std::string text = "partition " + name + " has no leader now";
  if (image.nobody_trusted()) {
    text += ", and nobody is known to have all records; trilog partition elect " + name + " --accept-loss";
  }
  return text;
}

BrokerImage registered_broker(const RegisterBrokerRecord& record, BrokerEpoch epoch, const BrokerImage* before) {
  BrokerImage broker;
  broker.id = record.broker;
  broker.directory = record.directory;
  broker.epoch = epoch;
  broker.address = record.address;
  broker.version = record.version;
  broker.peer_address = record.peer_address;
  broker.rack = record.rack;
  // A new data folder knows nothing of the processes before it.
  if (before != nullptr && before->directory == record.directory) broker.active_epoch = before->active_epoch;
  return broker;
}

void fence_broker(BrokerImage& broker, const FenceBrokerRecord& record) {
  broker.epoch = record.epoch;
  broker.fenced = record.fenced;
  broker.draining = record.draining;
  if (record.active_epoch != BrokerEpoch(-1)) broker.active_epoch = record.active_epoch;
  if (!record.fenced) broker.active_epoch = record.epoch;
}

const TopicImage* MetadataImage::find_topic(std::string_view name) const {
  auto it = topics_by_name_.find(name);
  return it == topics_by_name_.end() ? nullptr : it->second.get();
}

const TopicImage* MetadataImage::find_topic(const TopicId& id) const {
  auto it = topics_by_id_.find(id);
  return it == topics_by_id_.end() ? nullptr : it->second.get();
}

const BrokerImage* MetadataImage::find_broker(BrokerId id) const {
  auto it = brokers_.find(id);
  return it == brokers_.end() ? nullptr : &it->second;
}

std::vector<std::string> MetadataImage::similar_topics(std::string_view name) const {
  std::vector<std::string> names;
  for (const auto& [topic_name, topic] : topics_by_name_) {
    if (!topic->internal) names.push_back(topic_name);
  }
  return similar_names(name, names, 3);
}

std::vector<MetadataRecord> MetadataImage::to_records() const {
  std::vector<MetadataRecord> records;
  for (const auto& [id, broker] : brokers_) {
    records.push_back(
        RegisterBrokerRecord{id, broker.directory, broker.address, broker.version, broker.peer_address, broker.rack});
    BrokerEpoch active = broker.fenced ? broker.active_epoch : BrokerEpoch(-1);
    records.push_back(FenceBrokerRecord{id, broker.epoch, broker.fenced, broker.draining, active});
  }
  for (const auto& [id, topic] : topics_by_id_) {
    records.push_back(TopicRecord{id, topic->name, topic->durability, topic->internal});
    for (const auto& [name, value] : topic->configs) records.push_back(TopicConfigRecord{id, name, value});
    for (size_t p = 0; p < topic->partitions.size(); ++p) {
      records.push_back(partition_record(id, PartitionId(static_cast<int32_t>(p)), topic->partitions[p]));
    }
  }
  records.push_back(ProducerIdsRecord{next_producer_id_});
  if (recovery_) records.push_back(*recovery_);
  records.insert(records.end(), audit_.begin(), audit_.end());
  return records;
}

uint64_t MetadataImage::digest() const {
  uint64_t digest = static_cast<uint64_t>(applied_.value());
  for (const MetadataRecord& record : to_records()) {
    Bytes bytes = encode_metadata_record(record);
    digest = digest * 0x9e3779b97f4a7c15ULL + crc32c(bytes, static_cast<uint32_t>(digest >> 32));
  }
  return digest;
}

MetadataDelta::MetadataDelta(std::shared_ptr<const MetadataImage> base)
    : base_(std::move(base)), next_(std::make_unique<MetadataImage>(*base_)) {}

// The topic as it will be, copied at its first change; null if there is none.
TopicImage* MetadataDelta::edit(const TopicId& id) {
  if (auto it = edited_.find(id); it != edited_.end()) return it->second.get();
  auto it = next_->topics_by_id_.find(id);
  if (it == next_->topics_by_id_.end()) return nullptr;
  auto copy = std::make_shared<TopicImage>(*it->second);
  edited_.emplace(id, copy);
  changed_topics_.insert(id);
  next_->topics_by_id_[id] = copy;
  next_->topics_by_name_[copy->name] = copy;
  return copy.get();
}

namespace {

// A4: only replicas are in sync, and those that left are not.
bool members_add_up(const PartitionRecord& partition) {
  auto in = [](const std::vector<BrokerId>& ids, BrokerId id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  for (BrokerId id : partition.isr) {
    if (!in(partition.replicas, id) || in(partition.elr, id)) return false;
  }
  return true;
}

Status cannot_follow(const MetadataRecord& record, Offset offset) {
  return Status(Errc::kCorruption, "metadata record at offset " + std::to_string(offset.value()) +
                                       " cannot follow from the state before it: " + describe_metadata_record(record));
}

}  // namespace

Status MetadataDelta::apply(const MetadataRecord& record, Offset offset) {
  next_->applied_ = std::max(next_->applied_, offset);
  if (const auto* r = std::get_if<RegisterBrokerRecord>(&record)) {
    auto before = next_->brokers_.find(r->broker);
    next_->brokers_[r->broker] =
        registered_broker(*r, BrokerEpoch(offset.value()), before == next_->brokers_.end() ? nullptr : &before->second);
    brokers_changed_ = true;
  } else if (const auto* fence = std::get_if<FenceBrokerRecord>(&record)) {
    auto it = next_->brokers_.find(fence->broker);
    if (it == next_->brokers_.end()) return cannot_follow(record, offset);
    fence_broker(it->second, *fence);
    brokers_changed_ = true;
  } else if (const auto* topic = std::get_if<TopicRecord>(&record)) {
    if (next_->topics_by_id_.contains(topic->id) || next_->topics_by_name_.contains(topic->name)) {
      return cannot_follow(record, offset);
    }
    auto made = std::make_shared<TopicImage>();
    made->id = topic->id;
    made->name = topic->name;
    made->durability = topic->durability;
    made->internal = topic->internal;
    edited_.emplace(topic->id, made);
    changed_topics_.insert(topic->id);
    next_->topics_by_id_[topic->id] = made;
    next_->topics_by_name_[topic->name] = made;
  } else if (const auto* config = std::get_if<TopicConfigRecord>(&record)) {
    TopicImage* edited = edit(config->topic);
    if (edited == nullptr) return cannot_follow(record, offset);
    if (config->value) {
      edited->configs[config->name] = *config->value;
    } else {
      edited->configs.erase(config->name);
    }
  } else if (const auto* partition = std::get_if<PartitionRecord>(&record)) {
    TopicImage* edited = edit(partition->topic);
    auto index = static_cast<size_t>(partition->partition.value());
    if (edited == nullptr || partition->partition.value() < 0 || index > edited->partitions.size() ||
        !members_add_up(*partition)) {
      return cannot_follow(record, offset);
    }
    PartitionImage image = partition_image(*partition);
    if (index == edited->partitions.size()) {
      edited->partitions.push_back(std::move(image));
    } else {
      // A5: epochs only go up.
      if (image.partition_epoch < edited->partitions[index].partition_epoch ||
          image.leader_epoch < edited->partitions[index].leader_epoch) {
        return cannot_follow(record, offset);
      }
      edited->partitions[index] = std::move(image);
    }
  } else if (const auto* remove = std::get_if<RemoveTopicRecord>(&record)) {
    auto it = next_->topics_by_id_.find(remove->id);
    if (it == next_->topics_by_id_.end()) return cannot_follow(record, offset);
    std::shared_ptr<const TopicImage> gone = it->second;
    next_->topics_by_name_.erase(gone->name);
    next_->topics_by_id_.erase(it);
    edited_.erase(remove->id);
    changed_topics_.erase(remove->id);
    removed_topics_.emplace(remove->id, std::move(gone));
  } else if (const auto* ids = std::get_if<ProducerIdsRecord>(&record)) {
    if (ids->next < next_->next_producer_id_) return cannot_follow(record, offset);
    next_->next_producer_id_ = ids->next;
  } else if (const auto* audit = std::get_if<AuditRecord>(&record)) {
    next_->audit_.push_back(*audit);
    if (next_->audit_.size() > kAuditRecordsMax) next_->audit_.pop_front();
  } else if (const auto* recovery = std::get_if<QuorumRecoveryRecord>(&record)) {
    if (next_->recovery_ && recovery->number < next_->recovery_->number) return cannot_follow(record, offset);
    next_->recovery_ = *recovery;
  }
  return {};
}

void MetadataDelta::replaces(const MetadataImage& old) {
  for (const auto& [id, topic] : old.topics_by_id_) {
    if (!next_->topics_by_id_.contains(id)) removed_topics_.emplace(id, topic);
  }
}

std::shared_ptr<const MetadataImage> MetadataDelta::build() {
  for (auto& [id, topic] : edited_) {
    auto replicas = topic->partitions.empty() ? 1 : topic->partitions.front().replicas.size();
    topic->settings = resolve_topic_settings(topic->configs, topic->durability, static_cast<int32_t>(replicas));
  }
  edited_.clear();  // nobody may change what is published
  return std::shared_ptr<const MetadataImage>(std::move(next_));
}

}  // namespace trilog
