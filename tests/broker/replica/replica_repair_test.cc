// Damage in one replica's log is found, not served, and mended from the others (S9, S10).
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/broker/replica/replica_trio.h"

namespace trilog::testing {
namespace {

class ReplicaRepairTest : public ::testing::Test {
 protected:
  void SetUp() override {
    trio.options.scrub_pass_ms = 5'000;
    for (int node = 1; node <= 3; ++node) {
      trio.crash(node);
      trio.start(node);
    }
    trio.run_ms(200);
    orders = trio.add_topic("orders");
    for (int i = 0; i < 6; ++i) trio.append(orders, std::to_string(i) + std::string(400'000, 'x'));
    trio.run_ms(200);
  }
  // The first segment, which is sealed.
  std::string path(int node) const {
    const sim::DiskImage& image = trio.nodes.at(node).disk->image();
    for (const std::string& file : image.all_files()) {
      if (file.ends_with("/00000000000000000000.log") && file.find("/0/") != std::string::npos) return file;
    }
    return {};
  }
  std::vector<std::byte> content(int node) const {
    const sim::DiskImage& image = trio.nodes.at(node).disk->image();
    const ByteView view = image.content(image.find(path(node)));
    return {view.begin(), view.end()};
  }
  void flip(int node, uint64_t byte) {
    trio.nodes.at(node).rotten = true;
    trio.nodes.at(node).disk->flip_bit(path(node), 8 * byte + 3);
  }
  // What the log says at offset 0; reports what a reader finds, as an edge does.
  bool read(int node) {
    ReplicaManager& replicas = *trio.nodes.at(node).replicas;
    auto parts = replicas.read({{orders, Offset(0)}}, 1 << 20, api::Isolation::kCommitted);
    if (parts[0].error) return false;
    auto run = read_slice(parts[0].slice);
    if (run.ok()) return true;
    replicas.report_damage(orders, parts[0].slice, run.status());
    return false;
  }

  ReplicaTrio trio;
  TopicPartition orders;
};

TEST_F(ReplicaRepairTest, TheScrubFindsDamageInAFollowerAndItIsMended) {
  const auto whole = content(2);
  flip(2, 1'000);
  ASSERT_FALSE(content(2) == whole);
  EXPECT_TRUE(trio.run_until([&] { return content(2) == whole; }, 20'000));
  trio.nodes.at(2).rotten = false;
  trio.run_ms(100);
  EXPECT_FALSE(trio.position(2, orders).damaged);
}

TEST_F(ReplicaRepairTest, ALeadersDamageIsNotServedAndMendedFromAFollower) {
  const auto whole = content(1);
  flip(1, 1'000);
  EXPECT_FALSE(read(1));
  EXPECT_FALSE(read(1)) << "known by now";
  EXPECT_TRUE(trio.run_until([&] { return content(1) == whole; }, 1'000));
  trio.run_ms(100);
  EXPECT_TRUE(read(1));
  EXPECT_EQ(trio.leader(orders), 1);
}

TEST_F(ReplicaRepairTest, WhatADiskRefusedOnceIsServedAgainSoon) {  // F11
  auto parts = trio.nodes.at(1).replicas->read({{orders, Offset(0)}}, 1 << 20, api::Isolation::kCommitted);
  trio.nodes.at(1).replicas->report_damage(orders, parts[0].slice, Status(Errc::kIo, "refused"));
  EXPECT_FALSE(read(1));
  EXPECT_TRUE(trio.run_until([&] { return read(1); }, 1'000));
}

TEST_F(ReplicaRepairTest, AnotherDamagedReplicaIsNotBelievedAndTheThirdIsAsked) {
  const auto whole = content(2);
  trio.crash(2);
  trio.crash(3);
  flip(1, 1'000);
  flip(2, 2'000);
  EXPECT_FALSE(read(1));
  trio.run_ms(2'000);
  EXPECT_FALSE(read(1)) << "nobody else is there";
  trio.start(2);
  trio.run_ms(3'000);
  EXPECT_FALSE(read(1)) << "what node 2 has there is damaged as well";
  trio.start(3);
  EXPECT_TRUE(trio.run_until([&] { return content(1) == whole && content(2) == whole; }, 40'000));
}

TEST_F(ReplicaRepairTest, OnlyCommittedBatchesAreGivenAwayWholeAndFromTheirBeginning) {
  auto ask = [&](Offset from, Offset to, TopicPartition partition) {
    std::optional<Result<SharedBytes>> answer;
    trio.nodes.at(1).replicas->read_range({partition, from, to},
                                          [&](Result<SharedBytes> batches) { answer.emplace(std::move(batches)); });
    EXPECT_FALSE(answer.has_value());
    trio.run_until([&] { return answer.has_value(); });
    return std::move(*answer);
  };
  auto given = ask(Offset(1), Offset(4), orders);
  ASSERT_TRUE(given.ok());
  EXPECT_EQ(RecordBatch::parse(given->view()).value().base_offset(), Offset(1));
  EXPECT_EQ(ask(Offset(6), Offset(9), orders).status().code(), Errc::kNotFound);
  EXPECT_EQ(ask(Offset(3), Offset(3), orders).status().code(), Errc::kNotFound);
  EXPECT_EQ(ask(Offset(0), Offset(1), {orders.topic, PartitionId(5)}).status().code(), Errc::kNotFound);
}

}  // namespace
}  // namespace trilog::testing
