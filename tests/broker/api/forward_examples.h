// One request and one result of every kind that brokers pass on, with a value in every field that travels.
#pragma once

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "broker/api/forward_codec.h"
#include "tests/support/batches.h"

namespace trilog::testing {

inline constexpr TopicId kExampleTopic{0x0123456789abcdef, 0xfedcba9876543210};

inline api::Error example_error() {
  api::Error error(api::ErrorCode::kNotEnoughReplicas, api::Outcome::kUnknown, "orders/3 has 1 of 2 replicas in sync");
  error.retry_after_ms = 250;
  return std::move(error).with_detail("in_sync", "1").with_detail("needed", "2");
}
inline Bytes example_batch(int64_t base_offset) {
  return make_batch({{"key", "value", {{"h", "x"}}}, {std::nullopt, "w"}},
                    {.base_offset = Offset(base_offset), .leader_epoch = LeaderEpoch(4)});
}
inline std::vector<api::Position> example_positions() {
  return {{"orders", PartitionId(3), Offset(1'000'000'000'000), LeaderEpoch(4)},
          {"o", PartitionId(1), Offset(0), LeaderEpoch(0)}};
}
inline std::vector<api::CommittedOffset> example_offsets() {
  return {{"orders", PartitionId(3), Offset(77), LeaderEpoch(4), "note", kTestTimestampMs, example_error()}};
}
inline std::vector<api::PartitionState> example_states() {
  return {{PartitionId(3),
           BrokerId(1),
           LeaderEpoch(4),
           {BrokerId(1), BrokerId(2), BrokerId(3)},
           {BrokerId(1)},
           {BrokerId(300)},
           Offset(5),
           Offset(1'000),
           123'456'789'012,
           example_error()}};
}
inline api::Topic example_topic() {
  return {"orders", kExampleTopic,    api::Durability::kReplicated,
          3,        example_states(), {{"retention.ms", {"1000", "topic"}}, {"segment.bytes", {"1048576", "default"}}},
          true,     example_error()};
}
inline api::Group example_group() {
  return {
      "readers", "Stable", {{"orders", PartitionId(3), Offset(77), Offset(100), 23, kTestTimestampMs}}, BrokerId(2)};
}
inline api::FetchedPartition example_fetched(int32_t partition, int64_t base_offset) {
  Bytes bytes = example_batch(base_offset);
  bytes.append(example_batch(base_offset + 2));
  api::FetchedPartition fetched{"orders",
                                PartitionId(partition),
                                Offset(base_offset + 1),
                                Offset(base_offset + 4),
                                Offset(base_offset + 5),
                                Offset(7),
                                LeaderEpoch(4),
                                BrokerId(2),
                                SharedBytes(std::move(bytes)),
                                {},
                                true,
                                example_error()};
  for (ByteView rest = fetched.batches; !rest.empty(); rest = rest.subspan(fetched.views.back().size()))
    fetched.views.push_back(RecordBatch::parse(rest).value());
  return fetched;
}
inline api::ProduceRequest example_produce() {
  api::ProduceRequest request;
  request.topic = "orders";
  request.partition = PartitionId(3);
  request.record_batch = example_batch(0);
  request.acks = api::Acks::kNone;
  request.built_from_records = true;
  request.topic_id = kExampleTopic;
  return request;
}

// Calls `check` with each.
template <typename Check>
void for_each_request(Check check) {
  check(example_produce());
  check(api::FetchRequest{example_positions(), 0, 10, 1'000, api::Isolation::kUncommitted});
  check(api::CancelFetchRequest{uint64_t{1} << 63});
  check(api::ListOffsetsRequest{"orders", {{"orders", PartitionId(3), kTestTimestampMs}}, api::OffsetSpec::kTimestamp});
  check(api::CommitOffsetsRequest{"readers", example_offsets(), "member", 9, 0xfedcba9876543210});
  check(api::FetchOffsetsRequest{"readers", example_positions()});
  check(api::ClaimGroupRequest{"readers", {"orders", "invoices"}, 12, "client at an address", LeaderEpoch(4)});
  check(api::ReleaseGroupRequest{"readers", 12});
  check(api::ListGroupsRequest{"re", 100, "readers"});
  check(api::DescribeGroupRequest{"readers"});
  check(api::DeleteGroupRequest{"readers", true});
  check(api::CreateTopicRequest{"orders", 12, 3, {{"retention.ms", "1000"}, {"segment.bytes", "1"}}, true, true, true});
  check(api::DeleteTopicRequest{"orders", kExampleTopic, true, true});
  check(api::AlterTopicRequest{"orders", {{"retention.ms", "1000"}}, {"segment.bytes"}, 24, true});
  check(api::TrimTopicRequest{"orders", example_positions(), true});
  check(api::PartitionStatesRequest{{{kExampleTopic, PartitionId(3)}, {TopicId(5, 6), PartitionId(1)}}});
  check(api::MoveLeaderRequest{"orders", PartitionId(3), BrokerId(2), true});
  check(api::ElectLeaderRequest{"orders", PartitionId(3), BrokerId(2), true});
  check(api::DrainRequest{BrokerId(2), true});
  check(api::FindTopicRequest{"orders"});
  check(api::ReplaceVoterRequest{BrokerId(3), true});
}
template <typename Check>
void for_each_result(Check check) {
  api::Produced produced{PartitionId(3), Offset(77), kTestTimestampMs, LeaderEpoch(4), true, example_error()};
  check(api::ProduceResult{{produced, produced}, api::Durability::kReplicated, 2, 3, true});
  check(api::FetchResult{example_fetched(3, 40), example_fetched(1, 1'000)});
  check(std::vector<api::ListedOffset>{
      {"orders", PartitionId(3), Offset(77), kTestTimestampMs, LeaderEpoch(4), true, example_error()}});
  check(example_offsets());
  check(api::Unit());
  check(api::GroupClaim{LeaderEpoch(4)});
  check(api::GroupPage{{example_group(), example_group()}, "readers"});
  check(example_group());
  check(api::CreateTopicResult{example_topic(), true});
  check(true);
  check(api::AlterTopicResult{example_topic(), true});
  check(example_states());
  check(api::MoveLeaderResult{BrokerId(2), LeaderEpoch(5), true});
  check(
      api::ElectLeaderResult{BrokerId(2), LeaderEpoch(5), {{BrokerId(2), LeaderEpoch(4), Offset(99)}}, {BrokerId(1)}});
  check(api::DrainResult{7, 2});
}

}  // namespace trilog::testing
