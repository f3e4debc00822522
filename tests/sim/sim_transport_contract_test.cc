// The simulated network keeps the promises that real sockets keep.
#include "tests/broker/runtime/peer_transport_contract.h"
#include "tests/sim/sim_network.h"

namespace trilog::testing {
namespace {

class SimPeerWorld : public PeerWorld {
 public:
  SimPeerWorld() : world_(17), disk_(world_.scheduler()), network_(world_) {
    for (int i = 1; i <= 3; ++i) {
      Node& node = nodes_[BrokerId(i)];
      for (int shard = 0; shard < 2; ++shard) node.recorders.push_back(std::make_unique<PeerRecorder>([] {}));
    }
  }
  ~SimPeerWorld() override {
    for (auto& [id, node] : nodes_) end(node);
  }

  using PeerWorld::start;
  void start(BrokerId id, PeerIdentity identity) override {
    Node& node = nodes_.at(id);
    std::vector<sim::SimEnv*> shards;
    for (int shard = 0; shard < 2; ++shard) {
      node.envs.push_back(world_.make_env(disk_));
      shards.push_back(node.envs.back().get());
    }
    node.transport = network_.join(identity, shards);
    for (uint32_t shard : {0u, 1u}) {
      on_shard(id, shard, [&] { node.transport->listen(shard, node.recorders[shard].get()); });
    }
  }
  void kill(BrokerId id) override { end(nodes_.at(id)); }
  PeerTransport& transport(BrokerId id) override { return *nodes_.at(id).transport; }
  PeerRecorder& recorder(BrokerId id, uint32_t shard) override { return *nodes_.at(id).recorders[shard]; }
  bool run_until(const std::function<bool()>& holds) override { return world_.run_until(holds); }
  void on_shard(BrokerId id, uint32_t shard, const std::function<void()>& task) override {
    bool done = false;
    nodes_.at(id).envs[shard]->executor().post([&] {
      task();
      done = true;
    });
    EXPECT_TRUE(world_.run_until([&] { return done; }));
  }

 private:
  struct Node {
    std::vector<std::unique_ptr<sim::SimEnv>> envs;
    std::unique_ptr<PeerTransport> transport;
    std::vector<std::unique_ptr<PeerRecorder>> recorders;
  };
  static void end(Node& node) {
    node.transport.reset();
    node.envs.clear();
  }
  sim::World world_;
  sim::SimDisk disk_;
  sim::SimNetwork network_;
  std::map<BrokerId, Node> nodes_;
};

INSTANTIATE_TEST_SUITE_P(Simulated, PeerTransportContract,
                         ::testing::Values([] { return std::unique_ptr<PeerWorld>(std::make_unique<SimPeerWorld>()); }),
                         [](const auto&) { return std::string("Sim"); });

}  // namespace
}  // namespace trilog::testing
