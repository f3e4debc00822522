// The C++ client of Trilog, over gRPC: Producer, Consumer, Admin. The command line is built on it.
//
//   auto client = Client::connect({.servers = {"localhost:9092"}});
//   Producer producer(*client, {});
//   producer.send("orders", {.key = "17", .value = "hello"}, [](const Delivery& delivery) { … });
//   producer.flush();
//   Consumer consumer(*client, {.group = "billing"});
//   consumer.run({"orders"}, [](const ConsumedRecord& record) { …; return true; });   // commits after success
//
// No gRPC type appears here. Objects are used from one thread each; callbacks run on a thread of the client and must
// not block it for long. Everything waits at most as long as its time-out.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace trilog::client {

// Why a call failed, as the broker said it. Codes the client raises itself: NO_SERVER (nobody answers there),
// OUTCOME_UNKNOWN (the connection broke after a write was sent), INTERRUPTED.
struct Error {
  enum class Outcome { kNotWritten, kUnknown, kNotApplicable };
  std::string code;
  std::string message;
  bool retriable = false;
  Outcome outcome = Outcome::kNotWritten;
  uint32_t retry_after_ms = 0;
  std::map<std::string, std::string> details = {};
};

template <typename T>
class [[nodiscard]] Outcome {
 public:
  Outcome(T value) : value_(std::move(value)) {}      // NOLINT: implicit on purpose
  Outcome(Error error) : error_(std::move(error)) {}  // NOLINT: implicit on purpose
  bool ok() const { return value_.has_value(); }
  T& value() { return *value_; }
  const T& value() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }
  const Error& error() const { return error_; }

 private:
  std::optional<T> value_;
  Error error_;
};
struct Done {};

struct ClientOptions {
  std::vector<std::string> servers = {"localhost:9092"};  // host:port or unix:PATH; the first that answers is used
  int64_t timeout_ms = 30'000;                            // of one call
  std::string name = "trilog-cpp";                        // appears in the broker's log
};

class Client {
 public:
  // Does not wait for a connection: an unreachable server shows as NO_SERVER in the first call.
  static std::unique_ptr<Client> connect(ClientOptions options);
  ~Client();
  const ClientOptions& options() const;

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// --- topics, groups, cluster ---------------------------------------------------------------------------------------

struct ConfigValue {
  std::string value;
  std::string source;  // "default", "node", "topic"
};
struct PartitionInfo {
  int32_t partition = 0;
  int32_t leader = -1;
  int32_t leader_epoch = -1;
  std::vector<int32_t> replicas;
  std::vector<int32_t> isr;
  std::vector<int32_t> lagging;
  int64_t start_offset = 0;
  int64_t end_offset = 0;
  int64_t size_bytes = 0;
  std::optional<Error> error;
};
struct TopicInfo {
  std::string name;
  std::string topic_id;
  std::string durability;
  int32_t replicas = 0;
  std::vector<PartitionInfo> partitions;
  std::map<std::string, ConfigValue> configs;
  bool unsafe = false;
};
struct TopicSpec {
  std::string name;
  int32_t partitions = 0;  // 0: the broker's default
  int32_t replicas = 0;
  std::map<std::string, std::string> configs;
  bool if_not_exists = false;
  bool validate_only = false;
};
struct TopicChange {
  std::string name;
  std::map<std::string, std::string> set;
  std::vector<std::string> unset;
  int32_t partitions = 0;
  bool validate_only = false;
};
struct Position {
  std::string topic;
  int32_t partition = 0;
  std::optional<int64_t> offset;
  std::optional<int64_t> timestamp_ms = {};  // at subscribe, without an offset: the first record at or after it
};
struct ListedOffset {
  std::string topic;
  int32_t partition = 0;
  int64_t offset = 0;
  std::optional<int64_t> timestamp_ms;
  std::optional<Error> error;
};
struct Commit {
  std::string topic;
  int32_t partition = 0;
  int64_t offset = 0;
  std::optional<int32_t> leader_epoch;
  std::string metadata;
  int64_t commit_timestamp_ms = -1;
  std::optional<Error> error;
};
struct GroupPartition {
  std::string topic;
  int32_t partition = 0;
  std::optional<int64_t> committed_offset;
  int64_t end_offset = 0;
  int64_t lag = 0;
  int64_t commit_timestamp_ms = -1;
};
struct GroupInfo {
  std::string group;
  std::string state;
  std::vector<GroupPartition> partitions;
  int32_t coordinator = -1;  // node
};
struct NodeInfo {
  int32_t node_id = -1;
  std::string address;
  std::string state;
  std::string directory_id;
  std::string version;
};
struct ClusterInfo {
  std::string cluster_id;
  int32_t controller = -1;
  std::vector<NodeInfo> nodes;
  std::string version;
  std::vector<std::string> features;
  std::vector<std::string> problems;
};
struct LeaderMove {
  int32_t leader = -1;
  int32_t leader_epoch = -1;
  bool changed = false;
};
struct ReplicaReach {
  int32_t node_id = -1;
  int32_t last_epoch = -1;
  int64_t end_offset = 0;
};
struct Election {
  int32_t leader = -1;
  int32_t leader_epoch = -1;
  bool changed = false;
  std::vector<ReplicaReach> heard;  // replicas that answered
  std::vector<int32_t> trusted;     // replicas that were trusted to have what was acknowledged
};
struct QuorumRecovery {
  int32_t survivor = -1;
  std::vector<int32_t> lost;  // the other voters
  int32_t led = 0;            // partitions that only the survivor was trusted with: it leads them
  int32_t given_up = 0;   // of which it may lack acknowledged records: without a leader until one is elected by hand
  int32_t elsewhere = 0;  // of which it has no replica
  bool changed = false;
};
struct DrainedNode {
  int32_t moved = 0;
  int32_t left = 0;  // partitions of which nobody else is in sync
  bool changed = false;
};
enum class OffsetSpec { kEarliest, kLatest, kTimestamp };

// Blocking calls. Reads are repeated on another server or after UNAVAILABLE within the time-out; writes only when the
// broker said that nothing was written.
class Admin {
 public:
  explicit Admin(Client& client) : client_(client) {}
  Outcome<std::pair<TopicInfo, bool>> create_topic(const TopicSpec& spec);  // second: created (false: was there)
  Outcome<bool> delete_topic(const std::string& name, bool if_exists, bool validate_only);
  Outcome<std::vector<TopicInfo>> list_topics(const std::string& prefix, bool internal);
  Outcome<TopicInfo> describe_topic(const std::string& name);
  Outcome<std::pair<TopicInfo, bool>> alter_topic(const TopicChange& change);  // second: changed
  Outcome<std::vector<PartitionInfo>> trim_topic(const std::string& topic, const std::vector<Position>& before,
                                                 bool validate_only);
  Outcome<std::vector<GroupInfo>> list_groups(const std::string& prefix);
  Outcome<GroupInfo> describe_group(const std::string& group);
  Outcome<bool> delete_group(const std::string& group, bool validate_only);
  Outcome<ClusterInfo> describe_cluster();
  Outcome<LeaderMove> move_leader(const std::string& topic, int32_t partition, int32_t to, bool validate_only);
  // May drop acknowledged records, unless it only validates. Without `leader` the replica that reaches furthest.
  Outcome<Election> elect_leader_with_loss(const std::string& topic, int32_t partition, std::optional<int32_t> leader,
                                           bool validate_only);
  Outcome<DrainedNode> drain_node(int32_t node, bool validate_only);
  Outcome<bool> replace_voter(int32_t node, bool validate_only);  // false: it only validates
  // Of the node that is connected to.
  Outcome<QuorumRecovery> recover_quorum(bool validate_only);
  // All partitions of the topic; with kTimestamp the first record at or after it.
  Outcome<std::vector<ListedOffset>> list_offsets(const std::string& topic, OffsetSpec spec, int64_t timestamp_ms = 0);
  Outcome<std::vector<Commit>> commit_offsets(const std::string& group, const std::vector<Commit>& offsets);
  Outcome<std::vector<Commit>> fetch_offsets(const std::string& group, const std::string& topic);

 private:
  Client& client_;
};

// --- produce -------------------------------------------------------------------------------------------------------

enum class Acks { kAll, kLeader, kNone };
struct Header {
  std::string key;
  std::optional<std::string> value;
};
struct Record {
  std::optional<std::string> key;
  std::optional<std::string> value;
  std::vector<Header> headers;
  std::optional<int64_t> timestamp_ms;  // absent: now
  std::optional<int32_t> partition;     // absent: by key, else spread batch by batch
};
struct Delivery {
  std::string_view topic;  // valid during the callback
  int32_t partition = -1;
  int64_t offset = -1;  // -1 with an error or acks none
  int64_t timestamp_ms = -1;
  bool duplicate = false;
  std::string_view durability;  // "synced", "replicated"
  int32_t synced_replicas = 0;
  int32_t replicas = 0;
  bool topic_created = false;
  const Error* error = nullptr;
};
struct ProducerOptions {
  Acks acks = Acks::kAll;
  bool idempotent = true;                // a repeat never writes twice; needs acks all
  int64_t linger_ms = 0;                 // wait so long for a batch to fill
  size_t batch_bytes = 256 << 10;        // a batch is sent when it holds this much
  size_t buffer_bytes = 32 << 20;        // send() blocks while more is waiting or on its way
  int64_t delivery_timeout_ms = 30'000;  // then a record fails: NOT_WRITTEN if never sent, else unknown
  int32_t in_flight_per_partition = 5;
  // After a definite refusal in a partition: false fails all that was sent after it for that partition
  // (PREVIOUS_FAILED, nothing written), so that order has no hole; true leaves out the refused record and goes on.
  bool skip_refused = false;
};

// Batches records per partition and pipelines batches over one stream. What is safe to repeat is repeated, in order.
class Producer {
 public:
  using Callback = std::function<void(const Delivery&)>;
  Producer(Client& client, ProducerOptions options);
  // Abandons what was not flushed; their callbacks run with INTERRUPTED: NOT_WRITTEN what was never sent, else unknown.
  ~Producer();
  // `done` runs once, on a thread of the producer, or inside this call for a record that cannot be sent or that creates
  // its topic. Blocks while the buffer is full.
  void send(const std::string& topic, Record record, Callback done);
  // Sends everything now and waits until all callbacks ran.
  void flush();

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

// --- consume -------------------------------------------------------------------------------------------------------

struct ConsumedRecord {
  std::string_view topic;  // views are valid until the next call of the consumer
  int32_t partition = 0;
  int64_t offset = 0;
  int64_t timestamp_ms = -1;
  int32_t leader_epoch = -1;
  std::optional<std::string_view> key;
  std::optional<std::string_view> value;
  std::vector<std::pair<std::string_view, std::optional<std::string_view>>> headers;
};
struct ConsumerOptions {
  std::string group;                        // empty: nothing is ever committed
  OffsetSpec from = OffsetSpec::kEarliest;  // where there is no committed offset and no position
  int64_t from_timestamp_ms = 0;            // with kTimestamp: the first record at or after it
  uint64_t credit_bytes = 8 << 20;          // so much may be on its way to us
  int64_t reconnect_timeout_ms = 30'000;    // gives up after so long without a connection
};

// Reads topics by a push stream: with a group from its committed offsets, else from positions. A lost connection is
// made again, and reading goes on behind the last record that poll() gave.
class Consumer {
 public:
  Consumer(Client& client, ConsumerOptions options);
  ~Consumer();
  // `positions` overrides where partitions start; partitions not named are not read if `only_positions`. What the
  // broker refuses (an unknown topic, a group in use) shows in the first poll().
  Outcome<Done> subscribe(std::vector<std::string> topics, std::vector<Position> positions = {},
                          bool only_positions = false);
  // The next event; kIdle if none came within `timeout_ms` (without a connection up to 0.5 s later).
  struct Event {
    enum class Kind { kRecords, kCaughtUp, kPartitionError, kIdle };
    Kind kind = Kind::kIdle;
    std::string topic;
    int32_t partition = 0;
    std::vector<ConsumedRecord> records;  // kRecords
    int64_t next_offset = 0;
    int64_t high_watermark = 0;
    std::vector<Position> caught_up;  // kCaughtUp: at the end of these
    std::optional<Error> error;       // kPartitionError: of one partition, the stream lives on
  };
  // Gives back the credit of the last kRecords event.
  Outcome<Event> poll(int64_t timeout_ms);
  // To an offset, or without one to the first record. No record from the old position follows.
  void seek(const Position& position);
  void pause(const std::vector<Position>& partitions, bool paused);
  // Blocking, through the stream while it lives, so that the group's claim covers it; what may be tried again is, until
  // the client's time-out. The entries carry their errors. FENCED_MEMBER: another consumer had the group meanwhile.
  Outcome<std::vector<Commit>> commit(const std::vector<Commit>& offsets);
  // Handler style: calls `handler` for every record, commits after success about every `commit_interval_ms` and at the
  // end; ends when the handler returns false (that record is not committed), on stop(), or with `stop_at_end` when all
  // that was there at the beginning was handled.
  Outcome<Done> run(const std::vector<std::string>& topics, const std::function<bool(const ConsumedRecord&)>& handler,
                    bool stop_at_end = false, int64_t commit_interval_ms = 1'000);
  // From any thread, also a signal's watcher: poll() and run() end soon, now and later.
  void stop();
  void close();  // ends the stream, releasing the group

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace trilog::client
