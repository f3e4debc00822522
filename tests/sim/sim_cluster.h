// A whole cluster in the simulated world: brokers, each with its shards, its disk, its state store and its place in the
// network. What runs is the product, unchanged; what it stands on is drawn from the world's seed.
//
//   sim::World world(seed);
//   sim::SimCluster cluster(world, {});
//   cluster.start_all();
//   cluster.run_until_serving();
//   cluster.broker(1)->produce(…);
//   cluster.kill(1);  cluster.power_cut(2);  cluster.network().isolate(cluster.id(3));
//
// Folders are formed as `trilog up` forms them: every node knows the cluster and its voters before any of them starts.
// Nothing here may be called from a task of a shard: faults are events of the world.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/broker.h"
#include "storage/state/memory_state_store.h"
#include "tests/sim/sim_env.h"
#include "tests/sim/sim_network.h"

namespace trilog::sim {

struct SimClusterOptions {
  int nodes = 3;          // 1, 3 or 5
  size_t shards_max = 2;  // of each node, drawn when its disk is new
  NetworkConfig network;
  BrokerOptions broker;  // node id, folder and peers are filled in
};

class SimCluster {
 public:
  enum class State {
    kDown,
    kStarting,
    kUp,        // it said that it serves
    kStopping,  // a clean stop is under way
  };

  // Forms the folders. CHECKs that this works.
  SimCluster(World& world, SimClusterOptions options);
  ~SimCluster();
  SimCluster(const SimCluster&) = delete;
  SimCluster& operator=(const SimCluster&) = delete;

  int size() const { return static_cast<int>(nodes_.size()); }
  BrokerId id(int number) const { return BrokerId(number); }  // nodes count from 1
  State state(int number) const { return node(number).state; }
  bool runs(int number) const { return node(number).broker != nullptr; }
  bool paused(int number) const { return network_.paused(id(number)); }
  // Null while its process does not run.
  Broker* broker(int number) const { return node(number).broker.get(); }
  // Of its process: another number after every start. 0: never started.
  uint64_t life(int number) const { return node(number).life; }
  SimDisk& disk(int number) { return *node(number).disk; }
  // Of the folder that is on its disk now.
  DirectoryId directory(int number) const { return node(number).directory; }
  MemoryStateStoreProvider& stores(int number) { return node(number).stores; }
  SimNetwork& network() { return network_; }
  World& world() { return world_; }
  const ClusterId& cluster_id() const { return cluster_id_; }
  static constexpr const char* kDataFolder = "data";

  // --- processes. Calls that do not fit the state of the node do nothing. ---
  void start(int number);
  void start_all();
  void kill(int number);  // SIGKILL: the disk keeps what it was given
  void stop(int number);  // a clean stop; the process ends by itself
  void power_cut(int number, const CrashPolicy& policy = {});
  void power_cut_all(const CrashPolicy& policy = {});
  void pause(int number);
  void resume(int number);
  // The node (killed first) gets a new disk with a folder that knows its cluster and nothing else.
  void wipe(int number);
  // Of all nodes started from now on, and of this one now (F14).
  void set_wall_offset_ms(int number, int64_t offset_ms);

  // Runs the world until all nodes serve.
  bool run_until_serving(int64_t timeout_ns = 30'000'000'000);

  // Told of every end of a process that nobody asked for: a fatal error, a start that failed.
  void on_death(std::function<void(int number, const Status& why)> hook) { on_death_ = std::move(hook); }

 private:
  struct Node {
    int number = 0;
    size_t shards = 1;
    State state = State::kDown;
    std::unique_ptr<SimDisk> disk;
    DirectoryId directory;
    MemoryStateStoreProvider stores;
    std::vector<std::unique_ptr<SimEnv>> envs;
    std::unique_ptr<PeerTransport> transport;
    std::unique_ptr<Broker> broker;
    uint64_t life = 0;
    int64_t wall_offset_ms = 0;
  };
  Node& node(int number) { return *nodes_.at(static_cast<size_t>(number - 1)); }
  const Node& node(int number) const { return *nodes_.at(static_cast<size_t>(number - 1)); }
  void new_disk(Node& node);
  DirectoryId make_folder(Node& node);
  Status try_start(Node& node);
  void end_process(Node& node);
  void died(int number, uint64_t life, const Status& why);
  // Runs `task` as an event of the world if the process still is the one of `life` then.
  void later(int number, uint64_t life, UniqueFunction<void()> task);

  World& world_;
  SimClusterOptions options_;
  SimNetwork network_;
  ClusterId cluster_id_;
  std::vector<std::unique_ptr<Node>> nodes_;
  uint64_t next_life_ = 1;
  uint64_t boots_ = 0;
  std::function<void(int, const Status&)> on_death_;
  const std::shared_ptr<SimCluster*> self_;
};

}  // namespace trilog::sim
