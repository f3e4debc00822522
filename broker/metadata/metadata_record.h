// The closed set of records of the metadata log and their bytes. A type and its fields are for ever: new fields only at
// the end (of the record, in a new version of it), new types with new numbers. Encoding: u8 type, u8 version, then the
// fields in order (codec.h); docs/formats.md. A record whose newer fields say nothing is written in version 0.
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
  std::string address;  // for clients
  std::string version;
  // version 1
  std::string peer_address;  // for brokers
  std::string rack;
  bool operator==(const RegisterBrokerRecord&) const = default;
};
struct FenceBrokerRecord {
  BrokerId broker = kNoBroker;
  BrokerEpoch epoch{-1};
  bool fenced = true;
  // version 1
  bool draining = false;         // shutting down: leads nothing new, joins no ISR (C9)
  BrokerEpoch active_epoch{-1};  // of the last process that was not fenced; -1: follows from the records before
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
  // version 1
  std::vector<BrokerId> unclean;  // members of the ELR that restarted uncleanly: heard before one is elected (C8)
  LeaderEpoch loss_epoch{-1};     // of the last leader an operator let in at the price of records (R15); -1: none
  bool recovering = false;        // that leader is not ready for followers (C2)
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

// What somebody has to be able to look up later.
struct AuditRecord {
  enum class Kind : uint8_t {
    kUncleanElection = 0,  // an operator let a leader in that may lack acknowledged records
    kLossReported = 1,     // a broker came back with replicas damaged that nobody else has
    kRescued = 2,          // the catalogue was made anew from partition.meta files, all metadata being lost
  };
  Kind kind = Kind::kUncleanElection;
  int64_t time_ms = 0;  // wall clock of the controller
  TopicId topic;        // zero, partition -1: not about one partition
  PartitionId partition{-1};
  BrokerId broker = kNoBroker;
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  std::string text;
  bool operator==(const AuditRecord&) const = default;
};

// A survivor of a lost quorum went on alone, by an operator's word. What the metadata said until then is taken back as
// far as the lost ones may have changed it.
struct QuorumRecoveryRecord {
  int64_t number = 0;  // of the recovery
  BrokerId survivor = kNoBroker;
  int64_t time_ms = 0;  // wall clock of the survivor
  bool operator==(const QuorumRecoveryRecord&) const = default;
};

using MetadataRecord =
    std::variant<RegisterBrokerRecord, FenceBrokerRecord, TopicRecord, TopicConfigRecord, PartitionRecord,
                 RemoveTopicRecord, ProducerIdsRecord, AuditRecord, QuorumRecoveryRecord>;

Bytes encode_metadata_record(const MetadataRecord& record);
// kCorruption if malformed, kUnsupported for a type or version this program does not know (it must not go on).
Result<MetadataRecord> decode_metadata_record(ByteView bytes);
// One line for people: dump, logs.
std::string describe_metadata_record(const MetadataRecord& record);

}  // namespace trilog
