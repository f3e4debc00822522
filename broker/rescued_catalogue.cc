#include "broker/rescued_catalogue.h"

#include <algorithm>
#include <set>
#include <utility>

#include "broker/metadata/topic_settings.h"

namespace trilog {

namespace {

// The epoch files may be older than the logs by the few epochs that a crash kept from being written down.
constexpr int32_t kEpochMargin = 1'000;
// Where nothing tells the epoch of a log: no cluster has had so many elections of one partition.
constexpr int32_t kEpochUnknown = 1 << 24;
// Ids are handed out one after another from 0: no cluster hands out a million in a second, all its life.
constexpr int64_t kProducerIdsPerMs = 1'000;

std::string partition_name(const PartitionMeta& meta) {
  return "topics/" + meta.topic_id.to_string() + "/" + std::to_string(meta.partition.value());
}

// The folders of one topic, and what the best of their files says.
struct Found {
  PartitionMeta meta;
  std::vector<const FoundPartition*> partitions;
};

std::map<TopicId, Found> by_topic(const std::vector<FoundPartition>& found) {
  std::map<TopicId, Found> topics;
  for (const FoundPartition& each : found) {
    Found& topic = topics[each.meta.topic_id];
    topic.partitions.push_back(&each);
    // The file written last knows of the most partitions.
    bool better = !each.meta.topic.empty() &&
                  (topic.meta.topic.empty() || each.meta.partition_count > topic.meta.partition_count);
    if (better) topic.meta = each.meta;
  }
  return topics;
}

class Rescue {
 public:
  Rescue(const std::vector<FoundPartition>& found, BrokerId self, int64_t now_ms)
      : topics_(by_topic(found)), self_(self), now_ms_(now_ms), epoch_(epoch_above(found)) {}

  Result<RescuedCatalogue> run() {
    for (const auto& [id, topic] : topics_) {
      if (topic.meta.topic.empty()) {
        result_.remarks.push_back("topics/" + id.to_string() +
                                  " stays as it is, in no topic: none of its partition.meta files can be read");
        continue;
      }
      for (const FoundPartition* each : topic.partitions) TRY(check_replicas(each->meta));
      add_topic(id, topic);
    }
    std::sort(result_.topics.begin(), result_.topics.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    result_.records.push_back(ProducerIdsRecord{ProducerId(std::max<int64_t>(now_ms_, 0) * kProducerIdsPerMs)});
    AuditRecord audit{AuditRecord::Kind::kRescued, now_ms_};
    audit.broker = self_;
    audit.text = std::to_string(result_.topics.size()) + " topics from partition.meta files";
    result_.records.push_back(std::move(audit));
    return std::move(result_);
  }

 private:
  // One epoch for all partitions: above every one that is known.
  static LeaderEpoch epoch_above(const std::vector<FoundPartition>& found) {
    int32_t highest = 0;
    for (const FoundPartition& each : found) {
      highest = std::max(highest, each.last_epoch == kNoLeaderEpoch ? kEpochUnknown : each.last_epoch.value());
    }
    return LeaderEpoch(std::min(highest, INT32_MAX / 2) + kEpochMargin);
  }

  Status check_replicas(const PartitionMeta& meta) const {
    if (meta.topic.empty() || meta.replicas == std::vector<BrokerId>{self_}) return {};
    return Status(
        Errc::kInvalidArgument,
        partition_name(meta) + " of topic " + meta.topic +
            " has replicas on other nodes: this is a cluster of several, and only one of a single node can be "
            "rescued; a node whose own metadata is lost gets it again from the others");
  }

  // Two topics cannot have one name. It may be that one of them was being deleted.
  std::string free_name(const TopicId& id, const std::string& wanted) {
    if (check_topic_name(wanted)) {
      result_.remarks.push_back("topic " + id.to_string() + " had no valid name");
    } else if (names_.insert(wanted).second) {
      return wanted;
    }
    std::string name = "rescued-" + id.to_string();
    names_.insert(name);
    result_.remarks.push_back("topic " + id.to_string() + " is called " + name + " now: there is another " + wanted);
    return name;
  }

  void add_topic(const TopicId& id, const Found& topic) {
    TopicRecord record{id, free_name(id, topic.meta.topic), api::Durability::kSynced,
                       topic.meta.topic == kOffsetsTopic};
    std::vector<TopicConfigRecord> configs;
    for (const auto& [name, value] : topic.meta.settings) {
      if (auto error = check_topic_setting(name, value)) {
        result_.remarks.push_back("topic " + record.name + " loses a setting: " + error->message);
      } else if (name == "durability") {
        if (value == api::durability_name(api::Durability::kReplicated))
          record.durability = api::Durability::kReplicated;
      } else {
        configs.push_back({id, name, value});
      }
    }
    int32_t count = topic.meta.partition_count;
    for (const FoundPartition* each : topic.partitions) count = std::max(count, each->meta.partition.value() + 1);
    result_.topics.push_back({id, record.name, count, static_cast<int32_t>(topic.partitions.size())});
    result_.records.push_back(std::move(record));
    for (TopicConfigRecord& config : configs) result_.records.push_back(std::move(config));
    for (int32_t p = 0; p < count; ++p) {
      PartitionRecord partition;
      partition.topic = id;
      partition.partition = PartitionId(p);
      partition.replicas = {self_};
      partition.elr = {self_};  // leads as soon as it has registered (C8)
      partition.leader_epoch = epoch_;
      result_.records.push_back(std::move(partition));
    }
  }

  const std::map<TopicId, Found> topics_;
  const BrokerId self_;
  const int64_t now_ms_;
  const LeaderEpoch epoch_;
  std::set<std::string> names_;
  RescuedCatalogue result_;
};

}  // namespace

Result<RescuedCatalogue> rescue_catalogue(const std::vector<FoundPartition>& found, BrokerId self, int64_t now_ms) {
  return Rescue(found, self, now_ms).run();
}

}  // namespace trilog
