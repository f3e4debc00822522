// The broker as a whole under the simulated Env, with one, two and four shards.
#include "broker/broker.h"

#include <gtest/gtest.h>

#include <set>

#include "storage/record/record_batch_builder.h"
#include "tests/broker/sim_broker.h"

namespace trilog::testing {
namespace {

using api::ErrorCode;

class BrokerOnShards : public ::testing::TestWithParam<size_t> {
 protected:
  SimBroker broker{7, GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Shards, BrokerOnShards, ::testing::Values(1, 2, 4));

TEST_P(BrokerOnShards, GivesBackWhatWasProduced) {
  broker.start();
  auto produced = broker.produce("orders", "17", "hello");
  ASSERT_TRUE(produced.ok()) << produced.error().message;
  EXPECT_TRUE(produced->topic_created);
  EXPECT_EQ(produced->synced_replicas, 1);
  EXPECT_EQ(produced->replicas, 1);
  ASSERT_EQ(produced->positions.size(), 1u);
  EXPECT_EQ(produced->positions[0].partition, partition_for_key(as_bytes("17"), 3));
  EXPECT_EQ(produced->positions[0].offset, Offset(0));
  EXPECT_EQ(broker.read_all("orders", produced->positions[0].partition.value()), std::vector<std::string>{"hello"});
  broker.check_invariants();
}

TEST_P(BrokerOnShards, SpreadsOneRequestOverPartitionsAndAnswersInTheOrderOfItsRecords) {
  broker.start();
  ASSERT_TRUE(broker.create_topic("orders", 8).ok());
  std::vector<std::pair<std::string, std::string>> records;
  for (int i = 0; i < 100; ++i) records.push_back({"key-" + std::to_string(i), "value-" + std::to_string(i)});
  auto produced = broker.ask<api::ProduceResult>(
      [&](auto done) { broker.broker->produce(SimBroker::request("orders", records), std::move(done)); });
  ASSERT_TRUE(produced.ok()) << produced.error().message;
  ASSERT_EQ(produced->positions.size(), 100u);
  std::set<int32_t> partitions;
  for (size_t i = 0; i < 100; ++i) {
    const api::Produced& position = produced->positions[i];
    ASSERT_FALSE(position.error);
    partitions.insert(position.partition.value());
    EXPECT_EQ(position.partition, partition_for_key(as_bytes(records[i].first), 8));
    auto values = broker.read_all("orders", position.partition.value(), position.offset.value());
    ASSERT_FALSE(values.empty());
    EXPECT_EQ(values[0], records[i].second);
  }
  EXPECT_EQ(partitions.size(), 8u);
}

TEST_P(BrokerOnShards, KeepsEverythingAcrossACleanRestart) {
  broker.start();
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(broker.produce("orders", "", "v" + std::to_string(i), i % 3).ok());
  ASSERT_TRUE(broker.commit("billing", "orders", 1, 4).ok());
  Status stopped = broker.stop();
  ASSERT_TRUE(stopped.ok()) << stopped.to_string();
  broker.start();
  EXPECT_EQ(broker.read_all("orders", 0).size(), 7u);
  EXPECT_EQ(broker.read_all("orders", 1).size(), 7u);
  EXPECT_EQ(broker.read_all("orders", 2).size(), 6u);
  EXPECT_EQ(broker.committed("billing", "orders", 1), 4);
  EXPECT_EQ(broker.committed("billing", "orders", 0), -1);
  broker.check_invariants();
}

TEST_P(BrokerOnShards, AWaitingFetchIsAnsweredByTheNextRecord) {
  broker.start();
  ASSERT_TRUE(broker.create_topic("orders", 4).ok());
  std::optional<api::Answer<api::FetchResult>> fetched;
  api::FetchRequest request;
  for (int32_t p = 0; p < 4; ++p)
    request.positions.push_back({.topic = "orders", .partition = PartitionId(p), .offset = Offset(0)});
  request.deadline_ns = broker.world.now_ns() + 30'000'000'000;
  broker.broker->fetch(std::move(request), [&](auto answer) { fetched.emplace(std::move(answer)); });
  broker.world.run_for(1'000'000'000);
  EXPECT_FALSE(fetched.has_value());
  ASSERT_TRUE(broker.produce("orders", "", "news", 2).ok());
  ASSERT_TRUE(broker.world.run_until([&] { return fetched.has_value(); }, 1'000'000'000));
  ASSERT_TRUE(fetched->ok());
  EXPECT_TRUE(fetched->value()[0].views.empty());
  EXPECT_EQ(fetched->value()[2].views.size(), 1u);
  EXPECT_EQ(fetched->value()[2].next_offset, Offset(1));
}

TEST_P(BrokerOnShards, AWaitingFetchEndsEmptyAtItsDeadlineAndWhenItIsCancelled) {
  broker.start();
  ASSERT_TRUE(broker.create_topic("orders", 4).ok());
  for (bool cancel : {false, true}) {
    std::optional<api::Answer<api::FetchResult>> fetched;
    api::FetchRequest request;
    for (int32_t p = 0; p < 4; ++p) request.positions.push_back({.topic = "orders", .partition = PartitionId(p)});
    request.deadline_ns = broker.world.now_ns() + 5'000'000'000;
    Broker::FetchId id =
        broker.broker->fetch(std::move(request), [&](auto answer) { fetched.emplace(std::move(answer)); });
    broker.world.run_for(1'000'000'000);
    EXPECT_FALSE(fetched.has_value());
    if (cancel) broker.broker->cancel_fetch(id);
    ASSERT_TRUE(broker.world.run_until([&] { return fetched.has_value(); }, cancel ? 1'000'000 : 5'000'000'000));
    ASSERT_TRUE(fetched->ok());
    for (const api::FetchedPartition& part : fetched->value()) EXPECT_TRUE(part.views.empty());
  }
}

TEST_P(BrokerOnShards, StoppingAnswersEverythingThatWaits) {
  broker.start();
  ASSERT_TRUE(broker.create_topic("orders", 4).ok());
  int answers = 0;
  for (int i = 0; i < 10; ++i) {
    api::FetchRequest request{.positions = {{.topic = "orders", .partition = PartitionId(i % 4)}}};
    request.deadline_ns = INT64_MAX;
    broker.broker->fetch(std::move(request), [&](const api::Answer<api::FetchResult>&) { ++answers; });
    broker.broker->produce(SimBroker::request("orders", {{"k", "v"}}),
                           [&](const api::Answer<api::ProduceResult>&) { ++answers; });
    broker.broker->init_producer([&](const api::Answer<api::InitProducerResult>&) { ++answers; });
  }
  ASSERT_TRUE(broker.stop().ok());
  EXPECT_EQ(answers, 30);
}

TEST_P(BrokerOnShards, RecordsThatAreNotInMemoryAreReadFromTheDisk) {
  broker.start();
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(broker.produce("orders", "", "v" + std::to_string(i), i % 3).ok());
  for (uint32_t percent : {100u, 50u}) {
    broker.disk.set_cold_reads(percent);
    EXPECT_EQ(broker.read_all("orders", 0).size(), 14u);
    EXPECT_EQ(broker.read_all("orders", 2).back(), "v38");
  }
}

TEST_P(BrokerOnShards, AReadThatWaitsForTheDiskHoldsUpNobody) {
  broker.start();
  ASSERT_TRUE(broker.create_topic("orders", 1).ok());
  ASSERT_TRUE(broker.create_topic("fast", 1, {{"durability", "replicated"}}).ok());
  ASSERT_TRUE(broker.produce("orders", "", "old", 0).ok());
  broker.disk.set_cold_reads(100);
  broker.disk.set_sync_delay(1'000'000'000, 1'000'000'000);
  std::optional<api::Answer<api::FetchResult>> fetched;
  broker.broker->fetch({.positions = {{.topic = "orders"}}}, [&](auto answer) { fetched.emplace(std::move(answer)); });
  ASSERT_TRUE(broker.produce("fast", "", "new", 0).ok());
  EXPECT_FALSE(fetched.has_value());
  ASSERT_TRUE(broker.world.run_until([&] { return fetched.has_value(); }));
  ASSERT_TRUE(fetched->ok());
  EXPECT_EQ(fetched->value()[0].next_offset, Offset(1));
}

TEST_P(BrokerOnShards, StoppingWaitsForReadsFromTheDisk) {
  broker.start();
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(broker.produce("orders", "", "v", i % 2).ok());
  broker.disk.set_cold_reads(100);
  broker.disk.set_sync_delay(1'000'000'000, 1'000'000'000);
  int answers = 0;
  for (int i = 0; i < 4; ++i) {
    broker.broker->fetch({.positions = {{.topic = "orders", .partition = PartitionId(i % 2)}}},
                         [&](const api::Answer<api::FetchResult>&) { ++answers; });
  }
  broker.world.run_for(100'000'000);
  EXPECT_EQ(answers, 0);
  ASSERT_TRUE(broker.stop().ok());
  EXPECT_EQ(answers, 4);
}

TEST_P(BrokerOnShards, ListsGroupsWithTheirLag) {
  broker.start();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(broker.produce("orders", "", "v", 0).ok());
  for (const char* group : {"a", "b", "c", "d"}) ASSERT_TRUE(broker.commit(group, "orders", 0, 2).ok());
  using Page = std::pair<std::vector<api::Group>, std::string>;
  std::vector<std::string> names;
  std::string token;
  do {
    auto page = broker.ask<Page>([&](auto done) { broker.broker->list_groups("", 3, token, std::move(done)); });
    ASSERT_TRUE(page.ok());
    for (const api::Group& group : page->first) names.push_back(group.group);
    token = page->second;
  } while (!token.empty());
  EXPECT_EQ(names, (std::vector<std::string>{"a", "b", "c", "d"}));
  auto group = broker.ask<api::Group>([&](auto done) { broker.broker->describe_group("b", std::move(done)); });
  ASSERT_TRUE(group.ok());
  ASSERT_EQ(group->partitions.size(), 1u);
  EXPECT_EQ(group->partitions[0].end, Offset(5));
  EXPECT_EQ(group->partitions[0].lag, 3);
  auto nobody = broker.ask<api::Group>([&](auto done) { broker.broker->describe_group("zz", std::move(done)); });
  ASSERT_FALSE(nobody.ok());
  EXPECT_EQ(nobody.error().code, ErrorCode::kUnknownGroup);
}

TEST_P(BrokerOnShards, ADeletedTopicIsGoneAndItsNameStartsAnew) {  // C11
  broker.start();
  ASSERT_TRUE(broker.produce("orders", "k", "old").ok());
  auto deleted = broker.ask<bool>([&](auto done) { broker.broker->delete_topic({.name = "orders"}, std::move(done)); });
  ASSERT_TRUE(deleted.ok() && deleted.value());
  broker.world.run_until_idle();
  auto fetched = broker.ask<api::FetchResult>(
      [&](auto done) { broker.broker->fetch({.positions = {{.topic = "orders"}}}, std::move(done)); });
  ASSERT_FALSE(fetched.ok());
  EXPECT_EQ(fetched.error().code, ErrorCode::kUnknownTopic);
  auto produced = broker.produce("orders", "k", "new");
  ASSERT_TRUE(produced.ok());
  EXPECT_EQ(produced->positions[0].offset, Offset(0));
  EXPECT_EQ(broker.read_all("orders", produced->positions[0].partition.value()), std::vector<std::string>{"new"});
}

TEST_P(BrokerOnShards, TrimmedRecordsAreGoneAlsoAfterARestart) {
  broker.start();
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(broker.produce("orders", "", "v" + std::to_string(i), 0).ok());
  auto trimmed = broker.ask<std::vector<api::PartitionState>>([&](auto done) {
    broker.broker->trim_topic({.topic = "orders", .before = {{.partition = PartitionId(0), .offset = Offset(6)}}},
                              std::move(done));
  });
  ASSERT_TRUE(trimmed.ok());
  ASSERT_FALSE(trimmed.value()[0].error) << trimmed.value()[0].error->message;
  EXPECT_EQ(trimmed.value()[0].start_offset, Offset(6));
  broker.power_cut();
  broker.start();
  auto early = broker.ask<api::FetchResult>([&](auto done) {
    broker.broker->fetch({.positions = {{.topic = "orders", .offset = Offset(3)}}}, std::move(done));
  });
  ASSERT_TRUE(early.ok());
  ASSERT_TRUE(early.value()[0].error);
  EXPECT_EQ(early.value()[0].error->code, ErrorCode::kOffsetOutOfRange);
  EXPECT_EQ(early.value()[0].error->details["start_offset"], "6");
  EXPECT_EQ(broker.read_all("orders", 0, 6).size(), 4u);
}

TEST_P(BrokerOnShards, HandsOutEveryProducerIdOnlyOnceAlsoAfterACrash) {
  std::set<int64_t> ids;
  for (int round = 0; round < 3; ++round) {
    broker.start();
    for (int i = 0; i < 5; ++i) {
      auto id = broker.ask<api::InitProducerResult>([&](auto done) { broker.broker->init_producer(std::move(done)); });
      ASSERT_TRUE(id.ok());
      EXPECT_TRUE(ids.insert(id->producer_id.value()).second) << id->producer_id;
    }
    broker.power_cut();
  }
}

// --- bad requests: nothing is written, the message says what to do ---

class BadRequest : public ::testing::Test {
 protected:
  void SetUp() override {
    broker.options.auto_create_topics = false;
    broker.start();
    ASSERT_TRUE(broker.create_topic("orders", 2, {{"max.message.bytes", "2048"}}).ok());
  }
  ErrorCode produce_error(api::ProduceRequest request, const std::string& says) {
    auto answer =
        broker.ask<api::ProduceResult>([&](auto done) { broker.broker->produce(std::move(request), std::move(done)); });
    EXPECT_FALSE(answer.ok());
    if (answer.ok()) return ErrorCode::kInvalidRequest;
    EXPECT_EQ(answer.error().outcome, api::Outcome::kNotWritten) << answer.error().message;
    EXPECT_NE(answer.error().message.find(says), std::string::npos) << answer.error().message;
    return answer.error().code;
  }
  SimBroker broker;
};

TEST_F(BadRequest, ProduceSaysWhatIsWrong) {
  EXPECT_EQ(produce_error({.topic = "orders"}, "nothing to write"), ErrorCode::kInvalidRequest);
  auto both = SimBroker::request("orders", {{"k", "v"}}, 0);
  both.record_batch = Bytes::copy_of("x");
  EXPECT_EQ(produce_error(std::move(both), "both"), ErrorCode::kInvalidRequest);
  EXPECT_EQ(produce_error(SimBroker::request("ordrs", {{"k", "v"}}), "did you mean orders?"), ErrorCode::kUnknownTopic);
  EXPECT_EQ(produce_error(SimBroker::request("../etc", {{"k", "v"}}), "only letters"), ErrorCode::kInvalidTopic);
  EXPECT_EQ(produce_error(SimBroker::request("__consumer_offsets", {{"k", "v"}}), "internal"),
            ErrorCode::kInvalidTopic);
  EXPECT_EQ(produce_error(SimBroker::request("orders", {{"k", "v"}}, 2), "which has 2 (0 to 1)"),
            ErrorCode::kUnknownPartition);
  EXPECT_EQ(produce_error(SimBroker::request("orders", {{"k", "v"}}, -1), "negative"), ErrorCode::kInvalidRequest);
  EXPECT_EQ(produce_error(SimBroker::request("orders", {{"k", std::string(3000, 'x')}}), "max.message.bytes"),
            ErrorCode::kRecordTooLarge);
  auto sequence = SimBroker::request("orders", {{"k", "v"}});
  sequence.sequence = api::Sequence{ProducerId(1), ProducerEpoch(0), 0};
  EXPECT_EQ(produce_error(std::move(sequence), "needs a partition"), ErrorCode::kInvalidRequest);
  auto early = SimBroker::request("orders", {{"k", "v"}});
  early.records[0].timestamp_ms = -5;
  EXPECT_EQ(produce_error(std::move(early), "negative"), ErrorCode::kInvalidRequest);
  EXPECT_TRUE(broker.read_all("orders", 0).empty());
  EXPECT_TRUE(broker.read_all("orders", 1).empty());
}

TEST_F(BadRequest, OneTooLargeRecordKeepsTheWholeRequestOut) {
  auto request = SimBroker::request("orders", {{"a", "fine"}, {"b", std::string(3000, 'x')}, {"c", "fine"}});
  EXPECT_EQ(produce_error(std::move(request), "record 1:"), ErrorCode::kRecordTooLarge);
  EXPECT_TRUE(broker.read_all("orders", 0).empty());
  EXPECT_TRUE(broker.read_all("orders", 1).empty());
}

TEST_F(BadRequest, ARecordOfExactlyTheLimitIsWritten) {
  auto produced = broker.produce("orders", "k", std::string(2047, 'x'), 0);
  ASSERT_TRUE(produced.ok()) << produced.error().message;
  ASSERT_FALSE(produced->positions[0].error) << produced->positions[0].error->message;
  EXPECT_EQ(broker.read_all("orders", 0).size(), 1u);
}

TEST_F(BadRequest, ManyRecordsThanFitOneBatchAreSplit) {
  std::vector<std::pair<std::string, std::string>> records;
  for (int i = 0; i < 50; ++i) records.push_back({"k", std::string(500, static_cast<char>('a' + i % 26))});
  auto produced = broker.ask<api::ProduceResult>(
      [&](auto done) { broker.broker->produce(SimBroker::request("orders", records, 1), std::move(done)); });
  ASSERT_TRUE(produced.ok());
  for (size_t i = 0; i < 50; ++i) EXPECT_EQ(produced->positions[i].offset, Offset(static_cast<int64_t>(i)));
  auto values = broker.read_all("orders", 1);
  ASSERT_EQ(values.size(), 50u);
  for (size_t i = 0; i < 50; ++i) EXPECT_EQ(values[i], records[i].second);
}

TEST_F(BadRequest, FetchAndCommitSayWhatIsWrong) {
  auto fetch = [&](api::Position position) {
    return broker.ask<api::FetchResult>(
        [&](auto done) { broker.broker->fetch({.positions = {position}}, std::move(done)); });
  };
  EXPECT_EQ(fetch({.topic = "nothing"}).error().code, ErrorCode::kUnknownTopic);
  EXPECT_EQ(fetch({.topic = "orders", .offset = Offset(-1)}).error().code, ErrorCode::kInvalidRequest);
  auto partition = fetch({.topic = "orders", .partition = PartitionId(9)});
  ASSERT_TRUE(partition.ok());
  EXPECT_EQ(partition.value()[0].error->code, ErrorCode::kUnknownPartition);
  auto beyond = fetch({.topic = "orders", .offset = Offset(1)});
  ASSERT_TRUE(beyond.ok());
  EXPECT_EQ(beyond.value()[0].error->code, ErrorCode::kOffsetOutOfRange);
  EXPECT_EQ(broker.commit("", "orders", 0, 1).error().code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(broker.commit(std::string("a\nb"), "orders", 0, 1).error().code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(broker.commit(std::string(256, 'g'), "orders", 0, 1).error().code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(broker.commit("g", "nothing", 0, 1).error().code, ErrorCode::kUnknownTopic);
}

// --- idempotence (R17, X4) ---

TEST(BrokerIdempotence, ARepeatedSequenceAnswersTheFirstPositionAlsoAfterACrash) {
  SimBroker broker(11);
  broker.start();
  ASSERT_TRUE(broker.create_topic("orders", 1).ok());
  auto id = broker.ask<api::InitProducerResult>([&](auto done) { broker.broker->init_producer(std::move(done)); });
  ASSERT_TRUE(id.ok());
  auto send = [&](int32_t sequence, const std::string& value) {
    auto request = SimBroker::request("orders", {{"k", value}}, 0);
    request.sequence = api::Sequence{id->producer_id, id->producer_epoch, sequence};
    return broker.ask<api::ProduceResult>(
        [&](auto done) { broker.broker->produce(std::move(request), std::move(done)); });
  };
  ASSERT_FALSE(send(0, "a").value().positions[0].error);
  ASSERT_FALSE(send(1, "b").value().positions[0].error);
  for (int round = 0; round < 3; ++round) {
    auto again = send(1, "b");
    ASSERT_TRUE(again.ok());
    ASSERT_FALSE(again->positions[0].error) << again->positions[0].error->message;
    EXPECT_TRUE(again->positions[0].duplicate);
    EXPECT_EQ(again->positions[0].offset, Offset(1));
    broker.power_cut();
    broker.start();
  }
  auto hole = send(5, "f");
  ASSERT_TRUE(hole.ok());
  ASSERT_TRUE(hole->positions[0].error);
  EXPECT_EQ(hole->positions[0].error->code, ErrorCode::kOutOfOrderSequence);
  EXPECT_EQ(broker.read_all("orders", 0), (std::vector<std::string>{"a", "b"}));
}

}  // namespace
}  // namespace trilog::testing
