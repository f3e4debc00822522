// Consumer groups: find the shard that coordinates the group, ask there. Path (c) of docs/paths.md.
#include <algorithm>

#include "broker/forwarding.h"

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

uint32_t BrokerImpl::group_route(const MetadataImage& image, const std::string& group) const {
  const TopicImage* topic = image.find_topic(kOffsetsTopic);
  if (topic == nullptr) return 0;
  return peer_route(topic->id, offsets_partition_of(group, static_cast<int32_t>(topic->partitions.size())));
}

std::optional<BrokerId> BrokerImpl::group_elsewhere(const MetadataImage& image, const std::string& group,
                                                    Origin origin) const {
  const TopicImage* topic = image.find_topic(kOffsetsTopic);
  if (topic == nullptr) return std::nullopt;
  PartitionId partition = offsets_partition_of(group, static_cast<int32_t>(topic->partitions.size()));
  return elsewhere(topic->partitions[static_cast<size_t>(partition.value())], origin);
}

// To the coordinator of the group, which is another node; else false.
template <typename Request, typename Reply>
bool BrokerImpl::forward_to_coordinator(const std::string& group, Request& request, int64_t deadline_ns, Origin origin,
                                        Reply& done) {
  ImagePtr now = image();
  std::optional<BrokerId> at = group_elsewhere(*now, group, origin);
  if (!at) return false;
  const uint32_t route = group_route(*now, group);
  forward(*at, route, std::move(request), deadline_ns, 0,
          [done = std::move(done)](auto answer, Offset) mutable { done(std::move(answer)); });
  return true;
}

int64_t BrokerImpl::default_deadline_ns() {
  return clock().monotonic_ns() + int64_t{options_.default_timeout_ms} * 1'000'000;
}

namespace {

std::optional<Error> check_commit(const api::CommitOffsetsRequest& request, const GroupOptions& options) {
  if (auto error = check_group_name(request.group, options)) return error;
  if (request.offsets.empty()) return Error(ErrorCode::kInvalidRequest, "no offsets: nothing to commit");
  if (request.offsets.size() > options.offsets_per_commit_max) {
    return Error(ErrorCode::kInvalidRequest, std::to_string(request.offsets.size()) +
                                                 " offsets in one commit; at most " +
                                                 std::to_string(options.offsets_per_commit_max) + " are allowed");
  }
  return std::nullopt;
}

template <typename Entries>
std::vector<std::string> topics_of(const Entries& entries) {
  std::vector<std::string> names;
  for (const auto& entry : entries) names.push_back(entry.topic);
  return names;
}

// Of the first that is not there.
template <typename Entries>
std::optional<Error> first_unknown(const MetadataImage& image, const Entries& entries) {
  for (const auto& entry : entries) {
    if (image.find_topic(entry.topic) == nullptr) return BrokerImpl::unknown_topic(image, entry.topic);
  }
  return std::nullopt;
}

}  // namespace

void BrokerImpl::commit_offsets(api::CommitOffsetsRequest request, Origin origin,
                                Done<std::vector<api::CommittedOffset>> done) {
  using Answer = api::Answer<std::vector<api::CommittedOffset>>;
  std::optional<Error> error = not_serving();
  if (!error) error = check_commit(request, options_.group);
  if (error) return answer(std::move(done), Answer(std::move(*error)));
  std::vector<std::string> names = topics_of(request.offsets);
  with_topics(
      std::move(names), origin,
      [this, request = std::move(request), origin, done = std::move(done)](std::optional<Error> failed) mutable {
        // An unknown topic fails the whole commit, before anything is written.
        if (!failed) failed = first_unknown(*image(), request.offsets);
        if (failed) return answer(std::move(done), Answer(std::move(*failed)));
        commit_to_coordinator(std::move(request), origin, std::move(done));
      });
}

void BrokerImpl::commit_to_coordinator(api::CommitOffsetsRequest request, Origin origin,
                                       Done<std::vector<api::CommittedOffset>> done) {
  ensure_offsets_topic(
      [this, request = std::move(request), origin, done = std::move(done)](std::optional<Error> failed) mutable {
        using Answer = api::Answer<std::vector<api::CommittedOffset>>;
        if (failed) return answer(std::move(done), Answer(std::move(*failed)));
        const std::string group = request.group;
        if (forward_to_coordinator(group, request, request.deadline_ns, origin, done)) return;
        BrokerShard& owner = shard(shard_of_group(*image(), group));
        owner.post([&owner, request = std::move(request), done = std::move(done)]() mutable {
          owner.groups.commit_offsets(std::move(request), std::move(done));
        });
      });
}

void BrokerImpl::fetch_offsets(api::FetchOffsetsRequest request, Origin origin,
                               Done<std::vector<api::CommittedOffset>> done) {
  using Answer = api::Answer<std::vector<api::CommittedOffset>>;
  std::optional<Error> error = not_serving();
  if (!error) error = check_group_name(request.group, options_.group);
  if (error) return answer(std::move(done), Answer(std::move(*error)));
  std::vector<std::string> names = topics_of(request.positions);
  names.emplace_back(kOffsetsTopic);
  with_topics(
      std::move(names), origin,
      [this, request = std::move(request), origin, done = std::move(done)](std::optional<Error> failed) mutable {
        ImagePtr now = image();
        if (!failed) failed = first_unknown(*now, request.positions);
        if (failed) return answer(std::move(done), Answer(std::move(*failed)));
        if (now->find_topic(kOffsetsTopic) == nullptr)
          return answer(std::move(done), Answer(std::vector<api::CommittedOffset>()));
        const std::string group = request.group;
        if (forward_to_coordinator(group, request, default_deadline_ns(), origin, done)) return;
        BrokerShard& owner = shard(shard_of_group(*now, group));
        owner.post([&owner, request = std::move(request), done = std::move(done)]() mutable {
          owner.groups.fetch_offsets(std::move(request), std::move(done));
        });
      });
}

// A coordinator that does not know the stream has perhaps just become one: the client may try again while it is asked.
void BrokerImpl::commit_for_stream(api::CommitOffsetsRequest request, Done<std::vector<api::CommittedOffset>> done) {
  using Answer = api::Answer<std::vector<api::CommittedOffset>>;
  if (request.stream == 0 || transport_ == nullptr) {
    return commit_offsets(std::move(request), Origin::kClient, std::move(done));
  }
  const api::StreamId stream = request.stream;
  commit_offsets(std::move(request), Origin::kClient, [this, stream, done = std::move(done)](Answer answer) mutable {
    if (answer.ok() || answer.error().code != ErrorCode::kFencedMember) return done(std::move(answer));
    shards_[0]->post([this, stream, done = std::move(done), answer = std::move(answer)]() mutable {
      if (group_claims_ == nullptr || !group_claims_->refused(stream)) return done(std::move(answer));
      done(Error(ErrorCode::kLeaderNotAvailable, api::Outcome::kNotWritten,
                 "the group has a new coordinator, which is being told of this stream"));
    });
  });
}

void BrokerImpl::claim_group(api::ClaimGroupRequest request, UniqueFunction<void(const Error&)> lost,
                             Done<api::Unit> done) {
  request.stream = own_stream(request.stream);
  auto claimed = [this, request, lost = std::move(lost),
                  done = std::move(done)](api::Answer<api::GroupClaim> answer) mutable {
    if (!answer.ok()) {
      // Perhaps it was claimed all the same, and the answer is lost.
      if (answer.error().code != ErrorCode::kGroupInUse) {
        release_group(request.group, request.stream, Origin::kClient, 0);
      }
      return done(std::move(answer.error()));
    }
    shards_[0]->post([this, request = std::move(request), granted = answer.value(), lost = std::move(lost),
                      done = std::move(done)]() mutable {
      if (group_claims_ != nullptr) group_claims_->add(std::move(request), granted, std::move(lost));
      done(api::Unit{});
    });
  };
  claim_at_coordinator(std::move(request), Origin::kClient, std::move(claimed));
}

// A claim needs the offsets topic, so that the group has one home from the start.
void BrokerImpl::claim_at_coordinator(api::ClaimGroupRequest request, Origin origin, Done<api::GroupClaim> done) {
  using Answer = api::Answer<api::GroupClaim>;
  std::optional<Error> error = not_serving();
  if (!error) error = check_group_name(request.group, options_.group);
  if (error) return answer(std::move(done), Answer(std::move(*error)));
  ensure_offsets_topic(
      [this, request = std::move(request), origin, done = std::move(done)](std::optional<Error> failed) mutable {
        if (failed) return answer(std::move(done), Answer(std::move(*failed)));
        const std::string group = request.group;
        if (forward_to_coordinator(group, request, default_deadline_ns(), origin, done)) return;
        BrokerShard& owner = shard(shard_of_group(*image(), group));
        owner.post([&owner, request = std::move(request), done = std::move(done)]() mutable {
          done(owner.groups.claim(request));
        });
      });
}

// A coordinator that is away for a while, and comes back as one, must hear of it then: else nobody could read with the
// group any more.
void BrokerImpl::release_group(std::string group, api::StreamId stream, Origin origin, int tries) {
  if (origin == Origin::kClient && tries == 0) {
    shards_[0]->post([this, stream] {
      if (group_claims_ != nullptr) group_claims_->remove(stream);
    });
  }
  api::ReleaseGroupRequest request{group, stream};
  auto again = [this, group, stream, tries] {
    if (tries >= kReleaseTriesMax || not_serving()) return;
    shards_[0]->post([this, group, stream, tries] {
      shards_[0]->env.executor().schedule_after(
          kReleaseRetryNs, [this, group, stream, tries] { release_group(group, stream, Origin::kClient, tries + 1); });
    });
  };
  Done<api::Unit> answered([again](const api::Answer<api::Unit>& answer) {
    if (!answer.ok()) again();
  });
  if (forward_to_coordinator(group, request, default_deadline_ns(), origin, answered)) return;
  const ImagePtr now = image();
  if (origin == Origin::kClient && transport_ != nullptr && !leads_group(*now, group)) return again();
  BrokerShard& owner = shard(shard_of_group(*now, group));
  owner.post([&owner, group = std::move(group), stream] { owner.groups.release(group, stream); });
}

bool BrokerImpl::leads_group(const MetadataImage& image, const std::string& group) const {
  const TopicImage* topic = image.find_topic(kOffsetsTopic);
  if (topic == nullptr) return true;  // there was never anything to release
  PartitionId partition = offsets_partition_of(group, static_cast<int32_t>(topic->partitions.size()));
  return topic->partitions[static_cast<size_t>(partition.value())].leader == self();
}

// Those that this node coordinates.
void BrokerImpl::list_groups_here(api::ListGroupsRequest request, Done<api::GroupPage> done) {
  struct Operation {
    std::mutex mutex;
    api::GroupPage page;
    std::optional<Error> error;
    Done<api::GroupPage> done;
  };
  if (std::optional<Error> error = not_serving()) {
    return answer(std::move(done), api::Answer<api::GroupPage>(std::move(*error)));
  }
  auto operation = std::make_shared<Operation>();
  operation->done = std::move(done);
  auto gather = std::make_shared<Gather>(shards_.size(), [operation] {
    if (operation->error) return operation->done(std::move(*operation->error));
    operation->done(std::move(operation->page));
  });
  for (auto& each : shards_) {
    each->post([operation, gather, request, owner = each.get()] {
      owner->groups.list_groups(request.prefix, request.page_token, request.page_size,
                                [operation, gather](api::Answer<std::vector<api::Group>> found) {
                                  {
                                    std::lock_guard lock(operation->mutex);
                                    if (!found.ok()) {
                                      operation->error = std::move(found.error());
                                    } else {
                                      std::move(found->begin(), found->end(),
                                                std::back_inserter(operation->page.groups));
                                    }
                                  }
                                  gather->arrived();
                                });
    });
  }
}

// Of all nodes that coordinate some.
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
  const uint32_t limit = std::clamp<uint32_t>(page_size == 0 ? 1'000 : page_size, 1, 10'000);
  auto operation = std::make_shared<Operation>();
  operation->done = std::move(done);
  ImagePtr now = image();
  std::set<BrokerId> nodes{self()};
  if (const TopicImage* topic = now->find_topic(kOffsetsTopic)) {
    for (const PartitionImage& partition : topic->partitions) {
      if (partition.leader == kNoBroker || (partition.leader != self() && !elsewhere(partition, Origin::kClient))) {
        operation->error =
            Error(ErrorCode::kLeaderNotAvailable, "some groups have no coordinator that can be reached now; try again");
      } else {
        nodes.insert(partition.leader);
      }
    }
  }
  auto gather = std::make_shared<Gather>(nodes.size(), [operation, limit] {
    if (operation->error) return operation->done(std::move(*operation->error));
    std::vector<api::Group>& groups = operation->groups;
    std::sort(groups.begin(), groups.end(), [](const auto& a, const auto& b) { return a.group < b.group; });
    bool more = groups.size() > limit;
    if (more) groups.resize(limit);
    std::string token = more ? groups.back().group : std::string();
    operation->done(Page(std::move(groups), std::move(token)));
  });
  // One more than a page, so that it is known whether there is a next one.
  api::ListGroupsRequest request{std::move(prefix), limit + 1, std::move(page_token)};
  for (BrokerId node : nodes) {
    auto take = [operation, gather](api::Answer<api::GroupPage> found, Offset = kNoOffset) {
      {
        std::lock_guard lock(operation->mutex);
        if (!found.ok()) {
          operation->error = std::move(found.error());
        } else {
          std::move(found->groups.begin(), found->groups.end(), std::back_inserter(operation->groups));
        }
      }
      gather->arrived();
    };
    if (node == self()) {
      list_groups_here(request, std::move(take));
    } else {
      forward(node, 0, request, default_deadline_ns(), 0, std::move(take));
    }
  }
}

void BrokerImpl::describe_group(std::string group, Origin origin, Done<api::Group> done) {
  using Answer = api::Answer<api::Group>;
  std::optional<Error> error = not_serving();
  if (!error) error = check_group_name(group, options_.group);
  if (error) return answer(std::move(done), Answer(std::move(*error)));
  auto found = [this, done = std::move(done), origin](Answer described) mutable {
    if (described.ok() && described->coordinator == kNoBroker) described->coordinator = self();
    // Who asked adds the ends, from wherever the partitions are led.
    if (!described.ok() || origin == Origin::kPeer) return done(std::move(described));
    add_lag(std::move(described.value()), std::move(done));
  };
  with_topics({std::string(kOffsetsTopic)}, origin,
              [this, group = std::move(group), origin, found = std::move(found)](std::optional<Error> failed) mutable {
                if (failed) return answer(Done<api::Group>(std::move(found)), Answer(std::move(*failed)));
                api::DescribeGroupRequest request{group};
                if (forward_to_coordinator(group, request, default_deadline_ns(), origin, found)) return;
                BrokerShard& owner = shard(shard_of_group(*image(), group));
                owner.post([&owner, group = std::move(group), found = std::move(found)]() mutable {
                  owner.groups.describe_group(std::move(group), std::move(found));
                });
              });
}

// Lag is what lies between the committed offset and the end; both are the broker's own knowledge.
void BrokerImpl::add_lag(api::Group group, Done<api::Group> done) {
  api::ListOffsetsRequest ends{.spec = api::OffsetSpec::kLatest};
  ImagePtr now = image();
  for (const api::GroupPartition& partition : group.partitions) {
    if (now->find_topic(partition.topic) != nullptr) ends.queries.push_back({partition.topic, partition.partition, 0});
  }
  if (ends.queries.empty()) return done(std::move(group));
  list_offsets(
      std::move(ends), Origin::kClient,
      [group = std::move(group), done = std::move(done)](api::Answer<std::vector<api::ListedOffset>> listed) mutable {
        if (!listed.ok()) return done(std::move(listed.error()));
        for (api::GroupPartition& partition : group.partitions) {
          for (const api::ListedOffset& end : listed.value()) {
            if (end.topic != partition.topic || end.partition != partition.partition || end.error) continue;
            partition.end = end.offset;
            partition.lag = partition.committed ? std::max<int64_t>(end.offset - *partition.committed, 0) : 0;
          }
        }
        done(std::move(group));
      });
}

void BrokerImpl::delete_group(std::string group, bool validate_only, Origin origin, Done<api::Unit> done) {
  std::optional<Error> error = not_serving();
  if (!error) error = check_group_name(group, options_.group);
  if (error) return answer(std::move(done), api::Answer<api::Unit>(std::move(*error)));
  api::DeleteGroupRequest request{group, validate_only};
  if (forward_to_coordinator(group, request, default_deadline_ns(), origin, done)) return;
  BrokerShard& owner = shard(shard_of_group(*image(), group));
  owner.post([&owner, group = std::move(group), validate_only, done = std::move(done)]() mutable {
    owner.groups.delete_group(std::move(group), validate_only, std::move(done));
  });
}

}  // namespace trilog
