// BrokerOptions: every setting of a node with meaning, default and limit, and where they are read from: TOML file,
// `--set a.b=c`, environment TRILOG_…
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "broker/controller/controller.h"
#include "broker/group/group_coordinator.h"
#include "broker/replica/replica_manager.h"
#include "storage/base/ids.h"
#include "storage/base/status.h"
#include "storage/base/units.h"
#include "storage/record/record_batch.h"

namespace trilog {

struct BrokerOptions {
  // --- what a user sets (interface: configuration of a node) ---
  int32_t node_id = 1;
  std::string data_dir;
  std::string listen = "localhost:9092";  // host:port; "localhost" is 127.0.0.1 and ::1; port 0: the system picks
  std::string advertise;                  // empty: as listened
  std::vector<std::string> peers;         // the quorum, "id@host:port" each, this node too; empty: a cluster of one
  std::string peer_listen;                // host:port where peers connect; empty: the own entry of `peers`
  bool auto_create_topics = false;
  int32_t default_partitions = 1;
  std::string rack;
  int32_t io_threads = 0;              // shards; 0: max(1, cores - 1), at most 64
  uint64_t memory_limit = 512u << 20;  // for client data held in memory; at least 64 MiB
  std::string insecure;                // must be kInsecureConsent for a non-loopback address without TLS

  // --- limits (docs/cli.md lists them with the error a caller gets) ---
  uint32_t request_bytes_max = 20u << 20;   // of one produce request; larger: RECORD_TOO_LARGE
  uint32_t record_bytes_limit = 16u << 20;  // upper bound of max.message.bytes
  uint32_t response_bytes_max = 3'670'016;  // 3.5 MiB, unless one record alone is larger or the client asked for more
  uint32_t records_per_request_max = 100'000;
  uint32_t headers_per_record_max = kRecordHeadersMax;  // not more: what is stored must be readable
  uint32_t headers_per_request_max = 1'000'000;         // a header of no bytes takes forty to hold
  uint32_t control_bytes_max = 4u << 20;  // of one request other than produce: read, it takes many times its bytes
  uint32_t positions_per_request_max = 10'000;
  uint32_t connections_max = 10'000;
  uint32_t streams_max = 10'000;
  uint32_t stream_unacked_bytes_max = 16u << 20;  // per ProduceStream; then the server stops reading it
  uint64_t in_flight_bytes_max = 256u << 20;      // of all produce requests together; then THROTTLED
  uint32_t fetch_wait_ms_max = 60'000;
  uint32_t default_timeout_ms = 30'000;

  ReplicaOptions replica;
  GroupOptions group;
  ControllerOptions controller;
  int32_t offsets_partitions = 8;               // of __consumer_offsets, when it is made
  uint64_t metadata_snapshot_bytes = 1u << 20;  // of the metadata log, after which its state is saved
};

inline constexpr std::string_view kInsecureConsent = "I accept that anyone on this network can read and write";

struct OptionInfo {
  std::string_view name;  // "data_dir"
  std::string_view type;
  std::string_view default_text;
  std::string_view sentence;
};
std::span<const OptionInfo> option_infos();

// Sets one option from text; kInvalidArgument names the option, the value, what is accepted, and for an unknown name
// the nearest known one.
Status set_option(BrokerOptions& options, std::string_view name, std::string_view value);
// From the text of a TOML file; errors name file, line, and the nearest known name.
Status read_config(BrokerOptions& options, std::string_view file_name, std::string_view toml);
// TRILOG_NODE_ID=… for every option; `environment` as in environ. Unknown TRILOG_ names are ignored (TRILOG_SERVER is
// one).
Status read_environment(BrokerOptions& options, const std::map<std::string, std::string>& environment);
// One voter of the quorum.
struct QuorumPeer {
  BrokerId id;
  std::string address;  // host:port where its peers reach it
};
// What `peers` says, by id. kInvalidArgument names what is wrong: an entry that does not parse, an id or an address
// that is there twice, a number of voters other than 1, 3 or 5, this node missing. Empty for a cluster of one.
Result<std::vector<QuorumPeer>> quorum_peers(const BrokerOptions& options);
// Checks the whole: ranges, addresses, peers, and that a non-loopback address has its consent (interface: Loopback
// needs nothing more).
Status check_options(const BrokerOptions& options);

}  // namespace trilog
