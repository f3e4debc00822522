// Clients of the workload that read: consumers, their groups, and askers for offsets.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/simulator/context.h"

namespace trilog::simulator {

// Reads some partitions of a topic from their start, asking any node, and commits its positions for its group now and
// then. A commit whose outcome is not known could still take effect after later ones: the group goes on under a new
// name then.
class Consumer {
 public:
  struct Plan {
    std::string name;
    size_t topic = 0;
    std::vector<int32_t> partitions;
    int64_t pause_ns = 50 * kMs;
    uint32_t commit_percent = 20;  // after so many of a hundred polls; 0: no group
    uint32_t uncommitted_percent = 0;
  };
  Consumer(Context& context, Plan plan);
  void start() { poll_later(); }
  bool idle() const { return !busy_; }
  // A last commit for every group it had, so that each is seen to work. Call when idle; then wait for idle().
  void commit_all_groups();
  void check_group();  // asks for what was committed; likewise
  // Records of the partition may be gone: it begins again.
  void begin_again(const std::string& topic, int32_t partition);

 private:
  struct Position {
    int64_t offset = -1;  // -1: wherever the log begins
    // Of the leader that answered last: one that was replaced and does not know it yet has less, and must not be
    // believed.
    LeaderEpoch leader_epoch = kNoLeaderEpoch;
    int32_t session = 0;
  };
  const Topic& topic() const { return context_.topics[plan_.topic]; }
  void poll_later();
  void poll();
  void on_fetched(int64_t invoked_ns, bool uncommitted, int node, Reply<api::FetchResult> reply);
  void take(int64_t invoked_ns, bool uncommitted, int node, const api::FetchedPartition& part);
  void after_poll();
  void commit(const std::string& group, UniqueFunction<void(bool known)> then);
  void fetch_committed(UniqueFunction<void()> then);
  void commit_groups_from(size_t index);
  std::vector<std::pair<int32_t, int64_t>> positions_to_commit() const;

  Context& context_;
  const Plan plan_;
  std::map<int32_t, Position> positions_;
  std::vector<std::string> groups_;  // the last one is in use
  uint64_t polls_ = 0;
  bool busy_ = false;
};

// Asks any node where partitions begin and end.
class Asker {
 public:
  Asker(Context& context, std::string name, int64_t pause_ns)
      : context_(context), name_(std::move(name)), pause_ns_(pause_ns) {}
  void start() { ask_later(); }
  bool idle() const { return !busy_; }

 private:
  void ask_later();
  void ask();

  Context& context_;
  const std::string name_;
  const int64_t pause_ns_;
  bool busy_ = false;
};

// The records in what a fetch returned, from the offset asked for. False, with a violation noted, if they do not parse.
bool records_of(Context& context, const api::FetchedPartition& part, std::vector<history::Record>& records);

}  // namespace trilog::simulator
