// Topics and the cluster: changes go to the controller on shard 0, answers add what the shards know.
#include <algorithm>

#include "broker/broker_impl.h"

namespace trilog {

using api::Error;
using api::ErrorCode;
using api::Outcome;

void BrokerImpl::create_topic(api::CreateTopicRequest request, Done<api::CreateTopicResult> done) {
  if (std::optional<Error> error = not_serving()) {
    return answer(std::move(done), api::Answer<api::CreateTopicResult>(std::move(*error)));
  }
  shards_[0]->post([this, request = std::move(request), done = std::move(done)]() mutable {
    controller_->create_topic(std::move(request), std::move(done));
  });
}

void BrokerImpl::delete_topic(api::DeleteTopicRequest request, Done<bool> done) {
  if (std::optional<Error> error = not_serving()) return answer(std::move(done), api::Answer<bool>(std::move(*error)));
  shards_[0]->post([this, request = std::move(request), done = std::move(done)]() mutable {
    controller_->delete_topic(std::move(request), std::move(done));
  });
}

void BrokerImpl::alter_topic(api::AlterTopicRequest request, Done<api::AlterTopicResult> done) {
  if (std::optional<Error> error = not_serving()) {
    return answer(std::move(done), api::Answer<api::AlterTopicResult>(std::move(*error)));
  }
  shards_[0]->post([this, request = std::move(request), done = std::move(done)]() mutable {
    controller_->alter_topic(std::move(request), std::move(done));
  });
}

void BrokerImpl::list_topics(api::ListTopicsRequest request, Done<api::ListTopicsResult> done) {
  if (std::optional<Error> error = not_serving()) {
    return answer(std::move(done), api::Answer<api::ListTopicsResult>(std::move(*error)));
  }
  size_t limit = std::clamp<size_t>(request.page_size == 0 ? 1'000 : request.page_size, 1, 10'000);
  ImagePtr now = image();
  api::ListTopicsResult result;
  // A page token is the last name of the page before.
  const auto& topics = now->topics();
  auto it = request.page_token.empty() ? topics.lower_bound(request.prefix) : topics.upper_bound(request.page_token);
  for (; it != topics.end() && it->first.starts_with(request.prefix); ++it) {
    if (it->second->internal && !request.internal) continue;
    if (result.topics.size() == limit) {
      result.next_page_token = result.topics.back().name;
      break;
    }
    result.topics.push_back(describe_topic(*now, *it->second));
  }
  answer(std::move(done), api::Answer<api::ListTopicsResult>(std::move(result)));
}

// Offsets and sizes of every partition, from the shards that own them.
void BrokerImpl::add_ends(std::vector<api::Topic> topics, UniqueFunction<void(std::vector<api::Topic>)> done) {
  struct Operation {
    std::vector<api::Topic> topics;
    UniqueFunction<void(std::vector<api::Topic>)> done;
  };
  auto operation = std::make_shared<Operation>(Operation{std::move(topics), std::move(done)});
  struct Target {
    TopicPartition partition;
    api::PartitionState* state;
  };
  std::vector<std::vector<Target>> by_shard(shards_.size());
  for (api::Topic& topic : operation->topics) {
    for (api::PartitionState& state : topic.partitions) {
      TopicPartition partition{topic.id, state.partition};
      by_shard[shard_of(partition)].push_back({partition, &state});
    }
  }
  auto gather =
      std::make_shared<Gather>(shards_.size(), [operation] { operation->done(std::move(operation->topics)); });
  for (size_t i = 0; i < shards_.size(); ++i) {
    shards_[i]->post([operation, gather, targets = std::move(by_shard[i]), owner = shards_[i].get()] {
      for (const Target& target : targets) {
        api::Answer<PartitionEnds> ends = owner->replicas.ends(target.partition);
        if (!ends.ok()) {
          target.state->error = std::move(ends.error());
          continue;
        }
        target.state->start_offset = ends->start;
        target.state->end_offset = ends->high_watermark;
        target.state->size_bytes = static_cast<int64_t>(ends->size_bytes);
      }
      gather->arrived();
    });
  }
}

void BrokerImpl::describe_topics(std::vector<std::string> names, Done<std::vector<api::Topic>> done) {
  using Answer = api::Answer<std::vector<api::Topic>>;
  if (std::optional<Error> error = not_serving()) return answer(std::move(done), Answer(std::move(*error)));
  if (names.empty())
    return answer(std::move(done), Answer(Error(ErrorCode::kInvalidRequest, "no names: say which topics")));
  if (names.size() > options_.positions_per_request_max) {
    return answer(std::move(done), Answer(Error(ErrorCode::kInvalidRequest, "too many names in one request")));
  }
  ImagePtr now = image();
  std::vector<api::Topic> topics;
  for (const std::string& name : names) {
    const TopicImage* topic = now->find_topic(name);
    topics.push_back(topic != nullptr ? describe_topic(*now, *topic) : api::Topic{.name = name});
    if (topic == nullptr) topics.back().error = unknown_topic(*now, name);
  }
  add_ends(std::move(topics),
           [done = std::move(done)](std::vector<api::Topic> full) mutable { done(std::move(full)); });
}

void BrokerImpl::trim_topic(api::TrimTopicRequest request, Done<std::vector<api::PartitionState>> done) {
  using Answer = api::Answer<std::vector<api::PartitionState>>;
  struct Operation {
    std::vector<api::PartitionState> states;
    Done<std::vector<api::PartitionState>> done;
  };
  if (std::optional<Error> error = not_serving()) return answer(std::move(done), Answer(std::move(*error)));
  ImagePtr now = image();
  const TopicImage* topic = now->find_topic(request.topic);
  if (topic == nullptr) return answer(std::move(done), Answer(unknown_topic(*now, request.topic)));
  if (topic->internal) {
    return answer(std::move(done), Answer(Error(ErrorCode::kInvalidTopic, "topic " + request.topic + " is internal")));
  }
  if (request.before.empty()) {
    return answer(std::move(done), Answer(Error(ErrorCode::kInvalidRequest, "no positions: say before which offsets")));
  }
  for (const api::Position& position : request.before) {
    if (position.partition.value() < 0 ||
        position.partition.value() >= static_cast<int32_t>(topic->partitions.size())) {
      return answer(std::move(done), Answer(unknown_partition(*topic, position.partition)));
    }
    if (position.offset && position.offset->value() < 0) {
      return answer(std::move(done), Answer(Error(ErrorCode::kInvalidRequest, "offset must not be negative")));
    }
  }
  auto operation = std::make_shared<Operation>();
  operation->done = std::move(done);
  operation->states.resize(request.before.size());
  auto gather =
      std::make_shared<Gather>(request.before.size(), [operation] { operation->done(std::move(operation->states)); });
  for (size_t i = 0; i < request.before.size(); ++i) {
    TopicPartition partition{topic->id, request.before[i].partition};
    operation->states[i].partition = partition.partition;
    BrokerShard& owner = shard(shard_of(partition));
    owner.post(
        [operation, gather, &owner, partition, i, before = request.before[i].offset, dry = request.validate_only] {
          auto fill = [operation, gather, i](api::Answer<PartitionEnds> ends) {
            api::PartitionState& state = operation->states[i];
            if (!ends.ok()) {
              state.error = std::move(ends.error());
            } else {
              state.start_offset = ends->start;
              state.end_offset = ends->high_watermark;
              state.size_bytes = static_cast<int64_t>(ends->size_bytes);
            }
            gather->arrived();
          };
          if (!dry) return owner.replicas.trim(partition, before, std::move(fill));
          api::Answer<PartitionEnds> ends = owner.replicas.ends(partition);
          if (ends.ok() && before && *before > ends->high_watermark) {
            ends = Error(ErrorCode::kOffsetOutOfRange, Outcome::kNotWritten,
                         "offset " + std::to_string(before->value()) + " is past the end, " +
                             std::to_string(ends->high_watermark.value()))
                       .with_detail("end_offset", std::to_string(ends->high_watermark.value()));
          }
          fill(std::move(ends));
        });
  }
}

void BrokerImpl::describe_cluster(Done<api::Cluster> done) {
  if (std::optional<Error> error = not_serving())
    return answer(std::move(done), api::Answer<api::Cluster>(std::move(*error)));
  ImagePtr now = image();
  api::Cluster cluster;
  cluster.id = folder_->identity().cluster;
  cluster.controller = self();
  cluster.version = kVersion;
  cluster.features = {"grpc", "idempotent-produce", "consume-stream", "raw-record-batches"};
  for (const auto& [id, broker] : now->brokers()) {
    cluster.nodes.push_back({id, broker.address, broker.fenced ? "fenced" : "up", broker.directory, broker.version});
  }
  size_t single = 0;
  std::string example;
  for (const auto& [name, topic] : now->topics()) {
    bool one_copy = !topic->internal && !topic->partitions.empty() && topic->partitions.front().replicas.size() < 2;
    if (!one_copy) continue;
    if (single++ == 0) example = name;
  }
  if (single > 0) {
    cluster.problems.push_back(std::to_string(single) + (single == 1 ? " topic has" : " topics have") +
                               " a single copy (" + example + (single > 1 ? ", …" : "") +
                               "): a lost disk loses records");
  }
  if (!options_.insecure.empty()) cluster.problems.push_back("anyone on the network can read and write (insecure)");
  shards_[0]->post([this, cluster = std::move(cluster), done = std::move(done)]() mutable {
    switch (shards_[0]->disk.check(0)) {
      case DiskState::kOk: break;
      case DiskState::kLow: cluster.problems.push_back("disk of " + folder_->path() + " is nearly full"); break;
      case DiskState::kReject:
        cluster.problems.push_back("disk of " + folder_->path() + " is full: records are refused");
        break;
    }
    done(std::move(cluster));
  });
}

}  // namespace trilog
