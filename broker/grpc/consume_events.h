// The messages that a Consume stream sends, ready to be written.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <vector>

#include "broker/api/requests.h"
#include "broker/grpc/consume_partitions.h"
#include "broker/grpc/fetch_codec.h"
#include "broker/grpc/outbox.h"
#include "trilog/v1/broker.pb.h"

namespace trilog::grpc_edge {

// Records of one partition, with what they cost; `index` is the partition's.
Outbox::Item records_event(size_t index, const api::FetchedPartition& part, EncodedRecords records, BrokerId node);
Outbox::Item committed_event(uint64_t request_id, const std::vector<api::CommittedOffset>& offsets, BrokerId node);
// Every offset of a commit with the same error.
Outbox::Item refused_commit_event(const v1::ConsumeRequest::Commit& commit, const api::Error& error, BrokerId node);
// `position` may be null: then the error is about a message of the client.
Outbox::Item failed_event(const v1::Position* position, const api::Error& error, BrokerId node);
// About a partition as a whole, with where it stands.
Outbox::Item failed_event(const ConsumePartition& partition, const api::Error& error, BrokerId node);
Outbox::Item heartbeat_event(ConsumePartitions& partitions, BrokerId node);
// Those of `reached` that are still at that end. Some may have been sought elsewhere since, or have gone on: then their
// records, and a new end, are written after this message, and no later end may be told before them.
grpc::ByteBuffer caught_up_message(ConsumePartitions& partitions, const std::vector<Outbox::Reached>& reached);

}  // namespace trilog::grpc_edge
