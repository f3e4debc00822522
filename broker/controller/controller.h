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
#include "storage/env/env.h"

namespace trilog {

struct ControllerOptions {
  int32_t default_partitions = 1;
  int32_t partitions_max = 10'000;  // of one topic
  int32_t partitions_total_max = 100'000;
  int32_t topics_max = 10'000;
  int32_t producer_id_block = 1'000;
  size_t operations_waiting_max = 10'000;  // then THROTTLED
};

struct Registration {
  BrokerId broker = kNoBroker;
  DirectoryId directory;
  std::string address;
  std::string version;
};

class Controller {
 public:
  // `image` gives the newest applied image. The log must outlive the controller.
  Controller(Env& env, MetadataLog& log, ControllerOptions options, std::function<ImagePtr()> image);
  ~Controller();

  // From the log's leadership event. While inactive every operation is answered LEADER_NOT_AVAILABLE.
  void set_active(bool active);
  // Answers everything that waits with NODE_STOPPING.
  void stop();

  template <typename T>
  using Done = UniqueFunction<void(api::Answer<T>)>;

  // A process start (C3): new broker epoch; this broker's partitions get their leaders again.
  void register_broker(Registration registration, Done<BrokerEpoch> done);
  void create_topic(api::CreateTopicRequest request, Done<api::CreateTopicResult> done);
  void delete_topic(api::DeleteTopicRequest request, Done<bool> done);  // false: was not there (if_exists)
  void alter_topic(api::AlterTopicRequest request, Done<api::AlterTopicResult> done);
  // A block [first, first + size) of producer ids, unique for the life of the cluster.
  struct ProducerIdBlock {
    ProducerId first;
    int32_t size = 0;
  };
  void allocate_producer_ids(Done<ProducerIdBlock> done);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The answer's form of a topic of `image`, without offsets and sizes.
api::Topic describe_topic(const MetadataImage& image, const TopicImage& topic);

}  // namespace trilog
