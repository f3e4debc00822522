// The calls of Trilog in neutral types: what gRPC, the Kafka protocol and HTTP translate to and an embedding program
// uses directly. Meanings are those of the public interface (docs/cli.md and proto/trilog/v1). Record bytes are views;
// who owns them is said beside each.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "broker/api/error_code.h"
#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/record/record_batch.h"

namespace trilog::api {

enum class Acks : uint8_t { kAll, kLeader, kNone };
enum class Durability : uint8_t { kSynced, kReplicated };
std::string_view durability_name(Durability durability);  // "synced", "replicated"

// --- produce -------------------------------------------------------------------------------------------------------

struct Record {
  std::optional<ByteView> key;
  std::optional<ByteView> value;
  std::vector<RecordHeader> headers;
  std::optional<int64_t> timestamp_ms;  // absent: the broker's clock
};

struct Sequence {
  ProducerId producer_id;
  ProducerEpoch producer_epoch;
  int32_t base_sequence = 0;
};

struct ProduceRequest {
  std::string topic;
  std::optional<PartitionId> partition;
  std::vector<Record> records;  // views into what `owner` keeps alive
  std::shared_ptr<const void> owner;
  Bytes record_batch;  // instead of records: one or more batches, stamped in place; needs `partition`
  Acks acks = Acks::kAll;
  std::optional<Sequence> sequence;  // needs `partition`; with record_batch it comes from the batches
  int64_t deadline_ns = INT64_MAX;   // monotonic clock of the Env
  bool auto_create = true;           // if the node allows it too
  // record_batch was built by a broker from single records whose size it has checked: it may exceed max.message.bytes
  // by its own framing.
  bool built_from_records = false;
  std::optional<TopicId> topic_id;  // the topic must still be this one
};

struct Produced {
  PartitionId partition{0};
  Offset offset = kNoOffset;
  int64_t timestamp_ms = kNoTimestamp;
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  bool duplicate = false;
  std::optional<Error> error;
};

// One position per record, in their order (per batch with record_batch).
struct ProduceResult {
  std::vector<Produced> positions;
  Durability durability = Durability::kSynced;
  int32_t synced_replicas = 0;
  int32_t replicas = 0;
  bool topic_created = false;
};

struct InitProducerResult {
  ProducerId producer_id;
  ProducerEpoch producer_epoch;
};

// --- read ----------------------------------------------------------------------------------------------------------

struct Position {
  std::string topic;
  PartitionId partition{0};
  std::optional<Offset> offset;             // absent: first available record
  std::optional<LeaderEpoch> leader_epoch;  // checked if given
};

enum class Isolation : uint8_t { kCommitted, kUncommitted };

struct FetchRequest {
  std::vector<Position> positions;
  int64_t deadline_ns = 0;  // waits until then for min_bytes (monotonic clock); 0: does not wait
  uint32_t bytes_min = 1;
  uint32_t bytes_max = 3u << 20;
  Isolation isolation = Isolation::kCommitted;
};

// The records are delivered checked (CRC, rule S9) as whole batches that may begin before the offset asked for.
struct FetchedPartition {
  std::string topic;
  PartitionId partition{0};
  Offset asked_offset{0};  // where records begin to be wanted
  Offset next_offset{0};
  Offset high_watermark{0};
  Offset log_start{0};
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  BrokerId leader = kNoBroker;
  SharedBytes batches;             // whole batches, one after another
  std::vector<RecordBatch> views;  // into `batches`
  bool stale = false;
  std::optional<Error> error;
};
using FetchResult = std::vector<FetchedPartition>;  // in the order of the positions

enum class OffsetSpec : uint8_t { kEarliest, kLatest, kTimestamp };
struct OffsetQuery {
  std::string topic;
  PartitionId partition{0};
  int64_t timestamp_ms = 0;  // for kTimestamp
};
struct ListOffsetsRequest {
  std::string topic;  // all of its partitions if `queries` is empty
  std::vector<OffsetQuery> queries;
  OffsetSpec spec = OffsetSpec::kLatest;
};
struct ListedOffset {
  std::string topic;
  PartitionId partition{0};
  Offset offset = kNoOffset;  // kTimestamp without such a record: the high watermark, no timestamp
  std::optional<int64_t> timestamp_ms;
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  bool stale = false;
  std::optional<Error> error;
};

// --- groups --------------------------------------------------------------------------------------------------------

struct CommittedOffset {
  std::string topic;
  PartitionId partition{0};
  Offset offset{0};
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  std::string metadata;
  int64_t commit_timestamp_ms = kNoTimestamp;
  std::optional<Error> error;
};
using StreamId = uint64_t;  // a live Consume stream that holds its group, 0: none; the upper half is its node
inline StreamId stream_of_node(StreamId stream, BrokerId node) {
  return stream == 0 ? 0 : (stream & UINT32_MAX) | static_cast<uint64_t>(static_cast<uint32_t>(node.value())) << 32;
}
inline BrokerId node_of_stream(StreamId stream) { return BrokerId(static_cast<int32_t>(stream >> 32)); }
struct CommitOffsetsRequest {
  std::string group;
  std::vector<CommittedOffset> offsets;
  std::string member_id;
  std::optional<int32_t> generation;
  StreamId stream = 0;
  int64_t deadline_ns = INT64_MAX;
};
struct FetchOffsetsRequest {
  std::string group;
  std::vector<Position> positions;  // none: all of the group
};
struct GroupPartition {
  std::string topic;
  PartitionId partition{0};
  std::optional<Offset> committed;
  Offset end{0};
  int64_t lag = 0;
  int64_t commit_timestamp_ms = kNoTimestamp;
};
struct Group {
  std::string group;
  std::string state;  // "Empty", "Stable"
  std::vector<GroupPartition> partitions;
  BrokerId coordinator = kNoBroker;  // the node that answered for it
};
// A Consume stream takes its group for some topics: one at a time until groups have members.
struct ClaimGroupRequest {
  std::string group;
  std::vector<std::string> topics;
  StreamId stream = 0;  // unique in the process, not 0
  std::string holder;   // for the message to the next one: client name and address
  // Of the coordinator that granted it, when it is to go on with the one that followed; else a new claim.
  LeaderEpoch renewed_from = kNoLeaderEpoch;
};
struct GroupClaim {
  LeaderEpoch epoch = kNoLeaderEpoch;  // of the coordinator that granted it
};

// --- topics and cluster --------------------------------------------------------------------------------------------

struct ConfigValue {
  std::string value;
  std::string source;  // "default", "node", "topic"
};
struct PartitionState {
  PartitionId partition{0};
  BrokerId leader = kNoBroker;
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  std::vector<BrokerId> replicas;
  std::vector<BrokerId> isr;
  std::vector<BrokerId> lagging;
  Offset start_offset{0};
  Offset end_offset{0};
  int64_t size_bytes = 0;
  std::optional<Error> error;
};
struct Topic {
  std::string name;
  TopicId id;
  Durability durability = Durability::kSynced;
  int32_t replicas = 1;
  std::vector<PartitionState> partitions;
  std::map<std::string, ConfigValue> configs;
  bool unsafe = false;  // one copy only, min in-sync 1 with several, or a partition that nobody is trusted with
  std::optional<Error> error;
};
struct CreateTopicRequest {
  std::string name;
  int32_t partitions = 0;  // 0: the node's default
  int32_t replicas = 0;    // 0: as many as make sense
  std::map<std::string, std::string> configs;
  bool if_not_exists = false;
  bool validate_only = false;
  bool internal = false;  // only the broker itself
};
struct CreateTopicResult {
  Topic topic;
  bool created = false;
};
struct DeleteTopicRequest {
  std::string name;
  std::optional<TopicId> id;
  bool if_exists = false;
  bool validate_only = false;
};
struct ListTopicsRequest {
  std::string prefix;
  uint32_t page_size = 0;  // 0: 1000
  std::string page_token;
  bool internal = false;
};
struct ListTopicsResult {
  std::vector<Topic> topics;  // without offsets and sizes
  std::string next_page_token;
};
struct AlterTopicRequest {
  std::string name;
  std::map<std::string, std::string> set;
  std::vector<std::string> unset;
  int32_t partitions = 0;  // 0: as it is; only up
  bool validate_only = false;
};
struct AlterTopicResult {
  Topic topic;
  bool changed = false;
};
struct TrimTopicRequest {
  std::string topic;
  std::vector<Position> before;  // offset absent: the high watermark
  bool validate_only = false;
};
// Another member of the ISR is to lead a partition.
struct MoveLeaderRequest {
  std::string topic;
  PartitionId partition{0};
  BrokerId to = kNoBroker;
  bool validate_only = false;
};
struct MoveLeaderResult {
  BrokerId leader = kNoBroker;
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  bool changed = false;
};
// A leader for a partition that has none, at the price of the records that it lacks.
struct ElectLeaderRequest {
  std::string topic;
  PartitionId partition{0};
  std::optional<BrokerId> leader;  // absent: of the replicas that answer the one whose log reaches furthest
  bool validate_only = false;      // only tells who it would be, and how far each replica reaches
};
struct ReplicaReach {
  BrokerId broker = kNoBroker;
  LeaderEpoch last_epoch = kNoLeaderEpoch;
  Offset log_end{0};
};
struct ElectLeaderResult {
  BrokerId leader = kNoBroker;
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  std::vector<ReplicaReach> heard;  // replicas that answered
  std::vector<BrokerId> trusted;    // in sync, or eligible, before: at least one of them has all that was acknowledged
};
// Somebody else is to lead what a node leads, as far as somebody is in sync. Nothing keeps it from leading again.
struct DrainRequest {
  BrokerId broker = kNoBroker;
  bool validate_only = false;
};
struct DrainResult {
  int32_t moved = 0;
  int32_t left = 0;  // nobody else is in sync
};
// An empty folder takes the place of a voter's lost one, although not all other voters are there.
struct ReplaceVoterRequest {
  BrokerId broker = kNoBroker;
  bool validate_only = false;
};
// What becomes of the partitions when the node that was asked goes on alone, the other voters being lost.
struct RecoverQuorumResult {
  BrokerId survivor = kNoBroker;
  std::vector<BrokerId> lost;
  int32_t led = 0;        // only the survivor was trusted: it leads them
  int32_t given_up = 0;   // it may lack acknowledged records: nobody leads until an operator says so
  int32_t elsewhere = 0;  // it has no replica of them
};
struct NodeState {
  BrokerId id = kNoBroker;
  std::string address;
  std::string state;  // "up", "down", "fenced"
  DirectoryId directory;
  std::string version;
};
struct Cluster {
  ClusterId id;
  BrokerId controller = kNoBroker;
  std::vector<NodeState> nodes;
  std::string version;
  std::vector<std::string> features;
  std::vector<std::string> problems;
};

}  // namespace trilog::api
