#include "broker/broker.h"

#include <algorithm>
#include <utility>

#include "broker/api/peer_transport.h"
#include "broker/broker_impl.h"
#include "storage/state/rocksdb_state_store.h"

namespace trilog {
namespace {

using api::Error;
using api::ErrorCode;

// The topics folder and the shards' settings follow from the folder and the node's options.
BrokerOptions complete(BrokerOptions options, const DataFolder& folder) {
  options.replica.self = BrokerId(options.node_id);
  options.replica.topics_path = folder.topics_path();
  options.controller.default_partitions = options.default_partitions;
  return options;
}

}  // namespace

Result<std::unique_ptr<Broker>> Broker::open(BrokerOptions options, std::vector<Env*> shards,
                                             StateStoreProvider* state_stores, PeerTransport* transport) {
  if (shards.empty()) return Status(Errc::kInvalidArgument, "a broker needs at least one shard");
  TRY(check_options(options));
  if (options.peers.size() > 1 && transport == nullptr) {
    return Status(Errc::kInvalidArgument, "peers name several nodes, and there is no transport to reach them");
  }
  std::unique_ptr<DataFolder> folder = TRY(DataFolder::open(*shards[0], options.data_dir, BrokerId(options.node_id)));
  std::unique_ptr<StateStoreProvider> own;
  if (state_stores == nullptr) {
    own = make_rocksdb_state_store_provider(shards[0]->log());
    state_stores = own.get();
  }
  BrokerOptions completed = complete(std::move(options), *folder);
  return std::unique_ptr<Broker>(std::make_unique<BrokerImpl>(std::move(completed), std::move(shards), *state_stores,
                                                              std::move(own), std::move(folder), transport));
}

BrokerImpl::BrokerImpl(BrokerOptions options, std::vector<Env*> shards, StateStoreProvider& state_stores,
                       std::unique_ptr<StateStoreProvider> own_state_stores, std::unique_ptr<DataFolder> folder,
                       PeerTransport* transport)
    : options_(std::move(options)),
      own_state_stores_(std::move(own_state_stores)),
      state_stores_(state_stores),
      folder_(std::move(folder)),
      transport_(transport),
      image_(std::make_shared<const MetadataImage>()) {
  mark_writer_ = std::make_unique<MarkWriter>(*shards[0], folder_->marks());
  for (Env* env : shards) {
    // Marks of every shard go through the one writer on shard 0 and are answered on the shard they came from.
    auto persist = [this, env](Marks changes, UniqueFunction<void(Status)> done) {
      shards_[0]->post([this, env, changes = std::move(changes), done = std::move(done)]() mutable {
        mark_writer_->write(std::move(changes), env->executor(), std::move(done));
      });
    };
    shards_.push_back(std::make_unique<BrokerShard>(*env, options_, folder_->path(), folder_->topics_path(),
                                                    folder_->start_state(), std::move(persist),
                                                    [this] { return state_store(); }));
  }
  for (uint32_t i = 0; transport_ != nullptr && i < shards_.size(); ++i) {
    endpoints_.push_back(std::make_unique<PeerEndpoint>(*this, *shards_[i], *transport_, i));
  }
  for (size_t i = 0; i < shards_.size(); ++i) {
    shards_[i]->replicas.set_ownership([this, i](const TopicPartition& partition) { return shard_of(partition) == i; });
  }
}

BrokerImpl::~BrokerImpl() = default;

// --- start ---------------------------------------------------------------------------------------------------------

void BrokerImpl::start(std::string address, UniqueFunction<void(Status)> done) {
  shards_[0]->post([this, address = std::move(address), done = std::move(done)]() mutable {
    start_done_ = std::move(done);
    start_on_shard0(address);
  });
}

void BrokerImpl::start_on_shard0(const std::string& address) {
  address_ = address;
  loader_.subscribe([this](const ImagePtr& image, const MetadataLoader::DeltaPtr& delta) { on_image(image, delta); });
  Status opened = open_metadata();
  if (opened.code() == Errc::kCorruption && transport_ == nullptr) {
    opened = Status(Errc::kCorruption, std::string(opened.message()) + "; without a copy, trilog rescue --data " +
                                           folder_->path() + " rebuilds the list of topics from their folders");
  }
  if (!opened.ok()) return finish_start(opened.with_context("metadata"));
  controller_ = std::make_unique<Controller>(shards_[0]->env, *metadata_log_, options_.controller,
                                             [this] { return loader_.image(); });
  make_lifecycle();
  if (transport_ != nullptr) make_network();
  metadata_log_->start();
  lifecycle_->poke();
}

Status BrokerImpl::open_metadata() {
  MetadataLogConfig config;
  config.directory = folder_->metadata_path();
  config.cluster = folder_->identity().cluster;
  config.self = Voter{self(), folder_->identity().directory};
  config.voters = {config.self};
  config.snapshot_bytes = options_.metadata_snapshot_bytes;
  config.was_member = folder_->identity().broker_epoch >= BrokerEpoch(0);
  if (transport_ != nullptr) {
    config.voters.clear();
    for (const QuorumPeer& peer : TRY(quorum_peers(options_))) {
      config.voters.push_back(peer.id == self() ? config.self : Voter{peer.id, DirectoryId()});
    }
  }
  MetadataLog::Listener listener;
  listener.on_commit = [this](const CommittedBatch& batch) { return on_commit(batch); };
  listener.on_snapshot = [this](Offset applied, ByteView snapshot) { return loader_.load_snapshot(applied, snapshot); };
  listener.make_snapshot = [this] { return loader_.make_snapshot(); };
  listener.on_leadership = [this](bool leading, Term) { on_leadership(leading); };
  listener.on_cluster = [this](const ClusterId& cluster) { return folder_->set_cluster(cluster); };
  metadata_log_ = TRY(MetadataLog::open(shards_[0]->env, std::move(config), std::move(listener), transport_));
  return {};
}

void BrokerImpl::make_lifecycle() {
  PeerCalls* calls = endpoints_.empty() ? nullptr : &endpoints_[0]->calls;
  controller_client_ = std::make_unique<ControllerClient>(shards_[0]->env, self(), *metadata_log_, *controller_, calls);
  peer::RegisterBrokerRequest facts;
  facts.broker = self();
  facts.directory = folder_->identity().directory;
  facts.address = address_;
  for (const QuorumPeer& peer : quorum_peers(options_).value()) {
    if (peer.id == self()) facts.peer_address = peer.address;
  }
  facts.rack = options_.rack;
  facts.version = kVersion;
  facts.recorded_epoch = folder_->identity().broker_epoch;
  facts.clean = folder_->start_state().clean;
  facts.same_boot = folder_->same_boot();
  BrokerLifecycle::Host host;
  host.is_current = [this] { return metadata_log_->current(); };
  host.image = [this] { return loader_.image(); };
  host.open_logs = [this](auto opened) { open_logs(std::move(opened)); };
  host.registered = [this](BrokerEpoch epoch) { return registered(epoch); };
  host.disk_full = [this] { return shards_[0]->disk.check(0) == DiskState::kReject; };
  // Who hears the controller and not yet what it has decided meanwhile may lead no more without knowing.
  host.confirmed = [this](int64_t sent_ns, Offset applied, bool clock_agrees) {
    for (auto& each : shards_) {
      each->post([clock_agrees, shard = each.get()] { shard->replicas.set_clock_agreement(clock_agrees); });
    }
    when_applied(applied, [this, sent_ns, applied] {
      if (loader_.image()->applied() < applied) return;
      for (auto& each : shards_) {
        each->post([sent_ns, shard = each.get()] { shard->replicas.set_controller_contact(sent_ns); });
      }
    });
  };
  // Posted to every shard first: whoever is served next finds the partitions in their present roles.
  host.admitted = [this](Status status) {
    auto finish = [this, status = std::move(status)] { shards_[0]->post([this, status] { finish_start(status); }); };
    auto gather = std::make_shared<Gather>(shards_.size(), std::move(finish));
    for (auto& each : shards_) each->post([gather] { gather->arrived(); });
    // In store, for producers that come when there is no controller.
    if (transport_ != nullptr) fetch_producer_ids();
  };
  lifecycle_ = std::make_unique<BrokerLifecycle>(shards_[0]->env, *controller_client_, std::move(facts),
                                                 transport_ == nullptr, std::move(host));
}

// Before anything is applied: roles follow from images and connections together.
void BrokerImpl::make_network() {
  isr_requests_ = std::make_unique<IsrRequests>(
      *controller_client_, self(), [this] { return lifecycle_->epoch(); }, [this] { return loader_.image(); });
  auto claim = [this](api::ClaimGroupRequest request, GroupClaims::Answered answered) {
    claim_at_coordinator(std::move(request), Origin::kClient,
                         [this, answered = std::move(answered)](api::Answer<api::GroupClaim> answer) mutable {
                           this->answer(std::move(answered), std::move(answer));
                         });
  };
  auto release = [this](const std::string& group, api::StreamId stream) {
    release_group(group, stream, Origin::kClient, 0);
  };
  group_claims_ = std::make_unique<GroupClaims>(
      shards_[0]->env, [this] { return loader_.image(); }, std::move(claim), std::move(release));
  ControllerPeers peers;
  peers.self = self();
  peers.probe = [this](BrokerId broker, peer::ProbeRequest request, auto done) {
    if (broker == self()) {
      shards_[0]->post([this, done = std::move(done)]() mutable { done(probe_answer()); });
    } else {
      ask_peer<peer::ProbeAnswer>(broker, PeerKind::kProbe, request, std::move(done));
    }
  };
  peers.hear = [this](BrokerId broker, peer::HearingRequest request, auto done) {
    if (broker == self()) {
      hear(std::move(request),
           [done = std::move(done)](peer::HearingAnswer answer) mutable { done(std::move(answer)); });
    } else {
      ask_peer<peer::HearingAnswer>(broker, PeerKind::kHearing, request, std::move(done));
    }
  };
  controller_->set_peers(std::move(peers));
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    shards_[i]->post([this, i] { listen_on_shard(i); });
  }
}

void BrokerImpl::listen_on_shard(uint32_t index) {
  BrokerShard& shard = *shards_[index];
  ReplicaNetwork network;
  network.transport = transport_;
  network.shard = index;
  // Asked on shard 0, answered where it came from.
  network.alter_isr = [this, &shard](IsrChange change, UniqueFunction<void(api::Answer<IsrChanged>)> done) {
    shards_[0]->post([this, &shard, change = std::move(change), done = std::move(done)]() mutable {
      isr_requests_->ask(std::move(change), [&shard, done = std::move(done)](api::Answer<IsrChanged> answer) mutable {
        shard.post([done = std::move(done), answer = std::move(answer)]() mutable { done(std::move(answer)); });
      });
    });
  };
  network.fetch_range = [this, index](BrokerId broker, const peer::RepairRangeRequest& request,
                                      UniqueFunction<void(Result<SharedBytes>)> done) {
    PeerFrame frame;
    frame.kind = PeerKind::kRepairRange;
    frame.route = peer_route(request.partition.topic, request.partition.partition);
    frame.body = peer::encode_peer_message(request);
    endpoints_[index]->calls.call(broker, PeerChannel::kBulk, std::move(frame), kQuestionNs,
                                  [done = std::move(done)](Result<PeerFrame> answer) mutable {
                                    if (!answer.ok()) return done(answer.status());
                                    done(std::move(answer->bulk));
                                  });
  };
  shard.replicas.set_network(std::move(network));
  endpoints_[index]->listen();
}

Status BrokerImpl::on_commit(const CommittedBatch& batch) { return loader_.apply(batch.first, batch.records); }

void BrokerImpl::on_leadership(bool leading) {
  controller_->set_active(leading);
  lifecycle_->poke();
}

// Everything that this node knew before is in the image: only now do shards open logs, so that none is opened for a
// topic that was deleted later in the log.
void BrokerImpl::open_logs(UniqueFunction<void(std::vector<TopicPartition>)> opened) {
  struct Operation {
    std::mutex mutex;
    std::vector<TopicPartition> damaged;  // guarded by mutex
    UniqueFunction<void(std::vector<TopicPartition>)> opened;
  };
  auto operation = std::make_shared<Operation>();
  operation->opened = std::move(opened);
  shards_follow_ = true;
  ImagePtr image = loader_.image();
  auto gather = std::make_shared<Gather>(shards_.size(), [this, operation] {
    shards_[0]->post([operation] { operation->opened(std::move(operation->damaged)); });
  });
  for (size_t i = 0; i < shards_.size(); ++i) {
    shards_[i]->post([this, i, image, gather, operation] {
      shards_[i]->apply(image, nullptr);
      shards_[i]->replicas.start();
      std::vector<TopicPartition> damaged = damaged_replicas(i, *image);
      {
        std::lock_guard lock(operation->mutex);
        operation->damaged.insert(operation->damaged.end(), damaged.begin(), damaged.end());
      }
      gather->arrived();
    });
  }
}

// C8: what the recovery could not find, or cannot read.
std::vector<TopicPartition> BrokerImpl::damaged_replicas(size_t shard, const MetadataImage& image) {
  std::vector<TopicPartition> damaged;
  for (const auto& [name, topic] : image.topics()) {
    for (size_t i = 0; i < topic->partitions.size(); ++i) {
      TopicPartition id{topic->id, PartitionId(static_cast<int32_t>(i))};
      const auto& replicas = topic->partitions[i].replicas;
      if (shard_of(id) != shard || std::find(replicas.begin(), replicas.end(), self()) == replicas.end()) continue;
      std::optional<ReplicaPosition> position = shards_[shard]->replicas.position(id);
      if (!position || position->damaged) damaged.push_back(id);
    }
  }
  return damaged;
}

Status BrokerImpl::registered(BrokerEpoch epoch) {
  TRY(folder_->set_broker_epoch(epoch));
  for (auto& each : shards_) {
    each->post([epoch, shard = each.get()] { shard->replicas.set_broker_epoch(epoch); });
  }
  return {};
}

void BrokerImpl::finish_start(Status status) {
  if (!start_done_) return;
  if (status.ok()) serving_ = true;
  UniqueFunction<void(Status)> done = std::move(start_done_);
  start_done_ = nullptr;
  done(std::move(status));
}

void BrokerImpl::on_image(const ImagePtr& image, const MetadataLoader::DeltaPtr& delta) {
  for (const auto& [topic, was] : delta->removed_topics()) mark_writer_->forget(topic);
  if (shards_follow_) {
    shards_[0]->apply(image, delta.get());
    for (size_t i = 1; i < shards_.size(); ++i) {
      shards_[i]->post([image, delta, shard = shards_[i].get()] { shard->apply(image, delta.get()); });
    }
  }
  // Now that what follows from it stands behind it in the queue of every shard.
  {
    std::lock_guard lock(mutex_);
    image_ = image;
  }
  lifecycle_->poke();
  if (group_claims_ != nullptr) group_claims_->follow();
  for (auto it = applied_waiters_.begin(); it != applied_waiters_.end();) {
    if (it->second.applied > image->applied()) {
      ++it;
      continue;
    }
    // Behind what the shards were just sent.
    shards_[0]->post(std::move(it->second.run));
    it = applied_waiters_.erase(it);
  }
}

void BrokerImpl::when_applied(Offset applied, UniqueFunction<void()> run) {
  shards_[0]->post([this, applied, run = std::move(run)]() mutable {
    if (loader_.image()->applied() >= applied) return run();
    const uint64_t number = next_applied_waiter_++;
    applied_waiters_.emplace(number, AppliedWaiter{applied, std::move(run)});
    shards_[0]->env.executor().schedule_after(kAppliedNs, [this, number] {
      auto found = applied_waiters_.find(number);
      if (found == applied_waiters_.end()) return;
      auto late = std::move(found->second.run);
      applied_waiters_.erase(found);
      late();
    });
  });
}

ImagePtr BrokerImpl::image() const {
  std::lock_guard lock(mutex_);
  return image_;
}

Result<StateStore*> BrokerImpl::state_store() {
  std::lock_guard lock(state_mutex_);
  if (state_store_ != nullptr) return state_store_.get();
  std::string path = folder_->state_path();
  Result<std::unique_ptr<StateStore>> store = state_stores_.open(path);
  if (!store.ok() && store.status().code() == Errc::kCorruption) {
    // A view of the offsets log (G7): on doubt it is rebuilt.
    shards_[0]->env.log().warning("state store is damaged and is rebuilt from the log: ", store.status().to_string());
    TRY(state_stores_.destroy(path));
    store = state_stores_.open(path);
  }
  if (!store.ok()) return store.status().with_context("state store");
  state_store_ = std::move(*store);
  return state_store_.get();
}

// --- routing -------------------------------------------------------------------------------------------------------

size_t BrokerImpl::shard_of(const TopicPartition& partition) const {
  return peer_route(partition.topic, partition.partition) % shards_.size();
}

size_t BrokerImpl::shard_of_group(const MetadataImage& image, const std::string& group) const {
  const TopicImage* topic = image.find_topic(kOffsetsTopic);
  // Until the topic exists there is nothing but claims to keep apart; its id is not known yet, so a zero one stands for
  // it.
  if (topic == nullptr) return 0;
  PartitionId partition = offsets_partition_of(group, static_cast<int32_t>(topic->partitions.size()));
  return shard_of({topic->id, partition});
}

std::optional<Error> BrokerImpl::not_serving() const {
  if (serving_) return std::nullopt;
  if (stopping_) return Error(ErrorCode::kNodeStopping, "node " + std::to_string(options_.node_id) + " is stopping");
  return Error(ErrorCode::kLeaderNotAvailable, "node " + std::to_string(options_.node_id) + " is starting; try again");
}

Error BrokerImpl::unknown_topic(const MetadataImage& image, std::string_view name) {
  if (std::optional<Error> bad = check_topic_name(name)) return std::move(*bad);
  std::string message = "no topic " + std::string(name);
  std::vector<std::string> similar = image.similar_topics(name);
  for (size_t i = 0; i < similar.size(); ++i) message += (i == 0 ? " · did you mean " : " or ") + similar[i];
  if (!similar.empty()) message += "?";
  return Error(ErrorCode::kUnknownTopic, std::move(message)).with_detail("topic", std::string(name));
}

Error BrokerImpl::unknown_partition(const TopicImage& topic, PartitionId partition) {
  size_t count = topic.partitions.size();
  return Error(ErrorCode::kUnknownPartition, "no partition " + std::to_string(partition.value()) + " in topic " +
                                                 topic.name + ", which has " + std::to_string(count) + " (0 to " +
                                                 std::to_string(count - 1) + ")")
      .with_detail("topic", topic.name)
      .with_detail("partition", std::to_string(partition.value()))
      .with_detail("partitions", std::to_string(count));
}

void BrokerImpl::check_invariants(UniqueFunction<void()> done) {
  auto gather = std::make_shared<Gather>(shards_.size(), std::move(done));
  for (auto& each : shards_) {
    each->post([gather, shard = each.get()] {
      shard->replicas.check_invariants();
      shard->groups.check_invariants();
      gather->arrived();
    });
  }
}

// --- producer ids --------------------------------------------------------------------------------------------------

void BrokerImpl::init_producer(Done<api::InitProducerResult> done) {
  if (std::optional<Error> error = not_serving())
    return answer(std::move(done), api::Answer<api::InitProducerResult>(*error));
  shards_[0]->post([this, done = std::move(done)]() mutable { take_producer_id(std::move(done)); });
}

// Ids come from blocks that the controller hands out, so that a new producer rarely costs a metadata commit.
void BrokerImpl::take_producer_id(Done<api::InitProducerResult> done) {
  if (producer_ids_.size > 0) {
    api::InitProducerResult result{producer_ids_.first, ProducerEpoch(0)};
    ++producer_ids_.first;
    --producer_ids_.size;
    return done(result);
  }
  if (producer_id_waiters_.size() >= options_.controller.operations_waiting_max) {
    return done(Error(ErrorCode::kThrottled, "too many producers wait for an id; try again"));
  }
  producer_id_waiters_.push_back(std::move(done));
  fetch_producer_ids();
}

void BrokerImpl::fetch_producer_ids() {
  if (std::exchange(fetching_producer_ids_, true)) return;
  auto answered = [this](const Result<peer::AllocateProducerIdsAnswer>& block) {
    fetching_producer_ids_ = false;
    std::deque<Done<api::InitProducerResult>> waiters = std::exchange(producer_id_waiters_, {});
    const bool ok = block.ok() && block->error == peer::PeerError::kNone && block->size > 0;
    if (ok) producer_ids_ = {block->first, block->size};
    for (auto& waiter : waiters) {
      if (ok) {
        take_producer_id(std::move(waiter));
      } else {
        // A block that was handed out and did not arrive is lost, which harms nobody.
        waiter(Error(ErrorCode::kLeaderNotAvailable, "no producer ids: the controller cannot be asked now; try again"));
      }
    }
  };
  controller_client_->call(peer::AllocateProducerIdsRequest{self()}, BrokerLifecycle::kCallNs, std::move(answered));
}

}  // namespace trilog
