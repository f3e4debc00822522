// A RaftLog on a simulated disk, and three Rafts, each on one of those.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/quorum/raft.h"
#include "broker/quorum/raft_log.h"
#include "storage/base/codec.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_env.h"

namespace trilog::testing {

inline SharedBytes data_batch(const std::vector<std::string>& texts) {
  std::vector<Bytes> records;
  for (const std::string& text : texts) records.push_back(Bytes::copy_of(text));
  auto batch = make_data_batch(records, 1);
  CHECK(batch.ok());
  return SharedBytes(std::move(*batch));
}
inline RaftEntry data_entry(int64_t first, int term, const std::vector<std::string>& texts) {
  return {Offset(first), static_cast<int32_t>(texts.size()), Term(term), data_batch(texts)};
}
inline SharedBytes no_op_batch() {
  auto batch = make_no_op_batch(BrokerId(1), 1);
  CHECK(batch.ok());
  return SharedBytes(std::move(*batch));
}

class RaftDisk {
 public:
  explicit RaftDisk(uint64_t seed = 1) : world(seed), disk(world.scheduler()) {
    disk.put_file("/data/meta", as_bytes("of the node"));
    voters.cluster = ClusterId(1, 2);
    for (int id = 1; id <= 3; ++id) voters.voters.push_back({BrokerId(id), DirectoryId(0, static_cast<uint64_t>(id))});
  }
  ~RaftDisk() { kill(); }

  Status open() {
    env = world.make_env(disk, "node");
    auto opened = RaftLog::open(*env, {.directory = "/data/metadata"});
    error = opened.status();
    if (opened.ok()) log = std::move(*opened);
    return error;
  }
  Status form() {
    std::optional<Status> formed;
    log->form(voters, [&](Status status) { formed = std::move(status); });
    world.run_until_idle();
    return formed.value_or(Status(Errc::kFailed, "did not end"));
  }
  void run() {
    ASSERT_TRUE(open().ok());
    ASSERT_TRUE(form().ok());
  }
  void kill() {
    env.reset();
    log.reset();
  }
  void power_cut(const sim::CrashPolicy& policy = {}) {
    kill();
    disk.power_cut(policy);
  }
  void begin_persist(RaftPersist work) {
    persisted.reset();
    log->persist(std::move(work), Offset(0), [this](Status status) { persisted = std::move(status); });
  }
  Status persist(RaftPersist work) {
    begin_persist(std::move(work));
    world.run_until_idle();
    return persisted.value_or(Status(Errc::kFailed, "did not end"));
  }
  // As MetadataLog writes it: the set of voters comes first.
  SharedBytes state(std::string_view text) const {
    Bytes bytes;
    ByteWriter out(bytes);
    out.write_sized_bytes(encode_voter_set(voters));
    out.write_bytes(as_bytes(text));
    return SharedBytes(std::move(bytes));
  }
  // All data in the log.
  std::vector<std::string> texts() const {
    std::vector<std::string> found;
    for (Offset at = log->start(); at < log->end();) {
      auto entries = log->read(at, 1u << 20);
      CHECK(entries.ok());
      for (const RaftEntry& entry : *entries) {
        at = entry.end();
        auto content = read_entry(*RecordBatch::parse(entry.batch));
        CHECK(content.ok());
        if (content->kind != RaftEntryKind::kData) continue;
        for (ByteView record : content->records) found.emplace_back(as_text(record));
      }
    }
    return found;
  }

  sim::World world;
  sim::SimDisk disk;
  VoterSet voters;
  std::unique_ptr<sim::SimEnv> env;
  std::unique_ptr<RaftLog> log;
  std::optional<Status> persisted;
  Status error;
};

// Three nodes in one world. The state of a node is the text of all it applied, in order.
class RaftDiskCluster {
 public:
  explicit RaftDiskCluster(uint64_t seed) : world_(seed), random_(seed * 7919) {
    voters_.cluster = ClusterId(1, 2);
    for (int id = 1; id <= 3; ++id) voters_.voters.push_back({BrokerId(id), DirectoryId(0, static_cast<uint64_t>(id))});
    for (int id = 1; id <= 3; ++id) {
      nodes_[id].disk = std::make_unique<sim::SimDisk>(world_.scheduler());
      nodes_[id].disk->put_file("/data/meta", as_bytes("of the node"));
      start(id);
    }
  }
  ~RaftDiskCluster() {
    for (auto& [id, node] : nodes_) stop(id);
  }

  const std::string& state(int id) { return nodes_.at(id).state; }
  size_t snapshots_installed() const { return installed_; }

  void random_step() {
    int id = 1 + static_cast<int>(random_.below(3));
    Node& node = nodes_.at(id);
    switch (random_.below(14)) {
      case 0: world_.run_for(static_cast<int64_t>(random_.below(250)) * 1'000'000); break;
      case 1:
        if (node.raft) node.raft->tick(world_.now_ns());
        break;
      case 2: propose(id, "p" + std::to_string(counter_++) + ";"); break;
      case 3:
        if (!messages_.empty() && random_.chance(40)) messages_.pop_front();
        break;
      case 4:
        if (random_.chance(7) && node.raft) {
          stop(id);
          node.disk->power_cut();
        } else if (!node.raft && node.log == nullptr) {
          start(id);
        }
        break;
      case 5:
        if (random_.chance(25)) compact(node);
        break;
      case 6: world_.run_until_idle(); break;
      default: deliver(); break;
    }
    ready(id);
    if (::testing::Test::HasFatalFailure()) return;
  }

  void heal() {
    for (int id = 1; id <= 3; ++id) {
      if (nodes_.at(id).log == nullptr) start(id);
    }
    for (int i = 0; i < 600; ++i) {
      world_.run_for(10'000'000);
      for (int id = 1; id <= 3; ++id) {
        if (nodes_.at(id).raft) nodes_.at(id).raft->tick(world_.now_ns());
        ready(id);
        if (i % 200 == 150) propose(id, "healed;");
      }
      for (int k = 0; k < 2'000 && !messages_.empty(); ++k) deliver();
    }
  }

 private:
  struct Node {
    std::unique_ptr<sim::SimDisk> disk;
    std::unique_ptr<sim::SimEnv> env;
    std::unique_ptr<RaftLog> log;
    std::unique_ptr<Raft> raft;
    std::string state;
    std::optional<RaftSnapshot> installing;
  };

  void stop(int id) {
    Node& node = nodes_.at(id);
    node.env.reset();
    node.raft.reset();
    node.log.reset();
  }

  void start(int id) {
    Node& node = nodes_.at(id);
    node.env = world_.make_env(*node.disk, "node" + std::to_string(id));
    node.state.clear();
    node.installing.reset();
    auto opened = RaftLog::open(*node.env, {.directory = "/data/metadata", .segment_bytes = 1'000});
    ASSERT_TRUE(opened.ok()) << opened.status().to_string();
    node.log = std::move(*opened);
    if (node.log->voters()) return begin(id);
    node.log->form(voters_, [this, id](const Status& formed) {
      CHECK(formed.ok());
      begin(id);
    });
  }
  void begin(int id) {
    Node& node = nodes_.at(id);
    RaftConfig config;
    config.self = voters_.voters[static_cast<size_t>(id - 1)];
    config.voters = voters_.voters;
    config.no_op = no_op_batch();
    Offset applied{0};
    if (node.log->start_snapshot()) {
      applied = node.log->start_snapshot()->end;
      node.state = text_of(*node.log->start_snapshot());
    }
    node.raft = std::make_unique<Raft>(config, node.log->hard_state(), std::max(applied, node.log->marked_commit()),
                                       applied, *node.log, random_);
    node.raft->start(world_.now_ns());
  }
  static std::string text_of(const RaftSnapshot& snapshot) {
    ByteReader in(snapshot.state);
    in.read_sized_bytes();
    return std::string(as_text(in.read_bytes(in.remaining())));
  }

  void ready(int id) {
    Node& node = nodes_.at(id);
    while (node.raft && node.raft->has_ready()) {
      RaftReady ready = node.raft->take_ready();
      if (ready.persist) {
        if (ready.persist->snapshot) ++installed_;
        node.installing = ready.persist->snapshot;
        node.log->persist(std::move(*ready.persist), node.raft->committed(), [this, id](const Status& status) {
          CHECK(status.ok());
          Node& self = nodes_.at(id);
          if (self.installing) self.state = text_of(*self.installing);
          self.installing.reset();
          self.raft->persisted();
        });
      }
      for (RaftMessage& message : ready.messages) messages_.push_back(std::move(message));
      apply(node, ready.apply_from, ready.apply_to);
    }
  }
  void apply(Node& node, Offset from, Offset to) {
    while (from < to) {
      auto entries = node.log->read(from, 1);
      CHECK(entries.ok());
      const RaftEntry& entry = entries->front();
      CHECK_EQ(entry.first, from);
      from = entry.end();
      auto content = read_entry(*RecordBatch::parse(entry.batch));
      CHECK(content.ok());
      std::string text;
      if (content->kind == RaftEntryKind::kData) {
        for (ByteView record : content->records) text += as_text(record);
      }
      // Nobody applies something else at this offset.
      CHECK_EQ(applied_.emplace(entry.first, text).first->second, text);
      node.state += text;
    }
  }
  void propose(int id, const std::string& text) {
    Node& node = nodes_.at(id);
    if (node.raft) node.raft->propose(data_batch({text, "+"}), 2);
  }
  void compact(Node& node) {
    if (!node.raft || node.log->writing() || node.log->snapshots().saving()) return;
    Offset end = node.raft->applied();
    const auto& sound = node.log->snapshots().sound();
    if (end <= node.log->start() || (!sound.empty() && sound.back().end >= end)) return;
    Bytes state;
    ByteWriter out(state);
    out.write_sized_bytes(encode_voter_set(voters_));
    out.write_bytes(as_bytes(node.state));
    bool saved = false;
    node.log->snapshots().save({end, *node.log->term_before(end), SharedBytes(std::move(state))},
                               [&](const Status& status) { saved = status.ok(); });
    world_.run_until_idle();
    CHECK(saved);
    node.log->trim(end);
  }
  void deliver() {
    if (messages_.empty()) return;
    RaftMessage message = std::move(messages_.front());
    messages_.pop_front();
    int to = message.to.value();
    if (nodes_.at(to).raft) nodes_.at(to).raft->step(message, world_.now_ns());
    ready(to);
  }

  sim::World world_;
  sim::SeededRandom random_;
  VoterSet voters_;
  std::map<int, Node> nodes_;
  std::deque<RaftMessage> messages_;
  std::map<Offset, std::string> applied_;
  size_t installed_ = 0;
  int counter_ = 0;
};

}  // namespace trilog::testing
