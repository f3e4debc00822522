// One node's metadata log on a simulated disk, with the state machine behind it and what its users were promised.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/quorum/metadata_log.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_env.h"

namespace trilog::testing {

class QuorumNode {
 public:
  // The node's own folder is there: whoever made it has synced it (S4).
  explicit QuorumNode(uint64_t seed = 1) : world(seed), disk(world.scheduler()) {
    disk.put_file("/data/node-1/meta", as_bytes("of the node"));
  }
  ~QuorumNode() { kill(); }

  // Opens and starts; false (and `error`) if it cannot be opened.
  bool open() {
    env = world.make_env(disk, "node");
    state.clear();
    commits = 0;
    leads = 0;
    term = Term(-1);
    MetadataLog::Listener listener;
    listener.on_commit = [this](const CommittedBatch& batch) {
      ++commits;
      if (batch.first.value() == refuse_commit_at) return Status(Errc::kCorruption, "a record cannot follow");
      for (size_t i = 0; i < batch.records.size(); ++i) {
        state += std::to_string(batch.first.value() + static_cast<int64_t>(i)) + "=" +
                 std::string(as_text(batch.records[i])) + ";";
      }
      return ok_status();
    };
    listener.on_snapshot = [this](Offset applied, ByteView snapshot) {
      snapshot_applied = applied;
      state = std::string(as_text(snapshot));
      return ok_status();
    };
    listener.make_snapshot = [this] { return Bytes::copy_of(state); };
    listener.on_leadership = [this](bool now, Term in) {
      leads += now ? 1 : 0;
      term = in;
    };
    auto opened = MetadataLog::open(*env, config, std::move(listener));
    error = opened.status();
    if (!opened.ok()) return false;
    log = std::move(*opened);
    log->start();
    return true;
  }
  // Open, leading, and nothing left to do.
  void run() {
    ASSERT_TRUE(open()) << error.to_string();
    world.run_until_idle();
    ASSERT_TRUE(log->leading());
  }
  // kill -9: nothing is closed, the page cache stays.
  void kill() {
    env.reset();
    log.reset();
  }
  void power_cut(const sim::CrashPolicy& policy = {}) {
    kill();
    disk.power_cut(policy);
  }
  Status close() {
    std::optional<Status> closed;
    log->close([&](Status status) { closed = std::move(status); });
    world.run_until_idle();
    EXPECT_TRUE(closed.has_value());
    log.reset();
    env.reset();
    return closed.value_or(Status(Errc::kFailed, "close() did not end"));
  }

  // Proposes one record; the answer is noted when it comes.
  void propose(const std::string& text) { propose_all({text}); }
  void propose_all(const std::vector<std::string>& texts) {
    std::vector<Bytes> records;
    for (const std::string& text : texts) records.push_back(Bytes::copy_of(text));
    ++asked;
    log->propose(std::move(records), [this, texts](const Result<Offset>& first) {
      ++answered;
      last = first.status();
      if (!first.ok()) return;
      for (size_t i = 0; i < texts.size(); ++i) {
        promised.push_back(std::to_string(first->value() + static_cast<int64_t>(i)) + "=" + texts[i] + ";");
      }
    });
  }
  Result<Offset> commit(const std::string& text) {
    size_t before = promised.size();
    propose(text);
    world.run_until_idle();
    if (!last.ok()) return last;
    EXPECT_EQ(promised.size(), before + 1);
    return Offset(std::stoll(promised.back()));
  }
  bool keeps_every_promise() const {
    for (const std::string& one : promised) {
      if (state.find(one) == std::string::npos) return false;
    }
    return true;
  }
  std::vector<std::string> files(const std::string& part = "") const {
    std::vector<std::string> found;
    for (const std::string& path : disk.image().all_files()) {
      if (path.find(part) != std::string::npos) found.push_back(path);
    }
    return found;
  }

  sim::World world;
  sim::SimDisk disk;
  MetadataLogConfig config = {
      .directory = "/data/node-1/metadata",
      .cluster = ClusterId(1, 2),
      .self = Voter{BrokerId(1), DirectoryId(3, 4)},
      .voters = {Voter{BrokerId(1), DirectoryId(3, 4)}},
  };
  std::unique_ptr<sim::SimEnv> env;
  std::unique_ptr<MetadataLog> log;
  Status error;

  std::string state;  // "offset=text;" of everything applied
  int commits = 0;
  int leads = 0;
  Term term{-1};
  std::optional<Offset> snapshot_applied;
  int64_t refuse_commit_at = -1;

  std::vector<std::string> promised;
  Status last;
  int asked = 0;
  int answered = 0;
};

}  // namespace trilog::testing
