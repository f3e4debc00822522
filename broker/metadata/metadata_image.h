// MetadataImage: what the cluster looks like as of one committed metadata offset. Immutable; every node holds the same
// one and shares it between shards by shared_ptr<const MetadataImage>. Only replayed committed records change it: a
// MetadataDelta collects them and makes the next image.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "broker/api/requests.h"
#include "broker/metadata/metadata_record.h"
#include "broker/metadata/topic_settings.h"
#include "storage/base/ids.h"
#include "storage/base/status.h"

namespace trilog {

struct PartitionImage {
  std::vector<BrokerId> replicas;
  std::vector<BrokerId> isr;
  std::vector<BrokerId> elr;
  BrokerId leader = kNoBroker;
  LeaderEpoch leader_epoch{0};
  PartitionEpoch partition_epoch{0};
  std::vector<BrokerId> unclean;  // members of the ELR that are heard before one of them is elected (C8)
  LeaderEpoch loss_epoch{-1};     // see PartitionRecord
  bool recovering = false;
  // Nobody leads, and nobody is known to have all that was acknowledged: an operator has to say who leads.
  bool nobody_trusted() const { return leader == kNoBroker && isr.empty() && elr.empty(); }
  bool operator==(const PartitionImage&) const = default;
};
std::string leaderless_text(const std::string& name, const PartitionImage& image);  // why there is no leader
PartitionRecord partition_record(const TopicId& topic, PartitionId partition, const PartitionImage& image);
PartitionImage partition_image(const PartitionRecord& record);

struct TopicImage {
  TopicId id;
  std::string name;
  api::Durability durability = api::Durability::kSynced;
  bool internal = false;
  std::vector<PartitionImage> partitions;
  std::map<std::string, std::string> configs;  // only what was set on the topic
  TopicSettings settings;                      // what is in force, resolved from the above when the image is built
  bool operator==(const TopicImage&) const = default;
};

struct BrokerImage {
  BrokerId id = kNoBroker;
  DirectoryId directory;
  BrokerEpoch epoch{-1};
  std::string address;
  std::string version;
  bool fenced = true;
  std::string peer_address;
  std::string rack;
  bool draining = false;         // shutting down
  BrokerEpoch active_epoch{-1};  // of its last process that was not fenced; -1: none in this data folder
  // May lead and may join an ISR (C2, C7).
  bool eligible() const { return !fenced && !draining; }
  bool operator==(const BrokerImage&) const = default;
};
// What the record makes of the broker; `before`: as it was, null if it is new.
BrokerImage registered_broker(const RegisterBrokerRecord& record, BrokerEpoch epoch, const BrokerImage* before);
void fence_broker(BrokerImage& broker, const FenceBrokerRecord& record);

inline constexpr size_t kAuditRecordsMax = 100;  // kept in the image: the newest

class MetadataImage {
 public:
  Offset applied() const { return applied_; }  // of the last record it reflects; -1 when empty
  const TopicImage* find_topic(std::string_view name) const;
  const TopicImage* find_topic(const TopicId& id) const;
  const BrokerImage* find_broker(BrokerId id) const;
  // In order of name, and of id.
  const std::map<std::string, std::shared_ptr<const TopicImage>, std::less<>>& topics() const {
    return topics_by_name_;
  }
  const std::map<BrokerId, BrokerImage>& brokers() const { return brokers_; }
  ProducerId next_producer_id() const { return next_producer_id_; }
  // The last time that a lost quorum was recovered.
  const std::optional<QuorumRecoveryRecord>& recovery() const { return recovery_; }
  const std::deque<AuditRecord>& audit() const { return audit_; }  // oldest first
  // Names of topics that differ from `name` by little, best first, at most three; for "did you mean".
  std::vector<std::string> similar_topics(std::string_view name) const;
  // As records, from which an equal image can be built: the snapshot.
  std::vector<MetadataRecord> to_records() const;
  // Hash over everything, equal on all nodes at equal offsets (A11).
  uint64_t digest() const;

 private:
  friend class MetadataDelta;
  Offset applied_{-1};
  std::map<std::string, std::shared_ptr<const TopicImage>, std::less<>> topics_by_name_;
  std::map<TopicId, std::shared_ptr<const TopicImage>> topics_by_id_;
  std::map<BrokerId, BrokerImage> brokers_;
  ProducerId next_producer_id_{0};
  std::optional<QuorumRecoveryRecord> recovery_;
  std::deque<AuditRecord> audit_;
};

class MetadataDelta {
 public:
  explicit MetadataDelta(std::shared_ptr<const MetadataImage> base);
  // In log order. kCorruption for a record that cannot follow from the state (a topic made twice): the caller stops.
  Status apply(const MetadataRecord& record, Offset offset);
  // This delta makes an image from nothing (a snapshot) that replaces `old`: topics only `old` has count as removed.
  // Call after the last apply().
  void replaces(const MetadataImage& old);
  std::shared_ptr<const MetadataImage> build();

  // What changed, for those who follow: topics made or altered, and topics that are gone (as they were).
  const std::set<TopicId>& changed_topics() const { return changed_topics_; }
  const std::map<TopicId, std::shared_ptr<const TopicImage>>& removed_topics() const { return removed_topics_; }
  bool brokers_changed() const { return brokers_changed_; }

 private:
  TopicImage* edit(const TopicId& id);
  std::shared_ptr<const MetadataImage> base_;
  std::unique_ptr<MetadataImage> next_;
  std::map<TopicId, std::shared_ptr<TopicImage>> edited_;
  std::set<TopicId> changed_topics_;
  std::map<TopicId, std::shared_ptr<const TopicImage>> removed_topics_;
  bool brokers_changed_ = false;
};

using ImagePtr = std::shared_ptr<const MetadataImage>;

}  // namespace trilog
