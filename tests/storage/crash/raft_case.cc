// The metadata log of one voter: what was committed comes back in its order, a term that was led in is never led in
// again, and a folder that was formed is never taken for a new one (rules Q1, Q2, Q6, Q10, Q11).
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "broker/quorum/metadata_log.h"
#include "storage/base/codec.h"
#include "tests/sim/sim_env.h"
#include "tests/storage/crash/crash_case.h"

namespace trilog::crash {
namespace {

using History = std::vector<std::string>;  // of committed records

struct RaftExpectation {
  std::shared_ptr<const History> proposed = std::make_shared<History>();  // in order; any beginning of it may be found
  size_t committed = 0;                                                   // so many of them were reported as committed
  Term led{0};                                                            // the newest term in which it led
  bool formed = false;
};

// One life of the log, from open() to a kill.
class MetadataNode {
 public:
  MetadataNode(sim::World& world, sim::SimDisk& disk, uint64_t snapshot_bytes, bool was_member)
      : world_(world), env_(world.make_env(disk)) {
    config_.directory = "data/metadata";
    config_.cluster = ClusterId(1, 2);
    config_.self = {BrokerId(1), DirectoryId(3, 4)};
    config_.voters = {config_.self};
    config_.snapshot_bytes = snapshot_bytes;
    config_.was_member = was_member;
  }
  ~MetadataNode() { env_.reset(); }  // its tasks die before the log that they refer to

  // Until it leads; what keeps it from that otherwise.
  std::string start() {
    MetadataLog::Listener listener;
    listener.on_commit = [this](const CommittedBatch& batch) {
      if (batch.first < next_) return Status(Errc::kCorruption, "a batch is committed twice");
      next_ = batch.first + static_cast<int64_t>(batch.records.size());
      for (ByteView record : batch.records) history_.emplace_back(as_text(record));
      return ok_status();
    };
    listener.on_snapshot = [this](Offset applied, ByteView snapshot) {
      next_ = applied + 1;
      loaded_snapshot_ = true;
      history_.clear();
      ByteReader in(snapshot);
      while (in.ok() && !in.at_end()) history_.emplace_back(in.read_text());
      return in.ok() ? ok_status() : Status(Errc::kCorruption, "a snapshot that nobody made");
    };
    listener.make_snapshot = [this] {
      Bytes snapshot;
      ByteWriter out(snapshot);
      for (const std::string& record : history_) out.write_text(record);
      return snapshot;
    };
    listener.on_leadership = [](bool, Term) {};
    auto opened = MetadataLog::open(*env_, config_, std::move(listener));
    if (!opened.ok()) return "opening: " + opened.status().to_string();
    log_ = std::move(*opened);
    log_->start();
    constexpr int64_t kPatienceNs = 5'000'000'000;
    world_.run_until([this] { return log_->leading() || !env_->fatal_status().ok(); }, kPatienceNs);
    if (!env_->fatal_status().ok()) return "fatal: " + env_->fatal_status().to_string();
    return log_->leading() ? "" : "it does not lead";
  }

  sim::SimEnv& env() { return *env_; }
  MetadataLog& log() { return *log_; }
  const History& history() const { return history_; }
  bool loaded_snapshot() const { return loaded_snapshot_; }

 private:
  sim::World& world_;
  std::unique_ptr<sim::SimEnv> env_;
  MetadataLogConfig config_;
  std::unique_ptr<MetadataLog> log_;
  Offset next_{0};
  History history_;
  bool loaded_snapshot_ = false;
};

class RaftCase : public CrashCase {
 public:
  sim::Recording record(uint64_t seed, size_t steps) override;
  std::string check(const sim::DiskImage& image, uint64_t mark, uint64_t seed) override;
  bool stricter(uint64_t mark) const override { return expectations_.stricter(mark); }
  std::string story(uint64_t mark) const override { return expectations_.story(mark); }

 private:
  void start(const char* why);
  void step();
  void propose();
  void stop_cleanly();
  void fail_a_sync();
  void expect(bool strict, std::string line) { expectations_.add(*disk_, now_, strict, std::move(line)); }

  std::unique_ptr<sim::World> world_;
  std::unique_ptr<sim::SimDisk> disk_;
  std::unique_ptr<MetadataNode> node_;
  sim::SeededRandom random_{0};
  uint64_t snapshot_bytes_ = 0;
  uint64_t proposals_ = 0;
  RaftExpectation now_;
  Expectations<RaftExpectation> expectations_;
};

// What is wrong with a node that leads again.
std::string compare(MetadataNode& node, const RaftExpectation& expected) {
  const History& found = node.history();
  const History& proposed = *expected.proposed;
  if (found.size() < expected.committed) {
    return "committed " + std::to_string(expected.committed) + " records, found " + std::to_string(found.size());
  }
  if (found.size() > proposed.size() || !std::equal(found.begin(), found.end(), proposed.begin())) {
    return "found records that were not proposed, or in another order";
  }
  if (!found.empty() && !found.back().ends_with("last")) return "a proposal was torn apart";
  if (node.log().term() <= expected.led) {
    return "leads in term " + std::to_string(node.log().term().value()) + ", having led in " +
           std::to_string(expected.led.value());
  }
  return "";
}

sim::Recording RaftCase::record(uint64_t seed, size_t steps) {
  world_ = std::make_unique<sim::World>(seed);
  disk_ = std::make_unique<sim::SimDisk>(world_->scheduler());
  random_ = sim::SeededRandom(seed);
  snapshot_bytes_ = 512 + random_.below(8192);
  CHECK(world_->make_env(*disk_)->files().create_directories("data").ok());
  disk_->start_recording();
  start("first start");
  for (size_t i = 0; i < steps; ++i) step();
  sim::Recording recording = disk_->stop_recording();
  node_.reset();
  return recording;
}

void RaftCase::start(const char* why) {
  expect(true, why);
  node_.reset();
  node_ = std::make_unique<MetadataNode>(*world_, *disk_, snapshot_bytes_, now_.formed);
  std::string wrong = node_->start();
  if (wrong.empty()) wrong = compare(*node_, now_);
  if (!wrong.empty()) check_failed(__FILE__, __LINE__, "a restart within the program", wrong);
  now_.proposed = std::make_shared<const History>(node_->history());
  now_.committed = now_.proposed->size();
  now_.led = node_->log().term();
  now_.formed = true;
  expect(true, "leads in term " + std::to_string(now_.led.value()));
}

void RaftCase::step() {
  uint64_t draw = random_.below(100);
  if (draw < 60) return propose();
  if (draw < 80) return world_->run_until_idle();
  if (draw < 85) return world_->run_for(static_cast<int64_t>(random_.below(2'000)) * 1'000'000);
  if (draw < 92) return start("kill -9; start");
  if (draw < 96) return stop_cleanly();
  fail_a_sync();
}

void RaftCase::propose() {
  std::vector<Bytes> records;
  History proposed = *now_.proposed;
  uint64_t count = 1 + random_.below(3);
  for (uint64_t i = 0; i < count; ++i) {
    std::string record =
        std::to_string(proposals_) + ":" + std::string(random_.below(random_.chance(10) ? 6000 : 200), 'm');
    record += i + 1 == count ? " last" : " more";
    records.push_back(Bytes::copy_of(record));
    proposed.push_back(std::move(record));
  }
  size_t end = proposed.size();
  now_.proposed = std::make_shared<const History>(std::move(proposed));
  expect(false, "propose number " + std::to_string(proposals_));
  node_->log().propose(std::move(records), [this, end, number = proposals_](const Result<Offset>& result) {
    if (!result.ok()) return expect(false, "proposal " + std::to_string(number) + " has failed");
    now_.committed = std::max(now_.committed, end);
    expect(true, "proposal " + std::to_string(number) + " is committed");
  });
  ++proposals_;
  // As many as may wait; more would be refused.
  if (proposals_ % kProposalsWaitingMax == 0) world_->run_until_idle();
  for (uint64_t events = random_.below(6); events > 0; --events) world_->run_one();
}

void RaftCase::stop_cleanly() {
  expect(false, "stop");
  bool closed = false;
  node_->log().close([&closed](const Status&) { closed = true; });
  world_->run_until_idle();
  CHECK(closed);
  start("stopped; start");
}

void RaftCase::fail_a_sync() {
  disk_->add_fault({sim::DiskCall::kSync, "metadata", 1 + random_.below(3), 1, Errc::kIo});
  bool died = false;
  node_->env().on_fatal([&died](const Status&) { died = true; });
  expect(false, "a sync is going to fail");
  propose();
  world_->run_until_idle();
  disk_->clear_faults();
  node_->env().on_fatal({});
  if (died) start("the sync failed: die and start");
}

std::string RaftCase::check(const sim::DiskImage& image, uint64_t mark, uint64_t seed) {
  const RaftExpectation& expected = expectations_.at(mark);
  sim::World world(seed);
  sim::SimDisk disk(world.scheduler(), image);
  RaftExpectation found = expected;
  {
    MetadataNode node(world, disk, snapshot_bytes_, expected.formed);
    if (std::string wrong = node.start(); !wrong.empty()) return wrong;
    if (std::string wrong = compare(node, expected); !wrong.empty()) return wrong;
    // Whatever it found is committed by now, in a new term.
    found.proposed = std::make_shared<const History>(node.history());
    found.committed = node.history().size();
    found.led = node.log().term();
    found.formed = true;
    count("metadata snapshots loaded", node.loaded_snapshot());
  }
  disk.power_cut(seed % 3 == 0 ? sim::CrashPolicy{} : sim::CrashPolicy::lose_all());
  MetadataNode node(world, disk, snapshot_bytes_, true);
  if (std::string wrong = node.start(); !wrong.empty()) return "recovering twice: " + wrong;
  if (std::string wrong = compare(node, found); !wrong.empty()) return "recovering twice: " + wrong;
  return "";
}

}  // namespace

std::unique_ptr<CrashCase> make_raft_case() { return std::make_unique<RaftCase>(); }

}  // namespace trilog::crash
