// Seeds of a whole broker under crashes: what was acknowledged is there, nothing twice with sequences, committed
// offsets never go back (X1, X4, X5, X12, X13), and the same seed gives the same trace.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/broker/sim_broker.h"

namespace trilog::testing {
namespace {

constexpr int kPartitions = 3;

// One life after another; a model remembers what the broker promised.
class CrashRun {
 public:
  CrashRun(uint64_t seed, size_t shards) : broker_(seed, shards), random_(seed * 977 + shards) {}

  void run(int lives) {
    for (int life = 0; life < lives && !::testing::Test::HasFatalFailure(); ++life) {
      broker_.start();
      if (::testing::Test::HasFatalFailure()) return;
      if (life == 0) {
        ASSERT_TRUE(broker_.create_topic("orders", kPartitions).ok());
      }
      verify();
      auto id =
          broker_.ask<api::InitProducerResult>([&](auto done) { broker_.broker->init_producer(std::move(done)); });
      ASSERT_TRUE(id.ok());
      producer_ = id.value();
      for (Partition& partition : partitions_) partition.next_sequence = 0;
      live();
      end_life();
    }
    broker_.start();
    verify();
  }
  uint64_t trace_hash() { return broker_.world.trace_hash(); }
  size_t acknowledged() const { return acknowledged_; }
  size_t crashes() const { return crashes_; }

 private:
  struct Partition {
    std::map<int64_t, std::string> acknowledged;  // by offset
    std::map<std::string, int> refused;           // definite failures: must never be read (X5)
    int32_t next_sequence = 0;
    int64_t committed = -1;   // acknowledged commit
    int64_t committing = -1;  // greatest that was tried
    int64_t high_watermark = 0;
  };

  uint64_t pick(uint64_t below) { return random_.next() % below; }

  void live() {
    size_t steps = 5 + pick(40);
    for (size_t i = 0; i < steps; ++i) {
      auto p = static_cast<int32_t>(pick(kPartitions));
      if (pick(5) == 0) {
        send_commit(p);
      } else {
        send_record(p);
      }
      if (pick(3) == 0) broker_.world.run_for(static_cast<int64_t>(pick(2'000'000)));
      if (pick(10) == 0) broker_.world.run_until_idle();
    }
  }

  void send_record(int32_t p) {
    Partition& partition = partitions_[static_cast<size_t>(p)];
    std::string value = "v" + std::to_string(++values_);
    auto request = SimBroker::request("orders", {{"k", value}}, p);
    request.sequence = api::Sequence{producer_.producer_id, producer_.producer_epoch, partition.next_sequence++};
    broker_.broker->produce(std::move(request), [this, p, value](const api::Answer<api::ProduceResult>& answer) {
      Partition& to = partitions_[static_cast<size_t>(p)];
      if (answer.ok() && !answer.value().positions[0].error) {
        int64_t offset = answer.value().positions[0].offset.value();
        ASSERT_TRUE(to.acknowledged.emplace(offset, value).second) << "offset " << offset << " acknowledged twice (X3)";
        ++acknowledged_;
        return;
      }
      const api::Error& error = answer.ok() ? *answer.value().positions[0].error : answer.error();
      if (error.outcome == api::Outcome::kNotWritten) ++to.refused[value];
    });
  }

  void send_commit(int32_t p) {
    Partition& partition = partitions_[static_cast<size_t>(p)];
    if (partition.acknowledged.empty()) return;
    // Forward only, as a consumer does.
    int64_t offset = std::max(partition.committing, partition.acknowledged.rbegin()->first + 1);
    partition.committing = offset;
    api::CommitOffsetsRequest request{.group = "billing"};
    request.offsets.push_back({.topic = "orders", .partition = PartitionId(p), .offset = Offset(offset)});
    broker_.broker->commit_offsets(std::move(request),
                                   [this, p, offset](const api::Answer<std::vector<api::CommittedOffset>>& answer) {
                                     if (!answer.ok() || answer.value()[0].error) return;
                                     int64_t& committed = partitions_[static_cast<size_t>(p)].committed;
                                     committed = std::max(committed, offset);
                                   });
  }

  void end_life() {
    uint64_t way = pick(4);
    if (way == 0) {
      Status stopped = broker_.stop();
      EXPECT_TRUE(stopped.ok()) << stopped.to_string();
    } else if (way == 1) {
      broker_.kill();
      ++crashes_;
    } else {
      broker_.power_cut();
      ++crashes_;
    }
  }

  void verify() {
    broker_.check_invariants();
    for (int32_t p = 0; p < kPartitions; ++p) {
      Partition& partition = partitions_[static_cast<size_t>(p)];
      std::set<int64_t> damaged;
      std::map<int64_t, std::string> values = broker_.read("orders", p, 0, &damaged);
      std::map<std::string, int> seen;
      for (const auto& [offset, value] : values) {
        EXPECT_EQ(++seen[value], 1) << value << " is there twice (X4)";
        EXPECT_FALSE(partition.refused.contains(value)) << value << " was refused and is there (X5)";
      }
      for (const auto& [offset, value] : partition.acknowledged) {
        ASSERT_TRUE(values.contains(offset)) << value << " at offset " << offset << " was acknowledged and is gone (X1)"
                                             << (damaged.contains(offset) ? ": damaged" : "");
        EXPECT_EQ(values[offset], value) << "at offset " << offset << " (X3)";
      }
      auto end = static_cast<int64_t>(values.size() + damaged.size());
      EXPECT_TRUE(values.empty() || values.rbegin()->first == end - 1) << "offsets have gaps";
      EXPECT_GE(end, partition.high_watermark) << "X12";
      partition.high_watermark = end;
      EXPECT_GE(broker_.committed("billing", "orders", p), partition.committed) << "X13";
    }
  }

  SimBroker broker_;
  sim::SeededRandom random_;
  std::vector<Partition> partitions_{kPartitions};
  api::InitProducerResult producer_;
  int values_ = 0;
  size_t acknowledged_ = 0;
  size_t crashes_ = 0;
};

class BrokerCrash : public ::testing::TestWithParam<size_t> {};
INSTANTIATE_TEST_SUITE_P(Shards, BrokerCrash, ::testing::Values(1, 2, 4));

TEST_P(BrokerCrash, KeepsItsPromisesOverManyLives) {
  size_t acknowledged = 0;
  size_t crashes = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    CrashRun run(seed, GetParam());
    run.run(5);
    if (::testing::Test::HasFailure()) return;
    acknowledged += run.acknowledged();
    crashes += run.crashes();
  }
  EXPECT_GT(acknowledged, 1'000u);
  EXPECT_GT(crashes, 50u);
}

TEST_P(BrokerCrash, TheSameSeedGivesTheSameTrace) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    CrashRun first(seed, GetParam());
    first.run(3);
    CrashRun second(seed, GetParam());
    second.run(3);
    EXPECT_EQ(first.trace_hash(), second.trace_hash()) << "seed " << seed;
    EXPECT_EQ(first.acknowledged(), second.acknowledged());
  }
}

TEST(BrokerFaults, AFailedSyncEndsTheNodeAndNothingUnsyncedIsAcknowledged) {  // S3, F11
  SimBroker broker(3);
  broker.start();
  ASSERT_TRUE(broker.produce("orders", "k", "first", 0).ok());
  broker.world.run_until_idle();
  broker.disk.add_fault({.call = sim::DiskCall::kSync, .path_part = ".log"});
  auto produced = broker.produce("orders", "k", "second", 0);
  bool failed = !produced.ok() || produced->positions[0].error;
  EXPECT_TRUE(failed);
  if (produced.ok() && produced->positions[0].error) {
    EXPECT_EQ(produced->positions[0].error->outcome, api::Outcome::kUnknown);
  }
  broker.disk.clear_faults();
  broker.power_cut();
  broker.start();
  EXPECT_EQ(broker.read_all("orders", 0)[0], "first");
}

TEST(BrokerFaults, AFullDiskRefusesRecordsAndKeepsServing) {  // S8, F10
  SimBroker broker(4);
  broker.disk.set_capacity(256u << 20);
  broker.start();
  ASSERT_TRUE(broker.create_topic("orders", 1).ok());
  std::string large(900'000, 'x');
  size_t written = 0;
  std::optional<api::Error> error;
  for (int i = 0; i < 400 && !error; ++i) {
    auto produced = broker.produce("orders", "k", large, 0);
    if (!produced.ok()) error = produced.error();
    if (produced.ok() && produced->positions[0].error) error = produced->positions[0].error;
    if (!error) ++written;
    broker.world.run_for(50'000'000);
  }
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, api::ErrorCode::kDiskFull) << error->message;
  EXPECT_GT(written, 100u);
  EXPECT_TRUE(broker.commit("billing", "orders", 0, 5).ok());
  EXPECT_EQ(broker.committed("billing", "orders", 0), 5);
  auto trimmed = broker.ask<std::vector<api::PartitionState>>([&](auto done) {
    broker.broker->trim_topic({.topic = "orders", .before = {{.partition = PartitionId(0)}}}, std::move(done));
  });
  EXPECT_TRUE(trimmed.ok());
  broker.disk.set_capacity(1u << 30);
  broker.world.run_for(5'000'000'000);
  EXPECT_TRUE(broker.produce("orders", "k", "back", 0).ok());
}

TEST(BrokerFaults, ALostStateStoreIsRebuiltFromTheLog) {  // G7
  SimBroker broker(5);
  broker.start();
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(broker.produce("orders", "", "v", i % 3).ok());
  for (int p = 0; p < 3; ++p) ASSERT_TRUE(broker.commit("billing", "orders", p, p + 1).ok());
  ASSERT_TRUE(broker.stop().ok());
  ASSERT_TRUE(broker.stores.destroy("data/state").ok());
  broker.start();
  for (int p = 0; p < 3; ++p) EXPECT_EQ(broker.committed("billing", "orders", p), p + 1);
}

}  // namespace
}  // namespace trilog::testing
