// One seed: a cluster, clients and faults on virtual time, then healing, and the verdict.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/simulator/consumer.h"
#include "tests/simulator/context.h"
#include "tests/simulator/nemesis.h"
#include "tests/simulator/observer.h"
#include "tests/simulator/plan.h"
#include "tests/simulator/producer.h"

namespace trilog::simulator {

struct Verdict {
  uint64_t seed = 0;
  uint64_t hash = 0;  // of every event, equal for equal seeds
  uint64_t events = 0;
  int64_t virtual_ns = 0;
  Counters counters;
  std::vector<std::string> violations;
  std::string journal;  // its end
};

class Simulation {
 public:
  // `trace`: every line of the journal goes to standard error as it happens.
  Simulation(const Plan& plan, bool trace);
  Verdict run();
  const history::History& history() const { return context_.history; }

  static constexpr int64_t kHealedWithinNs = 60 * kSecond;

 private:
  void heard(const std::string& env, std::string_view line);
  bool make_topics();
  bool make_topic(Topic& topic, const std::map<std::string, std::string>& configs);
  void add_clients();
  void watch();
  // Runs the world until it holds or the time since healing is over; then `what` did not end in time.
  bool settle(const std::function<bool()>& predicate, const std::function<std::string()>& what);
  void heal_and_wind_down();
  void elect_by_hand();
  void elect_by_hand(const TopicImage& topic, int32_t index);
  void elect_by_hand(const std::string& name, api::Durability durability, api::ElectLeaderRequest request);
  void write_to_every_partition();
  void check_groups();
  void read_everything();
  void read_partition(const Topic& topic, int32_t index);
  void list_topics();
  void judge();

  const Plan plan_;
  bool listening_ = false;  // to the nodes' log lines
  sim::World world_;
  sim::SimCluster cluster_;
  Context context_;
  Observer observer_;
  Nemesis nemesis_;
  std::vector<std::unique_ptr<Producer>> producers_;
  std::vector<std::unique_ptr<Consumer>> consumers_;
  std::vector<std::unique_ptr<Asker>> askers_;
  std::map<std::string, int> hand_questions_;  // per partition without a leader
  int64_t healed_ns_ = 0;
  bool watching_ = true;
};

}  // namespace trilog::simulator
