// A node that leads its metadata: log, image and controller on a simulated disk, put together as the broker does it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>

#include "broker/controller/controller.h"
#include "broker/metadata/metadata_loader.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_env.h"

namespace trilog::testing {

class ControllerNode {
 public:
  explicit ControllerNode(uint64_t seed = 1) : world(seed), disk(world.scheduler()) {
    disk.put_file("/data/node-1/meta", as_bytes("of the node"));
  }
  ~ControllerNode() { kill(); }

  void start() {
    env = world.make_env(disk, "node");
    loader = std::make_unique<MetadataLoader>();
    epoch.reset();
    Voter self{BrokerId(1), DirectoryId(3, 4)};
    MetadataLogConfig config{
        .directory = "/data/node-1/metadata", .cluster = ClusterId(1, 2), .self = self, .voters = {self}};
    config.snapshot_bytes = snapshot_bytes;
    MetadataLog::Listener listener;
    listener.on_commit = [this](const CommittedBatch& batch) { return loader->apply(batch.first, batch.records); };
    listener.on_snapshot = [this](Offset applied, ByteView state) { return loader->load_snapshot(applied, state); };
    listener.make_snapshot = [this] { return loader->make_snapshot(); };
    listener.on_leadership = [this](bool leading, Term) {
      controller->set_active(leading);
      if (!leading || !registers) return;
      controller->register_broker({BrokerId(1), DirectoryId(3, 4), "localhost:9092", "0.1.0"},
                                  [this](api::Answer<BrokerEpoch> answer) {
                                    ASSERT_TRUE(answer.ok()) << answer.error().message;
                                    epoch = answer.value();
                                  });
    };
    auto opened = MetadataLog::open(*env, config, std::move(listener));
    ASSERT_TRUE(opened.ok()) << opened.status().to_string();
    log = std::move(*opened);
    controller = std::make_unique<Controller>(*env, *log, options, [this] { return loader->image(); });
    log->start();
  }
  void run() {
    start();
    world.run_until_idle();
    ASSERT_TRUE(epoch.has_value());
  }
  void kill() {
    env.reset();
    controller.reset();
    log.reset();
  }
  void power_cut(const sim::CrashPolicy& policy = {}) {
    kill();
    disk.power_cut(policy);
  }
  const MetadataImage& image() const { return *loader->image(); }

  // Runs one operation to its end.
  api::Answer<api::CreateTopicResult> create(api::CreateTopicRequest request) {
    return wait<api::CreateTopicResult>(
        [&](auto done) { controller->create_topic(std::move(request), std::move(done)); });
  }
  api::Answer<bool> remove(api::DeleteTopicRequest request) {
    return wait<bool>([&](auto done) { controller->delete_topic(std::move(request), std::move(done)); });
  }
  api::Answer<api::AlterTopicResult> alter(api::AlterTopicRequest request) {
    return wait<api::AlterTopicResult>(
        [&](auto done) { controller->alter_topic(std::move(request), std::move(done)); });
  }
  template <typename T, typename Call>
  api::Answer<T> wait(Call call) {
    auto answer = std::make_shared<std::optional<api::Answer<T>>>();
    call(Controller::Done<T>([answer](api::Answer<T> got) { *answer = std::move(got); }));
    EXPECT_FALSE(answer->has_value());  // never inside the call
    world.run_until_idle();
    if (!answer->has_value()) return api::Error(api::ErrorCode::kRequestTimedOut, "no answer");
    return std::move(**answer);
  }

  sim::World world;
  sim::SimDisk disk;
  ControllerOptions options;
  uint64_t snapshot_bytes = 1u << 20;
  bool registers = true;
  std::unique_ptr<sim::SimEnv> env;
  std::unique_ptr<MetadataLoader> loader;
  std::unique_ptr<MetadataLog> log;
  std::unique_ptr<Controller> controller;
  std::optional<BrokerEpoch> epoch;
};

}  // namespace trilog::testing
