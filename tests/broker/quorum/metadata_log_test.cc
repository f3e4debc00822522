#include "broker/quorum/metadata_log.h"

#include <gtest/gtest.h>

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

TEST(MetadataLogIdentity, ClustersOfSeveralVotersNeedATransport) {
  QuorumNode node;
  node.config.voters.push_back({BrokerId(2), DirectoryId(5, 6)});
  EXPECT_FALSE(node.open());
  EXPECT_EQ(node.error.code(), Errc::kInvalidArgument);
}

}  // namespace
}  // namespace trilog
