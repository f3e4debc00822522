#include "broker/rescued_catalogue.h"

#include <algorithm>
#include <set>
#include <utility>

#include "broker/controller/controller.h"
#include "broker/metadata/topic_settings.h"

namespace trilog {

namespace {

// The epoch files may be older than the logs by the few epochs that a crash kept from being written down.
constexpr int32_t kEpochMargin = 1'000;
// Where nothing tells the epoch of a log: no cluster has had so many elections of one partition.
constexpr int32_t kEpochUnknown = 1 << 24;

bool contains(const std::vector<BrokerId>& ids, BrokerId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// The folders of one topic on all nodes.
struct Found {
  std::vector<std::pair<const RescuedNode*, const FoundPartition*>> folders;
  PartitionMeta meta;     // the best of their files
  bool disagree = false;  // about settings
};

// The file written last knows of the most partitions; among equals what most say, then the first.
void choose_meta(Found& topic) {
  std::vector<const PartitionMeta*> newest;
  for (const auto& [node, each] : topic.folders) {
    if (each->meta.topic.empty()) continue;
    if (!newest.empty() && each->meta.partition_count < newest.front()->partition_count) continue;
    if (!newest.empty() && each->meta.partition_count > newest.front()->partition_count) newest.clear();
    newest.push_back(&each->meta);
  }
  std::ptrdiff_t most = 0;
  for (const PartitionMeta* one : newest) {
    auto same = std::count_if(newest.begin(), newest.end(), [&](const PartitionMeta* other) {
      return other->settings == one->settings && other->topic == one->topic;
    });
    topic.disagree = topic.disagree || same < static_cast<std::ptrdiff_t>(newest.size());
    if (same <= most) continue;
    most = same;
    topic.meta = *one;
  }
}

class Rescue {
 public:
  Rescue(const std::vector<RescuedNode>& nodes, int64_t recovery, int64_t now_ms)
      : nodes_(nodes), recovery_(recovery), now_ms_(now_ms) {
    for (const RescuedNode& node : nodes_) {
      for (const FoundPartition& each : node.found) {
        topics_[each.meta.topic_id].folders.emplace_back(&node, &each);
        for (BrokerId replica : each.meta.replicas) all_given_ = all_given_ && is_given(replica);
      }
    }
    for (auto& [id, topic] : topics_) choose_meta(topic);
    epoch_ = epoch_above();
  }

  RescuedCatalogue run() {
    for (const RescuedNode& node : nodes_) add_node(node);
    for (const auto& [id, topic] : topics_) {
      if (topic.meta.topic.empty()) {
        result_.remarks.push_back("topics/" + id.to_string() +
                                  " stays as it is, in no topic: none of its partition.meta files can be read");
        continue;
      }
      add_topic(id, topic);
    }
    std::sort(result_.topics.begin(), result_.topics.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    result_.records.push_back(ProducerIdsRecord{producer_ids_never_used(now_ms_)});
    AuditRecord audit{AuditRecord::Kind::kRescued, now_ms_};
    audit.broker = nodes_.front().id;
    audit.text = std::to_string(result_.topics.size()) + " topics from partition.meta files";
    result_.records.push_back(std::move(audit));
    result_.records.push_back(QuorumRecoveryRecord{recovery_, nodes_.front().id, now_ms_});
    return std::move(result_);
  }

 private:
  bool is_given(BrokerId id) const {
    return std::any_of(nodes_.begin(), nodes_.end(), [&](const RescuedNode& node) { return node.id == id; });
  }

  // One epoch for all partitions: above every one that is known.
  LeaderEpoch epoch_above() const {
    int32_t highest = 0;
    for (const RescuedNode& node : nodes_) {
      for (const FoundPartition& each : node.found) {
        highest = std::max(highest, each.last_epoch == kNoLeaderEpoch ? kEpochUnknown : each.last_epoch.value());
      }
    }
    return LeaderEpoch(std::min(highest, INT32_MAX / 2) + kEpochMargin);
  }

  // With the epoch in its folder it is known again when it registers, and what it has is trusted (C8).
  void add_node(const RescuedNode& node) {
    result_.records.push_back(RegisterBrokerRecord{node.id, node.directory, "", ""});
    result_.records.push_back(FenceBrokerRecord{node.id, node.epoch, true, false, node.epoch});
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
    std::map<std::string, std::string> set;
    for (const auto& [name, value] : topic.meta.settings) {
      if (auto error = check_topic_setting(name, value)) {
        result_.remarks.push_back("topic " + record.name + " loses a setting: " + error->message);
      } else if (name == "durability") {
        if (value == api::durability_name(api::Durability::kReplicated))
          record.durability = api::Durability::kReplicated;
      } else {
        set[name] = value;
      }
    }
    if (topic.disagree) {
      result_.remarks.push_back("folders of topic " + record.name +
                                " disagree about its settings; what most of them say is kept");
    }
    int32_t count = topic.meta.partition_count;
    std::set<PartitionId> seen;
    for (const auto& [node, each] : topic.folders) {
      count = std::max(count, each->meta.partition.value() + 1);
      seen.insert(each->meta.partition);
    }
    RescuedCatalogue::Topic told{id, record.name, count, static_cast<int32_t>(seen.size()), 0};
    auto replicas = static_cast<int32_t>(topic.meta.replicas.size());
    const int32_t minimum = resolve_topic_settings(set, record.durability, replicas).min_insync_replicas;
    result_.records.push_back(std::move(record));
    for (const auto& [name, value] : set) result_.records.push_back(TopicConfigRecord{id, name, value});
    for (int32_t p = 0; p < count; ++p) {
      PartitionRecord partition = make_partition(id, PartitionId(p), topic, minimum);
      if (partition.elr.empty()) ++told.leaderless;
      result_.records.push_back(std::move(partition));
    }
    if (told.leaderless > 0) {
      result_.remarks.push_back(std::to_string(told.leaderless) + " partitions of topic " + told.name +
                                " get no leader by themselves: nobody can tell who has all records; when all nodes are "
                                "up, trilog partition elect " +
                                told.name + "/N --accept-loss");
    }
    result_.topics.push_back(std::move(told));
  }

  PartitionRecord make_partition(const TopicId& id, PartitionId number, const Found& topic, int32_t minimum) {
    PartitionRecord partition;
    partition.topic = id;
    partition.partition = number;
    partition.leader_epoch = epoch_;
    std::vector<BrokerId> holders;
    for (const auto& [node, each] : topic.folders) {
      if (each->meta.partition != number) continue;
      holders.push_back(node->id);
      if (partition.replicas.empty()) partition.replicas = each->meta.replicas;
    }
    if (partition.replicas.empty()) partition.replicas = like_the_others(topic.meta, number);
    std::erase_if(holders, [&](BrokerId holder) { return !contains(partition.replicas, holder); });
    const auto all = static_cast<int32_t>(partition.replicas.size());
    const bool never_written = holders.empty() && all_given_;
    if (all == 1 || never_written) {
      partition.elr = partition.replicas;
    } else if (2 * minimum > all && static_cast<int32_t>(holders.size()) >= minimum) {
      // Any `minimum` of them meet those that acknowledged: one of those heard has everything.
      for (BrokerId replica : partition.replicas) {
        if (contains(holders, replica)) partition.elr.push_back(replica);
      }
      partition.unclean = partition.elr;
    }
    return partition;
  }

  // Of a partition without a folder that says it: as placement makes them, one further for each partition.
  std::vector<BrokerId> like_the_others(const PartitionMeta& meta, PartitionId number) const {
    std::vector<BrokerId> replicas = meta.replicas;
    if (replicas.empty()) replicas = {nodes_.front().id};
    auto size = static_cast<int32_t>(replicas.size());
    int32_t turn = (number.value() - meta.partition.value()) % size;
    std::rotate(replicas.begin(), replicas.begin() + (turn + size) % size, replicas.end());
    return replicas;
  }

  const std::vector<RescuedNode>& nodes_;
  const int64_t recovery_;
  const int64_t now_ms_;
  std::map<TopicId, Found> topics_;
  bool all_given_ = true;  // every node that any file names
  LeaderEpoch epoch_;
  std::set<std::string> names_;
  RescuedCatalogue result_;
};

}  // namespace

RescuedCatalogue rescue_catalogue(const std::vector<RescuedNode>& nodes, int64_t recovery, int64_t now_ms) {
  return Rescue(nodes, recovery, now_ms).run();
}

}  // namespace trilog
