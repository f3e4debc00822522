#include "tests/simulator/simulation.h"

#include <algorithm>
#include <set>
#include <utility>

#include "tests/history/checker.h"

namespace trilog::simulator {

namespace {

constexpr int64_t kLookNs = 20 * kMs;
constexpr int64_t kFormedWithinNs = 90 * kSecond;
constexpr int64_t kAskNs = 3 * kSecond;

sim::SimClusterOptions cluster_options(const Plan& plan) {
  sim::SimClusterOptions options;
  options.nodes = plan.nodes;
  options.shards_max = plan.shards_max;
  options.network = plan.network;
  options.broker.offsets_partitions = 2;
  if (plan.replica_lag_ms > 0) options.broker.replica.replica_lag_ms_max = plan.replica_lag_ms;
  if (plan.frequent_snapshots) options.broker.metadata_snapshot_bytes = 2'000;
  options.broker.replica.scrub_pass_ms = 3'000;
  return options;
}

}  // namespace

Simulation::Simulation(const Plan& plan, bool trace)
    : plan_(plan),
      world_(plan.seed),
      cluster_((world_.set_log([this](const std::string& env, LogLevel, std::string_view line) { heard(env, line); }),
                world_),
               cluster_options(plan)),
      context_(world_, cluster_),
      observer_(context_),
      nemesis_(context_, observer_, plan_) {
  context_.journal.show(trace);
  context_.on_acknowledged = [this](const history::Produce& told, const Topic& topic) {
    observer_.check_acknowledged(told, topic);
  };
}

// Disks are prepared before there is anybody to tell.
void Simulation::heard(const std::string& env, std::string_view line) {
  if (!listening_) return;
  observer_.heard(env, line);
  nemesis_.heard(env, line);
}

Verdict Simulation::run() {
  listening_ = true;
  context_.journal.note("seed " + std::to_string(plan_.seed) + ": " + plan_.to_string());
  cluster_.start_all();
  watch();
  if (plan_.faults_while_forming) nemesis_.start();
  if (make_topics()) {
    if (!plan_.faults_while_forming) nemesis_.start();
    add_clients();
    world_.run_for(plan_.duration_ns);
    heal_and_wind_down();
    judge();
  }
  Verdict verdict;
  verdict.seed = plan_.seed;
  verdict.hash = world_.trace_hash();
  verdict.events = world_.scheduler().executed();
  verdict.virtual_ns = world_.now_ns();
  verdict.counters = context_.counters;
  verdict.violations = context_.violations;
  verdict.journal = context_.journal.tail();
  return verdict;
}

void Simulation::watch() {
  observer_.look();
  if (context_.random.chance(10)) observer_.check_brokers();
  context_.gateway.after(kLookNs, [this] {
    if (watching_) watch();
  });
}

// --- before the faults
// -------------------------------------------------------------------------------------------------

bool Simulation::make_topics() {
  std::map<std::string, std::string> configs;
  if (plan_.small_segments) configs["segment.bytes"] = "1048576";
  context_.topics.push_back({"orders", plan_.synced_partitions, api::Durability::kSynced, {}});
  if (plan_.replicated_partitions > 0) {
    context_.topics.push_back({"clicks", plan_.replicated_partitions, api::Durability::kReplicated, {}});
  }
  for (Topic& topic : context_.topics) {
    configs["durability"] = topic.durability == api::Durability::kSynced ? "synced" : "replicated";
    if (!make_topic(topic, configs)) return false;
  }
  return true;
}

bool Simulation::make_topic(Topic& topic, const std::map<std::string, std::string>& configs) {
  const int64_t deadline_ns = world_.now_ns() + kFormedWithinNs;
  history::Change change;
  change.client = "operator";
  change.invoked_ns = world_.now_ns();
  change.name = topic.name;
  std::string why = "no answer";
  while (world_.now_ns() < deadline_ns) {
    api::CreateTopicRequest request{.name = topic.name, .partitions = topic.partitions, .configs = configs};
    request.replicas = kReplicas;  // left open, it would be as many as have registered by then
    request.if_not_exists = true;
    std::optional<Reply<api::CreateTopicResult>> reply;
    context_.gateway.ask<api::CreateTopicResult>(
        context_.pick_node(), kAskNs,
        [request](Broker& broker, auto done) { broker.create_topic(request, std::move(done)); },
        [&reply](Reply<api::CreateTopicResult> answer) { reply.emplace(std::move(answer)); });
    world_.run_until([&] { return reply.has_value(); });
    if (reply && reply->ok()) {
      topic.id = reply->answer->value().topic.id;
      change.answered_ns = world_.now_ns();
      context_.history.add(std::move(change));
      return true;
    }
    if (reply && reply->answer) why = reply->answer->error().message;
    world_.run_for(100 * kMs);
  }
  context_.violation("X18: topic " + topic.name + " cannot be made: " + why);
  return false;
}

void Simulation::add_clients() {
  for (int i = 0; i < plan_.idempotent_producers; ++i) {
    ProducerPlan producer;
    producer.name = "p" + std::to_string(i + 1);
    producer.topic = context_.topics.size() > 1 && i % 5 == 4 ? 1 : 0;
    producer.partition = i % context_.topics[producer.topic].partitions;
    producer.pause_ns = plan_.produce_pause_ns;
    if (plan_.hot_partition && i % 3 != 0) {
      producer.partition = 0;
      producer.pause_ns = 60 * kMs;
    }
    if (plan_.small_segments && i % 2 == 0) producer.bytes_max = 20'000;
    producers_.push_back(std::make_unique<Producer>(context_, producer));
  }
  for (int i = 0; i < plan_.plain_producers; ++i) {
    ProducerPlan producer;
    producer.name = "n" + std::to_string(i + 1);
    producer.topic = context_.topics.size() > 1 && i % 3 == 2 ? 1 : 0;
    producer.idempotent = false;
    if (i % 2 == 1) producer.partition = i % context_.topics[producer.topic].partitions;
    if (i == 2) producer.acks = history::Acks::kLeader;
    if (i == 3) producer.acks = history::Acks::kNone;
    producer.pause_ns = plan_.produce_pause_ns;
    if (plan_.small_segments && i % 2 == 0) producer.bytes_max = 20'000;
    producers_.push_back(std::make_unique<Producer>(context_, producer));
  }
  for (int i = 0; i < plan_.consumers; ++i) {
    Consumer::Plan consumer;
    consumer.name = "c" + std::to_string(i + 1);
    consumer.topic = context_.topics.size() > 1 && i == 1 ? 1 : 0;
    if (i == 3) consumer.commit_percent = 0;
    if (i == 3) consumer.uncommitted_percent = 10;
    const int32_t partitions = context_.topics[consumer.topic].partitions;
    for (int32_t partition = 0; partition < partitions; ++partition) {
      if (i == 0 || partition % 3 == i % 3 || partitions < 3) consumer.partitions.push_back(partition);
    }
    consumer.pause_ns = 150 * kMs;
    consumers_.push_back(std::make_unique<Consumer>(context_, consumer));
  }
  for (int i = 0; i < plan_.askers; ++i) {
    askers_.push_back(std::make_unique<Asker>(context_, "a" + std::to_string(i + 1), 200 * kMs));
  }
  for (auto& each : producers_) each->start();
  for (auto& each : consumers_) each->start();
  for (auto& each : askers_) each->start();
}

// --- after them
// --------------------------------------------------------------------------------------------------------

bool Simulation::settle(const std::function<bool()>& predicate, const std::function<std::string()>& what) {
  const int64_t left_ns = healed_ns_ + kHealedWithinNs - world_.now_ns();
  int64_t next_look_ns = 0;
  bool held = false;
  // The predicate may be costly: it is tried every few milliseconds, not after each event.
  auto tried = [&] {
    if (world_.now_ns() < next_look_ns) return false;
    next_look_ns = world_.now_ns() + 10 * kMs;
    return held = predicate();
  };
  if (left_ns > 0 && world_.run_until(tried, left_ns)) return true;
  if (held || predicate()) return true;
  context_.journal.note(observer_.describe());
  context_.violation("X18: 60 s after all is healed: " + what());
  return false;
}

void Simulation::heal_and_wind_down() {
  context_.winding_down = true;
  nemesis_.heal();
  healed_ns_ = world_.now_ns();
  history::Healed healed;
  healed.client = "harness";
  healed.invoked_ns = healed.answered_ns = healed_ns_;
  healed.bound_ns = kHealedWithinNs;
  context_.history.add(healed);
  auto all_idle = [this] {
    auto is_idle = [](const auto& each) { return each->idle(); };
    return std::ranges::all_of(producers_, is_idle) && std::ranges::all_of(consumers_, is_idle) &&
           std::ranges::all_of(askers_, is_idle);
  };
  context_.gateway.after(15 * kSecond, [this] { elect_by_hand(); });
  if (!settle([this] { return observer_.missing(false).empty(); }, [this] { return observer_.missing(false); })) return;
  context_.journal.note("all is in sync again");
  if (!settle(all_idle, [] { return std::string("a client still waits"); })) return;
  write_to_every_partition();
  check_groups();
  settle([this] { return observer_.missing(true).empty(); }, [this] { return observer_.missing(true); });
  read_everything();
  list_topics();
}

// Nobody leads a partition where too few of those who may have acknowledged records can be heard (C8): an operator says
// who. What is only `replicated` may have been lost then; of a synced topic nothing is, within the budget of faults.
void Simulation::elect_by_hand() {
  ImagePtr image = context_.newest_image();
  if (!image) return;
  for (const auto& [name, topic] : image->topics()) {
    for (size_t index = 0; index < topic->partitions.size(); ++index) {
      if (topic->partitions[index].leader == kNoBroker) elect_by_hand(*topic, static_cast<int32_t>(index));
    }
  }
  context_.gateway.after(5 * kSecond, [this] { elect_by_hand(); });
}

void Simulation::elect_by_hand(const TopicImage& topic, int32_t index) {
  const std::string name = topic.name + "/" + std::to_string(index);
  // Who is told that a replica has not been heard waits for it: it may be the one that has everything.
  api::ElectLeaderRequest question{.topic = topic.name, .partition = PartitionId(index), .validate_only = true};
  const bool patient = topic.durability == api::Durability::kSynced && ++hand_questions_[name] <= 4;
  const size_t replicas = topic.partitions[static_cast<size_t>(index)].replicas.size();
  context_.gateway.ask<api::ElectLeaderResult>(
      context_.pick_node(), kAskNs,
      [question](Broker& broker, auto done) { broker.elect_leader(question, std::move(done)); },
      [this, name, patient, replicas, durability = topic.durability,
       question](const Reply<api::ElectLeaderResult>& reply) {
        if (!reply.ok()) return;
        if (patient && reply.answer->value().heard.size() < replicas) return;
        elect_by_hand(name, durability, question);
      });
}

void Simulation::elect_by_hand(const std::string& name, api::Durability durability, api::ElectLeaderRequest request) {
  context_.journal.note(name + " gets a leader by hand");
  if (durability == api::Durability::kReplicated) {
    history::AcceptedLoss loss;
    loss.client = "operator";
    loss.invoked_ns = loss.answered_ns = world_.now_ns();
    loss.partition = {request.topic, request.partition.value()};
    context_.history.add(loss);
    ++context_.counters.accepted_losses;
    for (auto& consumer : consumers_) consumer->begin_again(request.topic, request.partition.value());
  } else {
    ++context_.counters.elections_by_hand;
  }
  request.validate_only = false;
  context_.gateway.ask<api::ElectLeaderResult>(
      context_.pick_node(), kAskNs,
      [request](Broker& broker, auto done) { broker.elect_leader(request, std::move(done)); },
      [this, name](const Reply<api::ElectLeaderResult>& reply) {
        if (reply.answer && !reply.ok()) context_.journal.note(name + ": " + reply.answer->error().message);
      });
}

void Simulation::write_to_every_partition() {
  std::vector<std::unique_ptr<Producer>> writers;
  for (size_t topic = 0; topic < context_.topics.size(); ++topic) {
    for (int32_t index = 0; index < context_.topics[topic].partitions; ++index) {
      ProducerPlan plan;
      plan.name = "last-" + context_.topics[topic].name + "-" + std::to_string(index);
      plan.topic = topic;
      plan.partition = index;
      writers.push_back(std::make_unique<Producer>(context_, plan));
      writers.back()->send_one();
    }
  }
  auto all_written = [&] {
    bool all = true;
    for (auto& writer : writers) {
      if (!writer->idle()) {
        all = false;
      } else if (!writer->last_was_acknowledged()) {
        writer->send_one();
        all = false;
      }
    }
    return all;
  };
  settle(all_written, [&] { return std::string("a partition takes no write"); });
  for (auto& writer : writers) producers_.push_back(std::move(writer));  // what they still wait for outlives this call
}

void Simulation::check_groups() {
  auto all_idle = [this] { return std::ranges::all_of(consumers_, [](const auto& each) { return each->idle(); }); };
  for (auto& consumer : consumers_) consumer->commit_all_groups();
  settle(all_idle, [] { return std::string("a group takes no commit"); });
  for (auto& consumer : consumers_) consumer->check_group();
  settle(all_idle, [] { return std::string("nobody tells what a group has committed"); });
}

void Simulation::read_everything() {
  const int64_t invoked_ns = world_.now_ns();
  for (const Topic& topic : context_.topics) {
    for (int32_t index = 0; index < topic.partitions; ++index) read_partition(topic, index);
  }
  observer_.add_replicas(invoked_ns);
}

void Simulation::read_partition(const Topic& topic, int32_t index) {
  history::FinalRead read;
  read.client = "reader";
  read.invoked_ns = world_.now_ns();
  read.partition = {topic.name, index};
  std::optional<int64_t> position;
  std::string why;
  for (int tries = 0; tries < 200; ++tries) {
    api::FetchRequest request;
    request.positions.push_back({.topic = topic.name, .partition = PartitionId(index)});
    if (position) request.positions[0].offset = Offset(*position);
    std::optional<Reply<api::FetchResult>> reply;
    context_.gateway.ask<api::FetchResult>(
        context_.pick_node(), kAskNs, [request](Broker& broker, auto done) { broker.fetch(request, std::move(done)); },
        [&reply](Reply<api::FetchResult> answer) { reply.emplace(std::move(answer)); });
    world_.run_until([&] { return reply.has_value(); });
    if (!reply || !reply->ok() || reply->answer->value().empty() || reply->answer->value()[0].error) {
      if (reply && reply->answer) {
        why = reply->ok() ? reply->answer->value()[0].error->message : reply->answer->error().message;
      }
      world_.run_for(50 * kMs);
      continue;
    }
    const api::FetchedPartition& part = reply->answer->value()[0];
    if (!position) read.log_start = part.log_start.value();
    if (!records_of(context_, part, read.records)) break;
    position = part.next_offset.value();
    read.high_watermark = part.high_watermark.value();
    if (*position < read.high_watermark) continue;
    read.answered_ns = world_.now_ns();
    context_.history.add(std::move(read));
    return;
  }
  context_.violation("X18: " + topic.name + "/" + std::to_string(index) + " cannot be read to its end: " + why);
}

void Simulation::list_topics() {
  history::Listing listing;
  listing.client = "operator";
  listing.invoked_ns = world_.now_ns();
  std::optional<Reply<api::ListTopicsResult>> reply;
  context_.gateway.ask<api::ListTopicsResult>(
      context_.pick_node(), kAskNs, [](Broker& broker, auto done) { broker.list_topics({}, std::move(done)); },
      [&reply](Reply<api::ListTopicsResult> answer) { reply.emplace(std::move(answer)); });
  world_.run_until([&] { return reply.has_value(); });
  if (!reply || !reply->ok()) return context_.violation("X18: topics cannot be listed after all is healed");
  for (const api::Topic& topic : reply->answer->value().topics) listing.names.push_back(topic.name);
  listing.answered_ns = world_.now_ns();
  context_.history.add(std::move(listing));
}

void Simulation::judge() {
  watching_ = false;
  observer_.look();
  auto found = history::check(context_.history);
  if (!found.ok()) return context_.violation("the history cannot be judged: " + found.status().to_string());
  for (const history::Violation& violation : *found) context_.violation(history::to_text({violation}));
}

}  // namespace trilog::simulator
