#include "broker/quorum/metadata_log.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/broker/quorum/metadata_log_fixture.h"

namespace trilog {
namespace {

using testing::QuorumNode;

constexpr int64_t kMicro = 1'000;

TEST(MetadataLog, FormsAnEmptyFolderAndLeadsWithoutWaitingForATimeout) {
  QuorumNode node;
  node.disk.set_sync_delay(200 * kMicro, 200 * kMicro);
  int64_t begin = node.world.now_ns();
  node.run();
  EXPECT_EQ(node.leads, 1);
  EXPECT_EQ(node.term, Term(1));
  EXPECT_EQ(node.log->leader(), BrokerId(1));
  EXPECT_EQ(node.log->voters(), node.config.voters);
  // The set of voters and the no-op; neither is anybody's business.
  EXPECT_EQ(node.log->committed(), Offset(2));
  EXPECT_EQ(node.commits, 0);
  EXPECT_LE(node.world.now_ns() - begin, 1'200 * kMicro);
}

TEST(MetadataLog, TheFirstCommitOfANewFolderTakesUnderTwoMilliseconds) {
  QuorumNode node;
  node.disk.set_sync_delay(200 * kMicro, 200 * kMicro);
  int64_t begin = node.world.now_ns();
  ASSERT_TRUE(node.open());
  node.world.run_until([&] { return node.log->leading(); });
  EXPECT_EQ(*node.commit("registration"), Offset(2));
  EXPECT_LE(node.world.now_ns() - begin, 1'700 * kMicro);
}

TEST(MetadataLog, ALaterCommitCostsTwoSyncs) {
  QuorumNode node;
  node.run();
  ASSERT_TRUE(node.commit("a").ok());
  uint64_t syncs = node.disk.calls(sim::DiskCall::kSync) + node.disk.calls(sim::DiskCall::kSyncDirectory);
  ASSERT_TRUE(node.commit("b").ok());
  EXPECT_EQ(node.disk.calls(sim::DiskCall::kSync) + node.disk.calls(sim::DiskCall::kSyncDirectory) - syncs, 2u);
}

TEST(MetadataLog, AnswersWithTheOffsetOfTheFirstRecordOnceTheBatchIsApplied) {
  QuorumNode node;
  node.run();
  Offset expected = node.log->next_offset();
  node.propose_all({"a", "b", "c"});
  EXPECT_EQ(node.log->next_offset(), expected + 3);
  EXPECT_EQ(node.answered, 0);  // never inside the call
  node.world.run_until_idle();
  EXPECT_EQ(node.state, "2=a;3=b;4=c;");
  EXPECT_TRUE(node.keeps_every_promise());
  EXPECT_EQ(node.commits, 1);
  EXPECT_EQ(*node.commit("d"), Offset(5));
}

TEST(MetadataLog, ProposalsMadeWhileAWriteIsUnderWayShareTheNextOne) {
  QuorumNode node;
  node.run();
  uint64_t before = node.disk.calls(sim::DiskCall::kSync);
  node.propose("first");
  node.world.post([&] {
    for (int i = 0; i < 40; ++i) node.propose("more " + std::to_string(i));
  });
  node.world.run_until_idle();
  EXPECT_EQ(node.answered, 41);
  EXPECT_EQ(node.commits, 41);
  EXPECT_LE(node.disk.calls(sim::DiskCall::kSync) - before, 6u);
}

TEST(MetadataLog, NothingIsAnsweredBeforeTheExactMarkIsOnTheDisk) {
  QuorumNode node;
  node.run();
  node.disk.hold_syncs(true);
  node.propose("a");
  node.world.run_until_idle();
  EXPECT_EQ(node.disk.syncs_held(), 1u);  // the entry
  EXPECT_EQ(node.answered, 0);
  node.disk.hold_syncs(false);
  node.disk.hold_syncs(true);
  node.world.run_for(1'000'000);
  EXPECT_EQ(node.disk.syncs_held(), 1u);  // the mark
  EXPECT_EQ(node.answered, 0);
  EXPECT_EQ(node.commits, 0);
  node.disk.hold_syncs(false);
  node.world.run_until_idle();
  EXPECT_EQ(node.answered, 1);
}

TEST(MetadataLog, ContinuesAfterACleanStopInAHigherTerm) {
  QuorumNode node;
  node.run();
  ASSERT_TRUE(node.commit("a").ok());
  ASSERT_TRUE(node.close().ok());
  node.run();
  EXPECT_EQ(node.term, Term(2));
  EXPECT_EQ(node.state, "2=a;");
  EXPECT_EQ(*node.commit("b"), Offset(4));  // behind the second no-op
}

TEST(MetadataLog, EveryCommittedBatchComesOncePerOpening) {
  QuorumNode node;
  node.run();
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(node.commit("r" + std::to_string(i)).ok());
  std::string before = node.state;
  for (int i = 0; i < 3; ++i) {
    node.power_cut(sim::CrashPolicy::lose_all());
    node.run();
    EXPECT_EQ(node.state, before);
    EXPECT_EQ(node.commits, 10);
    EXPECT_EQ(node.leads, 1);
  }
}

TEST(MetadataLog, RefusesMoreThanItsLimits) {
  QuorumNode node;
  node.run();
  for (size_t i = 0; i < kProposalsWaitingMax; ++i) node.propose("x");
  node.propose("one too many");
  node.world.run_until_idle();
  EXPECT_EQ(node.answered, static_cast<int>(kProposalsWaitingMax) + 1);
  EXPECT_EQ(node.promised.size(), kProposalsWaitingMax);
  node.propose(std::string(kProposalBytesMax + 1, 'x'));
  node.world.run_until_idle();
  EXPECT_EQ(node.last.code(), Errc::kTooLarge);
  node.propose_all({});
  node.world.run_until_idle();
  EXPECT_EQ(node.last.code(), Errc::kInvalidArgument);
  EXPECT_TRUE(node.commit("goes on").ok());
}

TEST(MetadataLog, DoesNotTakeProposalsBeforeItLeads) {
  QuorumNode node;
  ASSERT_TRUE(node.open());
  EXPECT_FALSE(node.log->leading());
  node.propose("early");
  node.world.run_until_idle();
  EXPECT_EQ(node.answered, 1);
  EXPECT_EQ(node.last.code(), Errc::kFailed);
  EXPECT_TRUE(node.log->leading());
}

TEST(MetadataLog, AnswersEverythingWhenItIsClosedWhileWriting) {
  QuorumNode node;
  node.run();
  node.propose("in the log");
  node.world.post([&] { node.propose("not yet"); });
  std::optional<Status> closed;
  node.world.post([&] { node.log->close([&](Status status) { closed = std::move(status); }); });
  node.world.run_until_idle();
  EXPECT_TRUE(closed.has_value() && closed->ok());
  EXPECT_EQ(node.answered, 2);
  node.propose("after");
  node.world.run_until_idle();
  EXPECT_EQ(node.answered, 3);
  EXPECT_EQ(node.last.code(), Errc::kFailed);
}

TEST(MetadataLog, CanBeClosedWhileItForms) {
  for (int events = 0; events < 25; ++events) {
    QuorumNode node;
    ASSERT_TRUE(node.open());
    for (int i = 0; i < events; ++i) node.world.run_one();
    EXPECT_TRUE(node.close().ok()) << events;
    node.run();
    EXPECT_TRUE(node.commit("a").ok());
  }
}

TEST(MetadataLog, ARecordThatCannotBeAppliedStopsTheNode) {
  QuorumNode node;
  node.run();
  node.refuse_commit_at = 2;
  node.propose("bad");
  node.propose("next");
  node.world.run_until_idle();
  EXPECT_EQ(node.env->fatal_status().code(), Errc::kCorruption);
  EXPECT_EQ(node.answered, 2);
  EXPECT_TRUE(node.promised.empty());
  EXPECT_FALSE(node.log->leading());
  EXPECT_EQ(node.commits, 1);
}

TEST(MetadataLog, AFailedSyncStopsTheNodeAndPromisesNothing) {
  for (uint64_t nth = 1; nth <= 2; ++nth) {
    QuorumNode node;
    node.run();
    node.disk.add_fault({sim::DiskCall::kSync, "metadata", nth, 1, Errc::kIo});
    node.propose("a");
    node.world.run_until_idle();
    EXPECT_FALSE(node.env->fatal_status().ok()) << nth;
    EXPECT_EQ(node.answered, 1);
    EXPECT_TRUE(node.promised.empty());
    node.propose("b");
    node.world.run_until_idle();
    EXPECT_EQ(node.answered, 2);
    EXPECT_TRUE(node.promised.empty());
  }
}

TEST(MetadataLog, AFullDiskIsWaitedOut) {
  QuorumNode node;
  node.run();
  node.disk.add_fault({sim::DiskCall::kWrite, ".log", 1, 3, Errc::kDiskFull});
  node.propose("a");
  node.propose("b");
  node.world.run_until_idle();
  EXPECT_EQ(node.answered, 0);
  node.world.run_for(5'000'000'000);
  EXPECT_EQ(node.answered, 2);
  EXPECT_EQ(node.state, "2=a;3=b;");
  EXPECT_TRUE(node.env->fatal_status().ok());
}

TEST(MetadataLog, CanBeClosedWhileItWaitsForSpace) {
  QuorumNode node;
  node.run();
  ASSERT_TRUE(node.commit("a").ok());
  node.disk.add_fault({sim::DiskCall::kWrite, ".log", 1, 1'000, Errc::kDiskFull});
  node.propose("b");
  node.world.run_until_idle();
  static_cast<void>(node.close());
  EXPECT_EQ(node.answered, 2);
  node.disk.clear_faults();
  node.run();
  EXPECT_TRUE(node.keeps_every_promise());
}

// --- whose folder ------------------------------------------------------------------------------------------------

TEST(MetadataLogIdentity, RefusesAFolderOfAnotherClusterOrNode) {
  QuorumNode node;
  node.run();
  ASSERT_TRUE(node.close().ok());
  MetadataLogConfig right = node.config;
  node.config.cluster = ClusterId(9, 9);
  EXPECT_FALSE(node.open());
  EXPECT_EQ(node.error.code(), Errc::kInvalidArgument);
  node.config = right;
  node.config.self.directory = DirectoryId(8, 8);
  EXPECT_FALSE(node.open());
  EXPECT_EQ(node.error.code(), Errc::kInvalidArgument);
  node.config = right;
  EXPECT_TRUE(node.open());
}

TEST(MetadataLogIdentity, AMemberWhoseMetadataIsGoneIsDamagedNotNew) {
  QuorumNode node;
  node.config.was_member = true;
  EXPECT_FALSE(node.open());
  EXPECT_EQ(node.error.code(), Errc::kCorruption);
}

TEST(MetadataLogIdentity, ClustersOfSeveralVotersAreRefused) {
  QuorumNode node;
  node.config.voters.push_back({BrokerId(2), DirectoryId(5, 6)});
  EXPECT_FALSE(node.open());
  EXPECT_EQ(node.error.code(), Errc::kUnsupported);
}

// --- snapshots ---------------------------------------------------------------------------------------------------

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
  for (uint64_t seed = 1; seed <= 60; ++seed) {
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

// --- crashes and damage ------------------------------------------------------------------------------------------

TEST(MetadataLogCrash, NothingPromisedIsLostWhereverThePowerFails) {
  int cuts_with_promises = 0;
  for (uint64_t seed = 1; seed <= 400; ++seed) {
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
  EXPECT_GT(cuts_with_promises, 400);
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
  EXPECT_GT(refused, 100);
  EXPECT_GT(opened, 100);
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
  node.disk.put_file("/data/node-1/metadata/vote", Bytes(9'000));
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
