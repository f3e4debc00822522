// What every PeerTransport must do, as tests over a small world of nodes: the same suite for real sockets and for the
// simulated network. INSTANTIATE_TEST_SUITE_P(Tcp, PeerTransportContract, ::testing::Values(make_world));
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "broker/api/peer_transport.h"

namespace trilog::testing {

struct PeerEvent {
  enum class What { kFrame, kConnected, kDisconnected };
  What what = What::kFrame;
  BrokerId peer;
  PeerChannel channel = PeerChannel::kControl;
  PeerFrame frame;
  PeerIdentity identity;
  bool refused = false;
};

// Writes down what it hears. Any thread may look.
class PeerRecorder : public PeerListener {
 public:
  explicit PeerRecorder(std::function<void()> changed) : changed_(std::move(changed)) {}
  void on_frame(BrokerId from, PeerChannel channel, PeerFrame frame) override {
    add({.what = PeerEvent::What::kFrame, .peer = from, .channel = channel, .frame = std::move(frame)});
  }
  void on_connected(const PeerIdentity& peer, PeerChannel channel) override {
    add({.what = PeerEvent::What::kConnected, .peer = peer.broker, .channel = channel, .identity = peer});
  }
  void on_disconnected(BrokerId peer, PeerChannel channel, bool refused) override {
    add({.what = PeerEvent::What::kDisconnected, .peer = peer, .channel = channel, .refused = refused});
  }
  // With the events; they stay where they are.
  template <typename Look>
  auto with(Look look) const {
    std::lock_guard lock(mutex_);
    return look(events_);
  }
  size_t count(PeerEvent::What what, BrokerId peer, PeerChannel channel) const {
    return with([&](const std::vector<PeerEvent>& events) {
      size_t count = 0;
      for (const PeerEvent& event : events) {
        if (event.what == what && event.peer == peer && event.channel == channel) ++count;
      }
      return count;
    });
  }
  // Connections that were there and ended, as they ended: refused or not. Refused attempts do not count.
  std::vector<bool> losses(BrokerId peer, PeerChannel channel) const {
    return with([&](const std::vector<PeerEvent>& events) {
      std::vector<bool> losses;
      bool there = false;
      for (const PeerEvent& event : events) {
        if (event.peer != peer || event.channel != channel || event.what == PeerEvent::What::kFrame) continue;
        if (there && event.what == PeerEvent::What::kDisconnected) losses.push_back(event.refused);
        there = event.what == PeerEvent::What::kConnected;
      }
      return losses;
    });
  }
  size_t frames(BrokerId peer, PeerChannel channel) const { return count(PeerEvent::What::kFrame, peer, channel); }
  void clear() {
    std::lock_guard lock(mutex_);
    events_.clear();
  }

 private:
  void add(PeerEvent event) {
    {
      std::lock_guard lock(mutex_);
      events_.push_back(std::move(event));
    }
    changed_();
  }
  const std::function<void()> changed_;
  mutable std::mutex mutex_;
  std::vector<PeerEvent> events_;
};

// Nodes 1, 2, 3 with two shards each.
class PeerWorld {
 public:
  virtual ~PeerWorld() = default;
  // A process of the node begins. The recorders of its shards listen, as they were left by an earlier process.
  virtual void start(BrokerId node, PeerIdentity identity) = 0;
  virtual void kill(BrokerId node) = 0;
  virtual PeerTransport& transport(BrokerId node) = 0;
  virtual PeerRecorder& recorder(BrokerId node, uint32_t shard) = 0;
  // Goes on until it holds; false after long.
  virtual bool run_until(const std::function<bool()>& holds) = 0;
  // Runs on the shard's thread before it returns.
  virtual void on_shard(BrokerId node, uint32_t shard, const std::function<void()>& task) = 0;

  static PeerIdentity identity_of(BrokerId node) { return {node, DirectoryId(7, node.value()), false}; }
  void start(BrokerId node) { start(node, identity_of(node)); }
  bool connected(BrokerId a, BrokerId b) {
    for (PeerChannel channel : {PeerChannel::kControl, PeerChannel::kReplication, PeerChannel::kBulk}) {
      if (!transport(a).connected(b, channel) || !transport(b).connected(a, channel)) return false;
    }
    return true;
  }
};

using PeerWorldMaker = std::function<std::unique_ptr<PeerWorld>()>;
class PeerTransportContract : public ::testing::TestWithParam<PeerWorldMaker> {
 protected:
  void SetUp() override { world_ = GetParam()(); }
  std::unique_ptr<PeerWorld> world_;
};

}  // namespace trilog::testing
