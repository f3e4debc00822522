// The marks file and the clean marker: a set that was reported written is there; the marker is found at most once.
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "storage/log/checkpoint_file.h"
#include "tests/sim/sim_env.h"
#include "tests/storage/crash/crash_case.h"

namespace trilog::crash {
namespace {

constexpr const char* kMarksPath = "data/marks";
constexpr const char* kCleanPath = "data/clean";

struct MarksExpectation {
  // Of the sets written so far: one of [required, begun) is found; before the first, nothing may be found too.
  size_t required = 0;
  size_t begun = 0;
  bool may_be_missing = true;
  // What taking the marker may give.
  bool marker_absent_allowed = true;
  std::optional<int64_t> marker_allowed;
};

class MarksCase : public CrashCase {
 public:
  sim::Recording record(uint64_t seed, size_t steps) override;
  std::string check(const sim::DiskImage& image, uint64_t mark, uint64_t seed) override;
  bool stricter(uint64_t mark) const override { return expectations_.stricter(mark); }
  std::string story(uint64_t mark) const override { return expectations_.story(mark); }

 private:
  void step();
  void write_set(bool blocking);
  void write_marker();
  void restart(const char* why);
  void fail_next_sync();
  Marks draw_set();
  void expect(bool strict, std::string line) { expectations_.add(*disk_, now_, strict, std::move(line)); }

  std::unique_ptr<sim::World> world_;
  std::unique_ptr<sim::SimDisk> disk_;
  std::unique_ptr<sim::SimEnv> env_;
  std::optional<MarksFile> file_;
  sim::SeededRandom random_{0};
  std::vector<Marks> sets_;
  MarksExpectation now_;
  Expectations<MarksExpectation> expectations_;
};

sim::Recording MarksCase::record(uint64_t seed, size_t steps) {
  world_ = std::make_unique<sim::World>(seed);
  disk_ = std::make_unique<sim::SimDisk>(world_->scheduler());
  random_ = sim::SeededRandom(seed);
  env_ = world_->make_env(*disk_);
  CHECK(env_->files().create_directories("data").ok());
  disk_->start_recording();
  expect(true, "an empty folder");
  file_ = MarksFile::open(env_->files(), kMarksPath).value();
  for (size_t i = 0; i < steps; ++i) step();
  world_->run_until_idle();
  sim::Recording recording = disk_->stop_recording();
  env_.reset();
  file_.reset();
  return recording;
}

void MarksCase::step() {
  uint64_t draw = random_.below(100);
  if (draw < 35) return write_set(true);
  if (draw < 70) return write_set(false);
  if (draw < 80) return write_marker();
  if (draw < 90) return restart("kill -9 and start");
  if (draw < 94) return fail_next_sync();
  world_->run_until_idle();
}

Marks MarksCase::draw_set() {
  Marks marks;
  uint64_t count = random_.chance(20) ? random_.below(200) : random_.below(8);
  for (uint64_t i = 0; i < count; ++i) {
    TopicPartition partition{TopicId(1, random_.below(1000)), PartitionId(static_cast<int32_t>(i))};
    auto number = [this] { return Offset(static_cast<int64_t>(random_.below(1 << 20))); };
    marks[partition] = {number(), number(), number(), number(), random_.below(1 << 20)};
  }
  return marks;
}

void MarksCase::write_set(bool blocking) {
  if (file_->writing()) world_->run_until_idle();
  sets_.push_back(draw_set());
  size_t index = sets_.size() - 1;
  now_.begun = sets_.size();
  expect(false, "write set " + std::to_string(index) + " of " + std::to_string(sets_.back().size()) + " marks");
  auto written = [this, index](const Status& status) {
    if (!status.ok()) return expect(false, "set " + std::to_string(index) + " failed");
    now_.required = index;
    now_.may_be_missing = false;
    expect(true, "set " + std::to_string(index) + " is written");
  };
  if (blocking) {
    written(file_->write_now(sets_.back()));
  } else {
    file_->write(sets_.back(), written);
    if (random_.chance(50)) world_->run_until_idle();
  }
}

void MarksCase::write_marker() {
  if (file_->writing()) world_->run_until_idle();
  CleanMarker marker{static_cast<int64_t>(random_.below(1'000'000)), draw_set()};
  now_.marker_allowed = marker.broker_epoch;
  expect(false, "write the clean marker " + std::to_string(marker.broker_epoch));
  CHECK(write_clean_marker(env_->files(), kCleanPath, marker).ok());
  now_.marker_absent_allowed = false;
  expect(true, "the clean marker is written");
  restart("stop and start");
}

void MarksCase::restart(const char* why) {
  expect(false, why);
  env_.reset();
  file_.reset();
  env_ = world_->make_env(*disk_);
  now_.marker_absent_allowed = true;
  expect(false, "take the clean marker");
  auto taken = take_clean_marker(env_->files(), kCleanPath);
  CHECK(taken.ok());
  CHECK(taken->has_value() == now_.marker_allowed.has_value());
  now_.marker_allowed.reset();
  expect(true, "the clean marker is taken");
  file_ = MarksFile::open(env_->files(), kMarksPath).value();
}

// Rule S3: after a failed sync the process is over; the next one reads what the disk has, not what the cache shows.
void MarksCase::fail_next_sync() {
  if (file_->writing()) world_->run_until_idle();
  disk_->add_fault({sim::DiskCall::kSync, "marks", 1, 1, Errc::kIo});
  write_set(random_.chance(50));
  world_->run_until_idle();
  disk_->clear_faults();
  restart("the sync failed: die and start");
}

std::string MarksCase::check(const sim::DiskImage& image, uint64_t mark, uint64_t seed) {
  const MarksExpectation& expected = expectations_.at(mark);
  sim::World world(seed);
  sim::SimDisk disk(world.scheduler(), image);
  auto env = world.make_env(disk);
  auto marker = take_clean_marker(env->files(), kCleanPath);
  if (!marker.ok()) return "taking the clean marker: " + marker.status().to_string();
  if (!*marker && !expected.marker_absent_allowed) return "the clean marker is missing";
  if (*marker && (*marker)->broker_epoch != expected.marker_allowed) return "a clean marker that is not true any more";

  auto file = MarksFile::open(env->files(), kMarksPath);
  if (!file.ok()) return "opening the marks: " + file.status().to_string();
  if (file->damaged()) return "the marks file is damaged";
  bool found = expected.may_be_missing && file->marks().empty();
  for (size_t i = expected.required; i < expected.begun; ++i) found = found || file->marks() == sets_[i];
  if (!found)
    return "the marks file has " + std::to_string(file->marks().size()) + " marks of none of the sets allowed";

  // The same again after another cut, with what the next write leaves half done.
  Marks seen = file->marks();
  bool write = seed % 2 == 0;
  if (write) file->write({}, [](const Status&) {});
  env.reset();
  file = Status(Errc::kFailed, "closed");
  disk.power_cut();
  env = world.make_env(disk);
  file = MarksFile::open(env->files(), kMarksPath);
  if (!file.ok()) return "opening the marks again: " + file.status().to_string();
  if (file->marks() != seen && !(write && file->marks().empty())) return "recovering twice gives other marks";
  auto again = take_clean_marker(env->files(), kCleanPath);
  if (!again.ok() || again->has_value()) return "the clean marker came back";
  return "";
}

}  // namespace

std::unique_ptr<CrashCase> make_marks_case() { return std::make_unique<MarksCase>(); }

}  // namespace trilog::crash
