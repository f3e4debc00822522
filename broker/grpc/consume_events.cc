#include "broker/grpc/consume_events.h"

#include <utility>

#include "broker/grpc/convert.h"
#include "broker/grpc/grpc_error.h"
#include "broker/grpc/wire.h"

namespace trilog::grpc_edge {
namespace {

// Field numbers of ConsumeResponse.
enum : uint32_t { kRecords = 1, kHeartbeat = 5, kCreditUsed = 10 };

grpc::ByteBuffer serialized(const v1::ConsumeResponse& message) {
  Bytes bytes(message.ByteSizeLong());
  message.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(bytes.data()));
  return buffer_of(std::move(bytes));
}

Outbox::Item answer_of(const v1::ConsumeResponse& message) {
  Outbox::Item item;
  item.message = serialized(message);
  item.answers = true;
  return item;
}

}  // namespace

Outbox::Item records_event(size_t index, const api::FetchedPartition& part, EncodedRecords records, BrokerId node) {
  Outbox::Item item;
  item.credit = records.credit_used;
  item.records_of = index;
  MessageBuilder message;
  Bytes head = encode_partition_head(part, records.next_offset, std::nullopt, node);
  message.add_submessage(kRecords, std::move(head), std::move(records));
  Bytes used;
  WireWriter(used).int_field(kCreditUsed, static_cast<int64_t>(item.credit));
  message.add(std::move(used));
  item.bytes = message.size();
  item.message = message.build();
  return item;
}

Outbox::Item committed_event(uint64_t request_id, const std::vector<api::CommittedOffset>& offsets, BrokerId node) {
  v1::ConsumeResponse response;
  response.mutable_committed()->set_request_id(request_id);
  for (const auto& offset : offsets) fill_commit(offset, node, *response.mutable_committed()->add_offsets());
  return answer_of(response);
}

Outbox::Item refused_commit_event(const v1::ConsumeRequest::Commit& commit, const api::Error& error, BrokerId node) {
  v1::ConsumeResponse response;
  v1::ConsumeResponse::Committed& committed = *response.mutable_committed();
  committed.set_request_id(commit.request_id());
  *committed.mutable_offsets() = commit.offsets();
  // With no entry to carry it the error would be lost.
  if (committed.offsets_size() == 0) committed.add_offsets();
  for (v1::CommittedOffset& offset : *committed.mutable_offsets()) fill_error(error, node, *offset.mutable_error());
  return answer_of(response);
}

Outbox::Item failed_event(const v1::Position* position, const api::Error& error, BrokerId node) {
  v1::ConsumeResponse response;
  if (position != nullptr) *response.mutable_error()->mutable_position() = *position;
  fill_error(error, node, *response.mutable_error()->mutable_error());
  return answer_of(response);
}

Outbox::Item failed_event(const ConsumePartition& partition, const api::Error& error, BrokerId node) {
  v1::Position position;
  position.set_topic(partition.topic);
  position.set_partition(partition.partition.value());
  if (partition.next) position.set_offset(partition.next->value());
  Outbox::Item item = failed_event(&position, error, node);
  item.answers = false;
  return item;
}

Outbox::Item heartbeat_event(ConsumePartitions& partitions, BrokerId node) {
  Bytes body;
  for (size_t i = 0; i < partitions.size(); ++i) {
    const ConsumePartition& partition = partitions.at(i);
    Offset next = partition.next.value_or(partition.seen.log_start);
    WireWriter(body).present_bytes_field(1, encode_partition_head(partition.seen, next, std::nullopt, node));
  }
  MessageBuilder message;
  message.add_submessage(kHeartbeat, std::move(body), {});
  Outbox::Item item;
  item.message = message.build();
  return item;
}

grpc::ByteBuffer caught_up_message(ConsumePartitions& partitions, const std::vector<Outbox::Reached>& reached) {
  v1::ConsumeResponse response;
  v1::ConsumeResponse::CaughtUp& caught_up = *response.mutable_caught_up();
  for (const Outbox::Reached& end : reached) {
    const ConsumePartition& partition = partitions.at(end.partition);
    if (!partition.caught_up || partition.version != end.version || partition.next != end.next) continue;
    v1::Position& position = *caught_up.add_partitions();
    position.set_topic(partition.topic);
    position.set_partition(partition.partition.value());
    if (partition.next) position.set_offset(partition.next->value());
  }
  return serialized(response);
}

}  // namespace trilog::grpc_edge
