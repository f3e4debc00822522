// BrokerImpl: the composition root of the core, private to this folder. Owns the shards, the metadata log and the
// controller (on shard 0), and routes calls: a request is split over the shards that own its partitions, and the
// answers are gathered. Its calls are spread over produce_operation.cc, fetch_operation.cc, group_operations.cc,
// topic_operations.cc; start and stop are in broker.cc.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "broker/broker.h"
#include "broker/broker_shard.h"
#include "broker/controller/controller.h"
#include "broker/data_folder.h"
#include "broker/mark_writer.h"
#include "broker/metadata/metadata_loader.h"
#include "broker/quorum/metadata_log.h"

namespace trilog {

class FetchOperation;

class BrokerImpl final : public Broker {
 public:
  BrokerImpl(BrokerOptions options, std::vector<Env*> shards, StateStoreProvider& state_stores,
             std::unique_ptr<StateStoreProvider> own_state_stores, std::unique_ptr<DataFolder> folder,
             PeerTransport* transport);
  ~BrokerImpl() override;

  void start(std::string address, UniqueFunction<void(Status)> done) override;
  void stop(UniqueFunction<void(Status)> done) override;

  void produce(api::ProduceRequest request, Done<api::ProduceResult> done) override;
  void init_producer(Done<api::InitProducerResult> done) override;
  FetchId fetch(api::FetchRequest request, Done<api::FetchResult> done) override;
  void cancel_fetch(FetchId fetch) override;
  void list_offsets(api::ListOffsetsRequest request, Done<std::vector<api::ListedOffset>> done) override;

  void commit_offsets(api::CommitOffsetsRequest request, Done<std::vector<api::CommittedOffset>> done) override;
  void fetch_offsets(api::FetchOffsetsRequest request, Done<std::vector<api::CommittedOffset>> done) override;
  void claim_group(api::ClaimGroupRequest request, Done<api::Unit> done) override;
  void release_group(std::string group, api::StreamId stream) override;
  void list_groups(std::string prefix, uint32_t page_size, std::string page_token,
                   Done<std::pair<std::vector<api::Group>, std::string>> done) override;
  void describe_group(std::string group, Done<api::Group> done) override;
  void delete_group(std::string group, bool validate_only, Done<api::Unit> done) override;

  void create_topic(api::CreateTopicRequest request, Done<api::CreateTopicResult> done) override;
  void delete_topic(api::DeleteTopicRequest request, Done<bool> done) override;
  void list_topics(api::ListTopicsRequest request, Done<api::ListTopicsResult> done) override;
  void describe_topics(std::vector<std::string> names, Done<std::vector<api::Topic>> done) override;
  void alter_topic(api::AlterTopicRequest request, Done<api::AlterTopicResult> done) override;
  void trim_topic(api::TrimTopicRequest request, Done<std::vector<api::PartitionState>> done) override;
  void describe_cluster(Done<api::Cluster> done) override;

  ImagePtr image() const override;
  const BrokerOptions& options() const override { return options_; }
  BrokerId self() const override { return BrokerId(options_.node_id); }
  Clock& clock() override { return shards_[0]->env.clock(); }
  std::string data_dir() const override { return folder_->path(); }
  ClusterId cluster_id() const override { return folder_->identity().cluster; }
  DirectoryId directory_id() const override { return folder_->identity().directory; }
  void check_invariants(UniqueFunction<void()> done) override;
  PeerTransport* transport() const { return transport_; }

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

 private:
  friend class FetchOperation;
  using ErrorOr = UniqueFunction<void(std::optional<api::Error>)>;

  void start_on_shard0(const std::string& address);
  Status on_commit(const CommittedBatch& batch);
  void on_image(const ImagePtr& image, const MetadataLoader::DeltaPtr& delta);
  void on_leadership(bool leading);
  void registered(BrokerEpoch epoch);
  void finish_start(Status status);
  void stop_shards(UniqueFunction<void(Status)> done);
  void stop_metadata(Result<Marks> marks, UniqueFunction<void(Status)> done);
  Result<StateStore*> state_store();
  void ensure_offsets_topic(ErrorOr ready);
  void take_producer_id(Done<api::InitProducerResult> done);
  void add_ends(std::vector<api::Topic> topics, UniqueFunction<void(std::vector<api::Topic>)> done);

  const BrokerOptions options_;
  std::unique_ptr<StateStoreProvider> own_state_stores_;
  StateStoreProvider& state_stores_;
  std::unique_ptr<DataFolder> folder_;
  PeerTransport* const transport_;  // null: a cluster of one
  std::vector<std::unique_ptr<BrokerShard>> shards_;

  // Shard 0.
  std::unique_ptr<MarkWriter> mark_writer_;
  MetadataLoader loader_;
  std::unique_ptr<MetadataLog> metadata_log_;
  std::unique_ptr<Controller> controller_;
  std::string address_;
  UniqueFunction<void(Status)> start_done_;
  bool shards_follow_ = false;  // images go to the shards (after the start has replayed what was there)
  Controller::ProducerIdBlock producer_ids_;
  std::deque<Done<api::InitProducerResult>> producer_id_waiters_;
  bool fetching_producer_ids_ = false;

  // Any thread.
  mutable std::mutex mutex_;
  ImagePtr image_;                           // guarded by mutex_
  std::unique_ptr<StateStore> state_store_;  // guarded by state_mutex_
  std::mutex state_mutex_;
  std::map<FetchId, std::weak_ptr<FetchOperation>> fetches_;  // guarded by mutex_
  FetchId next_fetch_ = 1;                                    // guarded by mutex_
  std::atomic<bool> serving_{false};
  std::atomic<bool> stopping_{false};
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
