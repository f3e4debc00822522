// A few Raft nodes in one test: their disks, the messages between them, and the promises that hold whatever happens.
// Nothing moves by itself: the test (or a seeded loop) delivers, drops and repeats messages, completes writes, moves
// the clock, crashes and restarts.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "broker/quorum/raft.h"
#include "tests/sim/sim_executor.h"

namespace trilog::testing {

SharedBytes batch_of(std::string_view text);
std::string describe(const RaftMessage& message);

class MemoryRaftStorage : public RaftStorage {
 public:
  Offset start() const override { return start_; }
  Offset end() const override { return entries_.empty() ? start_ : entries_.back().end(); }
  std::optional<Term> term_before(Offset end) const override;
  Result<std::vector<RaftEntry>> read(Offset from, size_t bytes_max) const override;
  std::optional<RaftSnapshot> snapshot() const override { return snapshot_; }

  void append(const RaftEntry& entry);
  void write(const RaftPersist& persist);
  // The log begins at snapshot.end from now on, as far as it is longer.
  void compact(RaftSnapshot snapshot);
  const std::vector<RaftEntry>& entries() const { return entries_; }
  bool unreadable = false;

 private:
  Offset start_{0};
  Term start_term_{0};
  std::vector<RaftEntry> entries_;
  std::optional<RaftSnapshot> snapshot_;
};

class RaftCluster {
 public:
  struct Node {
    Voter voter;
    RaftHardState durable_state;
    MemoryRaftStorage durable;           // what a crash leaves
    MemoryRaftStorage storage;           // what the node sees
    std::optional<RaftPersist> persist;  // out
    std::unique_ptr<Raft> raft;          // none: down
    Offset committed_memo;               // as a mark file would remember it
    std::string state;                   // everything applied: "offset:term:text;"
    Offset state_end{0};
    std::vector<std::string> news;  // changes of leadership
  };

  explicit RaftCluster(int size, uint64_t seed = 1);

  Node& node(int id) { return nodes_.at(id); }
  Raft& raft(int id) { return *nodes_.at(id).raft; }
  int size() const { return static_cast<int>(nodes_.size()); }
  int64_t now_ns() const { return now_ns_; }

  bool auto_sync = true;  // writes complete at once
  void advance(int64_t ns) { now_ns_ += ns; }
  void tick(int id);
  void timeout(int id);  // moves the clock to the node's next deadline and ticks it alone
  std::optional<Offset> propose(int id, std::string_view text);
  void complete_persist(int id);
  // A write that is out is kept as far as asked: the vote, and the first so many entries.
  void crash(int id, bool keep_state = false, size_t keep_entries = 0);
  void restart(int id);
  void compact(int id);  // snapshot of what is applied

  std::deque<RaftMessage>& messages() { return messages_; }
  void deliver(const RaftMessage& message);
  bool deliver_next();  // false: none
  void deliver_all();   // until none is left, at most 10,000
  void cut(int a, int b) { cut_.insert({a, b}), cut_.insert({b, a}); }
  void cut_one_way(int from, int to) { cut_.insert({from, to}); }
  void isolate(int id);
  void heal() { cut_.clear(); }
  bool is_cut(int from, int to) const { return cut_.contains({from, to}); }
  // Elects `id` (whose log must be new enough) and delivers everything.
  void elect(int id);
  int leader() const;  // who leads to the outside in the highest term; 0: nobody

  // Promises of the paper's figure 3 and of Q2, Q6, checked after every step.
  void check();
  void run_ready(int id);

 private:
  Raft& make_raft(Node& node);
  void apply(Node& node, Offset from, Offset to);

  std::map<int, Node> nodes_;
  std::vector<Voter> voters_;
  sim::SeededRandom random_;
  int64_t now_ns_ = 1'000'000'000;
  std::deque<RaftMessage> messages_;
  std::set<std::pair<int, int>> cut_;
  // What the world has seen.
  std::map<Term, int> leader_of_term_;
  std::map<std::pair<int, Term>, BrokerId> votes_;
  std::map<Offset, std::string> applied_;  // offset -> "term:text"
};

}  // namespace trilog::testing
