// What the actors of chaos_client write down: their history, one JSON line each (tests/history/history_json.h), and
// counts of how it went for whoever looks on. From any thread.
#pragma once

#include <array>
#include <cstdint>
#include <fstream>
#include <map>
#include <mutex>
#include <string>

#include "tests/history/history.h"

namespace trilog::chaos {

int64_t now_ns();  // CLOCK_MONOTONIC: one clock for all processes of the machine

class Recorder {
 public:
  explicit Recorder(const std::string& path);

  void add(const history::Produce& produce);
  void add(const history::Fetch& fetch);
  void add(const history::Commit& commit);
  void add(const history::AnyOperation& operation);
  // Something that went wrong: "produce NOT_LEADER". Counted by its text; the first ones are kept with `message`.
  void problem(const std::string& what, const std::string& message);
  // A JSON object of all that was counted since the last one: acknowledgements, refusals, unknown outcomes, records
  // read, commits, the longest time between two acknowledgements of one partition (acks all), and the problems.
  std::string summary();
  // Whether a partition that took a write (acks all) or a group that took a commit before took none that was asked of
  // it since then: what X18 is judged by.
  bool unserved_since(int64_t since_ns);

 private:
  void served(const std::string& what, int64_t invoked_ns);
  void write(const history::AnyOperation& operation);

  struct Counts {
    int64_t acknowledged = 0, refused = 0, unknown = 0, read = 0, commits = 0;
    int64_t gap_ns = 0, gap_end_ns = 0, slowest_ns = 0;
    std::map<std::string, std::pair<int64_t, std::string>> problems;
  };
  std::mutex mutex_;
  std::ofstream file_;                                          // guarded by mutex_
  Counts counts_;                                               // guarded by mutex_
  int64_t counted_since_ns_ = 0;                                // guarded by mutex_
  std::map<history::Partition, int64_t> last_acknowledged_ns_;  // guarded by mutex_
  std::map<std::string, int64_t> last_served_ns_;  // when it was asked what was granted last; guarded by mutex_
};

}  // namespace trilog::chaos
