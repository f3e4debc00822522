// The commands over the client library, with their options as parsed. Each returns the program's exit code.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "client/cli/output.h"
#include "client/cli/record_source.h"
#include "client/client.h"

namespace trilog::cli {

struct ProduceOptions {
  std::string topic;
  std::optional<std::string> value;
  std::optional<std::string> key;
  std::vector<std::string> headers;  // "K=V"
  std::optional<int32_t> partition;
  bool null_value = false;
  std::optional<std::string> file;
  std::string format = "lines";
  std::optional<std::string> key_field;
  std::optional<std::string> key_separator;
  std::string acks = "all";
  std::string on_error = "stop";
  std::optional<std::string> rejects;
  int64_t skip = 0;
};
int produce_command(const CommonOptions& common, const ProduceOptions& options);

struct ConsumeOptions {
  std::string topic;
  std::string group;
  std::optional<std::string> from;
  std::optional<std::string> until;
  std::optional<int64_t> last;
  std::string partitions;  // "0,2-4"
  std::optional<int64_t> count;
  bool follow = false;
  std::optional<std::string> output;  // value, pretty, json or a format
  bool no_commit = false;
  std::string binary = "auto";
};
int consume_command(const CommonOptions& common, const ConsumeOptions& options);

struct TopicOptions {
  std::string action;  // list, create, show, alter, delete, trim
  std::string name;
  std::string prefix;
  bool internal = false;
  std::optional<int32_t> partitions;
  std::optional<int32_t> replicas;
  std::map<std::string, std::string> set;
  std::vector<std::string> unset;
  bool if_not_exists = false;
  bool if_exists = false;
  std::string before;
  std::optional<int32_t> partition;
  bool yes = false;
  bool dry_run = false;
};
int topic_command(const CommonOptions& common, const TopicOptions& options);

struct GroupOptions {
  std::string action;  // list, show, delete, seek
  std::string name;
  std::string prefix;
  std::string topic;
  std::optional<int32_t> partition;
  std::string to;
  bool yes = false;
  bool dry_run = false;
};
int group_command(const CommonOptions& common, const GroupOptions& options);

struct PartitionOptions {
  std::string action;  // list, move-leader, elect
  std::string target;  // TOPIC/PARTITION
  bool problem = false;
  bool internal = false;
  int32_t to = -1;
  std::optional<int32_t> leader;
  bool accept_loss = false;
  bool yes = false;
  bool dry_run = false;
};
int partition_command(const CommonOptions& common, const PartitionOptions& options);

struct ClusterOptions {
  std::string action = "show";  // show, check, drain, replace, recover-quorum
  std::optional<std::string> wait;
  int32_t node = -1;
  bool yes = false;
  bool dry_run = false;
};
int cluster_command(const CommonOptions& common, const ClusterOptions& options);

struct BenchOptions {
  std::string action;  // produce, consume, latency
  std::string topic = "bench";
  int64_t records = 1'000'000;
  std::string record_bytes = "1KiB";
  std::string batch_bytes = "64KiB";
  int32_t partitions = 1;
  int64_t rate = 1'000;          // latency: records per second
  std::string duration = "10s";  // latency
  std::string durability = "synced";
  std::string acks = "all";
  int32_t producers = 1;
};
int bench_command(const CommonOptions& common, const BenchOptions& options);

// --- shared by the commands ---

// "HOST:PORT[,…]", "unix:PATH"; kInvalidArgument names the one that is none.
Status check_servers(const std::string& servers);
std::unique_ptr<client::Client> connect(const CommonOptions& common);
// "-2h" or RFC 3339 is a time; a plain number is an offset; "+1", "-1" are steps, where they are allowed.
struct Place {
  enum class Kind { kStart, kEnd, kOffset, kTime, kStep } kind = Kind::kStart;
  int64_t value = 0;  // offset, ms since 1970, or step
};
Result<Place> parse_place(const std::string& text, bool steps_allowed);
// Where `place` is in every partition of the topic: offset by partition.
client::Outcome<std::map<int32_t, int64_t>> resolve_place(client::Admin& admin, const std::string& topic,
                                                          const Place& place);
// "0,2-4" -> 0 2 3 4; kInvalidArgument otherwise.
Result<std::vector<int32_t>> parse_partitions(const std::string& text);
// "K=V"; kInvalidArgument without '=' or with an empty K.
Result<std::pair<std::string, std::string>> parse_assignment(const std::string& text, const std::string& what);

}  // namespace trilog::cli
