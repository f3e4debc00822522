// One node's replicas on a simulated disk: marks file, logs, replica manager and a metadata image, started, stopped,
// killed and cut off from power as a whole.
//
//   ReplicaNode node(seed);
//   TopicPartition orders = node.add_topic("orders");
//   AppendResult result = node.append(orders, make_batch({{"k", "v"}}));
//   node.power_cut();  node.start();
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/mark_writer.h"
#include "broker/metadata/metadata_image.h"
#include "broker/replica/replica_manager.h"
#include "tests/sim/sim_env.h"
#include "tests/support/batches.h"

namespace trilog::testing {

inline constexpr BrokerId kSelf{1};

struct TopicSpec {
  int32_t partitions = 1;
  api::Durability durability = api::Durability::kSynced;
  std::map<std::string, std::string> configs = {};
  bool internal = false;
  std::vector<BrokerId> replicas = {kSelf};
  std::vector<BrokerId> isr = {kSelf};
};

class ReplicaNode {
 public:
  explicit ReplicaNode(uint64_t seed = 1) : world(seed), disk(world.scheduler()) {
    options.self = kSelf;
    options.topics_path = "node/topics";
    apply_records({RegisterBrokerRecord{kSelf, DirectoryId(1, 1), "localhost:1", "test"}});
    start();
  }
  ~ReplicaNode() { kill(); }

  void start() {
    ASSERT_EQ(env, nullptr);
    env = world.make_env(disk);
    ASSERT_TRUE(env->files().create_directories("node").ok());
    ASSERT_TRUE(env->files().sync_directory_now(".").ok());
    marks_file = std::make_unique<MarksFile>(std::move(MarksFile::open(env->files(), "node/marks")).value());
    auto clean = take_clean_marker(env->files(), "node/clean").value();
    started_clean = clean.has_value();
    LogStartState state{started_clean, clean ? clean->marks : marks_file->marks()};
    writer = std::make_unique<MarkWriter>(*env, *marks_file);
    logs = std::make_unique<LogDirectory>(*env, options.topics_path, state);
    guard = std::make_unique<DiskGuard>(*env, "node");
    replicas = std::make_unique<ReplicaManager>(*env, options, *logs, *guard,
                                                [this](Marks changes, UniqueFunction<void(Status)> done) {
                                                  ++marks_written;
                                                  writer->write(std::move(changes), env->executor(), std::move(done));
                                                });
    replicas->apply(image, nullptr);
    replicas->start();
  }
  // The process is gone; the disk keeps its cache.
  void kill() {
    env.reset();
    replicas.reset();
    guard.reset();
    logs.reset();
    writer.reset();
    marks_file.reset();
  }
  void power_cut(const sim::CrashPolicy& policy = sim::CrashPolicy::lose_all()) {
    kill();
    disk.power_cut(policy);
  }
  // A clean stop with its marker; false if the logs did not allow one.
  bool stop() {
    std::optional<Result<Marks>> stopped;
    replicas->stop([&](Result<Marks> marks) { stopped.emplace(std::move(marks)); });
    EXPECT_FALSE(stopped.has_value());
    world.run_until_idle();
    EXPECT_TRUE(stopped.has_value());
    bool clean = stopped && stopped->ok();
    if (clean) {
      EXPECT_TRUE(write_clean_marker(env->files(), "node/clean", {1, **stopped}).ok());
    }
    kill();
    return clean;
  }

  // --- metadata ---
  void apply_records(const std::vector<MetadataRecord>& records) {
    MetadataDelta delta(image);
    for (const MetadataRecord& record : records) {
      ASSERT_TRUE(delta.apply(record, next_metadata_offset).ok());
      ++next_metadata_offset;
    }
    image = delta.build();
    if (replicas) replicas->apply(image, &delta);
  }
  TopicPartition add_topic(const std::string& name, const TopicSpec& spec = {}) {
    TopicId id(7, ++topics_made);
    std::vector<MetadataRecord> records{TopicRecord{id, name, spec.durability, spec.internal}};
    for (const auto& [setting, value] : spec.configs) records.push_back(TopicConfigRecord{id, setting, value});
    for (int32_t p = 0; p < spec.partitions; ++p) records.push_back(partition_record(id, p, spec));
    apply_records(records);
    return {id, PartitionId(0)};
  }
  static PartitionRecord partition_record(TopicId id, int32_t partition, const TopicSpec& spec, int32_t epoch = 0,
                                          BrokerId leader = kSelf) {
    return {.topic = id,
            .partition = PartitionId(partition),
            .replicas = spec.replicas,
            .isr = spec.isr,
            .leader = leader,
            .leader_epoch = LeaderEpoch(epoch),
            .partition_epoch = PartitionEpoch(epoch)};
  }

  // --- requests ---
  // Answers are collected here; nothing is run.
  std::shared_ptr<std::optional<AppendResult>> begin_append(AppendRequest request) {
    auto slot = std::make_shared<std::optional<AppendResult>>();
    replicas->append(std::move(request), [slot](AppendResult result) {
      EXPECT_FALSE(slot->has_value()) << "answered twice";
      slot->emplace(std::move(result));
    });
    EXPECT_FALSE(slot->has_value()) << "answered inside the call";
    return slot;
  }
  AppendResult append(AppendRequest request) {
    auto slot = begin_append(std::move(request));
    settle();
    EXPECT_TRUE(slot->has_value());
    return slot->has_value() ? std::move(**slot) : AppendResult{};
  }
  AppendResult append(const TopicPartition& partition, Bytes batches) {
    return append({.partition = partition, .batches = std::move(batches)});
  }
  // Runs what is due and checks the always-on assertions.
  void settle() {
    world.run_until_idle();
    check();
  }
  void run_for_ms(int64_t ms) {
    world.run_for(ms * 1'000'000);
    check();
  }
  void check() {
    if (checking && replicas && env && env->fatal_status().ok()) replicas->check_invariants();
  }
  int64_t in_ms(int64_t ms) const { return world.now_ns() + ms * 1'000'000; }

  // All records of a partition from `from` on, as a consumer gets them. `skip_damage`: goes on behind bytes that are
  // reported as damaged, as the error says.
  std::vector<std::pair<int64_t, std::string>> read_all(const TopicPartition& partition,
                                                        std::optional<Offset> from = std::nullopt,
                                                        bool skip_damage = false) {
    std::vector<std::pair<int64_t, std::string>> records;
    while (true) {
      ReadPart part = replicas->read({{partition, from, std::nullopt}}, 1u << 20, api::Isolation::kCommitted)[0];
      if (skip_damage && part.error && part.error->code == api::ErrorCode::kDataDamaged) {
        from = Offset(std::stoll(part.error->details.at("next_good_offset")));
        continue;
      }
      EXPECT_FALSE(part.error.has_value()) << part.error->message;
      if (part.error || part.slice.empty()) return records;
      Result<BatchRun> run = read_slice(part.slice);
      EXPECT_TRUE(run.ok()) << run.status().to_string();
      if (!run.ok() || run->batches.empty()) return records;
      for (const RecordBatch& batch : run->batches) {
        int64_t at = batch.base_offset().value();
        for (const TestRecord& record : records_of(batch.bytes())) {
          if (at >= part.asked.value()) records.emplace_back(at, record.value.value_or("null"));
          ++at;
        }
      }
      from = run->next_offset;
    }
  }
  PartitionEnds ends(const TopicPartition& partition) {
    auto answer = replicas->ends(partition);
    EXPECT_TRUE(answer.ok()) << answer.error().message;
    return answer.ok() ? answer.value() : PartitionEnds{};
  }

  sim::World world;
  sim::SimDisk disk;
  ReplicaOptions options;
  ImagePtr image = std::make_shared<MetadataImage>();
  Offset next_metadata_offset{0};
  uint64_t topics_made = 0;
  uint64_t marks_written = 0;
  bool started_clean = false;
  bool checking = true;  // off where a test damages files that the logs have no reason to look at
  std::unique_ptr<sim::SimEnv> env;
  std::unique_ptr<MarksFile> marks_file;
  std::unique_ptr<MarkWriter> writer;
  std::unique_ptr<LogDirectory> logs;
  std::unique_ptr<DiskGuard> guard;
  std::unique_ptr<ReplicaManager> replicas;
};

// The error of the only, or first, batch.
inline std::optional<api::ErrorCode> error_of(const AppendResult& result) {
  if (result.batches.empty() || !result.batches[0].error) return std::nullopt;
  return result.batches[0].error->code;
}
inline std::optional<api::Outcome> outcome_of(const AppendResult& result) {
  if (result.batches.empty() || !result.batches[0].error) return std::nullopt;
  return result.batches[0].error->outcome;
}

}  // namespace trilog::testing
