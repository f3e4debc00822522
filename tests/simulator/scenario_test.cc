// What seeds of the simulator found, each told as a story of its own: the seed's number would not lead there any more
// as soon as anything draws another number.
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/simulator/context.h"
#include "tests/simulator/observer.h"

namespace trilog::simulator {
namespace {

class Scenario : public ::testing::Test {
 protected:
  Scenario() : world(7), cluster(world, options()), context(world, cluster), observer(context) {
    world.set_log([this](const std::string& env, LogLevel, std::string_view line) { observer.heard(env, line); });
  }
  void SetUp() override {
    cluster.start_all();
    ASSERT_TRUE(cluster.run_until_serving());
    api::CreateTopicRequest request{.name = "orders", .partitions = 3, .replicas = kReplicas};
    auto made = ask<api::CreateTopicResult>(
        1, [&](Broker& broker, auto done) { broker.create_topic(request, std::move(done)); });
    ASSERT_TRUE(made.ok()) << made.answer->error().message;
    settle();
  }
  static sim::SimClusterOptions options() {
    sim::SimClusterOptions options;
    options.broker.offsets_partitions = 1;
    return options;
  }

  template <typename T, typename Call>
  Reply<T> ask(int node, Call call) {
    std::optional<Reply<T>> reply;
    context.gateway.ask<T>(node, 3 * kSecond, std::move(call),
                           [&](Reply<T> answer) { reply.emplace(std::move(answer)); });
    world.run_until([&] { return reply.has_value(); });
    return std::move(*reply);
  }
  bool produce(int node, int32_t partition) {
    auto owner = std::make_shared<std::string>(value_of(context.next_token++, 10));
    api::ProduceRequest request{.topic = "orders", .partition = PartitionId(partition)};
    request.records.push_back({.value = as_bytes(*owner)});
    request.owner = owner;
    auto reply = ask<api::ProduceResult>(
        node, [&](Broker& broker, auto done) { broker.produce(std::move(request), std::move(done)); });
    return reply.ok() && !reply.answer->value().positions[0].error;
  }
  std::optional<api::FetchedPartition> fetch(int node, int32_t partition, int64_t offset) {
    api::FetchRequest request;
    request.positions.push_back({.topic = "orders", .partition = PartitionId(partition), .offset = Offset(offset)});
    auto reply =
        ask<api::FetchResult>(node, [&](Broker& broker, auto done) { broker.fetch(request, std::move(done)); });
    if (!reply.ok() || reply.answer->value()[0].error) return std::nullopt;
    return std::move(reply.answer->value()[0]);
  }
  std::optional<api::Error> commit_error(int node, int64_t offset, api::StreamId stream) {
    api::CommitOffsetsRequest request{.group = "billing", .stream = stream};
    request.offsets.push_back({.topic = "orders", .partition = PartitionId(0), .offset = Offset(offset)});
    auto reply = ask<std::vector<api::CommittedOffset>>(
        node, [&](Broker& broker, auto done) { broker.commit_offsets(request, std::move(done)); });
    if (!reply.answer) return api::Error(api::ErrorCode::kRequestTimedOut, "no answer");
    return reply.ok() ? reply.answer->value()[0].error : reply.answer->error();
  }
  bool commit(int node, int64_t offset) { return !commit_error(node, offset, 0); }
  // For a stream of the node; `lost` is set when the stream is told that it has lost the group.
  std::optional<api::Error> claim(int node, api::StreamId stream, std::optional<api::Error>* lost) {
    api::ClaimGroupRequest request{.group = "billing", .topics = {"orders"}, .stream = stream};
    auto told = [lost](const api::Error& error) {
      if (lost != nullptr) *lost = error;
    };
    auto reply = ask<api::Unit>(
        node, [&](Broker& broker, auto done) { broker.claim_group(request, std::move(told), std::move(done)); });
    if (!reply.answer) return api::Error(api::ErrorCode::kRequestTimedOut, "no answer");
    return reply.ok() ? std::nullopt : std::optional<api::Error>(reply.answer->error());
  }
  void move_offsets_leader(int to) {
    api::MoveLeaderRequest request{.topic = "__consumer_offsets", .partition = PartitionId(0), .to = BrokerId(to)};
    again_until_it_works([&] {
      return ask<api::MoveLeaderResult>(
                 to, [&](Broker& broker, auto done) { broker.move_leader(request, std::move(done)); })
          .ok();
    });
  }
  // -1: nothing is committed; nothing: no answer.
  std::optional<int64_t> committed(int node) {
    api::FetchOffsetsRequest request{.group = "billing"};
    request.positions.push_back({.topic = "orders", .partition = PartitionId(0)});
    auto reply = ask<std::vector<api::CommittedOffset>>(
        node, [&](Broker& broker, auto done) { broker.fetch_offsets(request, std::move(done)); });
    if (!reply.ok()) return std::nullopt;
    return reply.answer->value().empty() ? -1 : reply.answer->value()[0].offset.value();
  }
  // Until nothing is missing.
  void settle() {
    std::string what;
    world.run_until([&] { return (what = observer.missing(false)).empty(); }, 60 * kSecond);
    ASSERT_EQ(what, "");
  }
  template <typename Act>
  void again_until_it_works(Act act) {
    for (int i = 0; i < 200; ++i) {
      if (act()) return;
      world.run_for(50 * kMs);
    }
    FAIL() << "it never works";
  }

  sim::World world;
  sim::SimCluster cluster;
  Context context;
  Observer observer;
};

TEST_F(Scenario, AStoppedCoordinatorAnswersWithNothingOldWhenItGoesOn) {  // R18, X13
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(produce(1, 0));
  again_until_it_works([&] { return commit(1, 1); });
  int64_t offset = 1;
  for (int round = 0; round < 3; ++round) {  // once it is also the controller
    settle();
    const int coordinator = context.leader_node("__consumer_offsets", 0);
    ASSERT_TRUE(commit(coordinator, offset));
    cluster.pause(coordinator);
    world.run_for(3'700 * kMs);
    const int other = coordinator % 3 + 1;
    again_until_it_works([&] { return commit(other, offset + 1); });
    ++offset;
    cluster.resume(coordinator);
    for (int i = 0; i < 500; ++i) {
      auto told = committed(coordinator);
      ASSERT_EQ(told.value_or(offset), offset);
      world.run_for(kMs);
    }
  }
}

TEST_F(Scenario, AfterAPowerCutOfAllNoEndIsToldThatLiesBeforeWhatWasRead) {  // R16, X12
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(produce(1, i % 3));
  int64_t ends[3];
  for (int32_t partition = 0; partition < 3; ++partition) {
    auto read = fetch(1, partition, 0);
    ASSERT_TRUE(read && !read->stale);
    ends[partition] = read->high_watermark.value();
  }
  cluster.power_cut_all(sim::CrashPolicy::lose_all());
  cluster.start_all();
  int known = 0;
  for (int i = 0; i < 5'000 && known < 50; ++i) {
    for (int32_t partition = 0; partition < 3; ++partition) {
      auto read = fetch(1 + i % 3, partition, ends[partition]);
      if (!read || read->stale) continue;
      EXPECT_EQ(read->high_watermark.value(), ends[partition]);
      ++known;
    }
    world.run_for(kMs);
  }
  EXPECT_GE(known, 50);
}

// A stream outlives the coordinators of its group: what it commits is refused for a moment at most, with errors after
// which the same may be committed again, and nobody else gets the group meanwhile.
TEST_F(Scenario, AStreamKeepsItsGroupWhenTheCoordinatorDies) {  // G2, X13, X14
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(produce(1, 0));
  again_until_it_works([&] { return commit(1, 0); });
  settle();
  const int home = context.leader_node("__consumer_offsets", 0) % 3 + 1;  // of the stream: another node
  std::optional<api::Error> lost;
  ASSERT_EQ(claim(home, 7, &lost), std::nullopt);
  for (int64_t offset = 1; offset <= 4; ++offset) {
    const int coordinator = context.leader_node("__consumer_offsets", 0);
    ASSERT_EQ(commit_error(home, offset, 7), std::nullopt);
    if (coordinator != home) cluster.kill(coordinator);
    if (coordinator == home) move_offsets_leader(home % 3 + 1);
    again_until_it_works([&] {
      auto error = commit_error(home, offset, 7);
      EXPECT_TRUE(!error || api::error_code_retriable(error->code) || error->outcome == api::Outcome::kUnknown)
          << error->message;
      return !error;
    });
    const int other = coordinator == home ? home % 3 + 1 : 6 - home - coordinator;
    auto refused = claim(other, 8, nullptr);
    ASSERT_TRUE(refused.has_value());
    EXPECT_EQ(refused->code, api::ErrorCode::kGroupInUse) << refused->message;
    cluster.start(coordinator);
    settle();
    EXPECT_EQ(committed(home), offset);
  }
  EXPECT_FALSE(lost.has_value());
}

TEST_F(Scenario, AStreamThatWasAwayWhileAnotherHadItsGroupCommitsNothing) {  // X13, X14
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(produce(1, 0));
  again_until_it_works([&] { return commit(1, 0); });
  for (bool coordinator_dies : {false, true}) {
    settle();
    const int coordinator = context.leader_node("__consumer_offsets", 0);
    const int away = coordinator % 3 + 1;
    const int other = away % 3 + 1;
    std::optional<api::Error> lost;
    ASSERT_EQ(claim(away, 7, &lost), std::nullopt);
    ASSERT_EQ(commit_error(away, 1, 7), std::nullopt);
    cluster.pause(away);
    world.run_for(3'700 * kMs);
    if (coordinator_dies) move_offsets_leader(other);
    again_until_it_works([&] { return !claim(other, 8, nullptr); });
    again_until_it_works([&] { return !commit_error(other, 3, 8); });
    cluster.broker(other)->release_group("billing", 8);
    world.run_for(kSecond);
    cluster.resume(away);
    again_until_it_works([&] {
      auto error = commit_error(away, 2, 7);
      EXPECT_TRUE(error.has_value());
      return error && error->code == api::ErrorCode::kFencedMember;
    });
    world.run_for(kSecond);
    EXPECT_TRUE(lost.has_value()) << "the stream is told";
    EXPECT_EQ(committed(other), 3);
    ASSERT_EQ(claim(away, 9, &lost), std::nullopt) << "who begins again is welcome";
    cluster.broker(away)->release_group("billing", 9);
    world.run_for(kSecond);
  }
}

TEST_F(Scenario, AStreamThatWasAwayAloneGoesOn) {  // X14: nobody had the group meanwhile
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(produce(1, 0));
  again_until_it_works([&] { return commit(1, 0); });
  settle();
  const int away = context.leader_node("__consumer_offsets", 0) % 3 + 1;
  ASSERT_EQ(claim(away, 7, nullptr), std::nullopt);
  cluster.pause(away);
  world.run_for(3'700 * kMs);
  cluster.resume(away);
  again_until_it_works([&] {
    auto error = commit_error(away, 1, 7);
    EXPECT_TRUE(!error || api::error_code_retriable(error->code)) << error->message;
    return !error;
  });
  EXPECT_EQ(claim(away, 8, nullptr)->code, api::ErrorCode::kGroupInUse);
}

// Not by a seed: what waits for other nodes is answered as well when a node stops.
TEST_F(Scenario, AFetchThatWaitsAtOtherNodesIsAnsweredOnceWhenItsNodeStops) {
  api::FetchRequest request{.deadline_ns = world.now_ns() + 3'600 * kSecond};
  for (int32_t partition = 0; partition < 3; ++partition) {  // each is led by another node
    request.positions.push_back({.topic = "orders", .partition = PartitionId(partition)});
  }
  int answers = 0;
  cluster.broker(1)->fetch(std::move(request), [&](const api::Answer<api::FetchResult>&) { ++answers; });
  world.run_for(kSecond);
  ASSERT_EQ(answers, 0);
  cluster.stop(1);
  ASSERT_TRUE(world.run_until([&] { return !cluster.runs(1); }));
  EXPECT_EQ(answers, 1);
}

TEST_F(Scenario, ANodeWhoseClockIsTenYearsOffRemovesNothing) {  // F14
  const std::string text(100'000, 'x');
  api::CreateTopicRequest aging{.name = "aging", .partitions = 3, .replicas = kReplicas};
  aging.configs = {{"segment.bytes", "1048576"}, {"retention.ms", "300000"}};
  auto made =
      ask<api::CreateTopicResult>(1, [&](Broker& broker, auto done) { broker.create_topic(aging, std::move(done)); });
  ASSERT_TRUE(made.ok());
  settle();
  for (int i = 0; i < 75; ++i) {
    api::ProduceRequest request{.topic = "aging", .partition = PartitionId(i % 3)};
    request.records.push_back({.value = as_bytes(text)});
    auto reply = ask<api::ProduceResult>(
        1, [&](Broker& broker, auto done) { broker.produce(std::move(request), std::move(done)); });
    ASSERT_TRUE(reply.ok() && !reply.answer->value().positions[0].error);
  }
  const int node = context.leader_node("aging", 0);
  cluster.set_wall_offset_ms(node, 10LL * 365 * 24 * 3600 * 1000);
  cluster.kill(node);
  cluster.start(node);
  ASSERT_TRUE(cluster.run_until_serving());
  world.run_for(120 * kSecond);  // several looks at what is old; leaderships have come back (C14)
  ASSERT_EQ(context.leader_node("aging", 0), node);
  auto read = [&](int32_t partition) {
    api::FetchRequest request;
    request.positions.push_back({.topic = "aging", .partition = PartitionId(partition), .offset = Offset(0)});
    auto reply =
        ask<api::FetchResult>(node, [&](Broker& broker, auto done) { broker.fetch(request, std::move(done)); });
    return reply.ok() && !reply.answer->value()[0].error;
  };
  for (int32_t partition = 0; partition < 3; ++partition) EXPECT_TRUE(read(partition)) << partition;
  // Set right, it does its work again.
  cluster.set_wall_offset_ms(node, 0);
  cluster.kill(node);
  cluster.start(node);
  ASSERT_TRUE(cluster.run_until_serving());
  world.run_for(400 * kSecond);
  EXPECT_FALSE(read(0)) << "five minutes are over";
}

TEST_F(Scenario, AReplicaWhoseLogCouldNotBeOpenedComesBackByItself) {  // F11
  ASSERT_TRUE(produce(1, 0));
  cluster.kill(2);
  world.run_for(100 * kMs);
  cluster.disk(2).add_fault({.call = sim::DiskCall::kSync, .path_part = "topics/", .first = 1, .count = 2});
  cluster.start(2);
  world.run_until([&] { return cluster.state(2) == sim::SimCluster::State::kUp; });
  EXPECT_NE(observer.missing(false), "");
  settle();
  EXPECT_TRUE(produce(2, 0));
}

// By seeds 102 and 103.
TEST_F(Scenario, WhatADiskRefusedOnceIsServedAndReplicatedAgain) {  // F11, S9
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(produce(1, 0));
  const int leader = context.leader_node("orders", 0);
  cluster.disk(leader).add_fault({.call = sim::DiskCall::kRead, .path_part = "topics/", .first = 1, .count = 1});
  EXPECT_FALSE(fetch(leader, 0, 0).has_value());
  again_until_it_works([&] { return fetch(leader, 0, 0).has_value(); });

  const int follower = leader % 3 + 1;
  cluster.kill(follower);
  world.run_for(kSecond);
  for (int i = 0; i < 5; ++i) again_until_it_works([&] { return produce(leader, 0); });
  cluster.disk(leader).add_fault({.call = sim::DiskCall::kRead, .path_part = "topics/", .first = 1, .count = 3});
  cluster.start(follower);
  settle();
}

// By seed 653: the node that others take over from learns of it late, since its metadata waits for its disk.
TEST_F(Scenario, ANodeThatShutsDownTellsNoEndThatOthersHaveGoneBeyond) {  // C9, X12
  for (int node = 1; node <= 3; ++node) {
    settle();
    int32_t led = 0;
    while (led < 3 && context.leader_node("orders", led) != node) ++led;
    if (led == 3) continue;
    const int other = node % 3 + 1;
    ASSERT_TRUE(produce(node, led));
    cluster.disk(node).set_sync_delay(1'500 * kMs, 2'500 * kMs);
    cluster.stop(node);
    int64_t told = 0;
    for (int i = 0; i < 300 && cluster.runs(node); ++i) {
      produce(other, led);
      if (auto read = fetch(other, led, 0); read && !read->stale) told = std::max(told, read->high_watermark.value());
      if (auto read = fetch(node, led, 0); read && !read->stale) {
        EXPECT_GE(read->high_watermark.value(), told);
      }
      world.run_for(20 * kMs);
    }
    cluster.disk(node).set_sync_delay(50'000, 200'000);
    ASSERT_TRUE(world.run_until([&] { return !cluster.runs(node); }, 30 * kSecond));
    cluster.start(node);
  }
}

TEST_F(Scenario, AllNodesComeBackWithGapsAmongWhatWasNotSynced) {  // C8, R2, F16
  // Many writes between two syncs; of those each disk keeps some and loses others.
  for (int node = 1; node <= 3; ++node) cluster.disk(node).set_sync_delay(20 * kMs, 40 * kMs);
  std::vector<history::Produce> acknowledged;
  for (int round = 0; round < 3; ++round) {
    int64_t before = 0;
    again_until_it_works([&] { return produce(1, 0); });
    auto read = fetch(1, 0, 0);
    ASSERT_TRUE(read.has_value());
    before = read->high_watermark.value();
    for (int i = 0; i < 40; ++i) {
      api::ProduceRequest request{.topic = "orders", .partition = PartitionId(0)};
      auto owner = std::make_shared<std::string>(value_of(context.next_token++, 10));
      request.records.push_back({.value = as_bytes(*owner)});
      request.owner = owner;
      context.gateway.ask<api::ProduceResult>(
          context.leader_node("orders", 0), kSecond,
          [request = std::move(request)](Broker& broker, auto done) mutable {
            broker.produce(std::move(request), std::move(done));
          },
          [](const Reply<api::ProduceResult>&) {});
      world.run_for(2 * kMs);
    }
    cluster.power_cut_all({.keep_percent = 60, .drop_percent = 40});
    cluster.start_all();
    settle();
    again_until_it_works([&] {
      auto now = fetch(1, 0, 0);
      return now && !now->stale && now->high_watermark.value() >= before;
    });
    std::string what;
    world.run_until([&] { return (what = observer.missing(true)).empty(); }, 30 * kSecond);
    EXPECT_EQ(what, "");
  }
}

}  // namespace
}  // namespace trilog::simulator
