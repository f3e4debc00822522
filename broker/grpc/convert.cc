#include "broker/grpc/convert.h"

#include <google/protobuf/unknown_field_set.h>

#include "broker/grpc/grpc_error.h"

namespace trilog::grpc_edge {
namespace {

api::Error invalid(std::string text) { return {api::ErrorCode::kInvalidRequest, std::move(text)}; }

std::string place(const std::string& topic, int32_t partition) {
  return printable(topic, 100) + "/" + std::to_string(partition);
}

std::optional<api::Error> check_place(const std::string& topic, int32_t partition) {
  if (topic.empty()) return invalid("a position needs a topic, in itself or in the request");
  if (partition < 0) return invalid("partition " + place(topic, partition) + ": a partition is 0 or more");
  return std::nullopt;
}

api::Error too_many(const char* what, size_t count, size_t count_max) {
  return invalid(std::to_string(count) + " " + what + " in one request; at most " + std::to_string(count_max) +
                 " are accepted: split it")
      .with_detail("limit", std::to_string(count_max));
}

template <typename Ids, typename Out>
void fill_ids(const Ids& ids, Out* out) {
  for (BrokerId id : ids) out->Add(id.value());
}

}  // namespace

api::Error unsupported_field(std::string_view message_name, uint32_t number) {
  return api::Error(api::ErrorCode::kUnsupportedField, "field " + std::to_string(number) + " of " +
                                                           std::string(message_name) +
                                                           " is not known to this broker, so nothing was done; "
                                                           "update the broker or leave the field out")
      .with_detail("field", std::to_string(number))
      .with_detail("message", std::string(message_name));
}

std::optional<api::Error> check_no_unknown_fields(const google::protobuf::Message& message) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  const auto& unknown = reflection.GetUnknownFields(message);
  if (!unknown.empty()) {
    return unsupported_field(message.GetDescriptor()->name(), static_cast<uint32_t>(unknown.field(0).number()));
  }
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const auto* field : fields) {
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      if (auto error = check_no_unknown_fields(reflection.GetMessage(message, field))) return error;
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      if (auto error = check_no_unknown_fields(reflection.GetRepeatedMessage(message, field, i))) return error;
    }
  }
  return std::nullopt;
}

api::Answer<std::vector<api::Position>> positions_of(const google::protobuf::RepeatedPtrField<v1::Position>& positions,
                                                     const std::string& default_topic, size_t count_max) {
  size_t count = static_cast<size_t>(positions.size());
  if (count > count_max) return too_many("positions", count, count_max);
  std::vector<api::Position> result;
  result.reserve(count);
  for (const v1::Position& position : positions) {
    const std::string& topic = position.topic().empty() ? default_topic : position.topic();
    if (auto error = check_place(topic, position.partition())) return std::move(*error);
    api::Position& out = result.emplace_back();
    out.topic = topic;
    out.partition = PartitionId(position.partition());
    if (position.has_offset()) {
      if (position.offset() < 0) {
        return invalid("offset " + std::to_string(position.offset()) + " in " + place(topic, position.partition()) +
                       ": an offset is 0 or more; leave it out for the first record that is there");
      }
      out.offset = Offset(position.offset());
    }
    if (position.has_leader_epoch()) out.leader_epoch = LeaderEpoch(position.leader_epoch());
  }
  return result;
}

api::Answer<api::ListOffsetsRequest> list_offsets_of(const v1::ListOffsetsRequest& request, size_t count_max) {
  api::ListOffsetsRequest result;
  result.topic = request.topic();
  size_t count = static_cast<size_t>(request.partitions_size());
  if (count > count_max) return too_many("positions", count, count_max);
  if (request.topic().empty() && count == 0) return invalid("ListOffsets needs a topic or positions");
  bool any_time = false;
  for (const v1::Position& position : request.partitions()) {
    const std::string& topic = position.topic().empty() ? request.topic() : position.topic();
    if (auto error = check_place(topic, position.partition())) return std::move(*error);
    any_time |= position.has_timestamp_ms();
    result.queries.push_back({topic, PartitionId(position.partition()), position.timestamp_ms()});
  }
  switch (request.spec()) {
    case v1::ListOffsetsRequest::SPEC_UNSPECIFIED:
      result.spec = any_time ? api::OffsetSpec::kTimestamp : api::OffsetSpec::kLatest;
      break;
    case v1::ListOffsetsRequest::EARLIEST: result.spec = api::OffsetSpec::kEarliest; break;
    case v1::ListOffsetsRequest::LATEST: result.spec = api::OffsetSpec::kLatest; break;
    case v1::ListOffsetsRequest::TIMESTAMP: result.spec = api::OffsetSpec::kTimestamp; break;
    default: return invalid("spec " + std::to_string(request.spec()) + " is not EARLIEST, LATEST or TIMESTAMP");
  }
  if (result.spec == api::OffsetSpec::kTimestamp) {
    if (count == 0) return invalid("TIMESTAMP needs positions with timestamp_ms");
    for (const v1::Position& position : request.partitions()) {
      if (position.has_timestamp_ms()) continue;
      return invalid("partition " + std::to_string(position.partition()) + " has no timestamp_ms to look for");
    }
  }
  return result;
}

api::Answer<std::vector<api::CommittedOffset>> commits_of(
    const google::protobuf::RepeatedPtrField<v1::CommittedOffset>& offsets, size_t count_max) {
  size_t count = static_cast<size_t>(offsets.size());
  if (count == 0) return invalid("nothing to commit: the request has no offsets");
  if (count > count_max) return too_many("offsets", count, count_max);
  std::vector<api::CommittedOffset> result;
  result.reserve(count);
  for (const v1::CommittedOffset& offset : offsets) {
    if (auto error = check_place(offset.topic(), offset.partition())) return std::move(*error);
    if (offset.offset() < 0) {
      return invalid("offset " + std::to_string(offset.offset()) + " in " + place(offset.topic(), offset.partition()) +
                     ": an offset is 0 or more");
    }
    api::CommittedOffset& out = result.emplace_back();
    out.topic = offset.topic();
    out.partition = PartitionId(offset.partition());
    out.offset = Offset(offset.offset());
    if (offset.has_leader_epoch()) out.leader_epoch = LeaderEpoch(offset.leader_epoch());
    out.metadata = offset.metadata();
  }
  return result;
}

void fill_offset(const api::ListedOffset& offset, BrokerId node, v1::ListedOffset& out) {
  out.set_topic(offset.topic);
  out.set_partition(offset.partition.value());
  out.set_offset(offset.error ? -1 : offset.offset.value());
  if (offset.timestamp_ms) out.set_timestamp_ms(*offset.timestamp_ms);
  out.set_leader_epoch(offset.leader_epoch.value());
  out.set_stale(offset.stale);
  if (offset.error) fill_error(*offset.error, node, *out.mutable_error());
}

void fill_commit(const api::CommittedOffset& offset, BrokerId node, v1::CommittedOffset& out) {
  out.set_topic(offset.topic);
  out.set_partition(offset.partition.value());
  out.set_offset(offset.offset.value());
  if (offset.leader_epoch != kNoLeaderEpoch) out.set_leader_epoch(offset.leader_epoch.value());
  out.set_metadata(offset.metadata);
  if (offset.commit_timestamp_ms != kNoTimestamp) out.set_commit_timestamp_ms(offset.commit_timestamp_ms);
  if (offset.error) fill_error(*offset.error, node, *out.mutable_error());
}

void fill_partition(const api::PartitionState& state, BrokerId node, v1::PartitionState& out) {
  out.set_partition(state.partition.value());
  out.set_leader(state.leader.value());
  out.set_leader_epoch(state.leader_epoch.value());
  fill_ids(state.replicas, out.mutable_replicas());
  fill_ids(state.isr, out.mutable_isr());
  fill_ids(state.lagging, out.mutable_lagging());
  out.set_start_offset(state.start_offset.value());
  out.set_end_offset(state.end_offset.value());
  out.set_size_bytes(state.size_bytes);
  if (state.error) fill_error(*state.error, node, *out.mutable_error());
}

void fill_topic(const api::Topic& topic, BrokerId node, v1::Topic& out) {
  out.set_name(topic.name);
  if (topic.error) {
    fill_error(*topic.error, node, *out.mutable_error());
    return;
  }
  out.set_topic_id(topic.id.to_string());
  out.set_durability(std::string(api::durability_name(topic.durability)));
  out.set_replicas(topic.replicas);
  for (const auto& partition : topic.partitions) fill_partition(partition, node, *out.add_partitions());
  for (const auto& [name, config] : topic.configs) {
    v1::ConfigValue& value = (*out.mutable_configs())[name];
    value.set_value(config.value);
    value.set_source(config.source);
  }
  out.set_unsafe(topic.unsafe);
}

void fill_group(const api::Group& group, v1::Group& out) {
  out.set_group(group.group);
  out.set_state(group.state);
  out.set_coordinator_node_id(group.coordinator.value());
  for (const api::GroupPartition& partition : group.partitions) {
    v1::GroupPartition& entry = *out.add_partitions();
    entry.set_topic(partition.topic);
    entry.set_partition(partition.partition.value());
    if (partition.committed) entry.set_committed_offset(partition.committed->value());
    entry.set_end_offset(partition.end.value());
    entry.set_lag(partition.lag);
    if (partition.commit_timestamp_ms != kNoTimestamp) entry.set_commit_timestamp_ms(partition.commit_timestamp_ms);
  }
}

void fill_cluster(const api::Cluster& cluster, v1::DescribeClusterResponse& out) {
  out.set_cluster_id(cluster.id.to_string());
  out.set_controller(cluster.controller.value());
  for (const api::NodeState& node : cluster.nodes) {
    v1::NodeState& entry = *out.add_nodes();
    entry.set_node_id(node.id.value());
    entry.set_address(node.address);
    entry.set_state(node.state);
    if (!node.directory.is_zero()) entry.set_directory_id(node.directory.to_string());
    entry.set_version(node.version);
  }
  out.set_version(cluster.version);
  for (const auto& feature : cluster.features) out.add_features(feature);
  for (const auto& problem : cluster.problems) out.add_problems(problem);
}

std::map<std::string, std::string> text_map_of(const google::protobuf::Map<std::string, std::string>& map) {
  return {map.begin(), map.end()};
}

}  // namespace trilog::grpc_edge
