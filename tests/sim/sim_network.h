// A simulated network between the processes of several nodes: a PeerTransport for each, and every fault a real network
// has, drawn from the world's seed.
//
//   sim::SimNetwork network(world);
//   auto transport = network.join({BrokerId(1), directory, /*empty=*/true}, {env.get()});  // a process begins
//   network.cut(BrokerId(1), BrokerId(2));      // nothing passes; both notice after the keep-alive limit
//   network.heal();
//   transport.reset(); env.reset();             // kill -9: its connections are reset, dialling it is refused
//   network.power_off(BrokerId(1)); …           // before that: no reset, and dialling it is not answered
//
// As TCP: a frame arrives once, whole and in order while its connection lives. A cut holds frames back; if it ends
// before the keep-alive limit they arrive after all, otherwise the connection is lost and they with it. Both ends learn
// of a lost connection at different times, or one of them only when it is replaced.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "broker/api/peer_transport.h"
#include "tests/sim/sim_env.h"

namespace trilog::sim {

struct NetworkConfig {
  int64_t delay_least_ns = 50'000;  // of a frame, one way
  int64_t delay_most_ns = 300'000;
  uint32_t late_per_thousand = 5;  // frames that take up to late_ns
  int64_t late_ns = 10'000'000;
  uint32_t resets_per_million = 0;        // frames that break their connection instead of arriving
  int64_t keep_alive_ns = 1'500'000'000;  // silence that ends a connection
  int64_t dial_timeout_ns = 500'000'000;  // of one attempt that nobody answers
  int64_t redial_least_ns = 20'000'000;   // back-off between attempts, doubling
  int64_t redial_most_ns = 500'000'000;
  size_t queue_bytes_max = kPeerQueueBytesMax;  // per connection and direction, sent and not arrived
};

// What happened so far: tests require that their faults did happen.
struct NetworkCounts {
  uint64_t frames = 0;  // arrived
  uint64_t bytes = 0;
  uint64_t connections = 0;
  uint64_t refused_dials = 0;
  uint64_t resets = 0;         // ends told that the other process is gone
  uint64_t silences = 0;       // ends that gave up after the keep-alive limit
  uint64_t frames_lost = 0;    // with their connection
  uint64_t sends_dropped = 0;  // not connected, or the queue was full
};

// Must outlive its transports. Everything is called from tasks of the world or of its shards.
class SimNetwork {
 public:
  explicit SimNetwork(World& world, NetworkConfig config = {});
  ~SimNetwork();
  SimNetwork(const SimNetwork&) = delete;
  SimNetwork& operator=(const SimNetwork&) = delete;

  // A node that others dial although it has not joined yet.
  void add_node(BrokerId id);
  // A process of this node begins, with one Env per shard. Destroying the transport is the end of the process; do it in
  // one step of the world with destroying the Envs. One process per node at a time (CHECKed).
  std::unique_ptr<PeerTransport> join(PeerIdentity self, std::vector<SimEnv*> shards);

  // Links. Each stays as it is until healed.
  void cut_one_way(BrokerId from, BrokerId to);
  void cut(BrokerId a, BrokerId b);
  void isolate(BrokerId id);                                        // from all others
  void partition(const std::vector<std::vector<BrokerId>>& sides);  // cuts what lies between sides
  void bridge(BrokerId middle);                                     // all others reach only `middle`
  void heal(BrokerId a, BrokerId b);
  void heal();  // all cuts, slow links and flapping; pauses stay
  // Cuts and heals in turn, each for up to `period_ns`, until heal().
  void flap(BrokerId a, BrokerId b, int64_t period_ns);
  void slow(BrokerId from, BrokerId to, int64_t extra_ns);  // added to each frame's delay
  void reset(BrokerId a, BrokerId b);                       // all connections between the two break now

  // SIGSTOP and SIGCONT: its shards run nothing and it sends nothing; what arrives waits.
  void pause(BrokerId id);
  void resume(BrokerId id);
  bool paused(BrokerId id) const { return node(id).paused; }
  // The machine loses power (until the next join): nobody hears a reset, dialling is not answered. Call it before the
  // transport is destroyed.
  void power_off(BrokerId id);

  bool is_blocked(BrokerId from, BrokerId to) const;
  const NetworkCounts& counts() const { return counts_; }
  NetworkConfig& config() { return config_; }

 private:
  class Transport;
  struct Connection {
    struct Queued {
      PeerFrame frame;
      int64_t arrives_ns = 0;
      size_t bytes = 0;
    };
    BrokerId ends[2];
    PeerIdentity identities[2];  // as told in the hellos
    PeerChannel channel = PeerChannel::kControl;
    uint64_t number = 0;
    bool open[2] = {true, true};    // as that end sees it
    bool told[2] = {false, false};  // the news that the other end is gone is under way to this end
    std::deque<Queued> queue[2];    // sent by that end
    size_t queued_bytes[2] = {0, 0};
    int64_t last_arrival_ns[2] = {0, 0};
    size_t end_of(BrokerId id) const { return ends[0] == id ? 0 : 1; }
  };
  using ConnectionPtr = std::shared_ptr<Connection>;
  using PeerKey = std::pair<BrokerId, PeerChannel>;
  struct Dialler {
    bool under_way = false;
    uint32_t failures = 0;
  };
  struct Shard {
    SimEnv* env = nullptr;
    PeerListener* listener = nullptr;
    std::map<PeerKey, uint64_t> reported;  // numbers of connections that the listener knows
  };
  // One life of a node. Events that are under way hold it weakly: they are for this life only.
  struct Process {
    PeerIdentity self;
    std::vector<Shard> shards;
    std::map<PeerKey, ConnectionPtr> connections;
    std::map<PeerKey, Dialler> diallers;
  };
  using ProcessPtr = std::shared_ptr<Process>;
  struct Node {
    ProcessPtr process;
    bool paused = false;
    bool off = false;
  };
  struct Link {
    bool cut = false;
    int64_t extra_ns = 0;
    int64_t blocked_since_ns = -1;  // -1: not blocked
  };

  const Node& node(BrokerId id) const { return nodes_.at(id); }
  int64_t draw_delay(BrokerId from, BrokerId to);
  void leave(const ProcessPtr& process);
  bool send(Process& from, BrokerId to, PeerChannel channel, PeerFrame frame);
  void pump(const ConnectionPtr& connection, size_t from);
  void deliver(const ConnectionPtr& connection, size_t from, PeerFrame frame);
  void dial_all(const ProcessPtr& process);
  void dial(const ProcessPtr& process, PeerKey peer, int64_t after_ns);
  void dial_done(const ProcessPtr& process, PeerKey peer);
  void redial(const ProcessPtr& process, PeerKey peer, int64_t after_ns);
  void establish(const ProcessPtr& dialler, const ProcessPtr& other, PeerChannel channel);
  void close_end(const ConnectionPtr& connection, size_t end, bool refused);
  // The other end of one that is closed hears of it, if something can reach it.
  void tell_other_end(const ConnectionPtr& connection, size_t closed, bool refused);
  void close_for_reconnect(const ProcessPtr& process);
  void report_connected(const ProcessPtr& process, const ConnectionPtr& connection, size_t shard);
  void report_disconnected(const ProcessPtr& process, PeerKey peer, uint64_t number, bool refused);
  void update_links();
  void blocked(BrokerId from, BrokerId to);
  void unblocked(BrokerId from, BrokerId to);
  std::vector<ConnectionPtr> connections_between(BrokerId a, BrokerId b);
  void flap_on(BrokerId a, BrokerId b, int64_t period_ns, uint64_t round);
  // An event of the network; it dies with it.
  void after(int64_t delay_ns, bool under_way, UniqueFunction<void()> task);

  World& world_;
  NetworkConfig config_;
  NetworkCounts counts_;
  std::map<BrokerId, Node> nodes_;
  std::map<std::pair<BrokerId, BrokerId>, Link> links_;  // from, to
  std::map<uint64_t, ConnectionPtr> connections_;        // with an end that is open
  uint64_t next_number_ = 1;
  uint64_t flap_round_ = 0;  // raised by heal()
  std::shared_ptr<SimNetwork*> self_;
};

}  // namespace trilog::sim
