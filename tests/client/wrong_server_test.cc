// The client against a server that speaks gRPC and answers nonsense: nothing crashes, hangs, or is taken for done.
#include <atomic>
#include <thread>

#include "tests/client/client_fixture.h"

namespace trilog {
namespace {

using client::Acks;
using client::Admin;
using client::Consumer;
using client::Error;
using client::Producer;
using client::ProducerOptions;
using testing::Each;
using testing::HasSubstr;

// Says what a test wants to have said.
struct WrongServer : v1::Broker::Service, v1::Admin::Service {
  WrongServer() {
    topic.set_name("orders");
    topic.add_partitions();
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(static_cast<v1::Broker::Service*>(this));
    builder.RegisterService(static_cast<v1::Admin::Service*>(this));
    server = builder.BuildAndStart();
  }
  ~WrongServer() override { server->Shutdown(std::chrono::system_clock::now()); }

  grpc::Status DescribeTopic(grpc::ServerContext*, const v1::DescribeTopicRequest*,
                             v1::DescribeTopicResponse* out) override {
    if (stopping) return refusal();
    if (topic_missing) {
      out->add_topics()->set_name("orders");
      out->mutable_topics(0)->mutable_error()->set_code("UNKNOWN_TOPIC");
    } else {
      *out->add_topics() = topic;
    }
    return grpc::Status::OK;
  }
  grpc::Status ListTopics(grpc::ServerContext*, const v1::ListTopicsRequest*, v1::ListTopicsResponse* out) override {
    *out->add_topics() = topic;
    out->set_next_page_token("again");
    return grpc::Status::OK;
  }
  grpc::Status TrimTopic(grpc::ServerContext*, const v1::TrimTopicRequest*, v1::TrimTopicResponse*) override {
    return grpc::Status::OK;
  }
  grpc::Status ListOffsets(grpc::ServerContext*, const v1::ListOffsetsRequest*, v1::ListOffsetsResponse* out) override {
    *out = offsets;
    return grpc::Status::OK;
  }
  grpc::Status CommitOffsets(grpc::ServerContext*, const v1::CommitOffsetsRequest*,
                             v1::CommitOffsetsResponse*) override {
    return grpc::Status::OK;
  }
  grpc::Status InitProducer(grpc::ServerContext*, const v1::InitProducerRequest*,
                            v1::InitProducerResponse* out) override {
    out->set_producer_id(7);
    return grpc::Status::OK;
  }
  grpc::Status Produce(grpc::ServerContext*, const v1::ProduceRequest*, v1::ProduceResponse* out) override {
    *out = produced;
    return grpc::Status::OK;
  }
  grpc::Status ProduceStream(grpc::ServerContext*,
                             grpc::ServerReaderWriter<v1::ProduceResponse, v1::ProduceRequest>* stream) override {
    std::vector<std::pair<uint64_t, v1::Error>> refused;
    for (v1::ProduceRequest request; stream->Read(&request);) {
      ++requests;
      if (refused.size() < refusals.size()) {
        refused.emplace_back(request.request_id(), refusals[refused.size()]);
        if (refused.size() < refusals.size()) continue;
        for (auto& [id, error] : refused) {
          v1::ProduceResponse answer;
          answer.set_request_id(id);
          *answer.mutable_error() = error;
          stream->Write(answer);
        }
        continue;
      }
      v1::ProduceResponse answer = produced;
      answer.set_request_id(request.request_id() + request_id_shift);
      for (int i = 0; i < answers; ++i) stream->Write(answer);
    }
    return grpc::Status::OK;
  }
  grpc::Status Consume(grpc::ServerContext*,
                       grpc::ServerReaderWriter<v1::ConsumeResponse, v1::ConsumeRequest>* stream) override {
    if (stopping) return refusal();
    stream->Write(event);
    for (v1::ConsumeRequest request; stream->Read(&request);) {
      if (!request.has_commit()) continue;
      v1::ConsumeResponse committed;
      committed.mutable_committed()->set_request_id(request.commit().request_id());
      stream->Write(committed);
    }
    return grpc::Status::OK;
  }

  grpc::Status refusal() {
    ++turned_away;
    v1::Error error;
    error.set_code("NODE_STOPPING");
    error.set_message("node is stopping");
    error.set_retriable(true);
    error.set_outcome(v1::Error::NOT_WRITTEN);
    google::rpc::Status details;
    details.add_details()->PackFrom(error);
    return {grpc::StatusCode::UNAVAILABLE, "node is stopping", details.SerializeAsString()};
  }

  // Set before the first call.
  bool stopping = false;  // it takes connections and refuses what comes over them
  v1::Topic topic;
  bool topic_missing = false;
  v1::ListOffsetsResponse offsets;
  v1::ProduceResponse produced;
  uint64_t request_id_shift = 0;
  std::vector<v1::Error> refusals;  // of the first requests of a stream, told when all of them are there
  int answers = 1;
  v1::ConsumeResponse event;

  std::atomic<int> requests{0};
  std::atomic<int> turned_away{0};  // because it stops
  int port = 0;
  std::unique_ptr<grpc::Server> server;
};

class WrongServerTest : public testing::Test {
 protected:
  client::Client& client() {
    if (!client_) {
      client_ = client::Client::connect(
          {.servers = {"127.0.0.1:" + std::to_string(server_.port)}, .timeout_ms = 30'000, .name = "test"});
    }
    return *client_;
  }
  // What becomes of one record after another.
  std::vector<Deliveries::Result> produce(int records, ProducerOptions options = {}) {
    Deliveries deliveries;
    Producer producer(client(), options);
    for (int i = 0; i < records; ++i) {
      producer.send("orders", record_of("x"), deliveries.expect(""));
      producer.flush();
    }
    return deliveries.all();
  }
  void expect_unknown(const std::vector<Deliveries::Result>& results, const std::string& why) {
    for (const Deliveries::Result& result : results) {
      ASSERT_TRUE(result.error);
      EXPECT_EQ(result.error->code, "OUTCOME_UNKNOWN");
      EXPECT_EQ(result.error->outcome, Error::Outcome::kUnknown);
      EXPECT_THAT(result.error->message, HasSubstr(why));
    }
  }
  Error polled() {
    Consumer consumer(client(), {});
    EXPECT_TRUE(consumer.subscribe({"orders"}).ok());
    auto event = consumer.poll(30'000);
    EXPECT_FALSE(event.ok());
    return event.error();
  }
  v1::FetchedPartition& sends_records(std::initializer_list<int64_t> offsets, int64_t next) {
    v1::FetchedPartition& part = *server_.event.mutable_records();
    part.set_topic("orders");
    for (int64_t offset : offsets) part.add_records()->set_offset(offset);
    part.set_next_offset(next);
    return part;
  }

  WrongServer server_;
  std::unique_ptr<client::Client> client_;
};

TEST_F(WrongServerTest, AServerThatStopsIsLeftForAnotherOne) {
  WrongServer other;
  server_.stopping = true;
  auto client = client::Client::connect(
      {.servers = {"127.0.0.1:" + std::to_string(server_.port), "127.0.0.1:" + std::to_string(other.port)},
       .timeout_ms = 30'000});
  const auto described = Admin(*client).describe_topic("orders");
  EXPECT_TRUE(described.ok()) << described.error().message;
  EXPECT_EQ(server_.turned_away, 1);
  auto second = client::Client::connect(
      {.servers = {"127.0.0.1:" + std::to_string(server_.port), "127.0.0.1:" + std::to_string(other.port)},
       .timeout_ms = 30'000});
  Consumer consumer(*second, {.group = "billing"});
  ASSERT_TRUE(consumer.subscribe({"orders"}).ok());
  EXPECT_EQ(consumer.commit({{.topic = "orders", .partition = 0, .offset = 1}}).error().code, "OUTCOME_UNKNOWN");
  EXPECT_EQ(server_.turned_away, 2);
}

TEST_F(WrongServerTest, AnAnswerWithoutPositionsIsAnUnknownOutcomeAndNotRepeated) {
  for (bool idempotent : {true, false}) {
    int before = server_.requests;
    auto results = produce(3, {.idempotent = idempotent, .skip_refused = true});
    ASSERT_EQ(results.size(), 3u);
    expect_unknown(results, "0 positions for one batch of orders");
    EXPECT_EQ(server_.requests, before + 3);
  }
}

TEST_F(WrongServerTest, NothingFollowsInAPartitionWhoseOutcomeIsUnknown) {
  auto results = produce(2);
  ASSERT_EQ(results.size(), 2u);
  expect_unknown({results[0]}, "0 positions");
  EXPECT_EQ(results[1].error->code, "PREVIOUS_FAILED");
  EXPECT_EQ(results[1].error->outcome, Error::Outcome::kNotWritten);
  EXPECT_EQ(server_.requests, 1);
}

// No wrong server, but two leaders: the first request met one that no longer leads, the second its successor, to which
// the first one is missing.
TEST_F(WrongServerTest, AGapBehindARequestThatGoesAgainIsNoRefusal) {
  v1::Error moved;
  moved.set_code("NOT_LEADER");
  moved.set_retriable(true);
  moved.set_outcome(v1::Error::NOT_WRITTEN);
  v1::Error gap;
  gap.set_code("OUT_OF_ORDER_SEQUENCE");
  gap.set_outcome(v1::Error::NOT_WRITTEN);
  server_.refusals = {moved, gap};
  server_.produced.add_positions()->set_offset(3);
  Deliveries deliveries;
  Producer producer(client(), {});
  producer.send("orders", record_of("a"), deliveries.expect("a"));
  while (server_.requests < 1) std::this_thread::yield();
  producer.send("orders", record_of("b"), deliveries.expect("b"));
  producer.flush();
  auto results = deliveries.all();
  ASSERT_EQ(results.size(), 2u);
  for (const auto& result : results) EXPECT_FALSE(result.error) << result.error->code;
  EXPECT_EQ(server_.requests, 4);
}

TEST_F(WrongServerTest, TooManyPositionsAreNotBelieved) {
  server_.produced.add_positions();
  server_.produced.add_positions();
  expect_unknown(produce(1), "2 positions for one batch of orders");
}

TEST_F(WrongServerTest, AnotherPartitionIsNotBelieved) {
  server_.produced.add_positions()->set_partition(5);
  expect_unknown(produce(1), "partition 5 of orders where 0 was asked for");
}

TEST_F(WrongServerTest, APositionWithoutOffsetIsBelievedOnlyWhereNoneWasAskedFor) {
  server_.produced.add_positions()->set_offset(-1);
  expect_unknown(produce(1), "no offset for a batch of orders");
  EXPECT_FALSE(produce(1, {.acks = Acks::kNone}).at(0).error);
}

TEST_F(WrongServerTest, AnAnswerToAnotherRequestIsNotBelieved) {
  server_.produced.add_positions();
  server_.request_id_shift = 3;
  expect_unknown(produce(1), "request 4 where 1 was next");
}

TEST_F(WrongServerTest, AnAnswerTooManyIsNotTakenForThatOfTheNextRequest) {
  server_.produced.add_positions();
  server_.answers = 2;
  for (const Deliveries::Result& result : produce(3, {.skip_refused = true}))
    EXPECT_TRUE(!result.error || result.error->outcome == Error::Outcome::kUnknown) << result.error->message;
}

TEST_F(WrongServerTest, TheRecordThatCreatesATopicNeedsAPositionToo) {
  server_.topic_missing = true;
  expect_unknown(produce(1), "0 positions for one record of orders");
}

TEST_F(WrongServerTest, PartitionsMustBeNumberedFromZero) {
  server_.topic.mutable_partitions(0)->set_partition(1'000'000);
  EXPECT_THAT(produce(1).at(0).error->message, HasSubstr("the partitions of orders are not numbered from 0"));
  server_.topic.clear_partitions();
  EXPECT_THAT(produce(1).at(0).error->message, HasSubstr("the partitions of orders are not numbered from 0"));
}

TEST_F(WrongServerTest, AListThatLeadsToItselfEnds) {
  auto topics = Admin(client()).list_topics("", false);
  ASSERT_FALSE(topics.ok());
  EXPECT_THAT(topics.error().message, HasSubstr("a list that does not go on"));
}

TEST_F(WrongServerTest, OffsetsMustBeThereForEachPartitionAndBeOffsets) {
  auto listed = [&] { return Admin(client()).list_offsets("orders", client::OffsetSpec::kLatest); };
  EXPECT_FALSE(listed().ok());
  server_.offsets.add_offsets()->set_partition(-1);
  EXPECT_FALSE(listed().ok());
  server_.offsets.mutable_offsets(0)->set_partition(0);
  EXPECT_TRUE(listed().ok());
  server_.offsets.mutable_offsets(0)->set_offset(-5);
  EXPECT_FALSE(listed().ok());
}

TEST_F(WrongServerTest, AWriteThatIsAnsweredForFewerThanAskedHasAnUnknownOutcome) {
  auto committed = Admin(client()).commit_offsets("billing", {{"orders", 0, 1}});
  ASSERT_FALSE(committed.ok());
  EXPECT_EQ(committed.error().outcome, Error::Outcome::kUnknown);
  auto trimmed = Admin(client()).trim_topic("orders", {{"orders", 0, 1}}, false);
  ASSERT_FALSE(trimmed.ok());
  EXPECT_EQ(trimmed.error().outcome, Error::Outcome::kUnknown);

  Consumer consumer(client(), {.group = "billing"});
  ASSERT_TRUE(consumer.subscribe({"orders"}).ok());
  auto streamed = consumer.commit({{"orders", 0, 1}});
  ASSERT_FALSE(streamed.ok());
  EXPECT_EQ(streamed.error().outcome, Error::Outcome::kUnknown);
  EXPECT_THAT(streamed.error().message, HasSubstr("0 entries for a commit of 1"));
}

TEST_F(WrongServerTest, RecordsOutOfOrderAreNotRead) {
  sends_records({5, 7, 6}, 8);
  EXPECT_THAT(polled().message, HasSubstr("offset 6 of orders/0 where at least 8 was next"));
}

TEST_F(WrongServerTest, RecordsAtNegativeOffsetsAreNotRead) {
  sends_records({-3}, 8);
  EXPECT_THAT(polled().message, HasSubstr("offset -3 of orders/0"));
}

TEST_F(WrongServerTest, RecordsThatGoOnBeforeTheirEndAreNotRead) {
  sends_records({5, 6}, 6);
  EXPECT_THAT(polled().message, HasSubstr("orders/0 goes on at 6, before the end of its records"));
}

TEST_F(WrongServerTest, RecordsOfWhatIsNotReadAreNotRead) {
  sends_records({0}, 1).set_topic("invoices");
  EXPECT_THAT(polled().message, HasSubstr("records of invoices/0, which is not read"));
}

TEST_F(WrongServerTest, ANegativeEndIsNone) {
  v1::Position& end = *server_.event.mutable_caught_up()->add_partitions();
  end.set_topic("orders");
  end.set_offset(-2);
  EXPECT_THAT(polled().message, HasSubstr("a negative end of orders/0"));
}

TEST_F(WrongServerTest, AfterAnAnswerWithoutSenseReadingMayBeTriedAgain) {
  sends_records({5, 6}, 6);
  Consumer consumer(client(), {});
  ASSERT_TRUE(consumer.subscribe({"orders"}).ok());
  EXPECT_FALSE(consumer.poll(30'000).ok());
  EXPECT_FALSE(consumer.poll(30'000).ok());
}

}  // namespace
}  // namespace trilog
