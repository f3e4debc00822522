// Logs under a random program: appends, syncs, rolls, truncation, retention, marks, stops of every kind.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/sim_env.h"
#include "tests/storage/crash/crash_case.h"
#include "tests/storage/crash/log_model.h"
#include "tests/storage/crash/log_node.h"

namespace trilog::crash {

using NodeExpectation = std::map<TopicPartition, LogExpectation>;

// The program. Its expectations say what log_check.cc demands of an image.
class LogCase : public CrashCase {
 public:
  sim::Recording record(uint64_t seed, size_t steps) override;
  std::string check(const sim::DiskImage& image, uint64_t mark, uint64_t seed) override;
  bool stricter(uint64_t mark) const override { return expectations_.stricter(mark); }
  std::string story(uint64_t mark) const override { return expectations_.story(mark); }

 private:
  struct Step {
    void (LogCase::*run)();
    uint32_t weight;
  };

  void make_topic();
  void start_node(const std::string& why);
  void listen(const TopicPartition& id);
  void adopt_recovered();
  LogNode::Entry& pick();
  LogExpectation& expected(const LogNode::Entry& entry) { return now_[entry.spec.id()]; }
  Timeline draw_batches(const LogNode::Entry& entry);
  void expect(bool strict, std::string line) { expectations_.add(*disk_, now_, strict, std::move(line)); }
  void write_marks_now();

  void append();
  void append_on_a_full_disk();
  void request_sync();
  void settle();
  void let_time_pass();
  void raise_high_watermark();
  void write_marks();
  void truncate();
  void restart_at();
  void advance_start();
  void apply_retention();
  void begin_epoch();
  void change_meta();
  void stop_cleanly();
  void kill();
  void fail_a_sync();
  void replace_topic();

  std::unique_ptr<sim::World> world_;
  std::unique_ptr<sim::SimDisk> disk_;
  std::unique_ptr<sim::SimEnv> env_;
  std::optional<LogNode> node_;
  sim::SeededRandom random_{0};
  uint64_t topics_made_ = 0;
  bool ended_ = false;  // the program cannot go on
  LeaderEpoch epoch_{0};
  NodeExpectation now_;
  Expectations<NodeExpectation> expectations_;
};

}  // namespace trilog::crash
