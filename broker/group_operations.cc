// Consumer groups: find the shard that coordinates the group, ask there. Path (c) of docs/paths.md.
#include <algorithm>

#include "broker/broker_impl.h"

namespace trilog {

using api::Error;
using api::ErrorCode;

// The offsets topic is made by the first commit, not at the start: a node that only produces never needs it.
void BrokerImpl::ensure_offsets_topic(ErrorOr ready) {
  if (image()->find_topic(kOffsetsTopic) != nullptr) return ready(std::nullopt);
  api::CreateTopicRequest create{.name = std::string(kOffsetsTopic),
                                 .partitions = options_.offsets_partitions,
                                 .if_not_exists = true,
                                 .internal = true};
  create.configs["retention.ms"] = "-1";  // G3: exempt from retention
  create.configs["segment.bytes"] = std::to_string(options_.group.offsets_segment_bytes);
  create_topic(std::move(create), [ready = std::move(ready)](api::Answer<api::CreateTopicResult> created) mutable {
    ready(created.ok() ? std::nullopt : std::optional<Error>(std::move(created.error())));
  });
}

void BrokerImpl::commit_offsets(api::CommitOffsetsRequest request, Done<std::vector<api::CommittedOffset>> done) {
  using Answer = api::Answer<std::vector<api::CommittedOffset>>;
  std::optional<Error> error = not_serving();
  if (!error) error = check_group_name(request.group, options_.group);
  if (!error && request.offsets.empty()) error = Error(ErrorCode::kInvalidRequest, "no offsets: nothing to commit");
  if (!error && request.offsets.size() > options_.group.offsets_per_commit_max) {
    error =
        Error(ErrorCode::kInvalidRequest, std::to_string(request.offsets.size()) + " offsets in one commit; at most " +
                                              std::to_string(options_.group.offsets_per_commit_max) + " are allowed");
  }
  if (error) return answer(std::move(done), Answer(std::move(*error)));
  // An unknown topic fails the whole commit, before anything is written.
  ImagePtr now = image();
  for (const api::CommittedOffset& offset : request.offsets) {
    if (now->find_topic(offset.topic) == nullptr)
      return answer(std::move(done), Answer(unknown_topic(*now, offset.topic)));
  }
  ensure_offsets_topic(
      [this, request = std::move(request), done = std::move(done)](std::optional<Error> failed) mutable {
        if (failed) return answer(std::move(done), Answer(std::move(*failed)));
        BrokerShard& owner = shard(shard_of_group(*image(), request.group));
        owner.post([&owner, request = std::move(request), done = std::move(done)]() mutable {
          owner.groups.commit_offsets(std::move(request), std::move(done));
        });
      });
}

void BrokerImpl::fetch_offsets(api::FetchOffsetsRequest request, Done<std::vector<api::CommittedOffset>> done) {
  using Answer = api::Answer<std::vector<api::CommittedOffset>>;
  std::optional<Error> error = not_serving();
  if (!error) error = check_group_name(request.group, options_.group);
  ImagePtr now = image();
  for (const api::Position& position : request.positions) {
    if (!error && now->find_topic(position.topic) == nullptr) error = unknown_topic(*now, position.topic);
  }
  if (error) return answer(std::move(done), Answer(std::move(*error)));
  if (now->find_topic(kOffsetsTopic) == nullptr)
    return answer(std::move(done), Answer(std::vector<api::CommittedOffset>()));
  BrokerShard& owner = shard(shard_of_group(*now, request.group));
  owner.post([&owner, request = std::move(request), done = std::move(done)]() mutable {
    owner.groups.fetch_offsets(std::move(request), std::move(done));
  });
}

// A claim needs the offsets topic, so that the group has one home from the start.
void BrokerImpl::claim_group(api::ClaimGroupRequest request, Done<api::Unit> done) {
  using Answer = api::Answer<api::Unit>;
  std::optional<Error> error = not_serving();
  if (!error) error = check_group_name(request.group, options_.group);
  if (error) return answer(std::move(done), Answer(std::move(*error)));
  ensure_offsets_topic(
      [this, request = std::move(request), done = std::move(done)](std::optional<Error> failed) mutable {
        if (failed) return answer(std::move(done), Answer(std::move(*failed)));
        BrokerShard& owner = shard(shard_of_group(*image(), request.group));
        owner.post([&owner, request = std::move(request), done = std::move(done)]() mutable {
          done(owner.groups.claim(request));
        });
      });
}

void BrokerImpl::release_group(std::string group, api::StreamId stream) {
  BrokerShard& owner = shard(shard_of_group(*image(), group));
  owner.post([&owner, group = std::move(group), stream] { owner.groups.release(group, stream); });
}

void BrokerImpl::list_groups(std::string prefix, uint32_t page_size, std::string page_token,
                             Done<std::pair<std::vector<api::Group>, std::string>> done) {
  using Page = std::pair<std::vector<api::Group>, std::string>;
  struct Operation {
    std::mutex mutex;
    std::vector<api::Group> groups;
    std::optional<Error> error;
    Done<Page> done;
  };
  if (std::optional<Error> error = not_serving()) return answer(std::move(done), api::Answer<Page>(std::move(*error)));
  uint32_t limit = std::clamp<uint32_t>(page_size == 0 ? 1'000 : page_size, 1, 10'000);
  auto operation = std::make_shared<Operation>();
  operation->done = std::move(done);
  auto finish = [operation, limit] {
    if (operation->error) return operation->done(std::move(*operation->error));
    std::vector<api::Group>& groups = operation->groups;
    std::sort(groups.begin(), groups.end(), [](const auto& a, const auto& b) { return a.group < b.group; });
    bool more = groups.size() > limit;
    if (more) groups.resize(limit);
    std::string token = more ? groups.back().group : std::string();
    operation->done(Page(std::move(groups), std::move(token)));
  };
  auto gather = std::make_shared<Gather>(shards_.size(), std::move(finish));
  for (auto& each : shards_) {
    each->post([operation, gather, prefix, page_token, limit, owner = each.get()] {
      // One more than a page, so that it is known whether there is a next one.
      owner->groups.list_groups(prefix, page_token, limit + 1,
                                [operation, gather](api::Answer<std::vector<api::Group>> found) {
                                  {
                                    std::lock_guard lock(operation->mutex);
                                    if (!found.ok()) {
                                      operation->error = std::move(found.error());
                                    } else {
                                      std::move(found->begin(), found->end(), std::back_inserter(operation->groups));
                                    }
                                  }
                                  gather->arrived();
                                });
    });
  }
}

void BrokerImpl::describe_group(std::string group, Done<api::Group> done) {
  using Answer = api::Answer<api::Group>;
  std::optional<Error> error = not_serving();
  if (!error) error = check_group_name(group, options_.group);
  if (error) return answer(std::move(done), Answer(std::move(*error)));
  BrokerShard& owner = shard(shard_of_group(*image(), group));
  owner.post([this, &owner, group = std::move(group), done = std::move(done)]() mutable {
    owner.groups.describe_group(std::move(group), [this, done = std::move(done)](Answer found) mutable {
      if (!found.ok() || found->partitions.empty()) return done(std::move(found));
      // Lag is what lies between the committed offset and the end; both are the broker's own knowledge.
      api::ListOffsetsRequest ends{.spec = api::OffsetSpec::kLatest};
      ImagePtr now = image();
      for (const api::GroupPartition& partition : found->partitions) {
        if (now->find_topic(partition.topic) != nullptr)
          ends.queries.push_back({partition.topic, partition.partition, 0});
      }
      if (ends.queries.empty()) return done(std::move(found));
      list_offsets(std::move(ends), [found = std::move(found), done = std::move(done)](
                                        api::Answer<std::vector<api::ListedOffset>> listed) mutable {
        if (!listed.ok()) return done(std::move(listed.error()));
        for (api::GroupPartition& partition : found->partitions) {
          for (const api::ListedOffset& end : listed.value()) {
            if (end.topic != partition.topic || end.partition != partition.partition || end.error) continue;
            partition.end = end.offset;
            partition.lag = partition.committed ? std::max<int64_t>(end.offset - *partition.committed, 0) : 0;
          }
        }
        done(std::move(found));
      });
    });
  });
}

void BrokerImpl::delete_group(std::string group, bool validate_only, Done<api::Unit> done) {
  std::optional<Error> error = not_serving();
  if (!error) error = check_group_name(group, options_.group);
  if (error) return answer(std::move(done), api::Answer<api::Unit>(std::move(*error)));
  BrokerShard& owner = shard(shard_of_group(*image(), group));
  owner.post([&owner, group = std::move(group), validate_only, done = std::move(done)]() mutable {
    owner.groups.delete_group(std::move(group), validate_only, std::move(done));
  });
}

}  // namespace trilog
