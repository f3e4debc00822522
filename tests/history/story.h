// Histories told by hand: each call adds one operation after the one before it, of one partition and one client of each
// kind unless the test changes that on what is returned.
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/history/checker.h"
#include "tests/history/history.h"

namespace trilog::history {

class Story {
 public:
  using Records = std::vector<Record>;

  Produce& sent(Records records) {
    Produce produce;
    produce.records = std::move(records);
    produce.idempotent = true;
    return add("producer", std::move(produce));
  }
  Produce& sent_without_answer(std::vector<uint64_t> tokens) { return failed(Outcome::kUnknown, tokens); }
  Produce& refused(std::vector<uint64_t> tokens) { return failed(Outcome::kNotWritten, tokens); }
  Fetch& polled(int64_t asked_offset, Records records) {
    Fetch fetch;
    fetch.asked_offset = asked_offset;
    fetch.next_offset = records.empty() ? asked_offset : records.back().offset + 1;
    fetch.records = std::move(records);
    return add("consumer", std::move(fetch));
  }
  // Through the cluster, up to the last record.
  FinalRead& read_to_the_end(Records records) {
    return replica_holds(FinalRead::kThroughTheCluster, std::move(records));
  }
  FinalRead& replica_holds(int32_t node, Records records) {
    FinalRead read;
    read.node = node;
    read.log_start = records.empty() ? 0 : records.front().offset;
    read.high_watermark = records.empty() ? 0 : records.back().offset + 1;
    read.records = std::move(records);
    return add("reader", std::move(read));
  }
  ListOffsets& told(int64_t earliest, int64_t latest) {
    ListOffsets list;
    list.earliest = earliest;
    list.latest = latest;
    return add("asker", std::move(list));
  }
  Trim& trimmed(int64_t before_offset) {
    Trim trim;
    trim.before_offset = before_offset;
    return add("operator", std::move(trim));
  }
  AcceptedLoss& accepted_loss(int64_t from_offset) {
    AcceptedLoss loss;
    loss.from_offset = from_offset;
    return add("operator", std::move(loss));
  }
  Commit& committed(int64_t offset, std::string member = "", int32_t generation = -1) {
    Commit commit;
    commit.group = "billing";
    commit.offset = offset;
    commit.member = std::move(member);
    commit.generation = generation;
    return add("consumer", std::move(commit));
  }
  FetchCommitted& found_committed(int64_t offset) {
    FetchCommitted fetch;
    fetch.group = "billing";
    fetch.offset = offset;
    return add("consumer", std::move(fetch));
  }
  Membership& member(std::string member, Membership::What what, int32_t generation) {
    Membership membership;
    membership.group = "billing";
    membership.member = std::move(member);
    membership.what = what;
    membership.generation = generation;
    return add("consumer", std::move(membership));
  }
  Change& created(std::string name, ObjectKind kind = ObjectKind::kTopic) {
    return changed(kind, std::move(name), true);
  }
  Change& deleted(std::string name, ObjectKind kind = ObjectKind::kTopic) {
    return changed(kind, std::move(name), false);
  }
  Listing& listed(std::vector<std::string> names) {
    Listing listing;
    listing.names = std::move(names);
    return add("operator", std::move(listing));
  }
  Healed& healed(int64_t bound_ns) {
    Healed healed;
    healed.bound_ns = bound_ns;
    return add("harness", std::move(healed));
  }
  Await& awaited(std::string what, int64_t bound_ns) {
    Await await;
    await.what = std::move(what);
    await.bound_ns = bound_ns;
    return add("harness", std::move(await));
  }

  // The classes that the checker finds.
  std::set<std::string> flagged() const {
    std::set<std::string> classes;
    for (const Violation& violation : check(history).value()) classes.insert(violation.id);
    return classes;
  }

  History history;

  static constexpr int64_t kStepNs = 10;  // each operation takes half of it

 private:
  template <typename Kind>
  Kind& add(std::string client, Kind operation) {
    operation.client = std::move(client);
    operation.invoked_ns = now_ns_ += kStepNs;
    operation.answered_ns = now_ns_ + kStepNs / 2;
    if constexpr (requires { operation.partition; }) operation.partition = {"orders", 0};
    return history.add(std::move(operation));
  }
  Produce& failed(Outcome outcome, const std::vector<uint64_t>& tokens) {
    Produce& produce = sent({});
    for (const uint64_t token : tokens) produce.records.push_back({-1, token});
    produce.outcome = outcome;
    return produce;
  }
  Change& changed(ObjectKind kind, std::string name, bool created) {
    Change change;
    change.kind = kind;
    change.name = std::move(name);
    change.created = created;
    return add("operator", std::move(change));
  }

  int64_t now_ns_ = 0;
};

}  // namespace trilog::history
