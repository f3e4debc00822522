#include "tests/simulator/nemesis.h"

#include <algorithm>
#include <utility>

namespace trilog::simulator {

namespace {
using State = sim::SimCluster::State;
}

Nemesis::Nemesis(Context& context, Observer& observer, const Plan& plan)
    : context_(context), observer_(observer), plan_(plan), random_(context.random.next()) {
  // Whoever dies by itself is started again, as an operator or a supervisor would.
  context_.cluster.on_death([this](int node, const Status& why) {
    ++context_.counters.deaths;
    context_.journal.note("node " + std::to_string(node) + " ends: " + why.to_string());
    start_later(node, 50 * kMs, 2 * kSecond);
  });
}

void Nemesis::start() {
  over_ = false;
  bool any = false;
  for (size_t i = 0; i < kFaults; ++i) {
    if (plan_.interval_ns[i] == 0) continue;
    any = true;
    schedule(static_cast<Fault>(i));
  }
  if (!any) return;
  for (const Fault fault : {Fault::kKill, Fault::kCut}) {
    undo_later(plan_.duration_ns / 10, plan_.duration_ns / 2, [this, fault] { strike(fault); });
  }
}

void Nemesis::schedule(Fault fault) {
  const int64_t interval = plan_.interval_ns[static_cast<size_t>(fault)];
  undo_later(interval / 10, interval * 19 / 10, [this, fault] {
    strike(fault);
    schedule(fault);
  });
}

// Runs it after a while if there still are faults then.
void Nemesis::undo_later(int64_t least_ns, int64_t most_ns, UniqueFunction<void()> undo) {
  const int64_t delay = least_ns + static_cast<int64_t>(random_.below(static_cast<uint64_t>(most_ns - least_ns + 1)));
  context_.gateway.after(delay, [this, undo = std::move(undo)]() mutable {
    if (!over_) undo();
  });
}

void Nemesis::start_later(int node, int64_t least_ns, int64_t most_ns) {
  const int64_t delay = least_ns + static_cast<int64_t>(random_.below(static_cast<uint64_t>(most_ns - least_ns + 1)));
  context_.gateway.after(delay, [this, node] {
    // A stop can take long on a slow disk.
    if (context_.cluster.state(node) == sim::SimCluster::State::kStopping) return start_later(node, kSecond, kSecond);
    if (context_.cluster.runs(node)) return;
    context_.journal.note("node " + std::to_string(node) + " starts");
    context_.cluster.start(node);
  });
}

void Nemesis::say(Fault fault, const std::string& what) {
  context_.journal.note("FAULT " + std::string(fault_name(fault)) + " " + what);
}

int Nemesis::other_than(int node) {
  const int other = 1 + static_cast<int>(random_.below(static_cast<uint64_t>(plan_.nodes - 1)));
  return other >= node ? other + 1 : other;
}

void Nemesis::strike(Fault fault) {
  const int node = 1 + static_cast<int>(random_.below(static_cast<uint64_t>(plan_.nodes)));
  switch (fault) {
    case Fault::kKill:
    case Fault::kStop:
    case Fault::kPowerCut:
    case Fault::kBlackout:
    case Fault::kPause:
    case Fault::kWallJump: return strike_process(fault, node);
    case Fault::kCut:
    case Fault::kOneWay:
    case Fault::kIsolate:
    case Fault::kBridge:
    case Fault::kFlap:
    case Fault::kSlow:
    case Fault::kReset: return strike_network(fault);
    case Fault::kSlowDisk:
    case Fault::kSyncFails:
    case Fault::kWriteFails:
    case Fault::kReadFails:
    case Fault::kDiskFull: return strike_disk(fault, node);
    case Fault::kWipe: return wipe();
    case Fault::kForget: return forget();
    case Fault::kRot: return rot();
    case Fault::kMoveLeader:
    case Fault::kDrain: return strike_leaders(fault);
  }
}

// --- processes
// ---------------------------------------------------------------------------------------------------------

void Nemesis::strike_process(Fault fault, int node) {
  sim::SimCluster& cluster = context_.cluster;
  const std::string name = "node " + std::to_string(node);
  if (fault == Fault::kWallJump) {
    static constexpr int64_t kJumpsMs[] = {-3'600'000, 3'700'000, -5'000, 60'000, 315'360'000'000, -315'360'000'000, 0};
    const int64_t jump_ms = kJumpsMs[random_.below(std::size(kJumpsMs))];
    say(fault, name + " to " + std::to_string(jump_ms) + " ms");
    return cluster.set_wall_offset_ms(node, jump_ms);
  }
  if (fault == Fault::kBlackout) {
    say(fault, "all");
    ++context_.counters.blackouts;
    context_.counters.power_cuts += static_cast<uint64_t>(plan_.nodes);
    cluster.power_cut_all();
    for (int each = 1; each <= plan_.nodes; ++each) start_later(each, 10 * kMs, 3 * kSecond);
    return;
  }
  if (!cluster.runs(node)) return;
  say(fault, name);
  if (fault == Fault::kKill) {
    ++context_.counters.crashes;
    cluster.kill(node);
    return start_later(node, 10 * kMs, 5 * kSecond);
  }
  if (fault == Fault::kPowerCut) {
    ++context_.counters.power_cuts;
    const uint64_t kind = random_.below(3);
    cluster.power_cut(node, kind == 0   ? sim::CrashPolicy::lose_all()
                            : kind == 1 ? sim::CrashPolicy::keep_all()
                                        : sim::CrashPolicy{});
    return start_later(node, 100 * kMs, 6 * kSecond);
  }
  if (fault == Fault::kStop) {
    ++context_.counters.clean_stops;
    cluster.stop(node);
    return start_later(node, 3 * kSecond, 8 * kSecond);
  }
  ++context_.counters.pauses;
  cluster.pause(node);
  undo_later(20 * kMs, random_.chance(50) ? 500 * kMs : 6 * kSecond, [this, node] {
    if (!context_.cluster.paused(node)) return;
    context_.journal.note("node " + std::to_string(node) + " goes on");
    // A machine that was asleep gets its network back later than its processes.
    if (random_.chance(30)) isolate_for_a_while(node);
    context_.cluster.resume(node);
  });
}

// --- network
// -----------------------------------------------------------------------------------------------------------

void Nemesis::strike_network(Fault fault) {
  sim::SimNetwork& network = context_.cluster.network();
  const int a = 1 + static_cast<int>(random_.below(static_cast<uint64_t>(plan_.nodes)));
  const int b = other_than(a);
  const bool of_one = fault == Fault::kIsolate || fault == Fault::kBridge;
  say(fault, of_one ? std::to_string(a) : std::to_string(a) + " " + std::to_string(b));
  if (fault == Fault::kReset) return network.reset(id(a), id(b));
  ++context_.counters.cuts;
  switch (fault) {
    case Fault::kOneWay: network.cut_one_way(id(a), id(b)); break;
    case Fault::kIsolate: network.isolate(id(a)); break;
    case Fault::kBridge: network.bridge(id(a)); break;
    case Fault::kFlap: network.flap(id(a), id(b), static_cast<int64_t>(50 + random_.below(2'000)) * kMs); break;
    case Fault::kSlow: network.slow(id(a), id(b), static_cast<int64_t>(5 + random_.below(300)) * kMs); break;
    default: network.cut(id(a), id(b)); break;
  }
  const bool short_one = random_.chance(50);
  const bool all = of_one || fault == Fault::kFlap || fault == Fault::kSlow;
  undo_later(50 * kMs, short_one ? 2 * kSecond : 8 * kSecond, [this, a, b, all] {
    context_.journal.note(all ? "all links heal" : "link " + std::to_string(a) + " " + std::to_string(b) + " heals");
    all ? context_.cluster.network().heal() : context_.cluster.network().heal(id(a), id(b));
  });
}

void Nemesis::isolate_for_a_while(int node) {
  context_.journal.note("node " + std::to_string(node) + " is alone");
  ++context_.counters.cuts;
  context_.cluster.network().isolate(id(node));
  undo_later(100 * kMs, 3 * kSecond, [this, node] {
    context_.journal.note("node " + std::to_string(node) + " is no longer alone");
    for (int other = 1; other <= plan_.nodes; ++other) {
      if (other != node) context_.cluster.network().heal(id(node), id(other));
    }
  });
}

// --- disks
// -------------------------------------------------------------------------------------------------------------

void Nemesis::strike_disk(Fault fault, int node) {
  sim::SimDisk& disk = context_.cluster.disk(node);
  const std::string name = "node " + std::to_string(node);
  auto arm = [&](sim::DiskCall call, uint64_t within) {
    const uint64_t nth = 1 + random_.below(within);
    say(fault, name + ", call " + std::to_string(nth) + " from now");
    disk.add_fault({.call = call, .path_part = "", .first = nth, .count = 1});
  };
  switch (fault) {
    case Fault::kSyncFails: return arm(sim::DiskCall::kSync, 30);
    case Fault::kWriteFails: return arm(sim::DiskCall::kWrite, 50);
    case Fault::kReadFails: return arm(sim::DiskCall::kRead, 50);
    case Fault::kSlowDisk: {
      const int64_t most =
          static_cast<int64_t>(random_.chance(50) ? 50 + random_.below(200) : 500 + random_.below(4'000)) * kMs;
      say(fault, name + ", up to " + std::to_string(most / kMs) + " ms");
      disk.set_sync_delay(most / 4, most);
      return undo_later(500 * kMs, 6 * kSecond, [this, node] {
        context_.journal.note("the disk of node " + std::to_string(node) + " is fast again");
        context_.cluster.disk(node).set_sync_delay(50'000, 200'000);
      });
    }
    default: {
      const uint64_t room = random_.below(200'000);
      say(fault, name + ", " + std::to_string(room) + " bytes left");
      disk.set_capacity(disk.bytes_used() + room);
      return undo_later(500 * kMs, 5 * kSecond, [this, node] {
        context_.journal.note("the disk of node " + std::to_string(node) + " has space again");
        context_.cluster.disk(node).set_capacity(UINT64_MAX);
      });
    }
  }
}

void Nemesis::wipe() {
  const int node = plan_.fragile_node;
  say(Fault::kWipe, "node " + std::to_string(node));
  ++context_.counters.wipes;
  context_.cluster.wipe(node);
  observer_.disk_replaced(node);
  start_later(node, 10 * kMs, 4 * kSecond);
}

// What was promised while one node could not be reached is on two others. Then one of these forgets it, and the last
// one that has it goes away for a while, as the one that was left behind comes back.
void Nemesis::forget() {
  const int node = plan_.fragile_node;
  int behind = other_than(node);
  int last = other_than(node);
  while (last == behind) last = other_than(node);
  say(Fault::kForget, "node " + std::to_string(node) + ", with " + std::to_string(behind) + " left behind and " +
                          std::to_string(last) + " away");
  ++context_.counters.cuts;
  context_.cluster.network().isolate(id(behind));
  undo_later(500 * kMs, 8 * kSecond, [this, node, behind, last] {
    if (random_.chance(50)) {
      ++context_.counters.wipes;
      context_.cluster.wipe(node);
      observer_.disk_replaced(node);
    } else {
      rot_metadata(node);
    }
    ++context_.counters.crashes;
    context_.cluster.kill(last);
    context_.journal.note("node " + std::to_string(node) + " forgets, node " + std::to_string(last) + " dies");
    for (int other = 1; other <= plan_.nodes; ++other) {
      if (other != behind) context_.cluster.network().heal(id(behind), id(other));
    }
    start_later(node, 1 * kMs, 200 * kMs);
    start_later(last, 1 * kSecond, 5 * kSecond);
  });
}

// A bit of the newest entries of its metadata log flips while it is down.
void Nemesis::rot_metadata(int node) {
  sim::SimCluster& cluster = context_.cluster;
  sim::SimDisk& disk = cluster.disk(node);
  ++context_.counters.rotten_metadata;
  cluster.kill(node);
  std::string newest;
  for (const std::string& path : disk.durable().all_files()) {
    if (path.find("/metadata/") != std::string::npos && path.ends_with(".log")) newest = path;
  }
  if (newest.empty()) return;
  const uint64_t size = disk.durable().content(disk.durable().find(newest)).size();
  if (size == 0) return;
  const uint64_t newest_bytes = std::min<uint64_t>(size, random_.chance(50) ? 300 : 4'000);
  const uint64_t bit = size * 8 - 1 - random_.below(newest_bytes * 8);
  context_.journal.note("bit " + std::to_string(bit) + " of " + std::to_string(size * 8) + " in " + newest + " flips");
  disk.flip_bit(newest, bit);
}

// The same node as is wiped: what is promised holds for one disk.
void Nemesis::rot() {
  const int node = plan_.fragile_node;
  sim::SimDisk& disk = context_.cluster.disk(node);
  std::vector<std::string> sealed;  // of each folder all but the last
  std::string before;
  for (const std::string& path : disk.image().all_files()) {
    if (!path.ends_with(".log") || path.find("/topics/") == std::string::npos) continue;
    if (!before.empty() && parent_path(before) == parent_path(path)) sealed.push_back(before);
    before = path;
  }
  // In a paused node a check of its invariants may wait, which would take the rot for a bug.
  if (sealed.empty() || context_.cluster.paused(node)) return;
  const std::string& path = sealed[random_.below(sealed.size())];
  const uint64_t bytes = disk.image().content(disk.image().find(path)).size();
  if (bytes == 0) return;
  const uint64_t bit = random_.below(8 * bytes);
  say(Fault::kRot, "node " + std::to_string(node) + ", " + path + " at byte " + std::to_string(bit / 8));
  ++context_.counters.bits_flipped;
  observer_.disk_rots(node);
  disk.flip_bit(path, bit);
}

// --- by hand
// -----------------------------------------------------------------------------------------------------------

void Nemesis::strike_leaders(Fault fault) {
  const int asked = context_.pick_node();
  const int node = 1 + static_cast<int>(random_.below(static_cast<uint64_t>(plan_.nodes)));
  if (fault == Fault::kDrain) {
    say(fault, "node " + std::to_string(node));
    return context_.gateway.ask<api::DrainResult>(
        asked, 3 * kSecond, [node](Broker& broker, auto done) { broker.drain({BrokerId(node)}, std::move(done)); },
        [](const Reply<api::DrainResult>&) {});
  }
  if (context_.topics.empty()) return;
  const Topic& topic = context_.topics[random_.below(context_.topics.size())];
  api::MoveLeaderRequest request{.topic = topic.name};
  request.partition = PartitionId(static_cast<int32_t>(random_.below(static_cast<uint64_t>(topic.partitions))));
  request.to = BrokerId(node);
  say(fault, topic.name + "/" + std::to_string(request.partition.value()) + " to " + std::to_string(node));
  context_.gateway.ask<api::MoveLeaderResult>(
      asked, 3 * kSecond, [request](Broker& broker, auto done) { broker.move_leader(request, std::move(done)); },
      [](const Reply<api::MoveLeaderResult>&) {});
}

void Nemesis::heard(const std::string& env, std::string_view line) {
  auto says = [&](std::string_view text) { return line.find(text) != std::string_view::npos; };
  const bool leads = says(" leads the metadata log");
  if (leads) controller_ = std::stoi(env.substr(env.find('-') + 1));
  const bool decides =
      leads || says("asks for in-sync replicas") || says("is gone or silent") || says("cut a torn tail");
  if (over_ || controller_ == 0 || !plan_.strikes_at_decisions || !decides || !random_.chance(6)) return;
  undo_later(0, 3 * kMs, [this] { strike_controller(); });
}

void Nemesis::strike_controller() {
  const int node = controller_;
  if (!context_.cluster.runs(node)) return;
  ++context_.counters.struck_controllers;
  context_.journal.note("FAULT at the controller, node " + std::to_string(node));
  if (random_.chance(40)) return isolate_for_a_while(node);
  if (random_.chance(50)) {
    ++context_.counters.crashes;
    context_.cluster.kill(node);
  } else {
    ++context_.counters.power_cuts;
    context_.cluster.power_cut(node, sim::CrashPolicy::lose_all());
  }
  start_later(node, 100 * kMs, 5 * kSecond);
}

// --- the end
// -----------------------------------------------------------------------------------------------------------

void Nemesis::heal() {
  over_ = true;
  context_.journal.note("everything heals");
  sim::SimCluster& cluster = context_.cluster;
  cluster.network().heal();
  cluster.network().config().resets_per_million = 0;
  for (int node = 1; node <= plan_.nodes; ++node) {
    cluster.resume(node);
    cluster.set_wall_offset_ms(node, 0);
    cluster.disk(node).clear_faults();
    cluster.disk(node).set_capacity(UINT64_MAX);
    cluster.disk(node).set_sync_delay(50'000, 200'000);
    start_later(node, 1 * kMs, 500 * kMs);
  }
}

}  // namespace trilog::simulator
