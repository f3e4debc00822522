// Messages of the public interface to the core's neutral types and back, one function per type. Requests are checked
// for what can be seen without knowing the cluster: ranges of numbers, contradictions, fields this broker does not
// know. Produce and fetched records have their own files.
#pragma once

#include <google/protobuf/message.h>

#include <optional>
#include <string>
#include <vector>

#include "broker/api/requests.h"
#include "trilog/v1/admin.pb.h"
#include "trilog/v1/broker.pb.h"

namespace trilog::grpc_edge {

// The first field of a write that this broker does not know, also inside of nested messages: UNSUPPORTED_FIELD.
std::optional<api::Error> check_no_unknown_fields(const google::protobuf::Message& message);
api::Error unsupported_field(std::string_view message_name, uint32_t number);

// A negative partition or offset and a missing topic are INVALID_REQUEST.
api::Answer<std::vector<api::Position>> positions_of(const google::protobuf::RepeatedPtrField<v1::Position>& positions,
                                                     const std::string& default_topic, size_t count_max);
api::Answer<api::ListOffsetsRequest> list_offsets_of(const v1::ListOffsetsRequest& request, size_t count_max);
api::Answer<std::vector<api::CommittedOffset>> commits_of(
    const google::protobuf::RepeatedPtrField<v1::CommittedOffset>& offsets, size_t count_max);

void fill_offset(const api::ListedOffset& offset, BrokerId node, v1::ListedOffset& out);
void fill_commit(const api::CommittedOffset& offset, BrokerId node, v1::CommittedOffset& out);
void fill_partition(const api::PartitionState& state, BrokerId node, v1::PartitionState& out);
void fill_topic(const api::Topic& topic, BrokerId node, v1::Topic& out);
void fill_group(const api::Group& group, v1::Group& out);
void fill_cluster(const api::Cluster& cluster, v1::DescribeClusterResponse& out);

std::map<std::string, std::string> text_map_of(const google::protobuf::Map<std::string, std::string>& map);

// Fetch, ListOffsets, CommitOffsets and FetchOffsets fail as a whole for an unknown topic, and when every entry has the
// same error; else errors stay in their entries.
template <typename Entry>
const api::Error* shared_error(const std::vector<Entry>& entries) {
  for (const Entry& entry : entries) {
    if (entry.error && entry.error->code == api::ErrorCode::kUnknownTopic) return &*entry.error;
  }
  if (entries.empty() || !entries.front().error) return nullptr;
  for (const Entry& entry : entries) {
    if (!entry.error || entry.error->code != entries.front().error->code) return nullptr;
  }
  return &*entries.front().error;
}

}  // namespace trilog::grpc_edge
