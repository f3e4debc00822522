// In which order things were shown: X7 to X9, and X12.
#include <algorithm>
#include <limits>
#include <map>
#include <string_view>
#include <utility>

#include "tests/history/checks.h"
#include "tests/history/realtime.h"

namespace trilog::history {
namespace {

int64_t position_after(const Fetch& fetch) {
  return fetch.records.empty() ? fetch.next_offset : std::max(fetch.next_offset, fetch.records.back().offset + 1);
}

// Calls poll(fetch, previous) for each poll that ended well; previous is the one before it in the same session, or
// null.
template <typename Poll>
void for_each_poll(const PartitionHistory& partition, Poll poll) {
  std::map<std::pair<std::string_view, int32_t>, const Fetch*> previous;  // by client and session
  for (const Fetch* fetch : partition.fetches) {
    if (fetch->outcome != Outcome::kOk || fetch->uncommitted) continue;
    const Fetch*& of_session = previous[{fetch->client, fetch->session}];
    poll(fetch, of_session);
    of_session = fetch;
  }
}

void check_rising(const std::vector<Record>& records, OperationPointer where, const PartitionHistory& partition,
                  Violations& violations) {
  const auto back = std::ranges::adjacent_find(records, std::ranges::greater_equal(), &Record::offset);
  if (back == records.end()) return;
  violations.add(
      "X7",
      "within one read, offset " + std::to_string(std::next(back)->offset) + " follows " + text_of(*back, partition),
      {where});
}

// The records that `fetch` should have returned on its way from `begin` to next_offset, as others saw them there.
void report_skipped(const PartitionHistory& partition, int64_t begin, const Fetch* fetch, Violations& violations) {
  const auto& seen = partition.by_offset;
  auto at = std::ranges::lower_bound(seen, begin, {}, [](const Sighting& each) { return each.record.offset; });
  std::vector<Record> returned = fetch->records;
  std::ranges::sort(returned);
  auto next = returned.begin();
  for (; at != seen.end() && at->record.offset < fetch->next_offset; ++at) {
    const int64_t offset = at->record.offset;
    while (next != returned.end() && next->offset < offset) ++next;
    const bool was_returned = next != returned.end() && next->offset == offset;
    if (was_returned || partition.lost_between(offset, *fetch, at->operation())) continue;
    violations.add("X8", fetch->client + " jumps over " + text_of(at->record, partition), {fetch, at->where});
    return;
  }
}

}  // namespace

// X7: a poll goes on before where the last one ended, returns what lies before the asked offset, or goes back in
// itself.
void check_positions(const PartitionHistory& partition, Violations& violations) {
  for_each_poll(partition, [&](const Fetch* fetch, const Fetch* previous) {
    check_rising(fetch->records, fetch, partition, violations);
    if (previous != nullptr && fetch->asked_offset < position_after(*previous)) {
      violations.add("X7",
                     fetch->client + " goes back in " + text_of(partition.partition) + " from offset " +
                         std::to_string(position_after(*previous)) + " to " + std::to_string(fetch->asked_offset),
                     {previous, fetch});
    }
    if (!fetch->records.empty() && fetch->records.front().offset < fetch->asked_offset) {
      violations.add("X7",
                     text_of(fetch->records.front(), partition) + " lies before the offset asked for, " +
                         std::to_string(fetch->asked_offset),
                     {fetch});
    }
  });
  for (const FinalRead* read : partition.final_reads) check_rising(read->records, read, partition, violations);
}

// X8: between where the last poll ended and where this one ends lies a record that somebody saw, and this one does not
// return it. Counting comes first, so that a poll without a gap costs no walk.
void check_skipped_records(const PartitionHistory& partition, Violations& violations) {
  std::vector<int64_t> known;
  for (const Sighting& seen : partition.by_offset) {
    if (known.empty() || known.back() != seen.record.offset) known.push_back(seen.record.offset);
  }
  const auto position_of = [&](int64_t offset) { return std::ranges::lower_bound(known, offset); };
  for_each_poll(partition, [&](const Fetch* fetch, const Fetch* previous) {
    const int64_t begin = std::max(previous == nullptr ? fetch->asked_offset : position_after(*previous),
                                   partition.trimmed_before(fetch->answered_ns));
    if (begin >= fetch->next_offset) return;
    const auto returned = std::ranges::count_if(fetch->records, [&](const Record& record) {
      return record.offset >= begin && record.offset < fetch->next_offset;
    });
    if (position_of(fetch->next_offset) - position_of(begin) == returned) return;
    report_skipped(partition, begin, fetch, violations);
  });
}

// X9: a later send of the same producer landed at a lower offset than one that had ended; or the records of one send
// are not in the order in which they were sent.
void check_order_of_sends(const PartitionHistory& partition, Violations& violations) {
  std::map<std::string_view, std::vector<Claim>> by_producer;
  for (const Produce* produce : partition.produces) {
    if (!is_promise(*produce) || produce->records.empty() || produce->records.front().offset < 0) continue;
    const auto& records = produce->records;
    by_producer[produce->client].emplace_back(produce, records.front().offset, records.back().offset + 1);
    const auto back = std::ranges::adjacent_find(records, std::ranges::greater_equal(), &Record::offset);
    if (back == records.end()) continue;
    violations.add("X9", "the record sent after " + text_of(*back, partition) + " is not behind it", {produce});
  }
  for (auto& each : by_producer) {
    const std::string producer(each.first);
    for_each_regress(std::move(each.second), [&](const Claim& earlier, const Claim& later) {
      if (partition.lost_between(later.value, earlier.operation(), later.operation())) return true;
      violations.add("X9",
                     producer + " wrote at offset " + std::to_string(later.value) + " of " +
                         text_of(partition.partition) + " after it had written up to " + std::to_string(earlier.floor),
                     {earlier.where, later.where});
      return false;
    });
  }
}

// X12: an end of the log was told, and after that a lower one. A stale answer says itself that it may be (R16).
void check_ends(const PartitionHistory& partition, Violations& violations) {
  std::vector<Claim> high_watermarks, log_starts;
  const auto told = [&](OperationPointer where, int64_t log_start, int64_t high_watermark) {
    if (log_start >= 0) log_starts.emplace_back(where, log_start, log_start);
    if (high_watermark >= 0) high_watermarks.emplace_back(where, high_watermark, high_watermark);
  };
  for (const Fetch* fetch : partition.fetches) {
    if (fetch->outcome == Outcome::kOk && !fetch->stale) told(fetch, fetch->log_start, fetch->high_watermark);
  }
  for (const ListOffsets* list : partition.lists) {
    if (list->outcome == Outcome::kOk && !list->stale) told(list, list->earliest, list->latest);
  }
  for (const FinalRead* read : partition.final_reads) {
    if (read->node == FinalRead::kThroughTheCluster) told(read, read->log_start, read->high_watermark);
  }
  const auto report = [&](const char* end, const Claim& earlier, const Claim& later) {
    violations.add("X12",
                   std::string(end) + " of " + text_of(partition.partition) + " goes back from " +
                       std::to_string(earlier.floor) + " to " + std::to_string(later.value),
                   {earlier.where, later.where});
    return false;
  };
  for_each_regress(std::move(high_watermarks), [&](const Claim& earlier, const Claim& later) {
    return partition.lost_between(later.value, earlier.operation(), later.operation()) ||
           report("the high watermark", earlier, later);
  });
  constexpr int64_t kAnyOffset = std::numeric_limits<int64_t>::max();  // the new leader may have been trimmed less
  for_each_regress(std::move(log_starts), [&](const Claim& earlier, const Claim& later) {
    return partition.lost_between(kAnyOffset, earlier.operation(), later.operation()) ||
           report("the log start", earlier, later);
  });
}

}  // namespace trilog::history
