// A whole broker in the simulated world: start, call and wait, kill, cut the power, start again. For tests of the
// broker's root; the calls answer as a client would see them.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "broker/broker.h"
#include "storage/state/memory_state_store.h"
#include "tests/sim/sim_env.h"

namespace trilog::testing {

class SimBroker {
 public:
  explicit SimBroker(uint64_t seed = 1, size_t shards = 1) : world(seed), disk(world.scheduler()), shards_(shards) {
    options.data_dir = "data";
    options.auto_create_topics = true;
    options.default_partitions = 3;
  }
  ~SimBroker() { kill(); }

  Status try_start() {
    std::vector<Env*> envs;
    for (size_t i = 0; i < shards_; ++i) {
      envs_.push_back(world.make_env(disk, "shard-" + std::to_string(i)));
      envs.push_back(envs_.back().get());
    }
    Result<std::unique_ptr<Broker>> opened = Broker::open(options, envs, &stores);
    if (!opened.ok()) return opened.status();
    broker = std::move(*opened);
    std::optional<Status> started;
    broker->start("localhost:9092", [&](Status status) { started = std::move(status); });
    world.run_until([&] { return started.has_value(); });
    return started.value_or(Status(Errc::kFailed, "the start never ended"));
  }
  void start() {
    Status status = try_start();
    ASSERT_TRUE(status.ok()) << status.to_string();
  }
  // A clean stop.
  Status stop() {
    std::optional<Status> stopped;
    broker->stop([&](Status status) { stopped = std::move(status); });
    world.run_until([&] { return stopped.has_value(); });
    kill();
    return stopped.value_or(Status(Errc::kFailed, "the stop never ended"));
  }
  // kill -9: what is queued dies; the disk keeps its cache.
  void kill() {
    for (auto& env : envs_) env->stop();
    broker.reset();
    envs_.clear();
  }
  void power_cut() {
    kill();
    disk.power_cut();
  }

  // Makes a call and runs the world until it is answered.
  template <typename T, typename Call>
  api::Answer<T> ask(Call&& call) {
    std::optional<api::Answer<T>> answer;
    call([&](api::Answer<T> result) { answer.emplace(std::move(result)); });
    bool answered = world.run_until([&] { return answer.has_value(); });
    EXPECT_TRUE(answered) << "no answer";
    if (!answer) return api::Error(api::ErrorCode::kNodeStopping, "no answer");
    return std::move(*answer);
  }

  api::Answer<api::CreateTopicResult> create_topic(const std::string& name, int32_t partitions,
                                                   std::map<std::string, std::string> configs = {}) {
    return ask<api::CreateTopicResult>([&](auto done) {
      broker->create_topic({.name = name, .partitions = partitions, .configs = std::move(configs)}, std::move(done));
    });
  }
  api::Answer<api::ProduceResult> produce(const std::string& topic, const std::string& key, const std::string& value,
                                          std::optional<int32_t> partition = std::nullopt) {
    return ask<api::ProduceResult>([&](auto done) {
      broker->produce(request(topic, {{key, value}}, partition), std::move(done));
    });
  }
  static api::ProduceRequest request(const std::string& topic, std::vector<std::pair<std::string, std::string>> records,
                                     std::optional<int32_t> partition = std::nullopt) {
    auto owner = std::make_shared<std::vector<std::pair<std::string, std::string>>>(std::move(records));
    api::ProduceRequest request{.topic = topic};
    if (partition) request.partition = PartitionId(*partition);
    for (const auto& [key, value] : *owner) request.records.push_back({.key = as_bytes(key), .value = as_bytes(value)});
    request.owner = owner;
    return request;
  }

  // All records of a partition by offset. A power cut may leave a hole among writes that no sync had covered, with
  // whole ones behind it: recovery keeps what is good, and the hole answers DATA_DAMAGED with the offset to go on at
  // (S2). Such offsets are put into `damaged`, which is a failure where the test gave no place for them.
  std::map<int64_t, std::string> read(const std::string& topic, int32_t partition, int64_t offset = 0,
                                      std::set<int64_t>* damaged = nullptr) {
    std::map<int64_t, std::string> values;
    for (;;) {
      auto fetched = ask<api::FetchResult>([&](auto done) {
        broker->fetch({.positions = {{.topic = topic, .partition = PartitionId(partition), .offset = Offset(offset)}}},
                      std::move(done));
      });
      EXPECT_TRUE(fetched.ok()) << fetched.error().message;
      if (!fetched.ok()) return values;
      api::FetchedPartition& part = fetched.value()[0];
      if (part.error && part.error->code == api::ErrorCode::kDataDamaged && damaged != nullptr) {
        int64_t next = std::stoll(part.error->details.at("next_good_offset"));
        EXPECT_GT(next, offset);
        if (next <= offset) return values;
        while (offset < next) damaged->insert(offset++);
        continue;
      }
      EXPECT_FALSE(part.error) << part.error->message;
      if (part.views.empty()) return values;
      for (const RecordBatch& batch : part.views) {
        auto records = RecordIterator::open(batch, 1 << 20);
        EXPECT_TRUE(records.ok());
        for (auto record = records->next(); record.ok() && *record; record = records->next()) {
          int64_t at = batch.base_offset().value() + (*record)->offset_delta;
          if (at >= offset) values[at] = as_text(*(*record)->value);
        }
      }
      offset = part.next_offset.value();
    }
  }
  // The same as a row of values, for logs without damage.
  std::vector<std::string> read_all(const std::string& topic, int32_t partition, int64_t offset = 0) {
    std::vector<std::string> values;
    for (auto& [at, value] : read(topic, partition, offset)) values.push_back(value);
    return values;
  }

  api::Answer<std::vector<api::CommittedOffset>> commit(const std::string& group, const std::string& topic,
                                                        int32_t partition, int64_t offset) {
    return ask<std::vector<api::CommittedOffset>>([&](auto done) {
      api::CommitOffsetsRequest request{.group = group};
      request.offsets.push_back({.topic = topic, .partition = PartitionId(partition), .offset = Offset(offset)});
      broker->commit_offsets(std::move(request), std::move(done));
    });
  }
  // -1 if nothing is committed.
  int64_t committed(const std::string& group, const std::string& topic, int32_t partition) {
    auto found = ask<std::vector<api::CommittedOffset>>([&](auto done) {
      broker->fetch_offsets({.group = group, .positions = {{.topic = topic, .partition = PartitionId(partition)}}},
                            std::move(done));
    });
    EXPECT_TRUE(found.ok()) << found.error().message;
    return found.ok() && !found->empty() ? found.value()[0].offset.value() : -1;
  }
  void check_invariants() {
    bool checked = false;
    broker->check_invariants([&] { checked = true; });
    world.run_until([&] { return checked; });
    EXPECT_TRUE(checked);
  }

  sim::World world;
  sim::SimDisk disk;
  MemoryStateStoreProvider stores;
  BrokerOptions options;
  std::unique_ptr<Broker> broker;

 private:
  size_t shards_;
  std::vector<std::unique_ptr<sim::SimEnv>> envs_;
};

}  // namespace trilog::testing
