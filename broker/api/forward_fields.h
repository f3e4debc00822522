// Which fields of the requests and results travel between brokers, and in which order: each is named here once, for the
// encoder and the decoder of forward_codec.cc. A struct's fields are only ever added to at the end, with a new version.
#pragma once

#include <concepts>
#include <cstdint>
#include <tuple>
#include <type_traits>

#include "broker/api/forward_codec.h"

namespace trilog::api {

template <typename T, typename Struct>
concept Of = std::same_as<std::remove_const_t<T>, Struct>;

// --- choices: they travel as their numbers -------------------------------------------------------------------------

constexpr Acks last_of(Acks) { return Acks::kNone; }
constexpr Durability last_of(Durability) { return Durability::kReplicated; }
constexpr Isolation last_of(Isolation) { return Isolation::kUncommitted; }
constexpr OffsetSpec last_of(OffsetSpec) { return OffsetSpec::kTimestamp; }
constexpr Outcome last_of(Outcome) { return Outcome::kNotApplicable; }

template <typename Enum>
constexpr bool travels_as(Enum value, uint8_t number) {
  return static_cast<uint8_t>(value) == number;
}
static_assert(travels_as(Acks::kAll, 0) && travels_as(Acks::kLeader, 1) && travels_as(Acks::kNone, 2));
static_assert(travels_as(Durability::kSynced, 0) && travels_as(Durability::kReplicated, 1));
static_assert(travels_as(Isolation::kCommitted, 0) && travels_as(Isolation::kUncommitted, 1));
static_assert(travels_as(OffsetSpec::kEarliest, 0) && travels_as(OffsetSpec::kLatest, 1));
static_assert(travels_as(OffsetSpec::kTimestamp, 2));
static_assert(travels_as(Outcome::kNotWritten, 0) && travels_as(Outcome::kUnknown, 1));
static_assert(travels_as(Outcome::kNotApplicable, 2));

// --- in front ------------------------------------------------------------------------------------------------------

auto fields(Of<AnswerHeader> auto& h) { return std::tie(h.applied, h.ok); }
auto fields(Of<TopicPartition> auto& p) { return std::tie(p.topic, p.partition); }

// --- produce and read ----------------------------------------------------------------------------------------------

auto fields(Of<ProduceRequest> auto& r) {
  return std::tie(r.topic, r.partition, r.record_batch, r.acks, r.built_from_records, r.topic_id);
}
auto fields(Of<Produced> auto& p) {
  return std::tie(p.partition, p.offset, p.timestamp_ms, p.leader_epoch, p.duplicate, p.error);
}
auto fields(Of<ProduceResult> auto& r) {
  return std::tie(r.positions, r.durability, r.synced_replicas, r.replicas, r.topic_created);
}
auto fields(Of<Position> auto& p) { return std::tie(p.topic, p.partition, p.offset, p.leader_epoch); }
auto fields(Of<FetchRequest> auto& r) { return std::tie(r.positions, r.bytes_min, r.bytes_max, r.isolation); }
// `views` are made anew from `batches`.
auto fields(Of<FetchedPartition> auto& p) {
  return std::tie(p.topic, p.partition, p.asked_offset, p.next_offset, p.high_watermark, p.log_start, p.leader_epoch,
                  p.leader, p.batches, p.stale, p.error);
}
auto fields(Of<CancelFetchRequest> auto& r) { return std::tie(r.id); }
auto fields(Of<OffsetQuery> auto& q) { return std::tie(q.topic, q.partition, q.timestamp_ms); }
auto fields(Of<ListOffsetsRequest> auto& r) { return std::tie(r.topic, r.queries, r.spec); }
auto fields(Of<ListedOffset> auto& o) {
  return std::tie(o.topic, o.partition, o.offset, o.timestamp_ms, o.leader_epoch, o.stale, o.error);
}

// --- groups --------------------------------------------------------------------------------------------------------

auto fields(Of<CommittedOffset> auto& o) {
  return std::tie(o.topic, o.partition, o.offset, o.leader_epoch, o.metadata, o.commit_timestamp_ms, o.error);
}
auto fields(Of<CommitOffsetsRequest> auto& r) {
  return std::tie(r.group, r.offsets, r.member_id, r.generation, r.stream);
}
auto fields(Of<FetchOffsetsRequest> auto& r) { return std::tie(r.group, r.positions); }
auto fields(Of<ClaimGroupRequest> auto& r) { return std::tie(r.group, r.topics, r.stream, r.holder, r.renewed_from); }
auto fields(Of<GroupClaim> auto& c) { return std::tie(c.epoch); }
auto fields(Of<ReleaseGroupRequest> auto& r) { return std::tie(r.group, r.stream); }
auto fields(Of<ListGroupsRequest> auto& r) { return std::tie(r.prefix, r.page_size, r.page_token); }
auto fields(Of<DescribeGroupRequest> auto& r) { return std::tie(r.group); }
auto fields(Of<DeleteGroupRequest> auto& r) { return std::tie(r.group, r.validate_only); }
auto fields(Of<GroupPartition> auto& p) {
  return std::tie(p.topic, p.partition, p.committed, p.end, p.lag, p.commit_timestamp_ms);
}
auto fields(Of<Group> auto& g) { return std::tie(g.group, g.state, g.partitions, g.coordinator); }
auto fields(Of<GroupPage> auto& p) { return std::tie(p.groups, p.next_page_token); }

// --- topics and cluster --------------------------------------------------------------------------------------------

auto fields(Of<ConfigValue> auto& v) { return std::tie(v.value, v.source); }
auto fields(Of<PartitionState> auto& s) {
  return std::tie(s.partition, s.leader, s.leader_epoch, s.replicas, s.isr, s.lagging, s.start_offset, s.end_offset,
                  s.size_bytes, s.error);
}
auto fields(Of<Topic> auto& t) {
  return std::tie(t.name, t.id, t.durability, t.replicas, t.partitions, t.configs, t.unsafe, t.error);
}
auto fields(Of<CreateTopicRequest> auto& r) {
  return std::tie(r.name, r.partitions, r.replicas, r.configs, r.if_not_exists, r.validate_only, r.internal);
}
auto fields(Of<CreateTopicResult> auto& r) { return std::tie(r.topic, r.created); }
auto fields(Of<DeleteTopicRequest> auto& r) { return std::tie(r.name, r.id, r.if_exists, r.validate_only); }
auto fields(Of<AlterTopicRequest> auto& r) { return std::tie(r.name, r.set, r.unset, r.partitions, r.validate_only); }
auto fields(Of<AlterTopicResult> auto& r) { return std::tie(r.topic, r.changed); }
auto fields(Of<TrimTopicRequest> auto& r) { return std::tie(r.topic, r.before, r.validate_only); }
auto fields(Of<PartitionStatesRequest> auto& r) { return std::tie(r.partitions); }
auto fields(Of<MoveLeaderRequest> auto& r) { return std::tie(r.topic, r.partition, r.to, r.validate_only); }
auto fields(Of<MoveLeaderResult> auto& r) { return std::tie(r.leader, r.leader_epoch, r.changed); }
auto fields(Of<ElectLeaderRequest> auto& r) { return std::tie(r.topic, r.partition, r.leader, r.validate_only); }
auto fields(Of<ReplicaReach> auto& r) { return std::tie(r.broker, r.last_epoch, r.log_end); }
auto fields(Of<ElectLeaderResult> auto& r) { return std::tie(r.leader, r.leader_epoch, r.heard, r.trusted); }
auto fields(Of<DrainRequest> auto& r) { return std::tie(r.broker, r.validate_only); }
auto fields(Of<ReplaceVoterRequest> auto& r) { return std::tie(r.broker, r.validate_only); }
auto fields(Of<DrainResult> auto& r) { return std::tie(r.moved, r.left); }
auto fields(Of<FindTopicRequest> auto& r) { return std::tie(r.name); }
auto fields(Of<Unit> auto&) { return std::tuple<>(); }

}  // namespace trilog::api
