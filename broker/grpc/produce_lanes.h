// ProduceLanes: the order of requests on one ProduceStream. A partition's requests must not overtake one that fails, so
// that what a client sent in order is never written out of order: after a failure later ones are refused
// (PREVIOUS_FAILED) until one resumes.
//
//   - A request with sequences needs no waiting: the partition itself refuses what comes after a gap.
//   - One without waits until the partition's earlier ones are answered.
//   - One without a partition may touch every partition of its topic, so it waits for all of them, and they for it.
//
// Pure bookkeeping of one stream; not thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace trilog::grpc_edge {

class ProduceLanes {
 public:
  struct Request {
    uint64_t id = 0;  // grows in the order of arrival
    std::string topic;
    std::optional<int32_t> partition;
    bool sequenced = false;  // only with a partition
    bool resume = false;
  };

  // A request arrived. Appends to `startable` the ids whose turn it is, in order; each must be started with begin().
  void admit(Request request, std::vector<uint64_t>& startable);
  // Its turn: false if it is refused because an earlier one failed. Either way finish() must follow.
  bool begin(uint64_t id);
  // While it runs: whether nothing before it in its partition failed that it would have to wait for, or has no answer
  // yet and may still fail. Answers "is this gap in the sequences ours or the client's?"
  bool in_order(uint64_t id) const;
  // It was answered. `failed`: the partitions with an error (with `whole`, all that it could have touched).
  struct Failure {
    bool whole = false;
    std::vector<int32_t> partitions;
  };
  void finish(uint64_t id, const Failure& failure, std::vector<uint64_t>& startable);

  // Partitions that are refused until a request resumes.
  size_t failed_count() const;

 private:
  struct Lane {
    std::deque<Request> waiting;
    uint32_t running = 0;
    uint32_t running_without_sequence = 0;
    bool failed = false;
    uint64_t resumed_by = 0;  // the newest request with `resume` that began
    bool idle() const { return running == 0 && waiting.empty(); }
  };
  struct Topic {
    std::map<int32_t, Lane> lanes;
    size_t busy_lanes = 0;         // not idle
    bool whole_running = false;    // a request without partition
    uint64_t whole_failed_by = 0;  // the newest such request that failed without saying where; 0: none
    std::deque<Request> waiting;   // behind a request without partition; if not empty, everything new queues here
  };

  void enter_lane(Topic& topic, Request request, std::vector<uint64_t>& startable);
  bool may_run(const Lane& lane, const Request& request) const;
  void run(Topic& topic, Request request, std::vector<uint64_t>& startable);
  void pump_lane(Topic& topic, Lane& lane, std::vector<uint64_t>& startable);
  void pump_topic(Topic& topic, std::vector<uint64_t>& startable);
  static void mark_failed(Topic& topic, int32_t partition, uint64_t id);
  void forget_if_idle(const std::string& name);

  std::map<std::string, Topic> topics_;
  std::map<uint64_t, Request> running_;  // made startable, not finished
};

}  // namespace trilog::grpc_edge
