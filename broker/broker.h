// Broker: the embeddable library and the one public header of the core. Everything gRPC offers, as calls with neutral
// types. Two brokers in one process are fine: no globals, no signal handlers, no exit.
//
//   auto broker = Broker::open(options, {&env});      // one Env per shard; runtime's ShardPool makes real ones
//   broker->start([](Status) { … });                  // ready: the node leads its metadata and serves
//   broker->produce({.topic = "orders", …}, [](api::Answer<api::ProduceResult> answer) { … });
//   broker->stop([](Status) { … });                   // outstanding answers first, then a clean stop
//
// All calls may come from any thread. Callbacks run on a shard's thread, never inside the call, exactly once, also on
// stop (NODE_STOPPING): they must not block.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "broker/api/requests.h"
#include "broker/metadata/metadata_image.h"
#include "broker/options.h"
#include "storage/env/env.h"
#include "storage/state/state_store.h"

namespace trilog {

class PeerTransport;

class Broker {
 public:
  // Checks options and the data folder (lock, identity, format; rule S14), reads and removes the clean marker (S11),
  // loads metadata. Blocking; on the thread that will never be a shard's. kBusy: another process holds the folder (says
  // which). `shards[0]` also hosts metadata and controller. Envs must outlive the broker; their loops may run already.
  // `transport` is needed when `peers` names several nodes; it must outlive the broker.
  static Result<std::unique_ptr<Broker>> open(BrokerOptions options, std::vector<Env*> shards,
                                              StateStoreProvider* state_stores = nullptr,
                                              PeerTransport* transport = nullptr);
  virtual ~Broker() = default;  // after stop() completed

  // `address`: where clients reach this node, for the registration. Done when it serves.
  virtual void start(std::string address, UniqueFunction<void(Status)> done) = 0;
  // Other nodes take over what this one leads, which goes on serving meanwhile (C9). Done at once in a cluster of one,
  // and in any case after a few seconds. For who drains clients before stop(); stop() does it too.
  virtual void hand_over(UniqueFunction<void()> done) = 0;
  // Refuses new work, completes what waits, closes logs, writes the clean marker. With an error the data is safe but
  // the next start will run recovery.
  virtual void stop(UniqueFunction<void(Status)> done) = 0;

  template <typename T>
  using Done = UniqueFunction<void(api::Answer<T>)>;

  virtual void produce(api::ProduceRequest request, Done<api::ProduceResult> done) = 0;
  virtual void init_producer(Done<api::InitProducerResult> done) = 0;
  using FetchId = uint64_t;
  virtual FetchId fetch(api::FetchRequest request, Done<api::FetchResult> done) = 0;
  // A waiting fetch is answered at once with what is there; a finished one is ignored.
  virtual void cancel_fetch(FetchId fetch) = 0;
  virtual void list_offsets(api::ListOffsetsRequest request, Done<std::vector<api::ListedOffset>> done) = 0;

  virtual void commit_offsets(api::CommitOffsetsRequest request, Done<std::vector<api::CommittedOffset>> done) = 0;
  virtual void fetch_offsets(api::FetchOffsetsRequest request, Done<std::vector<api::CommittedOffset>> done) = 0;
  // Held until release_group(), through changes of the coordinator. `lost` runs once, on a shard's thread, if that
  // fails because another stream has the group or may have had it; perhaps once more after release_group().
  virtual void claim_group(api::ClaimGroupRequest request, UniqueFunction<void(const api::Error&)> lost,
                           Done<api::Unit> done) = 0;
  virtual void release_group(std::string group, api::StreamId stream) = 0;
  virtual void list_groups(std::string prefix, uint32_t page_size, std::string page_token,
                           Done<std::pair<std::vector<api::Group>, std::string>> done) = 0;
  virtual void describe_group(std::string group, Done<api::Group> done) = 0;
  virtual void delete_group(std::string group, bool validate_only, Done<api::Unit> done) = 0;

  virtual void create_topic(api::CreateTopicRequest request, Done<api::CreateTopicResult> done) = 0;
  virtual void delete_topic(api::DeleteTopicRequest request, Done<bool> done) = 0;
  virtual void list_topics(api::ListTopicsRequest request, Done<api::ListTopicsResult> done) = 0;
  virtual void describe_topics(std::vector<std::string> names, Done<std::vector<api::Topic>> done) = 0;
  virtual void alter_topic(api::AlterTopicRequest request, Done<api::AlterTopicResult> done) = 0;
  virtual void trim_topic(api::TrimTopicRequest request, Done<std::vector<api::PartitionState>> done) = 0;
  virtual void describe_cluster(Done<api::Cluster> done) = 0;
  // By hand: another member of the ISR leads; a leader that lacks records (unclean); a node that leads nothing.
  virtual void move_leader(api::MoveLeaderRequest request, Done<api::MoveLeaderResult> done) = 0;
  virtual void elect_leader(api::ElectLeaderRequest request, Done<api::ElectLeaderResult> done) = 0;
  virtual void drain(api::DrainRequest request, Done<api::DrainResult> done) = 0;
  // By hand, when voters are lost (MetadataLog says what they do). This node is the survivor; also while it starts.
  virtual void replace_voter(api::ReplaceVoterRequest request, Done<api::Unit> done) = 0;
  virtual void recover_quorum(bool validate_only, Done<api::RecoverQuorumResult> done) = 0;

  virtual ImagePtr image() const = 0;  // the newest, any thread
  virtual const BrokerOptions& options() const = 0;
  virtual BrokerId self() const = 0;
  virtual Clock& clock() = 0;  // of the deadlines in requests; any thread may read it
  virtual std::string data_dir() const = 0;
  // As its data folder knows them; any thread.
  virtual ClusterId cluster_id() const = 0;
  virtual DirectoryId directory_id() const = 0;

  // Posts a walk over all invariants to every shard; CHECKs. For tests and the simulator.
  virtual void check_invariants(UniqueFunction<void()> done) = 0;
};

inline constexpr std::string_view kVersion = "0.1.0";
// Kafka's default partitioner for keys: murmur2, as its Java client computes it.
PartitionId partition_for_key(ByteView key, int32_t partition_count);

}  // namespace trilog
