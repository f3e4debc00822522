// Groups, committed offsets and topics that come and go.
#include <charconv>
#include <map>
#include <utility>

#include "tests/e2e/chaos/actors.h"

namespace trilog::chaos {
namespace {

constexpr int64_t kCommitEveryNs = 100'000'000;

struct Consumed {
  std::map<history::Partition, int64_t> next;         // behind what was read
  std::map<history::Partition, int64_t> uncommitted;  // of them
};

void commit(Stage& stage, client::Consumer& consumer, const std::string& group, const std::string& name,
            Consumed& consumed) {
  if (consumed.uncommitted.empty()) return;
  std::vector<client::Commit> offsets;
  std::vector<history::Commit> lines;
  for (const auto& [partition, offset] : consumed.uncommitted) {
    offsets.push_back({.topic = partition.topic, .partition = partition.index, .offset = offset});
    history::Commit& line = lines.emplace_back();
    line.client = name;
    line.group = group;
    line.partition = partition;
    line.offset = offset;
    line.invoked_ns = now_ns();
  }
  consumed.uncommitted.clear();
  auto committed = consumer.commit(offsets);
  for (size_t i = 0; i < lines.size(); ++i) {
    history::Commit& line = lines[i];
    line.answered_ns = now_ns();
    const client::Error* error = nullptr;
    if (!committed.ok()) {
      error = &committed.error();
    } else if (committed.value()[i].error) {
      error = &*committed.value()[i].error;
    }
    if (error != nullptr) {
      // An earlier try over a connection that was lost may have been carried out.
      line.outcome = history::Outcome::kUnknown;
      line.detail = error->code;
      stage.recorder.problem("group commit " + error->code, error->message);
    }
    stage.recorder.add(line);
  }
}

void record(Stage& stage, const client::Consumer::Event& event, const std::string& name, int64_t invoked_ns,
            Consumed& consumed) {
  history::Fetch fetch;
  fetch.client = name;
  fetch.partition = {event.topic, event.partition};
  fetch.invoked_ns = invoked_ns;
  fetch.answered_ns = now_ns();
  fetch.next_offset = event.next_offset;
  for (const client::ConsumedRecord& from : event.records) {
    uint64_t token = 0;
    const std::string_view text = from.value.value_or("");
    std::from_chars(text.data(), text.data() + text.size(), token);
    fetch.records.push_back({from.offset, token});
  }
  const auto known = consumed.next.find(fetch.partition);
  fetch.asked_offset = known != consumed.next.end() ? known->second
                       : fetch.records.empty()      ? fetch.next_offset
                                                    : fetch.records.front().offset;
  stage.recorder.add(fetch);
  consumed.next[fetch.partition] = fetch.next_offset;
  consumed.uncommitted[fetch.partition] = fetch.next_offset;
}

void record_committed(Stage& stage, client::Admin& admin, const std::string& group, const std::string& name) {
  for (const TopicShape& topic : stage.workload.topics) {
    history::FetchCommitted line;
    line.client = name;
    line.group = group;
    line.invoked_ns = now_ns();
    auto fetched = admin.fetch_offsets(group, topic.name);
    line.answered_ns = now_ns();
    if (!fetched.ok()) {
      stage.recorder.problem("fetch_offsets " + fetched.error().code, fetched.error().message);
      continue;
    }
    std::map<int32_t, int64_t> offsets;
    for (const client::Commit& each : fetched.value()) {
      if (!each.error) offsets[each.partition] = each.offset;
      if (each.error) offsets[each.partition] = -2;
    }
    for (int32_t index = 0; index < topic.partitions; ++index) {
      line.partition = {topic.name, index};
      line.offset = offsets.contains(index) ? offsets[index] : -1;
      if (line.offset != -2) stage.recorder.add(history::AnyOperation(line));
    }
  }
}

void consume_for_a_while(Stage& stage, client::Client& connection, const std::string& group, const std::string& name,
                         int64_t until) {
  client::Consumer consumer(connection, {.group = group});
  std::vector<std::string> topics;
  for (const TopicShape& topic : stage.workload.topics) topics.push_back(topic.name);
  if (auto subscribed = consumer.subscribe(topics); !subscribed.ok()) {
    stage.recorder.problem("subscribe " + subscribed.error().code, subscribed.error().message);
    return stage.rest(200);
  }
  Consumed consumed;
  int64_t next_commit = now_ns() + kCommitEveryNs;
  while (!stage.over && now_ns() < until) {
    const int64_t invoked = now_ns();
    auto event = consumer.poll(100);
    if (!event.ok()) {
      stage.recorder.problem("poll " + event.error().code, event.error().message);
      return stage.rest(50);
    }
    using Kind = client::Consumer::Event::Kind;
    if (event->kind == Kind::kPartitionError) {
      stage.recorder.problem("partition " + event->error->code, event->error->message);
      return stage.rest(50);
    }
    if (event->kind == Kind::kRecords) record(stage, event.value(), name, invoked, consumed);
    if (now_ns() < next_commit) continue;
    next_commit = now_ns() + kCommitEveryNs;
    commit(stage, consumer, group, name, consumed);
  }
  commit(stage, consumer, group, name, consumed);
}

}  // namespace

void run_group(Stage& stage, size_t number) {
  const std::string group = "group" + std::to_string(number);
  std::mt19937_64 random(stage.workload.seed * 13 + number);
  for (size_t turn = 0; !stage.over; ++turn) {
    const std::string name = group + "-" + std::to_string(turn);
    const auto connection = connect(stage.workload, random(), false, 20'000);
    client::Admin admin(*connection);
    const int64_t lifetime_ms = static_cast<int64_t>(1'000 + random() % 5'000);
    record_committed(stage, admin, group, name);
    consume_for_a_while(stage, *connection, group, name, now_ns() + lifetime_ms * 1'000'000);
    if (!stage.over) record_committed(stage, admin, group, name);
  }
}

void run_committer(Stage& stage) {
  std::mt19937_64 random(stage.workload.seed * 7);
  const std::string group = "counters";
  for (int64_t number = 1; !stage.over; ++number) {
    const auto writer = connect(stage.workload, random(), true, 10'000);
    std::vector<client::Commit> offsets;
    for (const TopicShape& topic : stage.workload.topics) {
      for (int32_t index = 0; index < topic.partitions; ++index) {
        offsets.push_back({.topic = topic.name, .partition = index, .offset = number});
      }
    }
    const int64_t invoked = now_ns();
    auto committed = client::Admin(*writer).commit_offsets(group, offsets);
    const int64_t answered = now_ns();
    if (!committed.ok()) stage.recorder.problem("commit " + committed.error().code, committed.error().message);
    for (size_t i = 0; i < offsets.size(); ++i) {
      history::Commit line;
      line.client = "committer";
      line.group = group;
      line.partition = {offsets[i].topic, offsets[i].partition};
      line.offset = number;
      line.invoked_ns = invoked;
      line.answered_ns = answered;
      if (!committed.ok()) line.outcome = outcome_of(committed.error());
      if (committed.ok() && committed.value()[i].error) line.outcome = outcome_of(*committed.value()[i].error);
      stage.recorder.add(line);
    }
    const auto reader = connect(stage.workload, random(), true, 10'000);
    client::Admin admin(*reader);
    record_committed(stage, admin, group, "committer");
    stage.rest(static_cast<int64_t>(random() % 50));
  }
}

void run_topic_changer(Stage& stage) {
  std::mt19937_64 random(stage.workload.seed * 29);
  std::vector<std::string> there;
  for (int64_t number = 1; !stage.over; ++number) {
    const auto connection = connect(stage.workload, random(), false, 10'000);
    client::Admin admin(*connection);
    history::Change change;
    change.client = "changer";
    change.kind = history::ObjectKind::kTopic;
    change.created = there.size() < 5 || random() % 2 == 0;
    const size_t chosen = there.empty() ? 0 : random() % there.size();
    change.name = change.created ? "side-" + std::to_string(number) : there[chosen];
    change.invoked_ns = now_ns();
    std::optional<client::Error> error;
    if (change.created) {
      auto created = admin.create_topic({.name = change.name, .partitions = 2});
      if (!created.ok()) error = created.error();
      if (created.ok()) there.push_back(change.name);
    } else {
      auto deleted = admin.delete_topic(change.name, false, false);
      if (!deleted.ok()) error = deleted.error();
      there.erase(there.begin() + static_cast<std::ptrdiff_t>(chosen));
    }
    change.answered_ns = now_ns();
    if (error) {
      change.outcome = outcome_of(*error);
      change.detail = error->code;
      stage.recorder.problem((change.created ? "create " : "delete ") + error->code, error->message);
    }
    stage.recorder.add(history::AnyOperation(change));
    stage.rest(static_cast<int64_t>(200 + random() % 400));
  }
}

}  // namespace trilog::chaos
