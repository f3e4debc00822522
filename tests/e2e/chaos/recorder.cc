#include "tests/e2e/chaos/recorder.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "tests/history/history_json.h"

namespace trilog::chaos {

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

Recorder::Recorder(const std::string& path) : file_(path, std::ios::app), counted_since_ns_(now_ns()) {}

void Recorder::write(const history::AnyOperation& operation) { file_ << history::to_json(operation) << '\n'; }

void Recorder::add(const history::AnyOperation& operation) {
  std::lock_guard lock(mutex_);
  write(operation);
}

void Recorder::add(const history::Produce& produce) {
  std::lock_guard lock(mutex_);
  write(produce);
  if (produce.outcome == history::Outcome::kNotWritten) ++counts_.refused;
  if (produce.outcome == history::Outcome::kUnknown) ++counts_.unknown;
  if (produce.outcome != history::Outcome::kOk) return;
  ++counts_.acknowledged;
  if (produce.acks != history::Acks::kAll) return;
  counts_.slowest_ns = std::max(counts_.slowest_ns, produce.answered_ns - produce.invoked_ns);
  int64_t& last = last_acknowledged_ns_[produce.partition];
  const int64_t gap = produce.answered_ns - std::max(last, counted_since_ns_);
  if (last > 0 && gap > counts_.gap_ns) {
    counts_.gap_ns = gap;
    counts_.gap_end_ns = produce.answered_ns;
  }
  last = std::max(last, produce.answered_ns);
  served("partition " + produce.partition.topic + "/" + std::to_string(produce.partition.index), produce.invoked_ns);
}

void Recorder::add(const history::Fetch& fetch) {
  std::lock_guard lock(mutex_);
  write(fetch);
  counts_.read += static_cast<int64_t>(fetch.records.size());
}

void Recorder::add(const history::Commit& commit) {
  std::lock_guard lock(mutex_);
  write(commit);
  if (commit.outcome != history::Outcome::kOk) return;
  ++counts_.commits;
  served("group " + commit.group, commit.invoked_ns);
}

void Recorder::served(const std::string& what, int64_t invoked_ns) {
  int64_t& last = last_served_ns_[what];
  last = std::max(last, invoked_ns);
}

bool Recorder::unserved_since(int64_t since_ns) {
  std::lock_guard lock(mutex_);
  return std::ranges::any_of(last_served_ns_, [&](const auto& each) { return each.second < since_ns; });
}

void Recorder::problem(const std::string& what, const std::string& message) {
  std::lock_guard lock(mutex_);
  auto& [count, first] = counts_.problems[what];
  if (count++ == 0) first = message;
}

std::string Recorder::summary() {
  std::lock_guard lock(mutex_);
  file_.flush();
  nlohmann::ordered_json line;
  line["acknowledged"] = counts_.acknowledged;
  line["refused"] = counts_.refused;
  line["unknown"] = counts_.unknown;
  line["read"] = counts_.read;
  line["commits"] = counts_.commits;
  line["gap_ms"] = static_cast<double>(counts_.gap_ns) / 1e6;
  line["gap_end_ns"] = counts_.gap_end_ns;
  line["slowest_ms"] = static_cast<double>(counts_.slowest_ns) / 1e6;
  auto& problems = line["problems"] = nlohmann::ordered_json::object();
  for (const auto& [what, seen] : counts_.problems) problems[what] = {seen.first, seen.second};
  counts_ = Counts();
  counted_since_ns_ = now_ns();
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace trilog::chaos
