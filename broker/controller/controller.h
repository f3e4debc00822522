// Controller: decides, on the node that leads the metadata log. An operation waits until it is its turn, computes
// records from *committed* state only, proposes them, and is answered when they are committed and applied (rule C1).
// One proposal is in flight; operations that arrive meanwhile are computed together as the next one. No speculative
// state, no rollback.
//
// On the thread of shard 0; `done` is posted, once, also on stop (NODE_STOPPING).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "broker/api/requests.h"
#include "broker/metadata/metadata_image.h"
#include "broker/quorum/metadata_log.h"
#include "proto/kafka/peer_messages.h"
#include "storage/env/env.h"

namespace trilog {

struct ControllerOptions {
  int32_t default_partitions = 1;
  int32_t partitions_max = 10'000;  // of one topic
  int32_t partitions_total_max = 100'000;
  int32_t topics_max = 10'000;
  int32_t producer_id_block = 1'000;
  size_t operations_waiting_max = 10'000;  // then THROTTLED
  size_t registrations_held_max = 1'000;   // during a roll call; then THROTTLED
  int64_t session_timeout_ms = 3'000;      // a broker that is not heard for so long is fenced
  // C14: all replicas have been in sync for so long before leaderships go back, then a few each time.
  int64_t leaders_return_ms = 3'000;
  int64_t leaders_return_pause_ms = 1'000;
  size_t leaders_return_at_once = 25;
};

struct Registration {
  BrokerId broker = kNoBroker;
  DirectoryId directory;
  std::string address;
  std::string version;
  std::string peer_address = {};
  std::string rack = {};
  // What the start found in the data folder (C8); see peer::RegisterBrokerRequest.
  BrokerEpoch recorded_epoch{-1};
  bool clean = false;
  bool same_boot = false;
  peer::Recovered recovered = peer::Recovered::kUnknown;
  std::vector<TopicPartition> damaged = {};
};

// How the controller reaches brokers, itself included. `done` as PeerCalls does it. Without these nobody is probed or
// heard: a cluster of one has no need.
struct ControllerPeers {
  using Probe = std::function<void(BrokerId, peer::ProbeRequest, UniqueFunction<void(Result<peer::ProbeAnswer>)>)>;
  using Hear = std::function<void(BrokerId, peer::HearingRequest, UniqueFunction<void(Result<peer::HearingAnswer>)>)>;
  BrokerId self = kNoBroker;
  Probe probe;
  Hear hear;
};

class Controller {
 public:
  // `image` gives the newest applied image. The log must outlive the controller.
  Controller(Env& env, MetadataLog& log, ControllerOptions options, std::function<ImagePtr()> image);
  ~Controller();
  // Once, before it is active for the first time.
  void set_peers(ControllerPeers peers);

  // From the log's leadership event. While inactive every operation is answered LEADER_NOT_AVAILABLE (NOT_CONTROLLER to
  // brokers). Sessions start in full (C5), and the roll is called (sessions.h).
  void set_active(bool active);
  // Answers everything that waits with NODE_STOPPING.
  void stop();
  // Of the control channel, also while inactive. `refused` as PeerListener says: a hint to fence sooner (C5).
  void on_peer_connected(BrokerId broker);
  void on_peer_disconnected(BrokerId broker, bool refused);

  template <typename T>
  using Done = UniqueFunction<void(api::Answer<T>)>;
  template <typename T>
  using Reply = UniqueFunction<void(T)>;

  // --- brokers
  // A process start (C3): new broker epoch; the former process leaves every ISR. During a roll call it waits for its
  // end, at most the time of a session. The broker is fenced until it has caught up (C4), except for the only voter.
  void register_broker(Registration registration, Done<BrokerEpoch> done);
  void heartbeat(peer::HeartbeatRequest request, Reply<peer::HeartbeatAnswer> done);
  void alter_partitions(peer::AlterPartitionRequest request, Reply<peer::AlterPartitionAnswer> done);
  void controlled_shutdown(peer::ControlledShutdownRequest request, Reply<peer::ControlledShutdownAnswer> done);
  // A block [first, first + size) of producer ids, unique for the life of the cluster.
  struct ProducerIdBlock {
    ProducerId first;
    int32_t size = 0;
  };
  void allocate_producer_ids(Done<ProducerIdBlock> done);

  // --- topics
  void create_topic(api::CreateTopicRequest request, Done<api::CreateTopicResult> done);
  void delete_topic(api::DeleteTopicRequest request, Done<bool> done);  // false: was not there (if_exists)
  void alter_topic(api::AlterTopicRequest request, Done<api::AlterTopicResult> done);
  void find_topic(std::string name, Done<bool> done);  // whether it exists, behind all changes that wait

  // --- by hand
  void move_leader(api::MoveLeaderRequest request, Done<api::MoveLeaderResult> done);
  // Hears the replicas that are up, then elects (C7), with an audit record.
  void elect_leader_with_loss(api::ElectLeaderRequest request, Done<api::ElectLeaderResult> done);
  void drain_broker(api::DrainRequest request, Done<api::DrainResult> done);
  // Before the log's recover_quorum(), also while inactive: the image of what is known to be committed by then.
  void believe_in_recovery(ImagePtr committed);
  // See MetadataLog::replace_voter().
  void replace_voter(api::ReplaceVoterRequest request, Done<api::Unit> done);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The answer's form of a topic of `image`, without offsets and sizes.
api::Topic describe_topic(const MetadataImage& image, const TopicImage& topic);
// How many partitions `survivor` would lead, and how many not, if it went on without the other voters.
api::RecoverQuorumResult foresee_recovery(const MetadataImage& image, BrokerId survivor);
// Producer ids from here on were never handed out, whatever was lost: no cluster hands out a million in a second.
ProducerId producer_ids_never_used(int64_t now_ms);
// What a broker hears when an operation of its own failed with `code`.
peer::PeerError peer_error(api::ErrorCode code);

}  // namespace trilog
