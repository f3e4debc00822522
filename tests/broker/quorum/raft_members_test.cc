// Changing the voters (Q9): the mistakes of reliability rules 1.3 that are about membership, each as a test. One Raft
// in memory; a set of voters is the text "voters 1 2 3'", where the mark says that the folder is a new one.
#include <gtest/gtest.h>

#include <sstream>

#include "tests/broker/quorum/raft_cluster.h"

namespace trilog {
namespace {

using testing::batch_of;

constexpr int64_t kMs = 1'000'000;

Voter voter(std::string_view name) {
  bool renewed = name.ends_with("'");
  int id = name.front() - '0';
  return {BrokerId(id), DirectoryId(renewed ? 1 : 0, static_cast<uint64_t>(id))};
}
// "voters 1 2 3", with "r1" behind it after the first recovery, by the first of them.
std::optional<RaftVoters> set_of(std::string_view text) {
  std::istringstream in{std::string(text)};
  std::string word;
  if (!(in >> word) || word != "voters") return std::nullopt;
  RaftVoters set;
  while (in >> word) {
    if (word[0] == 'r') {
      set.recovery = {static_cast<uint32_t>(word[1] - '0'), set.voters.front().id};
    } else {
      set.voters.push_back(voter(word));
    }
  }
  return set;
}
std::optional<std::vector<Voter>> voters_of(std::string_view text) {
  auto set = set_of(text);
  return set ? std::optional(set->voters) : std::nullopt;
}
std::string names(const std::vector<Voter>& voters) {
  std::string text;
  for (const Voter& one : voters) {
    text += (text.empty() ? "" : " ") + std::to_string(one.id.value()) + (one.directory.high() != 0 ? "'" : "");
  }
  return text;
}

class Members : public ::testing::Test {
 protected:
  void make(std::string_view self, std::string_view first = "voters 1 2 3") {
    RaftConfig config;
    config.self = voter(self);
    if (storage.end() > Offset(0)) config.voters = *voters_of(as_text(storage.entries().front().batch));
    if (storage.end() == Offset(0) && !first.empty()) {
      storage.append({Offset(0), 1, Term(0), batch_of(first)});
      config.voters = *voters_of(first);
    }
    for (size_t i = 1; i < storage.entries().size(); ++i) {
      const RaftEntry& entry = storage.entries()[i];
      if (auto set = set_of(as_text(entry.batch))) {
        config.voter_changes.push_back({entry.first, set->voters, set->recovery});
      }
    }
    config.known = {BrokerId(1), BrokerId(2), BrokerId(3), BrokerId(4)};
    config.no_op = batch_of("no-op");
    config.voters_in_entry = [](const RaftEntry& entry) { return set_of(as_text(entry.batch)); };
    config.voters_in_snapshot = [](const RaftSnapshot& snapshot) { return *set_of(as_text(snapshot.state)); };
    raft = std::make_unique<Raft>(config, state, Offset(0), Offset(0), storage, random);
    raft->start(now);
    run();
  }
  void run() {
    while (raft->has_ready()) {
      RaftReady ready = raft->take_ready();
      for (RaftMessage& message : ready.messages) sent.push_back(std::move(message));
      if (!ready.persist) continue;
      if (ready.persist->hard_state) state = *ready.persist->hard_state;
      storage.write(*ready.persist);
      raft->persisted();
    }
  }
  void step(std::string_view from, Term term, decltype(RaftMessage::body) body) {
    Voter sender = voter(from);
    sent.clear();
    raft->step({sender.id, BrokerId(1), sender.directory, term, std::move(body)}, now);
    run();
  }
  void matched(std::string_view from, Offset end) { step(from, raft->term(), RaftAppendReply{true, end, {}, {}, 0}); }
  // Node 1 leads {1, 2, 3}, and its first entry is committed with 2.
  void lead() {
    make("1");
    now = raft->next_deadline_ns();
    raft->tick(now);
    run();
    step("2", raft->term() + 1, RaftVoteReply{true, true});
    step("2", raft->term(), RaftVoteReply{false, true});
    ASSERT_EQ(raft->role(), Raft::Role::kLeader);
    EXPECT_FALSE(raft->may_change_voters());  // Q5: not before the first entry of the term is committed
    matched("2", raft->end());
    ASSERT_TRUE(raft->leading());
  }
  Offset propose(std::string_view text) {
    auto first = raft->propose(batch_of(text), 1);
    CHECK(first.has_value());
    run();
    return raft->end();
  }

  testing::MemoryRaftStorage storage;
  sim::SeededRandom random{1};
  RaftHardState state;
  std::unique_ptr<Raft> raft;
  std::vector<RaftMessage> sent;
  int64_t now = 1'000 * kMs;
};

TEST_F(Members, ASetCountsFromTheMomentItIsInTheLog) {
  lead();
  Offset end = propose("voters 1 2");
  EXPECT_EQ(names(raft->voters()), "1 2");
  EXPECT_LT(raft->committed(), end);
  matched("2", end);
  EXPECT_EQ(raft->committed(), end);
}

TEST_F(Members, ChangesAreMadeOneAtATime) {
  lead();
  EXPECT_TRUE(raft->may_change_voters());
  Offset end = propose("voters 1 2");
  EXPECT_FALSE(raft->may_change_voters());
  matched("2", end);
  EXPECT_TRUE(raft->may_change_voters());
}

TEST_F(Members, TheAnswersOfARemovedVoterDoNotCount) {
  lead();
  Offset end = propose("voters 1 2");
  matched("3", end);
  EXPECT_LT(raft->committed(), end);  // 1 and 3 are a majority of the old set only
  now += 600 * kMs;
  raft->tick(now);  // the quorum is checked: 3 was heard, but it is none of the voters
  matched("3", end);
  now += 600 * kMs;
  raft->tick(now);
  EXPECT_EQ(raft->role(), Raft::Role::kFollower);
}

TEST_F(Members, ANewFolderUnderAnOldNumberDoesNotCountForTheOldOne) {
  lead();
  raft->peer_present(voter("3'"), now);
  Offset end = propose("a");
  matched("3'", end);
  EXPECT_LT(raft->committed(), end);
  EXPECT_EQ(raft->peer(BrokerId(3))->match, end);  // it learns all the same
  matched("3", end);                               // and a late answer of its former self does not count either
  EXPECT_LT(raft->committed(), end);
}

TEST_F(Members, AVoterIsReplacedInTwoStepsWhoseMajoritiesMeet) {
  lead();
  raft->peer_present(voter("3'"), now);
  Offset end = propose("voters 1 2");
  matched("3'", end);
  EXPECT_LT(raft->committed(), end);
  matched("2", end);
  EXPECT_EQ(raft->committed(), end);
  end = propose("voters 1 2 3'");
  matched("3'", end);
  EXPECT_EQ(raft->committed(), end);
}

TEST_F(Members, AChangeThatIsCutOffIsUndone) {
  make("1");
  Term old(2);
  step("2", old, RaftAppend{Offset(1), Term(0), {{Offset(1), 1, old, batch_of("voters 1 2")}}, Offset(1), 0});
  EXPECT_EQ(names(raft->voters()), "1 2");
  step("3", old + 1, RaftAppend{Offset(1), Term(0), {{Offset(1), 1, old + 1, batch_of("x")}}, Offset(1), 0});
  EXPECT_EQ(names(raft->voters()), "1 2 3");
}

TEST_F(Members, AnUncommittedChangeIsUndoneAfterARestart) {
  make("1");
  Term old(2);
  step("2", old, RaftAppend{Offset(1), Term(0), {{Offset(1), 1, old, batch_of("voters 1 2")}}, Offset(1), 0});
  make("1");
  EXPECT_EQ(names(raft->voters()), "1 2");
  step("3", old + 1, RaftAppend{Offset(1), Term(0), {{Offset(1), 1, old + 1, batch_of("x")}}, Offset(1), 0});
  EXPECT_EQ(names(raft->voters()), "1 2 3");
}

TEST_F(Members, ARemovedVoterDoesNotComeBackByARestart) {
  lead();
  Offset end = propose("voters 1 2");
  matched("2", end);
  make("1");
  EXPECT_EQ(names(raft->voters()), "1 2");
  now = raft->next_deadline_ns();
  raft->tick(now);
  sent.clear();
  run();
  for (const RaftMessage& message : sent) EXPECT_EQ(message.to, BrokerId(2));
  EXPECT_FALSE(sent.empty());
  step("3", raft->term() + 1, RaftVoteReply{true, true});
  EXPECT_EQ(raft->role(), Raft::Role::kPreCandidate);
}

TEST_F(Members, ASnapshotBringsItsVoters) {
  make("1");
  step("2", Term(3), RaftInstall{{Offset(20), Term(2), batch_of("voters 1 2 4")}});
  EXPECT_EQ(names(raft->voters()), "1 2 4");
}

TEST_F(Members, ALearnerTakesEntriesButNeverStands) {
  make("1'");
  EXPECT_EQ(raft->next_deadline_ns(), INT64_MAX);
  step("2", Term(2), RaftAppend{Offset(1), Term(0), {{Offset(1), 1, Term(2), batch_of("x")}}, Offset(1), 0});
  EXPECT_EQ(raft->end(), Offset(2));
  now += 60'000 * kMs;
  raft->tick(now);
  EXPECT_EQ(raft->role(), Raft::Role::kFollower);
  EXPECT_EQ(raft->term(), Term(2));
}

TEST_F(Members, ALearnerVotesOnlyForWhoNamesItAsAVoter) {
  make("1'");
  step("2", Term(2), RaftVote{false, false, Offset(9), Term(1), voter("1").directory});
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_FALSE(std::get<RaftVoteReply>(sent[0].body).granted);
  step("2", Term(2), RaftVote{false, false, Offset(9), Term(1), voter("1'").directory});
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_TRUE(std::get<RaftVoteReply>(sent[0].body).granted);
}

TEST_F(Members, AnEmptyLearnerVotesForNobody) {
  make("1'", "");
  step("2", Term(2), RaftVote{false, false, Offset(9), Term(1), voter("1'").directory});
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_FALSE(std::get<RaftVoteReply>(sent[0].body).granted);
}

TEST_F(Members, AVoterAcceptsALeaderItDoesNotKnowAsAVoterYet) {
  make("1");
  step("4", Term(2), RaftAppend{Offset(1), Term(0), {{Offset(1), 1, Term(2), batch_of("voters 1 2 4")}}, Offset(1), 0});
  EXPECT_EQ(raft->leader(), BrokerId(4));
  EXPECT_EQ(names(raft->voters()), "1 2 4");
}

// --- a lost majority (Q9)
// ---------------------------------------------------------------------------------------------

TEST_F(Members, ASurvivorLeadsAloneInATermThatNobodyElseCanHaveReached) {
  make("1");
  step("2", Term(2), RaftAppend{Offset(1), Term(0), {{Offset(1), 1, Term(2), batch_of("a")}}, Offset(1), 0});
  EXPECT_EQ(raft->committed(), Offset(1));
  ASSERT_TRUE(raft->become_only_voter(batch_of("voters 1 r1"), now));
  run();
  EXPECT_TRUE(raft->leading());
  EXPECT_EQ(names(raft->voters()), "1");
  EXPECT_EQ(raft->term(), Term(2 + kRecoveryTerms));
  EXPECT_EQ(raft->committed(), Offset(4));  // "a", the set, the no-op
  // Whatever the lost ones say, with whatever term, is not heard.
  Term term = raft->term();
  step("2", term + 5, RaftAppend{Offset(1), Term(0), {{Offset(1), 1, term + 5, batch_of("x")}}, Offset(2), 0});
  EXPECT_TRUE(raft->leading());
  EXPECT_TRUE(sent.empty());
  step("3", term + 6, RaftVote{false, true, Offset(9), term + 5, voter("1").directory});
  EXPECT_EQ(raft->term(), term);
  EXPECT_TRUE(sent.empty());
  // And so after a restart.
  make("1");
  EXPECT_TRUE(raft->leading());
  EXPECT_EQ(raft->recovery(), (QuorumRecovery{1, BrokerId(1)}));
}

TEST_F(Members, WhoHearsOfARecoveryNeitherStandsNorVotesUntilItHasTheSet) {
  lead();
  const QuorumRecovery recovery{1, BrokerId(2)};
  const Term term = raft->term() + kRecoveryTerms;
  sent.clear();
  raft->step(
      {BrokerId(2), BrokerId(1), voter("2").directory, term, RaftAppend{Offset(9), term, {}, Offset(9), 0}, recovery},
      now);
  run();
  EXPECT_FALSE(raft->leading());
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].recovery, recovery);
  EXPECT_FALSE(std::get<RaftAppendReply>(sent[0].body).matched);
  now += 5'000 * kMs;
  raft->tick(now);
  run();
  EXPECT_EQ(raft->role(), Raft::Role::kFollower);
  step("3", term + 1, RaftVote{false, false, Offset(99), term, voter("1").directory});
  EXPECT_EQ(raft->term(), term);  // of the time before: dropped
  // Its entries follow: the set makes a follower without a vote of this node.
  const Offset end = raft->end();
  const Term last(1);
  raft->step({BrokerId(2), BrokerId(1), voter("2").directory, term,
              RaftAppend{end, last, {{end, 1, term, batch_of("voters 2 r1")}}, end + 1, 0}, recovery},
             now);
  run();
  EXPECT_FALSE(raft->superseded());
  EXPECT_EQ(names(raft->voters()), "2");
  EXPECT_EQ(raft->committed(), end + 1);
}

TEST_F(Members, CommittedEntriesThatARecoveredQuorumDoesNotHaveEndIt) {
  lead();  // committed: the set and the no-op of term 1
  const QuorumRecovery recovery{1, BrokerId(2)};
  const Term term = raft->term() + kRecoveryTerms;
  auto from_survivor = [&](RaftAppend append) {
    raft->step({BrokerId(2), BrokerId(1), voter("2").directory, term, std::move(append), recovery}, now);
    run();
  };
  // A position below the commit proves nothing by itself now.
  from_survivor({Offset(1), Term(0), {{Offset(1), 1, term, batch_of("voters 2 r1")}}, Offset(2), 0});
  EXPECT_TRUE(raft->superseded());
  EXPECT_EQ(names(raft->voters()), "1 2 3");
  EXPECT_FALSE(raft->has_ready());
}

TEST_F(Members, ARoundIsConfirmedByAMajorityOfVoters) {
  lead();
  raft->peer_present(voter("3'"), now);
  run();
  uint64_t round = raft->ask_round();
  run();
  EXPECT_LT(raft->confirmed_round(), round);
  step("3'", raft->term(), RaftAppendReply{true, Offset(1), {}, {}, round});
  EXPECT_LT(raft->confirmed_round(), round);
  step("2", raft->term(), RaftAppendReply{true, Offset(1), {}, {}, round - 1});
  EXPECT_LT(raft->confirmed_round(), round);
  step("2", raft->term(), RaftAppendReply{true, Offset(1), {}, {}, round});
  EXPECT_GE(raft->confirmed_round(), round);
}

}  // namespace
}  // namespace trilog
