#include <set>

#include "storage/base/murmur2.h"
#include "tests/client/client_fixture.h"

namespace trilog {
namespace {

using client::Acks;
using client::Error;
using client::Producer;
using client::ProducerOptions;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

class ProducerTest : public ClientTest {
 protected:
  // How many batches a partition's records were written in.
  int batches(const std::string& topic) {
    v1::FetchRequest request = fetch_request(topic, 0);
    request.set_encoding(v1::FetchRequest::RECORD_BATCHES);
    return fetch(request).record_batches_size();
  }
};

TEST_F(ProducerTest, TellsEachRecordItsPlaceInTheOrderOfSending) {
  start();
  create_topic("orders");
  Deliveries deliveries;
  Producer producer(client(), {});
  for (int i = 0; i < 1'000; ++i) {
    client::Record record = record_of(std::to_string(i));
    record.timestamp_ms = 5'000 + i;
    producer.send("orders", std::move(record), deliveries.expect(std::to_string(i)));
  }
  producer.flush();
  auto results = deliveries.all();
  ASSERT_THAT(results, SizeIs(1'000));
  for (int i = 0; i < 1'000; ++i) {
    const auto& result = results[static_cast<size_t>(i)];
    ASSERT_FALSE(result.error) << result.error->message;
    EXPECT_EQ(result.name, std::to_string(i));
    EXPECT_EQ(result.partition, 0);
    EXPECT_EQ(result.offset, i);
    EXPECT_EQ(result.timestamp_ms, 5'000 + i);
    EXPECT_EQ(result.durability, "synced");
    EXPECT_FALSE(result.duplicate);
  }
  EXPECT_EQ(values("orders"), numbers(0, 1'000));
}

TEST_F(ProducerTest, AbsentAndEmptyKeysValuesAndHeadersArriveAsSent) {
  start();
  create_topic("orders");
  Deliveries deliveries;
  Producer producer(client(), {});
  client::Record tombstone;
  tombstone.key = "gone";
  tombstone.partition = 0;
  client::Record empty;
  empty.key = "";
  empty.value = "";
  empty.partition = 0;
  empty.headers = {{"a", "1"}, {"a", std::nullopt}, {"b", ""}};
  producer.send("orders", tombstone, deliveries.expect("tombstone"));
  producer.send("orders", empty, deliveries.expect("empty"));
  producer.flush();
  EXPECT_THAT(deliveries.codes(), ElementsAre("", ""));
  v1::FetchedPartition part = fetch(fetch_request("orders", 0));
  ASSERT_EQ(part.records_size(), 2);
  EXPECT_EQ(part.records(0).key(), "gone");
  EXPECT_FALSE(part.records(0).has_value());
  EXPECT_TRUE(part.records(1).has_key());
  EXPECT_TRUE(part.records(1).has_value());
  ASSERT_EQ(part.records(1).headers_size(), 3);
  EXPECT_FALSE(part.records(1).headers(1).has_value());
  EXPECT_TRUE(part.records(1).headers(2).has_value());
}

TEST_F(ProducerTest, LingeringRecordsGoInOneBatchWhenFlushed) {
  start();
  create_topic("orders");
  Deliveries deliveries;
  Producer producer(client(), {.linger_ms = 600'000});
  for (int i = 0; i < 100; ++i) producer.send("orders", record_of("x"), deliveries.expect(""));
  EXPECT_EQ(end_of("orders"), 0);
  EXPECT_EQ(deliveries.count(), 0u);
  producer.flush();
  EXPECT_EQ(deliveries.count(), 100u);
  EXPECT_EQ(batches("orders"), 1);
}

TEST_F(ProducerTest, AFullBatchGoesBeforeItsTimeAndALingeringOneByItself) {
  start();
  create_topic("orders");
  Deliveries full;
  Producer patient(client(), {.linger_ms = 600'000, .batch_bytes = 4'096});
  for (int i = 0; i < 10; ++i) patient.send("orders", record_of(std::string(1'000, 'x')), full.expect(""));
  EXPECT_TRUE(full.wait_for(6));
  EXPECT_LT(full.count(), 10u);
  Deliveries later;
  Producer lingering(client(), {.linger_ms = 30});
  StopWatch watch;
  lingering.send("orders", record_of("x"), later.expect(""));
  EXPECT_TRUE(later.wait_for(1));
  EXPECT_GE(watch.ms(), 29);
}

TEST_F(ProducerTest, SendBlocksWhileTheBufferIsFull) {
  start();
  create_topic("orders");
  start_proxy();
  auto slow = connect_to({proxy_->address()});
  Deliveries deliveries;
  Producer producer(*slow, {.batch_bytes = 1'024, .buffer_bytes = 8'192});
  producer.send("orders", record_of("first"), deliveries.expect(""));
  producer.flush();
  proxy_->hold_answers(true);
  std::atomic<int> handed_over{0};
  std::thread sender([&] {
    for (int i = 0; i < 50; ++i) {
      producer.send("orders", record_of(std::string(1'000, 'x')), deliveries.expect(""));
      ++handed_over;
    }
  });
  EXPECT_TRUE(eventually([&] { return handed_over >= 7; }));
  // Time for more, if nothing stopped it.
  for (int i = 0; i < 20; ++i) EXPECT_GE(end_of("orders"), 1);
  EXPECT_LE(handed_over, 8);
  proxy_->hold_answers(false);
  sender.join();
  producer.flush();
  EXPECT_EQ(deliveries.count(), 51u);
  EXPECT_THAT(deliveries.codes(), Each(""));
}

TEST_F(ProducerTest, ARecordLargerThanTheBufferIsSentAlone) {
  start();
  create_topic("orders");
  Deliveries deliveries;
  Producer producer(client(), {.buffer_bytes = 1'000});
  for (int i = 0; i < 3; ++i) producer.send("orders", record_of(std::string(50'000, 'x')), deliveries.expect(""));
  producer.flush();
  EXPECT_THAT(deliveries.codes(), ElementsAre("", "", ""));
}

TEST_F(ProducerTest, AKeyDecidesThePartitionAsForEveryOtherClient) {
  start();
  create_topic("orders", 7);
  Producer one(client(), {});
  Producer two(client(), {});
  for (int i = 0; i < 50; ++i) {
    std::string key = "customer-" + std::to_string(i * 37);
    Deliveries deliveries;
    client::Record record;
    record.key = key;
    record.value = "x";
    one.send("orders", record, deliveries.expect(""));
    one.flush();
    two.send("orders", record, deliveries.expect(""));
    two.flush();
    v1::ProduceRequest request = records("orders", {"x"}, std::nullopt);
    request.mutable_records(0)->set_key(key);
    int32_t by_broker = produce(request).positions(0).partition();
    auto results = deliveries.all();
    ASSERT_THAT(results, SizeIs(2));
    EXPECT_EQ(results[0].partition, by_broker);
    EXPECT_EQ(results[1].partition, by_broker);
    EXPECT_EQ(by_broker, partition_index_for_key(as_bytes(key), 7));
  }
}

TEST_F(ProducerTest, RecordsWithoutAKeySpreadOverPartitionsBatchByBatch) {
  start();
  create_topic("orders", 3);
  Deliveries deliveries;
  Producer producer(client(), {.batch_bytes = 1'024});
  for (int i = 0; i < 300; ++i) producer.send("orders", record_of(std::string(100, 'x'), {}), deliveries.expect(""));
  producer.flush();
  std::set<int32_t> partitions;
  for (const auto& result : deliveries.all()) partitions.insert(result.partition);
  EXPECT_THAT(partitions, ElementsAre(0, 1, 2));
}

TEST_F(ProducerTest, ARecordOverTheLimitFailsAlone) {
  start();
  create_topic("orders", 1, {{"max.message.bytes", "2048"}});
  Deliveries deliveries;
  Producer producer(client(), {});
  producer.send("orders", record_of("before"), deliveries.expect("before"));
  producer.send("orders", record_of(std::string(2'049, 'x')), deliveries.expect("large"));
  producer.send("orders", record_of(std::string(2'048, 'x')), deliveries.expect("as large as may be"));
  producer.send("orders", record_of("after"), deliveries.expect("after"));
  producer.flush();
  std::map<std::string, std::optional<Error>> results;
  for (const auto& result : deliveries.all()) results[result.name] = result.error;
  ASSERT_THAT(results, SizeIs(4));
  EXPECT_FALSE(results["before"]);
  EXPECT_FALSE(results["after"]);
  EXPECT_FALSE(results["as large as may be"]);
  ASSERT_TRUE(results["large"]);
  EXPECT_EQ(results["large"]->code, "RECORD_TOO_LARGE");
  EXPECT_EQ(results["large"]->outcome, Error::Outcome::kNotWritten);
  EXPECT_THAT(results["large"]->message, HasSubstr("2049"));
  EXPECT_THAT(results["large"]->message, HasSubstr("2048"));
  EXPECT_THAT(values("orders"), ElementsAre("before", std::string(2'048, 'x'), "after"));
}

TEST_F(ProducerTest, RefusesWhatCannotBePlacedAndCreatesATopicByItsFirstRecord) {
  options_.auto_create_topics = true;
  start();
  Deliveries deliveries;
  Producer producer(client(), {});
  client::Record record = record_of("hello", {});
  record.key = "17";
  producer.send("new", record, deliveries.expect(""));
  producer.send("new", record_of("x", 99), deliveries.expect(""));
  producer.send("new", record_of("x", -1), deliveries.expect(""));
  producer.send("not/a/name", record_of("x"), deliveries.expect(""));
  producer.flush();
  EXPECT_THAT(deliveries.codes(), ElementsAre("", "UNKNOWN_PARTITION", "UNKNOWN_PARTITION", "INVALID_TOPIC"));
  EXPECT_TRUE(deliveries.all()[0].topic_created);
  EXPECT_EQ(deliveries.all()[0].offset, 0);
  EXPECT_FALSE(deliveries.all()[1].topic_created);
}

// The limit is lowered behind the producer's back, so that the broker refuses what the producer lets pass.
TEST_F(ProducerTest, AfterADefiniteRefusalNothingLaterIsWrittenUnlessRefusedRecordsMayBeLeftOut) {
  start();
  for (bool skip : {false, true}) {
    std::string topic = skip ? "skipping" : "stopping";
    create_topic(topic);
    Deliveries deliveries;
    Producer producer(client(), {.skip_refused = skip});
    producer.send(topic, record_of("known"), deliveries.expect("known"));
    producer.flush();
    ASSERT_TRUE(admin().alter_topic({.name = topic, .set = {{"max.message.bytes", "1024"}}, .unset = {}}).ok());
    for (const char* name : {"before", "large", "after", "last"}) {
      producer.send(topic, record_of(name == std::string("large") ? std::string(2'000, 'x') : name),
                    deliveries.expect(name));
      if (name == std::string("before")) producer.flush();
    }
    producer.flush();
    std::map<std::string, std::string> codes;
    for (const auto& result : deliveries.all()) codes[result.name] = result.error ? result.error->code : "";
    // Records that share a batch with the refused one may be refused with it.
    EXPECT_EQ(codes["before"], "");
    EXPECT_EQ(codes["large"], "RECORD_TOO_LARGE");
    auto written = values(topic);
    for (const char* name : {"after", "last"}) {
      bool is_written = std::find(written.begin(), written.end(), name) != written.end();
      EXPECT_EQ(codes[name] == "", is_written) << name;
      EXPECT_TRUE(skip || !is_written) << name;
    }
    Deliveries more;
    producer.send(topic, record_of("more"), more.expect("more"));
    producer.flush();
    EXPECT_THAT(more.codes(), ElementsAre(skip ? "" : "PREVIOUS_FAILED"));
  }
}

// Answers are held back until the broker has written, then the connection is cut: what was in flight is repeated.
TEST_F(ProducerTest, ACutConnectionNeitherDoublesNorReordersNorLosesRecords) {
  start();
  create_topic("orders", 2);
  start_proxy();
  auto cut = connect_to({proxy_->address()});
  Deliveries deliveries;
  Producer producer(*cut, {.batch_bytes = 512});
  int sent = 0;
  auto send = [&](int count) {
    for (int i = 0; i < count; ++i, ++sent)
      producer.send("orders", record_of(std::to_string(sent), sent % 2), deliveries.expect(std::to_string(sent)));
  };
  for (int round = 0; round < 8; ++round) {
    send(2);
    producer.flush();  // so there is a connection again
    int64_t before = end_of("orders", 0) + end_of("orders", 1);
    proxy_->hold_answers(true);
    send(60);
    ASSERT_TRUE(eventually([&] { return end_of("orders", 0) + end_of("orders", 1) > before; }));
    proxy_->cut();
    proxy_->hold_answers(false);
  }
  producer.flush();
  ASSERT_EQ(deliveries.count(), static_cast<size_t>(sent));
  std::map<int32_t, int64_t> next;
  bool repeated = false;
  for (const auto& result : deliveries.all()) {
    ASSERT_FALSE(result.error) << result.error->message;
    EXPECT_EQ(result.offset, next[result.partition]++) << result.name;
    repeated = repeated || result.duplicate;
  }
  EXPECT_TRUE(repeated);  // else the test cut nothing
  for (int partition : {0, 1}) {
    std::vector<std::string> expected;
    for (int i = partition; i < sent; i += 2) expected.push_back(std::to_string(i));
    EXPECT_EQ(values("orders", partition), expected);
  }
}

TEST_F(ProducerTest, GoesOnAcrossARestartOfTheBroker) {
  start();
  create_topic("orders");
  Deliveries deliveries;
  Producer producer(client(), {.batch_bytes = 256});
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 200; ++i)
      producer.send("orders", record_of(std::to_string(round * 200 + i)), deliveries.expect(""));
    if (round == 2) break;
    stop();
    start();
  }
  producer.flush();
  EXPECT_THAT(deliveries.codes(), Each(""));
  EXPECT_EQ(values("orders"), numbers(0, 600));
}

TEST_F(ProducerTest, WithoutSequencesAnUnansweredRecordIsUnknownAndNeverRepeated) {
  start();
  create_topic("orders");
  start_proxy();
  auto cut = connect_to({proxy_->address()});
  for (ProducerOptions options : {ProducerOptions{.idempotent = false}, ProducerOptions{.acks = Acks::kLeader}}) {
    int64_t before = end_of("orders");
    Deliveries deliveries;
    Producer producer(*cut, options);
    producer.send("orders", record_of("answered"), deliveries.expect(""));
    producer.flush();
    proxy_->hold_answers(true);
    producer.send("orders", record_of("cut off"), deliveries.expect(""));
    ASSERT_TRUE(eventually([&] { return end_of("orders") == before + 2; }));
    proxy_->cut();
    proxy_->hold_answers(false);
    producer.flush();
    EXPECT_THAT(deliveries.codes(), ElementsAre("", "OUTCOME_UNKNOWN"));
    EXPECT_EQ(deliveries.all()[1].error->outcome, Error::Outcome::kUnknown);
    EXPECT_EQ(end_of("orders"), before + 2);
  }
}

TEST_F(ProducerTest, WeakerAcknowledgementsSaySo) {
  start();
  create_topic("orders");
  for (Acks acks : {Acks::kLeader, Acks::kNone}) {
    Deliveries deliveries;
    Producer producer(client(), {.acks = acks});
    producer.send("orders", record_of("x"), deliveries.expect(""));
    producer.flush();
    EXPECT_THAT(deliveries.codes(), ElementsAre(""));
    EXPECT_EQ(deliveries.all()[0].offset, acks == Acks::kNone ? -1 : 0);
  }
  EXPECT_TRUE(eventually([&] { return end_of("orders") == 2; }));
}

TEST_F(ProducerTest, WithoutAServerARecordIsRefusedSoonAndHonestly) {
  start();
  std::string address = server_->addresses()[0];
  stop();
  auto nobody = connect_to({address});
  Deliveries deliveries;
  Producer producer(*nobody, {});
  StopWatch watch;
  producer.send("orders", record_of("x"), deliveries.expect(""));
  producer.flush();
  EXPECT_LT(watch.ms(), 10'000);
  EXPECT_THAT(deliveries.codes(), ElementsAre("NO_SERVER"));
  EXPECT_EQ(deliveries.all()[0].error->outcome, Error::Outcome::kNotWritten);
  EXPECT_THAT(deliveries.all()[0].error->message, HasSubstr(address));
}

TEST_F(ProducerTest, AServerThatVanishesGivesNotWrittenForWhatWasNeverSent) {
  start();
  create_topic("orders");
  Deliveries deliveries;
  Producer producer(client(), {.delivery_timeout_ms = 700});
  producer.send("orders", record_of("in"), deliveries.expect(""));
  producer.flush();
  stop();
  // The first may still have been sent into the dying connection; after it the producer knows.
  producer.send("orders", record_of("into the dark"), deliveries.expect(""));
  producer.flush();
  StopWatch watch;
  for (int i = 0; i < 20; ++i) producer.send("orders", record_of("out"), deliveries.expect(""));
  producer.flush();
  EXPECT_LT(watch.ms(), 20'000);
  ASSERT_EQ(deliveries.count(), 22u);
  for (size_t i = 2; i < 22; ++i) {
    auto result = deliveries.all()[i];
    ASSERT_TRUE(result.error);
    EXPECT_EQ(result.error->outcome, Error::Outcome::kNotWritten) << result.error->code << result.error->message;
  }
}

TEST_F(ProducerTest, AServerThatStopsAnsweringGivesUnknownForWhatWasSent) {
  start();
  create_topic("orders");
  start_proxy();
  auto slow = connect_to({proxy_->address()});
  Deliveries deliveries;
  Producer producer(*slow, {.delivery_timeout_ms = 3'000});
  producer.send("orders", record_of("answered"), deliveries.expect(""));
  producer.flush();
  proxy_->hold_answers(true);
  StopWatch watch;
  producer.send("orders", record_of("unanswered"), deliveries.expect(""));
  producer.flush();
  EXPECT_LT(watch.ms(), 20'000);
  EXPECT_THAT(deliveries.codes(), ElementsAre("", "OUTCOME_UNKNOWN"));
  EXPECT_EQ(deliveries.all()[1].error->outcome, Error::Outcome::kUnknown);
  // Afterwards it works again, under new sequences.
  proxy_->hold_answers(false);
  producer.send("orders", record_of("later"), deliveries.expect(""));
  producer.flush();
  EXPECT_THAT(deliveries.codes(), ElementsAre("", "OUTCOME_UNKNOWN", ""));
}

// More than any buffer on the way takes, so that writing itself blocks.
TEST_F(ProducerTest, AServerThatStopsReadingHangsNobody) {
  start();
  create_topic("orders");
  start_proxy();
  auto stuck = connect_to({proxy_->address()});
  Deliveries deliveries;
  Producer producer(*stuck, {.batch_bytes = 1 << 20, .delivery_timeout_ms = 500});
  producer.send("orders", record_of("answered"), deliveries.expect("answered"));
  producer.flush();
  proxy_->hold_all(true);
  StopWatch watch;
  for (int i = 0; i < 24; ++i) producer.send("orders", record_of(std::string(1'000'000, 'x')), deliveries.expect(""));
  producer.flush();
  EXPECT_LT(watch.ms(), 30'000);
  ASSERT_EQ(deliveries.count(), 25u);
  size_t never_sent = 0;
  for (const auto& result : deliveries.all()) {
    EXPECT_EQ(result.error.has_value(), result.name != "answered");
    if (result.error && result.error->outcome == Error::Outcome::kNotWritten) ++never_sent;
  }
  EXPECT_GE(never_sent, 24u - 5u);  // so many may be on their way
}

TEST_F(ProducerTest, WhatIsAbandonedIsToldOnceAndHonestly) {
  start();
  create_topic("orders");
  start_proxy();
  auto slow = connect_to({proxy_->address()});
  Deliveries deliveries;
  {
    Producer producer(*slow, {.batch_bytes = 512});
    producer.send("orders", record_of("0"), deliveries.expect("0"));
    producer.flush();
    proxy_->hold_answers(true);
    for (int i = 1; i < 100; ++i)
      producer.send("orders", record_of(std::to_string(i)), deliveries.expect(std::to_string(i)));
    ASSERT_TRUE(eventually([&] { return end_of("orders") > 1; }));
  }
  auto results = deliveries.all();
  ASSERT_EQ(results.size(), 100u);
  std::set<std::string> names;
  for (const auto& result : results) names.insert(result.name);
  EXPECT_EQ(names.size(), 100u);
  auto written = values("orders");
  std::set<std::string> in(written.begin(), written.end());
  size_t unknown = 0;
  for (const auto& result : results) {
    if (!result.error) continue;
    EXPECT_EQ(result.error->code, "INTERRUPTED");
    if (result.error->outcome == Error::Outcome::kUnknown) {
      ++unknown;
    } else {
      EXPECT_FALSE(in.contains(result.name)) << result.name;
    }
  }
  EXPECT_GT(unknown, 0u);
}

TEST_F(ProducerTest, ClosingAProducerThatWaitsForADeadServerTakesNoTime) {
  start();
  create_topic("orders");
  start_proxy();
  auto stuck = connect_to({proxy_->address()});
  Deliveries deliveries;
  auto producer = std::make_unique<Producer>(*stuck, ProducerOptions{});
  producer->send("orders", record_of("x"), deliveries.expect(""));
  producer->flush();
  proxy_->hold_all(true);
  for (int i = 0; i < 10; ++i) producer->send("orders", record_of(std::string(1'000'000, 'x')), deliveries.expect(""));
  StopWatch watch;
  producer.reset();
  EXPECT_LT(watch.ms(), 10'000);
  EXPECT_EQ(deliveries.count(), 11u);
}

}  // namespace
}  // namespace trilog
