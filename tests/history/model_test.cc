// Generated histories: clean as they are, and flagged with the right class as soon as one anomaly is put into them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <set>

#include "tests/history/checker.h"
#include "tests/history/history_json.h"
#include "tests/history/model_cluster.h"

namespace trilog::history {
namespace {

using testing::Contains;

TEST(ModelHistory, IsClean) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    const auto violations = check(model_history({.seed = seed})).value();
    ASSERT_TRUE(violations.empty()) << "seed " << seed << "\n" << to_text(violations);
  }
}

TEST(ModelHistory, IsCleanWhenItIsLarge) {
  const auto violations = check(model_history({.operations = 100'000, .partitions = 8})).value();
  EXPECT_TRUE(violations.empty()) << to_text(violations);
}

TEST(ModelHistory, ComesBackFromJsonAsItWas) {
  const History written = model_history({.seed = 7});
  std::stringstream lines;
  const auto write = [&](const auto& operations) {
    for (const auto& operation : operations) lines << to_json(OperationPointer(&operation)) << '\n';
  };
  const auto write_all = [&]<typename... Kinds>(const Operations<Kinds...>& history) {
    (write(history.template all<Kinds>()), ...);
  };
  write_all(written);
  const std::string text = lines.str();
  History read;
  ASSERT_TRUE(HistoryReader(read).read(lines).ok());
  lines = std::stringstream();
  write_all(read);
  EXPECT_EQ(lines.str(), text);
  EXPECT_EQ(read.size(), written.size());
}

// A history, and the means to put an anomaly somewhere into it.
struct Victim {
  History history;
  std::mt19937_64 random;

  // Any operation of this kind for which it holds.
  template <typename Kind, typename Condition>
  Kind& any(Condition condition) {
    std::vector<Kind*> candidates;
    for (Kind& operation : history.all<Kind>()) {
      if (condition(operation)) candidates.push_back(&operation);
    }
    CHECK(!candidates.empty());
    return *candidates[random() % candidates.size()];
  }
  FinalRead& any_final_read() {
    return any<FinalRead>([](const FinalRead& read) { return read.node == FinalRead::kThroughTheCluster; });
  }
  const Produce& sender_of(uint64_t token) {
    return any<Produce>(
        [&](const Produce& produce) { return std::ranges::count(produce.records, token, &Record::token) > 0; });
  }
  void nobody_reads(uint64_t token) {
    const auto is_it = [&](const Record& record) { return record.token == token; };
    for (Fetch& fetch : history.all<Fetch>()) std::erase_if(fetch.records, is_it);
    for (FinalRead& read : history.all<FinalRead>()) std::erase_if(read.records, is_it);
  }
};

bool acknowledged(const Produce& produce) { return produce.outcome == Outcome::kOk && produce.acks == Acks::kAll; }

void lose_a_record(Victim& victim) {
  const FinalRead& read = victim.any_final_read();
  uint64_t token = 0;
  do token = read.records[victim.random() % (read.records.size() - 1)].token;
  while (!acknowledged(victim.sender_of(token)));
  victim.nobody_reads(token);
}

void lose_the_last_record(Victim& victim) { victim.nobody_reads(victim.any_final_read().records.back().token); }

void show_another_record(Victim& victim) {
  Fetch& fetch = victim.any<Fetch>([](const Fetch& each) { return each.records.size() > 1; });
  std::swap(fetch.records.front().token, fetch.records.back().token);
}

void write_twice(Victim& victim) {
  FinalRead& read = victim.any_final_read();
  uint64_t token = 0;
  do token = read.records[victim.random() % read.records.size()].token;
  while (!victim.sender_of(token).idempotent);
  read.records.push_back({read.high_watermark++, token});
}

void write_what_was_refused(Victim& victim) {
  const Produce& refused =
      victim.any<Produce>([](const Produce& each) { return each.outcome == Outcome::kNotWritten; });
  for (FinalRead& read : victim.history.all<FinalRead>()) {
    if (read.partition == refused.partition) read.records.push_back({read.high_watermark++, refused.records[0].token});
  }
}

void take_back_what_was_read(Victim& victim) {
  const Fetch& fetch = victim.any<Fetch>([](const Fetch& each) { return !each.records.empty(); });
  const Record record = fetch.records[victim.random() % fetch.records.size()];
  for (FinalRead& read : victim.history.all<FinalRead>()) {
    if (read.partition == fetch.partition) std::erase(read.records, record);
  }
}

void show_what_nobody_sent(Victim& victim) {
  victim.any<Fetch>([](const Fetch& each) { return !each.records.empty(); }).records[0].token = 999'999'999;
}

// The poll that comes after another one with records, in the same session.
void poll_again(Victim& victim) {
  std::vector<std::pair<const Fetch*, Fetch*>> neighbours;
  auto& fetches = victim.history.all<Fetch>();
  for (size_t i = 0; i < fetches.size(); ++i) {
    const auto next = std::find_if(
        fetches.begin() + static_cast<ptrdiff_t>(i) + 1, fetches.end(),
        [&](const Fetch& each) { return each.client == fetches[i].client && each.partition == fetches[i].partition; });
    if (next == fetches.end() || next->session != fetches[i].session || fetches[i].records.empty()) continue;
    if (next->outcome == Outcome::kOk) neighbours.emplace_back(&fetches[i], &*next);
  }
  CHECK(!neighbours.empty());
  const auto [first, second] = neighbours[victim.random() % neighbours.size()];
  second->asked_offset = first->asked_offset;
  second->records = first->records;
  second->next_offset = first->next_offset;
}

void jump_over_a_record(Victim& victim) {
  Fetch& fetch = victim.any<Fetch>([](const Fetch& each) { return each.records.size() > 2; });
  fetch.records.erase(fetch.records.begin() + 1);
}

void change_the_order_of_sends(Victim& victim) {
  Produce& later =
      victim.any<Produce>([&](const Produce& each) { return acknowledged(each) && each.records[0].offset > 50; });
  Produce& earlier = victim.any<Produce>([&](const Produce& each) {
    return acknowledged(each) && each.client == later.client && each.partition == later.partition;
  });
  if (&earlier == &later) return change_the_order_of_sends(victim);
  std::swap(earlier.records, later.records);
}

void tell_a_lower_end(Victim& victim) {
  ListOffsets& list = victim.any<ListOffsets>([](const ListOffsets& each) { return each.latest > 100; });
  list.latest /= 2;
}

void forget_a_commit(Victim& victim) {
  const Commit& commit = victim.any<Commit>([](const Commit& each) { return each.generation < 0; });
  FetchCommitted fetch;
  fetch.group = commit.group;
  fetch.partition = commit.partition;
  fetch.invoked_ns = fetch.answered_ns = commit.answered_ns + 1;
  victim.history.add(fetch);
}

void accept_a_zombie(Victim& victim) {
  Commit& commit =
      victim.any<Commit>([](const Commit& each) { return each.outcome == Outcome::kOk && each.generation > 2; });
  --commit.generation;
}

void lose_a_topic(Victim& victim) {
  auto& names = victim.history.all<Listing>().back().names;
  const auto settled = [&](const std::string& name) {
    return std::ranges::none_of(victim.history.all<Change>(), [&](const Change& change) {
      return change.name == name && change.outcome == Outcome::kUnknown;
    });
  };
  CHECK(std::erase_if(names, settled) > 0);
}

void let_a_replica_differ(Victim& victim) {
  FinalRead& read = victim.any<FinalRead>([](const FinalRead& each) { return each.node >= 0; });
  read.records[victim.random() % read.records.size()].token += 1'000'000;
}

void stay_without_a_leader(Victim& victim) {
  const Partition partition = victim.any_final_read().partition;
  const int64_t healed_ns = victim.history.all<Healed>().back().invoked_ns;
  for (Produce& produce : victim.history.all<Produce>()) {
    if (produce.partition == partition && produce.invoked_ns >= healed_ns) produce.outcome = Outcome::kUnknown;
  }
}

struct Anomaly {
  const char* id;
  void (*put_into)(Victim& victim);
};

class InjectedAnomaly : public testing::TestWithParam<Anomaly> {};

TEST_P(InjectedAnomaly, IsFlagged) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Victim victim{model_history({.seed = seed, .removes_records = false}), std::mt19937_64(seed)};
    GetParam().put_into(victim);
    std::set<std::string> classes;
    for (const Violation& violation : check(victim.history).value()) classes.insert(violation.id);
    ASSERT_THAT(classes, Contains(GetParam().id)) << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Model, InjectedAnomaly,
                         testing::Values(Anomaly{"X1", lose_a_record}, Anomaly{"X2", lose_the_last_record},
                                         Anomaly{"X3", show_another_record}, Anomaly{"X4", write_twice},
                                         Anomaly{"X5", write_what_was_refused}, Anomaly{"X6", take_back_what_was_read},
                                         Anomaly{"X6", show_what_nobody_sent}, Anomaly{"X7", poll_again},
                                         Anomaly{"X8", jump_over_a_record}, Anomaly{"X9", change_the_order_of_sends},
                                         Anomaly{"X12", tell_a_lower_end}, Anomaly{"X13", forget_a_commit},
                                         Anomaly{"X14", accept_a_zombie}, Anomaly{"X16", lose_a_topic},
                                         Anomaly{"X17", let_a_replica_differ}, Anomaly{"X18", stay_without_a_leader}));

}  // namespace
}  // namespace trilog::history
