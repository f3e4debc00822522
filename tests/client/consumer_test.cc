#include <atomic>

#include "tests/client/client_fixture.h"

namespace trilog {
namespace {

using client::ConsumedRecord;
using client::Consumer;
using client::ConsumerOptions;
using client::OffsetSpec;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
using testing::UnorderedElementsAre;
using Kind = Consumer::Event::Kind;

class ConsumerTest : public ClientTest {
 protected:
  // Polls until `count` records came, of all partitions.
  static std::vector<std::string> read(Consumer& consumer, size_t count) {
    std::vector<std::string> values;
    StopWatch watch;
    while (values.size() < count && watch.ms() < 60'000) {
      auto event = consumer.poll(1'000);
      if (!event.ok() || event->error) {
        ADD_FAILURE() << (event.ok() ? event->error->message : event.error().message);
        break;
      }
      for (const ConsumedRecord& record : event->records) values.emplace_back(record.value.value_or("(null)"));
    }
    return values;
  }
  // Nothing more comes before the end is reported.
  static std::vector<std::string> read_to_end(Consumer& consumer, size_t partitions = 1) {
    std::vector<std::string> values;
    std::map<int32_t, bool> ended;
    StopWatch watch;
    while (ended.size() < partitions && watch.ms() < 60'000) {
      auto event = consumer.poll(1'000);
      if (!event.ok() || event->error) {
        ADD_FAILURE() << (event.ok() ? event->error->message : event.error().message);
        break;
      }
      for (const ConsumedRecord& record : event->records) values.emplace_back(record.value.value_or("(null)"));
      for (const auto& end : event->caught_up) ended[end.partition] = true;
    }
    return values;
  }
  std::vector<std::string> read_all(ConsumerOptions options, const std::string& topic, size_t partitions = 1) {
    Consumer consumer(client(), std::move(options));
    EXPECT_TRUE(consumer.subscribe({topic}).ok());
    return read_to_end(consumer, partitions);
  }
  void commit(Consumer& consumer, int64_t offset) {
    auto stored = consumer.commit({{"orders", 0, offset}});
    ASSERT_TRUE(stored.ok()) << stored.error().message;
    ASSERT_THAT(stored.value(), SizeIs(1));
    ASSERT_FALSE(stored.value()[0].error) << stored.value()[0].error->message;
  }
};

TEST_F(ConsumerTest, ReadsEveryPartitionInItsOrderAndSaysWhereTheEndIs) {
  start();
  create_topic("orders", 3);
  for (int partition : {0, 1}) fill("orders", partition * 100, 100, partition);
  Consumer consumer(client(), {});
  ASSERT_TRUE(consumer.subscribe({"orders"}).ok());
  std::map<int32_t, std::vector<std::string>> read;
  std::map<int32_t, int64_t> ends;
  while (ends.size() < 3) {
    auto event = consumer.poll(30'000);
    ASSERT_TRUE(event.ok()) << event.error().message;
    ASSERT_NE(event->kind, Kind::kIdle);
    for (const ConsumedRecord& record : event->records) {
      EXPECT_EQ(record.topic, "orders");
      EXPECT_EQ(record.offset, static_cast<int64_t>(read[record.partition].size()));
      read[record.partition].emplace_back(*record.value);
    }
    for (const auto& end : event->caught_up) ends[end.partition] = end.offset.value_or(-1);
  }
  EXPECT_EQ(read[0], numbers(0, 100));
  EXPECT_EQ(read[1], numbers(100, 100));
  EXPECT_THAT(ends, ElementsAre(std::pair(0, 100), std::pair(1, 100), std::pair(2, 0)));
  auto idle = consumer.poll(1);
  ASSERT_TRUE(idle.ok());
  EXPECT_EQ(idle->kind, Kind::kIdle);
  fill("orders", 0, 1, 2);
  EXPECT_THAT(ConsumerTest::read(consumer, 1), ElementsAre("0"));
}

TEST_F(ConsumerTest, BeginsAtTheStartTheEndATimeOrAPosition) {
  start();
  create_topic("orders");
  v1::ProduceRequest request = records("orders", numbers(0, 10));
  for (int i = 0; i < 10; ++i) request.mutable_records(i)->set_timestamp_ms(1'000 + i);
  produce(request);
  EXPECT_EQ(read_all({}, "orders"), numbers(0, 10));
  EXPECT_THAT(read_all({.from = OffsetSpec::kLatest}, "orders"), SizeIs(0));
  EXPECT_EQ(read_all({.from = OffsetSpec::kTimestamp, .from_timestamp_ms = 1'004}, "orders"), numbers(4, 6));
  EXPECT_THAT(read_all({.from = OffsetSpec::kTimestamp, .from_timestamp_ms = 9'000}, "orders"), SizeIs(0));
  Consumer at(client(), {});
  ASSERT_TRUE(at.subscribe({"orders"}, {{"orders", 0, 8}}).ok());
  EXPECT_EQ(read_to_end(at), numbers(8, 2));
  Consumer at_time(client(), {});
  ASSERT_TRUE(at_time.subscribe({"orders"}, {{"orders", 0, {}, 1'007}}, true).ok());
  EXPECT_EQ(read_to_end(at_time), numbers(7, 3));
}

TEST_F(ConsumerTest, ReadsOnlyTheNamedPartitionsIfAskedTo) {
  start();
  create_topic("orders", 3);
  for (int partition = 0; partition < 3; ++partition) fill("orders", partition, 1, partition);
  Consumer consumer(client(), {});
  ASSERT_TRUE(consumer.subscribe({"orders"}, {{"orders", 1, {}}}, true).ok());
  EXPECT_THAT(read_to_end(consumer), ElementsAre("1"));
}

TEST_F(ConsumerTest, AGroupGoesOnBehindItsCommitWhateverItWasToldToBeginWith) {
  start();
  create_topic("orders");
  fill("orders", 0, 10);
  {
    Consumer first(client(), {.group = "billing"});
    ASSERT_TRUE(first.subscribe({"orders"}).ok());
    EXPECT_EQ(read(first, 10), numbers(0, 10));
    commit(first, 6);
  }
  EXPECT_EQ(read_all({.group = "billing"}, "orders"), numbers(6, 4));
  EXPECT_EQ(read_all({.group = "billing", .from = OffsetSpec::kLatest}, "orders"), numbers(6, 4));
  EXPECT_EQ(read_all({.group = "billing", .from = OffsetSpec::kTimestamp}, "orders"), numbers(6, 4));
  EXPECT_EQ(read_all({.group = "shipping"}, "orders"), numbers(0, 10));
}

TEST_F(ConsumerTest, TwoGroupsKeepTheirOwnPositions) {
  start();
  create_topic("orders");
  fill("orders", 0, 10);
  Consumer billing(client(), {.group = "billing"});
  Consumer shipping(client(), {.group = "shipping"});
  ASSERT_TRUE(billing.subscribe({"orders"}).ok());
  ASSERT_TRUE(shipping.subscribe({"orders"}).ok());
  EXPECT_EQ(read(billing, 10), numbers(0, 10));
  EXPECT_EQ(read(shipping, 10), numbers(0, 10));
  commit(billing, 3);
  commit(shipping, 9);
  EXPECT_EQ(committed("billing", "orders"), 3);
  EXPECT_EQ(committed("shipping", "orders"), 9);
}

TEST_F(ConsumerTest, WithoutAGroupThereIsNothingToCommitFor) {
  start();
  create_topic("orders");
  Consumer consumer(client(), {});
  auto unsubscribed = consumer.poll(1);
  ASSERT_FALSE(unsubscribed.ok());
  EXPECT_THAT(unsubscribed.error().message, HasSubstr("subscribe"));
  ASSERT_TRUE(consumer.subscribe({"orders"}).ok());
  EXPECT_FALSE(consumer.commit({{"orders", 0, 0}}).ok());
}

TEST_F(ConsumerTest, ASecondConsumerOfAGroupIsRefusedUntilTheFirstIsClosed) {
  start();
  create_topic("orders");
  fill("orders", 0, 2);
  Consumer first(client(), {.group = "billing"});
  ASSERT_TRUE(first.subscribe({"orders"}).ok());
  EXPECT_THAT(read(first, 2), SizeIs(2));
  Consumer second(client(), {.group = "billing"});
  ASSERT_TRUE(second.subscribe({"orders"}).ok());
  auto refused = second.poll(30'000);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, "GROUP_IN_USE");
  // At once: its end and our beginning may cross.
  for (int i = 0; i < 20; ++i) {
    first.close();
    ASSERT_TRUE(second.subscribe({"orders"}).ok());
    EXPECT_THAT(read(second, 2), SizeIs(2));
    second.close();
    ASSERT_TRUE(first.subscribe({"orders"}).ok());
    EXPECT_THAT(read(first, 2), SizeIs(2));
  }
}

// Enough records that many are on their way when the consumer seeks.
TEST_F(ConsumerTest, AfterASeekNoRecordOfTheOldPositionFollows) {
  start();
  create_topic("orders");
  std::string padding(1'000, '.');
  for (int i = 0; i < 20; ++i) {
    std::vector<std::string> values;
    for (const std::string& number : numbers(i * 200, 200)) values.push_back(number + padding);
    produce(records("orders", values));
  }
  Consumer consumer(client(), {});
  ASSERT_TRUE(consumer.subscribe({"orders"}).ok());
  read(consumer, 1);
  for (int64_t target : {0, 1'000, 17, 3'999, 5, 3'000}) {
    consumer.seek({"orders", 0, target});
    int64_t expected = target;
    while (expected < std::min<int64_t>(target + 500, 4'000)) {
      auto event = consumer.poll(30'000);
      ASSERT_TRUE(event.ok()) << event.error().message;
      ASSERT_NE(event->kind, Kind::kIdle);
      for (const ConsumedRecord& record : event->records) ASSERT_EQ(record.offset, expected++);
    }
  }
  consumer.seek({"orders", 0, {}});
  auto event = consumer.poll(30'000);
  ASSERT_TRUE(event.ok());
  ASSERT_EQ(event->kind, Kind::kRecords);
  EXPECT_EQ(event->records[0].offset, 0);
}

TEST_F(ConsumerTest, AFailedPartitionRestsUntilASeekAndTheOthersGoOn) {
  start();
  create_topic("orders", 2);
  fill("orders", 0, 3, 0);
  fill("orders", 10, 3, 1);
  Consumer consumer(client(), {});
  ASSERT_TRUE(consumer.subscribe({"orders"}, {{"orders", 0, 99}}).ok());
  bool failed = false;
  std::vector<std::string> values;
  while (!failed || values.size() < 3) {
    auto event = consumer.poll(30'000);
    ASSERT_TRUE(event.ok()) << event.error().message;
    ASSERT_NE(event->kind, Kind::kIdle);
    for (const ConsumedRecord& record : event->records) values.emplace_back(*record.value);
    if (event->kind != Kind::kPartitionError) continue;
    failed = true;
    EXPECT_EQ(event->topic, "orders");
    EXPECT_EQ(event->partition, 0);
    EXPECT_EQ(event->error->code, "OFFSET_OUT_OF_RANGE");
  }
  EXPECT_EQ(values, numbers(10, 3));
  consumer.seek({"orders", 0, 1});
  EXPECT_EQ(read(consumer, 2), numbers(1, 2));
}

TEST_F(ConsumerTest, WhatTheBrokerRefusesShowsInTheFirstPoll) {
  start();
  create_topic("orders");
  Consumer consumer(client(), {});
  ASSERT_TRUE(consumer.subscribe({"ordrs"}).ok());
  auto refused = consumer.poll(30'000);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, "UNKNOWN_TOPIC");
  EXPECT_THAT(refused.error().message, HasSubstr("orders"));
}

TEST_F(ConsumerTest, ManyMoreBytesThanTheCreditComeThrough) {
  start();
  create_topic("orders");
  std::string value(5'000, 'x');
  for (int i = 0; i < 10; ++i) produce(records("orders", std::vector<std::string>(100, value)));
  EXPECT_THAT(read_all({.credit_bytes = 1'000}, "orders"), SizeIs(1'000));
}

TEST_F(ConsumerTest, APausedPartitionIsSilentUntilItGoesOnAlsoAfterAReconnect) {
  start();
  create_topic("orders", 2);
  start_proxy();
  auto through = connect_to({proxy_->address()});
  Consumer consumer(*through, {});
  ASSERT_TRUE(consumer.subscribe({"orders"}).ok());
  EXPECT_THAT(read_to_end(consumer, 2), SizeIs(0));
  consumer.pause({{"orders", 0, {}}}, true);
  fill("orders", 0, 1, 0);
  fill("orders", 10, 1, 1);
  EXPECT_THAT(read(consumer, 1), ElementsAre("10"));
  proxy_->cut();
  fill("orders", 11, 1, 1);
  EXPECT_THAT(read(consumer, 1), ElementsAre("11"));
  consumer.pause({{"orders", 0, {}}}, false);
  EXPECT_THAT(read(consumer, 1), ElementsAre("0"));
}

TEST_F(ConsumerTest, GoesOnAcrossARestartOfTheBrokerWithoutGapOrRepeat) {
  start();
  create_topic("orders");
  fill("orders", 0, 100);
  Consumer consumer(client(), {.group = "billing"});
  ASSERT_TRUE(consumer.subscribe({"orders"}).ok());
  std::vector<std::string> values = read(consumer, 100);
  for (int round = 1; round <= 3; ++round) {
    commit(consumer, static_cast<int64_t>(values.size()));
    stop();
    start();
    fill("orders", round * 100, 100);
    for (std::string& value : read(consumer, 100)) values.push_back(std::move(value));
  }
  EXPECT_EQ(values, numbers(0, 400));
  commit(consumer, 400);
  EXPECT_EQ(committed("billing", "orders"), 400);
}

TEST_F(ConsumerTest, ACommitSurvivesACutConnection) {
  start();
  create_topic("orders");
  fill("orders", 0, 10);
  start_proxy();
  auto through = connect_to({proxy_->address()});
  Consumer consumer(*through, {.group = "billing"});
  ASSERT_TRUE(consumer.subscribe({"orders"}).ok());
  EXPECT_THAT(read(consumer, 10), SizeIs(10));
  for (int64_t offset = 1; offset <= 5; ++offset) {
    proxy_->cut();
    commit(consumer, offset);
    EXPECT_EQ(committed("billing", "orders"), offset);
  }
}

TEST_F(ConsumerTest, ReadingFromTheEndMissesNothingWhileTheConnectionIsGone) {
  start();
  create_topic("orders");
  fill("orders", 0, 10);
  start_proxy();
  auto through = connect_to({proxy_->address()});
  Consumer consumer(*through, {.from = OffsetSpec::kLatest});
  ASSERT_TRUE(consumer.subscribe({"orders"}).ok());
  EXPECT_THAT(read_to_end(consumer), SizeIs(0));
  proxy_->refuse(true);
  proxy_->cut();
  fill("orders", 10, 5);
  proxy_->refuse(false);
  EXPECT_EQ(read(consumer, 5), numbers(10, 5));
}

// The broker has not noticed the end of the old connection when the new one asks for the group.
TEST_F(ConsumerTest, AReconnectWaitsUntilItsOwnOldStreamLetsGoOfTheGroup) {
  start();
  create_topic("orders");
  fill("orders", 0, 5);
  start_proxy();
  auto through = connect_to({proxy_->address()});
  Consumer consumer(*through, {.group = "billing"});
  ASSERT_TRUE(consumer.subscribe({"orders"}).ok());
  EXPECT_THAT(read(consumer, 5), SizeIs(5));
  int before = proxy_->connections_made();
  proxy_->cut_client_side();
  while (proxy_->connections_made() == before) {
    auto event = consumer.poll(10);
    ASSERT_TRUE(event.ok()) << event.error().message;
  }
  for (int i = 0; i < 3; ++i) {
    auto event = consumer.poll(50);
    ASSERT_TRUE(event.ok()) << event.error().message;
    EXPECT_THAT(event->records, SizeIs(0));
  }
  fill("orders", 5, 5);
  proxy_->cut();
  EXPECT_EQ(read(consumer, 5), numbers(5, 5));
}

TEST_F(ConsumerTest, PollKeepsItsTimeWhileNobodyIsThereAndGivesUpWhenTold) {
  start();
  create_topic("orders");
  start_proxy();
  auto through = connect_to({proxy_->address()});
  Consumer consumer(*through, {.reconnect_timeout_ms = 2'000});
  ASSERT_TRUE(consumer.subscribe({"orders"}).ok());
  EXPECT_THAT(read_to_end(consumer), SizeIs(0));
  proxy_->refuse(true);
  proxy_->cut();
  StopWatch watch;
  auto event = consumer.poll(50);
  ASSERT_TRUE(event.ok()) << event.error().message;
  EXPECT_EQ(event->kind, Kind::kIdle);
  EXPECT_LT(watch.ms(), 1'900);
  while (event.ok() && watch.ms() < 30'000) event = consumer.poll(50);
  ASSERT_FALSE(event.ok());
  EXPECT_EQ(event.error().code, "NO_SERVER");
  EXPECT_GE(watch.ms(), 1'900);
}

TEST_F(ConsumerTest, StopEndsAWaitingPollSoonAlsoWithoutAServer) {
  start();
  create_topic("orders");
  for (bool connected : {true, false}) {
    start_proxy();
    auto through = connect_to({proxy_->address()});
    Consumer consumer(*through, {});
    ASSERT_TRUE(consumer.subscribe({"orders"}).ok());
    EXPECT_THAT(read_to_end(consumer), SizeIs(0));
    if (!connected) {
      proxy_->refuse(true);
      proxy_->cut();
    }
    StopWatch watch;
    std::thread stopper([&] { consumer.stop(); });
    auto event = consumer.poll(60'000);
    EXPECT_TRUE(event.ok());
    EXPECT_LT(watch.ms(), 10'000);
    stopper.join();
  }
}

// --- handler style ---

TEST_F(ConsumerTest, AHandlersSuccessIsCommittedAndItsFailureIsNot) {
  start();
  create_topic("orders");
  fill("orders", 0, 10);
  Consumer consumer(client(), {.group = "billing"});
  std::vector<std::string> handled;
  auto done = consumer.run({"orders"}, [&](const ConsumedRecord& record) {
    if (record.offset == 4) return false;
    handled.emplace_back(*record.value);
    return true;
  });
  ASSERT_TRUE(done.ok()) << done.error().message;
  EXPECT_EQ(handled, numbers(0, 4));
  EXPECT_EQ(committed("billing", "orders"), 4);
  done = consumer.run({"orders"}, [](const ConsumedRecord&) { return false; });
  ASSERT_TRUE(done.ok()) << done.error().message;
  EXPECT_EQ(committed("billing", "orders"), 4);
  handled.clear();
  done = consumer.run(
      {"orders"},
      [&](const ConsumedRecord& record) {
        handled.emplace_back(*record.value);
        return true;
      },
      true);
  ASSERT_TRUE(done.ok()) << done.error().message;
  EXPECT_EQ(handled, numbers(4, 6));
  EXPECT_EQ(committed("billing", "orders"), 10);
}

TEST_F(ConsumerTest, AHandlerThatFailsAtOnceCommitsNothing) {
  start();
  create_topic("orders");
  fill("orders", 0, 3);
  Consumer consumer(client(), {.group = "billing"});
  ASSERT_TRUE(consumer.run({"orders"}, [](const ConsumedRecord&) { return false; }).ok());
  EXPECT_EQ(committed("billing", "orders"), std::nullopt);
}

TEST_F(ConsumerTest, RunningToTheEndReadsAllPartitionsOfAllTopics) {
  start();
  create_topic("orders", 5);
  create_topic("payments", 2);
  for (int partition = 0; partition < 4; ++partition) fill("orders", partition * 300, 300, partition);
  fill("payments", 5'000, 100, 1);
  Consumer consumer(client(), {.group = "billing"});
  size_t handled = 0;
  auto done = consumer.run(
      {"orders", "payments"},
      [&](const ConsumedRecord&) {
        ++handled;
        return true;
      },
      true);
  ASSERT_TRUE(done.ok()) << done.error().message;
  EXPECT_EQ(handled, 1'300u);
  auto group = admin().describe_group("billing");
  ASSERT_TRUE(group.ok());
  for (const auto& partition : group->partitions) EXPECT_EQ(partition.lag, 0);
  // Nothing is left, which is an end too.
  done = consumer.run(
      {"orders", "payments"}, [](const ConsumedRecord&) { return true; }, true);
  EXPECT_TRUE(done.ok());
}

TEST_F(ConsumerTest, CommitsInTimeAlsoWhileOneLargeAnswerIsBeingHandled) {
  start();
  create_topic("orders");
  fill("orders", 0, 20);
  Consumer consumer(client(), {.group = "billing"});
  std::vector<std::optional<int64_t>> seen;
  auto done = consumer.run(
      {"orders"},
      [&](const ConsumedRecord&) {
        seen.push_back(committed("billing", "orders"));
        return seen.size() < 10;
      },
      false, 0);
  ASSERT_TRUE(done.ok()) << done.error().message;
  ASSERT_THAT(seen, SizeIs(10));
  for (size_t i = 1; i < seen.size(); ++i) EXPECT_EQ(seen[i], static_cast<int64_t>(i));
}

TEST_F(ConsumerTest, StopEndsARunBetweenTwoRecordsAndCommitsWhatWasHandled) {
  start();
  create_topic("orders");
  fill("orders", 0, 20);
  Consumer consumer(client(), {.group = "billing"});
  auto done = consumer.run({"orders"}, [&](const ConsumedRecord& record) {
    if (record.offset == 6) consumer.stop();
    return true;
  });
  ASSERT_TRUE(done.ok()) << done.error().message;
  EXPECT_EQ(committed("billing", "orders"), 7);
}

TEST_F(ConsumerTest, ARunSurvivesARestartAndCommitsEveryRecordOnce) {
  start();
  create_topic("orders");
  fill("orders", 0, 50);
  Consumer consumer(client(), {.group = "billing"});
  std::vector<std::string> handled;
  auto done = consumer.run(
      {"orders"},
      [&](const ConsumedRecord& record) {
        handled.emplace_back(*record.value);
        if (handled.size() == 50) {
          stop();
          start();
          fill("orders", 50, 50);
        }
        return handled.size() < 100;
      },
      false, 50);
  ASSERT_TRUE(done.ok()) << done.error().message;
  EXPECT_EQ(handled, numbers(0, 100));
  EXPECT_EQ(committed("billing", "orders"), 99);
}

TEST_F(ConsumerTest, ARunThatCannotGoOnStillCommitsWhatWasHandled) {
  start();
  create_topic("orders", 2);
  fill("orders", 0, 5, 0);
  ASSERT_TRUE(admin().commit_offsets("billing", {{"orders", 1, 0}}).ok());
  fill("orders", 0, 5, 1);
  ASSERT_TRUE(admin().trim_topic("orders", {{"orders", 1, 5}}, false).ok());
  Consumer consumer(client(), {.group = "billing"});
  int64_t handled = 0;
  auto done = consumer.run({"orders"}, [&](const ConsumedRecord& record) {
    EXPECT_EQ(record.partition, 0);
    ++handled;
    return true;
  });
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code, "OFFSET_OUT_OF_RANGE");
  EXPECT_EQ(committed("billing", "orders", 0).value_or(0), handled);
}

}  // namespace
}  // namespace trilog
