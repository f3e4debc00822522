// The real client against a real broker in the same process, behind a Unix socket, or behind a relay that can fail.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "client/client.h"
#include "tests/broker/grpc/edge_fixture.h"
#include "tests/client/cut_proxy.h"

namespace trilog {

// What became of the records of a test, in the order in which the callbacks ran.
class Deliveries {
 public:
  struct Result {
    std::string name;
    int32_t partition = -1;
    int64_t offset = -1;
    int64_t timestamp_ms = -1;
    bool duplicate = false;
    bool topic_created = false;
    std::string durability;
    std::optional<client::Error> error;
  };

  client::Producer::Callback expect(std::string name) {
    return [this, name = std::move(name)](const client::Delivery& d) {
      std::lock_guard lock(mutex_);
      results_.push_back({name, d.partition, d.offset, d.timestamp_ms, d.duplicate, d.topic_created,
                          std::string(d.durability), d.error != nullptr ? std::optional(*d.error) : std::nullopt});
      changed_.notify_all();
    };
  }
  std::vector<Result> all() {
    std::lock_guard lock(mutex_);
    return results_;
  }
  std::vector<std::string> codes() {
    std::vector<std::string> codes;
    for (const Result& result : all()) codes.push_back(result.error ? result.error->code : "");
    return codes;
  }
  size_t count() {
    std::lock_guard lock(mutex_);
    return results_.size();
  }
  [[nodiscard]] bool wait_for(size_t count, int64_t limit_ms = 30'000) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::milliseconds(limit_ms), [&] { return results_.size() >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Result> results_;
};

inline client::Record record_of(std::string value, std::optional<int32_t> partition = 0) {
  client::Record record;
  record.value = std::move(value);
  record.partition = partition;
  return record;
}

class ClientTest : public EdgeTest {
 protected:
  std::unique_ptr<client::Client> connect_to(std::vector<std::string> servers, int64_t timeout_ms = 30'000) {
    return client::Client::connect({.servers = std::move(servers), .timeout_ms = timeout_ms});
  }
  std::string socket() const { return "unix:" + folder_ + "/s.sock"; }
  // The same address before and after a restart.
  client::Client& client() {
    if (!client_) client_ = connect_to({socket()});
    return *client_;
  }
  void start_proxy() { proxy_ = std::make_unique<CutProxy>(server_->addresses()[0]); }
  client::Admin admin() { return client::Admin(client()); }

  int64_t end_of(const std::string& topic, int32_t partition = 0) {
    auto ends = admin().list_offsets(topic, client::OffsetSpec::kLatest);
    EXPECT_TRUE(ends.ok()) << ends.error().message;
    if (!ends.ok()) return -1;
    for (const auto& end : ends.value()) {
      if (end.partition == partition) return end.offset;
    }
    return -1;
  }
  std::optional<int64_t> committed(const std::string& group, const std::string& topic, int32_t partition = 0) {
    auto commits = admin().fetch_offsets(group, topic);
    if (!commits.ok()) return std::nullopt;
    for (const auto& commit : commits.value()) {
      if (commit.partition == partition) return commit.offset;
    }
    return std::nullopt;
  }
  // "0", "1", … into one partition.
  void fill(const std::string& topic, int first, int count, int partition = 0) {
    std::vector<std::string> values;
    for (int i = first; i < first + count; ++i) values.push_back(std::to_string(i));
    produce(records(topic, values, partition));
  }
  static std::vector<std::string> numbers(int first, int count) {
    std::vector<std::string> values;
    for (int i = first; i < first + count; ++i) values.push_back(std::to_string(i));
    return values;
  }
  [[nodiscard]] static bool eventually(const std::function<bool()>& holds, int64_t limit_ms = 30'000) {
    auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(limit_ms);
    while (!holds()) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

  std::unique_ptr<client::Client> client_;
  std::unique_ptr<CutProxy> proxy_;
};

// How long something took.
class StopWatch {
 public:
  int64_t ms() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begun_).count();
  }

 private:
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

}  // namespace trilog
