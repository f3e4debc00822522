// Offset queries: every node that leads some of the partitions answers for those.
#include <algorithm>
#include <map>

#include "broker/forwarding.h"

namespace trilog {

using api::Error;
using api::ErrorCode;

namespace {

struct Operation {
  std::vector<api::ListedOffset> result;
  api::OffsetSpec spec = api::OffsetSpec::kLatest;
};

// On the shard that owns the partition.
void look_up(ReplicaManager& replicas, const TopicPartition& partition, api::OffsetSpec spec, int64_t timestamp_ms,
             api::ListedOffset& out) {
  api::Answer<PartitionEnds> ends = replicas.ends(partition);
  if (!ends.ok()) {
    out.error = ends.error();
    return;
  }
  out.leader_epoch = ends->leader_epoch;
  out.stale = ends->stale;
  out.offset = spec == api::OffsetSpec::kEarliest ? ends->start : ends->high_watermark;
  if (spec != api::OffsetSpec::kTimestamp) return;
  auto found = replicas.find_timestamp(partition, timestamp_ms);
  if (!found.ok()) {
    out.error = found.error();
  } else if (found.value()) {
    out.offset = found.value()->offset;
    out.timestamp_ms = found.value()->timestamp_ms;
    out.leader_epoch = found.value()->leader_epoch;
  }
}

}  // namespace

void BrokerImpl::list_offsets(api::ListOffsetsRequest request, Origin origin,
                              Done<std::vector<api::ListedOffset>> done) {
  using Answer = api::Answer<std::vector<api::ListedOffset>>;
  if (std::optional<Error> error = not_serving()) return answer(std::move(done), Answer(std::move(*error)));
  if (request.queries.size() > options_.positions_per_request_max) {
    return answer(std::move(done),
                  Answer(Error(ErrorCode::kInvalidRequest, "too many partitions in one request; at most " +
                                                               std::to_string(options_.positions_per_request_max) +
                                                               " are allowed")));
  }
  std::vector<std::string> names;
  if (request.queries.empty()) names.push_back(request.topic);
  for (const api::OffsetQuery& query : request.queries) names.push_back(query.topic);
  with_topics(std::move(names), origin,
              [this, request = std::move(request), origin, done = std::move(done)](std::optional<Error> error) mutable {
                if (error) return answer(std::move(done), Answer(std::move(*error)));
                list_known_offsets(std::move(request), origin, std::move(done));
              });
}

void BrokerImpl::list_known_offsets(api::ListOffsetsRequest request, Origin origin,
                                    Done<std::vector<api::ListedOffset>> done) {
  using Answer = api::Answer<std::vector<api::ListedOffset>>;
  ImagePtr now = image();
  if (request.queries.empty()) {
    const TopicImage* topic = now->find_topic(request.topic);
    if (topic == nullptr) return answer(std::move(done), Answer(unknown_topic(*now, request.topic)));
    for (size_t p = 0; p < topic->partitions.size(); ++p) {
      request.queries.push_back({request.topic, PartitionId(static_cast<int32_t>(p)), 0});
    }
  }
  auto operation = std::make_shared<Operation>();
  operation->spec = request.spec;
  struct Target {
    TopicPartition partition;
    size_t index;
    int64_t timestamp_ms;
  };
  std::vector<Target> here;
  std::map<BrokerId, std::vector<size_t>> there;
  for (size_t i = 0; i < request.queries.size(); ++i) {
    const api::OffsetQuery& query = request.queries[i];
    const TopicImage* topic = now->find_topic(query.topic);
    if (topic == nullptr) return answer(std::move(done), Answer(unknown_topic(*now, query.topic)));
    operation->result.push_back({.topic = query.topic, .partition = query.partition});
    const auto index = query.partition.value();
    if (index < 0 || index >= static_cast<int32_t>(topic->partitions.size())) {
      operation->result[i].error = unknown_partition(*topic, query.partition);
    } else if (auto at = elsewhere(topic->partitions[static_cast<size_t>(index)], origin)) {
      there[*at].push_back(i);
    } else {
      here.push_back({{topic->id, query.partition}, i, query.timestamp_ms});
    }
  }
  auto gather = std::make_shared<Gather>(here.size() + there.size() + 1, [operation, done = std::move(done)]() mutable {
    done(std::move(operation->result));
  });
  for (const Target& target : here) {
    BrokerShard& owner = shard(shard_of(target.partition));
    owner.post([operation, gather, &owner, target] {
      look_up(owner.replicas, target.partition, operation->spec, target.timestamp_ms, operation->result[target.index]);
      gather->arrived();
    });
  }
  for (auto& [at, indexes] : there) {
    api::ListOffsetsRequest part{.spec = request.spec};
    for (size_t index : indexes) part.queries.push_back(request.queries[index]);
    forward(at, 0, std::move(part), clock().monotonic_ns() + kStatesNs, 0,
            [operation, gather, indexes = std::move(indexes)](Answer answer, Offset) {
              for (size_t i = 0; i < indexes.size(); ++i) {
                api::ListedOffset& out = operation->result[indexes[i]];
                if (answer.ok() && i < answer->size()) {
                  out = std::move(answer.value()[i]);
                } else {
                  out.error = answer.ok() ? Error(ErrorCode::kLeaderNotAvailable, "no answer") : answer.error();
                }
              }
              gather->arrived();
            });
  }
  shards_[0]->post([gather] { gather->arrived(); });
}

}  // namespace trilog
