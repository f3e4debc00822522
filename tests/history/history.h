// What clients saw of a cluster: the input of the checker (tests/history/checker.h), written by the workload of the
// simulator and by the clients of the end-to-end runs.
//
// HOW TO RECORD
// - Times are of one monotonic clock that all recorders share, in nanoseconds. Take invoked_ns before the request
//   leaves and answered_ns after the answer came: what overlaps is taken for concurrent, and excuses more.
// - outcome: kOk; kNotWritten only if the server said so (outcome NOT_WRITTEN of its error) or never got the request;
//   all else is kUnknown, answered when the client gave up. A read that failed is kUnknown.
// - client: one actor that does one thing after another. One that is started again takes a new name.
// - detail: for the person who reads a violation (error code, key, node asked). Never judged.
// - Records are known by their token, a number in the record's value that is sent only once. One send is one Produce,
//   however often it was repeated: its times span all attempts, and its outcome is kUnknown if the last attempt was
//   refused but an earlier one may have been written. All records of a recorded partition must be in the history.
// - A client that may be killed writes the line of a Produce twice: before it sends (unknown), and with the answer. Of
//   lines with the same client, invoked_ns and first token the last one counts.
// - A topic that is deleted and created again is recorded under a name of its own ("orders#2").
//
// WHAT TO RECORD
// - X1 lost, X2 unseen: Produce with acks all, Fetch, and after healing a FinalRead of each partition.
// - X3 two records at one offset: Produce with offsets, Fetch, FinalRead.
// - X4 duplicate: Produce with `idempotent`, as above.
// - X5 refused, yet read: Produce that was refused.
// - X6 read, and later gone or never sent: every Produce, also those that failed; Fetch, FinalRead.
// - X7 position goes back, X8 position jumps: Fetch with asked_offset and next_offset as they were; `session` goes up
//   with each assign, seek, reset and rebalance.
// - X9 order of one producer: Produce, one client per producer.
// - X12 ends go back: the ends in Fetch, ListOffsets, FinalRead, and `stale` as it was answered (R16).
// - X13 committed offset goes back: Commit, FetchCommitted, and deletion or expiry of the group as a Change.
// - X14 zombie commit: Membership for each join, leave and fencing; Commit with member and generation.
// - X16 object lost or back: Change; a Listing only when the cluster has settled, as a node may lag behind.
// - X17 split-brain: after healing a FinalRead of each replica.
// - X18 stuck: Healed, and after it a Produce with acks all and a FinalRead per partition, a Commit per group, and an
//   Await for all else that has to end (rebalance, reassignment).
//
// WHAT EXCUSES
// - A Trim: all that may remove records from the front; retention too, with the highest offset that it may reach.
// - An AcceptedLoss: an election with accepted loss (C7); a power cut of min-in-sync nodes or more for a topic that is
//   only `replicated`. In the topic "__consumer_offsets" it excuses committed offsets of all groups.
// - X10, records of others between those of one send, is normal. Transactions, the assignment of partitions to members,
//   and access rules are not judged.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace trilog::history {

enum class Outcome { kOk, kNotWritten, kUnknown };
enum class Acks { kNone, kLeader, kAll };

struct Partition {
  std::string topic;
  int32_t index = 0;
  auto operator<=>(const Partition&) const = default;
};

struct Record {
  int64_t offset = -1;  // -1: not known
  uint64_t token = 0;
  auto operator<=>(const Record&) const = default;
};

struct Operation {
  std::string client;
  int64_t invoked_ns = 0;
  int64_t answered_ns = 0;  // >= invoked_ns
  Outcome outcome = Outcome::kOk;
  std::string detail;
};

// One batch sent to one partition: written whole or not at all.
struct Produce : Operation {
  static constexpr std::string_view kName = "produce";
  Partition partition;
  std::vector<Record> records;  // in the order sent; their offsets if ok
  Acks acks = Acks::kAll;
  bool idempotent = false;
  int32_t leader_epoch = -1;  // as answered; not judged
};

// One poll. What a failed one returned counts as read, too.
struct Fetch : Operation {
  static constexpr std::string_view kName = "fetch";
  Partition partition;
  int64_t asked_offset = 0;
  std::vector<Record> records;  // without those below the asked offset that raw batches bring along
  int64_t next_offset = 0;
  int64_t high_watermark = -1;  // -1: not told
  int64_t log_start = -1;       // -1: not told
  int32_t session = 0;          // asked_offset follows from the fetch before, if that had the same client and session
  bool stale = false;           // the ends were marked stale
  bool uncommitted = false;     // asked for records above the high watermark: what it returned promises nothing
};

struct ListOffsets : Operation {
  static constexpr std::string_view kName = "list_offsets";
  Partition partition;
  int64_t earliest = -1;  // -1: not asked
  int64_t latest = -1;    // -1: not asked; the high watermark
  bool stale = false;
};

// The whole partition below the high watermark, after healing: as a client reads it from its start, or as one replica
// has it.
struct FinalRead : Operation {
  static constexpr std::string_view kName = "final_read";
  static constexpr int32_t kThroughTheCluster = -1;
  Partition partition;
  int32_t node = kThroughTheCluster;
  int64_t log_start = 0;
  int64_t high_watermark = 0;
  std::vector<Record> records;  // in the order read
};

// Records below `before_offset` may be gone from invoked_ns on.
struct Trim : Operation {
  static constexpr std::string_view kName = "trim";
  Partition partition;
  int64_t before_offset = 0;
};

// Records from `from_offset` on that were there before answered_ns may be gone, and their offsets used again.
struct AcceptedLoss : Operation {
  static constexpr std::string_view kName = "accepted_loss";
  Partition partition;
  int64_t from_offset = 0;
};

struct Commit : Operation {
  static constexpr std::string_view kName = "commit";
  std::string group;
  Partition partition;
  int64_t offset = 0;
  std::string member;       // empty: a commit without membership, not judged by X14
  int32_t generation = -1;  // -1: likewise
};

struct FetchCommitted : Operation {
  static constexpr std::string_view kName = "fetch_committed";
  std::string group;
  Partition partition;
  int64_t offset = -1;  // -1: the group has no committed offset
};

// What the coordinator told a member.
struct Membership : Operation {
  enum class What { kJoined, kLeft, kFenced };
  static constexpr std::string_view kName = "membership";
  std::string group;
  std::string member;
  What what = What::kJoined;
  int32_t generation = 0;  // kLeft, kFenced: the last one the member had
};

enum class ObjectKind { kTopic, kGroup, kAcl, kUser };

// A creation or a deletion (of a group also its expiry).
struct Change : Operation {
  static constexpr std::string_view kName = "change";
  ObjectKind kind = ObjectKind::kTopic;
  std::string name;
  bool created = true;  // false: deleted
};

struct Listing : Operation {
  static constexpr std::string_view kName = "listing";
  ObjectKind kind = ObjectKind::kTopic;
  std::vector<std::string> names;  // all of this kind
};

// No fault from invoked_ns on; everything must work within `bound_ns`. If there are several, the last one is judged.
struct Healed : Operation {
  static constexpr std::string_view kName = "healed";
  int64_t bound_ns = 0;
};

// Something that has to end well within `bound_ns` after invoked_ns.
struct Await : Operation {
  static constexpr std::string_view kName = "await";
  std::string what;
  int64_t bound_ns = 0;
};

// Operations of each kind, in any order: checks go by their times, and at equal times by the order here.
template <typename... Kinds>
class Operations {
 public:
  using Any = std::variant<Kinds...>;
  using Pointer = std::variant<const Kinds*...>;  // valid until the next add()

  template <typename Kind>
  Kind& add(Kind operation) {
    return all<Kind>().emplace_back(std::move(operation));
  }
  template <typename Kind>
  std::vector<Kind>& all() {
    return std::get<std::vector<Kind>>(operations_);
  }
  template <typename Kind>
  const std::vector<Kind>& all() const {
    return std::get<std::vector<Kind>>(operations_);
  }
  size_t size() const { return (all<Kinds>().size() + ...); }

 private:
  std::tuple<std::vector<Kinds>...> operations_;
};

using History = Operations<Produce, Fetch, ListOffsets, FinalRead, Trim, AcceptedLoss, Commit, FetchCommitted,
                           Membership, Change, Listing, Healed, Await>;
using AnyOperation = History::Any;
using OperationPointer = History::Pointer;

inline const Operation& base_of(const OperationPointer& pointer) {
  return std::visit([](const auto* operation) -> const Operation& { return *operation; }, pointer);
}

}  // namespace trilog::history
