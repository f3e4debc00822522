// What the replicas of a node do when the disk is full, fails or forgets, when the clock jumps, when the node stops, is
// killed or loses power.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/broker/replica/replica_node.h"

namespace trilog {
namespace {

using api::ErrorCode;
using api::Outcome;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using testing::make_batch;
using testing::make_filled_batch;
using testing::outcome_of;
using ::testing::Pair;
using testing::ReplicaNode;
using testing::TopicSpec;

constexpr uint64_t kMiB = 1u << 20;
Bytes value(const std::string& text) { return make_batch({{"key", text}}); }

// --- disk ----------------------------------------------------------------------------------------------------------

TEST(ReplicaFaults, AFullDiskRefusesRecordsButNotTheBrokersOwn) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, value("before"));
  node.disk.set_capacity(node.disk.bytes_used() + 3 * kMiB);  // the reject mark is at least 4 MiB
  node.run_for_ms(1500);
  AppendResult refused = node.append(orders, value("refused"));
  EXPECT_EQ(error_of(refused), ErrorCode::kDiskFull);
  EXPECT_EQ(outcome_of(refused), Outcome::kNotWritten);
  EXPECT_THAT(refused.batches[0].error->message, HasSubstr("bytes left"));
  EXPECT_EQ(error_of(node.append({.partition = orders, .batches = value("own"), .internal = true})), std::nullopt);
  EXPECT_THAT(node.read_all(orders), ElementsAre(Pair(0, "before"), Pair(1, "own")));
  node.disk.set_capacity(UINT64_MAX);
  node.run_for_ms(1500);
  EXPECT_EQ(error_of(node.append(orders, value("after"))), std::nullopt);
}

TEST(ReplicaFaults, RunningOutOfSpaceInAnAppendIsAStorageErrorOfUnknownOutcome) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, value("before"));
  node.disk.add_fault({.call = sim::DiskCall::kWrite, .path_part = ".log", .first = 1, .code = Errc::kDiskFull});
  AppendResult failed = node.append(orders, value("failed"));
  EXPECT_EQ(error_of(failed), ErrorCode::kStorageError);
  EXPECT_EQ(outcome_of(failed), Outcome::kUnknown);
  // The boundary is restored and the log goes on.
  EXPECT_EQ(node.append(orders, value("after")).batches[0].first_offset, Offset(1));
  EXPECT_THAT(node.read_all(orders), ElementsAre(Pair(0, "before"), Pair(1, "after")));
}

TEST(ReplicaFaults, AFailedWriteIsAStorageErrorOfUnknownOutcome) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, value("before"));
  node.disk.add_fault({.call = sim::DiskCall::kWrite, .path_part = ".log", .first = 1});
  AppendResult failed = node.append(orders, value("failed"));
  EXPECT_EQ(error_of(failed), ErrorCode::kStorageError);
  EXPECT_EQ(outcome_of(failed), Outcome::kUnknown);
}

TEST(ReplicaFaults, AFailedSyncEndsTheNodeAndAcknowledgesNothing) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, value("safe"));
  node.disk.add_fault({.call = sim::DiskCall::kSync, .path_part = ".log", .first = 1});
  auto first = node.begin_append({.partition = orders, .batches = value("a")});
  auto second = node.begin_append({.partition = orders, .batches = value("b")});
  bool woken = false;
  node.replicas->watch({{orders, Offset(1), {}}}, 1, api::Isolation::kCommitted, INT64_MAX, [&] { woken = true; });
  node.settle();
  EXPECT_FALSE(node.env->fatal_status().ok());
  for (const auto& answer : {first, second}) {
    ASSERT_TRUE(answer->has_value());
    EXPECT_EQ(error_of(**answer), ErrorCode::kStorageError);
    EXPECT_EQ(outcome_of(**answer), Outcome::kUnknown);
  }
  EXPECT_TRUE(woken);
  AppendResult later = node.append(orders, value("c"));
  EXPECT_EQ(error_of(later), ErrorCode::kStorageError);
  EXPECT_EQ(outcome_of(later), Outcome::kNotWritten) << "nothing was tried";
  EXPECT_FALSE(node.stop());

  node.disk.clear_faults();
  node.disk.power_cut();
  node.start();
  EXPECT_THAT(node.read_all(orders), ::testing::Contains(Pair(0, "safe")));
}

TEST(ReplicaFaults, ALogThatCannotBeOpenedIsOutOfServiceAndTheOthersServe) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders", {.partitions = 2});
  TopicPartition other{orders.topic, PartitionId(1)};
  node.append(orders, value("a"));
  node.append(other, value("b"));
  std::string folder = node.logs->path_of(orders);
  node.power_cut();
  node.disk.add_fault({.call = sim::DiskCall::kOpen, .path_part = folder + "/0", .first = 1, .count = 1000});
  node.start();
  AppendResult refused = node.append(orders, value("c"));
  EXPECT_EQ(error_of(refused), ErrorCode::kStorageError);
  EXPECT_EQ(outcome_of(refused), Outcome::kNotWritten);
  EXPECT_EQ(node.replicas->ends(orders).error().code, ErrorCode::kStorageError);
  EXPECT_EQ(error_of(node.append(other, value("d"))), std::nullopt);
  EXPECT_FALSE(node.stop()) << "no clean marker may speak for a log that was never seen";
}

// --- trim, retention, removal --------------------------------------------------------------------------------------

TEST(ReplicaFaults, ATrimIsAnsweredWhenItIsDurable) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  for (const char* text : {"a", "b", "c"}) node.append(orders, value(text));
  std::optional<api::Answer<PartitionEnds>> trimmed;
  node.disk.hold_syncs(true);
  node.replicas->trim(orders, Offset(2), [&](api::Answer<PartitionEnds> answer) { trimmed = std::move(answer); });
  node.settle();
  EXPECT_FALSE(trimmed.has_value());
  node.disk.hold_syncs(false);
  node.settle();
  ASSERT_TRUE(trimmed.has_value());
  ASSERT_TRUE(trimmed->ok());
  EXPECT_EQ(trimmed->value().start, Offset(2));
  EXPECT_THAT(node.read_all(orders), ElementsAre(Pair(2, "c")));
  ReadPart gone = node.replicas->read({{orders, Offset(1), {}}}, 1 << 20, api::Isolation::kCommitted)[0];
  ASSERT_TRUE(gone.error.has_value());
  EXPECT_EQ(gone.error->code, ErrorCode::kOffsetOutOfRange);
  node.power_cut();
  node.start();
  EXPECT_EQ(node.ends(orders).start, Offset(2));
  EXPECT_THAT(node.read_all(orders), ElementsAre(Pair(2, "c")));
}

TEST(ReplicaFaults, TrimsUpToTheHighWatermarkAndNoFurther) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, value("a"));
  std::vector<api::Answer<PartitionEnds>> answers;
  auto trim = [&](std::optional<Offset> before) {
    node.replicas->trim(orders, before, [&](api::Answer<PartitionEnds> answer) { answers.push_back(answer); });
    node.settle();
  };
  trim(Offset(2));
  EXPECT_EQ(answers.back().error().code, ErrorCode::kOffsetOutOfRange);
  trim(std::nullopt);
  EXPECT_EQ(answers.back().value().start, Offset(1));
  trim(Offset(0));  // already gone
  EXPECT_EQ(answers.back().value().start, Offset(1));
  EXPECT_EQ(node.append(orders, value("b")).batches[0].first_offset, Offset(1));
}

TEST(ReplicaFaults, RetentionBySizeKeepsTheNewestSegments) {
  ReplicaNode node;
  TopicPartition orders =
      node.add_topic("orders", {.configs = {{"segment.bytes", "1048576"}, {"retention.bytes", "3145728"}}});
  for (int i = 0; i < 100; ++i) node.append(orders, make_filled_batch(1, 100'000));
  node.run_for_ms(node.options.retention_check_ms + 10);
  PartitionEnds ends = node.ends(orders);
  EXPECT_GT(ends.start, Offset(0));
  EXPECT_EQ(ends.high_watermark, Offset(100));
  EXPECT_LE(ends.size_bytes, 3 * kMiB + kMiB);
  EXPECT_GE(ends.size_bytes, 2 * kMiB);
  Offset start = ends.start;
  node.run_for_ms(node.options.mark_interval_ms + 10);
  node.power_cut();
  node.start();
  EXPECT_GE(node.ends(orders).start, start) << "the earliest offset must not go back (X12)";
}

TEST(ReplicaFaults, RetentionByAgeStopsWhenTheClockJumps) {
  ReplicaNode node;
  TopicPartition orders =
      node.add_topic("orders", {.configs = {{"segment.bytes", "1048576"}, {"retention.ms", "3600000"}}});
  auto fill = [&] {
    for (int i = 0; i < 30; ++i) {
      std::string text(100'000, 'x');
      node.append(orders, make_batch({{"key", text, {}, node.env->clock().wall_ms()}}));
    }
  };
  fill();
  node.env->set_wall_offset_ms(10LL * 365 * 24 * 3600 * 1000);
  node.run_for_ms(node.options.retention_check_ms * 3);
  EXPECT_EQ(node.ends(orders).start, Offset(0)) << "F14";
  node.env->set_wall_offset_ms(0);
  node.run_for_ms(2 * 3600 * 1000);
  EXPECT_GT(node.ends(orders).start, Offset(0));
}

TEST(ReplicaFaults, InternalTopicsAreExemptFromRetention) {
  ReplicaNode node;
  TopicSpec spec{.configs = {{"segment.bytes", "1048576"}, {"retention.ms", "1000"}, {"retention.bytes", "1048576"}},
                 .internal = true};
  TopicPartition offsets = node.add_topic("__consumer_offsets", spec);
  for (int i = 0; i < 50; ++i) {
    node.append({.partition = offsets, .batches = make_filled_batch(1, 100'000), .internal = true});
  }
  node.run_for_ms(24LL * 3600 * 1000);
  EXPECT_EQ(node.ends(offsets).start, Offset(0));
}

TEST(ReplicaFaults, RemovingATopicAnswersWhatWaitsAndRemovesTheFolder) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, value("a"));
  std::string folder = node.logs->path_of(orders);
  ASSERT_TRUE(node.env->files().exists(folder));
  node.disk.hold_syncs(true);
  auto answer = node.begin_append({.partition = orders, .batches = value("b")});
  bool woken = false;
  node.replicas->watch({{orders, Offset(1), {}}}, 1, api::Isolation::kCommitted, INT64_MAX, [&] { woken = true; });
  node.apply_records({RemoveTopicRecord{orders.topic}});
  node.settle();
  ASSERT_TRUE(answer->has_value());
  EXPECT_EQ(outcome_of(**answer), Outcome::kUnknown);
  EXPECT_TRUE(woken);
  EXPECT_EQ(error_of(node.append(orders, value("c"))), ErrorCode::kUnknownTopic);
  node.disk.hold_syncs(false);
  node.settle();
  EXPECT_FALSE(node.env->files().exists(folder));
  EXPECT_TRUE(node.env->fatal_status().ok());
}

TEST(ReplicaFaults, SettingsOfALiveTopicTakeEffect) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, make_filled_batch(3, 1000));
  node.apply_records({TopicConfigRecord{orders.topic, "max.message.bytes", "2000"}});
  EXPECT_EQ(error_of(node.append(orders, make_filled_batch(3, 1000))), ErrorCode::kRecordTooLarge);
  AppendRequest built{.partition = orders, .batches = make_filled_batch(3, 1000), .built_from_records = true};
  EXPECT_EQ(error_of(node.append(std::move(built))), std::nullopt);
}

// --- marks and idling ----------------------------------------------------------------------------------------------

TEST(ReplicaFaults, MarksFollowWithinTheirIntervalAndThenRest) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders", {.durability = api::Durability::kReplicated});
  node.append(orders, value("a"));
  EXPECT_EQ(node.marks_written, 0u);
  node.run_for_ms(node.options.mark_interval_ms + 10);
  EXPECT_EQ(node.marks_written, 1u);
  const LogMark& mark = node.marks_file->marks().at(orders);
  EXPECT_EQ(mark.durable_end, Offset(1));
  EXPECT_EQ(mark.high_watermark, Offset(1));
  node.run_for_ms(10 * node.options.mark_interval_ms);
  EXPECT_LE(node.marks_written, 2u) << "nothing changed";
}

TEST(ReplicaFaults, MarksFollowWhenTooManyBytesLieAboveThem) {
  ReplicaNode node;
  node.kill();
  node.options.mark_bytes_replicated_max = 1 * kMiB;
  node.start();
  TopicPartition orders = node.add_topic("orders", {.durability = api::Durability::kReplicated});
  for (int i = 0; i < 11; ++i) node.append(orders, make_filled_batch(1, 100'000));
  EXPECT_EQ(node.marks_written, 1u);
  EXPECT_GE(node.marks_file->marks().at(orders).durable_end, Offset(10));
}

TEST(ReplicaFaults, AnIdleNodeDoesAlmostNothing) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders", {.partitions = 100});
  node.append(orders, value("a"));
  node.run_for_ms(60'000);
  uint64_t before = node.world.scheduler().executed();
  uint64_t syncs = node.disk.calls(sim::DiskCall::kSync);
  node.run_for_ms(600'000);
  EXPECT_LE(node.world.scheduler().executed() - before, 600'000u / 30'000 + 2);
  EXPECT_EQ(node.disk.calls(sim::DiskCall::kSync), syncs);
}

// --- stops and crashes ---------------------------------------------------------------------------------------------

TEST(ReplicaFaults, ACleanStopAcknowledgesWhatWaitsAndLeavesExactMarks) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  auto answer = node.begin_append({.partition = orders, .batches = value("a")});
  bool woken = false;
  node.replicas->watch({{orders, Offset(5), {}}}, 1, api::Isolation::kCommitted, INT64_MAX, [&] { woken = true; });
  std::optional<Result<Marks>> stopped;
  node.replicas->stop([&](Result<Marks> marks) { stopped.emplace(std::move(marks)); });
  auto refused = node.begin_append({.partition = orders, .batches = value("b")});
  node.world.run_until_idle();
  ASSERT_TRUE(answer->has_value());
  EXPECT_EQ(error_of(**answer), std::nullopt);
  ASSERT_TRUE(refused->has_value());
  EXPECT_EQ(error_of(**refused), ErrorCode::kNodeStopping);
  EXPECT_TRUE(woken);
  ASSERT_TRUE(stopped && stopped->ok());
  EXPECT_EQ((**stopped).at(orders).durable_end, Offset(1));
  EXPECT_EQ((**stopped).at(orders).high_watermark, Offset(1));
  EXPECT_EQ(node.marks_file->marks().at(orders).durable_end, Offset(1));
}

TEST(ReplicaFaults, EveryWaiterIsAnsweredAtAStopAlsoWhenTheDiskFails) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, value("safe"));
  auto write = node.begin_append({.partition = orders, .batches = value("a")});
  bool trimmed = false;
  node.replicas->trim(orders, Offset(1), [&](const api::Answer<PartitionEnds>& answer) {
    trimmed = true;
    EXPECT_FALSE(answer.ok());
  });
  node.disk.add_fault({.call = sim::DiskCall::kSync, .path_part = "", .first = 1, .count = 1000});
  EXPECT_FALSE(node.stop());
  ASSERT_TRUE(write->has_value());
  EXPECT_EQ(outcome_of(**write), Outcome::kUnknown);
  EXPECT_TRUE(trimmed);
}

TEST(ReplicaFaults, OpensManyPartitionsAfterACleanStopWithoutReadingThem) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders", {.partitions = 200});
  for (int32_t p = 0; p < 200; ++p) node.append({orders.topic, PartitionId(p)}, value("x"));
  ASSERT_TRUE(node.stop());
  uint64_t reads = node.disk.calls(sim::DiskCall::kRead);
  node.start();
  EXPECT_TRUE(node.started_clean);
  EXPECT_LE(node.disk.calls(sim::DiskCall::kRead) - reads, 200u * 8);
  for (int32_t p = 0; p < 200; ++p) {
    EXPECT_THAT(node.read_all({orders.topic, PartitionId(p)}), ElementsAre(Pair(0, "x")));
  }
}

// Random work, kills and power cuts on three partitions; what was acknowledged is there afterwards, once, in order, and
// neither end goes back (X1, X2, X4, X6, X12).
class CrashRun {
 public:
  explicit CrashRun(uint64_t seed) : node_(seed), random_(seed * 31 + 7) {
    orders_ = node_.add_topic("orders", {.partitions = 3, .configs = {{"segment.bytes", "1048576"}}});
  }
  void run(int rounds) {
    for (int round = 0; round < rounds; ++round) {
      work();
      crash();
      verify();
      if (::testing::Test::HasFailure()) return;
    }
    for (int32_t p = 0; p < 3; ++p) EXPECT_GT(states_[p].acknowledged.size(), 0u);
  }

 private:
  struct State {
    std::map<int64_t, std::string> acknowledged;
    int32_t next_sequence = 0;
    int64_t high_watermark = 0;
  };
  TopicPartition partition(int32_t p) const { return {orders_.topic, PartitionId(p)}; }

  void send(int32_t p, const std::string& text, int32_t sequence) {
    Bytes batch = make_batch({{"key", text + std::string(random_.below(30'000), '.')}},
                             {.producer = {ProducerId(p), ProducerEpoch(0), sequence}});
    values_[{p, sequence}] = testing::records_of(batch)[0].value.value_or("");
    send_again(p, sequence);
  }
  void send_again(int32_t p, int32_t sequence) {
    Bytes batch =
        make_batch({{"key", values_.at({p, sequence})}}, {.producer = {ProducerId(p), ProducerEpoch(0), sequence}});
    node_.replicas->append(
        {.partition = partition(p), .batches = std::move(batch)}, [this, p, sequence](AppendResult result) {
          if (result.batches[0].error) return;
          states_[p].acknowledged[result.batches[0].first_offset.value()] = values_.at({p, sequence});
        });
  }
  void work() {
    for (int step = 0; step < 60; ++step) {
      auto p = static_cast<int32_t>(random_.below(3));
      State& state = states_[p];
      if (random_.chance(15) && state.next_sequence > 0) {
        send_again(p, std::max(0, state.next_sequence - 1 - static_cast<int32_t>(random_.below(20))));
      } else {
        send(p, "p" + std::to_string(p) + "-" + std::to_string(state.next_sequence), state.next_sequence);
        ++state.next_sequence;
      }
      if (random_.chance(40)) node_.world.run_for(static_cast<int64_t>(random_.below(400'000)));
      if (step % 10 == 0) node_.check();  // reads every log as a whole
      note_high_watermarks();
    }
  }
  void note_high_watermarks() {
    for (int32_t p = 0; p < 3; ++p) {
      const int64_t now = node_.ends(partition(p)).high_watermark.value();
      EXPECT_GE(now, states_[p].high_watermark) << "the high watermark went back (X12)";
      states_[p].high_watermark = now;
    }
  }
  void crash() {
    // After a clean stop nothing is scanned, so that damage from before is not known until it is read.
    if (!damage_seen_ && random_.chance(20)) {
      EXPECT_TRUE(node_.stop());
    } else if (random_.chance(40)) {
      node_.kill();
    } else {
      node_.power_cut({static_cast<uint32_t>(random_.below(101)), 50});
    }
    node_.start();
    node_.check();
  }
  void verify() {
    note_high_watermarks();
    for (int32_t p = 0; p < 3; ++p) {
      State& state = states_[p];
      std::map<int64_t, std::string> found;
      std::set<std::string> seen;
      // A power cut may keep a later write and lose an earlier one that nobody was promised. The log does not know
      // that nobody was, so it calls that damage (S2), and readers are told where to go on.
      int32_t newest = -1;
      for (auto& [offset, text] : node_.read_all(partition(p), std::nullopt, true)) {
        EXPECT_TRUE(found.empty() || offset > found.rbegin()->first) << "offsets rise";
        EXPECT_TRUE(seen.insert(text).second) << "written twice (X4)";
        newest = std::max(newest, std::stoi(text.substr(text.find('-') + 1)));
        damage_seen_ = damage_seen_ || offset != static_cast<int64_t>(found.size());
        found.emplace(offset, std::move(text));
      }
      for (const auto& [offset, text] : state.acknowledged) {
        EXPECT_EQ(found[offset], text) << "acknowledged record " << p << "/" << offset << " is gone (X1)";
      }
      // The producer goes on after what is there: what it does not find it sends again, under the same sequence.
      state.next_sequence = newest + 1;
    }
  }

  ReplicaNode node_;
  sim::SeededRandom random_;
  TopicPartition orders_;
  std::map<int32_t, State> states_;
  std::map<std::pair<int32_t, int32_t>, std::string> values_;
  bool damage_seen_ = false;
};

TEST(ReplicaFaults, KeepsEveryAcknowledgedRecordOnceThroughKillsAndPowerCuts) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    CrashRun(seed).run(8);
    if (HasFailure()) return;
  }
}

TEST(ReplicaFaults, TheSameSeedGivesTheSameRun) {
  auto run = [](uint64_t seed) {
    ReplicaNode node(seed);
    TopicPartition orders = node.add_topic("orders", {.partitions = 4});
    for (int i = 0; i < 50; ++i) {
      node.begin_append({.partition = {orders.topic, PartitionId(i % 4)}, .batches = value(std::to_string(i))});
      node.world.run_for(100'000);
    }
    node.power_cut({});
    node.start();
    node.settle();
    return node.world.trace_hash();
  };
  EXPECT_EQ(run(5), run(5));
}

}  // namespace
}  // namespace trilog
