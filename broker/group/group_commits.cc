// Path (c) of docs/paths.md from its third step on: what a commit may hold, and its way into the log.
#include <utility>

#include "broker/group/group_coordinator_impl.h"

namespace trilog {

using api::Error;
using api::ErrorCode;
using api::Outcome;

std::optional<Error> GroupCoordinator::Impl::check_commit(const api::CommitOffsetsRequest& request) {
  if (request.offsets.empty()) return Error(ErrorCode::kInvalidRequest, "no offsets: nothing to commit");
  if (request.offsets.size() > options.offsets_per_commit_max) {
    return Error(ErrorCode::kInvalidRequest, std::to_string(request.offsets.size()) +
                                                 " offsets in one commit; at most " +
                                                 std::to_string(options.offsets_per_commit_max) + " are allowed");
  }
  if (request.deadline_ns <= env.clock().monotonic_ns()) {
    return Error(ErrorCode::kRequestTimedOut, Outcome::kNotWritten, "time ran out before the commit was begun");
  }
  auto group = groups.find(request.group);
  return group != groups.end() ? group->second.refuse_commit(request) : Group(request.group).refuse_commit(request);
}

std::optional<Error> GroupCoordinator::Impl::check_offset(const api::CommittedOffset& offset, TopicId& topic_id) {
  const TopicImage* topic = image->find_topic(offset.topic);
  if (topic == nullptr) return Error(ErrorCode::kUnknownTopic, "there is no topic " + offset.topic);
  topic_id = topic->id;
  const std::string name = offset.topic + "/" + std::to_string(offset.partition.value());
  if (offset.partition < PartitionId(0) || offset.partition.value() >= static_cast<int32_t>(topic->partitions.size())) {
    return Error(ErrorCode::kUnknownPartition, "topic " + offset.topic + " has " +
                                                   std::to_string(topic->partitions.size()) +
                                                   " partitions; there is no " + name);
  }
  if (offset.offset < Offset(0)) {
    return Error(ErrorCode::kInvalidRequest,
                 "offset " + std::to_string(offset.offset.value()) + " for " + name + " is negative");
  }
  if (offset.metadata.size() > options.metadata_bytes_max) {
    return Error(ErrorCode::kInvalidRequest, "the metadata for " + name + " has " +
                                                 std::to_string(offset.metadata.size()) + " bytes; at most " +
                                                 std::to_string(options.metadata_bytes_max) + " are allowed")
        .with_detail("limit", std::to_string(options.metadata_bytes_max))
        .with_detail("value", std::to_string(offset.metadata.size()));
  }
  // A9. Only where the end is known on this shard; elsewhere the reader finds out.
  auto ends = replicas.ends({topic->id, offset.partition});
  if (ends.ok() && offset.offset > ends->log_end) {
    return Error(ErrorCode::kOffsetOutOfRange, Outcome::kNotWritten,
                 "offset " + std::to_string(offset.offset.value()) + " is past the end of " + name + ", " +
                     std::to_string(ends->high_watermark.value()))
        .with_detail("start_offset", std::to_string(ends->start.value()))
        .with_detail("end_offset", std::to_string(ends->high_watermark.value()));
  }
  return std::nullopt;
}

std::optional<Error> GroupCoordinator::Impl::check_size(const std::vector<GroupRecord>& records) const {
  size_t bytes = 0;
  for (const GroupRecord& record : records) bytes += record_size_bound(record);
  if (bytes <= options.commit_bytes_max) return std::nullopt;
  return Error(ErrorCode::kInvalidRequest, "the commit has " + std::to_string(bytes) + " bytes; at most " +
                                               std::to_string(options.commit_bytes_max) +
                                               " are allowed: commit fewer partitions at a time")
      .with_detail("limit", std::to_string(options.commit_bytes_max))
      .with_detail("value", std::to_string(bytes));
}

// The last check, against the view: a new group needs room.
Result<OffsetsPartition::Made> GroupCoordinator::Impl::admit(OffsetsPartition& home,
                                                             const std::vector<GroupRecord>& records) const {
  OffsetsPartition::Made made;
  size_t count = 0;
  for (const auto& [id, partition] : partitions) count += partition->group_count();
  if (count >= options.groups_max && !TRY(home.has_group(records.front().key.group))) {
    made.error = Error(ErrorCode::kThrottled, "this node keeps offsets of " + std::to_string(count) +
                                                  " groups, which is its limit; delete some");
    return made;
  }
  made.records = records;
  return made;
}

void GroupCoordinator::commit_offsets(api::CommitOffsetsRequest request, Done<std::vector<api::CommittedOffset>> done) {
  using Answer = api::Answer<std::vector<api::CommittedOffset>>;
  Impl& self = *impl_;
  auto home = self.home_of(request.group);
  std::optional<Error> error;
  if (!home.ok()) error = std::move(home.error());
  if (!error) error = self.check_commit(request);
  if (!error) error = self.refuse_waiting(*home.value());
  if (error) return self.post(std::move(done), Answer(*std::move(error)));

  const int64_t now_ms = self.env.clock().wall_ms();
  std::vector<GroupRecord> records;
  for (api::CommittedOffset& offset : request.offsets) {
    TopicId topic;
    offset.error = self.check_offset(offset, topic);
    if (offset.error) continue;
    offset.commit_timestamp_ms = now_ms;
    records.push_back({{request.group, topic, offset.partition},
                       OffsetValue{offset.offset, offset.leader_epoch, now_ms, offset.topic, offset.metadata}});
  }
  if (records.empty()) return self.post(std::move(done), Answer(std::move(request.offsets)));
  if (auto too_large = self.check_size(records)) return self.post(std::move(done), Answer(*std::move(too_large)));
  OffsetsPartition& partition = *home.value();
  partition.write(
      {.make = [&self, &partition, records = std::move(records)] { return self.admit(partition, records); },
       .deadline_ns = request.deadline_ns,
       .done =
           [offsets = std::move(request.offsets), done = std::move(done)](std::optional<Error> failed) mutable {
             if (failed) return done(*std::move(failed));
             done(std::move(offsets));
           }});
}

}  // namespace trilog
