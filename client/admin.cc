#include "client/client.h"
#include "client/connection.h"

namespace trilog::client {
namespace {

TopicInfo decode(const v1::Topic& topic) {
  TopicInfo info{topic.name(), topic.topic_id(), topic.durability(), topic.replicas()};
  info.unsafe = topic.unsafe();
  for (const auto& [name, config] : topic.configs()) info.configs[name] = {config.value(), config.source()};
  for (const v1::PartitionState& state : topic.partitions()) {
    PartitionInfo partition{state.partition(), state.leader(), state.leader_epoch()};
    partition.replicas.assign(state.replicas().begin(), state.replicas().end());
    partition.isr.assign(state.isr().begin(), state.isr().end());
    partition.lagging.assign(state.lagging().begin(), state.lagging().end());
    partition.start_offset = state.start_offset();
    partition.end_offset = state.end_offset();
    partition.size_bytes = state.size_bytes();
    if (state.has_error()) partition.error = decode_error(state.error());
    info.partitions.push_back(std::move(partition));
  }
  return info;
}

GroupInfo decode(const v1::Group& group) {
  GroupInfo info{group.group(), group.state(), {}, group.coordinator_node_id()};
  for (const v1::GroupPartition& from : group.partitions()) {
    GroupPartition partition{from.topic(), from.partition()};
    if (from.has_committed_offset()) partition.committed_offset = from.committed_offset();
    partition.end_offset = from.end_offset();
    partition.lag = from.lag();
    partition.commit_timestamp_ms = from.commit_timestamp_ms();
    info.partitions.push_back(std::move(partition));
  }
  return info;
}

Commit decode(const v1::CommittedOffset& from) {
  Commit commit{from.topic(), from.partition(), from.offset()};
  if (from.has_leader_epoch()) commit.leader_epoch = from.leader_epoch();
  commit.metadata = from.metadata();
  commit.commit_timestamp_ms = from.commit_timestamp_ms();
  if (from.has_error()) commit.error = decode_error(from.error());
  return commit;
}

std::string counts(int got, size_t wanted) {
  return std::to_string(got) + " entries where " + std::to_string(wanted) + " were asked for";
}

template <typename Items>
auto decode_all(const Items& items) {
  std::vector<decltype(decode(*items.begin()))> decoded;
  for (const auto& item : items) decoded.push_back(decode(item));
  return decoded;
}

constexpr const char* kStuck = "a list that does not go on";

// A page that ends nothing, and brings nothing or leads to itself.
template <typename Request, typename Response>
bool is_stuck(const Request& asked, const Response& page, int entries) {
  const std::string& next = page.next_page_token();
  return !next.empty() && (entries == 0 || next == asked.page_token());
}

}  // namespace

Outcome<std::pair<TopicInfo, bool>> Admin::create_topic(const TopicSpec& spec) {
  v1::CreateTopicRequest request;
  request.set_name(spec.name);
  request.set_partitions(spec.partitions);
  request.set_replicas(spec.replicas);
  for (const auto& [name, value] : spec.configs) (*request.mutable_configs())[name] = value;
  request.set_if_not_exists(spec.if_not_exists);
  request.set_validate_only(spec.validate_only);
  auto response = call(client_.impl(), true, &v1::Admin::Stub::CreateTopic, &v1::Admin::NewStub, request);
  if (!response.ok()) return response.error();
  return std::pair(decode(response->topic()), response->created());
}

Outcome<bool> Admin::delete_topic(const std::string& name, bool if_exists, bool validate_only) {
  v1::DeleteTopicRequest request;
  request.set_name(name);
  request.set_if_exists(if_exists);
  request.set_validate_only(validate_only);
  auto response = call(client_.impl(), true, &v1::Admin::Stub::DeleteTopic, &v1::Admin::NewStub, request);
  if (!response.ok()) return response.error();
  return response->deleted();
}

Outcome<std::vector<TopicInfo>> Admin::list_topics(const std::string& prefix, bool internal) {
  std::vector<TopicInfo> topics;
  v1::ListTopicsRequest request;
  request.set_prefix(prefix);
  request.set_internal(internal);
  do {
    auto response = call(client_.impl(), false, &v1::Admin::Stub::ListTopics, &v1::Admin::NewStub, request);
    if (!response.ok()) return response.error();
    for (const v1::Topic& topic : response->topics()) topics.push_back(decode(topic));
    if (is_stuck(request, response.value(), response->topics_size())) return broken_answer(kStuck, false);
    request.set_page_token(response->next_page_token());
  } while (!request.page_token().empty());
  return topics;
}

Outcome<TopicInfo> Admin::describe_topic(const std::string& name) {
  v1::DescribeTopicRequest request;
  request.add_names(name);
  auto response = call(client_.impl(), false, &v1::Admin::Stub::DescribeTopic, &v1::Admin::NewStub, request);
  if (!response.ok()) return response.error();
  if (response->topics_size() != 1) return broken_answer(counts(response->topics_size(), 1), false);
  if (response->topics(0).has_error()) return decode_error(response->topics(0).error());
  return decode(response->topics(0));
}

Outcome<std::pair<TopicInfo, bool>> Admin::alter_topic(const TopicChange& change) {
  v1::AlterTopicRequest request;
  request.set_name(change.name);
  for (const auto& [name, value] : change.set) (*request.mutable_set())[name] = value;
  for (const std::string& name : change.unset) request.add_unset(name);
  request.set_partitions(change.partitions);
  request.set_validate_only(change.validate_only);
  auto response = call(client_.impl(), true, &v1::Admin::Stub::AlterTopic, &v1::Admin::NewStub, request);
  if (!response.ok()) return response.error();
  return std::pair(decode(response->topic()), response->changed());
}

Outcome<std::vector<PartitionInfo>> Admin::trim_topic(const std::string& topic, const std::vector<Position>& before,
                                                      bool validate_only) {
  v1::TrimTopicRequest request;
  request.set_topic(topic);
  request.set_validate_only(validate_only);
  for (const Position& position : before) {
    v1::Position* to = request.add_before();
    to->set_partition(position.partition);
    if (position.offset) to->set_offset(*position.offset);
  }
  auto response = call(client_.impl(), true, &v1::Admin::Stub::TrimTopic, &v1::Admin::NewStub, request);
  if (!response.ok()) return response.error();
  if (static_cast<size_t>(response->partitions_size()) != before.size())
    return broken_answer(counts(response->partitions_size(), before.size()), !validate_only);
  v1::Topic all;
  all.mutable_partitions()->Swap(response->mutable_partitions());
  return decode(all).partitions;
}

Outcome<std::vector<GroupInfo>> Admin::list_groups(const std::string& prefix) {
  std::vector<GroupInfo> groups;
  v1::ListGroupsRequest request;
  request.set_prefix(prefix);
  do {
    auto response = call(client_.impl(), false, &v1::Admin::Stub::ListGroups, &v1::Admin::NewStub, request);
    if (!response.ok()) return response.error();
    for (const v1::Group& group : response->groups()) groups.push_back(decode(group));
    if (is_stuck(request, response.value(), response->groups_size())) return broken_answer(kStuck, false);
    request.set_page_token(response->next_page_token());
  } while (!request.page_token().empty());
  return groups;
}

Outcome<GroupInfo> Admin::describe_group(const std::string& group) {
  v1::DescribeGroupRequest request;
  request.set_group(group);
  auto response = call(client_.impl(), false, &v1::Admin::Stub::DescribeGroup, &v1::Admin::NewStub, request);
  if (!response.ok()) return response.error();
  return decode(response->group());
}

Outcome<bool> Admin::delete_group(const std::string& group, bool validate_only) {
  v1::DeleteGroupRequest request;
  request.set_group(group);
  request.set_validate_only(validate_only);
  auto response = call(client_.impl(), true, &v1::Admin::Stub::DeleteGroup, &v1::Admin::NewStub, request);
  if (!response.ok()) return response.error();
  return response->deleted();
}

Outcome<ClusterInfo> Admin::describe_cluster() {
  auto response =
      call(client_.impl(), false, &v1::Admin::Stub::DescribeCluster, &v1::Admin::NewStub, v1::DescribeClusterRequest());
  if (!response.ok()) return response.error();
  ClusterInfo cluster{response->cluster_id(), response->controller(), {}, response->version()};
  for (const v1::NodeState& node : response->nodes()) {
    cluster.nodes.push_back({node.node_id(), node.address(), node.state(), node.directory_id(), node.version()});
  }
  cluster.features.assign(response->features().begin(), response->features().end());
  cluster.problems.assign(response->problems().begin(), response->problems().end());
  return cluster;
}

Outcome<LeaderMove> Admin::move_leader(const std::string& topic, int32_t partition, int32_t to, bool validate_only) {
  v1::MoveLeaderRequest request;
  request.set_topic(topic);
  request.set_partition(partition);
  request.set_to_node_id(to);
  request.set_validate_only(validate_only);
  auto response = call(client_.impl(), true, &v1::Admin::Stub::MoveLeader, &v1::Admin::NewStub, request);
  if (!response.ok()) return response.error();
  return LeaderMove{response->leader(), response->leader_epoch(), response->changed()};
}

Outcome<Election> Admin::elect_leader_with_loss(const std::string& topic, int32_t partition,
                                                std::optional<int32_t> leader, bool validate_only) {
  v1::ElectLeaderRequest request;
  request.set_topic(topic);
  request.set_partition(partition);
  if (leader) request.set_leader(*leader);
  request.set_accept_loss(!validate_only);
  request.set_validate_only(validate_only);
  auto response = call(client_.impl(), true, &v1::Admin::Stub::ElectLeader, &v1::Admin::NewStub, request);
  if (!response.ok()) return response.error();
  Election election{response->leader(), response->leader_epoch(), response->changed(), {}, {}};
  for (const v1::ReplicaReach& reach : response->heard()) {
    election.heard.push_back({reach.node_id(), reach.last_epoch(), reach.end_offset()});
  }
  election.trusted.assign(response->trusted().begin(), response->trusted().end());
  return election;
}

Outcome<DrainedNode> Admin::drain_node(int32_t node, bool validate_only) {
  v1::DrainNodeRequest request;
  request.set_node_id(node);
  request.set_validate_only(validate_only);
  auto response = call(client_.impl(), true, &v1::Admin::Stub::DrainNode, &v1::Admin::NewStub, request);
  if (!response.ok()) return response.error();
  return DrainedNode{response->moved(), response->left(), response->changed()};
}

Outcome<bool> Admin::replace_voter(int32_t node, bool validate_only) {
  v1::ReplaceVoterRequest request;
  request.set_node_id(node);
  request.set_validate_only(validate_only);
  auto response = call(client_.impl(), true, &v1::Admin::Stub::ReplaceVoter, &v1::Admin::NewStub, request);
  if (!response.ok()) return response.error();
  return response->changed();
}

Outcome<QuorumRecovery> Admin::recover_quorum(bool validate_only) {
  v1::RecoverQuorumRequest request;
  request.set_validate_only(validate_only);
  auto response = call(client_.impl(), true, &v1::Admin::Stub::RecoverQuorum, &v1::Admin::NewStub, request);
  if (!response.ok()) return response.error();
  QuorumRecovery recovery;
  recovery.survivor = response->survivor();
  recovery.lost.assign(response->lost().begin(), response->lost().end());
  recovery.led = response->led();
  recovery.given_up = response->given_up();
  recovery.elsewhere = response->elsewhere();
  recovery.changed = response->changed();
  return recovery;
}

Outcome<std::vector<ListedOffset>> Admin::list_offsets(const std::string& topic, OffsetSpec spec,
                                                       int64_t timestamp_ms) {
  v1::ListOffsetsRequest request;
  request.set_topic(topic);
  request.set_spec(spec == OffsetSpec::kEarliest ? v1::ListOffsetsRequest::EARLIEST
                   : spec == OffsetSpec::kLatest ? v1::ListOffsetsRequest::LATEST
                                                 : v1::ListOffsetsRequest::TIMESTAMP);
  if (spec == OffsetSpec::kTimestamp) {
    // A time belongs to a position, so the partitions must be named.
    Outcome<TopicInfo> info = describe_topic(topic);
    if (!info.ok()) return info.error();
    for (const PartitionInfo& partition : info->partitions) {
      v1::Position* position = request.add_partitions();
      position->set_partition(partition.partition);
      position->set_timestamp_ms(timestamp_ms);
    }
  }
  auto response = call(client_.impl(), false, &v1::Broker::Stub::ListOffsets, &v1::Broker::NewStub, request);
  if (!response.ok()) return response.error();
  if (!names_each_partition_once(response->offsets()) || response->offsets_size() == 0)
    return broken_answer("the offsets are not one for each partition of " + topic, false);
  std::vector<ListedOffset> offsets;
  for (const v1::ListedOffset& from : response->offsets()) {
    ListedOffset offset{from.topic(), from.partition(), from.offset()};
    if (from.has_timestamp_ms()) offset.timestamp_ms = from.timestamp_ms();
    if (from.has_error()) offset.error = decode_error(from.error());
    if (!offset.error && offset.offset < 0)
      return broken_answer(topic + "/" + std::to_string(from.partition()) + " at a negative offset", false);
    offsets.push_back(std::move(offset));
  }
  return offsets;
}

Outcome<std::vector<Commit>> Admin::commit_offsets(const std::string& group, const std::vector<Commit>& offsets) {
  v1::CommitOffsetsRequest request;
  request.set_group(group);
  for (const Commit& commit : offsets) {
    v1::CommittedOffset* to = request.add_offsets();
    to->set_topic(commit.topic);
    to->set_partition(commit.partition);
    to->set_offset(commit.offset);
    if (commit.leader_epoch) to->set_leader_epoch(*commit.leader_epoch);
    to->set_metadata(commit.metadata);
  }
  // A commit of the same offsets again changes nothing, so it is repeated like a read.
  auto response = call(client_.impl(), false, &v1::Broker::Stub::CommitOffsets, &v1::Broker::NewStub, request);
  if (!response.ok()) return response.error();
  if (static_cast<size_t>(response->offsets_size()) != offsets.size())
    return broken_answer(counts(response->offsets_size(), offsets.size()), true);
  return decode_all(response->offsets());
}

Outcome<std::vector<Commit>> Admin::fetch_offsets(const std::string& group, const std::string& topic) {
  v1::FetchOffsetsRequest request;
  request.set_group(group);
  request.set_topic(topic);
  auto response = call(client_.impl(), false, &v1::Broker::Stub::FetchOffsets, &v1::Broker::NewStub, request);
  if (!response.ok()) return response.error();
  std::vector<Commit> commits;
  for (Commit& commit : decode_all(response->offsets())) {
    if (topic.empty() || commit.topic == topic) commits.push_back(std::move(commit));
  }
  return commits;
}

}  // namespace trilog::client
