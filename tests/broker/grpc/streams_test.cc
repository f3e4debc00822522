#include <set>
#include <stdexcept>

#include "tests/broker/grpc/edge_fixture.h"

namespace trilog {
namespace {

using grpc::StatusCode;
using testing::ElementsAre;

using ProduceClient = grpc::ClientReaderWriter<v1::ProduceRequest, v1::ProduceResponse>;
using ConsumeClient = grpc::ClientReaderWriter<v1::ConsumeRequest, v1::ConsumeResponse>;

class ProduceStreamTest : public EdgeTest {
 protected:
  void SetUp() override {
    start();
    create_topic("orders", 3);
  }
  static v1::ProduceRequest numbered(uint64_t id, const std::string& value, int partition = 0) {
    v1::ProduceRequest request = records("orders", {value}, partition);
    request.set_request_id(id);
    return request;
  }
};

TEST_F(ProduceStreamTest, AnswersInTheOrderOfTheRequestsAndEndsAfterAHalfClose) {
  Call call;
  auto stream = data_->ProduceStream(&call);
  constexpr uint64_t kRequests = 300;
  for (uint64_t id = 1; id <= kRequests; ++id) {
    ASSERT_TRUE(stream->Write(numbered(id, std::to_string(id), static_cast<int>(id % 3))));
  }
  stream->WritesDone();
  std::map<int, int64_t> next;
  v1::ProduceResponse response;
  for (uint64_t id = 1; id <= kRequests; ++id) {
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(response.request_id(), id);
    ASSERT_EQ(response.positions_size(), 1);
    EXPECT_EQ(response.positions(0).offset(), next[response.positions(0).partition()]++);
  }
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ProduceStreamTest, GoesOnAfterARefusalAndKeepsTheOrderOfThePartition) {
  Call call;
  auto stream = data_->ProduceStream(&call);
  stream->Write(numbered(1, "first"));
  stream->Write(numbered(2, std::string(2 << 20, 'x')));  // over max.message.bytes
  stream->Write(numbered(3, "too early"));
  stream->Write(numbered(4, "elsewhere", 1));
  v1::ProduceRequest resumed = numbered(5, "second");
  resumed.set_resume(true);
  stream->Write(resumed);
  stream->Write(numbered(6, "third"));
  stream->WritesDone();
  std::vector<std::string> codes;
  v1::ProduceResponse response;
  while (stream->Read(&response)) {
    codes.push_back(response.error().code());
    if (response.has_error()) {
      EXPECT_EQ(response.error().outcome(), kNotWritten);
    }
  }
  EXPECT_THAT(codes, ElementsAre("", "RECORD_TOO_LARGE", "PREVIOUS_FAILED", "", "", ""));
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_THAT(values("orders", 0), ElementsAre("first", "second", "third"));
  EXPECT_THAT(values("orders", 1), ElementsAre("elsewhere"));
}

TEST_F(ProduceStreamTest, PipelinesRequestsWithSequencesAndNamesTheCauseOfAGap) {
  v1::InitProducerResponse producer;
  Call init;
  ASSERT_TRUE(data_->InitProducer(&init, {}, &producer).ok());
  auto with_sequence = [&](uint64_t id, int32_t sequence, const std::string& value) {
    v1::ProduceRequest request = numbered(id, value);
    request.mutable_sequence()->set_producer_id(producer.producer_id());
    request.mutable_sequence()->set_producer_epoch(producer.producer_epoch());
    request.mutable_sequence()->set_base_sequence(sequence);
    return request;
  };
  Call call;
  auto stream = data_->ProduceStream(&call);
  stream->Write(with_sequence(1, 0, "a"));
  stream->Write(with_sequence(2, 1, std::string(2 << 20, 'x')));
  stream->Write(with_sequence(3, 2, "c"));
  stream->WritesDone();
  std::vector<std::string> codes;
  v1::ProduceResponse response;
  while (stream->Read(&response)) codes.push_back(response.error().code());
  EXPECT_THAT(codes, ElementsAre("", "RECORD_TOO_LARGE", "PREVIOUS_FAILED"));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ProduceStreamTest, AnswersAMessageThatIsNoneAndGoesOn) {
  Call call;
  auto stream = data_->ProduceStream(&call);
  v1::ProduceRequest unknown = numbered(1, "a");
  unknown.GetReflection()->MutableUnknownFields(&unknown)->AddVarint(25, 1);
  stream->Write(unknown);
  v1::ProduceRequest resumed = numbered(2, "b");
  resumed.set_resume(true);
  stream->Write(resumed);
  stream->WritesDone();
  v1::ProduceResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.error().code(), "UNSUPPORTED_FIELD");
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_FALSE(response.has_error());
  EXPECT_TRUE(stream->Finish().ok());
}

// gRPC sends the headers of an answer with its first message, and says that the message is out when both are: one that
// is held back for the next, which waits for just that, would stay for ever.
TEST_F(ProduceStreamTest, AnswersTheFirstRequestsThoughAllAnswersCameAtOnce) {
  const auto begun = std::chrono::steady_clock::now();
  for (int round = 0; round < 50; ++round) {
    Call call;
    auto stream = data_->ProduceStream(&call);
    v1::ProduceRequest refused = numbered(2, "b", 1);
    refused.GetReflection()->MutableUnknownFields(&refused)->AddVarint(25, 1);
    stream->Write(numbered(1, "a"), grpc::WriteOptions().set_buffer_hint());  // needs the disk
    stream->Write(refused);                                                   // needs nothing: is answered before
    v1::ProduceResponse response;
    for (uint64_t id = 1; id <= 2; ++id) ASSERT_TRUE(stream->Read(&response));
    stream->WritesDone();
    EXPECT_TRUE(stream->Finish().ok());
  }
  // A second for all; most of a second for each that stayed until the connection was flushed for another reason.
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(20));
}

TEST_F(ProduceStreamTest, GivesOutstandingAnswersAndThenUnavailableWhenTheNodeStops) {
  Call call;
  auto stream = data_->ProduceStream(&call);
  stream->Write(numbered(1, "before"));
  v1::ProduceResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_FALSE(response.has_error());
  auto draining = std::async(std::launch::async, [&] { return server_->drain(30'000); });
  EXPECT_FALSE(stream->Read(&response));
  grpc::Status status = stream->Finish();
  EXPECT_THAT(refusal_of(status, call), IsRefused(StatusCode::UNAVAILABLE, "NODE_STOPPING", kNotWritten));
  EXPECT_TRUE(draining.get());
  EXPECT_THAT(refused(records("orders", {"after"})), IsRefused(StatusCode::UNAVAILABLE, "NODE_STOPPING", kNotWritten));
}

TEST_F(ProduceStreamTest, ServesOthersWhileAThousandStreamsAreOpenAndAfterTheyVanished) {
  std::vector<std::unique_ptr<Call>> calls;
  std::vector<std::unique_ptr<ProduceClient>> streams;
  for (int i = 0; i < 1'000; ++i) {
    calls.push_back(std::make_unique<Call>());
    streams.push_back(data_->ProduceStream(calls.back().get()));
    ASSERT_TRUE(streams.back()->Write(numbered(1, "x")));
  }
  v1::ProduceResponse response;
  for (auto& stream : streams) {
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_FALSE(response.has_error());
  }
  for (auto& call : calls) call->TryCancel();
  for (auto& stream : streams) EXPECT_EQ(stream->Finish().error_code(), StatusCode::CANCELLED);
  EXPECT_EQ(produce(records("orders", {"y"})).positions(0).offset(), 1'000);
}

class ConsumeTest : public EdgeTest {
 protected:
  void SetUp() override {
    start();
    create_topic("orders", 2);
  }
  static v1::ConsumeRequest start_of(const std::string& topic, const std::string& group = {}, uint64_t credit = 0) {
    v1::ConsumeRequest request;
    request.mutable_start()->add_topics(topic);
    request.mutable_start()->set_group(group);
    request.mutable_start()->set_credit_bytes(credit);
    return request;
  }
  static v1::ConsumeRequest commit_of(uint64_t id, int partition, int64_t offset) {
    v1::ConsumeRequest request;
    request.mutable_commit()->set_request_id(id);
    auto& entry = *request.mutable_commit()->add_offsets();
    entry.set_topic("orders");
    entry.set_partition(partition);
    entry.set_offset(offset);
    return request;
  }
  // The next event of a kind; others are passed over.
  static v1::ConsumeResponse next(ConsumeClient& stream, v1::ConsumeResponse::EventCase kind) {
    v1::ConsumeResponse response;
    while (stream.Read(&response)) {
      if (response.event_case() == kind) return response;
    }
    // Ends the test, and with it loops that wait for something.
    throw std::runtime_error("the stream ended: " + stream.Finish().error_message());
  }
  static v1::ConsumeResponse next_records(ConsumeClient& stream) { return next(stream, v1::ConsumeResponse::kRecords); }
};

TEST_F(ConsumeTest, PushesWhatIsThereSaysWhenItIsCaughtUpAndPushesWhatComes) {
  produce(records("orders", {"a", "b"}));
  Call call;
  auto stream = data_->Consume(&call);
  stream->Write(start_of("orders"));
  v1::ConsumeResponse response = next_records(*stream);
  EXPECT_EQ(response.records().records_size(), 2);
  EXPECT_EQ(response.records().next_offset(), 2);
  EXPECT_EQ(response.credit_used(), 2u);
  std::set<int> caught_up;
  while (caught_up.size() < 2) {
    v1::ConsumeResponse event = next(*stream, v1::ConsumeResponse::kCaughtUp);
    for (const auto& position : event.caught_up().partitions()) {
      caught_up.insert(position.partition());
    }
  }
  produce(records("orders", {"c"}, 1));
  response = next_records(*stream);
  EXPECT_EQ(response.records().partition(), 1);
  EXPECT_EQ(response.records().records(0).value(), "c");
  EXPECT_EQ(next(*stream, v1::ConsumeResponse::kCaughtUp).caught_up().partitions(0).offset(), 1);
}

TEST_F(ConsumeTest, TellsNoEndBeforeTheRecordsThatLieBeforeIt) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // the window stays small
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  auto reader = v1::Broker::NewStub(
      grpc::CreateCustomChannel(server_->addresses()[0], grpc::InsecureChannelCredentials(), arguments));
  Call call;
  auto stream = reader->Consume(&call);
  stream->Write(start_of("orders"));
  int64_t end = 0;
  int64_t read = 0;
  for (int round = 0; round < 60; ++round) {
    // The first fills the window, so that what comes after it has to wait together.
    for (size_t bytes : {300'000, 1, 1})
      end = produce(records("orders", {std::string(bytes, 'x')})).positions(0).offset();
    ++end;
    v1::ConsumeResponse response;
    while (read < end) {
      ASSERT_TRUE(stream->Read(&response));
      if (response.has_records()) read = response.records().next_offset();
      for (const auto& position : response.caught_up().partitions()) {
        if (position.partition() == 0) {
          ASSERT_LE(position.offset(), read);
        }
      }
    }
  }
}

TEST_F(ConsumeTest, KeepsRunningWhenTheClientOnlyListens) {
  Call call;
  auto stream = data_->Consume(&call);
  stream->Write(start_of("orders"));
  stream->WritesDone();
  next(*stream, v1::ConsumeResponse::kCaughtUp);
  produce(records("orders", {"a"}));
  EXPECT_EQ(next_records(*stream).records().records(0).value(), "a");
}

TEST_F(ConsumeTest, SendsOnlyAsMuchAsTheCreditAllowsAndALargerRecordAllTheSame) {
  std::vector<std::string> written;
  for (int i = 0; i < 10; ++i) written.push_back(std::string(100, static_cast<char>('a' + i)));
  produce(records("orders", written));
  Call call;
  auto stream = data_->Consume(&call);
  stream->Write(start_of("orders", "", 250));
  v1::ConsumeResponse response = next_records(*stream);
  EXPECT_EQ(response.records().records_size(), 3) << "while credit is above 0 one more goes, and it may go below";
  EXPECT_EQ(response.credit_used(), 300u);
  v1::ConsumeRequest more;
  more.set_credit_bytes(51);  // 1 byte above 0
  stream->Write(more);
  response = next_records(*stream);
  EXPECT_EQ(response.records().records_size(), 1);
  EXPECT_EQ(response.records().records(0).offset(), 3);
}

TEST_F(ConsumeTest, SendsNothingFromTheOldPositionAfterASeek) {
  std::vector<std::string> written;
  for (int i = 0; i < 200; ++i) written.push_back(std::string(5'000, 'x'));
  produce(records("orders", written));
  Call call;
  auto stream = data_->Consume(&call);
  stream->Write(start_of("orders", "", 20'000));
  next_records(*stream);
  v1::ConsumeRequest seek;
  seek.mutable_seek()->set_topic("orders");
  seek.mutable_seek()->set_offset(150);
  stream->Write(seek);
  v1::ConsumeRequest credit;
  credit.set_credit_bytes(10'000'000);
  stream->Write(credit);
  int64_t expected = 150;
  while (expected < 200) {
    v1::ConsumeResponse response = next_records(*stream);
    for (const auto& record : response.records().records()) ASSERT_EQ(record.offset(), expected++);
  }
}

TEST_F(ConsumeTest, TakesASeekRightBehindTheStart) {
  produce(records("orders", {"a", "b", "c"}));
  Call call;
  auto stream = data_->Consume(&call);
  stream->Write(start_of("orders"));
  v1::ConsumeRequest seek;
  seek.mutable_seek()->set_topic("orders");
  seek.mutable_seek()->set_offset(2);
  stream->Write(seek);
  v1::ConsumeResponse response;
  while (stream->Read(&response) && response.records().records_size() != 1) ASSERT_FALSE(response.has_error());
  EXPECT_EQ(response.records().records(0).value(), "c");
}

TEST_F(ConsumeTest, SeeksToATime) {
  v1::ProduceRequest request = records("orders", {"a", "b", "c"});
  for (int i = 0; i < 3; ++i) request.mutable_records(i)->set_timestamp_ms(1'000 * (i + 1));
  produce(request);
  Call call;
  auto stream = data_->Consume(&call);
  stream->Write(start_of("orders"));
  next_records(*stream);
  v1::ConsumeRequest seek;
  seek.mutable_seek()->set_topic("orders");
  seek.mutable_seek()->set_timestamp_ms(2'000);
  stream->Write(seek);
  EXPECT_EQ(next_records(*stream).records().records(0).value(), "b");
}

TEST_F(ConsumeTest, RestsAPausedPartition) {
  Call call;
  auto stream = data_->Consume(&call);
  stream->Write(start_of("orders"));
  next(*stream, v1::ConsumeResponse::kCaughtUp);
  v1::ConsumeRequest pause;
  pause.mutable_pause()->add_partitions()->set_topic("orders");
  pause.mutable_pause()->set_paused(true);
  stream->Write(pause);
  v1::ConsumeRequest probe;  // answered after the pause was taken
  probe.mutable_seek()->set_topic("nowhere");
  stream->Write(probe);
  EXPECT_EQ(next(*stream, v1::ConsumeResponse::kError).error().error().code(), "UNKNOWN_PARTITION");
  produce(records("orders", {"held back"}, 0));
  produce(records("orders", {"other"}, 1));
  EXPECT_EQ(next_records(*stream).records().partition(), 1);
  pause.mutable_pause()->set_paused(false);
  stream->Write(pause);
  EXPECT_EQ(next_records(*stream).records().records(0).value(), "held back");
}

TEST_F(ConsumeTest, CommitsForItsGroupAndGoesOnThere) {
  produce(records("orders", {"a", "b", "c"}));
  {
    Call call;
    auto stream = data_->Consume(&call);
    stream->Write(start_of("orders", "billing"));
    next_records(*stream);
    stream->Write(commit_of(5, 0, 2));
    v1::ConsumeResponse response = next(*stream, v1::ConsumeResponse::kCommitted);
    EXPECT_EQ(response.committed().request_id(), 5u);
    ASSERT_EQ(response.committed().offsets_size(), 1);
    EXPECT_FALSE(response.committed().offsets(0).has_error()) << response.ShortDebugString();
    call.TryCancel();
    stream->Finish();
  }
  v1::FetchOffsetsRequest query;
  query.set_group("billing");
  v1::FetchOffsetsResponse offsets;
  Call fetch_call;
  ASSERT_TRUE(data_->FetchOffsets(&fetch_call, query, &offsets).ok());
  ASSERT_EQ(offsets.offsets_size(), 1);
  EXPECT_EQ(offsets.offsets(0).offset(), 2);

  // The group is free once the server has noticed that its reader is gone.
  for (;;) {
    Call call;
    auto stream = data_->Consume(&call);
    stream->Write(start_of("orders", "billing"));
    v1::ConsumeResponse response;
    if (!stream->Read(&response)) {
      grpc::Status status = stream->Finish();
      ASSERT_EQ(refusal_of(status, call).error.code(), "GROUP_IN_USE");
      continue;
    }
    while (response.event_case() != v1::ConsumeResponse::kRecords) ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(response.records().records(0).value(), "c");
    break;
  }
}

TEST_F(ConsumeTest, RefusesASecondReaderOfAGroupAndCommitsBesideIt) {
  Call call;
  call.AddMetadata("trilog-client", "billing-app/1.0");
  auto stream = data_->Consume(&call);
  stream->Write(start_of("orders", "billing"));
  next(*stream, v1::ConsumeResponse::kCaughtUp);
  Refusal refusal = refused(start_of("orders", "billing"));
  EXPECT_THAT(refusal, IsRefused(StatusCode::FAILED_PRECONDITION, "GROUP_IN_USE", kNotWritten));
  EXPECT_THAT(refusal.error.message(), testing::HasSubstr("billing-app/1.0"));

  v1::CommitOffsetsRequest commit;
  commit.set_group("billing");
  auto& entry = *commit.add_offsets();
  entry.set_topic("orders");
  entry.set_offset(0);
  v1::CommitOffsetsResponse committed;
  Call commit_call;
  grpc::Status status = data_->CommitOffsets(&commit_call, commit, &committed);
  EXPECT_THAT(refusal_of(status, commit_call), IsRefused(StatusCode::FAILED_PRECONDITION, "GROUP_IN_USE", kNotWritten));
  v1::DeleteGroupRequest remove;
  remove.set_group("billing");
  v1::DeleteGroupResponse removed;
  Call remove_call;
  status = admin_->DeleteGroup(&remove_call, remove, &removed);
  EXPECT_THAT(refusal_of(status, remove_call),
              IsRefused(StatusCode::FAILED_PRECONDITION, "GROUP_NOT_EMPTY", kNotWritten));
}

TEST_F(ConsumeTest, RefusesStartsThatMakeNoSense) {
  auto is_invalid = IsRefused(StatusCode::INVALID_ARGUMENT, "INVALID_REQUEST", kNotWritten);
  v1::ConsumeRequest empty;
  empty.mutable_start();
  EXPECT_THAT(refused(empty), is_invalid);
  v1::ConsumeRequest credit;
  credit.set_credit_bytes(1);
  EXPECT_THAT(refused(credit), is_invalid);
  v1::ConsumeRequest negative;
  negative.mutable_start()->add_positions()->set_topic("orders");
  negative.mutable_start()->mutable_positions(0)->set_partition(-1);
  EXPECT_THAT(refused(negative), is_invalid);
  EXPECT_THAT(refused(start_of("ordesr")), IsRefused(StatusCode::NOT_FOUND, "UNKNOWN_TOPIC", kNotWritten));
  EXPECT_THAT(refused(start_of("orders", "bad\x01group")), is_invalid);
}

TEST_F(ConsumeTest, RestsAPartitionThatFailedUntilASeekAndServesTheOthers) {
  produce(records("orders", {"a"}, 1));
  Call call;
  auto stream = data_->Consume(&call);
  v1::ConsumeRequest request;
  v1::Position& bad = *request.mutable_start()->add_positions();
  bad.set_topic("orders");
  bad.set_offset(77);
  v1::Position& good = *request.mutable_start()->add_positions();
  good.set_topic("orders");
  good.set_partition(1);
  stream->Write(request);
  v1::ConsumeResponse response;
  bool failed = false;
  bool served = false;
  while (!failed || !served) {
    ASSERT_TRUE(stream->Read(&response));
    if (response.has_error()) {
      EXPECT_EQ(response.error().error().code(), "OFFSET_OUT_OF_RANGE");
      EXPECT_EQ(response.error().position().offset(), 77);
      failed = true;
    }
    if (response.has_records()) served = response.records().partition() == 1;
  }
  v1::ConsumeRequest seek;
  seek.mutable_seek()->set_topic("orders");
  seek.mutable_seek()->set_offset(0);
  stream->Write(seek);
  produce(records("orders", {"b"}, 0));
  EXPECT_EQ(next_records(*stream).records().records(0).value(), "b");
}

TEST_F(ConsumeTest, ReadsPartitionsThatATopicGetsLater) {
  Call call;
  auto stream = data_->Consume(&call);
  stream->Write(start_of("orders"));
  next(*stream, v1::ConsumeResponse::kCaughtUp);
  v1::AlterTopicRequest alter;
  alter.set_name("orders");
  alter.set_partitions(3);
  v1::AlterTopicResponse altered;
  Call alter_call;
  ASSERT_TRUE(admin_->AlterTopic(&alter_call, alter, &altered).ok());
  produce(records("orders", {"wakes the stream"}, 0));
  produce(records("orders", {"in the new one"}, 2));
  std::set<std::string> seen;
  while (seen.size() < 2) {
    v1::ConsumeResponse response = next_records(*stream);
    for (const auto& record : response.records().records()) seen.insert(record.value());
  }
}

TEST_F(ConsumeTest, EndsWithUnavailableWhenTheNodeStops) {
  Call call;
  auto stream = data_->Consume(&call);
  stream->Write(start_of("orders"));
  next(*stream, v1::ConsumeResponse::kCaughtUp);
  auto draining = std::async(std::launch::async, [&] { return server_->drain(30'000); });
  v1::ConsumeResponse response;
  while (stream->Read(&response)) {
  }
  grpc::Status status = stream->Finish();
  EXPECT_THAT(refusal_of(status, call), IsRefused(StatusCode::UNAVAILABLE, "NODE_STOPPING", kNotWritten));
  EXPECT_TRUE(draining.get());
}

TEST_F(ConsumeTest, ServesOthersBesideClientsThatNeverRead) {
  std::string value(200'000, 'x');
  for (int i = 0; i < 50; ++i) produce(records("orders", {value}));
  std::vector<std::unique_ptr<Call>> calls;
  std::vector<std::unique_ptr<ConsumeClient>> streams;
  for (int i = 0; i < 50; ++i) {
    calls.push_back(std::make_unique<Call>());
    streams.push_back(data_->Consume(calls.back().get()));
    streams.back()->Write(start_of("orders"));
  }
  EXPECT_EQ(fetch(fetch_request("orders", 49)).records_size(), 1) << "others are served";
  for (auto& call : calls) call->TryCancel();
  for (auto& stream : streams) stream->Finish();
}

}  // namespace
}  // namespace trilog
