#include "tests/history/partition_history.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace trilog::history {
namespace {

constexpr auto kInvoked = [](const auto* operation) { return operation->invoked_ns; };

void see(PartitionHistory& partition, const std::vector<Record>& records, OperationPointer where) {
  for (const Record& record : records) {
    if (record.offset >= 0) partition.by_offset.push_back({record, where});
  }
}

void collect_sightings(PartitionHistory& partition) {
  for (const Produce* produce : partition.produces) {
    if (is_promise(*produce)) see(partition, produce->records, produce);
  }
  for (const Fetch* fetch : partition.fetches) {
    if (!fetch->uncommitted) see(partition, fetch->records, fetch);
  }
  for (const FinalRead* read : partition.final_reads) {
    if (read->node == FinalRead::kThroughTheCluster) see(partition, read->records, read);
  }
  partition.by_token = partition.by_offset;
  std::ranges::stable_sort(partition.by_offset, {}, [](const Sighting& seen) {
    return std::pair(seen.record.offset, seen.operation().answered_ns);
  });
  std::ranges::stable_sort(partition.by_token, {},
                           [](const Sighting& seen) { return std::pair(seen.record.token, seen.record.offset); });
  for (const Sighting& seen : partition.by_offset) {
    if (seen.is_read()) partition.highest = seen;
  }
}

Status sort_out(PartitionHistory& partition) {
  std::ranges::stable_sort(partition.produces, {}, kInvoked);
  std::ranges::stable_sort(partition.fetches, {}, kInvoked);
  std::ranges::stable_sort(partition.lists, {}, kInvoked);
  std::ranges::stable_sort(partition.final_reads, {}, kInvoked);
  for (const FinalRead* read : partition.final_reads) {
    if (read->node == FinalRead::kThroughTheCluster) partition.last = read;
  }
  int64_t trimmed = std::numeric_limits<int64_t>::min();
  for (auto& [time, before_offset] : partition.trims) before_offset = trimmed = std::max(trimmed, before_offset);

  for (const Produce* produce : partition.produces) {
    for (const Record& record : produce->records) partition.sent.push_back({record.token, produce});
  }
  std::ranges::sort(partition.sent, {}, &Sent::token);
  const auto twice = std::ranges::adjacent_find(partition.sent, {}, &Sent::token);
  if (twice != partition.sent.end()) {
    return Status(Errc::kInvalidArgument, "token " + std::to_string(twice->token) + " was sent twice to " +
                                              partition.partition.topic + "/" +
                                              std::to_string(partition.partition.index));
  }
  collect_sightings(partition);
  return ok_status();
}

}  // namespace

bool is_promise(const Produce& produce) { return produce.outcome == Outcome::kOk && produce.acks == Acks::kAll; }

const Sent* PartitionHistory::find_sent(uint64_t token) const {
  const auto at = std::ranges::lower_bound(sent, token, {}, &Sent::token);
  return at != sent.end() && at->token == token ? &*at : nullptr;
}

std::span<const Sighting> PartitionHistory::sightings_of(uint64_t token) const {
  const auto token_of = [](const Sighting& seen) { return seen.record.token; };
  const auto begin = std::ranges::lower_bound(by_token, token, {}, token_of);
  auto end = begin;  // a record is seen a few times
  while (end != by_token.end() && end->record.token == token) ++end;
  return {begin, end};
}

bool PartitionHistory::was_read(uint64_t token) const {
  return std::ranges::any_of(sightings_of(token), &Sighting::is_read);
}

bool PartitionHistory::lost_between(int64_t offset, const Operation& one, const Operation& other) const {
  const int64_t begin = std::min(one.invoked_ns, other.invoked_ns);
  const int64_t end = std::max(one.answered_ns, other.answered_ns);
  return std::ranges::any_of(losses, [&](const AcceptedLoss* loss) {
    return loss->from_offset <= offset && loss->answered_ns >= begin && loss->invoked_ns <= end;
  });
}

bool PartitionHistory::may_be_gone(int64_t offset, const Operation& seen) const {
  Operation end;
  end.invoked_ns = end.answered_ns = std::numeric_limits<int64_t>::max();
  return offset < trimmed_before(end.invoked_ns) || lost_between(offset, seen, end);
}

int64_t PartitionHistory::trimmed_before(int64_t time_ns) const {
  const auto next = trims.upper_bound(time_ns);
  return next == trims.begin() ? std::numeric_limits<int64_t>::min() : std::prev(next)->second;
}

Result<std::vector<PartitionHistory>> by_partition(const History& history) {
  std::map<Partition, PartitionHistory> partitions;
  for (const Produce& produce : history.all<Produce>()) partitions[produce.partition].produces.push_back(&produce);
  for (const Fetch& fetch : history.all<Fetch>()) partitions[fetch.partition].fetches.push_back(&fetch);
  for (const ListOffsets& list : history.all<ListOffsets>()) partitions[list.partition].lists.push_back(&list);
  for (const FinalRead& read : history.all<FinalRead>()) {
    if (read.outcome == Outcome::kOk) partitions[read.partition].final_reads.push_back(&read);
  }
  for (const AcceptedLoss& loss : history.all<AcceptedLoss>()) {
    if (loss.outcome != Outcome::kNotWritten) partitions[loss.partition].losses.push_back(&loss);
  }
  for (const Trim& trim : history.all<Trim>()) {
    if (trim.outcome == Outcome::kNotWritten) continue;
    int64_t& before_offset = partitions[trim.partition].trims[trim.invoked_ns];
    before_offset = std::max(before_offset, trim.before_offset);
  }
  std::vector<PartitionHistory> sorted;
  sorted.reserve(partitions.size());
  for (auto& [name, partition] : partitions) {
    partition.partition = name;
    TRY(sort_out(partition));
    sorted.push_back(std::move(partition));
  }
  return sorted;
}

}  // namespace trilog::history
