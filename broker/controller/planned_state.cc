#include "broker/controller/planned_state.h"

#include <algorithm>
#include <utility>

#include "storage/base/check.h"

namespace trilog {

namespace {

bool same_but_for_dots(std::string_view a, std::string_view b) {
  auto one = [](char c) { return c == '.' ? '_' : c; };
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [&](char x, char y) { return one(x) == one(y); });
}

}  // namespace

const TopicImage* PlannedState::find_topic(std::string_view name) const {
  if (auto changed = changed_.find(name); changed != changed_.end()) return changed->second.get();
  return image_->find_topic(name);
}

const TopicImage* PlannedState::find_topic(const TopicId& id) const {
  if (auto changed = changed_names_.find(id); changed != changed_names_.end()) return find_topic(changed->second);
  const TopicImage* topic = image_->find_topic(id);
  if (topic == nullptr) return nullptr;
  // Removed by a record of this proposal, with or without another one made under its name.
  auto removed = changed_.find(topic->name);
  return removed == changed_.end() ? topic : nullptr;
}

const std::map<BrokerId, BrokerImage>& PlannedState::brokers() const {
  return brokers_ ? *brokers_ : image_->brokers();
}

const BrokerImage* PlannedState::find_broker(BrokerId id) const {
  auto found = brokers().find(id);
  return found == brokers().end() ? nullptr : &found->second;
}

std::vector<const TopicImage*> PlannedState::topics() const {
  std::vector<const TopicImage*> all;
  for (const auto& [name, topic] : image_->topics()) {
    if (!changed_.contains(name)) all.push_back(topic.get());
  }
  for (const auto& [name, topic] : changed_) {
    if (topic != nullptr) all.push_back(topic.get());
  }
  std::sort(all.begin(), all.end(), [](const TopicImage* a, const TopicImage* b) { return a->name < b->name; });
  return all;
}

const TopicImage* PlannedState::find_colliding(std::string_view name) const {
  if (name.find_first_of("._") == std::string_view::npos) return nullptr;
  for (const auto& [other, topic] : changed_) {
    if (topic != nullptr && other != name && same_but_for_dots(other, name)) return topic.get();
  }
  for (const auto& [other, topic] : image_->topics()) {
    if (other != name && same_but_for_dots(other, name) && !changed_.contains(other)) return topic.get();
  }
  return nullptr;
}

size_t PlannedState::topic_count() const {
  size_t count = image_->topics().size();
  for (const auto& [name, topic] : changed_) {
    bool before = image_->topics().contains(name);
    if (topic != nullptr && !before) ++count;
    if (topic == nullptr && before) --count;
  }
  return count;
}

int64_t PlannedState::partition_count() const {
  if (!image_partitions_) {
    image_partitions_ = 0;
    for (const auto& [name, topic] : image_->topics())
      *image_partitions_ += static_cast<int64_t>(topic->partitions.size());
  }
  int64_t count = *image_partitions_;
  for (const auto& [name, topic] : changed_) {
    if (topic != nullptr) count += static_cast<int64_t>(topic->partitions.size());
    if (const TopicImage* before = image_->find_topic(name)) count -= static_cast<int64_t>(before->partitions.size());
  }
  return count;
}

std::map<BrokerId, BrokerLoad>& PlannedState::loads() {
  if (loads_) return *loads_;
  std::map<BrokerId, BrokerLoad>& loads = loads_.emplace();
  for (const auto& [id, broker] : brokers()) {
    loads[id].up = broker.eligible();
    loads[id].rack = broker.rack;
  }
  if (loads.size() < 2) return loads;  // nothing to compare
  for (const TopicImage* topic : topics()) {
    for (const PartitionImage& partition : topic->partitions) {
      for (BrokerId replica : partition.replicas) {
        auto load = loads.find(replica);
        if (load == loads.end()) continue;
        ++load->second.replicas;
        if (replica == partition.replicas.front()) ++load->second.leaders;
      }
    }
  }
  return loads;
}

LiveBrokers PlannedState::live() const {
  LiveBrokers live;
  for (const auto& [id, broker] : brokers()) {
    if (!broker.fenced) live.up.insert(id);
    if (broker.eligible()) live.eligible.insert(id);
  }
  return live;
}

// Copies of a PlannedState share their topics until one of them changes one.
TopicImage& PlannedState::edit(const TopicId& id) {
  if (auto known = changed_names_.find(id); known != changed_names_.end()) {
    std::shared_ptr<TopicImage>& topic = changed_.at(known->second);
    if (topic.use_count() > 1) topic = std::make_shared<TopicImage>(*topic);
    return *topic;
  }
  const TopicImage* topic = image_->find_topic(id);
  CHECK(topic != nullptr);
  changed_names_[id] = topic->name;
  return *(changed_[topic->name] = std::make_shared<TopicImage>(*topic));
}

std::map<BrokerId, BrokerImage>& PlannedState::edit_brokers() {
  if (!brokers_) brokers_ = image_->brokers();
  loads_.reset();
  return *brokers_;
}

void PlannedState::add(MetadataRecord record) {
  if (const auto* broker = std::get_if<RegisterBrokerRecord>(&record)) {
    BrokerEpoch epoch(next_offset().value());
    const BrokerImage* before = find_broker(broker->broker);
    BrokerImage made = registered_broker(*broker, epoch, before);
    edit_brokers()[broker->broker] = std::move(made);
  } else if (const auto* fence = std::get_if<FenceBrokerRecord>(&record)) {
    fence_broker(edit_brokers().at(fence->broker), *fence);
  } else if (const auto* topic = std::get_if<TopicRecord>(&record)) {
    auto made = std::make_shared<TopicImage>();
    made->id = topic->id;
    made->name = topic->name;
    made->durability = topic->durability;
    made->internal = topic->internal;
    changed_names_[topic->id] = topic->name;
    changed_[topic->name] = std::move(made);
  } else if (const auto* config = std::get_if<TopicConfigRecord>(&record)) {
    TopicImage& edited = edit(config->topic);
    if (config->value) {
      edited.configs[config->name] = *config->value;
    } else {
      edited.configs.erase(config->name);
    }
  } else if (const auto* part = std::get_if<PartitionRecord>(&record)) {
    std::vector<PartitionImage>& partitions = edit(part->topic).partitions;
    auto index = static_cast<size_t>(part->partition.value());
    CHECK_LE(index, partitions.size());
    if (index == partitions.size()) partitions.emplace_back();
    partitions[index] = partition_image(*part);
  } else if (const auto* gone = std::get_if<RemoveTopicRecord>(&record)) {
    std::string name = edit(gone->id).name;
    changed_[name] = nullptr;
    changed_names_.erase(gone->id);
  } else if (const auto* ids = std::get_if<ProducerIdsRecord>(&record)) {
    next_producer_id_ = ids->next;
  }
  records_.push_back(std::move(record));
}

}  // namespace trilog
