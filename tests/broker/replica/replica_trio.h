// Three brokers that replicate to each other: replicas, disk and network of each simulated, and a small controller that
// the test itself drives. It follows the rules for changes of in-sync replicas (C2), elections (C6-C8) and
// registrations (C3), keeps its state beyond every crash, and tells images to each node after a while of its own.
//
//   ReplicaTrio trio(seed);
//   TopicPartition orders = trio.add_topic("orders");
//   trio.settle();
//   auto answer = trio.append(orders, "hello");
//   trio.crash(1);  trio.fence(1);  trio.start(1);
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "broker/mark_writer.h"
#include "broker/metadata/metadata_image.h"
#include "broker/replica/replica_manager.h"
#include "tests/sim/sim_env.h"
#include "tests/sim/sim_network.h"
#include "tests/support/batches.h"

namespace trilog::testing {

inline constexpr int64_t kMs = 1'000'000;

class ReplicaTrio {
 public:
  static constexpr int kNodes = 3;

  struct Node : PeerListener {
    ReplicaTrio* trio = nullptr;
    BrokerId id = kNoBroker;
    std::unique_ptr<sim::SimDisk> disk;
    std::unique_ptr<sim::SimEnv> env;
    std::unique_ptr<PeerTransport> transport;
    std::unique_ptr<MarksFile> marks_file;
    std::unique_ptr<MarkWriter> writer;
    std::unique_ptr<LogDirectory> logs;
    std::unique_ptr<DiskGuard> guard;
    std::unique_ptr<ReplicaManager> replicas;
    ImagePtr image;  // what it was last told; survives on its disk
    bool hears_controller = true;
    uint64_t life = 0;      // of its process
    uint64_t enrolled = 0;  // the life that is registered
    uint64_t isr_requests = 0;
    bool isr_answers_lost = false;
    bool rotten = false;  // its logs have damage that they may not know of
    std::function<void(const PeerFrame&)> sees = [](const PeerFrame&) {};

    void on_frame(BrokerId from, PeerChannel channel, PeerFrame frame) override {
      sees(frame);
      replicas->on_frame(from, channel, std::move(frame));
    }
    void on_connected(const PeerIdentity& peer, PeerChannel channel) override { replicas->on_connected(peer, channel); }
    void on_disconnected(BrokerId peer, PeerChannel channel, bool refused) override {
      replicas->on_disconnected(peer, channel, refused);
    }
    bool up() const { return replicas != nullptr; }
  };
  struct State {  // of a partition, committed
    std::vector<BrokerId> isr, elr;
    BrokerId leader = kNoBroker;
    int32_t leader_epoch = 0, partition_epoch = 0;
    int32_t loss_epoch = -1;  // R15
  };

  explicit ReplicaTrio(uint64_t seed = 1) : world(seed), network(world) {
    options.topics_path = "node/topics";
    for (int i = 1; i <= kNodes; ++i) {
      Node& node = nodes[i];
      node.trio = this;
      node.id = BrokerId(i);
      node.disk = std::make_unique<sim::SimDisk>(world.scheduler());
      node.image = std::make_shared<MetadataImage>();
      network.add_node(node.id);
    }
    for (int i = 1; i <= kNodes; ++i) start(i);
    heartbeat();
    run_ms(200);
  }
  ~ReplicaTrio() {
    for (auto& [number, node] : nodes) end_process(node);
  }

  // --- processes ---
  // Starts, registers and unfences. With `registers` false it only knows the last image it was told.
  void start(int number, bool registers = true);
  // kill -9. The controller does not know yet.
  void crash(int number) { end_process(nodes.at(number)); }
  void power_cut(int number, const sim::CrashPolicy& policy = sim::CrashPolicy::lose_all());
  bool up(int number) { return nodes.at(number).up(); }

  // --- the controller ---
  TopicPartition add_topic(const std::string& name, int32_t min_in_sync = 2,
                           api::Durability durability = api::Durability::kSynced, int leader = 1);
  // C3: the new process takes the place of the old one; whatever it was in sync with it has to prove again.
  void enroll(int number);
  void fence(int number, bool leaving = false);
  void unfence(int number);
  // A planned move to a member of the ISR.
  void move_leader(const TopicPartition& partition, int to);

  // --- time ---
  void run_ms(int64_t ms) {
    world.run_for(ms * kMs);
    check();
  }
  bool run_until(const std::function<bool()>& predicate, int64_t timeout_ms = 30'000) {
    const bool held = world.run_until(predicate, timeout_ms * kMs);
    check();
    return held;
  }
  void check();

  // --- requests ---
  std::shared_ptr<std::optional<AppendResult>> begin_append(int number, const TopicPartition& partition, Bytes batch,
                                                            api::Acks acks = api::Acks::kAll, int64_t wait_ms = 60'000);
  // At the leader, and until it is answered.
  AppendResult append(const TopicPartition& partition, const std::string& value, api::Acks acks = api::Acks::kAll);
  int leader(const TopicPartition& partition) const { return states.at(partition).leader.value(); }
  ReplicaPosition position(int number, const TopicPartition& partition) {
    return nodes.at(number).replicas->position(partition).value_or(ReplicaPosition{});
  }
  // Values of all records that a reader gets from this node, by offset.
  std::vector<std::pair<int64_t, std::string>> read_all(int number, const TopicPartition& partition,
                                                        api::Isolation isolation = api::Isolation::kCommitted);
  // The values of read_all().
  std::vector<std::string> values(int number, const TopicPartition& partition) {
    std::vector<std::string> result;
    for (auto& [at, value] : read_all(number, partition)) result.push_back(value);
    return result;
  }
  bool all_in_sync(const TopicPartition& partition) const { return states.at(partition).isr.size() == kNodes; }

  static bool has(const std::vector<BrokerId>& brokers, BrokerId id) {
    return std::find(brokers.begin(), brokers.end(), id) != brokers.end();
  }

  sim::World world;
  sim::SimNetwork network;
  ReplicaOptions options;
  std::map<int, Node> nodes;
  std::map<TopicPartition, State> states;
  std::map<TopicPartition, int32_t> mins;
  std::map<BrokerId, BrokerEpoch> epochs;
  std::set<BrokerId> unfenced;
  ImagePtr committed = std::make_shared<MetadataImage>();
  Offset metadata_end{0};
  uint64_t topics_made = 0;
  int64_t metadata_delay_ms = 5;  // at most, of everything between controller and nodes

 private:
  int64_t delay() { return static_cast<int64_t>(world.random().below(static_cast<uint64_t>(metadata_delay_ms) * kMs)); }

  void end_process(Node& node);
  PartitionRecord record_of(const TopicPartition& partition);
  void commit(const std::vector<MetadataRecord>& records);
  // In order, each node in its own time; a node that does not hear the controller catches up later.
  void tell(int number);
  static void apply(Node& node, const std::vector<MetadataRecord>& records, Offset first);
  void to_node(int number, std::function<void(Node&)> what);
  void heartbeat();
  // C6, C8. True if something changed.
  bool elect(State& state, int32_t min);
  // Adds the records of partitions that change.
  void take_out(BrokerId id, std::vector<MetadataRecord>& records);
  void alter_isr(int number, IsrChange change, UniqueFunction<void(api::Answer<IsrChanged>)> done);
  // C2, in its order.
  api::Answer<IsrChanged> decide(int number, const IsrChange& change);

  std::vector<std::vector<MetadataRecord>> history;
};

inline std::optional<api::ErrorCode> error_of(const AppendResult& result) {
  if (result.batches.empty() || !result.batches[0].error) return std::nullopt;
  return result.batches[0].error->code;
}
inline std::optional<api::Outcome> outcome_of(const AppendResult& result) {
  if (result.batches.empty() || !result.batches[0].error) return std::nullopt;
  return result.batches[0].error->outcome;
}

}  // namespace trilog::testing
