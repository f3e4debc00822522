// The rules of the Raft paper and thesis, one test each, in the order of the text.
#include <gtest/gtest.h>

#include "tests/broker/quorum/raft_cluster.h"

namespace trilog {
namespace {

using testing::batch_of;
using testing::MemoryRaftStorage;
using testing::RaftCluster;

constexpr int64_t kMs = 1'000'000;

RaftMessage message(int from, int to, int term, decltype(RaftMessage::body) body) {
  return {BrokerId(from), BrokerId(to), DirectoryId(0, static_cast<uint64_t>(from)), Term(term), std::move(body)};
}

RaftEntry entry(int64_t first, int term, std::string_view text, int count = 1) {
  return {Offset(first), count, Term(term), batch_of(text)};
}

// Node 1 of three with a log of its own, whose every write is done at once.
class OneOfThree : public ::testing::Test {
 protected:
  OneOfThree() { storage.append(entry(0, 0, "voters")); }
  Raft& make(RaftHardState state = {}) {
    RaftConfig config;
    for (int id = 1; id <= 3; ++id) config.voters.push_back({BrokerId(id), DirectoryId(0, static_cast<uint64_t>(id))});
    config.self = config.voters[0];
    config.no_op = batch_of("no-op");
    raft.emplace(config, state, Offset(0), Offset(0), storage, random);
    raft->start(now);
    return *raft;
  }
  std::vector<RaftMessage> drain() {
    std::vector<RaftMessage> sent;
    while (raft->has_ready()) {
      RaftReady ready = raft->take_ready();
      if (ready.persist) storage.write(*ready.persist);
      for (RaftMessage& out : ready.messages) sent.push_back(std::move(out));
      if (ready.persist) raft->persisted();
    }
    return sent;
  }
  std::vector<RaftMessage> step(RaftMessage in) {
    raft->step(in, now);
    return drain();
  }
  void become_leader() {
    now = raft->next_deadline_ns();
    raft->tick(now);
    drain();
    Term asked = raft->term() + 1;
    step(message(2, 1, asked.value(), RaftVoteReply{true, true}));
    step(message(2, 1, asked.value(), RaftVoteReply{false, true}));
    ASSERT_EQ(raft->role(), Raft::Role::kLeader);
  }
  template <typename Body>
  static const Body& body(const RaftMessage& sent) {
    return std::get<Body>(sent.body);
  }

  int64_t now = 1'000 * kMs;
  sim::SeededRandom random{7};
  MemoryRaftStorage storage;
  std::optional<Raft> raft;
};

// --- 5.1 terms ---------------------------------------------------------------------------------------------------

TEST_F(OneOfThree, TakesOverAHigherTermAndBecomesAFollower) {
  make();
  become_leader();
  step(message(2, 1, 9, RaftAppend{Offset(1), Term(0), {}, Offset(0)}));
  EXPECT_EQ(raft->role(), Raft::Role::kFollower);
  EXPECT_EQ(raft->term(), Term(9));
  EXPECT_EQ(raft->leader(), BrokerId(2));
}

TEST_F(OneOfThree, AnswersALowerTermWithItsOwnAndChangesNothing) {
  make({Term(5), kNoBroker});
  auto sent = step(message(2, 1, 4, RaftAppend{Offset(1), Term(0), {entry(1, 4, "old")}, Offset(2)}));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].term, Term(5));
  EXPECT_FALSE(body<RaftAppendReply>(sent[0]).matched);
  EXPECT_EQ(raft->end(), Offset(1));
  EXPECT_EQ(raft->leader(), kNoBroker);
}

// --- 5.2 leader election -----------------------------------------------------------------------------------------

TEST_F(OneOfThree, StartsAnElectionAfterARandomTimeout) {
  std::set<int64_t> seen;
  for (int i = 0; i < 20; ++i) {
    make();
    int64_t wait = raft->next_deadline_ns() - now;
    EXPECT_GE(wait, 500 * kMs);
    EXPECT_LT(wait, 1000 * kMs);
    seen.insert(wait);
  }
  EXPECT_GT(seen.size(), 15u);
}

TEST_F(OneOfThree, AsksForPreVotesWithoutRaisingItsTerm) {
  make({Term(3), kNoBroker});
  now = raft->next_deadline_ns();
  raft->tick(now);
  auto sent = drain();
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_TRUE(body<RaftVote>(sent[0]).pre);
  EXPECT_EQ(sent[0].term, Term(4));
  EXPECT_EQ(raft->term(), Term(3));
  EXPECT_EQ(raft->role(), Raft::Role::kPreCandidate);
}

TEST_F(OneOfThree, RaisesItsTermAndVotesForItselfOnceAMajorityWouldVoteForIt) {
  make();
  now = raft->next_deadline_ns();
  raft->tick(now);
  drain();
  auto sent = step(message(3, 1, 1, RaftVoteReply{true, true}));
  EXPECT_EQ(raft->role(), Raft::Role::kCandidate);
  EXPECT_EQ(raft->term(), Term(1));
  EXPECT_EQ(raft->voted_for(), BrokerId(1));
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_FALSE(body<RaftVote>(sent[0]).pre);
}

TEST_F(OneOfThree, DoesNotAskForVotesBeforeItsOwnIsDurable) {
  make();
  now = raft->next_deadline_ns();
  raft->tick(now);
  drain();
  raft->step(message(3, 1, 1, RaftVoteReply{true, true}), now);
  RaftReady ready = raft->take_ready();
  ASSERT_TRUE(ready.persist.has_value());
  EXPECT_EQ(ready.persist->hard_state, (RaftHardState{Term(1), BrokerId(1)}));
  EXPECT_TRUE(ready.messages.empty());
  raft->persisted();
  EXPECT_EQ(raft->take_ready().messages.size(), 2u);
}

TEST_F(OneOfThree, LeadsWithAMajorityAndSaysSoAtOnce) {
  make();
  now = raft->next_deadline_ns();
  raft->tick(now);
  drain();
  step(message(2, 1, 1, RaftVoteReply{true, true}));
  auto sent = step(message(2, 1, 1, RaftVoteReply{false, true}));
  EXPECT_EQ(raft->role(), Raft::Role::kLeader);
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_EQ(as_text(body<RaftAppend>(sent[0]).entries.at(0).batch), "no-op");
}

TEST_F(OneOfThree, ACandidateFollowsALeaderOfItsOwnTerm) {
  make();
  now = raft->next_deadline_ns();
  raft->tick(now);
  drain();
  step(message(2, 1, 1, RaftVoteReply{true, true}));
  ASSERT_EQ(raft->role(), Raft::Role::kCandidate);
  step(message(3, 1, 1, RaftAppend{Offset(1), Term(0), {}, Offset(0)}));
  EXPECT_EQ(raft->role(), Raft::Role::kFollower);
  EXPECT_EQ(raft->leader(), BrokerId(3));
}

TEST_F(OneOfThree, GivesUpWhenAMajorityRefuses) {
  make();
  now = raft->next_deadline_ns();
  raft->tick(now);
  drain();
  step(message(2, 1, 1, RaftVoteReply{true, true}));
  step(message(2, 1, 1, RaftVoteReply{false, false}));
  EXPECT_EQ(raft->role(), Raft::Role::kCandidate);
  step(message(3, 1, 1, RaftVoteReply{false, false}));
  EXPECT_EQ(raft->role(), Raft::Role::kFollower);
}

TEST_F(OneOfThree, GivesOneVotePerTermFirstComeFirstServed) {
  make();
  auto first = step(message(2, 1, 1, RaftVote{false, false, Offset(1), Term(0)}));
  auto second = step(message(3, 1, 1, RaftVote{false, false, Offset(9), Term(0)}));
  auto again = step(message(2, 1, 1, RaftVote{false, false, Offset(1), Term(0)}));
  EXPECT_TRUE(body<RaftVoteReply>(first.at(0)).granted);
  EXPECT_FALSE(body<RaftVoteReply>(second.at(0)).granted);
  EXPECT_TRUE(body<RaftVoteReply>(again.at(0)).granted);
}

TEST_F(OneOfThree, AVoteIsDurableBeforeItIsGiven) {
  make();
  raft->step(message(2, 1, 1, RaftVote{false, false, Offset(1), Term(0)}), now);
  RaftReady ready = raft->take_ready();
  ASSERT_TRUE(ready.persist.has_value());
  EXPECT_EQ(ready.persist->hard_state, (RaftHardState{Term(1), BrokerId(2)}));
  EXPECT_TRUE(ready.messages.empty());
  raft->persisted();
  EXPECT_EQ(raft->take_ready().messages.size(), 1u);
}

// --- 5.3 log replication -----------------------------------------------------------------------------------------

TEST_F(OneOfThree, RefusesEntriesWhosePredecessorItLacksAndSaysWhereToTry) {
  storage.append(entry(1, 1, "a"));
  storage.append(entry(2, 1, "b"));
  make({Term(1), kNoBroker});
  auto sent = step(message(2, 1, 3, RaftAppend{Offset(9), Term(2), {entry(9, 3, "x")}, Offset(0)}));
  const auto& reply = body<RaftAppendReply>(sent.at(0));
  EXPECT_FALSE(reply.matched);
  EXPECT_EQ(reply.end, Offset(3));
  EXPECT_EQ(reply.end_term, Term(1));
}

TEST_F(OneOfThree, CutsItsConflictingTailAndTakesTheLeaders) {
  storage.append(entry(1, 1, "a"));
  storage.append(entry(2, 1, "b", 3));
  make({Term(1), kNoBroker});
  auto sent = step(message(2, 1, 2, RaftAppend{Offset(2), Term(1), {entry(2, 2, "c"), entry(3, 2, "d")}, Offset(0)}));
  EXPECT_TRUE(body<RaftAppendReply>(sent.at(0)).matched);
  EXPECT_EQ(body<RaftAppendReply>(sent.at(0)).end, Offset(4));
  ASSERT_EQ(storage.entries().size(), 4u);
  EXPECT_EQ(as_text(storage.entries()[2].batch), "c");
}

TEST_F(OneOfThree, DoesNotAcknowledgeEntriesBeforeTheyAreDurable) {
  make();
  raft->step(message(2, 1, 1, RaftAppend{Offset(1), Term(0), {entry(1, 1, "a")}, Offset(0)}), now);
  RaftReady ready = raft->take_ready();
  ASSERT_TRUE(ready.persist.has_value());
  EXPECT_TRUE(ready.messages.empty());
  storage.write(*ready.persist);
  raft->persisted();
  EXPECT_EQ(body<RaftAppendReply>(raft->take_ready().messages.at(0)).end, Offset(2));
}

TEST_F(OneOfThree, CommitsWhatALeaderSaysButNotBeyondWhatItVerified) {
  storage.append(entry(1, 1, "a"));
  storage.append(entry(2, 1, "stale"));
  make({Term(1), kNoBroker});
  step(message(2, 1, 2, RaftAppend{Offset(2), Term(1), {}, Offset(50)}));
  EXPECT_EQ(raft->committed(), Offset(2));
}

TEST_F(OneOfThree, ALeaderCommitsOnceAMajorityIncludingItsOwnDiskHasAnEntry) {
  make();
  now = raft->next_deadline_ns();
  raft->tick(now);
  drain();
  step(message(2, 1, 1, RaftVoteReply{true, true}));
  raft->step(message(2, 1, 1, RaftVoteReply{false, true}), now);
  RaftReady ready = raft->take_ready();
  storage.write(ready.persist.value());
  // One follower has the no-op; the leader's own disk does not have it yet (Q1).
  raft->step(message(2, 1, 1, RaftAppendReply{true, Offset(2), {}, {}}), now);
  EXPECT_EQ(raft->committed(), Offset(0));
  raft->persisted();
  EXPECT_EQ(raft->committed(), Offset(2));
}

TEST_F(OneOfThree, ALeaderCommitsWithTwoFollowersWhileItsOwnDiskIsSlow) {
  make();
  now = raft->next_deadline_ns();
  raft->tick(now);
  drain();
  step(message(2, 1, 1, RaftVoteReply{true, true}));
  raft->step(message(2, 1, 1, RaftVoteReply{false, true}), now);
  RaftReady ready = raft->take_ready();
  storage.write(ready.persist.value());
  raft->step(message(2, 1, 1, RaftAppendReply{true, Offset(2), {}, {}}), now);
  raft->step(message(3, 1, 1, RaftAppendReply{true, Offset(2), {}, {}}), now);
  EXPECT_EQ(raft->committed(), Offset(2));
  // Not applied, and so not announced, before it is durable here.
  EXPECT_EQ(raft->take_ready().apply_to, Offset(1));
  raft->persisted();
  EXPECT_EQ(raft->take_ready().apply_to, Offset(2));
}

// Figure 7: a new leader brings every kind of follower to its own log.
class Figure7 : public ::testing::TestWithParam<std::vector<int>> {};

TEST_P(Figure7, ANewLeaderRepairsTheFollowersLog) {
  RaftCluster cluster(3);
  std::vector<int> leader_terms = {1, 1, 1, 4, 4, 5, 5, 6, 6, 6};
  auto fill = [&](int id, const std::vector<int>& terms) {
    cluster.crash(id);
    auto& node = cluster.node(id);
    for (size_t i = 0; i < terms.size(); ++i) {
      // Equal terms mean equal entries.
      std::string text = "t" + std::to_string(terms[i]) + "-" + std::to_string(i);
      node.durable.append(entry(static_cast<int64_t>(i) + 1, terms[i], text));
    }
    node.durable_state = {Term(7), kNoBroker};
    cluster.restart(id);
  };
  fill(1, leader_terms);
  fill(3, leader_terms);
  fill(2, GetParam());
  cluster.isolate(2);
  cluster.elect(1);
  cluster.heal();
  for (int i = 0; i < 12; ++i) {
    cluster.timeout(1);
    cluster.deliver_all();
  }
  EXPECT_EQ(cluster.node(2).state, cluster.node(1).state);
  EXPECT_EQ(cluster.raft(2).end(), Offset(12));  // voters, ten entries, the no-op
}

INSTANTIATE_TEST_SUITE_P(Paper, Figure7,
                         ::testing::Values(std::vector<int>{1, 1, 1, 4, 4, 5, 5, 6, 6},           // (a)
                                           std::vector<int>{1, 1, 1, 4},                          // (b)
                                           std::vector<int>{1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6},     // (c)
                                           std::vector<int>{1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7},  // (d)
                                           std::vector<int>{1, 1, 1, 4, 4, 4, 4},                 // (e)
                                           std::vector<int>{1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3}));   // (f)

// --- 5.4 safety --------------------------------------------------------------------------------------------------

TEST_F(OneOfThree, VotesOnlyForALogAtLeastAsUpToDate) {
  storage.append(entry(1, 2, "a"));
  storage.append(entry(2, 2, "b"));
  struct Case {
    int64_t end;
    int term;
    bool granted;
  };
  int asked = 3;
  for (Case c : {Case{3, 2, true}, Case{9, 2, true}, Case{1, 3, true}, Case{2, 2, false}, Case{90, 1, false}}) {
    make({Term(asked), kNoBroker});
    ++asked;
    auto sent = step(message(2, 1, asked, RaftVote{false, false, Offset(c.end), Term(c.term)}));
    EXPECT_EQ(body<RaftVoteReply>(sent.at(0)).granted, c.granted) << c.end << "/" << c.term;
    auto pre = step(message(3, 1, asked + 1, RaftVote{true, false, Offset(c.end), Term(c.term)}));
    EXPECT_EQ(body<RaftVoteReply>(pre.at(0)).granted, c.granted) << c.end << "/" << c.term;
  }
}

// Figure 8: an entry of an earlier term on a majority is not committed by counting.
TEST_F(OneOfThree, DoesNotCommitEntriesOfEarlierTermsByCountingReplicas) {
  storage.append(entry(1, 2, "earlier"));
  make({Term(3), kNoBroker});
  become_leader();  // term 4, no-op at 2
  step(message(2, 1, 4, RaftAppendReply{true, Offset(2), {}, {}}));
  EXPECT_EQ(raft->committed(), Offset(0));
  step(message(2, 1, 4, RaftAppendReply{true, Offset(3), {}, {}}));
  EXPECT_EQ(raft->committed(), Offset(3));
}

// --- section 8, and thesis 6.4 -----------------------------------------------------------------------------------

TEST_F(OneOfThree, IsNotTheLeaderToTheOutsideBeforeItsFirstEntryIsCommitted) {
  make();
  become_leader();
  EXPECT_FALSE(raft->leading());
  EXPECT_FALSE(raft->propose(batch_of("too early"), 1).has_value());
  step(message(2, 1, 1, RaftAppendReply{true, Offset(2), {}, {}}));
  EXPECT_TRUE(raft->leading());
  EXPECT_EQ(raft->propose(batch_of("now"), 2), Offset(2));
}

// --- thesis 6.2: a leader without a quorum steps down ----------------------------------------------------------------

TEST_F(OneOfThree, ALeaderThatHearsNoMajorityStepsDown) {
  make();
  become_leader();
  step(message(2, 1, 1, RaftAppendReply{true, Offset(2), {}, {}}));
  ASSERT_TRUE(raft->leading());
  for (int i = 0; i < 12; ++i) {
    now += 100 * kMs;
    raft->tick(now);
    drain();
  }
  EXPECT_EQ(raft->role(), Raft::Role::kFollower);
  EXPECT_FALSE(raft->leading());
  EXPECT_EQ(raft->term(), Term(1));
}

TEST_F(OneOfThree, OneAnsweringFollowerOfTwoKeepsALeaderInOffice) {
  make();
  become_leader();
  for (int i = 0; i < 30; ++i) {
    now += 100 * kMs;
    raft->tick(now);
    drain();
    step(message(3, 1, 1, RaftAppendReply{true, Offset(2), {}, {}}));
  }
  EXPECT_TRUE(raft->leading());
}

// --- thesis 9.6 and 4.2.3: whoever hears its leader does not vote against it
// ---------------------------------------------

TEST_F(OneOfThree, RefusesToDeposeALeaderItHearsAndKeepsItsTerm) {
  make();
  step(message(2, 1, 1, RaftAppend{Offset(1), Term(0), {}, Offset(0)}));
  now += 499 * kMs;
  EXPECT_TRUE(step(message(3, 1, 2, RaftVote{true, false, Offset(9), Term(1)})).empty());
  EXPECT_TRUE(step(message(3, 1, 2, RaftVote{false, false, Offset(9), Term(1)})).empty());
  EXPECT_EQ(raft->term(), Term(1));
  now += 1 * kMs;
  EXPECT_TRUE(body<RaftVoteReply>(step(message(3, 1, 2, RaftVote{true, false, Offset(9), Term(1)})).at(0)).granted);
}

TEST_F(OneOfThree, ARefusedConnectionToTheLeaderCountsAsNotHeard) {
  make();
  step(message(2, 1, 1, RaftAppend{Offset(1), Term(0), {}, Offset(0)}));
  raft->peer_unreachable(BrokerId(3), now);
  EXPECT_TRUE(step(message(3, 1, 2, RaftVote{true, false, Offset(9), Term(1)})).empty());
  raft->peer_unreachable(BrokerId(2), now);
  EXPECT_LE(raft->next_deadline_ns(), now + 500 * kMs);
  EXPECT_TRUE(body<RaftVoteReply>(step(message(3, 1, 2, RaftVote{true, false, Offset(9), Term(1)})).at(0)).granted);
}

TEST_F(OneOfThree, ARequestedTransferIsNoReasonToRefuse) {
  make();
  step(message(2, 1, 1, RaftAppend{Offset(1), Term(0), {}, Offset(0)}));
  auto sent = step(message(3, 1, 2, RaftVote{false, true, Offset(9), Term(1)}));
  EXPECT_TRUE(body<RaftVoteReply>(sent.at(0)).granted);
}

// --- thesis 3.10: leadership transfer ------------------------------------------------------------------------------

TEST(RaftTransferTest, HandsTheLeadershipOverToAFollowerThatIsUpToDate) {
  RaftCluster cluster(3);
  cluster.elect(1);
  cluster.propose(1, "a");
  ASSERT_TRUE(cluster.raft(1).transfer_leadership(BrokerId(3), cluster.now_ns()));
  EXPECT_FALSE(cluster.propose(1, "refused meanwhile").has_value());
  cluster.run_ready(1);
  cluster.deliver_all();
  EXPECT_EQ(cluster.leader(), 3);
  EXPECT_EQ(cluster.node(1).state, cluster.node(3).state);
}

TEST(RaftTransferTest, ALeaderTakesProposalsAgainWhenTheTransferDidNotHappen) {
  RaftCluster cluster(3);
  cluster.elect(1);
  cluster.isolate(3);
  ASSERT_TRUE(cluster.raft(1).transfer_leadership(BrokerId(3), cluster.now_ns()));
  EXPECT_FALSE(cluster.propose(1, "b").has_value());
  for (int i = 0; i < 6; ++i) {
    cluster.advance(100 * kMs);
    cluster.tick(1);
    cluster.deliver_all();
  }
  EXPECT_TRUE(cluster.propose(1, "b").has_value());
}

// --- one voter ---------------------------------------------------------------------------------------------------

TEST(RaftOfOne, LeadsAtOnceWithoutWaitingForATimeout) {
  RaftCluster cluster(1);
  EXPECT_EQ(cluster.leader(), 1);
  EXPECT_EQ(cluster.raft(1).term(), Term(1));
  EXPECT_EQ(cluster.raft(1).next_deadline_ns(), INT64_MAX);
}

TEST(RaftOfOne, WritesTheVoteAndTheFirstEntryInOneStep) {
  RaftCluster cluster(1);
  cluster.crash(1);
  cluster.auto_sync = false;
  cluster.restart(1);
  ASSERT_TRUE(cluster.node(1).persist.has_value());
  EXPECT_EQ(cluster.node(1).persist->hard_state, (RaftHardState{Term(2), BrokerId(1)}));
  EXPECT_EQ(cluster.node(1).persist->entries.size(), 1u);
  EXPECT_FALSE(cluster.raft(1).leading());
  cluster.complete_persist(1);
  EXPECT_TRUE(cluster.raft(1).leading());
}

TEST(RaftOfOne, ProposalsMadeDuringAWriteShareTheNextOne) {
  RaftCluster cluster(1);
  cluster.auto_sync = false;
  cluster.propose(1, "a");
  ASSERT_EQ(cluster.node(1).persist->entries.size(), 1u);
  cluster.propose(1, "b");
  cluster.propose(1, "c");
  cluster.complete_persist(1);
  ASSERT_TRUE(cluster.node(1).persist.has_value());
  EXPECT_EQ(cluster.node(1).persist->entries.size(), 2u);
}

}  // namespace
}  // namespace trilog
