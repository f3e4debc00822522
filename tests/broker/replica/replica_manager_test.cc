#include "broker/replica/replica_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/broker/replica/replica_node.h"

namespace trilog {
namespace {

using api::ErrorCode;
using api::Outcome;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using testing::kSelf;
using testing::make_batch;
using testing::make_filled_batch;
using testing::outcome_of;
using ::testing::Pair;
using testing::ReplicaNode;
using testing::TopicSpec;

Bytes value(const std::string& text) { return make_batch({{"key", text}}); }
Bytes sequenced(int32_t base, const std::string& text, int16_t epoch = 0) {
  return make_batch({{"key", text}}, {.producer = {ProducerId(9), ProducerEpoch(epoch), base}});
}
TopicSpec replicated() { return {.durability = api::Durability::kReplicated}; }

TEST(ReplicaManager, AcknowledgesWhenTheRecordIsOnDisk) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.disk.hold_syncs(true);
  auto answer = node.begin_append({.partition = orders, .batches = value("a")});
  node.settle();
  EXPECT_FALSE(answer->has_value());
  EXPECT_EQ(node.ends(orders).high_watermark, Offset(0));
  EXPECT_EQ(node.ends(orders).log_end, Offset(1));
  node.disk.hold_syncs(false);
  node.settle();
  ASSERT_TRUE(answer->has_value());
  EXPECT_EQ((*answer)->batches[0].first_offset, Offset(0));
  EXPECT_EQ((*answer)->batches[0].leader_epoch, LeaderEpoch(0));
  EXPECT_FALSE((*answer)->batches[0].duplicate);
  EXPECT_EQ((*answer)->synced_replicas, 1);
  EXPECT_EQ((*answer)->replicas, 1);
  EXPECT_THAT(node.read_all(orders), ElementsAre(Pair(0, "a")));
}

TEST(ReplicaManager, AcknowledgesAReplicatedTopicFromThePageCache) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders", replicated());
  node.disk.hold_syncs(true);
  auto answer = node.begin_append({.partition = orders, .batches = value("a")});
  node.settle();
  ASSERT_TRUE(answer->has_value());
  EXPECT_EQ((*answer)->synced_replicas, 0);
  EXPECT_THAT(node.read_all(orders), ElementsAre(Pair(0, "a")));
}

TEST(ReplicaManager, AnswersWithoutAcksAtOnceAndStillMakesTheRecordVisible) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.disk.hold_syncs(true);
  auto answer = node.begin_append({.partition = orders, .batches = value("a"), .acks = api::Acks::kNone});
  node.settle();
  EXPECT_TRUE(answer->has_value());
  EXPECT_THAT(node.read_all(orders), ElementsAre());
  node.disk.hold_syncs(false);
  node.settle();
  EXPECT_THAT(node.read_all(orders), ElementsAre(Pair(0, "a")));
}

TEST(ReplicaManager, LeaderAcksAreMeasuredAsAllAcksAre) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.disk.hold_syncs(true);
  auto answer = node.begin_append({.partition = orders, .batches = value("a"), .acks = api::Acks::kLeader});
  node.settle();
  EXPECT_FALSE(answer->has_value());
  node.disk.hold_syncs(false);
  node.settle();
  ASSERT_TRUE(answer->has_value());
  EXPECT_EQ(error_of(**answer), std::nullopt);
}

TEST(ReplicaManager, ManyAppendsShareOneSync) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, value("first"));
  uint64_t syncs = node.disk.calls(sim::DiskCall::kSync);
  std::vector<std::shared_ptr<std::optional<AppendResult>>> answers;
  for (int i = 0; i < 100; ++i) answers.push_back(node.begin_append({.partition = orders, .batches = value("x")}));
  node.settle();
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(answers[static_cast<size_t>(i)]->has_value());
    EXPECT_EQ((*answers[static_cast<size_t>(i)])->batches[0].first_offset, Offset(1 + i));
  }
  EXPECT_LE(node.disk.calls(sim::DiskCall::kSync) - syncs, 2u);
}

TEST(ReplicaManager, SyncsOfDifferentPartitionsRunSideBySide) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders", {.partitions = 20});
  node.disk.set_sync_delay(1'000'000, 1'000'000);
  std::vector<std::shared_ptr<std::optional<AppendResult>>> answers;
  for (int32_t p = 0; p < 20; ++p) {
    answers.push_back(node.begin_append({.partition = {orders.topic, PartitionId(p)}, .batches = value("x")}));
  }
  node.run_for_ms(4);  // one after another would take 20 ms and more
  for (const auto& answer : answers) EXPECT_TRUE(answer->has_value());
}

TEST(ReplicaManager, RefusesABadBatchBeforeAnythingIsAppended) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  Bytes batches = value("good");
  Bytes bad = value("bad");
  bad.data()[bad.size() - 1] ^= std::byte{1};
  batches.append(bad);
  AppendResult result = node.append(orders, std::move(batches));
  ASSERT_EQ(result.batches.size(), 1u);
  EXPECT_EQ(error_of(result), ErrorCode::kCorruptBatch);
  EXPECT_EQ(outcome_of(result), Outcome::kNotWritten);
  EXPECT_THAT(result.batches[0].error->message, HasSubstr("batch 2"));
  EXPECT_EQ(node.ends(orders).log_end, Offset(0));
}

TEST(ReplicaManager, AppendsSeveralBatchesOfOneRequestInOrder) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  Bytes batches = make_batch({{"k", "a"}, {"k", "b"}});
  batches.append(value("c"));
  AppendResult result = node.append(orders, std::move(batches));
  ASSERT_EQ(result.batches.size(), 2u);
  EXPECT_EQ(result.batches[0].first_offset, Offset(0));
  EXPECT_EQ(result.batches[1].first_offset, Offset(2));
  EXPECT_THAT(node.read_all(orders), ElementsAre(Pair(0, "a"), Pair(1, "b"), Pair(2, "c")));
}

TEST(ReplicaManager, StampsTheTimeOfAppendIfTheTopicWantsIt) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders", {.configs = {{"message.timestamp.type", "LogAppendTime"}}});
  int64_t now = node.env->clock().wall_ms();
  AppendResult result = node.append(orders, value("a"));
  EXPECT_EQ(result.batches[0].timestamp_ms, now);
  ReadPart part = node.replicas->read({{orders, Offset(0), {}}}, 1 << 20, api::Isolation::kCommitted)[0];
  Result<BatchRun> run = read_slice(part.slice);
  ASSERT_TRUE(run.ok());
  EXPECT_TRUE(run->batches[0].is_log_append_time());
  EXPECT_EQ(run->batches[0].max_timestamp(), now);
  TopicPartition plain = node.add_topic("plain");
  EXPECT_EQ(node.append(plain, value("a")).batches[0].timestamp_ms, kNoTimestamp);
}

// --- idempotence ---------------------------------------------------------------------------------------------------

TEST(ReplicaManager, ARepeatedBatchIsAnsweredWithItsFirstOffset) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, value("other"));
  EXPECT_EQ(node.append(orders, sequenced(0, "a")).batches[0].first_offset, Offset(1));
  AppendResult again = node.append(orders, sequenced(0, "a"));
  EXPECT_TRUE(again.batches[0].duplicate);
  EXPECT_EQ(again.batches[0].first_offset, Offset(1));
  EXPECT_THAT(node.read_all(orders), ElementsAre(Pair(0, "other"), Pair(1, "a")));
}

TEST(ReplicaManager, ARepeatIsNotAcknowledgedBeforeItsFirstCopyIsOnDisk) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.disk.hold_syncs(true);
  auto first = node.begin_append({.partition = orders, .batches = sequenced(0, "a")});
  auto again = node.begin_append({.partition = orders, .batches = sequenced(0, "a")});
  node.settle();
  EXPECT_FALSE(again->has_value());
  node.disk.hold_syncs(false);
  node.settle();
  ASSERT_TRUE(first->has_value());
  ASSERT_TRUE(again->has_value());
  EXPECT_TRUE((*again)->batches[0].duplicate);
}

TEST(ReplicaManager, ARequestOfOldAndNewBatchesAppendsOnlyTheNewOnes) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, sequenced(0, "a"));
  Bytes batches = sequenced(0, "a");
  batches.append(sequenced(1, "b"));
  batches.append(sequenced(1, "b"));
  batches.append(sequenced(2, "c"));
  AppendResult result = node.append(orders, std::move(batches));
  ASSERT_EQ(result.batches.size(), 4u);
  EXPECT_TRUE(result.batches[0].duplicate);
  EXPECT_FALSE(result.batches[1].duplicate);
  EXPECT_TRUE(result.batches[2].duplicate);
  EXPECT_EQ(result.batches[2].first_offset, Offset(1));
  EXPECT_EQ(result.batches[3].first_offset, Offset(2));
  EXPECT_THAT(node.read_all(orders), ElementsAre(Pair(0, "a"), Pair(1, "b"), Pair(2, "c")));
}

TEST(ReplicaManager, RefusesSequencesOutOfOrderAndOldEpochs) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, sequenced(0, "a", 3));
  AppendResult gap = node.append(orders, sequenced(5, "b", 3));
  EXPECT_EQ(error_of(gap), ErrorCode::kOutOfOrderSequence);
  EXPECT_EQ(gap.batches[0].error->details.at("expected_sequence"), "1");
  EXPECT_EQ(error_of(node.append(orders, sequenced(1, "b", 2))), ErrorCode::kInvalidProducerEpoch);
  EXPECT_EQ(error_of(node.append(orders, sequenced(4, "b", 4))), ErrorCode::kOutOfOrderSequence);
  EXPECT_EQ(error_of(node.append(orders, sequenced(0, "b", 4))), std::nullopt);
}

TEST(ReplicaManager, RecognisesARepeatAfterARestart) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, sequenced(0, "a"));
  node.append(orders, sequenced(1, "b"));
  node.power_cut();
  node.start();
  AppendResult again = node.append(orders, sequenced(1, "b"));
  EXPECT_TRUE(again.batches[0].duplicate);
  EXPECT_EQ(again.batches[0].first_offset, Offset(1));
  ASSERT_TRUE(node.stop());
  node.start();
  EXPECT_TRUE(node.append(orders, sequenced(0, "a")).batches[0].duplicate);
  EXPECT_THAT(node.read_all(orders), ElementsAre(Pair(0, "a"), Pair(1, "b")));
}

// --- refusals and waiting ------------------------------------------------------------------------------------------

TEST(ReplicaManager, RefusesWhatItCannotServe) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  TopicSpec elsewhere{.replicas = {BrokerId(2), kSelf}, .isr = {BrokerId(2)}};
  node.add_topic("unled");
  TopicPartition unled{TopicId(7, node.topics_made), PartitionId(0)};
  node.apply_records({ReplicaNode::partition_record(unled.topic, 0, {}, 1, kNoBroker)});
  node.add_topic("other");
  TopicPartition other{TopicId(7, node.topics_made), PartitionId(0)};
  node.apply_records({ReplicaNode::partition_record(other.topic, 0, elsewhere, 1, BrokerId(2))});

  EXPECT_EQ(error_of(node.append({TopicId(1, 1), PartitionId(0)}, value("a"))), ErrorCode::kUnknownTopic);
  EXPECT_EQ(error_of(node.append({orders.topic, PartitionId(9)}, value("a"))), ErrorCode::kUnknownPartition);
  EXPECT_EQ(error_of(node.append(unled, value("a"))), ErrorCode::kLeaderNotAvailable);
  AppendResult moved = node.append(other, value("a"));
  EXPECT_EQ(error_of(moved), ErrorCode::kNotLeader);
  EXPECT_EQ(moved.batches[0].error->details.at("leader"), "2");
  AppendResult late = node.append({.partition = orders, .batches = value("a"), .deadline_ns = node.world.now_ns()});
  EXPECT_EQ(error_of(late), ErrorCode::kRequestTimedOut);
  EXPECT_EQ(outcome_of(late), Outcome::kNotWritten);
  EXPECT_EQ(node.ends(orders).log_end, Offset(0));
}

TEST(ReplicaManager, RefusesAllAcksWithTooFewInSyncReplicas) {
  ReplicaNode node;
  TopicSpec spec{.configs = {{"min.insync.replicas", "2"}}, .replicas = {kSelf, BrokerId(2), BrokerId(3)}};
  TopicPartition orders = node.add_topic("orders", spec);
  AppendResult refused = node.append(orders, value("a"));
  EXPECT_EQ(error_of(refused), ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(outcome_of(refused), Outcome::kNotWritten);
  EXPECT_THAT(refused.batches[0].error->message, HasSubstr("2, 3"));
  // R6: what one replica alone has is not committed, so nobody may see it.
  AppendResult alone = node.append({.partition = orders, .batches = value("b"), .acks = api::Acks::kLeader});
  EXPECT_EQ(error_of(alone), std::nullopt);
  EXPECT_THAT(node.read_all(orders), ElementsAre());
}

TEST(ReplicaManager, ATimeoutAfterTheAppendSaysThatTheOutcomeIsUnknown) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.disk.hold_syncs(true);
  auto answer = node.begin_append({.partition = orders, .batches = value("a"), .deadline_ns = node.in_ms(500)});
  node.run_for_ms(499);
  EXPECT_FALSE(answer->has_value());
  node.run_for_ms(2);
  ASSERT_TRUE(answer->has_value());
  EXPECT_EQ(error_of(**answer), ErrorCode::kRequestTimedOut);
  EXPECT_EQ(outcome_of(**answer), Outcome::kUnknown);
  node.disk.hold_syncs(false);
  node.settle();
  EXPECT_THAT(node.read_all(orders), ElementsAre(Pair(0, "a")));
}

TEST(ReplicaManager, LosingLeadershipAnswersWaitingWritesWithAnUnknownOutcome) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.disk.hold_syncs(true);
  auto answer = node.begin_append({.partition = orders, .batches = value("a")});
  TopicSpec both{.replicas = {kSelf, BrokerId(2)}, .isr = {BrokerId(2)}};
  node.apply_records({ReplicaNode::partition_record(orders.topic, 0, both, 1, BrokerId(2))});
  node.settle();
  ASSERT_TRUE(answer->has_value());
  EXPECT_EQ(error_of(**answer), ErrorCode::kLeadershipLost);
  EXPECT_EQ(outcome_of(**answer), Outcome::kUnknown);
}

TEST(ReplicaManager, AnEpochBumpUnderTheSameLeaderCarriesWaitsOver) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.disk.hold_syncs(true);
  auto answer = node.begin_append({.partition = orders, .batches = value("a")});
  node.apply_records({ReplicaNode::partition_record(orders.topic, 0, {}, 4)});
  node.settle();
  EXPECT_FALSE(answer->has_value());
  node.disk.hold_syncs(false);
  node.settle();
  ASSERT_TRUE(answer->has_value());
  EXPECT_EQ(error_of(**answer), std::nullopt);
  EXPECT_EQ(node.append(orders, value("b")).batches[0].leader_epoch, LeaderEpoch(4));
}

TEST(ReplicaManager, AnIsrThatGetsTooSmallAnswersWaitingWritesAtOnce) {
  ReplicaNode node;
  TopicSpec spec{
      .configs = {{"min.insync.replicas", "2"}}, .replicas = {kSelf, BrokerId(2)}, .isr = {kSelf, BrokerId(2)}};
  TopicPartition orders = node.add_topic("orders", spec);
  auto answer = node.begin_append({.partition = orders, .batches = value("a")});
  node.settle();
  EXPECT_FALSE(answer->has_value()) << "nothing is known of the other replica";
  spec.isr = {kSelf};
  node.apply_records({ReplicaNode::partition_record(orders.topic, 0, spec)});
  node.settle();
  ASSERT_TRUE(answer->has_value());
  EXPECT_EQ(error_of(**answer), ErrorCode::kNotEnoughReplicasAfterAppend);
  EXPECT_EQ(outcome_of(**answer), Outcome::kUnknown);
}

TEST(ReplicaManager, RefusesMoreWaitingOperationsThanTheLimit) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.kill();
  node.options.delayed_operations_max = 3;
  node.start();
  node.disk.hold_syncs(true);
  for (int i = 0; i < 3; ++i) node.begin_append({.partition = orders, .batches = value("a")});
  AppendResult refused = node.append(orders, value("b"));
  EXPECT_EQ(error_of(refused), ErrorCode::kThrottled);
  EXPECT_GT(refused.batches[0].error->retry_after_ms, 0u);
  EXPECT_EQ(node.ends(orders).log_end, Offset(3));
}

// --- reading -------------------------------------------------------------------------------------------------------

ReadPart read_one(ReplicaNode& node, const TopicPartition& partition, std::optional<Offset> offset,
                  std::optional<LeaderEpoch> epoch = std::nullopt) {
  return node.replicas->read({{partition, offset, epoch}}, 1 << 20, api::Isolation::kCommitted)[0];
}

TEST(ReplicaManager, ReadsAtTheEndAreEmptyAndBeyondItAreOutOfRange) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, make_batch({{"k", "a"}, {"k", "b"}}));
  EXPECT_FALSE(read_one(node, orders, Offset(2)).error.has_value());
  EXPECT_TRUE(read_one(node, orders, Offset(2)).slice.empty());
  ReadPart beyond = read_one(node, orders, Offset(3));
  ASSERT_TRUE(beyond.error.has_value());
  EXPECT_EQ(beyond.error->code, ErrorCode::kOffsetOutOfRange);
  EXPECT_EQ(beyond.error->outcome, Outcome::kNotApplicable);
  EXPECT_EQ(beyond.error->details.at("start_offset"), "0");
  EXPECT_EQ(beyond.error->details.at("end_offset"), "2");
  EXPECT_THAT(node.read_all(orders, Offset(1)), ElementsAre(Pair(1, "b")));
}

TEST(ReplicaManager, BetweenHighWatermarkAndLogEndThereIsNothingYet) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, value("a"));
  node.disk.hold_syncs(true);
  node.begin_append({.partition = orders, .batches = value("b")});
  node.settle();
  ReadPart part = read_one(node, orders, Offset(1));
  EXPECT_FALSE(part.error.has_value());
  EXPECT_TRUE(part.slice.empty());
  EXPECT_TRUE(read_one(node, orders, Offset(2)).slice.empty());
  EXPECT_FALSE(read_one(node, orders, Offset(2)).error.has_value());
  EXPECT_TRUE(read_one(node, orders, Offset(3)).error.has_value());
  EXPECT_THAT(node.read_all(orders), ElementsAre(Pair(0, "a")));
  ReadPart uncommitted = node.replicas->read({{orders, Offset(1), {}}}, 1 << 20, api::Isolation::kUncommitted)[0];
  EXPECT_EQ(read_slice(uncommitted.slice)->next_offset, Offset(2));
}

TEST(ReplicaManager, ChecksTheLeaderEpochOfAReaderIfGiven) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, value("a"));
  node.apply_records({ReplicaNode::partition_record(orders.topic, 0, {}, 3)});
  for (int32_t epoch : {2, 4}) {
    ReadPart part = read_one(node, orders, Offset(0), LeaderEpoch(epoch));
    ASSERT_TRUE(part.error.has_value());
    EXPECT_EQ(part.error->code, ErrorCode::kFencedLeaderEpoch);
  }
  EXPECT_FALSE(read_one(node, orders, Offset(0), LeaderEpoch(3)).error.has_value());
  EXPECT_FALSE(read_one(node, orders, Offset(0), kNoLeaderEpoch).error.has_value());
}

TEST(ReplicaManager, TheFirstPartWithDataGivesABatchHoweverSmallTheLimit) {
  ReplicaNode node;
  TopicPartition first = node.add_topic("orders", {.partitions = 3});
  TopicPartition second{first.topic, PartitionId(1)};
  TopicPartition third{first.topic, PartitionId(2)};
  node.append(second, make_filled_batch(1, 1000));
  node.append(third, make_filled_batch(1, 1000));
  std::vector<ReadPart> parts = node.replicas->read(
      {{first, Offset(0), {}}, {second, Offset(0), {}}, {third, Offset(0), {}}}, 10, api::Isolation::kCommitted);
  EXPECT_TRUE(parts[0].slice.empty());
  EXPECT_EQ(read_slice(parts[1].slice)->batches.size(), 1u);
  EXPECT_TRUE(parts[2].slice.empty());
  EXPECT_FALSE(parts[2].error.has_value());
}

TEST(ReplicaManager, AWatchEndsWhenSomethingIsCommitted) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders", {.partitions = 2});
  int woken = 0;
  WatchId watch = node.replicas->watch({{orders, {}, {}}, {{orders.topic, PartitionId(1)}, {}, {}}}, 1,
                                       api::Isolation::kCommitted, node.in_ms(1000), [&] { ++woken; });
  EXPECT_NE(watch, 0u);
  node.settle();
  EXPECT_EQ(woken, 0);
  node.disk.hold_syncs(true);
  node.begin_append({.partition = {orders.topic, PartitionId(1)}, .batches = value("a")});
  node.settle();
  EXPECT_EQ(woken, 0) << "not committed yet";
  node.disk.hold_syncs(false);
  node.settle();
  EXPECT_EQ(woken, 1);
  node.run_for_ms(2000);
  EXPECT_EQ(woken, 1);
}

TEST(ReplicaManager, AWatchOverWhatIsThereAlreadyEndsAtOnceButNotInsideTheCall) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, value("a"));
  int woken = 0;
  auto watch = [&](std::optional<Offset> offset) {
    node.replicas->watch({{orders, offset, {}}}, 1, api::Isolation::kCommitted, node.in_ms(1000), [&] { ++woken; });
  };
  watch(Offset(0));
  EXPECT_EQ(woken, 0);
  node.settle();
  EXPECT_EQ(woken, 1);
  watch(Offset(7));  // an error is news as well
  node.settle();
  EXPECT_EQ(woken, 2);
}

TEST(ReplicaManager, AWatchWaitsForTheBytesItWants) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  int woken = 0;
  node.replicas->watch({{orders, Offset(0), {}}}, 2500, api::Isolation::kCommitted, node.in_ms(10'000),
                       [&] { ++woken; });
  node.append(orders, make_filled_batch(1, 1000));
  node.append(orders, make_filled_batch(1, 1000));
  EXPECT_EQ(woken, 0);
  node.append(orders, make_filled_batch(1, 1000));
  EXPECT_EQ(woken, 1);
}

TEST(ReplicaManager, AWatchEndsAtItsDeadlineAndWhenItIsCancelled) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  int woken = 0;
  auto watch = [&] {
    return node.replicas->watch({{orders, {}, {}}}, 1, api::Isolation::kCommitted, node.in_ms(100), [&] { ++woken; });
  };
  watch();
  node.run_for_ms(99);
  EXPECT_EQ(woken, 0);
  node.run_for_ms(2);
  EXPECT_EQ(woken, 1);
  WatchId second = watch();
  node.replicas->cancel_watch(second);
  EXPECT_EQ(woken, 1);
  node.settle();
  EXPECT_EQ(woken, 2);
  node.replicas->cancel_watch(second);
  node.run_for_ms(200);
  EXPECT_EQ(woken, 2);
}

TEST(ReplicaManager, FindsTheFirstRecordAtOrAfterATime) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, make_batch({{"k", "a", {}, 1000}, {"k", "b", {}, 2000}}));
  auto found = node.replicas->find_timestamp(orders, 1500);
  ASSERT_TRUE(found.ok() && found.value());
  EXPECT_EQ(found.value()->offset, Offset(1));
  EXPECT_EQ(found.value()->timestamp_ms, 2000);
  auto none = node.replicas->find_timestamp(orders, 3000);
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(none.value().has_value());
}

TEST(ReplicaManager, DamagedBytesAreNamedAndNeverServed) {
  ReplicaNode node;
  TopicPartition orders = node.add_topic("orders");
  node.append(orders, value("aaaa"));
  node.append(orders, value("bbbb"));
  node.append(orders, value("cccc"));
  std::string file = node.logs->path_of(orders) + "/00000000000000000000.log";
  uint64_t batch_bytes = value("aaaa").size();
  node.disk.flip_bit(file, (batch_bytes * 2 - 1) * 8);
  ReadPart part = read_one(node, orders, Offset(1));
  ASSERT_FALSE(part.slice.empty());
  Result<BatchRun> run = read_slice(part.slice);
  ASSERT_FALSE(run.ok());
  node.replicas->report_damage(orders, part.slice, run.status());
  ReadPart again = read_one(node, orders, Offset(1));
  ASSERT_TRUE(again.error.has_value());
  EXPECT_EQ(again.error->code, ErrorCode::kDataDamaged);
  EXPECT_EQ(again.error->details.at("partition"), "orders/0");
  EXPECT_EQ(again.error->details.at("offset"), "1");
  EXPECT_EQ(again.error->details.at("next_good_offset"), "2");
  EXPECT_THAT(again.error->details.at("file"), HasSubstr("00000000000000000000.log"));
  EXPECT_EQ(read_slice(read_one(node, orders, Offset(2)).slice)->next_offset, Offset(3));
}

// Each log writes files of its own while it closes. Ten thousand at once took more descriptors than a process has, and
// the stop ended as a failed disk does.
TEST(ReplicaManager, ClosesAFewLogsAtATime) {
  constexpr int32_t kPartitions = 600;
  ReplicaNode node;
  TopicPartition many = node.add_topic("many", {.partitions = kPartitions});
  for (int32_t p = 0; p < kPartitions; ++p) {
    node.begin_append({.partition = {many.topic, PartitionId(p)}, .batches = value("a")});
  }
  node.settle();
  const size_t open_before = node.disk.open_files_most();
  EXPECT_TRUE(node.stop());
  EXPECT_LT(node.disk.open_files_most(), open_before + kPartitions / 2);
  node.start();
  EXPECT_TRUE(node.started_clean);
  EXPECT_EQ(node.ends({many.topic, PartitionId(kPartitions - 1)}).log_end, Offset(1));
}

}  // namespace
}  // namespace trilog
