// Topics and the cluster: changes go to the controller on shard 0, answers add what the shards know.
#include <algorithm>

#include "broker/forwarding.h"

namespace trilog {

using api::Error;
using api::ErrorCode;
using api::Outcome;

namespace {

void decide(Controller& controller, api::CreateTopicRequest request, Broker::Done<api::CreateTopicResult> done) {
  controller.create_topic(std::move(request), std::move(done));
}
void decide(Controller& controller, api::DeleteTopicRequest request, Broker::Done<bool> done) {
  controller.delete_topic(std::move(request), std::move(done));
}
void decide(Controller& controller, api::AlterTopicRequest request, Broker::Done<api::AlterTopicResult> done) {
  controller.alter_topic(std::move(request), std::move(done));
}
void decide(Controller& controller, api::MoveLeaderRequest request, Broker::Done<api::MoveLeaderResult> done) {
  controller.move_leader(std::move(request), std::move(done));
}
void decide(Controller& controller, api::ElectLeaderRequest request, Broker::Done<api::ElectLeaderResult> done) {
  controller.elect_leader_with_loss(std::move(request), std::move(done));
}
void decide(Controller& controller, api::DrainRequest request, Broker::Done<api::DrainResult> done) {
  controller.drain_broker(request, std::move(done));
}
void decide(Controller& controller, api::ReplaceVoterRequest request, Broker::Done<api::Unit> done) {
  controller.replace_voter(request, std::move(done));
}
void decide(Controller& controller, api::FindTopicRequest request, Broker::Done<bool> done) {
  controller.find_topic(std::move(request.name), std::move(done));
}

}  // namespace

template <typename Request>
void BrokerImpl::change_metadata(Request request, Origin origin, Done<typename api::Forwarded<Request>::Value> done) {
  using Answer = api::Answer<typename api::Forwarded<Request>::Value>;
  if (std::optional<Error> error = not_serving()) return answer(std::move(done), Answer(std::move(*error)));
  shards_[0]->post([this, request = std::move(request), origin, done = std::move(done)]() mutable {
    if (controller_ == nullptr)
      return answer(std::move(done), Answer(Error(ErrorCode::kNodeStopping, "node is stopping")));
    if (forward_to_controller(request, origin, done)) return;
    decide(*controller_, std::move(request), std::move(done));
  });
}
template void BrokerImpl::change_metadata(api::CreateTopicRequest, Origin, Done<api::CreateTopicResult>);
template void BrokerImpl::change_metadata(api::DeleteTopicRequest, Origin, Done<bool>);
template void BrokerImpl::change_metadata(api::AlterTopicRequest, Origin, Done<api::AlterTopicResult>);
template void BrokerImpl::change_metadata(api::MoveLeaderRequest, Origin, Done<api::MoveLeaderResult>);
template void BrokerImpl::change_metadata(api::ElectLeaderRequest, Origin, Done<api::ElectLeaderResult>);
template void BrokerImpl::change_metadata(api::DrainRequest, Origin, Done<api::DrainResult>);
template void BrokerImpl::change_metadata(api::ReplaceVoterRequest, Origin, Done<api::Unit>);
template void BrokerImpl::change_metadata(api::FindTopicRequest, Origin, Done<bool>);

void BrokerImpl::with_topics(std::vector<std::string> names, Origin origin,
                             UniqueFunction<void(std::optional<Error>)> run) {
  if (transport_ == nullptr || origin == Origin::kPeer) return run(std::nullopt);
  ImagePtr now = image();
  auto missing = std::find_if(names.begin(), names.end(), [&](const std::string& name) {
    return now->find_topic(name) == nullptr && !check_topic_name(name);
  });
  if (missing == names.end()) return run(std::nullopt);
  change_metadata(api::FindTopicRequest{*missing}, origin,
                  [run = std::move(run), name = *missing](const api::Answer<bool>& found) mutable {
                    if (found.ok()) return run(std::nullopt);
                    run(Error(ErrorCode::kLeaderNotAvailable,
                              "topic " + name + " is not known here, and nobody can tell whether it exists: " +
                                  found.error().message));
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

namespace {

void fill_state(api::PartitionState& state, api::Answer<PartitionEnds> ends) {
  if (!ends.ok()) {
    state.error = std::move(ends.error());
    return;
  }
  state.start_offset = ends->start;
  state.end_offset = ends->high_watermark;
  state.size_bytes = static_cast<int64_t>(ends->size_bytes);
}

}  // namespace

// Offsets and sizes of partitions, from the shards that own them.
void BrokerImpl::partition_states_here(const std::vector<TopicPartition>& partitions,
                                       Done<std::vector<api::PartitionState>> done) {
  auto states = std::make_shared<std::vector<api::PartitionState>>(partitions.size());
  std::vector<std::vector<std::pair<TopicPartition, api::PartitionState*>>> by_shard(shards_.size());
  for (size_t i = 0; i < partitions.size(); ++i) {
    (*states)[i].partition = partitions[i].partition;
    by_shard[shard_of(partitions[i])].emplace_back(partitions[i], &(*states)[i]);
  }
  auto gather = std::make_shared<Gather>(shards_.size(),
                                         [states, done = std::move(done)]() mutable { done(std::move(*states)); });
  for (size_t i = 0; i < shards_.size(); ++i) {
    shards_[i]->post([states, gather, targets = std::move(by_shard[i]), owner = shards_[i].get()] {
      for (const auto& [partition, state] : targets) fill_state(*state, owner->replicas.ends(partition));
      gather->arrived();
    });
  }
}

// Offsets and sizes of every partition, from the nodes that lead them.
void BrokerImpl::add_ends(std::vector<api::Topic> topics, UniqueFunction<void(std::vector<api::Topic>)> done) {
  struct Group {
    std::vector<TopicPartition> partitions;
    std::vector<api::PartitionState*> states;
  };
  auto result = std::make_shared<std::vector<api::Topic>>(std::move(topics));
  std::map<BrokerId, Group> groups;
  ImagePtr now = image();
  for (api::Topic& topic : *result) {
    const TopicImage* known = now->find_topic(topic.id);
    for (api::PartitionState& state : topic.partitions) {
      const auto index = static_cast<size_t>(state.partition.value());
      bool there = known != nullptr && index < known->partitions.size();
      BrokerId at = there ? elsewhere(known->partitions[index], Origin::kClient).value_or(self()) : self();
      groups[at].partitions.push_back({topic.id, state.partition});
      groups[at].states.push_back(&state);
    }
  }
  auto gather = std::make_shared<Gather>(groups.size() + 1,
                                         [result, done = std::move(done)]() mutable { done(std::move(*result)); });
  for (auto& [at, group] : groups) {
    auto fill = [result, gather, targets = std::move(group.states)](
                    api::Answer<std::vector<api::PartitionState>> answer, Offset = kNoOffset) {
      for (size_t i = 0; i < targets.size(); ++i) {
        if (!answer.ok() || i >= answer->size()) {
          targets[i]->error = answer.ok() ? Error(ErrorCode::kLeaderNotAvailable, "no answer") : answer.error();
          continue;
        }
        api::PartitionState& state = answer.value()[i];
        targets[i]->start_offset = state.start_offset;
        targets[i]->end_offset = state.end_offset;
        targets[i]->size_bytes = state.size_bytes;
        targets[i]->error = std::move(state.error);
      }
      gather->arrived();
    };
    if (at == self()) {
      partition_states_here(group.partitions, std::move(fill));
    } else {
      const int64_t deadline_ns = clock().monotonic_ns() + kStatesNs;
      forward(at, 0, api::PartitionStatesRequest{std::move(group.partitions)}, deadline_ns, 0, std::move(fill));
    }
  }
  shards_[0]->post([gather] { gather->arrived(); });
}

void BrokerImpl::describe_topics(std::vector<std::string> names, Done<std::vector<api::Topic>> done) {
  using Answer = api::Answer<std::vector<api::Topic>>;
  if (std::optional<Error> error = not_serving()) return answer(std::move(done), Answer(std::move(*error)));
  if (names.empty())
    return answer(std::move(done), Answer(Error(ErrorCode::kInvalidRequest, "no names: say which topics")));
  if (names.size() > options_.positions_per_request_max) {
    return answer(std::move(done), Answer(Error(ErrorCode::kInvalidRequest, "too many names in one request")));
  }
  with_topics(names, Origin::kClient, [this, names, done = std::move(done)](std::optional<Error> cannot_ask) mutable {
    ImagePtr now = image();
    std::vector<api::Topic> topics;
    for (const std::string& name : names) {
      const TopicImage* topic = now->find_topic(name);
      topics.push_back(topic != nullptr ? describe_topic(*now, *topic) : api::Topic{.name = name});
      if (topic == nullptr) topics.back().error = cannot_ask ? *cannot_ask : unknown_topic(*now, name);
    }
    add_ends(std::move(topics),
             [done = std::move(done)](std::vector<api::Topic> full) mutable { done(std::move(full)); });
  });
}

namespace {

std::optional<Error> check_trim(const MetadataImage& image, const api::TrimTopicRequest& request) {
  const TopicImage* topic = image.find_topic(request.topic);
  if (topic == nullptr) return BrokerImpl::unknown_topic(image, request.topic);
  if (topic->internal) return Error(ErrorCode::kInvalidTopic, "topic " + request.topic + " is internal");
  if (request.before.empty()) {
    return Error(ErrorCode::kInvalidRequest, "no positions: say before which offsets");
  }
  for (const api::Position& position : request.before) {
    if (position.partition.value() < 0 ||
        position.partition.value() >= static_cast<int32_t>(topic->partitions.size())) {
      return BrokerImpl::unknown_partition(*topic, position.partition);
    }
    if (position.offset && position.offset->value() < 0) {
      return Error(ErrorCode::kInvalidRequest, "offset must not be negative");
    }
  }
  return std::nullopt;
}

}  // namespace

void BrokerImpl::trim_topic(api::TrimTopicRequest request, Origin origin, Done<std::vector<api::PartitionState>> done) {
  using Answer = api::Answer<std::vector<api::PartitionState>>;
  if (std::optional<Error> error = not_serving()) return answer(std::move(done), Answer(std::move(*error)));
  with_topics({request.topic}, origin,
              [this, request, origin, done = std::move(done)](std::optional<Error> cannot_ask) mutable {
                ImagePtr now = image();
                std::optional<Error> error = check_trim(*now, request);
                if (error && cannot_ask && error->code == ErrorCode::kUnknownTopic) error = std::move(cannot_ask);
                if (error) return answer(std::move(done), Answer(std::move(*error)));
                trim_partitions(*now->find_topic(request.topic), request, origin, std::move(done));
              });
}

void BrokerImpl::trim_partitions(const TopicImage& topic, const api::TrimTopicRequest& request, Origin origin,
                                 Done<std::vector<api::PartitionState>> done) {
  auto states = std::make_shared<std::vector<api::PartitionState>>(request.before.size());
  auto gather = std::make_shared<Gather>(request.before.size(),
                                         [states, done = std::move(done)]() mutable { done(std::move(*states)); });
  for (size_t i = 0; i < request.before.size(); ++i) {
    const api::Position& position = request.before[i];
    TopicPartition partition{topic.id, position.partition};
    (*states)[i].partition = partition.partition;
    if (auto at = elsewhere(topic.partitions[static_cast<size_t>(partition.partition.value())], origin)) {
      api::TrimTopicRequest one{request.topic, {position}, request.validate_only};
      const int64_t deadline_ns = clock().monotonic_ns() + int64_t{options_.default_timeout_ms} * 1'000'000;
      forward(*at, peer_route(partition.topic, partition.partition), one, deadline_ns, 0,
              [states, gather, i](api::Answer<std::vector<api::PartitionState>> trimmed, Offset) {
                if (trimmed.ok() && !trimmed->empty()) {
                  (*states)[i] = std::move(trimmed->front());
                } else {
                  (*states)[i].error = trimmed.ok() ? Error(ErrorCode::kLeadershipLost, "no answer") : trimmed.error();
                }
                gather->arrived();
              });
      continue;
    }
    BrokerShard& owner = shard(shard_of(partition));
    owner.post([states, gather, &owner, partition, i, before = position.offset, dry = request.validate_only] {
      auto fill = [states, gather, i](api::Answer<PartitionEnds> ends) {
        fill_state((*states)[i], std::move(ends));
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

}  // namespace trilog
