#include "tests/sim/sim_network.h"

#include <algorithm>

#include "storage/base/check.h"

namespace trilog::sim {

namespace {

constexpr size_t kFrameHeaderBytes = 32;  // about what the real framing costs
constexpr PeerChannel kChannels[] = {PeerChannel::kControl, PeerChannel::kReplication, PeerChannel::kBulk};

}  // namespace

// What one process holds of the network.
class SimNetwork::Transport final : public PeerTransport {
 public:
  Transport(SimNetwork& network, ProcessPtr process) : network_(network), process_(std::move(process)) {}
  ~Transport() override { network_.leave(process_); }

  bool send(BrokerId to, PeerChannel channel, PeerFrame frame) override {
    bool sent = network_.send(*process_, to, channel, std::move(frame));
    if (!sent) ++network_.counts_.sends_dropped;
    return sent;
  }
  bool connected(BrokerId to, PeerChannel channel) const override {
    return process_->connections.contains({to, channel});
  }
  PeerIdentity identity(BrokerId to) const override {
    for (PeerChannel channel : kChannels) {
      auto found = process_->connections.find({to, channel});
      if (found == process_->connections.end()) continue;
      return found->second->identities[found->second->end_of(to)];
    }
    return {};
  }
  void listen(uint32_t shard, PeerListener* listener) override {
    Shard& registered = process_->shards.at(shard);
    registered.listener = listener;
    registered.reported.clear();
    if (listener == nullptr) return;
    for (const auto& [peer, connection] : process_->connections) {
      network_.report_connected(process_, connection, shard);
    }
  }
  void set_cluster(const ClusterId&) override {}  // hellos are not simulated
  void set_empty(bool empty) override {
    if (std::exchange(process_->self.empty, empty) != empty) network_.close_for_reconnect(process_);
  }

 private:
  SimNetwork& network_;
  const ProcessPtr process_;
};

SimNetwork::SimNetwork(World& world, NetworkConfig config)
    : world_(world), config_(config), self_(std::make_shared<SimNetwork*>(this)) {}

SimNetwork::~SimNetwork() { *self_ = nullptr; }

void SimNetwork::after(int64_t delay_ns, bool under_way, UniqueFunction<void()> task) {
  if (under_way) world_.scheduler().add_outstanding(1);
  world_.after(delay_ns, [self = self_, scheduler = &world_.scheduler(), under_way, task = std::move(task)]() mutable {
    if (under_way) scheduler->add_outstanding(-1);
    if (*self != nullptr) task();
  });
}

int64_t SimNetwork::draw_delay(BrokerId from, BrokerId to) {
  SeededRandom& random = world_.random();
  auto spread = static_cast<uint64_t>(config_.delay_most_ns - config_.delay_least_ns + 1);
  int64_t delay = config_.delay_least_ns + static_cast<int64_t>(random.below(spread));
  if (random.below(1000) < config_.late_per_thousand) {
    delay += static_cast<int64_t>(random.below(static_cast<uint64_t>(config_.late_ns)));
  }
  return delay + links_[{from, to}].extra_ns;
}

// --- processes -----------------------------------------------------------------------------------------------------

void SimNetwork::add_node(BrokerId id) {
  if (!nodes_.try_emplace(id).second) return;
  for (auto& [other, node] : nodes_) {
    if (node.process) dial_all(node.process);
  }
}

std::unique_ptr<PeerTransport> SimNetwork::join(PeerIdentity self, std::vector<SimEnv*> shards) {
  CHECK(!shards.empty() && self.broker != kNoBroker);
  add_node(self.broker);
  Node& node = nodes_.at(self.broker);
  CHECK(node.process == nullptr);
  node.off = node.paused = false;
  node.process = std::make_shared<Process>();
  node.process->self = self;
  for (SimEnv* env : shards) node.process->shards.push_back({env, nullptr, {}});
  update_links();
  dial_all(node.process);
  return std::make_unique<Transport>(*this, node.process);
}

// The kernel cleans up after the process: what it had taken may still go out, then come the resets.
void SimNetwork::leave(const ProcessPtr& process) {
  BrokerId id = process->self.broker;
  nodes_.at(id).process = nullptr;
  process->shards.clear();
  auto connections = std::exchange(process->connections, {});
  for (auto& [peer, connection] : connections) {
    size_t end = connection->end_of(id);
    connection->open[end] = false;
    if (world_.random().chance(50)) {
      size_t kept = world_.random().below(connection->queue[end].size() + 1);
      counts_.frames_lost += connection->queue[end].size() - kept;
      connection->queue[end].resize(kept);
    }
    tell_other_end(connection, end, true);
  }
}

void SimNetwork::power_off(BrokerId id) {
  nodes_.at(id).off = true;
  update_links();
}

void SimNetwork::pause(BrokerId id) {
  Node& paused = nodes_.at(id);
  if (!paused.process || std::exchange(paused.paused, true)) return;
  for (Shard& shard : paused.process->shards) shard.env->pause();
  update_links();
}

void SimNetwork::resume(BrokerId id) {
  Node& paused = nodes_.at(id);
  if (!paused.process || !std::exchange(paused.paused, false)) return;
  for (Shard& shard : paused.process->shards) shard.env->resume();
  update_links();
  for (const auto& [other, node] : nodes_) {
    // It hears nothing on these since before, and begins to wait only now.
    if (other != id && links_[{other, id}].blocked_since_ns >= 0) blocked(other, id);
  }
}

// --- dialling ------------------------------------------------------------------------------------------------------

void SimNetwork::dial_all(const ProcessPtr& process) {
  for (const auto& [id, node] : nodes_) {
    if (id == process->self.broker) continue;
    for (PeerChannel channel : kChannels) dial(process, {id, channel}, 0);
  }
}

void SimNetwork::dial(const ProcessPtr& process, PeerKey peer, int64_t after_ns) {
  Dialler& dialler = process->diallers[peer];
  if (dialler.under_way || process->connections.contains(peer)) return;
  dialler.under_way = true;
  std::weak_ptr<Process> alive = process;
  BrokerId self = process->self.broker;
  after(after_ns, after_ns == 0, [this, alive, peer, self] {
    if (alive.expired()) return;
    int64_t round_trip = draw_delay(self, peer.first) + draw_delay(peer.first, self);
    after(round_trip, true, [this, alive, peer] {
      if (auto dialling = alive.lock()) dial_done(dialling, peer);
    });
  });
}

void SimNetwork::dial_done(const ProcessPtr& process, PeerKey peer) {
  BrokerId self = process->self.broker;
  if (nodes_.at(self).process != process) return;  // it died
  process->diallers[peer].under_way = false;
  if (process->connections.contains(peer)) return;  // the other side was faster
  const Node& other = node(peer.first);
  if (is_blocked(self, peer.first) || is_blocked(peer.first, self)) {
    return redial(process, peer, config_.dial_timeout_ns);
  }
  if (!other.process) {
    ++counts_.refused_dials;
    report_disconnected(process, peer, 0, true);
    return redial(process, peer, 0);
  }
  establish(process, other.process, peer.second);
}

void SimNetwork::redial(const ProcessPtr& process, PeerKey peer, int64_t after_ns) {
  uint32_t& failures = process->diallers[peer].failures;
  int64_t pause = config_.redial_least_ns << std::min<uint32_t>(failures++, 10);
  pause = std::min(pause, config_.redial_most_ns);
  pause += static_cast<int64_t>(world_.random().below(static_cast<uint64_t>(config_.redial_least_ns)));
  dial(process, peer, after_ns + pause);
}

void SimNetwork::establish(const ProcessPtr& dialler, const ProcessPtr& other, PeerChannel channel) {
  auto connection = std::make_shared<Connection>();
  connection->number = next_number_++;
  connection->channel = channel;
  ++counts_.connections;
  connections_.emplace(connection->number, connection);
  const ProcessPtr processes[] = {dialler, other};
  for (size_t end = 0; end < 2; ++end) {
    connection->ends[end] = processes[end]->self.broker;
    connection->identities[end] = processes[end]->self;
  }
  for (size_t end = 0; end < 2; ++end) {
    PeerKey peer{connection->ends[1 - end], channel};
    // The other side gave an earlier one up and came again before this side noticed.
    auto earlier = processes[end]->connections.find(peer);
    if (earlier != processes[end]->connections.end()) {
      ConnectionPtr lost = earlier->second;
      close_end(lost, lost->end_of(connection->ends[end]), world_.random().chance(50));
    }
    processes[end]->diallers[peer].failures = 0;
    processes[end]->connections[peer] = connection;
    for (size_t shard = 0; shard < processes[end]->shards.size(); ++shard) {
      report_connected(processes[end], connection, shard);
    }
  }
}

// --- frames --------------------------------------------------------------------------------------------------------

bool SimNetwork::send(Process& from, BrokerId to, PeerChannel channel, PeerFrame frame) {
  CHECK_LE(frame.body.size(), kPeerBodyBytesMax);
  CHECK_LE(frame.bulk.size(), kPeerBulkBytesMax);
  auto found = from.connections.find({to, channel});
  if (found == from.connections.end()) return false;
  ConnectionPtr connection = found->second;
  size_t end = connection->end_of(from.self.broker);
  size_t bytes = kFrameHeaderBytes + frame.body.size() + frame.bulk.size();
  if (connection->queued_bytes[end] + bytes > config_.queue_bytes_max) return false;
  if (world_.random().below(1'000'000) < config_.resets_per_million) {
    ++counts_.frames_lost;
    after(0, true, [this, connection] {
      for (size_t side : {0, 1}) close_end(connection, side, world_.random().chance(50));
    });
    return true;
  }
  // The receiver gets bytes of its own, as from a socket.
  frame.body = Bytes::copy_of(frame.body);
  if (!frame.bulk.empty()) frame.bulk = SharedBytes(Bytes::copy_of(frame.bulk.view()));
  int64_t arrives = std::max(connection->last_arrival_ns[end], world_.now_ns() + draw_delay(from.self.broker, to));
  connection->last_arrival_ns[end] = arrives;
  connection->queued_bytes[end] += bytes;
  connection->queue[end].push_back({std::move(frame), arrives, bytes});
  after(arrives - world_.now_ns(), true, [this, connection, end] { pump(connection, end); });
  return true;
}

// Whatever has had its time and finds the way open arrives.
void SimNetwork::pump(const ConnectionPtr& connection, size_t from) {
  auto& queue = connection->queue[from];
  BrokerId sender = connection->ends[from];
  BrokerId receiver = connection->ends[1 - from];
  while (!queue.empty() && queue.front().arrives_ns <= world_.now_ns()) {
    if (!connection->open[1 - from]) {
      counts_.frames_lost += queue.size();
      queue.clear();
      return;
    }
    if (is_blocked(sender, receiver)) return;
    connection->queued_bytes[from] -= queue.front().bytes;
    counts_.bytes += queue.front().bytes;
    ++counts_.frames;
    PeerFrame frame = std::move(queue.front().frame);
    queue.pop_front();
    deliver(connection, from, std::move(frame));
  }
}

void SimNetwork::deliver(const ConnectionPtr& connection, size_t from, PeerFrame frame) {
  ProcessPtr process = node(connection->ends[1 - from]).process;
  size_t shard = frame.route % process->shards.size();
  BrokerId sender = connection->ends[from];
  process->shards[shard].env->executor().post(
      [alive = std::weak_ptr<Process>(process), shard, sender, connection, frame = std::move(frame)]() mutable {
        auto here = alive.lock();
        if (!here || here->shards.empty()) return;
        PeerListener* listener = here->shards[shard].listener;
        if (listener != nullptr) listener->on_frame(sender, connection->channel, std::move(frame));
      });
}

// --- the ends of connections ---------------------------------------------------------------------------------------

void SimNetwork::close_end(const ConnectionPtr& connection, size_t end, bool refused) {
  if (!std::exchange(connection->open[end], false)) return;
  counts_.frames_lost += connection->queue[1 - end].size();
  connection->queue[1 - end].clear();
  if (!connection->open[1 - end]) connections_.erase(connection->number);
  ProcessPtr process = node(connection->ends[end]).process;
  PeerKey peer{connection->ends[1 - end], connection->channel};
  CHECK(process && process->connections.at(peer) == connection);
  process->connections.erase(peer);
  ++(refused ? counts_.resets : counts_.silences);
  report_disconnected(process, peer, connection->number, refused);
  redial(process, peer, 0);
}

void SimNetwork::tell_other_end(const ConnectionPtr& connection, size_t closed, bool refused) {
  size_t other = 1 - closed;
  if (!connection->open[other]) {
    connections_.erase(connection->number);
    return;
  }
  BrokerId from = connection->ends[closed];
  BrokerId to = connection->ends[other];
  if (is_blocked(from, to) || std::exchange(connection->told[other], true)) return;
  // Behind what was sent before.
  int64_t when = std::max(connection->last_arrival_ns[closed], world_.now_ns() + draw_delay(from, to));
  after(when - world_.now_ns(), true, [this, connection, closed, other, refused, from, to] {
    connection->told[other] = false;
    if (is_blocked(from, to)) return;
    pump(connection, closed);
    close_end(connection, other, refused);
  });
}

void SimNetwork::close_for_reconnect(const ProcessPtr& process) {
  auto connections = process->connections;
  for (auto& [peer, connection] : connections) {
    size_t end = connection->end_of(process->self.broker);
    close_end(connection, end, false);
    tell_other_end(connection, end, false);
  }
}

void SimNetwork::reset(BrokerId a, BrokerId b) {
  for (const ConnectionPtr& connection : connections_between(a, b)) {
    for (size_t end : {0, 1}) close_end(connection, end, world_.random().chance(50));
  }
}

std::vector<SimNetwork::ConnectionPtr> SimNetwork::connections_between(BrokerId a, BrokerId b) {
  std::vector<ConnectionPtr> found;
  for (const auto& [number, connection] : connections_) {
    if (std::minmax(connection->ends[0], connection->ends[1]) == std::minmax(a, b)) found.push_back(connection);
  }
  return found;
}

// A listener may come, go or be told again at any time, so what it knows is looked up when its turn has come.
void SimNetwork::report_connected(const ProcessPtr& process, const ConnectionPtr& connection, size_t shard) {
  BrokerId self = process->self.broker;
  process->shards[shard].env->executor().post([alive = std::weak_ptr<Process>(process), connection, shard, self] {
    auto here = alive.lock();
    if (!here || here->shards.empty()) return;
    size_t other = 1 - connection->end_of(self);
    Shard& told = here->shards[shard];
    uint64_t& reported = told.reported[{connection->ends[other], connection->channel}];
    if (told.listener == nullptr || std::exchange(reported, connection->number) == connection->number) return;
    told.listener->on_connected(connection->identities[other], connection->channel);
  });
}

// `number` 0: of an attempt that was refused.
void SimNetwork::report_disconnected(const ProcessPtr& process, PeerKey peer, uint64_t number, bool refused) {
  for (size_t shard = 0; shard < process->shards.size(); ++shard) {
    process->shards[shard].env->executor().post(
        [alive = std::weak_ptr<Process>(process), peer, number, refused, shard] {
          auto here = alive.lock();
          if (!here || here->shards.empty()) return;
          Shard& told = here->shards[shard];
          uint64_t& reported = told.reported[peer];
          if (told.listener == nullptr || reported != number) return;
          reported = 0;
          told.listener->on_disconnected(peer.first, peer.second, refused);
        });
  }
}

// --- links ---------------------------------------------------------------------------------------------------------

bool SimNetwork::is_blocked(BrokerId from, BrokerId to) const {
  auto link = links_.find({from, to});
  bool is_cut = link != links_.end() && link->second.cut;
  return is_cut || node(from).paused || node(from).off || node(to).off;
}

void SimNetwork::update_links() {
  for (const auto& [from, from_node] : nodes_) {
    for (const auto& [to, to_node] : nodes_) {
      if (from == to) continue;
      Link& link = links_[{from, to}];
      bool now = is_blocked(from, to);
      if (now == (link.blocked_since_ns >= 0)) continue;
      link.blocked_since_ns = now ? world_.now_ns() : -1;
      now ? blocked(from, to) : unblocked(from, to);
    }
  }
}

void SimNetwork::blocked(BrokerId from, BrokerId to) {
  int64_t since = links_[{from, to}].blocked_since_ns;
  after(config_.keep_alive_ns, false, [this, from, to, since] {
    if (links_[{from, to}].blocked_since_ns != since) return;
    for (const ConnectionPtr& connection : connections_between(from, to)) {
      size_t end = connection->end_of(to);
      // A stopped process notices nothing. It will be told when it goes on, by the end that does.
      if (!node(to).process || node(to).paused) continue;
      close_end(connection, end, false);
      tell_other_end(connection, end, world_.random().chance(50));
    }
  });
}

void SimNetwork::unblocked(BrokerId from, BrokerId to) {
  for (const ConnectionPtr& connection : connections_between(from, to)) {
    size_t end = connection->end_of(from);
    after(0, true, [this, connection, end] { pump(connection, end); });
    if (!connection->open[end]) tell_other_end(connection, end, world_.random().chance(50));
  }
}

void SimNetwork::cut_one_way(BrokerId from, BrokerId to) {
  links_[{from, to}].cut = true;
  update_links();
}

void SimNetwork::cut(BrokerId a, BrokerId b) {
  links_[{a, b}].cut = links_[{b, a}].cut = true;
  update_links();
}

void SimNetwork::isolate(BrokerId id) {
  for (const auto& [other, node] : nodes_) {
    if (other != id) cut(id, other);
  }
}

void SimNetwork::partition(const std::vector<std::vector<BrokerId>>& sides) {
  for (size_t i = 0; i < sides.size(); ++i) {
    for (size_t j = i + 1; j < sides.size(); ++j) {
      for (BrokerId a : sides[i]) {
        for (BrokerId b : sides[j]) cut(a, b);
      }
    }
  }
}

void SimNetwork::bridge(BrokerId middle) {
  for (const auto& [a, node_a] : nodes_) {
    for (const auto& [b, node_b] : nodes_) {
      if (a < b && a != middle && b != middle) cut(a, b);
    }
  }
}

void SimNetwork::heal(BrokerId a, BrokerId b) {
  links_[{a, b}].cut = links_[{b, a}].cut = false;
  update_links();
}

void SimNetwork::heal() {
  ++flap_round_;
  for (auto& [ends, link] : links_) {
    link.cut = false;
    link.extra_ns = 0;
  }
  update_links();
}

void SimNetwork::slow(BrokerId from, BrokerId to, int64_t extra_ns) { links_[{from, to}].extra_ns = extra_ns; }

void SimNetwork::flap(BrokerId a, BrokerId b, int64_t period_ns) { flap_on(a, b, period_ns, flap_round_); }

void SimNetwork::flap_on(BrokerId a, BrokerId b, int64_t period_ns, uint64_t round) {
  if (round != flap_round_) return;
  links_[{a, b}].cut ? heal(a, b) : cut(a, b);
  auto next = static_cast<int64_t>(world_.random().below(static_cast<uint64_t>(period_ns))) + 1;
  after(next, false, [this, a, b, period_ns, round] { flap_on(a, b, period_ns, round); });
}

}  // namespace trilog::sim
