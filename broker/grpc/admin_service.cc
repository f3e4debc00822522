#include "broker/grpc/admin_service.h"

#include <string>
#include <utility>
#include <vector>

#include "broker/grpc/convert.h"
#include "broker/grpc/typed_call.h"

namespace trilog::grpc_edge {
namespace {

api::Error invalid(std::string text) { return {api::ErrorCode::kInvalidRequest, std::move(text)}; }

// "-1 partitions": a count of the request that must not be negative.
std::optional<api::Error> check_count(int32_t value, const char* what) {
  if (value >= 0) return std::nullopt;
  return invalid(std::to_string(value) + " " + what + ": leave it 0 for the default");
}

std::optional<api::Error> check_topic_given(const std::string& topic) {
  if (!topic.empty()) return std::nullopt;
  return api::Error{api::ErrorCode::kInvalidTopic, "the request names no topic"};
}

void create_topic(UnaryCall& call, const v1::CreateTopicRequest& message) {
  if (auto error = check_count(message.partitions(), "partitions")) return call.fail(*error);
  if (auto error = check_count(message.replicas(), "replicas")) return call.fail(*error);
  api::CreateTopicRequest create;
  create.name = message.name();
  create.partitions = message.partitions();
  create.replicas = message.replicas();
  create.configs = text_map_of(message.configs());
  create.if_not_exists = message.if_not_exists();
  create.validate_only = message.validate_only();
  call.edge().broker().create_topic(std::move(create), [&call](api::Answer<api::CreateTopicResult> result) {
    if (!result.ok()) return call.fail(result.error());
    v1::CreateTopicResponse response;
    fill_topic(result->topic, call.edge().self(), *response.mutable_topic());
    response.set_created(result->created);
    call.succeed(response);
  });
}

void delete_topic(UnaryCall& call, const v1::DeleteTopicRequest& message) {
  api::DeleteTopicRequest drop;
  drop.name = message.name();
  drop.if_exists = message.if_exists();
  drop.validate_only = message.validate_only();
  if (!message.topic_id().empty()) {
    Result<TopicId> id = TopicId::parse(message.topic_id());
    if (!id.ok()) return call.fail(invalid("topic_id: " + std::string(id.status().message())));
    drop.id = *id;
  }
  call.edge().broker().delete_topic(std::move(drop), [&call](api::Answer<bool> result) {
    if (!result.ok()) return call.fail(result.error());
    v1::DeleteTopicResponse response;
    response.set_deleted(result.value());
    call.succeed(response);
  });
}

void list_topics(UnaryCall& call, const v1::ListTopicsRequest& message) {
  if (auto error = check_count(message.page_size(), "entries on a page")) return call.fail(*error);
  api::ListTopicsRequest list{.prefix = message.prefix(),
                              .page_size = static_cast<uint32_t>(message.page_size()),
                              .page_token = message.page_token(),
                              .internal = message.internal()};
  call.edge().broker().list_topics(std::move(list), [&call](api::Answer<api::ListTopicsResult> result) {
    if (!result.ok()) return call.fail(result.error());
    v1::ListTopicsResponse response;
    for (const auto& topic : result->topics) fill_topic(topic, call.edge().self(), *response.add_topics());
    response.set_next_page_token(result->next_page_token);
    call.succeed(response);
  });
}

void describe_topic(UnaryCall& call, const v1::DescribeTopicRequest& message) {
  if (message.names_size() == 0) return call.fail(invalid("DescribeTopic needs at least one name"));
  if (static_cast<uint32_t>(message.names_size()) > call.edge().options().positions_per_request_max) {
    return call.fail(invalid(std::to_string(message.names_size()) + " names in one request; at most " +
                             std::to_string(call.edge().options().positions_per_request_max)));
  }
  std::vector<std::string> names(message.names().begin(), message.names().end());
  call.edge().broker().describe_topics(std::move(names), [&call](api::Answer<std::vector<api::Topic>> result) {
    if (!result.ok()) return call.fail(result.error());
    // One name that does not exist is a call that failed.
    if (result->size() == 1 && result->front().error) return call.fail(*result->front().error);
    v1::DescribeTopicResponse response;
    for (const auto& topic : result.value()) fill_topic(topic, call.edge().self(), *response.add_topics());
    call.succeed(response);
  });
}

void alter_topic(UnaryCall& call, const v1::AlterTopicRequest& message) {
  if (auto error = check_count(message.partitions(), "partitions")) return call.fail(*error);
  api::AlterTopicRequest alter;
  alter.name = message.name();
  alter.set = text_map_of(message.set());
  alter.unset = {message.unset().begin(), message.unset().end()};
  alter.partitions = message.partitions();
  alter.validate_only = message.validate_only();
  call.edge().broker().alter_topic(std::move(alter), [&call](api::Answer<api::AlterTopicResult> result) {
    if (!result.ok()) return call.fail(result.error());
    v1::AlterTopicResponse response;
    fill_topic(result->topic, call.edge().self(), *response.mutable_topic());
    response.set_changed(result->changed);
    call.succeed(response);
  });
}

void trim_topic(UnaryCall& call, const v1::TrimTopicRequest& message) {
  auto before = positions_of(message.before(), message.topic(), call.edge().options().positions_per_request_max);
  if (!before.ok()) return call.fail(before.error());
  if (before->empty()) return call.fail(invalid("TrimTopic needs at least one position to trim before"));
  api::TrimTopicRequest trim{
      .topic = message.topic(), .before = std::move(before.value()), .validate_only = message.validate_only()};
  call.edge().broker().trim_topic(std::move(trim), [&call](api::Answer<std::vector<api::PartitionState>> result) {
    if (!result.ok()) return call.fail(result.error());
    if (const api::Error* error = shared_error(result.value())) return call.fail(*error);
    v1::TrimTopicResponse response;
    for (const auto& state : result.value()) {
      fill_partition(state, call.edge().self(), *response.add_partitions());
    }
    call.succeed(response);
  });
}

void describe_cluster(UnaryCall& call, const v1::DescribeClusterRequest&) {
  call.edge().broker().describe_cluster([&call](api::Answer<api::Cluster> result) {
    if (!result.ok()) return call.fail(result.error());
    v1::DescribeClusterResponse response;
    fill_cluster(result.value(), response);
    call.succeed(response);
  });
}

void move_leader(UnaryCall& call, const v1::MoveLeaderRequest& message) {
  if (auto error = check_topic_given(message.topic())) return call.fail(*error);
  api::MoveLeaderRequest move{.topic = message.topic(),
                              .partition = PartitionId(message.partition()),
                              .to = BrokerId(message.to_node_id()),
                              .validate_only = message.validate_only()};
  call.edge().broker().move_leader(std::move(move),
                                   [&call, dry = message.validate_only()](api::Answer<api::MoveLeaderResult> result) {
                                     if (!result.ok()) return call.fail(result.error());
                                     v1::MoveLeaderResponse response;
                                     response.set_leader(result->leader.value());
                                     response.set_leader_epoch(result->leader_epoch.value());
                                     response.set_changed(result->changed && !dry);
                                     call.succeed(response);
                                   });
}

void elect_leader(UnaryCall& call, const v1::ElectLeaderRequest& message) {
  if (auto error = check_topic_given(message.topic())) return call.fail(*error);
  if (!message.accept_loss() && !message.validate_only()) {
    return call.fail(
        invalid("electing a leader that is not in sync may drop acknowledged records: ask with "
                "validate_only how many, then set accept_loss"));
  }
  api::ElectLeaderRequest elect{.topic = message.topic(),
                                .partition = PartitionId(message.partition()),
                                .leader = std::nullopt,
                                .validate_only = message.validate_only()};
  if (message.has_leader()) elect.leader = BrokerId(message.leader());
  call.edge().broker().elect_leader(std::move(elect),
                                    [&call, dry = message.validate_only()](api::Answer<api::ElectLeaderResult> result) {
                                      if (!result.ok()) return call.fail(result.error());
                                      v1::ElectLeaderResponse response;
                                      response.set_leader(result->leader.value());
                                      response.set_leader_epoch(result->leader_epoch.value());
                                      response.set_changed(!dry);
                                      for (const api::ReplicaReach& reach : result->heard) {
                                        v1::ReplicaReach& heard = *response.add_heard();
                                        heard.set_node_id(reach.broker.value());
                                        heard.set_last_epoch(reach.last_epoch.value());
                                        heard.set_end_offset(reach.log_end.value());
                                      }
                                      for (BrokerId broker : result->trusted) response.add_trusted(broker.value());
                                      call.succeed(response);
                                    });
}

void drain_node(UnaryCall& call, const v1::DrainNodeRequest& message) {
  api::DrainRequest drain{.broker = BrokerId(message.node_id()), .validate_only = message.validate_only()};
  call.edge().broker().drain(drain, [&call, dry = message.validate_only()](api::Answer<api::DrainResult> result) {
    if (!result.ok()) return call.fail(result.error());
    v1::DrainNodeResponse response;
    response.set_moved(result->moved);
    response.set_left(result->left);
    response.set_changed(result->moved > 0 && !dry);
    call.succeed(response);
  });
}

void replace_voter(UnaryCall& call, const v1::ReplaceVoterRequest& message) {
  api::ReplaceVoterRequest replace{.broker = BrokerId(message.node_id()), .validate_only = message.validate_only()};
  call.edge().broker().replace_voter(replace,
                                     [&call, dry = message.validate_only()](const api::Answer<api::Unit>& result) {
                                       if (!result.ok()) return call.fail(result.error());
                                       v1::ReplaceVoterResponse response;
                                       response.set_changed(!dry);
                                       call.succeed(response);
                                     });
}

void recover_quorum(UnaryCall& call, const v1::RecoverQuorumRequest& message) {
  const bool dry = message.validate_only();
  call.edge().broker().recover_quorum(dry, [&call, dry](const api::Answer<api::RecoverQuorumResult>& result) {
    if (!result.ok()) return call.fail(result.error());
    v1::RecoverQuorumResponse response;
    response.set_survivor(result->survivor.value());
    for (BrokerId broker : result->lost) response.add_lost(broker.value());
    response.set_led(result->led);
    response.set_given_up(result->given_up);
    response.set_elsewhere(result->elsewhere);
    response.set_changed(!dry);
    call.succeed(response);
  });
}

void list_groups(UnaryCall& call, const v1::ListGroupsRequest& message) {
  if (auto error = check_count(message.page_size(), "entries on a page")) return call.fail(*error);
  call.edge().broker().list_groups(message.prefix(), static_cast<uint32_t>(message.page_size()), message.page_token(),
                                   [&call](api::Answer<std::pair<std::vector<api::Group>, std::string>> result) {
                                     if (!result.ok()) return call.fail(result.error());
                                     v1::ListGroupsResponse response;
                                     for (const auto& group : result->first) fill_group(group, *response.add_groups());
                                     response.set_next_page_token(result->second);
                                     call.succeed(response);
                                   });
}

void describe_group(UnaryCall& call, const v1::DescribeGroupRequest& message) {
  call.edge().broker().describe_group(message.group(), [&call](api::Answer<api::Group> result) {
    if (!result.ok()) return call.fail(result.error());
    v1::DescribeGroupResponse response;
    fill_group(result.value(), *response.mutable_group());
    call.succeed(response);
  });
}

void delete_group(UnaryCall& call, const v1::DeleteGroupRequest& message) {
  bool validate_only = message.validate_only();
  call.edge().broker().delete_group(message.group(), validate_only,
                                    [&call, validate_only](api::Answer<api::Unit> result) {
                                      if (!result.ok()) return call.fail(result.error());
                                      v1::DeleteGroupResponse response;
                                      response.set_deleted(!validate_only);
                                      call.succeed(response);
                                    });
}

}  // namespace

void add_admin_methods(Edge& edge, RpcMethods& methods) {
  auto name = [](const char* method) { return std::string("/trilog.v1.Admin/") + method; };
  methods[name("CreateTopic")] = typed_method<v1::CreateTopicRequest>(edge, "CreateTopic", Kind::kWrite, create_topic);
  methods[name("DeleteTopic")] = typed_method<v1::DeleteTopicRequest>(edge, "DeleteTopic", Kind::kWrite, delete_topic);
  methods[name("ListTopics")] = typed_method<v1::ListTopicsRequest>(edge, "ListTopics", Kind::kRead, list_topics);
  methods[name("DescribeTopic")] =
      typed_method<v1::DescribeTopicRequest>(edge, "DescribeTopic", Kind::kRead, describe_topic);
  methods[name("AlterTopic")] = typed_method<v1::AlterTopicRequest>(edge, "AlterTopic", Kind::kWrite, alter_topic);
  methods[name("TrimTopic")] = typed_method<v1::TrimTopicRequest>(edge, "TrimTopic", Kind::kWrite, trim_topic);
  methods[name("DescribeCluster")] =
      typed_method<v1::DescribeClusterRequest>(edge, "DescribeCluster", Kind::kRead, describe_cluster);
  methods[name("MoveLeader")] = typed_method<v1::MoveLeaderRequest>(edge, "MoveLeader", Kind::kWrite, move_leader);
  methods[name("ElectLeader")] = typed_method<v1::ElectLeaderRequest>(edge, "ElectLeader", Kind::kWrite, elect_leader);
  methods[name("DrainNode")] = typed_method<v1::DrainNodeRequest>(edge, "DrainNode", Kind::kWrite, drain_node);
  methods[name("ReplaceVoter")] =
      typed_method<v1::ReplaceVoterRequest>(edge, "ReplaceVoter", Kind::kWrite, replace_voter);
  methods[name("RecoverQuorum")] =
      typed_method<v1::RecoverQuorumRequest>(edge, "RecoverQuorum", Kind::kEarlyWrite, recover_quorum);
  methods[name("ListGroups")] = typed_method<v1::ListGroupsRequest>(edge, "ListGroups", Kind::kRead, list_groups);
  methods[name("DescribeGroup")] =
      typed_method<v1::DescribeGroupRequest>(edge, "DescribeGroup", Kind::kRead, describe_group);
  methods[name("DeleteGroup")] = typed_method<v1::DeleteGroupRequest>(edge, "DeleteGroup", Kind::kWrite, delete_group);
}

}  // namespace trilog::grpc_edge
