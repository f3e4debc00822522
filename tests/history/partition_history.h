// All that happened to one partition, sorted so that each check is one walk.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "storage/base/status.h"
#include "tests/history/history.h"

namespace trilog::history {

// A record at an offset, as an acknowledgement or a read of what is committed showed it.
struct Sighting {
  Record record;
  OperationPointer where;

  bool is_read() const { return !std::holds_alternative<const Produce*>(where); }
  const Operation& operation() const { return base_of(where); }
};

struct Sent {
  uint64_t token;
  const Produce* produce;
};

// Points into the History, which must outlive it and not change.
struct PartitionHistory {
  Partition partition;
  // In the order of invocation.
  std::vector<const Produce*> produces;
  std::vector<const Fetch*> fetches;
  std::vector<const ListOffsets*> lists;
  std::vector<const FinalRead*> final_reads;  // those that ended well; through the cluster and of single replicas
  std::vector<const AcceptedLoss*> losses;

  std::vector<Sent> sent;           // by token
  std::vector<Sighting> by_offset;  // by offset, then by time of answer
  std::vector<Sighting> by_token;   // the same by token, then by offset
  const FinalRead* last = nullptr;  // the last read through the cluster; null if there was none
  std::optional<Sighting> highest;  // that was read

  const Sent* find_sent(uint64_t token) const;
  std::span<const Sighting> sightings_of(uint64_t token) const;
  bool was_read(uint64_t token) const;

  // Whether an accepted loss explains that what held at `offset` in one of the operations does not in the other.
  bool lost_between(int64_t offset, const Operation& one, const Operation& other) const;
  // Whether a record that was at `offset` in `seen` need not be there at the end of the history.
  bool may_be_gone(int64_t offset, const Operation& seen) const;
  // Records below may have been removed at that time.
  int64_t trimmed_before(int64_t time_ns) const;

  std::map<int64_t, int64_t> trims;  // time → records below may have been removed since; both grow
};

// An acknowledgement that must hold whatever fails later.
bool is_promise(const Produce& produce);

// Of all partitions in order. kInvalidArgument if a token was sent twice to one of them.
Result<std::vector<PartitionHistory>> by_partition(const History& history);

}  // namespace trilog::history
