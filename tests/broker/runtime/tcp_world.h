// Nodes with real sockets, threads and a log that can be read.
#pragma once

#include <chrono>
#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "broker/runtime/port_reservation.h"
#include "broker/runtime/shard_pool.h"
#include "broker/runtime/tcp_transport.h"
#include "storage/base/check.h"
#include "tests/broker/runtime/peer_transport_contract.h"

namespace trilog::testing {

inline const ClusterId kTestCluster{1, 2};

class TcpWorld : public PeerWorld {
 public:
  static constexpr int kNodes = 3;
  TcpWorld() {
    for (int i = 1; i <= kNodes; ++i) {
      ports_.push_back(PortReservation::make().value());
      auto node = std::make_unique<Node>();
      for (int shard = 0; shard < 2; ++shard) {
        node->recorders.push_back(std::make_unique<PeerRecorder>([this] { changed(); }));
      }
      nodes_.emplace(BrokerId(i), std::move(node));
    }
  }
  ~TcpWorld() override {
    for (auto& [id, node] : nodes_) end(*node);
  }

  TcpTransportOptions options(BrokerId id) {
    TcpTransportOptions options;
    options.self = id;
    options.listen = address(id);
    for (int i = 1; i <= kNodes; ++i) options.peers.emplace(BrokerId(i), address(BrokerId(i)));
    options.silence_limit_ms = 20'000;  // a busy machine is not what is tested
    options.log = Logger([this](LogLevel, std::string_view line) {
      {
        std::lock_guard lock(mutex_);
        log_ += std::string(line) + "\n";
      }
      changed();
    });
    return options;
  }
  std::string address(BrokerId id) const { return "127.0.0.1:" + std::to_string(port(id)); }
  int port(BrokerId id) const { return ports_[static_cast<size_t>(id.value() - 1)].port(); }
  std::string log() const {
    std::lock_guard lock(mutex_);
    return log_;
  }
  bool logs(const std::string& text) {
    return run_until([&] { return log().find(text) != std::string::npos; });
  }

  using PeerWorld::start;
  void start(BrokerId id, PeerIdentity identity) override { start(id, identity, options(id), kTestCluster); }
  void start(BrokerId id, PeerIdentity identity, TcpTransportOptions options, ClusterId cluster) {
    Node& node = *nodes_.at(id);
    node.pool = std::make_unique<ShardPool>(ShardPoolOptions{.shards = 2, .io_threads_max = 1});
    Result<std::unique_ptr<TcpTransport>> opened = TcpTransport::open(std::move(options), node.pool->envs());
    ASSERT_TRUE(opened.ok()) << opened.status().to_string();
    node.transport = std::move(*opened);
    node.transport->set_empty(identity.empty);
    for (uint32_t shard : {0u, 1u}) node.transport->listen(shard, node.recorders[shard].get());
    node.transport->start(cluster, identity.directory);
  }
  void kill(BrokerId id) override { end(*nodes_.at(id)); }
  PeerTransport& transport(BrokerId id) override { return *nodes_.at(id)->transport; }
  TcpTransport& tcp(BrokerId id) { return *nodes_.at(id)->transport; }
  PeerRecorder& recorder(BrokerId id, uint32_t shard) override { return *nodes_.at(id)->recorders[shard]; }

  // Looks again whenever something was heard or logged, and at least now and then: what connected() says has no event.
  bool run_until(const std::function<bool()>& holds) override {
    auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!holds()) {
      std::unique_lock lock(change_mutex_);
      change_.wait_for(lock, std::chrono::milliseconds(5));
      if (std::chrono::steady_clock::now() > end) return false;
    }
    return true;
  }
  void on_shard(BrokerId id, uint32_t shard, const std::function<void()>& task) override {
    std::promise<void> done;
    nodes_.at(id)->pool->envs()[shard]->executor().post([&] {
      task();
      done.set_value();
    });
    done.get_future().get();
  }
  Env& env(BrokerId id, uint32_t shard) { return *nodes_.at(id)->pool->envs()[shard]; }

 private:
  struct Node {
    std::unique_ptr<ShardPool> pool;
    std::unique_ptr<TcpTransport> transport;
    std::vector<std::unique_ptr<PeerRecorder>> recorders;
  };
  void end(Node& node) {
    node.transport.reset();
    node.pool.reset();
  }
  void changed() {
    std::lock_guard lock(change_mutex_);
    change_.notify_all();
  }

  std::vector<PortReservation> ports_;
  std::map<BrokerId, std::unique_ptr<Node>> nodes_;
  mutable std::mutex mutex_;
  std::string log_;
  std::mutex change_mutex_;
  std::condition_variable change_;
};

}  // namespace trilog::testing
