// Recovery of logs from an image, and everything that must hold afterwards.
#include <algorithm>
#include <functional>
#include <utility>

#include "storage/base/crc32c.h"
#include "tests/sim/crash_states.h"
#include "tests/storage/crash/log_case.h"
#include "tests/support/batches.h"

namespace trilog::crash {
namespace {

using Presence = LogExpectation::Presence;

// What recovery gave, to be compared with what a second one gives.
struct Observed {
  Offset start;
  Offset end;
  uint32_t content = 0;
  std::vector<EpochEntry> epochs;
  ModelProducers producers;
  std::vector<DamagedRange> holes;

  bool operator==(const Observed& other) const {
    bool same = start == other.start && end == other.end && content == other.content;
    // Epochs and producers of what a hole held are known to the recovery that scanned around it, not to a later one.
    return same && (!holes.empty() || (epochs == other.epochs && producers == other.producers));
  }
};
std::string text(const Observed& seen) {
  return std::to_string(seen.start.value()) + " to " + std::to_string(seen.end.value()) + ", content " +
         std::to_string(seen.content) + ", " + std::to_string(seen.epochs.size()) + " epochs, " +
         std::to_string(seen.producers.size()) + " producers, " + std::to_string(seen.holes.size()) + " holes";
}

using ObservedNode = std::map<TopicPartition, Observed>;

// One life of a node after a crash.
class Revival {
 public:
  Revival(sim::World& world, sim::SimDisk& disk, const NodeExpectation& expected)
      : world_(world), disk_(disk), expected_(expected) {}
  ~Revival() { kill(); }

  std::string start();
  // `earlier`: what an earlier recovery of the same image gave.
  std::string compare(uint64_t seed, const ObservedNode& earlier = {});
  std::string go_on(uint64_t seed);
  const ObservedNode& observed() const { return observed_; }
  LogNode& node() { return *node_; }
  void kill() {
    env_.reset();
    node_.reset();
  }

 private:
  std::string append_one(LogNode::Entry& entry, size_t value_bytes);
  std::string read_new(LogNode::Entry& entry);
  std::string finish_removals();
  std::string compare_log(LogNode::Entry& entry, const LogExpectation& expected, uint64_t seed,
                          const ObservedNode& earlier);
  std::string check_metas();

  sim::World& world_;
  sim::SimDisk& disk_;
  const NodeExpectation& expected_;
  std::unique_ptr<sim::SimEnv> env_;
  std::optional<LogNode> node_;
  ObservedNode observed_;
  std::map<TopicPartition, std::vector<std::pair<Offset, Bytes>>> added_;  // by go_on()
};

std::string Revival::start() {
  env_ = world_.make_env(disk_);
  node_.emplace(*env_);
  std::vector<LogSpec> specs;
  for (const auto& [id, log] : expected_) {
    if (log.presence == Presence::kPresent) specs.push_back({log.meta, log.config});
  }
  Status started = node_->start(specs);
  if (!started.ok()) return "the node does not start: " + started.to_string();
  if (!env_->fatal_status().ok()) return "fatal at start: " + env_->fatal_status().to_string();
  return finish_removals();
}

// A removal that the crash cut short is asked for again, as the metadata still demands it.
std::string Revival::finish_removals() {
  for (const auto& [id, log] : expected_) {
    bool there = env_->files().exists(node_->directory().path_of(id));
    if (log.presence == Presence::kAbsent && there) return "topic " + log.meta.topic + " came back";
    if (log.presence != Presence::kRemoving || !there) continue;
    Status removed(Errc::kFailed, "never called back");
    node_->directory().remove(id, [&removed](Status status) { removed = std::move(status); });
    world_.run_until_idle();
    if (!removed.ok()) return "removing topic " + log.meta.topic + " again: " + removed.to_string();
    if (env_->files().exists(node_->directory().path_of(id))) return "topic " + log.meta.topic + " is still there";
  }
  return "";
}

std::string Revival::check_metas() {
  auto metas = LogDirectory::scan(env_->files(), kTopicsFolder);
  if (!metas.ok() && metas.status().code() != Errc::kNotFound) return "scanning: " + metas.status().to_string();
  for (const auto& [id, log] : expected_) {
    bool needed = log.presence == Presence::kPresent && log.acknowledged > log.start_most;
    bool found = false;
    if (metas.ok()) {
      for (const PartitionMeta& meta : *metas) {
        if (meta.topic_id != id.topic || meta.partition != id.partition) continue;
        if (log.presence != Presence::kPresent) return "a scan finds topic " + log.meta.topic + ", which was removed";
        // Torn before anything was acknowledged: the folder says who it is, nobody says more.
        if (meta.topic.empty() && !needed) continue;
        found = std::find(log.meta_allowed.begin(), log.meta_allowed.end(), meta) != log.meta_allowed.end();
        if (!found) return "partition.meta of " + log.meta.topic + " says what nobody wrote";
      }
    }
    if (needed && !found) return "partition.meta of " + log.meta.topic + " is missing although it has records";
  }
  return "";
}

std::string Revival::compare(uint64_t seed, const ObservedNode& earlier) {
  observed_.clear();
  for (auto& [id, entry] : node_->entries()) {
    const LogExpectation& expected = expected_.at(id);
    std::string wrong = compare_log(entry, expected, seed, earlier);
    if (!wrong.empty() && expected.or_else != nullptr) {
      std::string also_wrong = compare_log(entry, *expected.or_else, seed, earlier);
      wrong = also_wrong.empty() ? "" : wrong + "; or else: " + also_wrong;
    }
    if (!wrong.empty()) return "log " + expected.meta.topic + ": " + wrong;
  }
  return check_metas();
}

std::string Revival::compare_log(LogNode::Entry& entry, const LogExpectation& expected, uint64_t seed,
                                 const ObservedNode& earlier) {
  TopicPartition id = entry.spec.id();
  auto known = earlier.find(id);
  LogComparison comparison(*entry.log, expected,
                           known == earlier.end() ? std::vector<DamagedRange>() : known->second.holes);
  if (std::string wrong = comparison.run(seed); !wrong.empty()) return wrong;
  if (entry.high_watermark < expected.high_watermark_least && expected.acknowledged >= expected.high_watermark_least) {
    return "the high watermark went back";
  }
  Observed& seen = observed_[id];
  seen = {entry.log->log_start(),
          entry.log->log_end(),
          0,
          entry.log->epochs().entries(),
          producers_of(entry.log->producers(), entry.log->log_end()),
          comparison.holes()};
  for (const ModelBatch& batch : comparison.found()) {
    if (batch.next > seen.start) seen.content = crc32c(batch.bytes, seen.content);
  }
  return "";
}

// The log is in working order: it takes batches over the end of a file, syncs them, and gives them back, also in the
// next life of the process. What an earlier and longer life left behind must not fit what has grown in its place.
std::string Revival::go_on(uint64_t seed) {
  for (uint64_t i = 0; i <= seed % 10; ++i) {
    for (auto& [id, entry] : node_->entries()) {
      if (std::string wrong = append_one(entry, (seed >> i) % 1500); !wrong.empty()) return wrong;
    }
  }
  kill();
  if (std::string wrong = start(); !wrong.empty()) return "after going on: " + wrong;
  for (auto& [id, entry] : node_->entries()) {
    if (std::string wrong = read_new(entry); !wrong.empty()) return "after going on: " + wrong;
    if (observed_.at(id).holes.empty()) entry.log->check_invariants();
  }
  return "";
}

std::string Revival::append_one(LogNode::Entry& entry, size_t value_bytes) {
  Log& log = *entry.log;
  Offset end = log.log_end();
  auto latest = log.epochs().latest();
  LeaderEpoch epoch = std::max(latest ? latest->epoch : LeaderEpoch(0), LeaderEpoch(1000));
  Bytes batch =
      testing::make_batch({{"new", std::string(value_bytes, 'n')}}, {.base_offset = end, .leader_epoch = epoch});
  auto appended = log.append(batch);
  if (!appended.ok()) return "appending after recovery: " + appended.status().to_string();
  log.request_sync();
  world_.run_until_idle();
  if (log.durable_end() != end + 1) return "a sync after recovery does not make the log durable";
  added_[entry.spec.id()].push_back({end, std::move(batch)});
  return "";
}

std::string Revival::read_new(LogNode::Entry& entry) {
  for (const auto& [offset, batch] : added_[entry.spec.id()]) {
    auto slice = entry.log->read(offset, 1, entry.log->log_end());
    if (!slice.ok()) return "reading: " + slice.status().to_string();
    auto run = read_slice(*slice);
    if (!run.ok() || run->batches.size() != 1 || !bytes_equal(run->batches[0].bytes(), batch)) {
      return "what was appended at " + std::to_string(offset.value()) + " cannot be read";
    }
  }
  return "";
}

// What the first recovery met.
struct Met {
  bool clean_start = false;
  uint64_t tails_cut = 0;
  uint64_t holes = 0;
};

std::string check_image(const sim::DiskImage& image, const NodeExpectation& expected, uint64_t seed,
                        const ObservedNode& earlier, Met& met) {
  sim::World world(seed);
  sim::SimDisk disk(world.scheduler(), image);
  ObservedNode first;
  {
    Revival revival(world, disk, expected);
    if (std::string wrong = revival.start(); !wrong.empty()) return wrong;
    if (std::string wrong = revival.compare(seed, earlier); !wrong.empty()) return wrong;
    first = revival.observed();
    met.clean_start = revival.node().started_clean();
    for (const auto& [id, entry] : revival.node().entries()) {
      met.tails_cut += entry.log->recovery().bytes_cut > 0;
      met.holes += entry.log->damaged_ranges().size();
    }
  }
  // What recovery reported as durable is so: another cut at once changes nothing.
  disk.power_cut(seed % 3 == 0 ? sim::CrashPolicy{} : sim::CrashPolicy::lose_all());
  Revival revival(world, disk, expected);
  if (std::string wrong = revival.start(); !wrong.empty()) return "recovering twice: " + wrong;
  if (std::string wrong = revival.compare(seed, first); !wrong.empty()) return "recovering twice: " + wrong;
  for (const auto& [id, seen] : first) {
    const Observed& again = revival.observed().at(id);
    if (again != seen) return "recovering twice gives another log: first " + text(seen) + "; then " + text(again);
  }
  return seed % 8 == 0 ? revival.go_on(seed / 8) : "";
}

// A crash while recovering from a crash, at any of its disk operations. `crashes`: how many were tried.
std::string check_crashes_of_recovery(const sim::DiskImage& image, const NodeExpectation& expected, uint64_t seed,
                                      uint64_t& crashes) {
  sim::World world(seed);
  sim::SimDisk disk(world.scheduler(), image);
  ObservedNode observed;
  disk.start_recording();
  {
    Revival revival(world, disk, expected);
    if (std::string wrong = revival.start(); !wrong.empty()) return wrong;
    if (std::string wrong = revival.compare(seed); !wrong.empty()) return wrong;
    observed = revival.observed();
  }
  sim::CrashStates states(disk.stop_recording());
  sim::SeededRandom random(seed);
  while (states.advance()) {
    if (states.unsynced().empty() || !random.chance(30)) continue;
    std::vector<sim::Fate> fates;
    for (const sim::DiskOp& op : states.unsynced()) fates.push_back(sim::draw_fate(op, {}, random));
    ++crashes;
    Met met;
    std::string wrong = check_image(states.image(fates), expected, random.next(), observed, met);
    if (wrong.empty()) continue;
    return "after a second crash, " + std::to_string(states.position()) + " operations into recovery: " + wrong +
           "\nunsynced then:\n" + sim::describe(states.unsynced(), fates);
  }
  return "";
}

}  // namespace

std::string LogCase::check(const sim::DiskImage& image, uint64_t mark, uint64_t seed) {
  const NodeExpectation& expected = expectations_.at(mark);
  Met met;
  if (std::string wrong = check_image(image, expected, seed, {}, met); !wrong.empty()) return wrong;
  count("clean starts", met.clean_start);
  count("tails cut", met.tails_cut);
  count("unacknowledged holes", met.holes);
  if (seed % 16 != 0) return "";
  uint64_t crashes = 0;
  std::string wrong = check_crashes_of_recovery(image, expected, seed, crashes);
  count("crashes in recovery", crashes);
  return wrong;
}

}  // namespace trilog::crash
