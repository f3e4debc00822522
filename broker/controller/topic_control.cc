#include "broker/controller/topic_control.h"

#include <algorithm>
#include <string>
#include <utility>

#include "broker/controller/isr_control.h"
#include "broker/controller/replica_placement.h"
#include "broker/metadata/topic_settings.h"

namespace trilog {

namespace {

using api::Error;
using api::ErrorCode;

constexpr int32_t kDefaultReplicas = 3;
constexpr std::string_view kDurability = "durability";
constexpr std::string_view kMinInSync = "min.insync.replicas";

Error unknown_topic(const PlannedState& state, const std::string& name) {
  std::string message = "no topic " + name;
  std::vector<std::string> near = state.image().similar_topics(name);
  for (size_t i = 0; i < near.size(); ++i) message += (i == 0 ? " · did you mean " : " or ") + near[i];
  if (!near.empty()) message += "?";
  return Error(ErrorCode::kUnknownTopic, std::move(message)).with_detail("topic", name);
}

Error internal_topic(const std::string& name) {
  return Error(ErrorCode::kInvalidTopic, "topic " + name + " is internal: it belongs to the broker")
      .with_detail("topic", name);
}

bool known_setting(std::string_view name) {
  auto infos = topic_setting_infos();
  return std::any_of(infos.begin(), infos.end(), [&](const TopicSettingInfo& info) { return info.name == name; });
}

bool fixed_setting(std::string_view name) {
  auto infos = topic_setting_infos();
  return std::any_of(infos.begin(), infos.end(),
                     [&](const TopicSettingInfo& info) { return info.name == name && info.fixed_at_creation; });
}

std::optional<Error> check_settings(const std::map<std::string, std::string>& settings) {
  for (const auto& [name, value] : settings) {
    if (auto error = check_topic_setting(name, value)) return error;
  }
  return std::nullopt;
}

// A topic that asks for more copies in sync than it has could never be written to.
std::optional<Error> check_min_in_sync(const std::map<std::string, std::string>& configs, int32_t replicas) {
  if (!configs.contains(std::string(kMinInSync))) return std::nullopt;
  int32_t wanted = resolve_topic_settings(configs, api::Durability::kSynced, replicas).min_insync_replicas;
  if (wanted <= replicas) return std::nullopt;
  return Error(ErrorCode::kInvalidConfig, std::string(kMinInSync) + " = " + std::to_string(wanted) +
                                              ": the topic has " + std::to_string(replicas) +
                                              (replicas == 1 ? " replica" : " replicas") + "; ask for at most as many")
      .with_detail("setting", std::string(kMinInSync));
}

std::optional<Error> check_partitions(const PlannedState& state, const std::string& topic, int32_t partitions,
                                      int32_t before, const ControllerOptions& options) {
  auto refuse = [&](const std::string& why) {
    return Error(ErrorCode::kInvalidRequest, std::to_string(partitions) + " partitions for topic " + topic + ": " + why)
        .with_detail("topic", topic);
  };
  if (partitions < 1) return refuse("there must be at least 1");
  if (partitions > options.partitions_max) {
    return refuse("a topic has at most " + std::to_string(options.partitions_max));
  }
  int64_t total = state.partition_count() + partitions - before;
  if (total > options.partitions_total_max) {
    return refuse("the cluster would have " + std::to_string(total) + "; its limit is " +
                  std::to_string(options.partitions_total_max));
  }
  return std::nullopt;
}

std::optional<Error> check_replicas(const PlannedState& state, const std::string& topic, int32_t replicas) {
  size_t registered = state.brokers().size();
  if (replicas < 1) {
    return Error(ErrorCode::kInvalidRequest,
                 std::to_string(replicas) + " replicas for topic " + topic + ": there must be at least 1");
  }
  if (static_cast<size_t>(replicas) > registered) {
    return Error(ErrorCode::kInvalidConfig,
                 std::to_string(replicas) + " replicas for topic " + topic + ": " +
                     (registered == 1 ? "1 node is" : std::to_string(registered) + " nodes are") +
                     " registered; ask for at most as many")
        .with_detail("topic", topic);
  }
  return std::nullopt;
}

// Partitions [from, from + count) on the least loaded brokers. Those that are not up get their replica when they are.
std::optional<Error> add_partitions(PlannedState& state, const TopicId& topic, int32_t from, int32_t count,
                                    int32_t replicas) {
  std::set<BrokerId> up = state.live().eligible;
  std::map<BrokerId, BrokerLoad>& loads = state.loads();
  if (up.empty() || static_cast<size_t>(replicas) > loads.size()) {
    return Error(ErrorCode::kNotEnoughNodes, "no node is up that could lead a new partition; see trilog cluster");
  }
  int32_t index = from;
  for (std::vector<BrokerId>& list : place_replicas(loads, count, replicas)) {
    PartitionRecord record;
    record.topic = topic;
    record.partition = PartitionId(index++);
    for (BrokerId replica : list) {
      if (up.contains(replica)) record.isr.push_back(replica);
    }
    record.leader = record.isr.front();  // one that is up comes first
    record.replicas = std::move(list);
    state.add(std::move(record));
  }
  return std::nullopt;
}

TopicId draw_topic_id(const PlannedState& state, Random& random) {
  for (;;) {
    uint64_t high = random.next();
    TopicId id(high, random.next());
    if (!id.is_zero() && state.image().find_topic(id) == nullptr) return id;
  }
}

// What would be there afterwards, for a request that only asks.
template <typename Plan>
auto only_asking(const PlannedState& state, Plan plan) {
  PlannedState copy = state;
  return plan(copy);
}

struct Wanted {
  int32_t partitions = 0;
  int32_t replicas = 0;
  api::Durability durability = api::Durability::kSynced;
  std::map<std::string, std::string> configs;
};

api::Answer<Wanted> check_create(const PlannedState& state, const api::CreateTopicRequest& request,
                                 const ControllerOptions& options) {
  Wanted wanted{request.partitions, request.replicas, api::Durability::kSynced, request.configs};
  if (const TopicImage* other = state.find_colliding(request.name)) {
    return Error(ErrorCode::kInvalidTopic, "topic name '" + request.name + "' differs from topic '" + other->name +
                                               "' only in '.' and '_', which are the same in names of metrics")
        .with_detail("topic", request.name);
  }
  if (auto error = check_settings(wanted.configs)) return std::move(*error);
  if (auto set = wanted.configs.extract(std::string(kDurability)); !set.empty()) {
    bool synced = set.mapped() == api::durability_name(api::Durability::kSynced);
    wanted.durability = synced ? api::Durability::kSynced : api::Durability::kReplicated;
  }
  if (wanted.partitions == 0) wanted.partitions = options.default_partitions;
  if (wanted.replicas == 0) {
    wanted.replicas = std::clamp(static_cast<int32_t>(state.brokers().size()), 1, kDefaultReplicas);
  }
  if (auto error = check_partitions(state, request.name, wanted.partitions, 0, options)) return std::move(*error);
  if (auto error = check_replicas(state, request.name, wanted.replicas)) return std::move(*error);
  if (auto error = check_min_in_sync(wanted.configs, wanted.replicas)) return std::move(*error);
  if (state.topic_count() >= static_cast<size_t>(options.topics_max)) {
    return Error(ErrorCode::kInvalidRequest, "topic " + request.name + ": the cluster has " +
                                                 std::to_string(state.topic_count()) + " topics, which is its limit");
  }
  return wanted;
}

}  // namespace

api::Answer<api::CreateTopicResult> plan_create_topic(PlannedState& state, const api::CreateTopicRequest& request,
                                                      const ControllerOptions& options, Random& random) {
  if (auto error = check_topic_name(request.name)) return std::move(*error);
  if (request.name == kOffsetsTopic && !request.internal) return internal_topic(request.name);
  if (const TopicImage* there = state.find_topic(request.name)) {
    if (request.if_not_exists) return api::CreateTopicResult{describe_topic(state.image(), *there), false};
    return Error(ErrorCode::kTopicExists, "topic " + request.name + " exists already")
        .with_detail("topic", request.name);
  }
  api::Answer<Wanted> wanted = check_create(state, request, options);
  if (!wanted.ok()) return std::move(wanted.error());
  if (state.live().eligible.empty()) {
    return Error(ErrorCode::kNotEnoughNodes, "no node is up that could lead topic " + request.name);
  }
  auto plan = [&](PlannedState& into) -> api::Answer<api::CreateTopicResult> {
    TopicId id = draw_topic_id(into, random);
    into.add(TopicRecord{id, request.name, wanted->durability, request.internal});
    for (const auto& [name, value] : wanted->configs) into.add(TopicConfigRecord{id, name, value});
    if (auto error = add_partitions(into, id, 0, wanted->partitions, wanted->replicas)) return std::move(*error);
    return api::CreateTopicResult{describe_topic(into.image(), *into.find_topic(request.name)), true};
  };
  return request.validate_only ? only_asking(state, plan) : plan(state);
}

api::Answer<bool> plan_delete_topic(PlannedState& state, const api::DeleteTopicRequest& request) {
  if (auto error = check_topic_name(request.name)) return std::move(*error);
  const TopicImage* topic = state.find_topic(request.name);
  // C11: a topic made again under the same name is another one.
  bool other = topic != nullptr && request.id && topic->id != *request.id;
  if (topic == nullptr || other) {
    if (request.if_exists) return false;
    Error error = unknown_topic(state, request.name);
    if (other) error.message = "topic " + request.name + " is another one now: its id is " + topic->id.to_string();
    return error;
  }
  if (topic->internal) return internal_topic(request.name);
  if (!request.validate_only) state.add(RemoveTopicRecord{topic->id});
  return true;
}

namespace {

std::optional<Error> check_alter(const TopicImage& topic, const api::AlterTopicRequest& request) {
  for (const auto& [name, value] : request.set) {
    if (fixed_setting(name)) {
      return Error(ErrorCode::kInvalidConfig, name + " of topic " + topic.name + " was fixed at its creation")
          .with_detail("setting", name);
    }
  }
  if (auto error = check_settings(request.set)) return error;
  for (const std::string& name : request.unset) {
    if (!known_setting(name)) return check_topic_setting(name, "");
    if (fixed_setting(name)) {
      return Error(ErrorCode::kInvalidConfig, name + " of topic " + topic.name + " was fixed at its creation")
          .with_detail("setting", name);
    }
    if (request.set.contains(name)) {
      return Error(ErrorCode::kInvalidRequest, name + " is both set and unset").with_detail("setting", name);
    }
  }
  return std::nullopt;
}

std::map<std::string, std::string> altered_configs(const TopicImage& topic, const api::AlterTopicRequest& request) {
  std::map<std::string, std::string> configs = topic.configs;
  for (const auto& [name, value] : request.set) configs[name] = value;
  for (const std::string& name : request.unset) configs.erase(name);
  return configs;
}

// Before the new minimum is in force: an ELR must not outlive an ISR that is large enough.
void add_minimum_changes(PlannedState& state, const TopicImage& topic,
                         const std::map<std::string, std::string>& after) {
  TopicImage altered;
  altered.configs = after;
  altered.durability = topic.durability;
  altered.partitions.resize(1);
  altered.partitions[0].replicas = topic.partitions.front().replicas;
  const int32_t minimum = min_in_sync(altered);
  if (minimum == min_in_sync(topic)) return;
  for (size_t p = 0; p < topic.partitions.size(); ++p) {
    auto next = with_minimum(topic.partitions[p], minimum);
    if (next) state.add(partition_record(topic.id, PartitionId(static_cast<int32_t>(p)), *next));
  }
}

void add_config_changes(PlannedState& state, const TopicId& id, const std::map<std::string, std::string>& before,
                        const std::map<std::string, std::string>& after) {
  for (const auto& [name, value] : after) {
    auto old = before.find(name);
    if (old == before.end() || old->second != value) state.add(TopicConfigRecord{id, name, value});
  }
  for (const auto& [name, value] : before) {
    if (!after.contains(name)) state.add(TopicConfigRecord{id, name, std::nullopt});
  }
}

}  // namespace

api::Answer<api::AlterTopicResult> plan_alter_topic(PlannedState& state, const api::AlterTopicRequest& request,
                                                    const ControllerOptions& options) {
  if (auto error = check_topic_name(request.name)) return std::move(*error);
  const TopicImage* found = state.find_topic(request.name);
  if (found == nullptr) return unknown_topic(state, request.name);
  if (found->internal) return internal_topic(request.name);
  TopicImage topic = *found;
  if (auto error = check_alter(topic, request)) return std::move(*error);
  std::map<std::string, std::string> configs = altered_configs(topic, request);
  auto replicas = static_cast<int32_t>(topic.partitions.front().replicas.size());
  if (auto error = check_min_in_sync(configs, replicas)) return std::move(*error);
  auto before = static_cast<int32_t>(topic.partitions.size());
  int32_t after = request.partitions == 0 ? before : request.partitions;
  if (after != before) {
    if (auto error = check_partitions(state, request.name, after, before, options)) return std::move(*error);
  }
  if (after < before) {
    return Error(ErrorCode::kInvalidRequest, "topic " + request.name + " has " + std::to_string(before) +
                                                 " partitions; they can only grow, not to " + std::to_string(after))
        .with_detail("topic", request.name);
  }
  auto plan = [&](PlannedState& into) -> api::Answer<api::AlterTopicResult> {
    size_t records = into.records().size();
    if (after > before) {
      if (auto error = add_partitions(into, topic.id, before, after - before, replicas)) return std::move(*error);
    }
    add_minimum_changes(into, topic, configs);
    add_config_changes(into, topic.id, topic.configs, configs);
    return api::AlterTopicResult{describe_topic(into.image(), *into.find_topic(request.name)),
                                 into.records().size() > records};
  };
  return request.validate_only ? only_asking(state, plan) : plan(state);
}

}  // namespace trilog
