#include "broker/grpc/produce_lanes.h"

#include <algorithm>
#include <utility>

#include "storage/base/check.h"

namespace trilog::grpc_edge {

void ProduceLanes::admit(Request request, std::vector<uint64_t>& startable) {
  Topic& topic = topics_[request.topic];
  topic.waiting.push_back(std::move(request));
  if (topic.waiting.size() == 1) pump_topic(topic, startable);
}

// Lets in what stands at the front of the topic, as long as nothing without a partition is in the way.
void ProduceLanes::pump_topic(Topic& topic, std::vector<uint64_t>& startable) {
  while (!topic.waiting.empty() && !topic.whole_running) {
    bool whole = !topic.waiting.front().partition;
    if (whole && topic.busy_lanes != 0) return;
    Request request = std::move(topic.waiting.front());
    topic.waiting.pop_front();
    if (whole) {
      topic.whole_running = true;
      run(topic, std::move(request), startable);
    } else {
      enter_lane(topic, std::move(request), startable);
    }
  }
}

bool ProduceLanes::may_run(const Lane& lane, const Request& request) const {
  return request.sequenced ? lane.running_without_sequence == 0 : lane.running == 0;
}

void ProduceLanes::enter_lane(Topic& topic, Request request, std::vector<uint64_t>& startable) {
  Lane& lane = topic.lanes[*request.partition];
  if (lane.idle()) ++topic.busy_lanes;
  lane.waiting.push_back(std::move(request));
  if (lane.waiting.size() == 1) pump_lane(topic, lane, startable);
}

void ProduceLanes::pump_lane(Topic& topic, Lane& lane, std::vector<uint64_t>& startable) {
  while (!lane.waiting.empty() && may_run(lane, lane.waiting.front())) {
    Request request = std::move(lane.waiting.front());
    lane.waiting.pop_front();
    ++lane.running;
    if (!request.sequenced) ++lane.running_without_sequence;
    run(topic, std::move(request), startable);
  }
}

void ProduceLanes::run(Topic&, Request request, std::vector<uint64_t>& startable) {
  uint64_t id = request.id;
  startable.push_back(id);
  running_.emplace(id, std::move(request));
}

bool ProduceLanes::begin(uint64_t id) {
  auto running = running_.find(id);
  CHECK(running != running_.end());
  const Request& request = running->second;
  Topic& topic = topics_[request.topic];
  if (request.partition) {
    Lane& lane = topic.lanes[*request.partition];
    if (request.resume) {
      lane.failed = false;
      lane.resumed_by = id;
      return true;
    }
    return !lane.failed && topic.whole_failed_by <= lane.resumed_by;
  }
  if (request.resume) {
    topic.whole_failed_by = 0;
    for (auto& [partition, lane] : topic.lanes) {
      lane.failed = false;
      lane.resumed_by = id;
    }
    return true;
  }
  if (topic.whole_failed_by != 0) return false;
  for (const auto& [partition, lane] : topic.lanes) {
    if (lane.failed) return false;
  }
  return true;
}

bool ProduceLanes::in_order(uint64_t id) const {
  auto running = running_.find(id);
  CHECK(running != running_.end());
  const Request& request = running->second;
  if (!request.partition) return true;
  auto topic = topics_.find(request.topic);
  auto lane = topic->second.lanes.find(*request.partition);
  if (lane->second.failed || id < lane->second.resumed_by) return false;
  return std::none_of(running_.begin(), running, [&](const auto& earlier) {
    return earlier.second.topic == request.topic && earlier.second.partition == request.partition;
  });
}

// A failure older than the resume that began since says nothing about what comes after.
void ProduceLanes::mark_failed(Topic& topic, int32_t partition, uint64_t id) {
  Lane& lane = topic.lanes[partition];
  if (id >= lane.resumed_by) lane.failed = true;
}

void ProduceLanes::finish(uint64_t id, const Failure& failure, std::vector<uint64_t>& startable) {
  auto running = running_.find(id);
  CHECK(running != running_.end());
  Request request = std::move(running->second);
  running_.erase(running);
  Topic& topic = topics_[request.topic];
  for (int32_t partition : failure.partitions) mark_failed(topic, partition, id);
  if (request.partition) {
    if (failure.whole) mark_failed(topic, *request.partition, id);
    Lane& lane = topic.lanes[*request.partition];
    --lane.running;
    if (!request.sequenced) --lane.running_without_sequence;
    pump_lane(topic, lane, startable);
    if (lane.idle()) --topic.busy_lanes;
  } else {
    if (failure.whole) topic.whole_failed_by = id;
    topic.whole_running = false;
  }
  pump_topic(topic, startable);
  forget_if_idle(request.topic);
}

// Only failures are remembered of what is quiet.
void ProduceLanes::forget_if_idle(const std::string& name) {
  Topic& topic = topics_[name];
  if (topic.busy_lanes != 0 || topic.whole_running || !topic.waiting.empty() || topic.whole_failed_by != 0) {
    return;
  }
  std::erase_if(topic.lanes, [](const auto& entry) { return entry.second.idle() && !entry.second.failed; });
  if (topic.lanes.empty()) topics_.erase(name);
}

size_t ProduceLanes::failed_count() const {
  size_t count = 0;
  for (const auto& [name, topic] : topics_) {
    count += topic.whole_failed_by != 0 ? 1 : 0;
    for (const auto& [partition, lane] : topic.lanes) count += lane.failed ? 1 : 0;
  }
  return count;
}

}  // namespace trilog::grpc_edge
