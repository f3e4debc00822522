// One node with its replicas and its groups on a simulated disk; the store of committed offsets is in memory and loses
// what was not synced.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/group/group_coordinator.h"
#include "storage/state/memory_state_store.h"
#include "tests/broker/replica/replica_node.h"

namespace trilog::testing {

class GroupNode : public ReplicaNode {
 public:
  explicit GroupNode(uint64_t seed = 1, int32_t offsets_partitions = 2) : ReplicaNode(seed) {
    TopicSpec spec{.partitions = offsets_partitions, .configs = {{"segment.bytes", "1048576"}}, .internal = true};
    offsets = add_topic(std::string(kOffsetsTopic), spec);
    add_topic("orders", {.partitions = 3});
    start_groups();
  }
  ~GroupNode() { kill_node(); }

  void start_groups() {
    groups = std::make_unique<GroupCoordinator>(*env, group_options, *replicas, [this]() -> Result<StateStore*> {
      ++stores_opened;
      if (!open_status.ok()) return open_status;
      if (!store) store = std::make_unique<MemoryStateStore>(medium);
      return store.get();
    });
    groups->apply(image, nullptr);
  }
  void kill_node() {
    kill();
    groups.reset();
    store.reset();
  }
  // The store loses all but a part of its unsynced batches.
  void cut_power(const sim::CrashPolicy& policy = sim::CrashPolicy::lose_all()) {
    kill_node();
    disk.power_cut(policy);
    medium->power_cut(medium->unsynced_batches() == 0 ? 0 : world.random().below(medium->unsynced_batches() + 1));
  }
  void start_node() {
    start();
    start_groups();
  }
  void restart() {
    groups->stop();
    EXPECT_TRUE(stop());
    groups.reset();
    store.reset();
    start_node();
  }
  // Metadata changes go to both, as the broker's shard does it.
  void change(const std::vector<MetadataRecord>& records) {
    apply_records(records);
    groups->apply(image, nullptr);
  }
  void remove_topic(const std::string& name) {
    TopicId id = image->find_topic(name)->id;
    change({RemoveTopicRecord{id}});
    groups->forget_topic(id);
  }

  template <typename T>
  using Slot = std::shared_ptr<std::optional<api::Answer<T>>>;
  template <typename T>
  static UniqueFunction<void(api::Answer<T>)> into(const Slot<T>& slot) {
    return [slot](api::Answer<T> answer) {
      EXPECT_FALSE(slot->has_value()) << "answered twice";
      slot->emplace(std::move(answer));
    };
  }
  template <typename T>
  static Slot<T> make_slot() {
    return std::make_shared<std::optional<api::Answer<T>>>();
  }
  template <typename T>
  api::Answer<T> wait_for(const Slot<T>& slot) {
    EXPECT_FALSE(slot->has_value()) << "answered inside the call";
    settle();
    groups->check_invariants();
    EXPECT_TRUE(slot->has_value());
    if (!slot->has_value()) return api::Error(api::ErrorCode::kRequestTimedOut, "no answer");
    return std::move(**slot);
  }

  using Offsets = std::vector<api::CommittedOffset>;
  static api::CommittedOffset at(int32_t partition, int64_t offset, const std::string& topic = "orders") {
    return {.topic = topic, .partition = PartitionId(partition), .offset = Offset(offset)};
  }
  Slot<Offsets> begin_commit(api::CommitOffsetsRequest request) {
    auto slot = make_slot<Offsets>();
    groups->commit_offsets(std::move(request), into(slot));
    return slot;
  }
  api::Answer<Offsets> commit(api::CommitOffsetsRequest request) { return wait_for(begin_commit(std::move(request))); }
  api::Answer<Offsets> commit(const std::string& group, Offsets list) {
    return commit(api::CommitOffsetsRequest{.group = group, .offsets = std::move(list)});
  }
  void must_commit(const std::string& group, Offsets list) {
    auto answer = commit(group, std::move(list));
    EXPECT_TRUE(answer.ok()) << answer.error().message;
    if (!answer.ok()) return;
    for (const api::CommittedOffset& offset : answer.value()) {
      EXPECT_FALSE(offset.error.has_value()) << offset.error->message;
    }
  }
  api::Answer<Offsets> fetch(const std::string& group, std::vector<api::Position> positions = {}) {
    auto slot = make_slot<Offsets>();
    groups->fetch_offsets({.group = group, .positions = std::move(positions)}, into(slot));
    return wait_for(slot);
  }
  // The committed offset of one partition, or -1.
  int64_t committed(const std::string& group, int32_t partition, const std::string& topic = "orders") {
    auto answer = fetch(group, {{.topic = topic, .partition = PartitionId(partition)}});
    EXPECT_TRUE(answer.ok()) << answer.error().message;
    return answer.ok() && !answer->empty() ? answer->front().offset.value() : -1;
  }
  std::vector<std::string> list(const std::string& prefix = "", const std::string& after = "", uint32_t limit = 100) {
    auto slot = make_slot<std::vector<api::Group>>();
    groups->list_groups(prefix, after, limit, into(slot));
    auto answer = wait_for(slot);
    EXPECT_TRUE(answer.ok()) << answer.error().message;
    std::vector<std::string> names;
    if (answer.ok()) {
      for (const api::Group& group : answer.value()) names.push_back(group.group + " " + group.state);
    }
    return names;
  }
  api::Answer<api::Group> describe(const std::string& group) {
    auto slot = make_slot<api::Group>();
    groups->describe_group(group, into(slot));
    return wait_for(slot);
  }
  api::Answer<api::Unit> remove_group(const std::string& group, bool validate_only = false) {
    auto slot = make_slot<api::Unit>();
    groups->delete_group(group, validate_only, into(slot));
    return wait_for(slot);
  }
  // So that offsets up to `count` exist in every partition of the topic.
  void fill(int64_t count, const std::string& topic = "orders") {
    const TopicImage& of = *image->find_topic(topic);
    for (size_t p = 0; p < of.partitions.size(); ++p) {
      append({of.id, PartitionId(static_cast<int32_t>(p))}, make_filled_batch(static_cast<int32_t>(count), 1));
    }
  }
  TopicPartition home_of(const std::string& group) const {
    const auto count = static_cast<int32_t>(image->find_topic(kOffsetsTopic)->partitions.size());
    return {offsets.topic, offsets_partition_of(group, count)};
  }

  GroupOptions group_options;
  TopicPartition offsets;
  std::shared_ptr<MemoryStateMedium> medium = std::make_shared<MemoryStateMedium>();
  std::unique_ptr<MemoryStateStore> store;
  Status open_status;
  int stores_opened = 0;
  std::unique_ptr<GroupCoordinator> groups;
};

}  // namespace trilog::testing
