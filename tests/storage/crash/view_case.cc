// A view in a state store beside the log that it is made from: each batch of the view carries the log offset it
// reflects, so whatever a crash leaves of either, replaying from that offset gives what a rebuild from nothing gives.
#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "storage/base/codec.h"
#include "storage/log/log_slice.h"
#include "storage/state/memory_state_store.h"
#include "tests/sim/sim_env.h"
#include "tests/storage/crash/crash_case.h"
#include "tests/storage/crash/log_node.h"
#include "tests/support/batches.h"

namespace trilog::crash {
namespace {

using Entries = MemoryStateMedium::Entries;

constexpr std::string_view kAppliedKey = "applied";
constexpr size_t kBytesPerRead = 1u << 20;

// The latest value of every key, applied record by record from what is durable in the log.
class View {
 public:
  View(Log& log, StateStore& store) : log_(log), store_(store) {}

  Result<Offset> applied() {
    auto stored = TRY(store_.get(as_bytes(kAppliedKey)));
    if (!stored) return Offset(0);
    return Offset(load_big_endian<int64_t>(as_bytes(*stored).data()));
  }
  // One store batch per log batch up to `end`; `written` runs after each.
  Status catch_up(Offset end, StateSync sync, const std::function<void(const StateBatch&)>& written) {
    // A log whose first segments never reached the disk, though later ones did, starts further up.
    Offset at = std::max(TRY(applied()), log_.log_start());
    while (at < end) {
      LogSlice slice = TRY(log_.read(at, kBytesPerRead, end));
      BatchRun run = TRY(read_slice(slice));
      if (run.batches.empty()) return Status(Errc::kCorruption, "nothing to apply");
      for (const RecordBatch& batch : run.batches) {
        StateBatch changes;
        TRY(collect(batch, changes));
        std::string offset(8, '\0');
        store_big_endian<int64_t>(reinterpret_cast<std::byte*>(offset.data()), batch.next_offset().value());
        changes.put(as_bytes(kAppliedKey), as_bytes(offset));
        TRY(store_.write(changes, sync));
        written(changes);
        at = batch.next_offset();
      }
    }
    return ok_status();
  }

 private:
  static Status collect(const RecordBatch& batch, StateBatch& changes) {
    RecordIterator records = TRY(RecordIterator::open(batch, kBytesPerRead));
    while (std::optional<RecordView> record = TRY(records.next())) {
      if (record->value) {
        changes.put(*record->key, *record->value);
      } else {
        changes.remove(*record->key);
      }
    }
    return ok_status();
  }

  Log& log_;
  StateStore& store_;
};

struct ViewExpectation {
  size_t written = 0;  // batches of the store
  size_t synced = 0;   // of them, durable
  Offset acknowledged{0};
};

class ViewCase : public CrashCase {
 public:
  sim::Recording record(uint64_t seed, size_t steps) override;
  std::string check(const sim::DiskImage& image, uint64_t mark, uint64_t seed) override;
  bool stricter(uint64_t mark) const override { return expectations_.stricter(mark); }
  std::string story(uint64_t mark) const override { return expectations_.story(mark); }

 private:
  static LogSpec spec();
  void start(const char* why);
  void step();
  void append();
  void apply();
  std::string check_view(LogNode& node, size_t kept);
  void expect(bool strict, std::string line) { expectations_.add(*disk_, now_, strict, std::move(line)); }
  Log& log() { return *node_->entries().begin()->second.log; }

  std::unique_ptr<sim::World> world_;
  std::unique_ptr<sim::SimDisk> disk_;
  std::unique_ptr<sim::SimEnv> env_;
  std::optional<LogNode> node_;
  std::shared_ptr<MemoryStateMedium> medium_;
  sim::SeededRandom random_{0};
  std::vector<StateBatch> batches_;
  ViewExpectation now_;
  Expectations<ViewExpectation> expectations_;
};

LogSpec ViewCase::spec() {
  LogSpec spec;
  spec.meta.topic_id = TopicId(7, 1);
  spec.meta.topic = "view";
  spec.config.segment_bytes = 4096;
  spec.config.index_interval_bytes = 256;
  return spec;
}

sim::Recording ViewCase::record(uint64_t seed, size_t steps) {
  world_ = std::make_unique<sim::World>(seed);
  disk_ = std::make_unique<sim::SimDisk>(world_->scheduler());
  random_ = sim::SeededRandom(seed);
  medium_ = std::make_shared<MemoryStateMedium>();
  CHECK(world_->make_env(*disk_)->files().create_directories(kDataFolder).ok());
  disk_->start_recording();
  start("first start");
  for (size_t i = 0; i < steps; ++i) step();
  sim::Recording recording = disk_->stop_recording();
  env_.reset();
  node_.reset();
  return recording;
}

void ViewCase::start(const char* why) {
  expect(true, why);
  env_.reset();
  node_.reset();
  env_ = world_->make_env(*disk_);
  node_.emplace(*env_);
  CHECK(node_->start({spec()}).ok());
  now_.acknowledged = log().durable_end();
  log().set_durable_listener([this] {
    now_.acknowledged = log().durable_end();
    expect(true, "acknowledged up to " + std::to_string(now_.acknowledged.value()));
  });
}

void ViewCase::step() {
  uint64_t draw = random_.below(100);
  if (draw < 45) return append();
  if (draw < 75) return apply();
  if (draw < 85) return world_->run_until_idle();
  if (draw < 92) {
    CHECK(node_->marks_file().write_now(node_->marks()).ok());
    return expect(true, "marks are written");
  }
  start("kill -9; start");
}

void ViewCase::append() {
  std::vector<testing::TestRecord> records(1 + random_.below(3));
  for (testing::TestRecord& record : records) {
    record.key = "key " + std::to_string(random_.below(8));
    if (random_.chance(85)) record.value = std::string(random_.below(600), static_cast<char>('a' + random_.below(26)));
  }
  Bytes batch = testing::make_batch(records, {.base_offset = log().log_end(), .leader_epoch = LeaderEpoch(0)});
  expect(false, "append at " + std::to_string(log().log_end().value()));
  CHECK(log().append(batch).ok());
  if (random_.chance(60)) log().request_sync();
  if (random_.chance(50)) world_->run_until_idle();
}

// Only what is durable may be in a view: the store could reach the disk before the log.
void ViewCase::apply() {
  MemoryStateStore store(medium_);
  StateSync sync = random_.chance(25) ? StateSync::kNow : StateSync::kLater;
  Status applied = View(log(), store).catch_up(log().durable_end(), sync, [&](const StateBatch& batch) {
    batches_.push_back(batch);
    now_.written = batches_.size();
    if (sync == StateSync::kNow) now_.synced = now_.written;
    expect(true,
           "the view has " + std::to_string(now_.written) + " batches, " + std::to_string(now_.synced) + " synced");
  });
  CHECK(applied.ok());
}

std::string ViewCase::check(const sim::DiskImage& image, uint64_t mark, uint64_t seed) {
  const ViewExpectation& expected = expectations_.at(mark);
  sim::World world(seed);
  sim::SimDisk disk(world.scheduler(), image);
  auto env = world.make_env(disk);
  std::string wrong;
  {
    LogNode node(*env);
    Status started = node.start({spec()});
    if (!started.ok()) return "the node does not start: " + started.to_string();
    Log& recovered = *node.entries().begin()->second.log;
    if (recovered.log_end() < expected.acknowledged) return "acknowledged records are missing";
    // Whatever the store kept: all, only what was synced, or something between.
    for (size_t kept :
         {expected.synced, expected.written, expected.synced + seed % (expected.written - expected.synced + 1)}) {
      if (wrong = check_view(node, kept); !wrong.empty()) break;
    }
    env.reset();
  }
  return wrong;
}

std::string ViewCase::check_view(LogNode& node, size_t kept) {
  Log& recovered = *node.entries().begin()->second.log;
  // A batch that a hole swallowed was never acknowledged, so no view has it; there is nothing to replay it from either.
  Offset end = recovered.damaged_ranges().empty() ? recovered.log_end() : recovered.damaged_ranges().front().first;
  auto surviving = std::make_shared<MemoryStateMedium>();
  auto ignore = [](const StateBatch&) {};
  {
    MemoryStateStore store(surviving);
    for (size_t i = 0; i < kept; ++i) CHECK(store.write(batches_[i], StateSync::kLater).ok());
    View view(recovered, store);
    auto applied = view.applied();
    if (!applied.ok()) return applied.status().to_string();
    if (kept > 0 && *applied < recovered.log_start()) return "the log lost records that the view reflects";
    if (*applied > end) return "the view reflects offset " + std::to_string(applied->value()) + ", past the log's end";
    if (Status caught_up = view.catch_up(end, StateSync::kLater, ignore); !caught_up.ok()) return caught_up.to_string();
  }
  auto fresh = std::make_shared<MemoryStateMedium>();
  {
    MemoryStateStore store(fresh);
    Status rebuilt = View(recovered, store).catch_up(end, StateSync::kLater, ignore);
    if (!rebuilt.ok()) return "rebuilding: " + rebuilt.to_string();
  }
  if (surviving->entries() != fresh->entries())
    return "replaying from the view's offset does not give what a rebuild gives";
  return "";
}

}  // namespace

std::unique_ptr<CrashCase> make_view_case() { return std::make_unique<ViewCase>(); }

}  // namespace trilog::crash
