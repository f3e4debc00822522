// What became of each record: X1 to X6, and X17.
#include <algorithm>
#include <iterator>
#include <optional>

#include "tests/history/checks.h"

namespace trilog::history {
namespace {

// The offset of the first record of a batch that has to be in the log: as promised; or, if the outcome is open, as one
// record of the batch was read. Nullopt if it need not be there.
std::optional<int64_t> base_offset_of(const PartitionHistory& partition, const Produce& produce) {
  if (produce.records.empty() || produce.outcome == Outcome::kNotWritten) return std::nullopt;
  if (is_promise(produce)) return produce.records.front().offset;
  for (size_t i = 0; i < produce.records.size(); ++i) {
    const auto seen = partition.sightings_of(produce.records[i].token);
    if (!seen.empty()) return seen.front().record.offset - static_cast<int64_t>(i);
  }
  return std::nullopt;
}

// Calls missing(record, produce) for each record that has to be in the log and that no reader was ever given.
template <typename Missing>
void for_each_unread(const PartitionHistory& partition, Missing missing) {
  for (const Produce* produce : partition.produces) {
    const auto base_offset = base_offset_of(partition, *produce);
    if (!base_offset) continue;
    for (size_t i = 0; i < produce->records.size(); ++i) {
      Record record = produce->records[i];
      if (record.offset < 0) record.offset = *base_offset + static_cast<int64_t>(i);
      if (partition.was_read(record.token) || partition.may_be_gone(record.offset, *produce)) continue;
      missing(record, produce);
    }
  }
}

}  // namespace

// X1: it was acknowledged, or part of its batch was read; somebody read what comes after it; nobody ever read it.
void check_lost_writes(const PartitionHistory& partition, Violations& violations) {
  for_each_unread(partition, [&](const Record& record, const Produce* produce) {
    if (!partition.highest || partition.highest->record.offset <= record.offset) return;
    violations.add("X1",
                   text_of(record, partition) + " is lost: offset " + std::to_string(partition.highest->record.offset) +
                       " was read, but never this record",
                   {produce, partition.highest->where});
  });
}

// X2: it was acknowledged, the partition was read to its end, and nobody came as far as this record.
void check_unseen_writes(const PartitionHistory& partition, Violations& violations) {
  if (partition.last == nullptr) return;
  for_each_unread(partition, [&](const Record& record, const Produce* produce) {
    if (partition.highest && partition.highest->record.offset > record.offset) return;
    violations.add("X2", text_of(record, partition) + " is past the end of what was read last",
                   {produce, partition.last});
  });
}

// X3: acknowledgements and reads show two records at one offset.
void check_inconsistent_offsets(const PartitionHistory& partition, Violations& violations) {
  const auto& seen = partition.by_offset;
  for (size_t i = 1; i < seen.size(); ++i) {
    const Sighting &before = seen[i - 1], &after = seen[i];
    const int64_t offset = after.record.offset;
    if (before.record.offset != offset || before.record.token == after.record.token) continue;
    if (partition.lost_between(offset, before.operation(), after.operation())) continue;
    violations.add("X3", text_of(before.record, partition) + " is also record " + std::to_string(after.record.token),
                   {before.where, after.where});
  }
}

// X4: what was sent once by an idempotent producer is at two offsets.
void check_duplicates(const PartitionHistory& partition, Violations& violations) {
  const auto& seen = partition.by_token;
  for (size_t i = 1; i < seen.size(); ++i) {
    const Sighting &lower = seen[i - 1], &higher = seen[i];
    const int64_t offset = higher.record.offset;
    if (lower.record.token != higher.record.token || lower.record.offset == offset) continue;
    const Sent* sent = partition.find_sent(higher.record.token);
    if (sent == nullptr || !sent->produce->idempotent) continue;
    if (partition.lost_between(offset, lower.operation(), higher.operation())) continue;
    violations.add("X4", text_of(lower.record, partition) + " is also at offset " + std::to_string(offset),
                   {sent->produce, lower.where, higher.where});
  }
}

// X5: the server said that nothing was written, and the record was read.
void check_refused_writes(const PartitionHistory& partition, Violations& violations) {
  for (const Produce* produce : partition.produces) {
    if (produce->outcome != Outcome::kNotWritten) continue;
    for (const Record& record : produce->records) {
      const auto seen = partition.sightings_of(record.token);
      if (seen.empty()) continue;
      violations.add("X5", text_of(seen.front().record, partition) + " was refused, yet it was read",
                     {produce, seen.front().where});
    }
  }
}

// X6, dirty: it was read, and at the end it is not at that offset.
void check_dirty_reads(const PartitionHistory& partition, Violations& violations) {
  if (partition.last == nullptr) return;
  std::vector<Record> log = partition.last->records;
  std::ranges::sort(log);
  auto at = log.begin();
  for (const Sighting& seen : partition.by_offset) {
    if (!seen.is_read()) continue;
    while (at != log.end() && at->offset < seen.record.offset) ++at;
    bool there = false;
    for (auto same = at; same != log.end() && same->offset == seen.record.offset; ++same) there |= *same == seen.record;
    if (there || partition.may_be_gone(seen.record.offset, seen.operation())) continue;
    violations.add("X6", text_of(seen.record, partition) + " was read and is not there at the end",
                   {seen.where, partition.last});
  }
}

// X6, phantom: it was read, and nobody ever sent it to this partition.
void check_phantom_reads(const PartitionHistory& partition, Violations& violations) {
  auto sent = partition.sent.begin();
  for (const Sighting& seen : partition.by_token) {
    while (sent != partition.sent.end() && sent->token < seen.record.token) ++sent;
    if (sent != partition.sent.end() && sent->token == seen.record.token) continue;
    violations.add("X6", text_of(seen.record, partition) + " was read, but never sent there", {seen.where});
  }
}

// X17: two replicas differ below the smaller of their high watermarks. All are compared with the one that knows most:
// who agrees with it agrees with the others.
void check_replicas(const PartitionHistory& partition, Violations& violations) {
  std::vector<const FinalRead*> replicas;
  for (const FinalRead* read : partition.final_reads) {
    if (read->node != FinalRead::kThroughTheCluster) replicas.push_back(read);
  }
  if (replicas.size() < 2) return;
  const FinalRead* most = *std::ranges::max_element(replicas, {}, &FinalRead::high_watermark);
  for (const FinalRead* replica : replicas) {
    const int64_t begin = std::max(most->log_start, replica->log_start);
    const auto common_part = [&](const FinalRead& read) {
      std::vector<Record> records;
      std::ranges::copy_if(read.records, std::back_inserter(records), [&](const Record& record) {
        return record.offset >= begin && record.offset < replica->high_watermark;
      });
      std::ranges::sort(records);
      return records;
    };
    std::vector<Record> differing;
    std::ranges::set_symmetric_difference(common_part(*most), common_part(*replica), std::back_inserter(differing));
    if (differing.empty()) continue;
    violations.add("X17",
                   "nodes " + std::to_string(most->node) + " and " + std::to_string(replica->node) + " differ in " +
                       std::to_string(differing.size()) + " records, first " + text_of(differing.front(), partition),
                   {most, replica});
  }
}

}  // namespace trilog::history
