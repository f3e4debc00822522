// Snapshots of the metadata log: made, used, kept in pairs, and what happens when one is damaged (Q10, Q11).
#include <gtest/gtest.h>

#include <set>

#include "tests/broker/quorum/metadata_log_fixture.h"

namespace trilog {
namespace {

using testing::QuorumNode;

class MetadataLogSnapshots : public ::testing::Test {
 protected:
  MetadataLogSnapshots() { node.config.snapshot_bytes = 100'000; }
  // Until there are that many snapshots on the disk, of which two are kept.
  void fill(size_t made) {
    std::set<std::string> seen;
    for (int i = 0; seen.size() < made; ++i) {
      ASSERT_LT(i, 3'000);
      ASSERT_TRUE(node.commit(std::to_string(i) + std::string(2'000, 'x')).ok());
      node.world.run_until_idle();
      for (const std::string& path : snapshots()) seen.insert(path);
    }
  }
  std::vector<std::string> snapshots() {
    std::vector<std::string> found;
    for (const std::string& path : node.files(".snapshot")) {
      if (path.find('-', path.rfind('/')) != std::string::npos) found.push_back(path);
    }
    return found;
  }
  std::vector<std::string> segments() { return node.files(".log"); }

  QuorumNode node;
};

TEST_F(MetadataLogSnapshots, AreMadeAndUsedAtTheNextStart) {
  node.run();
  fill(1);
  std::string before = node.state;
  node.power_cut(sim::CrashPolicy::lose_all());
  node.run();
  EXPECT_EQ(node.state, before);
  EXPECT_TRUE(node.snapshot_applied.has_value());
  EXPECT_TRUE(node.keeps_every_promise());
}

TEST_F(MetadataLogSnapshots, TwoAreKeptAndTheLogReachesBackToTheOlder) {
  node.run();
  fill(1);
  EXPECT_EQ(segments().front(), "/data/node-1/metadata/00000000000000000000.log");
  fill(4);
  EXPECT_EQ(snapshots().size(), 2u);
  ASSERT_TRUE(node.commit("a mark later").ok());
  node.world.run_until_idle();
  EXPECT_NE(segments().front(), "/data/node-1/metadata/00000000000000000000.log");
  // The first file that is left begins no later than the older snapshot ends.
  std::string first_segment = segments().front().substr(22, 20);
  std::string older_snapshot = snapshots().front().substr(22, 20);
  EXPECT_LE(first_segment, older_snapshot);
}

TEST_F(MetadataLogSnapshots, ADamagedNewestOneFallsBackToTheOneBefore) {
  node.run();
  fill(4);
  std::string before = node.state;
  ASSERT_TRUE(node.close().ok());
  node.disk.flip_bit(snapshots().back(), 4'000);
  node.run();
  EXPECT_EQ(node.state, before);
  EXPECT_TRUE(node.keeps_every_promise());
}

TEST_F(MetadataLogSnapshots, ADamagedOnlyOneFallsBackToTheWholeLog) {
  node.run();
  fill(1);
  std::string before = node.state;
  ASSERT_TRUE(node.close().ok());
  node.disk.flip_bit(snapshots().back(), 4'000);
  node.snapshot_applied.reset();
  node.run();
  EXPECT_FALSE(node.snapshot_applied.has_value());
  EXPECT_EQ(node.state, before);
}

TEST_F(MetadataLogSnapshots, WithoutAnyThatCanBeReadATrimmedLogIsDamagedNotEmpty) {
  node.run();
  fill(4);
  ASSERT_TRUE(node.commit("a mark later").ok());
  ASSERT_TRUE(node.close().ok());
  std::vector<std::string> all = snapshots();
  for (const std::string& path : all) node.disk.flip_bit(path, 4'000);
  size_t files = node.files().size();
  EXPECT_FALSE(node.open());
  EXPECT_EQ(node.error.code(), Errc::kCorruption);
  EXPECT_NE(node.error.message().find(all.back()), std::string::npos) << node.error.to_string();
  EXPECT_EQ(node.files().size(), files);  // nothing was removed
}

TEST_F(MetadataLogSnapshots, AHalfWrittenOneIsRemovedUnread) {
  node.run();
  ASSERT_TRUE(node.commit("a").ok());
  ASSERT_TRUE(node.close().ok());
  node.disk.put_file("/data/node-1/metadata/00000000000000000099-0000000001.snapshot.tmp", as_bytes("half of it"));
  node.run();
  EXPECT_TRUE(snapshots().empty());
  EXPECT_TRUE(node.keeps_every_promise());
}

TEST_F(MetadataLogSnapshots, OneThatTheLogDoesNotContinueIsNotUsed) {
  node.run();
  fill(1);
  std::string before = node.state;
  ASSERT_TRUE(node.close().ok());
  // The same bytes under a name that claims another place.
  std::string path = snapshots().back();
  sim::InodeId inode = node.disk.image().find(path);
  Bytes content = Bytes::copy_of(node.disk.image().content(inode));
  node.disk.put_file("/data/node-1/metadata/00000000000000090000-0000000001.snapshot", content);
  node.run();
  EXPECT_EQ(node.state, before);
}

TEST_F(MetadataLogSnapshots, ACrashAtAnyPointOfMakingOneLosesNothing) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    QuorumNode other(seed);
    other.config.snapshot_bytes = 20'000;
    other.run();
    uint64_t stop_at = 400 + seed * 37;
    for (int i = 0; other.world.scheduler().executed() < stop_at; ++i) {
      other.propose(std::to_string(i) + std::string(3'000, 'y'));
      for (int k = 0; k < 12 && other.world.scheduler().executed() < stop_at; ++k) other.world.run_one();
    }
    other.power_cut();
    ASSERT_TRUE(other.open()) << seed << ": " << other.error.to_string();
    other.world.run_until_idle();
    ASSERT_TRUE(other.keeps_every_promise()) << seed;
  }
}

}  // namespace
}  // namespace trilog
