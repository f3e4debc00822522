// The cluster as a whole: what is wrong with it, and going on with what a lost majority left.
#include <algorithm>
#include <mutex>
#include <optional>

#include "broker/forwarding.h"

namespace trilog {

using api::Error;
using api::ErrorCode;

namespace {

// Without a controller nobody fences who is gone: then this node tells whom it reaches itself.
std::string node_state(const BrokerImage& broker, bool reachable, bool has_controller) {
  if (!broker.fenced && (reachable || has_controller)) return "up";
  if (!broker.fenced) return "down";
  return reachable ? "fenced" : "down";
}

// "1 topic is unsafe (orders)", "3 topics are unsafe (orders, …)".
std::string counted(size_t count, const std::string& one, const std::string& several, const std::string& example) {
  return std::to_string(count) + (count == 1 ? one : several) + " (" + example + (count > 1 ? ", …)" : ")");
}

// A line for each kind of trouble, with how many partitions have it and one of them.
void add_partition_problems(const MetadataImage& image, std::vector<std::string>& problems) {
  struct Kind {
    const char* text;
    size_t count = 0;
    std::string example;
    void add(const std::string& topic, size_t partition) {
      if (count++ == 0) example = topic + "/" + std::to_string(partition);
    }
  };
  Kind untrusted{
      .text = " without a leader: nobody is known to have all records; trilog partition elect T/P --accept-loss"};
  Kind leaderless{.text = " without a leader"};
  Kind blocked{.text = " with too few replicas in sync for writing"};
  Kind behind{.text = " with replicas that are not in sync"};
  for (const auto& [name, topic] : image.topics()) {
    for (size_t i = 0; i < topic->partitions.size(); ++i) {
      const PartitionImage& partition = topic->partitions[i];
      if (partition.nobody_trusted()) {
        untrusted.add(name, i);
      } else if (partition.leader == kNoBroker) {
        leaderless.add(name, i);
      } else if (static_cast<int32_t>(partition.isr.size()) < topic->settings.min_insync_replicas) {
        blocked.add(name, i);
      } else if (partition.isr.size() < partition.replicas.size()) {
        behind.add(name, i);
      }
    }
  }
  for (const Kind* kind : {&untrusted, &leaderless, &blocked, &behind}) {
    if (kind->count == 0) continue;
    const std::string text = kind->text;
    problems.push_back(counted(kind->count, " partition" + text, " partitions" + text, kind->example));
  }
}

void add_topic_problems(const MetadataImage& image, std::vector<std::string>& problems) {
  std::vector<std::string> single;
  std::vector<std::string> loose;
  for (const auto& [name, topic] : image.topics()) {
    if (topic->internal || topic->partitions.empty()) continue;
    if (topic->partitions.front().replicas.size() < 2) {
      single.push_back(name);
    } else if (topic->settings.min_insync_replicas < 2) {
      loose.push_back(name);
    }
  }
  auto add = [&](const std::vector<std::string>& names, const char* one, const char* several, const char* rest) {
    if (!names.empty()) problems.push_back(counted(names.size(), one, several, names.front()) + rest);
  };
  add(single, " topic has a single copy", " topics have a single copy", ": a lost disk loses records");
  add(loose, " topic is unsafe", " topics are unsafe", ": min.insync.replicas=1 acknowledges what only one node has");
}

// As long as those who were lost are not all back.
std::optional<std::string> recovery_problem(const MetadataImage& image, const std::vector<Voter>& voters) {
  if (!image.recovery() || voters.size() >= image.brokers().size()) return std::nullopt;
  std::string ids;
  for (const Voter& voter : voters) ids += (ids.empty() ? "" : ", ") + std::to_string(voter.id.value());
  return "unsafe: the quorum was recovered by node " + std::to_string(image.recovery()->survivor.value()) +
         " alone; voters are only " + ids + " of " + std::to_string(image.brokers().size()) + " nodes";
}

}  // namespace

void BrokerImpl::describe_cluster(Done<api::Cluster> done) {
  if (std::optional<Error> error = not_serving())
    return answer(std::move(done), api::Answer<api::Cluster>(std::move(*error)));
  ImagePtr now = image();
  api::Cluster cluster;
  cluster.id = folder_->identity().cluster;
  cluster.version = kVersion;
  cluster.features = {"grpc", "idempotent-produce", "consume-stream", "raw-record-batches"};
  add_partition_problems(*now, cluster.problems);
  add_topic_problems(*now, cluster.problems);
  if (!options_.insecure.empty()) cluster.problems.push_back("anyone on the network can read and write (insecure)");
  struct Operation {
    std::mutex mutex;
    size_t damaged = 0;   // guarded by mutex
    std::string example;  // guarded by mutex
    api::Cluster cluster;
    Done<api::Cluster> done;
  };
  auto operation = std::make_shared<Operation>();
  operation->cluster = std::move(cluster);
  operation->done = std::move(done);
  auto gather = std::make_shared<Gather>(shards_.size(), [this, operation] {
    shards_[0]->post([this, operation]() mutable {
      if (operation->damaged > 0) {
        operation->cluster.problems.push_back("node " + std::to_string(self().value()) + " found damage in " +
                                              counted(operation->damaged, " replica", " replicas", operation->example) +
                                              ", which is not whole yet");
      }
      describe_node(std::move(operation->cluster), std::move(operation->done));
    });
  });
  for (size_t i = 0; i < shards_.size(); ++i) {
    shards_[i]->post([this, i, now, operation, gather] {
      std::vector<TopicPartition> damaged = damaged_replicas(i, *now);
      // What is new has not come here yet.
      std::erase_if(damaged, [&](const TopicPartition& id) { return !shards_[i]->replicas.position(id); });
      {
        std::lock_guard lock(operation->mutex);
        operation->damaged += damaged.size();
        const TopicImage* topic = damaged.empty() ? nullptr : now->find_topic(damaged.front().topic);
        if (topic != nullptr) {
          operation->example = topic->name + "/" + std::to_string(damaged.front().partition.value());
        }
      }
      gather->arrived();
    });
  }
}

// On the thread of shard 0.
void BrokerImpl::describe_node(api::Cluster cluster, Done<api::Cluster> done) {
  if (metadata_log_ != nullptr) cluster.controller = metadata_log_->leader();
  std::vector<std::string> not_up;
  const ImagePtr now = image();
  for (const auto& [id, broker] : now->brokers()) {
    bool reachable = id == self() || (transport_ != nullptr && transport_->connected(id, PeerChannel::kControl));
    std::string state = node_state(broker, reachable, cluster.controller != kNoBroker);
    if (state != "up") not_up.push_back("node " + std::to_string(id.value()) + " is " + state);
    cluster.nodes.push_back({id, broker.address, std::move(state), broker.directory, broker.version});
  }
  cluster.problems.insert(cluster.problems.begin(), not_up.begin(), not_up.end());
  if (metadata_log_ != nullptr) {
    for (const Voter& voter : metadata_log_->voters()) {
      if (image()->find_broker(voter.id) != nullptr) continue;
      cluster.nodes.push_back({voter.id, "", "down", voter.directory, ""});
      cluster.problems.push_back("node " + std::to_string(voter.id.value()) + " has not joined yet");
    }
    if (auto unsafe = recovery_problem(*image(), metadata_log_->voters())) cluster.problems.push_back(*unsafe);
    std::string trouble = metadata_log_->trouble();
    if (!trouble.empty())
      cluster.problems.push_back("metadata of node " + std::to_string(options_.node_id) + ": " + trouble);
  }
  switch (shards_[0]->disk.check(0)) {
    case DiskState::kOk: break;
    case DiskState::kLow: cluster.problems.push_back("disk of " + folder_->path() + " is nearly full"); break;
    case DiskState::kReject:
      cluster.problems.push_back("disk of " + folder_->path() + " is full: records are refused");
      break;
  }
  done(std::move(cluster));
}

// --- a lost quorum -------------------------------------------------------------------------------------------------

namespace {

Error recovery_error(const Status& why) {
  std::string message = "nothing is recovered: " + std::string(why.message());
  return Error(why.code() == Errc::kInvalidArgument ? ErrorCode::kInvalidRequest : ErrorCode::kLeaderNotAvailable,
               std::move(message));
}

}  // namespace

// A survivor that was started again waits for a leader, so it is asked before it serves anything else.
void BrokerImpl::recover_quorum(bool validate_only, Done<api::RecoverQuorumResult> done) {
  using Answer = api::Answer<api::RecoverQuorumResult>;
  shards_[0]->post([this, validate_only, done = std::move(done)]() mutable {
    if (stopping_ || metadata_log_ == nullptr) {
      return answer(std::move(done), Answer(Error(ErrorCode::kNodeStopping, "the node is starting or stopping")));
    }
    ImagePtr committed = loader_.image();
    auto result = foresee_recovery(*committed, self());
    for (const Voter& voter : metadata_log_->voters()) {
      if (voter.id != self()) result.lost.push_back(voter.id);
    }
    if (!validate_only && controller_ != nullptr) controller_->believe_in_recovery(std::move(committed));
    metadata_log_->recover_quorum(validate_only, [this, validate_only, result = std::move(result),
                                                  done = std::move(done)](const Status& status) mutable {
      if (!status.ok() && controller_ != nullptr) controller_->believe_in_recovery(nullptr);
      if (!status.ok()) return done(Answer(recovery_error(status)));
      if (validate_only) return done(Answer(std::move(result)));
      if (controller_ == nullptr) return done(Answer(Error(ErrorCode::kNodeStopping, "the node is stopping")));
      // Behind what the controller takes back first.
      controller_->find_topic(
          {}, [result = std::move(result), done = std::move(done)](const api::Answer<bool>& settled) mutable {
            if (!settled.ok()) return done(Answer(settled.error()));
            done(Answer(std::move(result)));
          });
    });
  });
}

}  // namespace trilog
