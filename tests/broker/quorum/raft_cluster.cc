#include "tests/broker/quorum/raft_cluster.h"

#include <algorithm>
#include <sstream>

#include "storage/base/check.h"

namespace trilog::testing {

SharedBytes batch_of(std::string_view text) { return SharedBytes(Bytes::copy_of(text)); }

namespace {

void describe_body(std::ostream& out, const RaftVote& vote) {
  out << (vote.pre        ? "pre-vote?"
          : vote.transfer ? "vote! (transfer)"
                          : "vote?")
      << " log " << vote.log_end << "/" << vote.last_term;
}
void describe_body(std::ostream& out, const RaftVoteReply& reply) {
  out << (reply.pre ? "pre-vote " : "vote ") << (reply.granted ? "granted" : "refused");
}
void describe_body(std::ostream& out, const RaftAppend& append) {
  out << (append.entries.empty() ? "heartbeat" : "append") << " after " << append.prev_end << "/" << append.prev_term;
  for (const RaftEntry& entry : append.entries) {
    out << " [" << entry.first << "/" << entry.term << " " << as_text(entry.batch) << "]";
  }
  out << " commit " << append.commit;
}
void describe_body(std::ostream& out, const RaftAppendReply& reply) {
  if (reply.matched) {
    out << "matched " << reply.end;
  } else {
    out << "refused " << reply.refused_end << ", try " << reply.end << "/" << reply.end_term;
  }
}
void describe_body(std::ostream& out, const RaftInstall& install) {
  out << "snapshot " << install.snapshot.end << "/" << install.snapshot.last_term;
}
void describe_body(std::ostream& out, const RaftTransfer&) { out << "take over"; }

}  // namespace

std::string describe(const RaftMessage& message) {
  std::ostringstream out;
  out << message.from << "->" << message.to << " term " << message.term << ": ";
  std::visit([&](const auto& body) { describe_body(out, body); }, message.body);
  return out.str();
}

std::optional<Term> MemoryRaftStorage::term_before(Offset position) const {
  if (position == Offset(0)) return Term(0);
  if (position == start_) return start_term_;
  for (const RaftEntry& entry : entries_) {
    if (position > entry.first && position <= entry.end()) return entry.term;
  }
  return std::nullopt;
}

Result<std::vector<RaftEntry>> MemoryRaftStorage::read(Offset from, size_t bytes_max) const {
  if (unreadable) return Status(Errc::kCorruption, "an entry is damaged");
  std::vector<RaftEntry> found;
  size_t bytes = 0;
  for (const RaftEntry& entry : entries_) {
    if (entry.end() <= from) continue;
    bytes += entry.batch.size();
    if (!found.empty() && bytes > bytes_max) break;
    found.push_back(entry);
  }
  return found;
}

void MemoryRaftStorage::append(const RaftEntry& entry) {
  CHECK_EQ(entry.first, end());
  entries_.push_back(entry);
}

void MemoryRaftStorage::write(const RaftPersist& persist) {
  if (persist.snapshot) {
    snapshot_ = persist.snapshot;
    start_ = persist.snapshot->end;
    start_term_ = persist.snapshot->last_term;
    entries_.clear();
  }
  if (persist.truncate_to) {
    while (!entries_.empty() && entries_.back().end() > *persist.truncate_to) entries_.pop_back();
    CHECK_EQ(end(), *persist.truncate_to);
  }
  for (const RaftEntry& entry : persist.entries) append(entry);
}

void MemoryRaftStorage::compact(RaftSnapshot snapshot) {
  auto kept = std::find_if(entries_.begin(), entries_.end(),
                           [&](const RaftEntry& entry) { return entry.first >= snapshot.end; });
  entries_.erase(entries_.begin(), kept);
  start_ = snapshot.end;
  start_term_ = snapshot.last_term;
  snapshot_ = std::move(snapshot);
}

RaftCluster::RaftCluster(int size, uint64_t seed) : random_(seed) {
  for (int id = 1; id <= size; ++id) {
    voters_.push_back({BrokerId(id), DirectoryId(0, static_cast<uint64_t>(id))});
  }
  for (const Voter& voter : voters_) {
    Node& node = nodes_[voter.id.value()];
    node.voter = voter;
    node.durable.append({Offset(0), 1, Term(0), batch_of("voters")});
    node.storage = node.durable;
    make_raft(node).start(now_ns_);
  }
  for (int id = 1; id <= size; ++id) run_ready(id);
}

Raft& RaftCluster::make_raft(Node& node) {
  RaftConfig config;
  config.self = node.voter;
  config.voters = voters_;
  config.no_op = batch_of("no-op");
  auto snapshot = node.storage.snapshot();
  Offset applied = snapshot ? snapshot->end : Offset(0);
  node.state = snapshot ? std::string(as_text(snapshot->state)) : std::string();
  node.state_end = applied;
  node.raft = std::make_unique<Raft>(config, node.durable_state,
                                     std::max(applied, std::min(node.committed_memo, node.storage.end())), applied,
                                     node.storage, random_);
  return *node.raft;
}

void RaftCluster::tick(int id) {
  if (!node(id).raft) return;
  raft(id).tick(now_ns_);
  run_ready(id);
}

void RaftCluster::timeout(int id) {
  now_ns_ = std::max(now_ns_, raft(id).next_deadline_ns());
  tick(id);
}

std::optional<Offset> RaftCluster::propose(int id, std::string_view text) {
  auto at = raft(id).propose(batch_of(text), 1 + static_cast<int32_t>(text.size() % 3));
  run_ready(id);
  return at;
}

void RaftCluster::run_ready(int id) {
  Node& self = node(id);
  while (self.raft->has_ready()) {
    RaftReady ready = self.raft->take_ready();
    if (ready.persist) {
      self.storage.write(*ready.persist);
      self.persist = std::move(ready.persist);
    }
    for (RaftMessage& message : ready.messages) messages_.push_back(std::move(message));
    apply(self, ready.apply_from, ready.apply_to);
    if (ready.leadership) {
      self.news.push_back((ready.leadership->leading ? "leads term " : "no longer leads term ") +
                          std::to_string(ready.leadership->term.value()));
    }
    if (self.persist && auto_sync) complete_persist(id);
  }
  check();
}

void RaftCluster::complete_persist(int id) {
  Node& self = node(id);
  if (!self.persist) return;
  RaftPersist persist = std::move(*self.persist);
  self.persist.reset();
  if (persist.hard_state) self.durable_state = *persist.hard_state;
  self.durable.write(persist);
  if (persist.snapshot) {
    self.state = std::string(as_text(persist.snapshot->state));
    self.state_end = persist.snapshot->end;
  }
  self.raft->persisted();
  self.committed_memo = std::max(self.committed_memo, std::min(self.raft->committed(), self.raft->durable_end()));
  if (!auto_sync) run_ready(id);
}

void RaftCluster::apply(Node& self, Offset from, Offset to) {
  CHECK_EQ(from, self.state_end);
  while (self.state_end < to) {
    auto entries = self.storage.read(self.state_end, 1);
    CHECK(entries.ok());
    CHECK(!entries->empty());
    const RaftEntry& entry = entries->front();
    CHECK_EQ(entry.first, self.state_end);  // entries are applied whole
    std::string text = std::to_string(entry.term.value()) + ":" + std::string(as_text(entry.batch));
    // State machine safety: nobody applies something else at this offset.
    auto [seen, fresh] = applied_.emplace(entry.first, text);
    CHECK_EQ(seen->second, text);
    self.state += std::to_string(entry.first.value()) + ":" + text + ";";
    self.state_end = entry.end();
  }
}

void RaftCluster::crash(int id, bool keep_state, size_t keep_entries) {
  Node& self = node(id);
  if (self.persist) {
    RaftPersist kept;
    if (keep_state && self.persist->hard_state) self.durable_state = *self.persist->hard_state;
    // Entries go to the disk after the truncation before them; a snapshot is renamed into place in one step.
    if (keep_entries > 0) {
      kept = *self.persist;
      kept.entries.resize(std::min(keep_entries, kept.entries.size()), RaftEntry{});
      self.durable.write(kept);
    }
    self.persist.reset();
  }
  self.raft.reset();
  self.storage = self.durable;
}

void RaftCluster::restart(int id) {
  Node& self = node(id);
  CHECK(self.raft == nullptr);
  self.storage = self.durable;
  make_raft(self).start(now_ns_);
  run_ready(id);
}

void RaftCluster::compact(int id) {
  Node& self = node(id);
  if (self.persist || !self.raft || self.state_end == self.storage.start()) return;
  auto term = self.storage.term_before(self.state_end);
  CHECK(term.has_value());
  self.storage.compact({self.state_end, *term, batch_of(self.state)});
  self.durable = self.storage;
}

void RaftCluster::deliver(const RaftMessage& message) {
  int to = message.to.value();
  if (is_cut(message.from.value(), to) || !node(to).raft) return;
  raft(to).step(message, now_ns_);
  run_ready(to);
}

bool RaftCluster::deliver_next() {
  if (messages_.empty()) return false;
  RaftMessage message = std::move(messages_.front());
  messages_.pop_front();
  deliver(message);
  return true;
}

void RaftCluster::deliver_all() {
  for (int i = 0; i < 10'000 && deliver_next(); ++i) {
  }
  CHECK(messages_.empty());
}

void RaftCluster::isolate(int id) {
  for (const Voter& voter : voters_) {
    if (voter.id.value() != id) cut(id, voter.id.value());
  }
}

void RaftCluster::elect(int id) {
  // Past the time in which the others still object because they heard a leader.
  advance(2'000'000'000);
  for (int attempt = 0; attempt < 3 && leader() != id; ++attempt) {
    timeout(id);
    deliver_all();
  }
  CHECK_EQ(leader(), id);
}

int RaftCluster::leader() const {
  int found = 0;
  Term term(-1);
  for (const auto& [id, node] : nodes_) {
    if (node.raft && node.raft->leading() && node.raft->term() > term) {
      found = id;
      term = node.raft->term();
    }
  }
  return found;
}

void RaftCluster::check() {
  for (auto& [id, self] : nodes_) {
    if (!self.raft) continue;
    const Raft& raft = *self.raft;
    if (raft.role() == Raft::Role::kLeader) {
      // Election safety: at most one leader per term.
      CHECK_EQ(leader_of_term_.emplace(raft.term(), id).first->second, id);
      if (raft.leading()) {
        // Leader completeness: what anybody applied is in its log, and it knows that.
        if (!applied_.empty() && leader_of_term_.rbegin()->first == raft.term()) {
          CHECK_GT(raft.end(), applied_.rbegin()->first);
        }
      }
    }
    // A vote that was not durable was not given: after a crash it may go to another.
    if (const RaftHardState& vote = self.durable_state; vote.voted_for != kNoBroker) {
      CHECK_EQ(votes_.emplace(std::pair(id, vote.term), vote.voted_for).first->second, vote.voted_for);
    }
    CHECK_LE(raft.applied(), raft.committed());
    CHECK_LE(raft.committed(), raft.end());
    CHECK_LE(raft.applied(), self.durable.end());
  }
  // Log matching: equal term at an offset means equal logs up to there.
  for (auto& [a_id, a] : nodes_) {
    for (auto& [b_id, b] : nodes_) {
      if (a_id >= b_id) continue;
      std::map<Offset, const RaftEntry*> by_first;
      for (const RaftEntry& entry : a.storage.entries()) by_first[entry.first] = &entry;
      bool must_match = false;
      for (auto entry = b.storage.entries().rbegin(); entry != b.storage.entries().rend(); ++entry) {
        auto other = by_first.find(entry->first);
        if (other == by_first.end()) continue;
        if (other->second->term == entry->term) must_match = true;
        if (!must_match) continue;
        CHECK_EQ(other->second->term, entry->term);
        CHECK_EQ(as_text(other->second->batch), as_text(entry->batch));
      }
    }
  }
}

}  // namespace trilog::testing
