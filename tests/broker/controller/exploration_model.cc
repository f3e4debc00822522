#include "tests/broker/controller/exploration_model.h"

#include <algorithm>
#include <sstream>

namespace trilog::testing {

namespace {

BrokerId id_of(int node) { return BrokerId(node + 1); }
uint8_t bit(int node) { return static_cast<uint8_t>(1 << node); }
int count(uint8_t mask) { return __builtin_popcount(mask); }
// Of the broker's registered process, and of one before.
constexpr BrokerEpoch kThisProcess{2};
constexpr BrokerEpoch kFormerProcess{1};
constexpr PartitionEpoch kPartitionEpoch{10};

}  // namespace

std::vector<BrokerId> Exploration::list(uint8_t mask) {
  std::vector<BrokerId> brokers;
  for (int b = 0; b < kNodes; ++b) {
    if (mask & bit(b)) brokers.push_back(id_of(b));
  }
  return brokers;
}

uint8_t Exploration::mask(const std::vector<BrokerId>& brokers) {
  uint8_t mask = 0;
  for (BrokerId broker : brokers) mask |= bit(broker.value() - 1);
  return mask;
}

PartitionImage Exploration::image(const State& state) const {
  PartitionImage image;
  image.replicas = list(0b111);
  image.isr = list(state.isr);
  image.elr = list(state.elr);
  image.unclean = list(state.unclean);
  image.leader = state.leader == kNobody ? kNoBroker : id_of(state.leader);
  image.leader_epoch = LeaderEpoch(state.leader_epoch);
  image.partition_epoch = kPartitionEpoch;
  return image;
}

LiveBrokers Exploration::live(const State& state, uint8_t without) const {
  LiveBrokers live;
  for (int b = 0; b < kNodes; ++b) {
    if (!state.nodes[b].fenced && !(without & bit(b))) live.up.insert(id_of(b));
  }
  live.eligible = live.up;
  return live;
}

std::string Exploration::describe(const State& state) {
  std::ostringstream out;
  auto log = [&](const Log& records, int length) {
    for (int i = 0; i < length; ++i) out << " " << (records[i] >> 4) << "." << (records[i] & 15);
  };
  out << "isr " << +state.isr << " elr " << +state.elr << " unclean " << +state.unclean << " leader "
      << state.leader + 1 << " epoch " << +state.leader_epoch << " acknowledged:";
  log(state.truth, state.acknowledged);
  for (int b = 0; b < kNodes; ++b) {
    const Node& node = state.nodes[b];
    out << "\n  node " << b + 1 << (node.alive ? "" : " dead") << (node.fenced ? " fenced" : "")
        << (node.leads ? " leads in " + std::to_string(node.epoch) : "") << " log:";
    log(node.log, node.length);
  }
  return out.str();
}

void Exploration::fail(const State& state, const std::string& what) {
  if (!result_.violation.empty()) return;
  result_.violation = what + "\n" + describe(state) + "\nreached from, newest first:";
  for (const State* at = origin_; at != nullptr; at = seen_.at(*at)) result_.violation += "\n" + describe(*at);
}

void Exploration::emit(State state) {
  if (state.leader_epoch > bounds_.leader_epochs) return;
  auto [where, fresh] = seen_.try_emplace(state, origin_);
  if (fresh) frontier_.push_back(&where->first);
}

// Takes over what the controller computed, and checks what must hold in every committed state (A4, A5, C6).
void Exploration::commit(State& state, const PartitionImage& next) {
  const PartitionImage before = image(state);
  bool leader_changed = next.leader != before.leader;
  if (next.partition_epoch != before.partition_epoch + 1) fail(state, "a change without a new partition epoch");
  if (next.leader_epoch < before.leader_epoch || (leader_changed && next.leader_epoch == before.leader_epoch)) {
    fail(state, "a new leader without a new leader epoch");
  }
  state.isr = mask(next.isr);
  state.elr = mask(next.elr);
  state.unclean = mask(next.unclean);
  state.leader = next.leader == kNoBroker ? kNobody : static_cast<uint8_t>(next.leader.value() - 1);
  state.leader_epoch = static_cast<uint8_t>(next.leader_epoch.value());
  for (Node& node : state.nodes) node.current = 0;
  if (rules_.elr_at_any_size) {
    state.elr |= static_cast<uint8_t>(mask(before.isr) & ~state.isr);
  } else if (rules_.clears_elr) {
    if (next.leader != kNoBroker && !contains(next.isr, next.leader)) fail(state, "a leader out of sync");
    if (state.isr & state.elr) fail(state, "in sync and eligible at once");
    if (count(state.isr) >= kMinInSync && state.elr != 0) fail(state, "eligible beside an ISR that is large enough");
  } else if (state.elr == 0) {
    state.elr = static_cast<uint8_t>(mask(before.elr) & ~state.isr);
  }
}

// R4, R6, R7: as eagerly as a leader may.
void Exploration::acknowledge(State& state, int b) {
  const Node& leader = state.nodes[b];
  if (!leader.leads || (rules_.stops_below_minimum && count(leader.isr) < kMinInSync)) return;
  uint8_t end = leader.length;
  uint8_t counted = leader.isr | (rules_.counts_pending ? leader.pending : 0);
  if (!rules_.counts_pending && leader.pending) counted = leader.pending;
  for (int other = 0; other < kNodes; ++other) {
    if (other != b && (counted & bit(other))) end = std::min(end, leader.match[other]);
  }
  for (int i = 0; i < std::min(end, state.acknowledged); ++i) {
    if (leader.log[i] != state.truth[i]) fail(state, "two records acknowledged at one offset");
  }
  if (end <= state.acknowledged) return;
  std::copy_n(leader.log.begin(), end, state.truth.begin());
  state.acknowledged = end;
  ++result_.acknowledged;
}

// The follower drops what differs and appends one record.
void Exploration::replicate(const State& state, int from, int to) {
  const Node& leader = state.nodes[from];
  const Node& follower = state.nodes[to];
  if (!follower.alive || follower.known_epoch > leader.epoch) return;
  int same = 0;
  while (same < leader.length && same < follower.length && leader.log[same] == follower.log[same]) ++same;
  const int end = std::min(same + 1, +leader.length);
  State next = state;
  Node& changed = next.nodes[to];
  if (changed.leads) {
    changed.leads = changed.epoch = changed.isr = changed.pending = changed.current = changed.first = 0;
    changed.match = {};
    changed.match_process = 0;
  }
  changed.log = {};
  std::copy_n(leader.log.begin(), end, changed.log.begin());
  changed.length = static_cast<uint8_t>(end);
  changed.known_epoch = leader.epoch;
  next.nodes[from].match[to] = static_cast<uint8_t>(end);
  next.nodes[from].match_process |= bit(to);
  acknowledge(next, from);
  emit(next);
}

void Exploration::data_path(const State& state, int b) {
  const Node& leader = state.nodes[b];
  if (!leader.leads) return;
  if (state.records < bounds_.records && leader.length < kLogMax) {
    State next = state;
    Node& node = next.nodes[b];
    node.log[node.length++] = static_cast<uint8_t>(node.epoch << 4 | ++next.records);
    acknowledge(next, b);
    emit(next);
  }
  for (int to = 0; to < kNodes; ++to) {
    if (to == b) continue;
    replicate(state, b, to);
    if (!leader.current || leader.pending) continue;
    if (leader.isr & bit(to)) {
      alter(state, b, static_cast<uint8_t>(leader.isr & ~bit(to)));
    } else if (leader.match[to] >= std::max(leader.first, state.acknowledged)) {  // R9
      alter(state, b, leader.isr | bit(to));
    }
  }
}

// The request is answered later, or never: then learn() tells (R7, R8).
void Exploration::alter(const State& state, int b, uint8_t isr) {
  const Node& leader = state.nodes[b];
  peer::AlterPartition asked;
  asked.leader_epoch = LeaderEpoch(leader.epoch);
  asked.partition_epoch = kPartitionEpoch;
  std::map<BrokerId, BrokerImage> brokers;
  for (int m = 0; m < kNodes; ++m) {
    BrokerImage broker;
    broker.epoch = kThisProcess;
    broker.fenced = state.nodes[m].fenced != 0;
    brokers[id_of(m)] = broker;
    bool known = m == b || (leader.isr & bit(m)) || (leader.match_process & bit(m));
    if (isr & bit(m)) asked.isr.push_back({id_of(m), known ? kThisProcess : kFormerProcess});
  }
  AlterVerdict verdict = alter_isr(image(state), id_of(b), asked, brokers, kMinInSync);
  if (!verdict.next) return;
  State next = state;
  commit(next, *verdict.next);
  next.nodes[b].pending = isr;
  acknowledge(next, b);
  emit(next);
}

void Exploration::learn(const State& state, int b) {
  State next = state;
  Node& node = next.nodes[b];
  if (!node.alive || node.stop != kRunning) return;
  const bool chosen = state.leader == b && !node.fenced;
  if (!chosen && !node.leads) return;  // a follower learns from its leader; the later, the worse
  if (chosen && (!node.leads || node.epoch < state.leader_epoch)) {
    ++result_.leaderships;
    for (int i = 0; i < state.acknowledged; ++i) {
      if (i >= node.length || node.log[i] != state.truth[i]) {
        return fail(state, "node " + std::to_string(b + 1) + " begins to lead without acknowledged records");
      }
    }
    node.leads = 1;
    node.epoch = state.leader_epoch;
    node.first = node.length;
    node.match = {};
    node.match_process = 0;
  } else if (!chosen) {
    node.leads = node.epoch = node.first = node.match_process = 0;
    node.match = {};
  }
  node.known_epoch = std::max(node.known_epoch, state.leader_epoch);
  node.isr = node.leads ? state.isr : 0;
  node.pending = 0;
  node.current = node.leads;
  acknowledge(next, b);
  emit(next);
}

void Exploration::stop(const State& state, int b) {
  if (!state.nodes[b].alive || state.crashes >= bounds_.crashes) return;
  State next = state;
  ++next.crashes;
  Node& node = next.nodes[b];
  node.alive = node.leads = node.epoch = node.isr = node.pending = node.current = node.first = node.match_process = 0;
  node.match = {};
  node.known_epoch = 0;
  node.stop = kStoppedClean;
  emit(next);
  node.stop = kStoppedUnclean;
  emit(next);
  if (state.losses < bounds_.silent_losses) {
    State lost = next;
    ++lost.losses;
    Node& disk = lost.nodes[b];
    while (disk.length > 0) {
      disk.log[--disk.length] = 0;
      emit(lost);
    }
  }
  node.stop = kStoppedWiped;
  node.log = {};
  node.length = 0;
  emit(next);
}

void Exploration::fence(const State& state, uint8_t gone) {
  std::map<BrokerId, Leaving> leaving;
  State next = state;
  for (int b = 0; b < kNodes; ++b) {
    if (!(gone & bit(b)) || state.nodes[b].fenced) continue;
    leaving[id_of(b)] = Leaving::kFenced;
    next.nodes[b].fenced = 1;
  }
  if (leaving.empty() || state.fencings >= bounds_.fencings) return;
  ++next.fencings;
  auto changed = depart(image(state), leaving, live(state, gone), kMinInSync);
  if (changed) commit(next, *changed);
  if (next.isr == 0 && next.leader != kNobody) fail(next, "a leader that is not in sync");
  emit(next);
}

void Exploration::start(const State& state, int b) {
  if (state.nodes[b].alive) return;
  RestartFacts facts;
  const uint8_t stopped = state.nodes[b].stop;
  facts.same_folder = stopped != kStoppedWiped || rules_.trusts_wiped;
  facts.clean = stopped == kStoppedClean;
  facts.recovered = peer::Recovered::kAllFine;
  Leaving leaving = judge_restart(facts, api::Durability::kSynced, TopicPartition());
  State next = state;
  auto changed = depart(image(state), {{id_of(b), leaving}}, live(state, bit(b)), kMinInSync);
  if (changed) commit(next, *changed);
  Node& node = next.nodes[b];
  node.alive = node.fenced = 1;
  node.stop = kRunning;
  if (rules_.knows_itself) node.known_epoch = next.leader_epoch;
  for (Node& other : next.nodes) other.match_process &= static_cast<uint8_t>(~bit(b));
  emit(next);
}

void Exploration::unfence(const State& state, int b) {
  const Node& node = state.nodes[b];
  if (!node.alive || !node.fenced) return;
  State next = state;
  next.nodes[b].fenced = 0;
  next.nodes[b].known_epoch = std::max(node.known_epoch, state.leader_epoch);
  if (state.leader == kNobody) {
    auto elected = elect_leader(image(next), live(next, 0), rules_.hears ? kMinInSync : 1);
    if (elected) {
      if (state.isr == 0) ++result_.elr_elections;
      commit(next, *elected);
    }
  }
  emit(next);
}

void Exploration::hear(const State& state) {
  const PartitionImage partition = image(state);
  if (!needs_hearing(partition, kMinInSync)) return;
  for (uint8_t who = 1; who < 1 << kNodes; ++who) {
    std::vector<Heard> heard;
    bool answers = true;
    for (int b = 0; b < kNodes; ++b) {
      if (!(who & bit(b))) continue;
      const Node& node = state.nodes[b];
      answers = answers && node.alive && !node.fenced && (state.elr & bit(b));
      LeaderEpoch last(node.length == 0 ? -1 : node.log[node.length - 1] >> 4);
      heard.push_back({id_of(b), last, Offset(node.length)});
    }
    if (!answers) continue;
    BrokerId leader = choose_heard(partition, heard, rules_.hears_enough ? kMinInSync : 1);
    if (leader == kNoBroker) continue;
    ++result_.hearings;
    State next = state;
    commit(next, elect_heard(partition, leader, kMinInSync));
    emit(next);
  }
}

void Exploration::controller(const State& state) {
  for (int b = 0; b < kNodes; ++b) {
    fence(state, bit(b));
    start(state, b);
    unfence(state, b);
  }
  fence(state, 0b111);
  hear(state);
}

void Exploration::successors(const State& state) {
  for (int b = 0; b < kNodes && result_.violation.empty(); ++b) {
    data_path(state, b);
    learn(state, b);
    stop(state, b);
  }
  controller(state);
}

ExplorationResult Exploration::run() {
  static_assert(std::has_unique_object_representations_v<State>, "states are compared as bytes");
  State first;
  if (bounds_.begins_acknowledged) {
    first.records = 1;
    first.acknowledged = 1;
    first.truth[0] = 1;
    for (Node& node : first.nodes) {
      node.log[0] = 1;
      node.length = 1;
    }
  }
  emit(first);
  for (size_t next = 0; next < frontier_.size() && result_.violation.empty(); ++next) {
    if (seen_.size() > bounds_.states_max) break;
    origin_ = frontier_[next];
    successors(*origin_);
    result_.complete = next + 1 == frontier_.size();
  }
  result_.states = seen_.size();
  return result_;
}

}  // namespace trilog::testing
