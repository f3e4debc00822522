#include "tests/simulator/explore.h"

#include <cstdio>

#include "tests/broker/controller/exploration_model.h"

namespace trilog::simulator {
namespace {

using testing::Exploration;
using testing::ExplorationBounds;
using testing::ExplorationResult;

constexpr size_t kStatesMax = 15'000'000;

bool explore_within(const char* what, const ExplorationBounds& bounds) {
  const ExplorationResult result = Exploration(testing::ExplorationRules(), bounds).run();
  std::printf("%s: %zu states%s, %zu acknowledgements, %zu elections from the ELR, %zu hearings: %s\n", what,
              result.states, result.complete ? ", all there are" : " (limit)", result.acknowledged,
              result.elr_elections, result.hearings, result.violation.empty() ? "no violation" : "VIOLATION");
  if (!result.violation.empty()) std::printf("%s\n", result.violation.c_str());
  std::fflush(stdout);
  return result.violation.empty();
}

}  // namespace

int explore() {
  bool fine = explore_within("restarts", {.records = 1,
                                          .crashes = 3,
                                          .silent_losses = 1,
                                          .fencings = 0,
                                          .leader_epochs = 4,
                                          .begins_acknowledged = true,
                                          .states_max = kStatesMax});
  fine = fine && explore_within("records that move", {.records = 3,
                                                      .crashes = 2,
                                                      .silent_losses = 0,
                                                      .fencings = 1,
                                                      .leader_epochs = 3,
                                                      .begins_acknowledged = false,
                                                      .states_max = kStatesMax});
  return fine ? 0 : 1;
}

}  // namespace trilog::simulator
