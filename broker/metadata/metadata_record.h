// The closed set of records of the metadata log and their bytes. A type and its fields are for ever: new fields only at
// the end, new types with new numbers. Encoding: u8 type, u8 version, then the fields in order (codec.h);
// docs/formats.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "broker/api/requests.h"
#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/base/status.h"

namespace trilog {

struct RegisterBrokerRecord {  // one per process start (C3); its offset is the broker epoch
  BrokerId broker = kNoBroker;
  DirectoryId directory;
  std::string address;
  std::string version;
  bool operator==(const RegisterBrokerRecord&) const = default;
};
struct FenceBrokerRecord {
  BrokerId broker = kNoBroker;
  BrokerEpoch epoch{-1};
  bool fenced = true;
  bool operator==(const FenceBrokerRecord&) const = default;
};
struct TopicRecord {
  TopicId id;
  std::string name;
  api::Durability durability = api::Durability::kSynced;
  bool internal = false;
  bool operator==(const TopicRecord&) const = default;
};
struct TopicConfigRecord {  // no value: back to the default
  TopicId topic;
  std::string name;
  std::optional<std::string> value;
  bool operator==(const TopicConfigRecord&) const = default;
};
struct PartitionRecord {  // makes a partition (the next one of its topic) or replaces all of its state
  TopicId topic;
  PartitionId partition{0};
  std::vector<BrokerId> replicas;
  std::vector<BrokerId> isr;
  std::vector<BrokerId> elr;
  BrokerId leader = kNoBroker;
  LeaderEpoch leader_epoch{0};
  PartitionEpoch partition_epoch{0};
  bool operator==(const PartitionRecord&) const = default;
};
struct RemoveTopicRecord {
  TopicId id;
  bool operator==(const RemoveTopicRecord&) const = default;
};
struct ProducerIdsRecord {  // ids below `next` may have been handed out
  ProducerId next{0};
  bool operator==(const ProducerIdsRecord&) const = default;
};

using MetadataRecord = std::variant<RegisterBrokerRecord, FenceBrokerRecord, TopicRecord, TopicConfigRecord,
                                    PartitionRecord, RemoveTopicRecord, ProducerIdsRecord>;

Bytes encode_metadata_record(const MetadataRecord& record);
// kCorruption if malformed, kUnsupported for a type or version this program does not know (it must not go on).
Result<MetadataRecord> decode_metadata_record(ByteView bytes);
// One line for people: dump, logs.
std::string describe_metadata_record(const MetadataRecord& record);

}  // namespace trilog
