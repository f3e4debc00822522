// What the messages of a Consume client ask for, checked: where to begin (which partitions, from which offset each),
// and what to commit.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "broker/api/requests.h"
#include "broker/broker.h"
#include "trilog/v1/broker.pb.h"

namespace trilog::grpc_edge {

struct ConsumeBeginning {
  std::string topic;
  PartitionId partition{0};
  Offset offset{0};
};

// Credit of a stream: as much as a client names, within what can be added up.
inline constexpr int64_t kCreditMax = INT64_MAX / 4;
inline int64_t clamp_credit(uint64_t credit) { return static_cast<int64_t>(std::min<uint64_t>(credit, kCreditMax)); }

// What can be refused without asking anybody.
std::optional<api::Error> check_consume_start(const v1::ConsumeRequest::Start& start, size_t positions_max);

// INVALID_REQUEST without a group.
api::Answer<api::CommitOffsetsRequest> consume_commit_of(const v1::ConsumeRequest::Commit& commit,
                                                         const std::string& group, size_t offsets_max);

// In this order: the offset given for a position, the group's committed offset, the time given, `from`. `done` runs
// once, on a shard's thread.
void resolve_consume_start(Broker& broker, const v1::ConsumeRequest::Start& start,
                           std::function<void(api::Answer<std::vector<ConsumeBeginning>>)> done);

}  // namespace trilog::grpc_edge
