// Breadth-first over everything that can happen in a small cluster, with the controller's own functions.
#include <gtest/gtest.h>

#include "tests/broker/controller/exploration_model.h"

namespace trilog {
namespace {

using testing::Exploration;
using testing::ExplorationBounds;
using testing::ExplorationResult;
using testing::ExplorationRules;

// A record on its way, one crash, leaders that do not know yet that they are deposed.
constexpr ExplorationBounds kDataPath{.records = 1,
                                      .crashes = 1,
                                      .silent_losses = 0,
                                      .fencings = 1,
                                      .leader_epochs = 2,
                                      .begins_acknowledged = false,
                                      .states_max = 400'000};
// An acknowledged record that all three have, then three crashes of any kind, one of them with a silent loss.
constexpr ExplorationBounds kRestarts{.records = 1,
                                      .crashes = 3,
                                      .silent_losses = 1,
                                      .fencings = 0,
                                      .leader_epochs = 4,
                                      .begins_acknowledged = true,
                                      .states_max = 400'000};

TEST(Exploration, WhoeverLeadsWithoutAnOperatorHasEveryAcknowledgedRecordWhileDataMoves) {
  ExplorationResult result = Exploration(ExplorationRules(), kDataPath).run();
  EXPECT_EQ(result.violation, "");
  EXPECT_TRUE(result.complete);
  EXPECT_GT(result.states, 200'000u);
  // What the exploration is about did happen.
  EXPECT_GT(result.acknowledged, 10'000u);
  EXPECT_GT(result.elr_elections, 10'000u);
}

TEST(Exploration, WhoeverLeadsWithoutAnOperatorHasEveryAcknowledgedRecordAfterAnyRestarts) {
  ExplorationResult result = Exploration(ExplorationRules(), kRestarts).run();
  EXPECT_EQ(result.violation, "");
  EXPECT_TRUE(result.complete);
  EXPECT_GT(result.states, 100'000u);
  EXPECT_GT(result.leaderships, 10'000u);
  EXPECT_GT(result.elr_elections, 1'000u);
  EXPECT_GT(result.hearings, 500u);
}

// Each rule is there for a reason that the exploration knows.
void expect_found(const ExplorationRules& broken, const ExplorationBounds& bounds) {
  ExplorationResult result = Exploration(broken, bounds).run();
  EXPECT_NE(result.violation, "") << result.states << " states";
}

TEST(Exploration, FindsACandidateThatIsElectedUnheard) { expect_found({.hears = false}, kRestarts); }
TEST(Exploration, FindsAHearingOfTooFew) { expect_found({.hears_enough = false}, kRestarts); }
TEST(Exploration, FindsAWipedFolderThatStaysACandidate) { expect_found({.trusts_wiped = true}, kRestarts); }
TEST(Exploration, FindsCandidatesThatAreKeptBesideALargeEnoughIsr) { expect_found({.clears_elr = false}, kRestarts); }
TEST(Exploration, FindsCandidatesThatLeftALargeEnoughIsr) { expect_found({.elr_at_any_size = true}, kDataPath); }
TEST(Exploration, FindsALeaderThatTakesAnUnconfirmedIsrForGranted) {
  expect_found({.counts_pending = false}, kDataPath);
}
TEST(Exploration, FindsALeaderThatAcknowledgesBelowTheMinimum) {
  expect_found({.stops_below_minimum = false}, kDataPath);
}
TEST(Exploration, FindsARestartedFollowerThatBelievesOldMetadata) { expect_found({.knows_itself = false}, kDataPath); }

}  // namespace
}  // namespace trilog
