// What the cluster keeps beside records, and whether it gets going again: X13, X14, X16 and X18.
#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "tests/history/checks.h"
#include "tests/history/realtime.h"

namespace trilog::history {
namespace {

constexpr std::string_view kOffsetsTopic = "__consumer_offsets";

bool overlaps(const Operation& cause, const Operation& earlier, const Operation& later) {
  return cause.outcome != Outcome::kNotWritten && cause.answered_ns >= earlier.invoked_ns &&
         cause.invoked_ns <= later.answered_ns;
}

// Commits of one group for one partition, in the order of invocation.
using Commits = std::vector<const Commit*>;

// Whether the offset that `later` shows was committed on purpose after, or at the same time as, the higher one.
bool was_rewound(const Commits& commits, const Claim& earlier, const Claim& later) {
  auto at =
      std::ranges::lower_bound(commits, earlier.invoked_ns, {}, [](const Commit* each) { return each->invoked_ns; });
  for (; at != commits.end() && (*at)->invoked_ns <= later.answered_ns; ++at) {
    if ((*at)->outcome != Outcome::kNotWritten && (*at)->offset == later.value) return true;
  }
  return false;
}

// Deletions and expiries of groups, and accepted losses of their offsets.
class Forgotten {
 public:
  explicit Forgotten(const History& history) {
    for (const Change& change : history.all<Change>()) {
      if (change.kind == ObjectKind::kGroup && !change.created) by_group_[change.name].push_back(&change);
    }
    for (const AcceptedLoss& loss : history.all<AcceptedLoss>()) {
      if (loss.partition.topic == kOffsetsTopic) losses_.push_back(&loss);
    }
  }
  bool explains(const std::string& group, const Claim& earlier, const Claim& later) const {
    const auto between = [&](const Operation* cause) {
      return overlaps(*cause, earlier.operation(), later.operation());
    };
    const auto deleted = by_group_.find(group);
    return std::ranges::any_of(losses_, between) ||
           (deleted != by_group_.end() && std::ranges::any_of(deleted->second, between));
  }

 private:
  std::map<std::string, std::vector<const Operation*>> by_group_;
  std::vector<const Operation*> losses_;
};

}  // namespace

// X13: a committed offset was acknowledged, and after that a lower one, or none, is there, without a rewind.
void check_committed_offsets(const History& history, Violations& violations) {
  struct OffsetOfGroup {
    Commits commits;
    std::vector<Claim> claims;
  };
  std::map<std::pair<std::string, Partition>, OffsetOfGroup> offsets;
  for (const Commit& commit : history.all<Commit>()) {
    OffsetOfGroup& offset = offsets[{commit.group, commit.partition}];
    offset.commits.push_back(&commit);
    if (commit.outcome == Outcome::kOk) offset.claims.emplace_back(&commit, Claim::kShowsNothing, commit.offset);
  }
  for (const FetchCommitted& fetch : history.all<FetchCommitted>()) {
    if (fetch.outcome != Outcome::kOk) continue;
    offsets[{fetch.group, fetch.partition}].claims.emplace_back(&fetch, fetch.offset, Claim::kNoFloor);
  }
  const Forgotten forgotten(history);
  for (auto& [name, offset] : offsets) {
    const std::string& group = name.first;
    const Partition& partition = name.second;
    Commits& commits = offset.commits;
    std::ranges::stable_sort(commits, {}, [](const Commit* commit) { return commit->invoked_ns; });
    for_each_regress(std::move(offset.claims), [&](const Claim& earlier, const Claim& later) {
      if (was_rewound(commits, earlier, later) || forgotten.explains(group, earlier, later)) return true;
      violations.add("X13",
                     "the offset of group " + group + " in " + text_of(partition) + " goes back from " +
                         std::to_string(earlier.floor) + " to " + std::to_string(later.value),
                     {earlier.where, later.where});
      return false;
    });
  }
}

// X14: a commit was accepted of a generation that was over, or of a member that had left or was told that it is fenced.
void check_zombie_commits(const History& history, Violations& violations) {
  constexpr const char* kWholeGroup = "";
  std::map<std::pair<std::string, std::string>, std::vector<Claim>> generations;  // by group and member
  for (const Membership& told : history.all<Membership>()) {
    if (told.outcome != Outcome::kOk) continue;
    if (told.what == Membership::What::kJoined) {
      generations[{told.group, kWholeGroup}].emplace_back(&told, Claim::kShowsNothing, told.generation);
    } else {
      generations[{told.group, told.member}].emplace_back(&told, Claim::kShowsNothing, told.generation + 1LL);
    }
  }
  for (const Commit& commit : history.all<Commit>()) {
    if (commit.outcome != Outcome::kOk || commit.member.empty() || commit.generation < 0) continue;
    generations[{commit.group, kWholeGroup}].emplace_back(&commit, commit.generation, commit.generation);
    generations[{commit.group, commit.member}].emplace_back(&commit, commit.generation, Claim::kNoFloor);
  }
  const Forgotten forgotten(history);
  for (auto& [name, claims] : generations) {
    const std::string& group = name.first;
    const std::string& member = name.second;
    for_each_regress(std::move(claims), [&](const Claim& earlier, const Claim& later) {
      if (forgotten.explains(group, earlier, later)) return true;
      violations.add("X14",
                     "a commit of generation " + std::to_string(later.value) + " was accepted by group " + group +
                         (member.empty() ? " after a newer one had begun" : ", of a member that was out"),
                     {earlier.where, later.where});
      return false;
    });
  }
}

namespace {

// The creations and deletions of one object.
class ObjectChanges {
 public:
  // In the order of invocation.
  void add(const Change* change) {
    if (change->outcome == Outcome::kNotWritten) return;
    if (change->outcome == Outcome::kUnknown) {
      int64_t& first = change->created ? maybe_created_ns_ : maybe_deleted_ns_;
      first = std::min(first, change->invoked_ns);
      return;
    }
    const int64_t before = answered_by_.empty() ? std::numeric_limits<int64_t>::min() : answered_by_.back();
    acknowledged_.push_back(change);
    answered_by_.push_back(std::max(before, change->answered_ns));
  }

  // What was last acknowledged before the listing; null if nothing was, or if the opposite may have come after it: in a
  // change that overlaps one of the two, or whose outcome is unknown. Looks back only as far as changes overlap.
  const Change* settled_before(const Listing& listing) const {
    const Change* latest = nullptr;
    const size_t end = static_cast<size_t>(
        std::ranges::upper_bound(acknowledged_, listing.answered_ns, {}, invoked_ns_of) - acknowledged_.begin());
    for (size_t i = end; i > 0 && (latest == nullptr || answered_by_[i - 1] > latest->answered_ns); --i) {
      const Change* change = acknowledged_[i - 1];
      if (change->answered_ns >= listing.invoked_ns) continue;
      if (latest == nullptr || change->answered_ns > latest->answered_ns) latest = change;
    }
    if (latest == nullptr) return nullptr;
    if ((latest->created ? maybe_deleted_ns_ : maybe_created_ns_) <= listing.answered_ns) return nullptr;
    for (size_t i = end; i > 0 && answered_by_[i - 1] >= latest->invoked_ns; --i) {
      const Change* change = acknowledged_[i - 1];
      if (change->created != latest->created && change->answered_ns >= latest->invoked_ns) return nullptr;
    }
    return latest;
  }

 private:
  static int64_t invoked_ns_of(const Change* change) { return change->invoked_ns; }

  std::vector<const Change*> acknowledged_;
  std::vector<int64_t> answered_by_;                                // when the last of all up to this one was answered
  int64_t maybe_created_ns_ = std::numeric_limits<int64_t>::max();  // first one without an answer
  int64_t maybe_deleted_ns_ = std::numeric_limits<int64_t>::max();
};

}  // namespace

// X16: an object that was created is not listed, or one that was deleted is.
void check_objects(const History& history, Violations& violations) {
  std::vector<const Change*> all_changes;
  for (const Change& change : history.all<Change>()) all_changes.push_back(&change);
  std::ranges::stable_sort(all_changes, {}, [](const Change* change) { return change->invoked_ns; });
  std::map<ObjectKind, std::map<std::string, ObjectChanges>> objects;
  for (const Change* change : all_changes) objects[change->kind][change->name].add(change);
  for (const Listing& listing : history.all<Listing>()) {
    if (listing.outcome != Outcome::kOk) continue;
    const std::set<std::string_view> names(listing.names.begin(), listing.names.end());
    for (const auto& [name, changes] : objects[listing.kind]) {
      const Change* change = changes.settled_before(listing);
      if (change == nullptr || change->created == names.contains(name)) continue;
      violations.add("X16", name + (change->created ? " has disappeared" : " was deleted and is back"),
                     {change, &listing});
    }
  }
}

namespace {

// Those of `expected` that did not show up in time after healing.
template <typename Name>
std::vector<Name> missing(std::set<Name> expected, const std::set<Name>& seen) {
  std::erase_if(expected, [&](const Name& name) { return seen.contains(name); });
  return {expected.begin(), expected.end()};
}

std::set<std::string> deleted_objects(const History& history, ObjectKind kind) {
  std::set<std::string> names;
  for (const Change& change : history.all<Change>()) {
    if (change.kind == kind && !change.created && change.outcome != Outcome::kNotWritten) names.insert(change.name);
  }
  return names;
}

// Every partition must take a write in time, and let itself be read.
void check_partitions_serve(const History& history, const Healed& healed, Violations& violations) {
  std::set<Partition> known, written, read;
  const std::set<std::string> deleted = deleted_objects(history, ObjectKind::kTopic);
  for (const Produce& produce : history.all<Produce>()) {
    if (!deleted.contains(produce.partition.topic)) known.insert(produce.partition);
    if (is_promise(produce) && produce.invoked_ns >= healed.invoked_ns &&
        produce.answered_ns - healed.invoked_ns <= healed.bound_ns) {
      written.insert(produce.partition);
    }
  }
  for (const FinalRead& final_read : history.all<FinalRead>()) {
    if (final_read.outcome == Outcome::kOk && final_read.node == FinalRead::kThroughTheCluster) {
      read.insert(final_read.partition);
    }
  }
  for (const Partition& partition : missing(known, written)) {
    violations.add("X18", text_of(partition) + " takes no write in time after all is healed", {&healed});
  }
  for (const Partition& partition : missing(known, read)) {
    violations.add("X18", text_of(partition) + " was not read to its end after all is healed", {&healed});
  }
}

// Every group must take a commit in time.
void check_groups_serve(const History& history, const Healed& healed, Violations& violations) {
  std::set<std::string> known, served;
  const std::set<std::string> deleted = deleted_objects(history, ObjectKind::kGroup);
  for (const Commit& commit : history.all<Commit>()) {
    if (!deleted.contains(commit.group)) known.insert(commit.group);
    if (commit.outcome == Outcome::kOk && commit.invoked_ns >= healed.invoked_ns &&
        commit.answered_ns - healed.invoked_ns <= healed.bound_ns) {
      served.insert(commit.group);
    }
  }
  for (const std::string& group : missing(known, served)) {
    violations.add("X18", "group " + group + " takes no commit in time after all is healed", {&healed});
  }
}

}  // namespace

// X18: after healing something does not work again, or does not end, within its bound.
void check_progress(const History& history, Violations& violations) {
  const auto& healed = history.all<Healed>();
  if (const auto last = std::ranges::max_element(healed, {}, &Healed::invoked_ns); last != healed.end()) {
    check_partitions_serve(history, *last, violations);
    check_groups_serve(history, *last, violations);
  }
  for (const Await& await : history.all<Await>()) {
    if (await.outcome == Outcome::kOk && await.answered_ns - await.invoked_ns <= await.bound_ns) continue;
    violations.add("X18", await.what + " did not end in time", {&await});
  }
}

}  // namespace trilog::history
