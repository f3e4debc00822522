// BrokerImpl: the composition root of the core, private to this folder. Owns the shards, the metadata log and the
// controller (on shard 0), and routes calls: a request is split over the shards that own its partitions and the nodes
// that lead them, and the answers are gathered. Its calls are spread over produce_operation.cc, fetch_operation.cc,
// group_operations.cc, topic_operations.cc, cluster_operations.cc; what goes to other nodes and comes from them is in
// forwarding.cc, start and stop are in broker.cc.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "broker/api/forward_codec.h"
#include "broker/broker.h"
#include "broker/broker_lifecycle.h"
#include "broker/broker_shard.h"
#include "broker/controller/controller.h"
#include "broker/controller_client.h"
#include "broker/data_folder.h"
#include "broker/group_claims.h"
#include "broker/isr_requests.h"
#include "broker/mark_writer.h"
#include "broker/metadata/metadata_loader.h"
#include "broker/peer_endpoint.h"
#include "broker/quorum/metadata_log.h"

namespace trilog {

// Who asks. What another node passed on is not passed on again.
enum class Origin : uint8_t { kClient, kPeer };

// A fetch that waits.
class PendingFetch {
 public:
  virtual ~PendingFetch() = default;
  virtual void cancel() = 0;  // from any thread
};

class BrokerImpl final : public Broker {
 public:
  BrokerImpl(BrokerOptions options, std::vector<Env*> shards, StateStoreProvider& state_stores,
             std::unique_ptr<StateStoreProvider> own_state_stores, std::unique_ptr<DataFolder> folder,
             PeerTransport* transport);
  ~BrokerImpl() override;

  void start(std::string address, UniqueFunction<void(Status)> done) override;
  void hand_over(UniqueFunction<void()> done) override;
  void stop(UniqueFunction<void(Status)> done) override;

  void produce(api::ProduceRequest request, Done<api::ProduceResult> done) override {
    produce(std::move(request), Origin::kClient, std::move(done));
  }
  void init_producer(Done<api::InitProducerResult> done) override;
  FetchId fetch(api::FetchRequest request, Done<api::FetchResult> done) override {
    return fetch(std::move(request), Origin::kClient, std::move(done));
  }
  void cancel_fetch(FetchId fetch) override;
  void list_offsets(api::ListOffsetsRequest request, Done<std::vector<api::ListedOffset>> done) override {
    list_offsets(std::move(request), Origin::kClient, std::move(done));
  }

  void commit_offsets(api::CommitOffsetsRequest request, Done<std::vector<api::CommittedOffset>> done) override {
    request.stream = own_stream(request.stream);
    commit_for_stream(std::move(request), std::move(done));
  }
  void fetch_offsets(api::FetchOffsetsRequest request, Done<std::vector<api::CommittedOffset>> done) override {
    fetch_offsets(std::move(request), Origin::kClient, std::move(done));
  }
  void claim_group(api::ClaimGroupRequest request, UniqueFunction<void(const api::Error&)> lost,
                   Done<api::Unit> done) override;
  void release_group(std::string group, api::StreamId stream) override {
    release_group(std::move(group), own_stream(stream), Origin::kClient, 0);
  }
  void list_groups(std::string prefix, uint32_t page_size, std::string page_token,
                   Done<std::pair<std::vector<api::Group>, std::string>> done) override;
  void describe_group(std::string group, Done<api::Group> done) override {
    describe_group(std::move(group), Origin::kClient, std::move(done));
  }
  void delete_group(std::string group, bool validate_only, Done<api::Unit> done) override {
    delete_group(std::move(group), validate_only, Origin::kClient, std::move(done));
  }

  void create_topic(api::CreateTopicRequest request, Done<api::CreateTopicResult> done) override {
    change_metadata(std::move(request), Origin::kClient, std::move(done));
  }
  void delete_topic(api::DeleteTopicRequest request, Done<bool> done) override {
    change_metadata(std::move(request), Origin::kClient, std::move(done));
  }
  void list_topics(api::ListTopicsRequest request, Done<api::ListTopicsResult> done) override;
  void describe_topics(std::vector<std::string> names, Done<std::vector<api::Topic>> done) override;
  void alter_topic(api::AlterTopicRequest request, Done<api::AlterTopicResult> done) override {
    change_metadata(std::move(request), Origin::kClient, std::move(done));
  }
  void trim_topic(api::TrimTopicRequest request, Done<std::vector<api::PartitionState>> done) override {
    trim_topic(std::move(request), Origin::kClient, std::move(done));
  }
  void describe_cluster(Done<api::Cluster> done) override;
  void move_leader(api::MoveLeaderRequest request, Done<api::MoveLeaderResult> done) override {
    change_metadata(std::move(request), Origin::kClient, std::move(done));
  }
  void elect_leader(api::ElectLeaderRequest request, Done<api::ElectLeaderResult> done) override {
    change_metadata(std::move(request), Origin::kClient, std::move(done));
  }
  void drain(api::DrainRequest request, Done<api::DrainResult> done) override {
    change_metadata(request, Origin::kClient, std::move(done));
  }
  void replace_voter(api::ReplaceVoterRequest request, Done<api::Unit> done) override {
    change_metadata(request, Origin::kClient, std::move(done));
  }
  void recover_quorum(bool validate_only, Done<api::RecoverQuorumResult> done) override;

  ImagePtr image() const override;
  const BrokerOptions& options() const override { return options_; }
  BrokerId self() const override { return BrokerId(options_.node_id); }
  Clock& clock() override { return shards_[0]->env.clock(); }
  std::string data_dir() const override { return folder_->path(); }
  ClusterId cluster_id() const override { return folder_->identity().cluster; }
  DirectoryId directory_id() const override { return folder_->identity().directory; }
  void check_invariants(UniqueFunction<void()> done) override;

  // --- for the endpoints: what lives on shard 0, null on others and while there is none ---
  MetadataLog* metadata_log(uint32_t shard) const { return shard == 0 ? metadata_log_.get() : nullptr; }
  Controller* controller(uint32_t shard) const { return shard == 0 ? controller_.get() : nullptr; }
  void answer_controller_question(PeerEndpoint& endpoint, BrokerId from, PeerChannel channel, const PeerFrame& frame);
  void serve_forwarded(PeerEndpoint& endpoint, BrokerId from, PeerChannel channel, PeerFrame frame);
  void serve_held(PeerEndpoint& endpoint, BrokerId from, uint64_t number);

  // --- for the operations ---
  size_t shard_count() const { return shards_.size(); }
  BrokerShard& shard(size_t index) { return *shards_[index]; }
  // Partition -> shard: stable over restarts for the same number of shards.
  size_t shard_of(const TopicPartition& partition) const;
  // The shard that coordinates a group: the one that owns its partition of the offsets topic.
  size_t shard_of_group(const MetadataImage& image, const std::string& group) const;
  // Why nothing is served now (starting, stopping), or nothing.
  std::optional<api::Error> not_serving() const;
  // Answers later, on shard 0's thread.
  template <typename T>
  void answer(Done<T> done, api::Answer<T> result) {
    shards_[0]->post([done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
  }
  // "no topic ordrs; did you mean orders?"
  static api::Error unknown_topic(const MetadataImage& image, std::string_view name);
  static api::Error unknown_partition(const TopicImage& topic, PartitionId partition);
  // The node that has to answer for the partition, if that is another one.
  std::optional<BrokerId> elsewhere(const PartitionImage& partition, Origin origin) const;
  // Of several nodes (forwarding.h).
  template <typename Request, typename Reply>
  void forward(BrokerId to, uint32_t route, Request request, int64_t deadline_ns, uint64_t id, Reply done);
  FetchId fetch_here(api::FetchRequest request, Done<api::FetchResult> done);
  FetchId remember_fetch(const std::shared_ptr<PendingFetch>& fetch, FetchId id);
  FetchId next_fetch_id();
  void forget_fetch(FetchId id);

 private:
  using ErrorOr = UniqueFunction<void(std::optional<api::Error>)>;

  void produce(api::ProduceRequest request, Origin origin, Done<api::ProduceResult> done);
  void produce_to(const TopicImage& topic, api::ProduceRequest request, Origin origin, Done<api::ProduceResult> done);
  void create_and_produce(api::ProduceRequest request, Done<api::ProduceResult> done);
  void forward_produce(BrokerId to, const TopicPartition& partition, api::ProduceRequest request, int64_t deadline_ns,
                       UniqueFunction<void(AppendResult)> done);
  FetchId fetch(api::FetchRequest request, Origin origin, Done<api::FetchResult> done);
  void fetch_everywhere(FetchId id, api::FetchRequest request, Done<api::FetchResult> done);
  void list_offsets(api::ListOffsetsRequest request, Origin origin, Done<std::vector<api::ListedOffset>> done);
  void list_known_offsets(api::ListOffsetsRequest request, Origin origin, Done<std::vector<api::ListedOffset>> done);
  void commit_offsets(api::CommitOffsetsRequest request, Origin origin, Done<std::vector<api::CommittedOffset>> done);
  void fetch_offsets(api::FetchOffsetsRequest request, Origin origin, Done<std::vector<api::CommittedOffset>> done);
  void commit_for_stream(api::CommitOffsetsRequest request, Done<std::vector<api::CommittedOffset>> done);
  void claim_at_coordinator(api::ClaimGroupRequest request, Origin origin, Done<api::GroupClaim> done);
  void release_group(std::string group, api::StreamId stream, Origin origin, int tries);
  bool leads_group(const MetadataImage& image, const std::string& group) const;
  void list_groups_here(api::ListGroupsRequest request, Done<api::GroupPage> done);
  void describe_group(std::string group, Origin origin, Done<api::Group> done);
  void delete_group(std::string group, bool validate_only, Origin origin, Done<api::Unit> done);
  void trim_topic(api::TrimTopicRequest request, Origin origin, Done<std::vector<api::PartitionState>> done);
  void trim_partitions(const TopicImage& topic, const api::TrimTopicRequest& request, Origin origin,
                       Done<std::vector<api::PartitionState>> done);
  void partition_states_here(const std::vector<TopicPartition>& partitions,
                             Done<std::vector<api::PartitionState>> done);
  // What the controller decides, here or on the node where it is. One for each request that it takes.
  template <typename Request>
  void change_metadata(Request request, Origin origin, Done<typename api::Forwarded<Request>::Value> done);
  template <typename Request, typename Reply>
  bool forward_to_controller(const Request& request, Origin origin, Reply& done);
  void serve_forwarded(PeerEndpoint& endpoint, BrokerId from, PeerChannel channel, const PeerFrame& frame,
                       const api::ForwardedHeader& header, ByteView rest);
  template <typename Request, typename Serve>
  void serve_one(PeerEndpoint& endpoint, BrokerId from, PeerChannel channel, const PeerFrame& frame, ByteView rest,
                 Serve serve);
  void serve_fetch(BrokerId from, uint64_t id, api::FetchRequest request, Done<api::FetchResult> done);
  void cancel_forwarded_fetch(BrokerId from, uint64_t id);
  // `run` when the image here holds everything up to that offset, or after kAppliedNs.
  void when_applied(Offset applied, UniqueFunction<void()> run);
  // `run` with the newest image, after asking the controller for the first of the topics that this node does not know:
  // a topic that was just made elsewhere is found. An error only if the controller cannot be asked.
  void with_topics(std::vector<std::string> names, Origin origin, UniqueFunction<void(std::optional<api::Error>)> run);
  template <typename Request, typename Reply>
  bool forward_to_coordinator(const std::string& group, Request& request, int64_t deadline_ns, Origin origin,
                              Reply& done);
  void commit_to_coordinator(api::CommitOffsetsRequest request, Origin origin,
                             Done<std::vector<api::CommittedOffset>> done);
  void add_lag(api::Group group, Done<api::Group> done);
  int64_t default_deadline_ns();
  // Where a group's partition of the offsets topic is led, if that is another node.
  std::optional<BrokerId> group_elsewhere(const MetadataImage& image, const std::string& group, Origin origin) const;
  uint32_t group_route(const MetadataImage& image, const std::string& group) const;
  api::StreamId own_stream(api::StreamId stream) const { return api::stream_of_node(stream, self()); }

  void start_on_shard0(const std::string& address);
  Status on_commit(const CommittedBatch& batch);
  void on_image(const ImagePtr& image, const MetadataLoader::DeltaPtr& delta);
  void on_leadership(bool leading);
  Status open_metadata();
  void make_lifecycle();
  void make_network();
  void listen_on_shard(uint32_t index);
  void stop_serving(UniqueFunction<void(Status)> done);
  void stop_network(UniqueFunction<void()> done);
  template <typename Answer, typename Request>
  void ask_peer(BrokerId broker, PeerKind kind, const Request& request, UniqueFunction<void(Result<Answer>)> done);
  void open_logs(UniqueFunction<void(std::vector<TopicPartition>)> opened);
  std::vector<TopicPartition> damaged_replicas(size_t shard, const MetadataImage& image);
  void describe_node(api::Cluster cluster, Done<api::Cluster> done);
  Status registered(BrokerEpoch epoch);
  void hear(peer::HearingRequest request, UniqueFunction<void(peer::HearingAnswer)> done);
  peer::ProbeAnswer probe_answer() const;
  void finish_start(Status status);
  void stop_shards(UniqueFunction<void(Status)> done);
  void stop_metadata(Result<Marks> marks, UniqueFunction<void(Status)> done);
  Result<StateStore*> state_store();
  void ensure_offsets_topic(ErrorOr ready);
  void take_producer_id(Done<api::InitProducerResult> done);
  void fetch_producer_ids();
  void add_ends(std::vector<api::Topic> topics, UniqueFunction<void(std::vector<api::Topic>)> done);

  const BrokerOptions options_;
  std::unique_ptr<StateStoreProvider> own_state_stores_;
  StateStoreProvider& state_stores_;
  std::unique_ptr<DataFolder> folder_;
  PeerTransport* const transport_;  // null: a cluster of one
  std::vector<std::unique_ptr<BrokerShard>> shards_;
  std::vector<std::unique_ptr<PeerEndpoint>> endpoints_;  // of each shard; none in a cluster of one

  // Shard 0.
  std::unique_ptr<MarkWriter> mark_writer_;
  MetadataLoader loader_;
  std::unique_ptr<MetadataLog> metadata_log_;
  std::unique_ptr<Controller> controller_;
  std::unique_ptr<ControllerClient> controller_client_;
  std::unique_ptr<BrokerLifecycle> lifecycle_;
  std::unique_ptr<IsrRequests> isr_requests_;
  std::unique_ptr<GroupClaims> group_claims_;
  std::string address_;
  UniqueFunction<void(Status)> start_done_;
  bool shards_follow_ = false;  // images go to the shards (after the start has replayed what was there)
  struct AppliedWaiter {
    Offset applied;
    UniqueFunction<void()> run;
  };
  std::map<uint64_t, AppliedWaiter> applied_waiters_;
  uint64_t next_applied_waiter_ = 1;
  Controller::ProducerIdBlock producer_ids_;
  std::deque<Done<api::InitProducerResult>> producer_id_waiters_;
  bool fetching_producer_ids_ = false;

  // Any thread.
  mutable std::mutex mutex_;
  ImagePtr image_;                           // guarded by mutex_
  std::unique_ptr<StateStore> state_store_;  // guarded by state_mutex_
  std::mutex state_mutex_;
  std::map<FetchId, std::weak_ptr<PendingFetch>> fetches_;              // guarded by mutex_
  std::map<std::pair<BrokerId, uint64_t>, FetchId> forwarded_fetches_;  // guarded by mutex_
  FetchId next_fetch_ = 1;                                              // guarded by mutex_
  std::atomic<bool> serving_{false};
  std::atomic<bool> stopping_{false};
  static constexpr int64_t kStatesNs = 5'000'000'000;
  static constexpr int64_t kAppliedNs = 2'000'000'000;
  static constexpr int64_t kReleaseRetryNs = 200'000'000;
  static constexpr int kReleaseTriesMax = 3'000;  // ten minutes
  static constexpr int64_t kQuestionNs = 1'000'000'000;
  std::atomic<uint32_t> keyless_{0};  // spreads records without key over partitions, request by request
};

// The answers of several shards. Every part runs on its shard; the last to arrive calls `finish` there.
class Gather {
 public:
  Gather(size_t parts, UniqueFunction<void()> finish) : pending_(parts), finish_(std::move(finish)) {}
  void arrived() {
    if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) finish_();
  }

 private:
  std::atomic<size_t> pending_;
  UniqueFunction<void()> finish_;
};

}  // namespace trilog
