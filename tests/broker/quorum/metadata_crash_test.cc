// The metadata log after power cuts and on damaged disks (Q1, Q2, Q11).
#include <gtest/gtest.h>

#include <set>

#include "tests/broker/quorum/metadata_log_fixture.h"

namespace trilog {
namespace {

using testing::QuorumNode;

TEST(MetadataLogCrash, NothingPromisedIsLostWhereverThePowerFails) {
  int cuts_with_promises = 0;
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    QuorumNode node(seed);
    sim::SeededRandom random(seed);
    for (int life = 0; life < 4; ++life) {
      ASSERT_TRUE(node.open()) << "life " << life << ": " << node.error.to_string();
      uint64_t events = random.below(life == 0 ? 40 : 150);
      for (uint64_t i = 0; i < events; ++i) {
        if (node.log->leading() && random.chance(20)) node.propose(std::to_string(life) + "." + std::to_string(i));
        node.world.run_one();
      }
      cuts_with_promises += node.promised.empty() ? 0 : 1;
      if (random.chance(70)) {
        node.power_cut();
      } else {
        node.kill();
      }
    }
    node.run();
    ASSERT_TRUE(node.keeps_every_promise());
    // Recovering again changes nothing.
    std::string state = node.state;
    node.power_cut();
    node.run();
    ASSERT_EQ(node.state, state);
    ASSERT_TRUE(node.env->fatal_status().ok());
  }
  EXPECT_GT(cuts_with_promises, 150);
}

TEST(MetadataLogCrash, TheTermNeverFallsAndNoTermIsUsedTwice) {
  std::set<Term> led;
  QuorumNode node(5);
  sim::SeededRandom random(5);
  for (int life = 0; life < 60; ++life) {
    ASSERT_TRUE(node.open()) << node.error.to_string();
    for (uint64_t i = random.below(60); i > 0; --i) node.world.run_one();
    if (node.leads > 0) {
      EXPECT_TRUE(led.insert(node.term).second);
      EXPECT_EQ(*led.rbegin(), node.term);
    }
    node.power_cut();
  }
  EXPECT_GT(led.size(), 10u);
}

// Every byte of every file: the node says so, or nothing is missing. It never starts with less than it promised.
TEST(MetadataLogDamage, AFlippedBitIsNoticedOrHarmless) {
  QuorumNode origin;
  origin.run();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(origin.commit("value " + std::to_string(i)).ok());
  ASSERT_TRUE(origin.close().ok());
  sim::DiskImage sound = origin.disk.durable();
  int refused = 0;
  int opened = 0;
  for (const std::string& path : sound.all_files()) {
    size_t size = sound.content(sound.find(path)).size();
    for (size_t at = 0; at<size; at += size> 1'000 ? 7 : 1) {
      QuorumNode node(at);
      sim::DiskImage image = sound;
      image.flip_bit(image.find(path), at * 8 + at % 8);
      for (const std::string& file : image.all_files()) node.disk.put_file(file, image.content(image.find(file)));
      node.promised = origin.promised;
      if (!node.open()) {
        ++refused;
        ASSERT_EQ(node.error.code(), Errc::kCorruption) << path << " at " << at << ": " << node.error.to_string();
        ASSERT_NE(node.error.message().find("/metadata"), std::string::npos) << node.error.to_string();
        continue;
      }
      ++opened;
      node.world.run_until_idle();
      ASSERT_TRUE(node.keeps_every_promise()) << path << " at " << at;
      ASSERT_TRUE(node.log->leading()) << path << " at " << at;
    }
  }
  EXPECT_GT(refused, 40);
  EXPECT_GT(opened, 40);
}

TEST(MetadataLogDamage, AMissingOrEmptyFileIsNeverTakenForANewNode) {
  QuorumNode origin;
  origin.run();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(origin.commit("value " + std::to_string(i)).ok());
  ASSERT_TRUE(origin.close().ok());
  sim::DiskImage sound = origin.disk.durable();
  for (const std::string& victim : sound.all_files()) {
    for (bool empty : {false, true}) {
      QuorumNode node;
      for (const std::string& file : sound.all_files()) {
        if (file == victim && !empty) continue;
        node.disk.put_file(file, file == victim ? ByteView() : sound.content(sound.find(file)));
      }
      node.promised = origin.promised;
      if (!node.open()) {
        EXPECT_EQ(node.error.code(), Errc::kCorruption) << victim << ": " << node.error.to_string();
        continue;
      }
      node.world.run_until_idle();
      EXPECT_TRUE(node.keeps_every_promise()) << victim << (empty ? " empty" : " missing");
    }
  }
}

TEST(MetadataLogDamage, AnUnreadableVoteIsRefusedByName) {
  QuorumNode node;
  node.run();
  ASSERT_TRUE(node.commit("a").ok());
  ASSERT_TRUE(node.close().ok());
  const std::string rubbish(9'000, 'x');
  node.disk.put_file("/data/node-1/metadata/vote", as_bytes(rubbish));
  EXPECT_FALSE(node.open());
  EXPECT_EQ(node.error.code(), Errc::kCorruption);
  EXPECT_NE(node.error.message().find("/data/node-1/metadata/vote"), std::string::npos);
}

TEST(MetadataLogDamage, EitherSlotOfTheVoteMayRot) {
  for (uint64_t slot : {0u, 1u}) {
    QuorumNode node;
    node.run();
    ASSERT_TRUE(node.commit("a").ok());
    ASSERT_TRUE(node.close().ok());
    node.disk.flip_bit("/data/node-1/metadata/vote", (slot * 4096 + 30) * 8);
    node.run();
    EXPECT_EQ(node.term, Term(2)) << slot;  // a forgotten vote would give term 1 again
    EXPECT_TRUE(node.keeps_every_promise());
  }
}

TEST(MetadataLogDeterminism, TheSameSeedGivesTheSameTrace) {
  auto trace = [](uint64_t seed) {
    QuorumNode node(seed);
    for (int life = 0; life < 3; ++life) {
      EXPECT_TRUE(node.open());
      for (int i = 0; i < 200; ++i) {
        if (node.log->leading() && i % 9 == 0) node.propose("r" + std::to_string(i));
        node.world.run_one();
      }
      node.power_cut();
    }
    return node.world.trace_hash();
  };
  EXPECT_EQ(trace(11), trace(11));
  EXPECT_NE(trace(11), trace(12));
}

}  // namespace
}  // namespace trilog
