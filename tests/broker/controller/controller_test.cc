#include "broker/controller/controller.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/broker/controller/controller_node.h"

namespace trilog {
namespace {

using api::ErrorCode;
using testing::ControllerNode;

TEST(Controller, RegistersItsOnlyNodeAndIsReadyToServeInOneCommit) {
  ControllerNode node;
  node.disk.set_sync_delay(200'000, 200'000);
  int64_t begin = node.world.now_ns();
  node.run();
  EXPECT_LE(node.world.now_ns() - begin, 1'700'000);
  const BrokerImage* broker = node.image().find_broker(BrokerId(1));
  ASSERT_NE(broker, nullptr);
  EXPECT_FALSE(broker->fenced);
  EXPECT_EQ(broker->epoch, *node.epoch);
  EXPECT_EQ(broker->address, "localhost:9092");
}

TEST(Controller, EveryProcessStartIsANewBrokerEpochAndANewLeaderEpoch) {
  ControllerNode node;
  node.run();
  ASSERT_TRUE(node.create({.name = "orders", .partitions = 3}).ok());
  BrokerEpoch first = *node.epoch;
  node.kill();
  node.run();
  EXPECT_GT(*node.epoch, first);
  EXPECT_EQ(node.image().find_broker(BrokerId(1))->epoch, *node.epoch);
  for (const PartitionImage& partition : node.image().find_topic("orders")->partitions) {
    EXPECT_EQ(partition.leader, BrokerId(1));
    EXPECT_EQ(partition.leader_epoch, LeaderEpoch(1));
    EXPECT_EQ(partition.partition_epoch, PartitionEpoch(1));
  }
}

TEST(Controller, AnswersWhenTheTopicIsInTheImage) {
  ControllerNode node;
  node.run();
  auto made = node.create({.name = "orders", .partitions = 6});
  ASSERT_TRUE(made.ok());
  const TopicImage* topic = node.image().find_topic("orders");
  ASSERT_NE(topic, nullptr);
  EXPECT_EQ(topic->id, made->topic.id);
  EXPECT_EQ(describe_topic(node.image(), *topic).partitions.size(), made->topic.partitions.size());
}

TEST(Controller, OperationsThatArriveDuringAProposalAreComputedTogetherOnTopOfEachOther) {
  ControllerNode node;
  node.run();
  int answers = 0;
  uint64_t syncs = node.disk.calls(sim::DiskCall::kSync);
  node.controller->create_topic({.name = "first"}, [&](api::Answer<api::CreateTopicResult> a) { answers += a.ok(); });
  node.world.run_for(1'000);  // its proposal is out
  std::optional<api::Answer<api::CreateTopicResult>> again;
  std::optional<api::Answer<bool>> removed;
  std::optional<api::Answer<api::AlterTopicResult>> altered;
  std::vector<int64_t> blocks;
  for (int i = 0; i < 30; ++i) {
    node.controller->create_topic({.name = "t" + std::to_string(i)},
                                  [&](api::Answer<api::CreateTopicResult> a) { answers += a.ok(); });
    node.controller->allocate_producer_ids(
        [&](api::Answer<Controller::ProducerIdBlock> a) { blocks.push_back(a->first.value()); });
  }
  node.controller->create_topic({.name = "t3"}, [&](api::Answer<api::CreateTopicResult> a) { again = std::move(a); });
  node.controller->delete_topic({.name = "t4"}, [&](api::Answer<bool> a) { removed = std::move(a); });
  node.controller->alter_topic({.name = "t5", .partitions = 3},
                               [&](api::Answer<api::AlterTopicResult> a) { altered = std::move(a); });
  node.world.run_until_idle();
  EXPECT_EQ(answers, 31);
  EXPECT_EQ(again->error().code, ErrorCode::kTopicExists);
  EXPECT_TRUE(removed->value());
  EXPECT_EQ((*altered)->topic.partitions.size(), 3u);
  EXPECT_EQ(node.image().topics().size(), 30u);
  EXPECT_EQ(std::set<int64_t>(blocks.begin(), blocks.end()).size(), 30u);
  EXPECT_EQ(node.disk.calls(sim::DiskCall::kSync) - syncs, 4u);  // two commits
}

TEST(Controller, ProducerIdBlocksNeverOverlapAcrossRestarts) {
  ControllerNode node;
  std::set<int64_t> ids;
  for (int life = 0; life < 5; ++life) {
    node.run();
    for (int i = 0; i < 3; ++i) {
      auto block = node.wait<Controller::ProducerIdBlock>(
          [&](auto done) { node.controller->allocate_producer_ids(std::move(done)); });
      ASSERT_TRUE(block.ok());
      EXPECT_EQ(block->size, node.options.producer_id_block);
      for (int64_t id = block->first.value(); id < block->first.value() + block->size; ++id) {
        ASSERT_TRUE(ids.insert(id).second);
      }
    }
    node.power_cut(sim::CrashPolicy::lose_all());
  }
}

TEST(Controller, WhileItDoesNotLeadEverythingIsRefusedAndNothingWritten) {
  ControllerNode node;
  node.registers = false;
  node.start();
  auto early = node.create({.name = "early"});
  EXPECT_EQ(early.error().code, ErrorCode::kLeaderNotAvailable);
  EXPECT_EQ(early.error().outcome, api::Outcome::kNotWritten);
  node.controller->set_active(false);
  EXPECT_EQ(node.create({.name = "late"}).error().code, ErrorCode::kLeaderNotAvailable);
}

TEST(Controller, RefusesMoreWaitingOperationsThanItsLimit) {
  ControllerNode node;
  node.options.operations_waiting_max = 5;
  node.run();
  std::map<ErrorCode, int> errors;
  int made = 0;
  for (int i = 0; i < 9; ++i) {
    node.controller->create_topic({.name = "t" + std::to_string(i)}, [&](api::Answer<api::CreateTopicResult> a) {
      a.ok() ? ++made : ++errors[a.error().code];
      if (!a.ok()) {
        EXPECT_GT(a.error().retry_after_ms, 0u);
      }
    });
  }
  node.world.run_until_idle();
  EXPECT_EQ(made, 5);
  EXPECT_EQ(errors, (std::map<ErrorCode, int>{{ErrorCode::kThrottled, 4}}));
}

TEST(Controller, AStopAnswersEverythingHonestly) {
  ControllerNode node;
  node.run();
  std::vector<api::Answer<api::CreateTopicResult>> answers;
  auto note = [&](api::Answer<api::CreateTopicResult> a) { answers.push_back(std::move(a)); };
  node.controller->create_topic({.name = "on-its-way"}, note);
  node.world.run_for(1'000);
  node.controller->create_topic({.name = "waiting"}, note);
  node.controller->stop();
  node.controller->create_topic({.name = "afterwards"}, note);
  bool closed = false;
  node.log->close([&](Status status) { closed = status.ok(); });
  node.world.run_until_idle();
  EXPECT_TRUE(closed);
  ASSERT_EQ(answers.size(), 3u);
  std::multiset<ErrorCode> codes;
  for (auto& answer : answers) {
    ASSERT_FALSE(answer.ok());
    codes.insert(answer.error().code);
    bool unknown = answer.error().outcome == api::Outcome::kUnknown;
    EXPECT_EQ(unknown, answer.error().code == ErrorCode::kLeadershipLost);
  }
  EXPECT_EQ(codes,
            (std::multiset<ErrorCode>{ErrorCode::kNodeStopping, ErrorCode::kNodeStopping, ErrorCode::kLeadershipLost}));
}

TEST(Controller, ADiskThatFailsStopsTheNodeAndTheOutcomeIsUnknown) {
  ControllerNode node;
  node.run();
  node.disk.add_fault({sim::DiskCall::kSync, "metadata", 1, 1, Errc::kIo});
  auto answer = node.create({.name = "orders"});
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().outcome, api::Outcome::kUnknown);
  EXPECT_FALSE(node.env->fatal_status().ok());
}

TEST(Controller, ATopicOfTenThousandPartitionsIsOneStep) {
  ControllerNode node;
  node.run();
  ASSERT_TRUE(node.create({.name = "wide", .partitions = 10'000}).ok());
  EXPECT_EQ(node.image().find_topic("wide")->partitions.size(), 10'000u);
  node.power_cut();
  node.run();
  EXPECT_EQ(node.image().find_topic("wide")->partitions[9'999].leader_epoch, LeaderEpoch(1));
}

// --- random histories with crashes: acknowledged topics are never lost, deleted ones do not come back (X16)
// ----------------

class History {
 public:
  explicit History(uint64_t seed) : node(seed), random_(seed) { node.snapshot_bytes = 20'000; }

  void live(uint64_t events) {
    for (uint64_t i = 0; i < events; ++i) {
      if (random_.chance(15)) act();
      node.world.run_one();
    }
  }
  void crash() {
    random_.chance(70) ? node.power_cut() : node.kill();
    // What was on its way may have happened or not.
    for (const std::string& name : under_way_) known_.erase(name);
    under_way_.clear();
  }
  void check() {
    for (const auto& [name, partitions] : known_) {
      const TopicImage* topic = node.image().find_topic(name);
      if (partitions == 0) {
        EXPECT_EQ(topic, nullptr) << name << " came back";
      } else {
        ASSERT_NE(topic, nullptr) << name << " was lost";
        EXPECT_EQ(topic->partitions.size(), partitions) << name;
      }
    }
    promised += known_.size();
  }

  ControllerNode node;
  size_t promised = 0;

 private:
  void act() {
    std::string name = "topic" + std::to_string(random_.below(12));
    if (under_way_.contains(name)) return;
    under_way_.insert(name);
    auto end = [this, name](bool ok, std::optional<size_t> partitions) {
      under_way_.erase(name);
      if (ok && partitions) known_[name] = *partitions;
    };
    switch (random_.below(3)) {
      case 0:
        node.controller->create_topic({.name = name, .partitions = 2}, [end](api::Answer<api::CreateTopicResult> a) {
          end(a.ok(), a.ok() ? std::optional(a->topic.partitions.size()) : std::nullopt);
        });
        break;
      case 1:
        node.controller->delete_topic({.name = name, .if_exists = true},
                                      [end](const api::Answer<bool>& a) { end(a.ok(), 0); });
        break;
      default:
        node.controller->alter_topic({.name = name, .set = {{"retention.ms", "1000"}}, .partitions = 4},
                                     [end](api::Answer<api::AlterTopicResult> a) {
                                       end(a.ok(), a.ok() ? std::optional(a->topic.partitions.size()) : std::nullopt);
                                     });
        break;
    }
  }

  sim::SeededRandom random_;
  std::map<std::string, size_t> known_;  // acknowledged; 0: deleted
  std::set<std::string> under_way_;
};

TEST(ControllerHistory, NoAcknowledgedChangeIsLostByACrashAtAnyPoint) {
  size_t promised = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    History history(seed);
    sim::SeededRandom random(seed);
    for (int life = 0; life < 5; ++life) {
      ASSERT_NO_FATAL_FAILURE(history.node.start());
      history.live(random.below(life == 0 ? 60 : 400));
      history.crash();
    }
    ASSERT_NO_FATAL_FAILURE(history.node.run());
    ASSERT_NO_FATAL_FAILURE(history.check());
    ASSERT_TRUE(history.node.env->fatal_status().ok());
    promised += history.promised;
  }
  EXPECT_GT(promised, 300u);
}

TEST(ControllerHistory, TheImageIsTheSameHoweverItWasLoaded) {
  History history(77);
  ASSERT_NO_FATAL_FAILURE(history.node.run());
  history.live(6'000);
  history.node.world.run_until_idle();
  auto states = [](const MetadataImage& image) {
    std::vector<Bytes> records;
    for (const MetadataRecord& record : image.to_records()) {
      bool of_this_start = std::holds_alternative<RegisterBrokerRecord>(record) ||
                           std::holds_alternative<FenceBrokerRecord>(record) ||
                           std::holds_alternative<PartitionRecord>(record);
      if (!of_this_start) records.push_back(encode_metadata_record(record));
    }
    return records;
  };
  auto before = states(history.node.image());
  history.node.power_cut(sim::CrashPolicy::lose_all());
  ASSERT_NO_FATAL_FAILURE(history.node.run());
  auto after = states(history.node.image());
  ASSERT_EQ(before.size(), after.size());
  for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(bytes_equal(before[i], after[i])) << i;
}

TEST(ControllerHistory, TheSameSeedGivesTheSameTraceAndTheSameTopicIds) {
  auto run = [](uint64_t seed) {
    History history(seed);
    history.node.start();
    history.live(2'000);
    history.crash();
    history.node.run();
    history.live(500);
    history.node.world.run_until_idle();
    return std::pair(history.node.world.trace_hash(), history.node.image().digest());
  };
  EXPECT_EQ(run(5), run(5));
  EXPECT_NE(run(5).first, run(6).first);
}

}  // namespace
}  // namespace trilog
