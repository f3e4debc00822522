#include "tests/sim/sim_network.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "tests/sim/sim_disk.h"

namespace trilog::sim {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr PeerChannel kControl = PeerChannel::kControl;

// One node with one shard (or more), and a diary of what its listener was told.
class Peer : public PeerListener {
 public:
  Peer(World& world, SimNetwork& network, SimDisk& disk, int id, size_t shards = 1) {
    for (size_t i = 0; i < shards; ++i) envs_.push_back(world.make_env(disk, "peer-" + std::to_string(id)));
    std::vector<SimEnv*> all;
    for (auto& env : envs_) all.push_back(env.get());
    transport = network.join({BrokerId(id), DirectoryId(1, static_cast<uint64_t>(id)), false}, std::move(all));
    transport->listen(0, this);
  }
  ~Peer() override { kill(); }
  void kill() {
    transport.reset();
    envs_.clear();
  }

  void on_frame(BrokerId from, PeerChannel channel, PeerFrame frame) override {
    std::string bulk = frame.bulk.empty() ? "" : "+" + std::string(as_text(frame.bulk));
    note("frame " + std::to_string(from.value()) + " " + std::to_string(static_cast<int>(channel)) + " " +
         std::string(as_text(frame.body)) + bulk);
  }
  void on_connected(const PeerIdentity& peer, PeerChannel channel) override {
    if (channel == kControl) note("up " + std::to_string(peer.broker.value()) + (peer.empty ? " empty" : ""));
  }
  void on_disconnected(BrokerId peer, PeerChannel channel, bool refused) override {
    if (channel == kControl) note("down " + std::to_string(peer.value()) + (refused ? " refused" : " silent"));
  }
  bool send(int to, const std::string& text, PeerChannel channel = kControl) {
    PeerFrame frame;
    frame.kind = PeerKind::kRaft;
    frame.body = Bytes::copy_of(text);
    return transport->send(BrokerId(to), channel, std::move(frame));
  }
  bool connected(int to) const { return transport->connected(BrokerId(to), kControl); }
  std::vector<std::string> take() { return std::exchange(diary, {}); }
  size_t count(const std::string& what) const {
    return static_cast<size_t>(
        std::count_if(diary.begin(), diary.end(), [&](const std::string& line) { return line.starts_with(what); }));
  }

  std::unique_ptr<PeerTransport> transport;
  std::vector<std::string> diary;

 private:
  void note(std::string line) { diary.push_back(std::move(line)); }

  std::vector<std::unique_ptr<SimEnv>> envs_;
};

class SimNetworkTest : public ::testing::Test {
 protected:
  void start(int peers) {
    for (int id = 1; id <= peers; ++id) join(id);
    world.run_until_idle();
    for (auto& peer : peers_) peer->diary.clear();
  }
  void join(int id) {
    auto peer = std::make_unique<Peer>(world, network, disk, id);
    if (peers_.size() < static_cast<size_t>(id)) peers_.resize(static_cast<size_t>(id));
    peers_[static_cast<size_t>(id - 1)] = std::move(peer);
  }
  Peer& peer(int id) { return *peers_.at(static_cast<size_t>(id - 1)); }
  static BrokerId id(int number) { return BrokerId(number); }
  using Lines = std::vector<std::string>;

  World world{7};
  SimDisk disk{world.scheduler()};
  SimNetwork network{world};
  std::vector<std::unique_ptr<Peer>> peers_;
};

TEST_F(SimNetworkTest, TellsBothSidesWhoTheOtherIsAndKeepsTheOrderOfAChannel) {
  join(1);
  join(2);
  world.run_until_idle();
  EXPECT_EQ(peer(1).take(), Lines{"up 2"});
  EXPECT_EQ(peer(2).take(), Lines{"up 1"});
  EXPECT_EQ(peer(1).transport->identity(id(2)), (PeerIdentity{id(2), DirectoryId(1, 2), false}));
  EXPECT_EQ(peer(1).transport->identity(id(3)).broker, kNoBroker);
  Lines expected;
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(peer(1).send(2, std::to_string(i)));
    expected.push_back("frame 1 0 " + std::to_string(i));
    if (i % 7 == 0) world.run_for(30'000);
  }
  world.run_until_idle();
  EXPECT_EQ(peer(2).take(), expected);
  EXPECT_FALSE(peer(1).send(3, "nobody"));
}

TEST_F(SimNetworkTest, ADeadProcessResetsItsConnectionsAndRefusesNewOnesUntilItIsBack) {
  start(2);
  peer(2).kill();
  world.run_for(100 * kMs);
  EXPECT_EQ(peer(1).diary.front(), "down 2 refused");
  EXPECT_GE(peer(1).count("down 2 refused"), 3u);  // each refused attempt is told
  EXPECT_FALSE(peer(1).connected(2));
  EXPECT_FALSE(peer(1).send(2, "lost"));
  peer(1).diary.clear();
  join(2);
  world.run_for(1000 * kMs);
  EXPECT_EQ(peer(1).count("up 2"), 1u);
  EXPECT_TRUE(peer(2).connected(1));
}

TEST_F(SimNetworkTest, AMachineWithoutPowerIsSilent) {
  start(2);
  network.power_off(id(2));
  peer(2).kill();
  world.run_for(1400 * kMs);
  EXPECT_TRUE(peer(1).connected(2));
  EXPECT_TRUE(peer(1).diary.empty());
  world.run_for(1000 * kMs);
  EXPECT_EQ(peer(1).take(), Lines{"down 2 silent"});
  join(2);
  world.run_for(2000 * kMs);
  EXPECT_EQ(peer(1).take(), Lines{"up 2"});
}

TEST_F(SimNetworkTest, AShortCutOnlyDelaysAndALongOneBreaksTheConnection) {
  start(2);
  network.cut(id(1), id(2));
  ASSERT_TRUE(peer(1).send(2, "a"));
  ASSERT_TRUE(peer(1).send(2, "b"));
  world.run_for(1000 * kMs);
  EXPECT_TRUE(peer(2).diary.empty());
  network.heal();
  world.run_until_idle();
  EXPECT_EQ(peer(2).take(), (Lines{"frame 1 0 a", "frame 1 0 b"}));
  network.cut(id(1), id(2));
  ASSERT_TRUE(peer(1).send(2, "c"));
  world.run_for(2000 * kMs);
  EXPECT_EQ(peer(1).take(), Lines{"down 2 silent"});
  EXPECT_EQ(peer(2).take(), Lines{"down 1 silent"});
  network.heal();
  world.run_for(2000 * kMs);
  EXPECT_EQ(peer(2).take(), Lines{"up 1"});
  EXPECT_GT(network.counts().frames_lost, 0u);
}

TEST_F(SimNetworkTest, AOneWayCutLetsTheOtherDirectionThroughUntilSilenceEndsIt) {
  start(2);
  network.cut_one_way(id(1), id(2));
  ASSERT_TRUE(peer(2).send(1, "still heard"));
  ASSERT_TRUE(peer(1).send(2, "not heard"));
  world.run_for(1000 * kMs);
  EXPECT_EQ(peer(1).take(), Lines{"frame 2 0 still heard"});
  EXPECT_TRUE(peer(2).diary.empty());
  world.run_for(2000 * kMs);
  EXPECT_EQ(peer(2).take(), Lines{"down 1 silent"});
  EXPECT_EQ(peer(1).count("down 2"), 1u);
  EXPECT_EQ(peer(1).count("up 2"), 0u);  // a hello needs both directions
}

TEST_F(SimNetworkTest, ABridgeReachesBothSidesThatDoNotReachEachOther) {
  start(3);
  network.bridge(id(2));
  world.run_for(2000 * kMs);
  EXPECT_TRUE(peer(1).connected(2) && peer(2).connected(3));
  EXPECT_FALSE(peer(1).connected(3) || peer(3).connected(1));
  network.heal();
  network.partition({{id(1), id(2)}, {id(3)}});
  world.run_for(3000 * kMs);
  EXPECT_TRUE(peer(1).connected(2));
  EXPECT_FALSE(peer(1).connected(3) || peer(2).connected(3));
}

TEST_F(SimNetworkTest, APausedNodeRunsNothingAndFindsItsConnectionsLostWhenItGoesOn) {
  start(2);
  network.pause(id(2));
  ASSERT_TRUE(peer(1).send(2, "waits"));
  world.run_for(1000 * kMs);
  EXPECT_TRUE(peer(2).diary.empty());
  network.resume(id(2));
  world.run_until_idle();
  EXPECT_EQ(peer(2).take(), Lines{"frame 1 0 waits"});
  network.pause(id(2));
  world.run_for(3000 * kMs);
  EXPECT_EQ(peer(1).take(), Lines{"down 2 silent"});
  EXPECT_TRUE(peer(2).diary.empty());
  network.resume(id(2));
  world.run_for(2000 * kMs);
  EXPECT_EQ(peer(2).count("down 1"), 1u);
  EXPECT_EQ(peer(2).diary.back(), "up 1");
}

TEST_F(SimNetworkTest, ASlowLinkDelaysOneDirection) {
  start(2);
  network.slow(id(1), id(2), 200 * kMs);
  ASSERT_TRUE(peer(1).send(2, "slow"));
  ASSERT_TRUE(peer(2).send(1, "fast"));
  world.run_for(50 * kMs);
  EXPECT_EQ(peer(1).take(), Lines{"frame 2 0 fast"});
  EXPECT_TRUE(peer(2).diary.empty());
  world.run_for(250 * kMs);
  EXPECT_EQ(peer(2).take(), Lines{"frame 1 0 slow"});
}

TEST_F(SimNetworkTest, AFlappingLinkComesAndGoesUntilHealed) {
  start(2);
  network.flap(id(1), id(2), 4000 * kMs);
  world.run_for(60'000 * kMs);
  EXPECT_GT(peer(1).count("down 2"), 1u);
  EXPECT_GT(peer(1).count("up 2"), 1u);
  network.heal();
  world.run_for(3000 * kMs);
  EXPECT_TRUE(peer(1).connected(2) && peer(2).connected(1));
}

TEST_F(SimNetworkTest, AFullQueueTakesNoMore) {
  network.config().queue_bytes_max = 1000;
  start(2);
  network.cut(id(1), id(2));
  int taken = 0;
  while (taken < 100 && peer(1).send(2, std::string(100, 'x'))) ++taken;
  EXPECT_EQ(taken, 7);
  EXPECT_TRUE(peer(1).send(2, std::string(10, 'x'), PeerChannel::kBulk));  // a queue of its own
  network.heal();
  world.run_until_idle();
  EXPECT_EQ(peer(2).count("frame"), 8u);
  EXPECT_TRUE(peer(1).send(2, "again"));
}

TEST_F(SimNetworkTest, LossShowsAsABrokenConnectionNeverAsAGap) {
  network.config().resets_per_million = 20'000;
  start(2);
  int sent = 0;
  for (int i = 0; i < 2'000; ++i) {
    sent += peer(1).send(2, std::to_string(i)) ? 1 : 0;
    world.run_for(kMs);
  }
  EXPECT_GT(peer(2).count("down 1"), 10u);
  int last = -1;
  bool broken = false;
  for (const std::string& line : peer(2).diary) {
    if (line.starts_with("down")) broken = true;
    if (!line.starts_with("frame")) continue;
    int number = std::stoi(line.substr(line.rfind(' ')));
    EXPECT_TRUE(number == last + 1 || broken) << number << " after " << last;
    EXPECT_GT(number, last);
    last = number;
    broken = false;
  }
  EXPECT_GT(sent, 500);
}

TEST_F(SimNetworkTest, ANewHelloTellsThatAFolderIsNoLongerEmpty) {
  join(1);
  peer(1).transport->set_empty(true);
  join(2);
  world.run_for(100 * kMs);
  EXPECT_EQ(peer(2).take(), Lines{"up 1 empty"});
  peer(1).transport->set_empty(false);
  world.run_for(100 * kMs);
  EXPECT_EQ(peer(2).take(), (Lines{"down 1 silent", "up 1"}));
}

TEST_F(SimNetworkTest, AListenerIsToldThePresentStateFirst) {
  start(3);
  peer(1).transport->listen(0, nullptr);
  ASSERT_TRUE(peer(2).send(1, "nobody listens"));
  world.run_until_idle();
  EXPECT_TRUE(peer(1).diary.empty());
  peer(1).transport->listen(0, &peer(1));
  ASSERT_TRUE(peer(2).send(1, "heard"));
  world.run_until_idle();
  EXPECT_EQ(peer(1).take(), (Lines{"up 2", "up 3", "frame 2 0 heard"}));
}

TEST(SimNetworkShards, FramesGoToTheShardTheyAreRoutedTo) {
  World world(3);
  SimDisk disk(world.scheduler());
  SimNetwork network(world);
  Peer one(world, network, disk, 1, 2);
  Peer two(world, network, disk, 2, 1);
  world.run_until_idle();
  one.diary.clear();
  for (uint32_t route : {0u, 1u, 2u}) {
    PeerFrame frame;
    frame.route = route;
    frame.body = Bytes::copy_of(std::to_string(route));
    frame.bulk = SharedBytes(Bytes::copy_of(std::string_view("bulk")));
    ASSERT_TRUE(two.transport->send(BrokerId(1), PeerChannel::kReplication, std::move(frame)));
  }
  world.run_until_idle();
  // Only shard 0 has a listener here.
  EXPECT_EQ(one.take(), (std::vector<std::string>{"frame 2 1 0+bulk", "frame 2 1 2+bulk"}));
}

TEST(SimNetworkDeterminism, TheSameSeedGivesTheSameTrace) {
  auto trace = [](uint64_t seed) {
    World world(seed);
    SimDisk disk(world.scheduler());
    NetworkConfig config;
    config.resets_per_million = 5'000;
    SimNetwork network(world, config);
    Peer one(world, network, disk, 1);
    Peer two(world, network, disk, 2);
    for (int i = 0; i < 500; ++i) {
      one.send(2, std::to_string(i));
      if (i == 200) network.cut_one_way(BrokerId(2), BrokerId(1));
      if (i == 400) network.heal();
      world.run_for(10 * kMs);
    }
    return world.trace_hash();
  };
  EXPECT_EQ(trace(1), trace(1));
  EXPECT_NE(trace(1), trace(2));
}

}  // namespace
}  // namespace trilog::sim
