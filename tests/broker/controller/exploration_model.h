// A small cluster for breadth-first exploration: three brokers, one partition with a minimum of two in sync, a few
// records and crashes. What the controller decides is computed by the controller's own functions (isr_control.h,
// leader_election.h); around them stand a simple data path that follows R4-R9 and disks that can be killed, stopped,
// wiped, and can lose a synced tail without anybody noticing.
//
// Whatever a leader acknowledges must be in the log of everyone who starts to lead later without an operator's word.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <unordered_map>
#include <vector>

#include "broker/controller/isr_control.h"

namespace trilog::testing {

// The rules under test; a test may break one to see that the exploration notices.
struct ExplorationRules {
  bool hears = true;                // C8: unclean candidates are heard before one is elected
  bool hears_enough = true;         // as many as the minimum, not just one
  bool trusts_wiped = false;        // a wiped folder stays a candidate
  bool clears_elr = true;           // when the ISR is large enough again
  bool elr_at_any_size = false;     // whoever leaves the ISR becomes a candidate
  bool counts_pending = true;       // R7: the maximal ISR
  bool stops_below_minimum = true;  // R6
  // A restarted process follows nobody before its image shows its own registration. Else it may follow a leader that
  // was deposed long ago, which adds its word to that of followers that have cut off its records since.
  bool knows_itself = true;
};
struct ExplorationBounds {
  int records = 2;
  int crashes = 2;
  int silent_losses = 1;  // at most the minimum less one
  int fencings = 2;
  int leader_epochs = 4;
  bool begins_acknowledged = false;  // with one record that all three have
  size_t states_max = 2'000'000;
};
struct ExplorationResult {
  size_t states = 0;
  bool complete = false;
  std::string violation;  // empty: none
  size_t elr_elections = 0, hearings = 0, acknowledged = 0, leaderships = 0;
};

class Exploration {
 public:
  Exploration(ExplorationRules rules, ExplorationBounds bounds) : rules_(rules), bounds_(bounds) {}
  ExplorationResult run();

 private:
  static constexpr int kNodes = 3;
  static constexpr int32_t kMinInSync = 2;
  static constexpr uint8_t kNobody = kNodes;
  static constexpr int kLogMax = 3;
  using Log = std::array<uint8_t, kLogMax>;  // leader epoch and number of each record
  enum Stop : uint8_t { kRunning, kStoppedClean, kStoppedUnclean, kStoppedWiped };

  // Only bytes, so that states can be compared and hashed as such.
  struct Node {
    uint8_t alive = 1, fenced = 0, stop = kRunning, known_epoch = 0;
    uint8_t length = 0;
    Log log{};
    // While it believes that it leads:
    uint8_t leads = 0, epoch = 0, isr = 0, pending = 0, current = 0, first = 0;
    std::array<uint8_t, kNodes> match{};
    uint8_t match_process = 0;  // bit: the match is of the registered process
  };
  struct State {
    std::array<Node, kNodes> nodes;
    uint8_t isr = 0b111, elr = 0, unclean = 0, leader = 0, leader_epoch = 0;
    uint8_t acknowledged = 0;
    Log truth{};  // what was acknowledged
    uint8_t records = 0, crashes = 0, losses = 0, fencings = 0;
    bool operator==(const State& other) const { return std::memcmp(this, &other, sizeof(State)) == 0; }
  };
  struct Hash {
    size_t operator()(const State& state) const {
      uint64_t hash = 0xcbf29ce484222325ULL;
      const auto* bytes = reinterpret_cast<const unsigned char*>(&state);
      for (size_t i = 0; i < sizeof(State); ++i) hash = (hash ^ bytes[i]) * 0x100000001b3ULL;
      return hash ^ hash >> 29;
    }
  };

  void successors(const State& state);
  void data_path(const State& state, int b);
  void replicate(const State& state, int from, int to);
  void alter(const State& state, int b, uint8_t isr);
  void learn(const State& state, int b);
  void stop(const State& state, int b);
  void controller(const State& state);
  void fence(const State& state, uint8_t gone);
  void start(const State& state, int b);
  void unfence(const State& state, int b);
  void hear(const State& state);
  void acknowledge(State& state, int b);
  void emit(State state);
  void commit(State& state, const PartitionImage& next);
  void fail(const State& state, const std::string& what);

  PartitionImage image(const State& state) const;
  LiveBrokers live(const State& state, uint8_t without) const;
  static std::vector<BrokerId> list(uint8_t mask);
  static uint8_t mask(const std::vector<BrokerId>& brokers);
  static std::string describe(const State& state);

  const ExplorationRules rules_;
  const ExplorationBounds bounds_;
  ExplorationResult result_;
  std::unordered_map<State, const State*, Hash> seen_;  // and from where it was reached
  const State* origin_ = nullptr;
  std::vector<const State*> frontier_;
};

}  // namespace trilog::testing
