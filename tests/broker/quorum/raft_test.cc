// Mistakes that hand-written Rafts have made (reliability rules, section 1.3), each as a test.
#include "broker/quorum/raft.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/broker/quorum/raft_cluster.h"

namespace trilog {
namespace {

using testing::batch_of;
using testing::RaftCluster;

constexpr int64_t kMs = 1'000'000;

RaftMessage message(int from, int to, Term term, decltype(RaftMessage::body) body) {
  return {BrokerId(from), BrokerId(to), DirectoryId(0, static_cast<uint64_t>(from)), term, std::move(body)};
}

// Delivers only what `keep` accepts; the rest stays on the way.
template <typename Keep>
void deliver_if(RaftCluster& cluster, Keep keep) {
  std::deque<RaftMessage> later;
  while (!cluster.messages().empty()) {
    RaftMessage next = std::move(cluster.messages().front());
    cluster.messages().pop_front();
    if (keep(next)) {
      cluster.deliver(next);
    } else {
      later.push_back(std::move(next));
    }
  }
  cluster.messages() = std::move(later);
}

// The answers that `to` gives to one message, which leave it once its writes are done.
std::vector<RaftMessage> answers(RaftCluster& cluster, const RaftMessage& in) {
  cluster.messages().clear();
  cluster.deliver(in);
  std::vector<RaftMessage> out(cluster.messages().begin(), cluster.messages().end());
  cluster.messages().clear();
  return out;
}

TEST(RaftFirstElection, IsAskedForByTheFirstVoterAndOnlyOnce) {  // Q8
  RaftCluster cluster(3);
  cluster.raft(2).stand_first(cluster.now_ns());
  EXPECT_EQ(cluster.raft(2).role(), Raft::Role::kFollower);
  cluster.raft(1).stand_first(cluster.now_ns());
  cluster.tick(1);
  cluster.deliver_all();
  ASSERT_EQ(cluster.leader(), 1);
  cluster.elect(2);
  const Term term = cluster.raft(1).term();
  cluster.raft(1).stand_first(cluster.now_ns());
  EXPECT_EQ(cluster.raft(1).role(), Raft::Role::kFollower);
  EXPECT_EQ(cluster.raft(1).term(), term);
}

TEST(RaftRegression, DoesNotVoteAgainInATermAfterSteppingDown) {
  RaftCluster cluster(3);
  cluster.elect(1);
  Term term = cluster.raft(1).term();
  cluster.isolate(1);
  for (int i = 0; i < 12; ++i) {
    cluster.advance(100 * kMs);
    cluster.tick(1);
  }
  ASSERT_EQ(cluster.raft(1).role(), Raft::Role::kFollower);
  ASSERT_EQ(cluster.raft(1).term(), term);
  cluster.heal();
  auto out = answers(cluster, message(2, 1, term, RaftVote{false, false, Offset(99), term}));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_FALSE(std::get<RaftVoteReply>(out[0].body).granted);
}

TEST(RaftRegression, DoesNotVoteAgainInATermAfterATransfer) {
  RaftCluster cluster(3);
  cluster.elect(1);
  cluster.raft(1).transfer_leadership(BrokerId(2), cluster.now_ns());
  cluster.run_ready(1);
  cluster.deliver_all();
  ASSERT_EQ(cluster.leader(), 2);
  Term term = cluster.raft(2).term();
  auto out = answers(cluster, message(1, 3, term, RaftVote{false, true, Offset(99), term}));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_FALSE(std::get<RaftVoteReply>(out[0].body).granted);
}

TEST(RaftRegression, DoesNotVoteAgainInATermAfterARestart) {
  RaftCluster cluster(3);
  auto first = answers(cluster, message(2, 1, Term(4), RaftVote{false, false, Offset(1), Term(0)}));
  ASSERT_TRUE(std::get<RaftVoteReply>(first.at(0).body).granted);
  cluster.crash(1);
  cluster.restart(1);
  auto second = answers(cluster, message(3, 1, Term(4), RaftVote{false, false, Offset(1), Term(0)}));
  EXPECT_FALSE(std::get<RaftVoteReply>(second.at(0).body).granted);
}

TEST(RaftRegression, TheVoteIsForgottenWhenTheTermMoves) {
  RaftCluster cluster(3);
  answers(cluster, message(2, 1, Term(4), RaftVote{false, false, Offset(1), Term(0)}));
  auto next = answers(cluster, message(3, 1, Term(5), RaftVote{false, false, Offset(1), Term(0)}));
  EXPECT_TRUE(std::get<RaftVoteReply>(next.at(0).body).granted);
  EXPECT_EQ(cluster.raft(1).voted_for(), BrokerId(3));
}

TEST(RaftRegression, ACandidateRefusesLowerTerms) {
  RaftCluster cluster(3);
  cluster.timeout(1);
  answers(cluster, message(2, 1, Term(1), RaftVoteReply{true, true}));
  ASSERT_EQ(cluster.raft(1).role(), Raft::Role::kCandidate);
  auto out = answers(cluster, message(3, 1, Term(0), RaftVote{false, false, Offset(99), Term(0)}));
  EXPECT_FALSE(std::get<RaftVoteReply>(out.at(0).body).granted);
  EXPECT_EQ(out.at(0).term, Term(1));
  out = answers(cluster, message(3, 1, Term(0), RaftAppend{Offset(1), Term(0), {}, Offset(1)}));
  EXPECT_FALSE(std::get<RaftAppendReply>(out.at(0).body).matched);
  EXPECT_EQ(cluster.raft(1).role(), Raft::Role::kCandidate);
}

TEST(RaftRegression, VotesOfAnEarlierTermDoNotCount) {
  RaftCluster cluster(3);
  cluster.timeout(1);
  answers(cluster, message(2, 1, Term(1), RaftVoteReply{true, true}));
  cluster.timeout(1);
  answers(cluster, message(2, 1, Term(2), RaftVoteReply{true, true}));
  ASSERT_EQ(cluster.raft(1).term(), Term(2));
  answers(cluster, message(2, 1, Term(1), RaftVoteReply{false, true}));
  EXPECT_EQ(cluster.raft(1).role(), Raft::Role::kCandidate);
}

TEST(RaftRegression, TheCommitNeverMovesBackOnATermMismatch) {
  RaftCluster cluster(3);
  cluster.elect(1);
  cluster.propose(1, "a");
  cluster.deliver_all();
  Offset committed = cluster.raft(2).committed();
  Term next = cluster.raft(1).term() + 1;
  answers(cluster, message(3, 2, next, RaftAppend{committed + 7, next, {}, Offset(0)}));
  EXPECT_EQ(cluster.raft(2).committed(), committed);
  answers(cluster, message(3, 2, next, RaftAppend{Offset(1), Term(0), {}, Offset(1)}));
  EXPECT_EQ(cluster.raft(2).committed(), committed);
}

TEST(RaftRegression, ALateOrRepeatedAppendNeverCutsTheLog) {
  RaftCluster cluster(3);
  cluster.elect(1);
  cluster.propose(1, "a");
  std::vector<RaftMessage> early(cluster.messages().begin(), cluster.messages().end());
  cluster.deliver_all();
  cluster.propose(1, "bb");
  cluster.propose(1, "c");
  cluster.deliver_all();
  Offset end = cluster.raft(2).end();
  for (const RaftMessage& again : early) cluster.deliver(again);
  EXPECT_EQ(cluster.raft(2).end(), end);
  EXPECT_EQ(cluster.raft(3).end(), end);
}

TEST(RaftRegression, TwoCatchUpsInParallelDoNotCutCommittedEntries) {
  RaftCluster cluster(3);
  cluster.elect(1);
  cluster.isolate(3);
  for (int i = 0; i < 5; ++i) cluster.propose(1, "while 3 is away");
  cluster.deliver_all();
  cluster.heal();
  // The same catch-up twice, the copies interleaved and in reverse.
  cluster.timeout(1);
  for (int round = 0; round < 20 && !cluster.messages().empty(); ++round) {
    std::vector<RaftMessage> now(cluster.messages().begin(), cluster.messages().end());
    cluster.messages().clear();
    for (auto copy = now.rbegin(); copy != now.rend(); ++copy) cluster.deliver(*copy);
    for (const RaftMessage& original : now) cluster.deliver(original);
    while (cluster.messages().size() > 40) cluster.messages().pop_back();
  }
  cluster.messages().clear();
  cluster.timeout(1);
  cluster.deliver_all();
  cluster.timeout(1);
  cluster.deliver_all();
  EXPECT_EQ(cluster.node(3).state, cluster.node(1).state);
}

TEST(RaftRegression, NoSuccessIsSignalledAfterAMismatch) {
  RaftCluster cluster(3);
  cluster.elect(1);
  Term term = cluster.raft(1).term();
  auto out = answers(cluster, message(1, 2, term, RaftAppend{Offset(50), term, {}, Offset(0)}));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_FALSE(std::get<RaftAppendReply>(out[0].body).matched);
}

TEST(RaftRegression, AnAnswerVouchesOnlyForWhatItsMessageVerified) {
  RaftCluster cluster(3);
  cluster.elect(1);
  cluster.propose(1, "a");
  cluster.propose(1, "b");
  cluster.deliver_all();
  Term term = cluster.raft(1).term();
  ASSERT_GT(cluster.raft(2).end(), Offset(1));
  // A stale heartbeat about a short prefix: the log of 2 is longer, the answer must not say so.
  auto out = answers(cluster, message(1, 2, term, RaftAppend{Offset(1), Term(0), {}, Offset(1)}));
  EXPECT_EQ(std::get<RaftAppendReply>(out.at(0).body).end, Offset(1));
}

TEST(RaftRegression, EntriesWaitingForTheDiskDoNotSurviveATruncation) {
  RaftCluster cluster(3);
  cluster.auto_sync = false;
  RaftEntry old{Offset(1), 1, Term(1), batch_of("old")};
  RaftEntry older{Offset(2), 1, Term(1), batch_of("old too")};
  cluster.deliver(message(2, 1, Term(1), RaftAppend{Offset(1), Term(0), {old}, Offset(0)}));
  cluster.deliver(message(2, 1, Term(1), RaftAppend{Offset(2), Term(1), {older}, Offset(0)}));
  RaftEntry fresh{Offset(1), 1, Term(2), batch_of("new")};
  cluster.deliver(message(3, 1, Term(2), RaftAppend{Offset(1), Term(0), {fresh}, Offset(0)}));
  EXPECT_EQ(cluster.raft(1).end(), Offset(2));
  cluster.messages().clear();
  // The first write finishes after its entries were cut: it makes nothing durable at those offsets (a count of
  // truncations, not a comparison of offsets), and its answer to the old leader is not sent.
  cluster.complete_persist(1);
  EXPECT_EQ(cluster.raft(1).durable_end(), Offset(1));
  EXPECT_TRUE(cluster.messages().empty());
  cluster.complete_persist(1);
  EXPECT_EQ(cluster.raft(1).durable_end(), Offset(2));
  ASSERT_EQ(cluster.messages().size(), 1u);
  EXPECT_EQ(std::get<RaftAppendReply>(cluster.messages()[0].body).end, Offset(2));
  EXPECT_EQ(as_text(cluster.node(1).durable.entries().back().batch), "new");
}

TEST(RaftRegression, AnEmptyLogNeitherVotesNorStands) {
  testing::MemoryRaftStorage empty;
  sim::SeededRandom random(1);
  RaftConfig config;
  for (int id = 1; id <= 3; ++id) config.voters.push_back({BrokerId(id), DirectoryId(0, static_cast<uint64_t>(id))});
  config.self = config.voters[0];
  Raft raft(config, {}, Offset(0), Offset(0), empty, random);
  raft.start(0);
  raft.step(message(2, 1, Term(1), RaftVote{false, false, Offset(0), Term(0)}), 0);
  raft.step(message(3, 1, Term(2), RaftVote{true, false, Offset(5), Term(1)}), 0);
  raft.tick(raft.next_deadline_ns());
  EXPECT_EQ(raft.role(), Raft::Role::kFollower);
  while (raft.has_ready()) {
    RaftReady ready = raft.take_ready();
    for (const RaftMessage& out : ready.messages) EXPECT_FALSE(std::get<RaftVoteReply>(out.body).granted);
    if (ready.persist) raft.persisted();
  }
  EXPECT_EQ(raft.voted_for(), kNoBroker);
}

TEST(RaftRegression, AnotherDirectoryIsAnotherNode) {
  RaftCluster cluster(3);
  cluster.elect(1);
  Offset committed = cluster.raft(1).committed();
  cluster.isolate(2);
  cluster.isolate(3);
  cluster.propose(1, "a");
  // The disk of 3 was replaced: it has the number of a voter, but not its memory (Q8).
  RaftMessage stranger = message(3, 1, cluster.raft(1).term(), RaftAppendReply{true, cluster.raft(1).end(), {}, {}});
  stranger.directory = DirectoryId(0, 77);
  cluster.heal();
  cluster.deliver(stranger);
  EXPECT_EQ(cluster.raft(1).committed(), committed);
}

TEST(RaftRegression, ProposalsAreNotAcceptedFromAnOldLeadership) {
  RaftCluster cluster(3);
  cluster.elect(1);
  cluster.isolate(1);
  cluster.elect(2);
  cluster.heal();
  cluster.timeout(2);
  cluster.deliver_all();
  EXPECT_FALSE(cluster.propose(1, "late").has_value());
  EXPECT_EQ(cluster.node(1).news.back(), "no longer leads term 1");
}

TEST(RaftRegression, LeadershipIsReportedOnlyAfterTheFirstEntryOfTheTermIsCommitted) {
  RaftCluster cluster(3);
  cluster.advance(2000 * kMs);
  cluster.timeout(1);
  // Votes get through, entries do not.
  for (int i = 0; i < 6; ++i) {
    deliver_if(cluster, [](const RaftMessage& m) { return !std::holds_alternative<RaftAppend>(m.body); });
  }
  ASSERT_EQ(cluster.raft(1).role(), Raft::Role::kLeader);
  EXPECT_TRUE(cluster.node(1).news.empty());
  cluster.deliver_all();
  ASSERT_EQ(cluster.node(1).news.size(), 1u);
  EXPECT_EQ(cluster.node(1).news[0], "leads term 1");
}

TEST(RaftRegression, AnInstalledSnapshotEndsExactlyWhereTheNextEntryBegins) {
  RaftCluster cluster(3);
  cluster.elect(1);
  cluster.isolate(3);
  for (int i = 0; i < 4; ++i) cluster.propose(1, "ab");
  cluster.deliver_all();
  cluster.compact(1);
  cluster.heal();
  cluster.timeout(1);
  cluster.deliver_all();
  EXPECT_EQ(cluster.node(3).storage.start(), cluster.node(1).storage.start());
  EXPECT_EQ(cluster.raft(3).applied(), cluster.raft(1).applied());
  cluster.propose(1, "first after the snapshot");
  cluster.deliver_all();
  EXPECT_EQ(cluster.node(3).state, cluster.node(1).state);
  EXPECT_EQ(cluster.raft(3).applied(), cluster.raft(3).end());
}

TEST(RaftRegression, ASnapshotThatWasLostOnTheWayIsSentAgain) {
  RaftCluster cluster(3);
  cluster.elect(1);
  cluster.isolate(3);
  cluster.propose(1, "ab");
  cluster.deliver_all();
  cluster.compact(1);
  cluster.heal();
  int sent = 0;
  for (int i = 0; i < 60; ++i) {
    cluster.timeout(1);
    deliver_if(cluster, [&](const RaftMessage& m) {
      if (!std::holds_alternative<RaftInstall>(m.body)) return true;
      ++sent;
      return sent > 1;
    });
    std::deque<RaftMessage>& left = cluster.messages();
    left.erase(std::remove_if(left.begin(), left.end(),
                              [](const RaftMessage& m) { return std::holds_alternative<RaftInstall>(m.body); }),
               left.end());
  }
  EXPECT_EQ(sent, 2);
  EXPECT_EQ(cluster.node(3).state, cluster.node(1).state);
}

TEST(RaftRegression, AnOldSnapshotDoesNotReplaceANewerLog) {
  RaftCluster cluster(3);
  cluster.elect(1);
  cluster.propose(1, "a");
  cluster.deliver_all();
  cluster.timeout(1);
  cluster.deliver_all();
  Offset end = cluster.raft(2).end();
  RaftSnapshot old{Offset(1), Term(0), batch_of("")};
  auto out = answers(cluster, message(1, 2, cluster.raft(1).term(), RaftInstall{old}));
  EXPECT_EQ(std::get<RaftAppendReply>(out.at(0).body).end, Offset(1));
  EXPECT_EQ(cluster.raft(2).end(), end);
  EXPECT_EQ(cluster.node(2).storage.start(), Offset(0));
}

TEST(RaftRegression, ALeaderThatCannotReadItsEntriesStepsDown) {
  RaftCluster cluster(3);
  cluster.elect(1);
  cluster.isolate(3);
  cluster.propose(1, "a");
  cluster.deliver_all();
  cluster.heal();
  cluster.node(1).storage.unreadable = true;
  cluster.timeout(1);
  cluster.deliver_all();
  EXPECT_EQ(cluster.raft(1).role(), Raft::Role::kFollower);
  EXPECT_EQ(cluster.raft(1).failure().code(), Errc::kCorruption);
}

TEST(RaftRegression, AReturningNodeDoesNotRaiseTheTermOfAHealthyCluster) {
  RaftCluster cluster(3);
  cluster.elect(1);
  Term term = cluster.raft(1).term();
  cluster.isolate(3);
  for (int i = 0; i < 20; ++i) cluster.timeout(3);
  cluster.messages().clear();
  cluster.heal();
  for (int i = 0; i < 10; ++i) {
    cluster.timeout(1);
    cluster.deliver_all();
  }
  EXPECT_EQ(cluster.leader(), 1);
  EXPECT_EQ(cluster.raft(1).term(), term);
}

TEST(RaftRegression, MalformedMessagesAreDropped) {
  RaftCluster cluster(3);
  cluster.elect(1);
  Term term = cluster.raft(1).term();
  Offset end = cluster.raft(2).end();
  RaftEntry gap{end + 3, 1, term, batch_of("gap")};
  RaftEntry from_the_future{end, 1, term + 1, batch_of("x")};
  RaftEntry empty{end, 0, term, batch_of("x")};
  for (const RaftEntry& bad : {gap, from_the_future, empty}) {
    EXPECT_TRUE(answers(cluster, message(1, 2, term, RaftAppend{end, term, {bad}, end})).empty());
  }
  EXPECT_TRUE(answers(cluster, message(9, 2, term, RaftAppend{end, term, {}, end})).empty());
  EXPECT_EQ(cluster.raft(2).end(), end);
}

TEST(RaftDeathTest, TwoLeadersOfOneTermStopTheProcess) {
  RaftCluster cluster(3);
  cluster.elect(1);
  Term term = cluster.raft(1).term();
  EXPECT_DEATH(cluster.deliver(message(3, 2, term, RaftAppend{Offset(1), Term(0), {}, Offset(0)})), "check failed");
}

TEST(RaftDeathTest, CuttingWhatIsCommittedStopsTheProcess) {
  RaftCluster cluster(3);
  cluster.elect(1);
  cluster.propose(1, "a");
  cluster.deliver_all();
  cluster.timeout(1);
  cluster.deliver_all();
  Offset committed = cluster.raft(2).committed();
  Term next = cluster.raft(1).term() + 1;
  // A leader that should never have been elected sends one long entry across the committed end.
  RaftEntry across{committed - 1, 5, next, batch_of("across")};
  EXPECT_DEATH(cluster.deliver(message(3, 2, next, RaftAppend{committed - 1, Term(1), {across}, Offset(0)})),
               "check failed");
}

}  // namespace
}  // namespace trilog
