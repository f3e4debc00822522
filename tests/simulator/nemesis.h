// Makes faults happen, as the plan says, and undoes each after a while. At the end it heals everything.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>

#include "tests/simulator/context.h"
#include "tests/simulator/observer.h"
#include "tests/simulator/plan.h"

namespace trilog::simulator {

class Nemesis {
 public:
  Nemesis(Context& context, Observer& observer, const Plan& plan);
  // From now on. Every seed has a kill and a cut, whatever its plan says, unless it has no faults at all.
  void start();
  // A log line of a node. Some seeds strike the controller just when it has something to decide.
  void heard(const std::string& env, std::string_view line);
  // No fault from now on, and what was done is undone: links, clocks, disks; all nodes run again.
  void heal();

 private:
  void schedule(Fault fault);
  void strike(Fault fault);
  void strike_process(Fault fault, int node);
  void strike_network(Fault fault);
  void strike_disk(Fault fault, int node);
  void strike_leaders(Fault fault);
  void strike_controller();
  void isolate_for_a_while(int node);
  void wipe();
  void forget();
  void rot_metadata(int node);
  void rot();
  void start_later(int node, int64_t least_ns, int64_t most_ns);
  void undo_later(int64_t least_ns, int64_t most_ns, UniqueFunction<void()> undo);
  void say(Fault fault, const std::string& what);
  int other_than(int node);
  BrokerId id(int node) const { return BrokerId(node); }

  Context& context_;
  Observer& observer_;
  const Plan& plan_;
  sim::SeededRandom random_;
  bool over_ = true;
  int controller_ = 0;  // who said last that it leads the metadata log
};

}  // namespace trilog::simulator
