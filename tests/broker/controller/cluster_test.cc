// The controller of three brokers: registrations, sessions, failovers and shutdowns on virtual time. The brokers are
// played by the test; their metadata is kept by a quorum of one, so that the controller itself can crash.
#include <gtest/gtest.h>

#include <functional>

#include "broker/controller/leader_election.h"
#include "tests/broker/controller/controller_node.h"
#include "tests/broker/controller/image_builder.h"

namespace trilog {
namespace {

using peer::PeerError;
using testing::brokers;
using testing::ControllerNode;

constexpr int64_t kMs = 1'000'000;

// One of the brokers.
struct Player {
  int id = 0;
  bool answers = true;  // heartbeats and probes
  bool registered = false;
  BrokerEpoch epoch{-1};  // as its folder records it
  DirectoryId directory;
  LeaderEpoch last_epoch{0};
  Offset log_end{0};
  int64_t clock_ahead_ms = 0;
  bool disk_full = false;
  std::optional<peer::HeartbeatAnswer> told;
};

class Cluster {
 public:
  // Brokers 2, 3 and 4; broker 1 is the controller's own and carries nothing.
  explicit Cluster(uint64_t seed = 1) : node(seed) {
    for (int id = 2; id <= 4; ++id)
      players[id] = {id, true, false, BrokerEpoch(-1), DirectoryId(9, static_cast<uint64_t>(id))};
  }
  void begin() {
    start_controller();
    for (auto& [id, player] : players) start(player);
    api::CreateTopicRequest request{.name = "orders", .partitions = 3, .replicas = 3};
    ASSERT_TRUE(drain_own_broker());
    ASSERT_TRUE(node.create(std::move(request)).ok());
  }
  void start_controller() {
    node.start();
    ControllerPeers peers;
    peers.self = BrokerId(1);
    peers.probe = [this](BrokerId to, peer::ProbeRequest, UniqueFunction<void(Result<peer::ProbeAnswer>)> done) {
      auto found = players.find(to.value());
      if (found == players.end() || !found->second.answers) return;  // silence
      peer::ProbeAnswer answer{found->second.registered ? found->second.epoch : BrokerEpoch(-1),
                               node.image().applied()};
      node.env->executor().post([done = std::move(done), answer]() mutable { done(answer); });
    };
    peers.hear = [this](BrokerId to, peer::HearingRequest asked,
                        UniqueFunction<void(Result<peer::HearingAnswer>)> done) {
      ++hearings;
      Player& player = players.at(to.value());
      if (!player.answers) return;
      peer::HearingAnswer answer{player.epoch, {}};
      for (const TopicPartition& tp : asked.partitions)
        answer.replicas.push_back({tp, true, player.last_epoch, player.log_end});
      node.env->executor().post([done = std::move(done), answer]() mutable { done(answer); });
    };
    node.controller->set_peers(std::move(peers));
    ASSERT_TRUE(node.world.run_until([&] { return node.log->leading(); }));
    node.world.run_until_idle();
  }
  // The registration of the new controller's own broker waits for the roll call like any other.
  void fail_over() {
    node.kill();
    start_controller();
  }
  // The controller's own broker takes no replicas in these tests.
  bool drain_own_broker() {
    peer::HeartbeatRequest request{BrokerId(1), *node.epoch, node.image().applied(),
                                   true,        {},          node.env->clock().wall_ms()};
    node.controller->heartbeat(request, [](peer::HeartbeatAnswer) {});
    return node.world.run_until([&] { return node.image().find_broker(BrokerId(1))->draining; });
  }

  Registration registration(const Player& player) {
    Registration made{BrokerId(player.id), player.directory, "host:1", "1"};
    made.recorded_epoch = player.epoch;
    made.recovered = peer::Recovered::kAllFine;
    return made;
  }
  api::Answer<BrokerEpoch> try_register(Registration made) {
    return node.wait<BrokerEpoch>(
        [&](auto done) { node.controller->register_broker(std::move(made), std::move(done)); });
  }
  void start(Player& player, bool clean = false) {
    player.registered = false;
    Registration made = registration(player);
    made.clean = clean;
    bool answered = false;
    node.controller->register_broker(std::move(made), [&](api::Answer<BrokerEpoch> epoch) {
      ASSERT_TRUE(epoch.ok()) << epoch.error().message;
      player.epoch = epoch.value();
      player.registered = answered = true;
    });
    ASSERT_TRUE(node.world.run_until([&] { return answered; }));
    player.answers = true;
    beat(player);
  }
  void beat(Player& player, bool wants_shutdown = false) {
    player.told.reset();
    peer::HeartbeatRequest request{BrokerId(player.id), player.epoch, node.image().applied(), wants_shutdown, {}};
    request.wall_ms = node.env->clock().wall_ms() + player.clock_ahead_ms;
    request.disk_full = player.disk_full;
    node.controller->heartbeat(request, [&player](peer::HeartbeatAnswer answer) { player.told = answer; });
    ASSERT_TRUE(node.world.run_until([&] { return player.told.has_value(); }));
  }
  // Time passes, with a heartbeat of everyone who answers each 500 ms.
  void live(int64_t ms) {
    for (int64_t end = node.world.now_ns() + ms * kMs; node.world.now_ns() < end;) {
      for (auto& [id, player] : players) {
        if (!player.answers || !player.registered) continue;
        ASSERT_NO_FATAL_FAILURE(beat(player));
      }
      node.world.run_for(std::min<int64_t>(500 * kMs, std::max<int64_t>(1, end - node.world.now_ns())));
    }
  }
  bool fenced(int id) { return node.image().find_broker(BrokerId(id))->fenced; }
  const PartitionImage& part(int p) { return node.image().find_topic("orders")->partitions[static_cast<size_t>(p)]; }
  int led_by(int id) {
    int count = 0;
    for (int p = 0; p < 3; ++p) count += part(p).leader == BrokerId(id);
    return count;
  }

  ControllerNode node;
  std::map<int, Player> players;
  int hearings = 0;
};

TEST(ControllerCluster, ASilentBrokerIsFencedAfterItsSessionAndItsPartitionsGoOn) {  // C5, F6
  Cluster cluster;
  ASSERT_NO_FATAL_FAILURE(cluster.begin());
  ASSERT_NO_FATAL_FAILURE(cluster.live(5'000));
  EXPECT_EQ(cluster.led_by(2), 1);
  cluster.players[2].answers = false;
  const Offset asleep_at = cluster.node.image().applied();
  ASSERT_NO_FATAL_FAILURE(cluster.live(2'000));
  EXPECT_FALSE(cluster.fenced(2));
  ASSERT_NO_FATAL_FAILURE(cluster.live(1'600));
  EXPECT_TRUE(cluster.fenced(2));
  EXPECT_EQ(cluster.led_by(2), 0);
  for (int p = 0; p < 3; ++p) {
    EXPECT_EQ(cluster.part(p).isr.size(), 2u);
    EXPECT_NE(cluster.part(p).leader, kNoBroker);
  }
  // It was only asleep: it is let in again, without a new registration, but not while it believes that it still leads.
  std::optional<peer::HeartbeatAnswer> told;
  cluster.node.controller->heartbeat({BrokerId(2), cluster.players[2].epoch, asleep_at, false, {}},
                                     [&](peer::HeartbeatAnswer answer) { told = answer; });
  cluster.node.world.run_until_idle();
  EXPECT_TRUE(told->fenced);
  cluster.players[2].answers = true;
  ASSERT_NO_FATAL_FAILURE(cluster.beat(cluster.players[2]));
  EXPECT_FALSE(cluster.players[2].told->fenced);
}

TEST(ControllerCluster, TwoRefusedConnectionsFenceAtOnceAndOneDoesNot) {  // C5
  Cluster cluster;
  ASSERT_NO_FATAL_FAILURE(cluster.begin());
  cluster.node.controller->on_peer_disconnected(BrokerId(3), false);
  cluster.node.controller->on_peer_disconnected(BrokerId(3), true);
  cluster.node.world.run_for(20 * kMs);
  cluster.node.controller->on_peer_disconnected(BrokerId(3), true);
  cluster.node.world.run_for(200 * kMs);
  EXPECT_FALSE(cluster.fenced(3));
  cluster.node.controller->on_peer_connected(BrokerId(3));  // it was a reset, no death
  cluster.node.controller->on_peer_disconnected(BrokerId(3), true);
  cluster.node.world.run_for(50 * kMs);
  EXPECT_FALSE(cluster.fenced(3));
  cluster.node.controller->on_peer_disconnected(BrokerId(3), true);
  cluster.node.world.run_for(5 * kMs);
  EXPECT_TRUE(cluster.fenced(3));
}

TEST(ControllerCluster, AFlappingBrokerComesAndGoesWithoutHarm) {
  Cluster cluster;
  ASSERT_NO_FATAL_FAILURE(cluster.begin());
  PartitionEpoch before = cluster.part(0).partition_epoch;
  for (int round = 0; round < 10; ++round) {
    cluster.node.controller->on_peer_disconnected(BrokerId(4), true);
    cluster.node.world.run_for(60 * kMs);
    cluster.node.controller->on_peer_disconnected(BrokerId(4), true);
    cluster.node.world.run_for(20 * kMs);
    EXPECT_TRUE(cluster.fenced(4));
    cluster.node.controller->on_peer_connected(BrokerId(4));
    ASSERT_NO_FATAL_FAILURE(cluster.beat(cluster.players[4]));
    EXPECT_FALSE(cluster.fenced(4));
  }
  // It left the ISR once; who lets it in again is the leader.
  EXPECT_EQ(cluster.part(0).partition_epoch, before + 1);
  EXPECT_EQ(cluster.led_by(4), 0);
}

TEST(ControllerCluster, ASecondFolderWithTheSameIdIsRefusedUntilTheFirstHasEnded) {  // C3, S14
  Cluster cluster;
  ASSERT_NO_FATAL_FAILURE(cluster.begin());
  Registration other = cluster.registration(cluster.players[2]);
  other.directory = DirectoryId(66, 66);
  EXPECT_FALSE(cluster.try_register(other).ok());
  cluster.players[2].answers = false;
  ASSERT_NO_FATAL_FAILURE(cluster.live(3'600));
  EXPECT_TRUE(cluster.try_register(other).ok());
  for (int p = 0; p < 3; ++p) EXPECT_FALSE(contains(cluster.part(p).isr, BrokerId(2)));
  ASSERT_NO_FATAL_FAILURE(cluster.beat(cluster.players[2]));
  EXPECT_EQ(cluster.players[2].told->error, PeerError::kStaleBrokerEpoch);
}

TEST(ControllerCluster, TheSameFolderReplacesItsFormerProcessAtOnce) {  // C3
  Cluster cluster;
  ASSERT_NO_FATAL_FAILURE(cluster.begin());
  BrokerEpoch before = cluster.players[2].epoch;
  int64_t began = cluster.node.world.now_ns();
  ASSERT_NO_FATAL_FAILURE(cluster.start(cluster.players[2]));
  EXPECT_LT(cluster.node.world.now_ns() - began, 100 * kMs);
  EXPECT_GT(cluster.players[2].epoch, before);
  EXPECT_FALSE(cluster.fenced(2));
  EXPECT_EQ(cluster.led_by(2), 0);
}

TEST(ControllerCluster, ABrokerIsLetInOnlyWhenItHasSeenItsOwnRegistration) {  // C4
  Cluster cluster;
  ASSERT_NO_FATAL_FAILURE(cluster.begin());
  auto epoch = cluster.try_register(cluster.registration(cluster.players[2]));
  peer::HeartbeatRequest early{BrokerId(2), epoch.value(), Offset(epoch->value() - 1), false, {}};
  std::optional<peer::HeartbeatAnswer> told;
  cluster.node.controller->heartbeat(early, [&](peer::HeartbeatAnswer answer) { told = answer; });
  cluster.node.world.run_until_idle();
  EXPECT_TRUE(told->fenced);
  early.applied = Offset(epoch->value());
  cluster.node.controller->heartbeat(early, [&](peer::HeartbeatAnswer answer) { told = answer; });
  cluster.node.world.run_until_idle();
  EXPECT_FALSE(told->fenced);
}

TEST(ControllerCluster, AClockThatDisagreesWithMostIsTold) {  // F14
  constexpr int64_t kTenYearsMs = 10LL * 365 * 24 * 3600 * 1000;
  for (int64_t off_ms : {kTenYearsMs, -kTenYearsMs}) {
    Cluster cluster;
    ASSERT_NO_FATAL_FAILURE(cluster.begin());
    auto agree = [&] {
      std::vector<bool> told;
      for (auto& [id, player] : cluster.players) {
        cluster.beat(player);
        told.push_back(player.told->clock_agrees);
      }
      return told;
    };
    agree();
    EXPECT_EQ(agree(), std::vector<bool>({true, true, true}));
    cluster.players[3].clock_ahead_ms = off_ms;
    agree();
    EXPECT_EQ(agree(), std::vector<bool>({true, false, true}));
    // Half against half: nobody knows who is right.
    cluster.players[2].clock_ahead_ms = off_ms;
    agree();
    EXPECT_EQ(agree(), std::vector<bool>({false, false, false}));
    cluster.players[2].clock_ahead_ms = cluster.players[3].clock_ahead_ms = 1000;
    agree();
    EXPECT_EQ(agree(), std::vector<bool>({true, true, true}));
  }
}

TEST(ControllerCluster, ANewControllerStartsSessionsInFull) {  // C5
  Cluster cluster;
  ASSERT_NO_FATAL_FAILURE(cluster.begin());
  cluster.players[2].answers = false;
  ASSERT_NO_FATAL_FAILURE(cluster.live(2'500));
  ASSERT_NO_FATAL_FAILURE(cluster.fail_over());
  ASSERT_NO_FATAL_FAILURE(cluster.live(2'500));
  EXPECT_FALSE(cluster.fenced(2));
  ASSERT_NO_FATAL_FAILURE(cluster.live(1'100));
  EXPECT_TRUE(cluster.fenced(2));
  EXPECT_FALSE(cluster.fenced(3));
}

TEST(ControllerCluster, ARegistrationAfterAFailoverWaitsUntilItIsKnownWhoElseIsGone) {  // C3
  Cluster cluster;
  ASSERT_NO_FATAL_FAILURE(cluster.begin());
  for (auto& [id, player] : cluster.players) player.answers = player.registered = false;
  ASSERT_NO_FATAL_FAILURE(cluster.fail_over());
  int answers = 0;
  for (int id : {2, 3}) {
    cluster.node.controller->register_broker(cluster.registration(cluster.players[id]),
                                             [&, id](api::Answer<BrokerEpoch> epoch) {
                                               ASSERT_TRUE(epoch.ok());
                                               cluster.players[id].epoch = epoch.value();
                                               cluster.players[id].registered = cluster.players[id].answers = true;
                                               ++answers;
                                             });
  }
  cluster.node.world.run_for(2'900 * kMs);
  EXPECT_EQ(answers, 0);  // broker 4 may be alive still
  cluster.node.world.run_for(200 * kMs);
  EXPECT_EQ(answers, 2);
  // All three went together: all three are candidates, though one never came back.
  for (int p = 0; p < 3; ++p) EXPECT_EQ(cluster.part(p).elr.size(), 3u);
}

// C8's exception: nothing is lost by a power cut of all, so somebody leads again; of two that are heard the further
// one.
TEST(ControllerCluster, AfterAPowerCutOfAllTheFurthestOfEnoughLogsLeads) {
  Cluster cluster;
  ASSERT_NO_FATAL_FAILURE(cluster.begin());
  for (auto& [id, player] : cluster.players) player.answers = player.registered = false;
  cluster.players[2].log_end = Offset(7);
  cluster.players[3].log_end = Offset(9);
  ASSERT_NO_FATAL_FAILURE(cluster.fail_over());
  cluster.node.world.run_for(3'100 * kMs);
  ASSERT_NO_FATAL_FAILURE(cluster.start(cluster.players[2]));
  cluster.node.world.run_for(400 * kMs);
  EXPECT_EQ(cluster.hearings, 0);  // one alone says nothing
  EXPECT_EQ(cluster.led_by(-1), 3);
  ASSERT_NO_FATAL_FAILURE(cluster.start(cluster.players[3]));
  cluster.node.world.run_for(50 * kMs);
  EXPECT_EQ(cluster.led_by(3), 3);
  EXPECT_EQ(cluster.part(0).isr, brokers({3}));
}

TEST(ControllerCluster, AfterACleanStopOfAllNobodyHasToBeHeard) {
  Cluster cluster;
  ASSERT_NO_FATAL_FAILURE(cluster.begin());
  for (auto& [id, player] : cluster.players) player.answers = player.registered = false;
  ASSERT_NO_FATAL_FAILURE(cluster.fail_over());
  cluster.node.world.run_for(3'100 * kMs);
  ASSERT_NO_FATAL_FAILURE(cluster.start(cluster.players[4], true));
  EXPECT_EQ(cluster.led_by(4), 3);
  EXPECT_EQ(cluster.hearings, 0);
}

TEST(ControllerCluster, WipedFoldersLeaveNobodyUntilAnOperatorSaysSoAndThatIsRecorded) {  // C7, F17
  Cluster cluster;
  ASSERT_NO_FATAL_FAILURE(cluster.begin());
  for (auto& [id, player] : cluster.players) player.answers = player.registered = false;
  ASSERT_NO_FATAL_FAILURE(cluster.fail_over());
  cluster.node.world.run_for(3'100 * kMs);
  for (int id : {2, 3}) {
    cluster.players[id].directory = DirectoryId(70, static_cast<uint64_t>(id));
    cluster.players[id].epoch = BrokerEpoch(-1);
    ASSERT_NO_FATAL_FAILURE(cluster.start(cluster.players[id]));
  }
  ASSERT_NO_FATAL_FAILURE(cluster.live(2'000));
  EXPECT_EQ(cluster.led_by(-1), 3);
  EXPECT_EQ(cluster.part(0).elr, brokers({4}));
  cluster.players[3].log_end = Offset(5);
  auto elect = [&](api::ElectLeaderRequest request) {
    return cluster.node.wait<api::ElectLeaderResult>(
        [&](auto done) { cluster.node.controller->elect_leader_with_loss(std::move(request), std::move(done)); });
  };
  auto asked = elect({.topic = "orders", .partition = PartitionId(1), .validate_only = true});
  ASSERT_TRUE(asked.ok()) << asked.error().message;
  EXPECT_EQ(asked->heard.size(), 2u);
  EXPECT_EQ(cluster.led_by(-1), 3);
  EXPECT_TRUE(cluster.node.image().audit().empty());
  auto elected = elect({.topic = "orders", .partition = PartitionId(1)});
  ASSERT_TRUE(elected.ok());
  EXPECT_EQ(elected->leader, BrokerId(3));
  EXPECT_EQ(cluster.part(1).loss_epoch, cluster.part(1).leader_epoch);
  ASSERT_EQ(cluster.node.image().audit().size(), 1u);
  EXPECT_EQ(cluster.node.image().audit().front().broker, BrokerId(3));
  EXPECT_FALSE(elect({.topic = "orders", .partition = PartitionId(1)}).ok());  // it has a leader now
  EXPECT_EQ(elect({.topic = "nothing"}).error().code, api::ErrorCode::kUnknownTopic);
}

TEST(ControllerCluster, AShutdownHandsOverThenWaitsForTheOthersToKnow) {  // C9
  Cluster cluster;
  ASSERT_NO_FATAL_FAILURE(cluster.begin());
  ASSERT_NO_FATAL_FAILURE(cluster.live(600));
  Player& leaving = cluster.players[2];
  ASSERT_NO_FATAL_FAILURE(cluster.beat(leaving, true));
  EXPECT_EQ(cluster.led_by(2), 0);
  EXPECT_FALSE(cluster.fenced(2));
  EXPECT_EQ(leaving.told->leads, 0);
  EXPECT_FALSE(leaving.told->may_shut_down);
  auto in_sync_of = [&] {
    int count = 0;
    for (int p = 0; p < 3; ++p) count += contains(cluster.part(p).isr, BrokerId(2)) ? 1 : 0;
    return count;
  };
  EXPECT_GT(in_sync_of(), 0);
  ASSERT_NO_FATAL_FAILURE(cluster.beat(leaving, true));  // it knows now that it leads nothing (X12)
  EXPECT_EQ(in_sync_of(), 0);
  EXPECT_FALSE(leaving.told->may_shut_down);
  for (int id : {3, 4}) ASSERT_NO_FATAL_FAILURE(cluster.beat(cluster.players[id]));
  // The controller's own broker as well.
  peer::HeartbeatRequest own{BrokerId(1), *cluster.node.epoch, cluster.node.image().applied(), false, {}};
  cluster.node.controller->heartbeat(own, [](peer::HeartbeatAnswer) {});
  ASSERT_NO_FATAL_FAILURE(cluster.beat(leaving, true));
  EXPECT_TRUE(leaving.told->may_shut_down);
  std::optional<peer::ControlledShutdownAnswer> gone;
  cluster.node.controller->controlled_shutdown({BrokerId(2), leaving.epoch},
                                               [&](peer::ControlledShutdownAnswer answer) { gone = answer; });
  cluster.node.world.run_until_idle();
  EXPECT_EQ(gone->error, PeerError::kNone);
  EXPECT_TRUE(cluster.fenced(2));
  ASSERT_NO_FATAL_FAILURE(cluster.start(leaving, true));
  EXPECT_FALSE(cluster.fenced(2));
  EXPECT_TRUE(cluster.node.image().find_broker(BrokerId(2))->eligible());
}

TEST(ControllerCluster, AnIsrChangeIsAnsweredTwiceAndFollowsTheTopicsId) {  // R8, C11
  Cluster cluster;
  ASSERT_NO_FATAL_FAILURE(cluster.begin());
  const TopicId id = cluster.node.image().find_topic("orders")->id;
  const PartitionImage before = cluster.part(0);
  Player& leader = cluster.players[before.leader.value()];
  peer::AlterPartitionRequest request{BrokerId(leader.id), leader.epoch, {}};
  peer::InSyncReplica self{BrokerId(leader.id), leader.epoch};
  request.partitions.push_back({{id, PartitionId(0)}, before.leader_epoch, before.partition_epoch, false, {self}});
  std::optional<peer::AlterPartitionAnswer> told;
  auto alter = [&](const peer::AlterPartitionRequest& asked) {
    told.reset();
    cluster.node.controller->alter_partitions(asked,
                                              [&](peer::AlterPartitionAnswer answer) { told = std::move(answer); });
    cluster.node.world.run_until_idle();
    return told->error == PeerError::kNone ? told->partitions.at(0).error : told->error;
  };
  EXPECT_EQ(alter(request), PeerError::kNone);
  EXPECT_EQ(told->partitions[0].elr.size(), 2u);
  EXPECT_EQ(told->partitions[0].min_in_sync, 2);
  PartitionEpoch after = told->partitions[0].partition_epoch;
  EXPECT_EQ(alter(request), PeerError::kNone);  // the answer was lost
  EXPECT_EQ(told->partitions[0].partition_epoch, after);
  request.epoch = request.epoch + 1;
  EXPECT_EQ(alter(request), PeerError::kNotController);
  request.epoch = request.epoch - 2;
  EXPECT_EQ(alter(request), PeerError::kStaleBrokerEpoch);
  request.epoch = request.epoch + 1;
  ASSERT_TRUE(cluster.node.remove({.name = "orders"}).ok());
  ASSERT_TRUE(cluster.node.create({.name = "orders", .partitions = 3, .replicas = 3}).ok());
  EXPECT_EQ(alter(request), PeerError::kUnknownPartition);
}

TEST(ControllerCluster, ALeadershipMovesOnlyToWhoIsInSync) {  // C14
  Cluster cluster;
  ASSERT_NO_FATAL_FAILURE(cluster.begin());
  auto move = [&](int p, int to) {
    return cluster.node.wait<api::MoveLeaderResult>([&](auto done) {
      cluster.node.controller->move_leader({"orders", PartitionId(p), BrokerId(to), false}, std::move(done));
    });
  };
  BrokerId old = cluster.part(0).leader;
  int to = old == BrokerId(4) ? 3 : 4;
  LeaderEpoch before = cluster.part(0).leader_epoch;
  EXPECT_TRUE(move(0, to)->changed);
  EXPECT_EQ(cluster.part(0).leader, BrokerId(to));
  EXPECT_EQ(cluster.part(0).leader_epoch, before + 1);
  EXPECT_FALSE(move(0, to)->changed);
  EXPECT_FALSE(move(0, 1).ok());
  EXPECT_EQ(move(9, to).error().code, api::ErrorCode::kUnknownPartition);
}

class LeadersReturn : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NO_FATAL_FAILURE(cluster.begin()); }
  void fail(int id) {
    cluster.players[id].answers = false;
    ASSERT_NO_FATAL_FAILURE(cluster.live(5'000));
    ASSERT_TRUE(cluster.fenced(id));
  }
  // The leaders of all partitions but `except` take every replica in.
  void sync_all(const std::string& except = "") {
    const ImagePtr before = cluster.node.loader->image();
    for (const auto& [name, topic] : before->topics()) {
      if (name == except) continue;
      const TopicId id = topic->id;
      for (size_t p = 0; p < topic->partitions.size(); ++p) {
        const PartitionImage& now = cluster.node.image().find_topic(id)->partitions[p];
        Player& leader = cluster.players[now.leader.value()];
        peer::AlterPartition wanted{
            {id, PartitionId(static_cast<int32_t>(p))}, now.leader_epoch, now.partition_epoch, false, {}};
        for (BrokerId replica : now.replicas)
          wanted.isr.push_back({replica, cluster.node.image().find_broker(replica)->epoch});
        std::optional<PeerError> told;
        cluster.node.controller->alter_partitions(
            {BrokerId(leader.id), leader.epoch, {wanted}},
            [&](const peer::AlterPartitionAnswer& answer) { told = answer.partitions.at(0).error; });
        ASSERT_TRUE(cluster.node.world.run_until([&] { return told.has_value(); }));
        ASSERT_EQ(*told, PeerError::kNone);
      }
    }
  }
  api::Answer<api::MoveLeaderResult> move(int p, int to) {
    return cluster.node.wait<api::MoveLeaderResult>([&](auto done) {
      cluster.node.controller->move_leader({"orders", PartitionId(p), BrokerId(to), false}, std::move(done));
    });
  }
  int led_in(const std::string& topic, int id) {
    int count = 0;
    for (const PartitionImage& p : cluster.node.image().find_topic(topic)->partitions)
      count += p.leader == BrokerId(id);
    return count;
  }
  Cluster cluster;
};

TEST_F(LeadersReturn, SomeSecondsAfterABrokerThatCameBackIsInSyncAgain) {  // C14
  ASSERT_NO_FATAL_FAILURE(fail(2));
  EXPECT_EQ(cluster.led_by(2), 0);
  ASSERT_NO_FATAL_FAILURE(cluster.start(cluster.players[2]));
  ASSERT_NO_FATAL_FAILURE(cluster.live(20'000));
  EXPECT_EQ(cluster.led_by(2), 0);  // it has not caught up
  ASSERT_NO_FATAL_FAILURE(sync_all());
  ASSERT_NO_FATAL_FAILURE(cluster.live(2'000));
  EXPECT_EQ(cluster.led_by(2), 0);
  ASSERT_NO_FATAL_FAILURE(cluster.live(2'000));
  for (int id : {2, 3, 4}) EXPECT_EQ(cluster.led_by(id), 1) << id;
  for (int p = 0; p < 3; ++p) EXPECT_EQ(cluster.part(p).leader, cluster.part(p).replicas.front());
}

TEST_F(LeadersReturn, NotWhileAnythingIsNotInSync) {  // C14
  ASSERT_TRUE(cluster.node.create({.name = "other", .partitions = 1, .replicas = 3}).ok());
  ASSERT_NO_FATAL_FAILURE(fail(2));
  ASSERT_NO_FATAL_FAILURE(cluster.start(cluster.players[2]));
  ASSERT_NO_FATAL_FAILURE(sync_all("other"));
  ASSERT_NO_FATAL_FAILURE(cluster.live(20'000));
  EXPECT_EQ(cluster.led_by(2), 0);
  // In sync, but the next one dies before the time is up.
  ASSERT_NO_FATAL_FAILURE(sync_all());
  ASSERT_NO_FATAL_FAILURE(cluster.live(1'000));
  for (int refused = 0; refused < 2; ++refused) {
    cluster.node.controller->on_peer_disconnected(BrokerId(4), true);
    cluster.node.world.run_for(60 * kMs);
  }
  cluster.players[4].answers = false;
  ASSERT_NO_FATAL_FAILURE(cluster.live(20'000));
  ASSERT_TRUE(cluster.fenced(4));
  EXPECT_EQ(cluster.led_by(2) + cluster.led_by(3), 3);
  ASSERT_NO_FATAL_FAILURE(cluster.start(cluster.players[4]));
  ASSERT_NO_FATAL_FAILURE(sync_all());
  ASSERT_NO_FATAL_FAILURE(cluster.live(4'000));
  for (int id : {2, 3, 4}) EXPECT_EQ(cluster.led_by(id), 1) << id;
}

TEST_F(LeadersReturn, AFewAtATime) {  // C14
  ASSERT_TRUE(cluster.node.create({.name = "many", .partitions = 240, .replicas = 3}).ok());
  ASSERT_NO_FATAL_FAILURE(fail(3));
  ASSERT_NO_FATAL_FAILURE(cluster.start(cluster.players[3]));
  ASSERT_NO_FATAL_FAILURE(sync_all());
  int before = led_in("many", 3);
  ASSERT_EQ(before, 0);
  for (int second = 0; second < 12; ++second) {
    ASSERT_NO_FATAL_FAILURE(cluster.live(1'000));
    int now = led_in("many", 3);
    EXPECT_LE(now - before, 25 + 25);  // two of the pauses may end in the same second
    before = now;
  }
  EXPECT_EQ(before, 80);
  EXPECT_EQ(cluster.led_by(3), 1);
}

TEST_F(LeadersReturn, NotWhatAnOperatorMovedOrDrained) {  // C14
  ASSERT_NO_FATAL_FAILURE(fail(2));
  ASSERT_NO_FATAL_FAILURE(cluster.start(cluster.players[2]));
  ASSERT_NO_FATAL_FAILURE(sync_all());
  int of_two = 0;
  while (cluster.part(of_two).replicas.front() != BrokerId(2)) ++of_two;
  const int to = cluster.part(of_two).leader == BrokerId(3) ? 4 : 3;
  ASSERT_TRUE(move(of_two, to).ok());
  ASSERT_NO_FATAL_FAILURE(cluster.live(10'000));
  EXPECT_EQ(cluster.part(of_two).leader, BrokerId(to));
  // By then nothing is pending any more: a drained node stays so as well.
  auto drain = [&](bool validate_only) {
    return cluster.node.wait<api::DrainResult>([&](auto done) {
      cluster.node.controller->drain_broker({BrokerId(to), validate_only}, std::move(done));
    });
  };
  EXPECT_EQ(drain(true)->moved, cluster.led_by(to));
  EXPECT_GT(cluster.led_by(to), 0);
  EXPECT_GT(drain(false)->moved, 0);
  ASSERT_NO_FATAL_FAILURE(cluster.live(10'000));
  EXPECT_EQ(cluster.led_by(to), 0);
}

TEST_F(LeadersReturn, AFullDiskLeadsNothingThatAnotherInSyncCanLead) {  // S8
  ASSERT_NO_FATAL_FAILURE(cluster.live(1'000));
  ASSERT_EQ(cluster.led_by(2), 1);
  cluster.players[2].disk_full = true;
  ASSERT_NO_FATAL_FAILURE(cluster.live(1'000));
  EXPECT_EQ(cluster.led_by(2), 0);
  for (int p = 0; p < 3; ++p) EXPECT_EQ(cluster.part(p).isr.size(), 3u);  // it follows as long as it can
  cluster.players[3].disk_full = true;
  ASSERT_NO_FATAL_FAILURE(cluster.live(10'000));
  EXPECT_EQ(cluster.led_by(4), 3);
  cluster.players[4].disk_full = true;
  ASSERT_NO_FATAL_FAILURE(cluster.live(1'000));
  EXPECT_EQ(cluster.led_by(4), 3);  // nobody is better off
  for (int id : {2, 3, 4}) cluster.players[id].disk_full = false;
  ASSERT_NO_FATAL_FAILURE(cluster.live(4'500));
  for (int id : {2, 3, 4}) EXPECT_EQ(cluster.led_by(id), 1) << id;
}

TEST(ControllerCluster, DamageReportedByABrokerMovesItsLeadershipAway) {  // S9
  Cluster cluster;
  ASSERT_NO_FATAL_FAILURE(cluster.begin());
  const TopicId id = cluster.node.image().find_topic("orders")->id;
  BrokerId leader = cluster.part(1).leader;
  peer::HeartbeatRequest request{
      leader, cluster.players[leader.value()].epoch, cluster.node.image().applied(), false, {{id, PartitionId(1)}}};
  cluster.node.controller->heartbeat(request, [](peer::HeartbeatAnswer) {});
  cluster.node.world.run_until_idle();
  EXPECT_NE(cluster.part(1).leader, leader);
  EXPECT_FALSE(contains(cluster.part(1).isr, leader));
}

TEST(ControllerCluster, ABrokerWithThousandsOfPartitionsIsFencedInSteps) {  // C10
  Cluster cluster;
  ASSERT_NO_FATAL_FAILURE(cluster.begin());
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_TRUE(cluster.node.create({.name = name, .partitions = 9'000, .replicas = 3}).ok());
  }
  cluster.players[3].answers = false;
  ASSERT_NO_FATAL_FAILURE(cluster.live(4'000));
  EXPECT_TRUE(cluster.fenced(3));
  for (const auto& [name, topic] : cluster.node.image().topics()) {
    for (const PartitionImage& p : topic->partitions) {
      ASSERT_FALSE(contains(p.isr, BrokerId(3)));
      ASSERT_NE(p.leader, kNoBroker);
    }
  }
}

TEST(ControllerCluster, AClusterOfOneHasNoTimers) {
  ControllerNode node;
  node.run();
  uint64_t before = node.world.scheduler().executed();
  node.world.run_for(60'000 * kMs);
  EXPECT_EQ(node.world.scheduler().executed(), before);
}

}  // namespace
}  // namespace trilog
