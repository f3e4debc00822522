#include "broker/controller/broker_control.h"

#include <algorithm>
#include <string>
#include <utility>

namespace trilog {

namespace {

// Adds what `change` makes of each partition; false if there is more than fits into one step.
template <typename Change>
bool change_partitions(PlannedState& state, Change change, size_t changes_max = kPartitionChangesPerStep) {
  std::vector<PartitionRecord> records;
  bool complete = true;
  for (const TopicImage* topic : state.topics()) {
    const int32_t minimum = min_in_sync(*topic);
    for (size_t p = 0; p < topic->partitions.size() && complete; ++p) {
      TopicPartition partition{topic->id, PartitionId(static_cast<int32_t>(p))};
      std::optional<PartitionImage> next = change(*topic, partition, topic->partitions[p], minimum);
      if (!next) continue;
      complete = records.size() < changes_max;
      if (complete) records.push_back(partition_record(partition.topic, partition.partition, *next));
    }
  }
  for (PartitionRecord& record : records) state.add(std::move(record));
  return complete;
}

// Brokers that stay when these go.
LiveBrokers live_without(const PlannedState& state, const std::map<BrokerId, Leaving>& gone) {
  LiveBrokers live = state.live();
  for (const auto& [broker, leaving] : gone) {
    live.up.erase(broker);
    live.eligible.erase(broker);
  }
  return live;
}

// C8: the folder that the registered broker used last. Processes that registered but were never let in changed nothing
// that counts, and may have died before they could write their epoch down.
RestartFacts restart_facts(const BrokerImage* known, const Registration& registration) {
  RestartFacts facts;
  facts.same_folder = known != nullptr && known->directory == registration.directory &&
                      registration.recorded_epoch >= known->active_epoch &&
                      registration.recorded_epoch <= known->epoch && registration.recorded_epoch != BrokerEpoch(-1);
  facts.clean = registration.clean;
  facts.same_boot = registration.same_boot;
  facts.recovered = registration.recovered;
  facts.damaged.insert(registration.damaged.begin(), registration.damaged.end());
  return facts;
}

// Sole replicas stay candidates whatever happened to them; what happened must be told.
void report_loss(PlannedState& state, const Registration& registration, const BrokerImage* known, int64_t now_ms) {
  bool other_folder = known != nullptr && known->directory != registration.directory;
  if (!other_folder && registration.damaged.empty()) return;
  std::set<TopicPartition> damaged(registration.damaged.begin(), registration.damaged.end());
  int64_t count = 0;
  std::string first;
  for (const TopicImage* topic : state.topics()) {
    for (size_t p = 0; p < topic->partitions.size(); ++p) {
      TopicPartition partition{topic->id, PartitionId(static_cast<int32_t>(p))};
      if (topic->partitions[p].replicas != std::vector<BrokerId>{registration.broker}) continue;
      if (!other_folder && !damaged.contains(partition)) continue;
      if (count++ == 0) first = topic->name + "/" + std::to_string(p);
    }
  }
  if (count == 0) return;
  AuditRecord audit{AuditRecord::Kind::kLossReported, now_ms};
  audit.broker = registration.broker;
  audit.text = std::string(other_folder ? "a new data folder" : "damage") + " where the only replica of " + first +
               (count > 1 ? " and " + std::to_string(count - 1) + " more" : "") + " was";
  state.add(std::move(audit));
}

api::Error other_folder_lives(const BrokerImage& known, const Registration& registration) {
  return api::Error(api::ErrorCode::kInvalidRequest,
                    "node " + std::to_string(registration.broker.value()) + " is registered with data folder " +
                        known.directory.to_string() + "; this one is " + registration.directory.to_string() +
                        ": give every node an id of its own, or stop the other process first");
}

}  // namespace

Step<BrokerEpoch> plan_registration(PlannedState& state, const Registration& registration,
                                    const RegistrationContext& context) {
  const BrokerImage* known = state.find_broker(registration.broker);
  if (known != nullptr && known->directory != registration.directory && !context.expired) {
    return other_folder_lives(*known, registration);
  }
  const RestartFacts facts = restart_facts(known, registration);
  auto leave = [&](const LiveBrokers& live, size_t changes_max) {
    auto change = [&](const TopicImage& topic, const TopicPartition& partition, const PartitionImage& image,
                      int32_t minimum) -> std::optional<PartitionImage> {
      if (!contains(image.replicas, registration.broker)) return std::nullopt;
      Leaving leaving = judge_restart(facts, topic.durability, partition);
      return depart(image, {{registration.broker, leaving}}, live, minimum);
    };
    return change_partitions(state, change, changes_max);
  };
  auto enter = [&] {
    report_loss(state, registration, known, context.now_ms);  // `known` is not valid any more once it is replaced
    BrokerEpoch epoch(state.next_offset().value());
    state.add(RegisterBrokerRecord{registration.broker, registration.directory, registration.address,
                                   registration.version, registration.peer_address, registration.rack});
    return epoch;
  };
  if (!context.caught_up) {
    LiveBrokers others = live_without(state, {{registration.broker, Leaving::kFenced}});
    if (!leave(others, kPartitionChangesPerStep)) return std::nullopt;
    return enter();
  }
  // Leaving and leading again is one change of each partition, so it cannot be seen from the state what is done
  // already: all of it is one step. (Nobody else takes part in what the only voter commits.)
  BrokerEpoch epoch = enter();
  state.add(FenceBrokerRecord{registration.broker, epoch, false});
  leave(state.live(), SIZE_MAX);
  return epoch;
}

Step<api::Unit> plan_fence(PlannedState& state, const std::map<BrokerId, BrokerEpoch>& brokers) {
  std::map<BrokerId, Leaving> gone;
  for (const auto& [id, epoch] : brokers) {
    const BrokerImage* broker = state.find_broker(id);
    if (broker != nullptr && broker->epoch == epoch && !broker->fenced) gone[id] = Leaving::kFenced;
  }
  if (gone.empty()) return api::Unit{};
  const LiveBrokers live = live_without(state, gone);
  bool complete = change_partitions(state, [&](const TopicImage&, const TopicPartition&, const PartitionImage& image,
                                               int32_t minimum) { return depart(image, gone, live, minimum); });
  if (!complete) return std::nullopt;
  // Last, so that no state shows a fenced broker that leads or is in sync (A4).
  for (const auto& [id, leaving] : gone) {
    const BrokerImage* broker = state.find_broker(id);
    state.add(FenceBrokerRecord{id, broker->epoch, true, broker->draining});
  }
  return api::Unit{};
}

Step<bool> plan_unfence(PlannedState& state, BrokerId broker, BrokerEpoch epoch) {
  const BrokerImage* known = state.find_broker(broker);
  if (known == nullptr || known->epoch != epoch) return false;
  if (known->fenced) state.add(FenceBrokerRecord{broker, epoch, false});
  const LiveBrokers live = state.live();
  bool complete = change_partitions(state,
                                    [&](const TopicImage&, const TopicPartition&, const PartitionImage& image,
                                        int32_t minimum) -> std::optional<PartitionImage> {
                                      if (image.leader != kNoBroker || !contains(image.replicas, broker))
                                        return std::nullopt;
                                      return elect_leader(image, live, minimum);
                                    });
  if (!complete) return std::nullopt;
  return true;
}

Step<api::Unit> plan_set_aside(PlannedState& state, BrokerId broker, const std::vector<TopicPartition>& damaged) {
  const std::set<TopicPartition> wanted(damaged.begin(), damaged.end());
  LiveBrokers live = state.live();
  bool complete = change_partitions(state,
                                    [&](const TopicImage&, const TopicPartition& partition, const PartitionImage& image,
                                        int32_t minimum) -> std::optional<PartitionImage> {
                                      if (!wanted.contains(partition)) return std::nullopt;
                                      return set_aside(image, broker, live, minimum);
                                    });
  if (!complete) return std::nullopt;
  return api::Unit{};
}

Step<bool> plan_shutdown(PlannedState& state, BrokerId broker, BrokerEpoch epoch, bool leaves_isr) {
  const BrokerImage* known = state.find_broker(broker);
  if (known == nullptr || known->epoch != epoch) return false;
  if (known->fenced) return true;
  if (!known->draining) state.add(FenceBrokerRecord{broker, epoch, false, true});
  const LiveBrokers live = state.live();
  bool complete =
      change_partitions(state, [&](const TopicImage&, const TopicPartition&, const PartitionImage& image,
                                   int32_t minimum) { return hand_over(image, broker, live, minimum, leaves_isr); });
  if (!complete) return std::nullopt;
  return true;
}

namespace {

// What the broker leads goes to others in sync that are in `live`, unless it shall only be counted. False: a step of
// it.
bool lead_away(PlannedState& state, BrokerId broker, const LiveBrokers& live, bool only_count, int32_t& moved,
               int32_t& left) {
  return change_partitions(state,
                           [&](const TopicImage&, const TopicPartition&, const PartitionImage& image,
                               int32_t minimum) -> std::optional<PartitionImage> {
                             if (image.leader != broker) return std::nullopt;
                             auto next = hand_over(image, broker, live, minimum, false);
                             ++(next ? moved : left);
                             return only_count ? std::nullopt : next;
                           });
}

}  // namespace

Step<api::DrainResult> plan_drain(PlannedState& state, const api::DrainRequest& request, int32_t& moved) {
  const BrokerId broker = request.broker;
  if (state.find_broker(broker) == nullptr) {
    return api::Error(api::ErrorCode::kInvalidRequest, "no node " + std::to_string(broker.value()) + " is registered");
  }
  api::DrainResult result;
  if (!lead_away(state, broker, state.live(), request.validate_only, moved, result.left)) return std::nullopt;
  result.moved = moved;
  return result;
}

Step<int32_t> plan_relief(PlannedState& state, BrokerId broker, const std::set<BrokerId>& full, int32_t& moved) {
  LiveBrokers live = state.live();
  for (BrokerId each : full) live.eligible.erase(each);
  int32_t left = 0;
  if (!lead_away(state, broker, live, false, moved, left)) return std::nullopt;
  return moved;
}

namespace {

const PartitionImage* find_partition(const MetadataImage* image, const TopicPartition& id) {
  const TopicImage* topic = image == nullptr ? nullptr : image->find_topic(id.topic);
  const auto index = static_cast<size_t>(id.partition.value());
  return topic == nullptr || index >= topic->partitions.size() ? nullptr : &topic->partitions[index];
}

}  // namespace

Step<api::Unit> plan_quorum_recovery(PlannedState& state, const QuorumRecoveryRecord& recovery,
                                     const MetadataImage* committed, size_t& done) {
  size_t at = 0;
  const size_t before = done;
  bool complete = change_partitions(state,
                                    [&](const TopicImage&, const TopicPartition& id, const PartitionImage& image,
                                        int32_t) -> std::optional<PartitionImage> {
                                      if (at++ < before) return std::nullopt;
                                      if (at - before <= kPartitionChangesPerStep) done = at;
                                      return after_lost_quorum(image, find_partition(committed, id), recovery.survivor);
                                    });
  if (!complete) return std::nullopt;
  state.add(ProducerIdsRecord{std::max(state.next_producer_id(), producer_ids_never_used(recovery.time_ms))});
  state.add(recovery);  // last: until then it is not done
  return api::Unit{};
}

api::RecoverQuorumResult foresee_recovery(const MetadataImage& image, BrokerId survivor) {
  api::RecoverQuorumResult result;
  result.survivor = survivor;
  for (const auto& [name, topic] : image.topics()) {
    for (const PartitionImage& partition : topic->partitions) {
      switch (judge_after_loss(partition, survivor)) {
        case AfterLoss::kLed: ++result.led; break;
        case AfterLoss::kGivenUp: ++result.given_up; break;
        case AfterLoss::kElsewhere: ++result.elsewhere; break;
      }
    }
  }
  return result;
}

ProducerId producer_ids_never_used(int64_t now_ms) {
  constexpr int64_t kProducerIdsPerMs = 1'000;
  return ProducerId(std::max<int64_t>(now_ms, 0) * kProducerIdsPerMs);
}

Leaderships count_leaderships(const MetadataImage& image, BrokerId broker) {
  LiveBrokers live;
  for (const auto& [id, each] : image.brokers()) {
    if (each.eligible()) live.eligible.insert(id);
  }
  Leaderships count;
  for (const auto& [name, topic] : image.topics()) {
    for (const PartitionImage& partition : topic->partitions) {
      if (partition.leader != broker) {
        if (hand_over(partition, broker, live, min_in_sync(*topic), true)) ++count.in_sync;
        continue;
      }
      ++count.all;
      if (hand_over(partition, broker, live, 1, false)) ++count.movable;
    }
  }
  return count;
}

}  // namespace trilog
