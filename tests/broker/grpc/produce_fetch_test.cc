#include <thread>

#include "storage/base/crc32c.h"
#include "storage/record/record_batch_builder.h"
#include "tests/broker/grpc/edge_fixture.h"

namespace trilog {
namespace {

using grpc::StatusCode;
using testing::ElementsAre;
using testing::HasSubstr;

class ProduceTest : public EdgeTest {
 protected:
  void SetUp() override {
    start();
    create_topic("orders");
  }
  static std::string batch_of(const std::vector<std::string>& values, Codec codec = Codec::kNone) {
    RecordBatchBuilder builder(codec);
    for (const auto& value : values) builder.add(1'000, std::nullopt, as_bytes(value));
    return std::string(as_text(*builder.build()));
  }
  static v1::ProduceRequest batch(const std::string& bytes, int partition = 0) {
    v1::ProduceRequest request;
    request.set_topic("orders");
    request.set_partition(partition);
    request.set_record_batch(bytes);
    return request;
  }
};

TEST_F(ProduceTest, AnswersWhereEachRecordWentAndHowDurableItIs) {
  v1::ProduceRequest request = records("orders", {"a", "b"});
  request.mutable_records(1)->set_timestamp_ms(77);
  request.set_request_id(9);
  v1::ProduceResponse response = produce(request);
  ASSERT_EQ(response.positions_size(), 2);
  EXPECT_EQ(response.request_id(), 9u);
  EXPECT_EQ(response.positions(0).offset(), 0);
  EXPECT_EQ(response.positions(1).offset(), 1);
  EXPECT_EQ(response.positions(1).timestamp_ms(), 77);
  EXPECT_GT(response.positions(0).timestamp_ms(), 1'600'000'000'000);
  EXPECT_EQ(response.failed(), 0u);
  EXPECT_EQ(response.durability(), "synced");
  EXPECT_EQ(response.synced_replicas(), 1);
  EXPECT_EQ(response.replicas(), 1);
  EXPECT_FALSE(response.topic_created());
}

TEST_F(ProduceTest, KeepsKeysHeadersTimestampsAndTheDifferenceBetweenAbsentAndEmpty) {
  v1::ProduceRequest request;
  request.set_topic("orders");
  request.set_partition(0);
  v1::Record& full = *request.add_records();
  full.set_key("k");
  full.set_value("v");
  full.set_timestamp_ms(1'234);
  full.set_offset(99);  // the broker decides
  auto& header = *full.add_headers();
  header.set_key("h");
  header.set_value(std::string("\0\xff", 2));
  full.add_headers()->set_key("without");
  v1::Record& empty = *request.add_records();
  empty.set_key("");
  empty.set_value("");
  request.add_records()->set_key("tombstone");
  produce(request);

  v1::FetchedPartition part = fetch(fetch_request("orders", 0));
  ASSERT_EQ(part.records_size(), 3);
  const v1::Record& first = part.records(0);
  EXPECT_EQ(first.key(), "k");
  EXPECT_EQ(first.value(), "v");
  EXPECT_EQ(first.timestamp_ms(), 1'234);
  EXPECT_EQ(first.offset(), 0);
  ASSERT_EQ(first.headers_size(), 2);
  EXPECT_EQ(first.headers(0).key(), "h");
  EXPECT_EQ(first.headers(0).value(), std::string("\0\xff", 2));
  EXPECT_FALSE(first.headers(1).has_value());
  EXPECT_TRUE(part.records(1).has_key());
  EXPECT_TRUE(part.records(1).has_value());
  EXPECT_EQ(part.records(1).value(), "");
  EXPECT_FALSE(part.records(2).has_value());
  EXPECT_EQ(part.records(2).offset(), 2);
  EXPECT_EQ(part.next_offset(), 3);
  EXPECT_EQ(part.high_watermark(), 3);
}

TEST_F(ProduceTest, PutsRecordsWithOneKeyIntoOnePartition) {
  create_topic("keyed", 5);
  v1::ProduceRequest request;
  request.set_topic("keyed");
  for (int i = 0; i < 20; ++i) request.add_records()->set_key("customer-" + std::to_string(i % 4));
  v1::ProduceResponse response = produce(request);
  ASSERT_EQ(response.positions_size(), 20);
  for (int i = 4; i < 20; ++i) EXPECT_EQ(response.positions(i).partition(), response.positions(i - 4).partition());
}

TEST_F(ProduceTest, StoresARecordBatchAsItIs) {
  std::string bytes = batch_of({"x", "y"}, Codec::kZstd) + batch_of({"z"});
  v1::ProduceResponse response = produce(batch(bytes));
  ASSERT_EQ(response.positions_size(), 2);
  EXPECT_EQ(response.positions(0).offset(), 0);
  EXPECT_EQ(response.positions(1).offset(), 2);
  EXPECT_THAT(values("orders"), ElementsAre("x", "y", "z"));

  v1::FetchRequest request = fetch_request("orders", 1);
  request.set_encoding(v1::FetchRequest::RECORD_BATCHES);
  v1::FetchedPartition part = fetch(request);
  ASSERT_EQ(part.record_batches_size(), 2);
  // Only what the broker stamps differs: base offset and leader epoch, outside the checksum.
  EXPECT_EQ(part.record_batches(0).substr(17), batch_of({"x", "y"}, Codec::kZstd).substr(17));
  EXPECT_EQ(part.next_offset(), 3);
}

TEST_F(ProduceTest, SendsBatchesInACodecTheClientCannotReadUncompressed) {
  for (Codec codec : {Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd}) {
    produce(batch(batch_of({std::string(10'000, 'a'), std::string(codec_name(codec))}, codec)));
  }
  v1::FetchRequest request = fetch_request("orders", 0);
  request.set_encoding(v1::FetchRequest::RECORD_BATCHES);
  request.add_codecs("none");
  request.add_codecs("lz4");
  v1::FetchedPartition part = fetch(request);
  ASSERT_EQ(part.record_batches_size(), 4);
  for (int i = 0; i < 4; ++i) {
    auto parsed = RecordBatch::parse(as_bytes(part.record_batches(i)));
    ASSERT_TRUE(parsed.ok());
    EXPECT_TRUE(parsed->crc_matches());
    EXPECT_EQ(parsed->codec(), i == 2 ? Codec::kLz4 : Codec::kNone);
    EXPECT_EQ(parsed->base_offset(), Offset(2 * i));
    EXPECT_EQ(parsed->record_count(), 2);
  }
  request.add_codecs("brotli");
  EXPECT_THAT(refused(request), IsRefused(StatusCode::UNIMPLEMENTED, "UNSUPPORTED_CODEC", kNotWritten));
}

TEST_F(ProduceTest, RecognisesARepeatBySequence) {
  v1::InitProducerResponse producer;
  Call call;
  ASSERT_TRUE(data_->InitProducer(&call, {}, &producer).ok());
  v1::ProduceRequest request = records("orders", {"once"});
  request.mutable_sequence()->set_producer_id(producer.producer_id());
  request.mutable_sequence()->set_producer_epoch(producer.producer_epoch());
  EXPECT_FALSE(produce(request).positions(0).duplicate());
  v1::ProduceResponse again = produce(request);
  EXPECT_TRUE(again.positions(0).duplicate());
  EXPECT_EQ(again.positions(0).offset(), 0);
  EXPECT_THAT(values("orders"), ElementsAre("once"));

  request.mutable_sequence()->set_base_sequence(7);
  EXPECT_THAT(refused(request), IsRefused(StatusCode::ABORTED, "OUT_OF_ORDER_SEQUENCE", kNotWritten));
  request.mutable_sequence()->set_producer_epoch(producer.producer_epoch() - 1);
  EXPECT_THAT(refused(request), IsRefused(StatusCode::INVALID_ARGUMENT, "INVALID_REQUEST", kNotWritten));
}

TEST_F(ProduceTest, RefusesRequestsThatMakeNoSense) {
  auto is_invalid = IsRefused(StatusCode::INVALID_ARGUMENT, "INVALID_REQUEST", kNotWritten);
  EXPECT_THAT(refused(v1::ProduceRequest()), is_invalid);
  EXPECT_THAT(refused(records("orders", {})), is_invalid);
  v1::ProduceRequest both = records("orders", {"a"});
  both.set_record_batch(batch_of({"b"}));
  EXPECT_THAT(refused(both), is_invalid);
  EXPECT_THAT(refused(records("orders", {"a"}, -1)), is_invalid);
  v1::ProduceRequest no_partition = batch(batch_of({"a"}));
  no_partition.clear_partition();
  EXPECT_THAT(refused(no_partition), is_invalid);
  v1::ProduceRequest acks = records("orders", {"a"});
  acks.set_acks(static_cast<v1::ProduceRequest::Acks>(17));
  EXPECT_THAT(refused(acks), is_invalid);
  v1::ProduceRequest sequence = records("orders", {"a"}, std::nullopt);
  sequence.mutable_sequence()->set_producer_id(1);
  EXPECT_THAT(refused(sequence), is_invalid);
  v1::ProduceRequest timestamp = records("orders", {"a"});
  timestamp.mutable_records(0)->set_timestamp_ms(-5);
  EXPECT_THAT(refused(timestamp), is_invalid);
  EXPECT_THAT(values("orders"), testing::IsEmpty());
}

TEST_F(ProduceTest, NamesTopicsAndPartitionsThatDoNotExist) {
  Refusal unknown = refused(records("ordesr", {"a"}));
  EXPECT_THAT(unknown, IsRefused(StatusCode::NOT_FOUND, "UNKNOWN_TOPIC", kNotWritten));
  EXPECT_THAT(unknown.error.message(), HasSubstr("did you mean orders"));
  EXPECT_THAT(refused(records("orders", {"a"}, 7)), IsRefused(StatusCode::NOT_FOUND, "UNKNOWN_PARTITION", kNotWritten));
}

TEST_F(ProduceTest, RefusesTopicNamesThatAreNone) {
  for (const std::string& name :
       {std::string("."), std::string(".."), std::string("/"), std::string("a/b"), std::string("a\0b", 3),
        std::string(300, 'x'), std::string("Bücher"), std::string("注文"), std::string(" ")}) {
    EXPECT_THAT(refused(records(name, {"a"})), IsRefused(StatusCode::INVALID_ARGUMENT, "INVALID_TOPIC", kNotWritten))
        << name;
    v1::CreateTopicRequest create;
    create.set_name(name);
    v1::CreateTopicResponse response;
    Call call;
    grpc::Status status = admin_->CreateTopic(&call, create, &response);
    EXPECT_THAT(refusal_of(status, call), IsRefused(StatusCode::INVALID_ARGUMENT, "INVALID_TOPIC", kNotWritten))
        << name;
  }
}

TEST_F(ProduceTest, RefusesDamagedBatchesWithAReason) {
  auto is_corrupt = IsRefused(StatusCode::INVALID_ARGUMENT, "CORRUPT_BATCH", kNotWritten);
  std::string good = batch_of({"a", "b"});
  auto with_byte = [&](size_t at, char value) {
    std::string bad = good;
    bad[at] = value;
    return bad;
  };
  auto resealed = [](std::string bytes) {
    uint32_t crc = crc32c(as_bytes(bytes).subspan(kBatchCrcStart));
    store_big_endian<uint32_t>(reinterpret_cast<std::byte*>(bytes.data()) + 17, crc);
    return bytes;
  };
  EXPECT_THAT(refused(batch(with_byte(17, 1))), is_corrupt) << "checksum";
  EXPECT_THAT(refused(batch(with_byte(16, 1))), is_corrupt) << "magic";
  EXPECT_THAT(refused(batch(with_byte(11, 1))), is_corrupt) << "length";
  EXPECT_THAT(refused(batch(resealed(with_byte(60, 9)))), is_corrupt) << "count";
  EXPECT_THAT(refused(batch(good.substr(0, good.size() - 1))), is_corrupt) << "cut off";
  EXPECT_THAT(refused(batch("rubbish")), is_corrupt) << "not a batch";
  EXPECT_THAT(refused(batch(good + "x")), is_corrupt) << "trailing byte";
  EXPECT_THAT(values("orders"), testing::IsEmpty());
}

TEST_F(ProduceTest, RefusesARecordOverTheLimitOfItsTopicAndNamesIt) {
  create_topic("small", 1, {{"max.message.bytes", "2000"}});
  Refusal refusal = refused(records("small", {"fits", std::string(3'000, 'x')}));
  EXPECT_THAT(refusal, IsRefused(StatusCode::INVALID_ARGUMENT, "RECORD_TOO_LARGE", kNotWritten));
  EXPECT_EQ(refusal.error.details().at("limit"), "2000");
  EXPECT_THAT(values("small"), testing::IsEmpty()) << "all records are checked before any is appended";
}

TEST_F(ProduceTest, RefusesARequestOverTheLimitItself) {
  Refusal refusal = refused(records("orders", {std::string(options_.request_bytes_max + 1, 'x')}));
  EXPECT_THAT(refusal, IsRefused(StatusCode::INVALID_ARGUMENT, "RECORD_TOO_LARGE", kNotWritten));
  EXPECT_EQ(refusal.error.details().at("limit"), std::to_string(options_.request_bytes_max));
}

TEST_F(ProduceTest, AcceptsCompressedMessages) {
  v1::ProduceRequest request = records("orders", {std::string(100'000, 'x')});
  v1::ProduceResponse response;
  Call call;
  call.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  ASSERT_TRUE(data_->Produce(&call, request, &response).ok());
  EXPECT_EQ(values("orders")[0].size(), 100'000u);
}

TEST_F(ProduceTest, RefusesFieldsItDoesNotKnowInAWriteAtAnyDepth) {
  auto with_unknown = [](auto message, uint32_t number) {
    message.GetReflection()->MutableUnknownFields(&message)->AddVarint(static_cast<int>(number), 1);
    return message;
  };
  auto expect_field = [&](const v1::ProduceRequest& request, const std::string& number) {
    Refusal refusal = refused(request);
    EXPECT_THAT(refusal, IsRefused(StatusCode::UNIMPLEMENTED, "UNSUPPORTED_FIELD", kNotWritten));
    EXPECT_EQ(refusal.error.details().at("field"), number);
  };
  expect_field(with_unknown(records("orders", {"a"}), 20), "20");
  v1::ProduceRequest request = records("orders", {"a"});
  *request.mutable_records(0) = with_unknown(request.records(0), 11);
  expect_field(request, "11");
  request = records("orders", {"a"});
  *request.mutable_records(0)->add_headers() = with_unknown(v1::Header(), 3);
  expect_field(request, "3");
  request = records("orders", {"a"});
  *request.mutable_sequence() = with_unknown(v1::Sequence(), 4);
  expect_field(request, "4");

  v1::CreateTopicRequest create;
  create.set_name("new");
  v1::CreateTopicResponse response;
  Call call;
  grpc::Status status = admin_->CreateTopic(&call, with_unknown(create, 1'234), &response);
  EXPECT_THAT(refusal_of(status, call), IsRefused(StatusCode::UNIMPLEMENTED, "UNSUPPORTED_FIELD", kNotWritten));

  v1::CommitOffsetsRequest commit;
  commit.set_group("g");
  *commit.add_offsets() = with_unknown(v1::CommittedOffset(), 90);
  v1::CommitOffsetsResponse committed;
  Call second;
  status = data_->CommitOffsets(&second, commit, &committed);
  EXPECT_THAT(refusal_of(status, second), IsRefused(StatusCode::UNIMPLEMENTED, "UNSUPPORTED_FIELD", kNotWritten));
}

TEST_F(ProduceTest, ReportsDamageToReadersOfRecordsAndGivesRawBatchesToOthers) {
  std::string bad = batch_of({std::string(1'000, 'a')}, Codec::kGzip);
  for (size_t i = kBatchHeaderBytes + 12; i < bad.size(); ++i) bad[i] = static_cast<char>(i);
  uint32_t crc = crc32c(as_bytes(bad).subspan(kBatchCrcStart));
  store_big_endian<uint32_t>(reinterpret_cast<std::byte*>(bad.data()) + 17, crc);
  produce(batch(batch_of({"before"})));
  produce(batch(bad));
  produce(batch(batch_of({"after"})));

  v1::FetchedPartition part = fetch(fetch_request("orders", 0));
  EXPECT_EQ(part.records_size(), 1);
  EXPECT_EQ(part.next_offset(), 1);
  Refusal refusal = refused(fetch_request("orders", 1));
  EXPECT_THAT(refusal, IsRefused(StatusCode::DATA_LOSS, "DATA_DAMAGED", kNotApplicable));
  EXPECT_EQ(refusal.error.details().at("next_good_offset"), "2");
  EXPECT_EQ(fetch(fetch_request("orders", 2)).records(0).value(), "after");
  v1::FetchRequest raw = fetch_request("orders", 1);
  raw.set_encoding(v1::FetchRequest::RECORD_BATCHES);
  EXPECT_EQ(fetch(raw).record_batches_size(), 2);
}

class FetchTest : public EdgeTest {
 protected:
  void SetUp() override {
    start();
    create_topic("orders", 2);
  }
};

TEST_F(FetchTest, AnswersEmptyWhenTheTimeIsUp) {
  v1::FetchRequest request = fetch_request("orders", 0);
  request.set_max_wait_ms(20);
  v1::FetchedPartition part = fetch(request);
  EXPECT_EQ(part.records_size(), 0);
  EXPECT_EQ(part.next_offset(), 0);
}

TEST_F(FetchTest, WaitsForRecordsThatAreYetToCome) {
  v1::FetchRequest request = fetch_request("orders", 0);
  request.set_max_wait_ms(30'000);
  auto waiting = std::async(std::launch::async, [&] { return fetch(request); });
  produce(records("orders", {"news"}));
  EXPECT_EQ(waiting.get().records(0).value(), "news");
}

TEST_F(FetchTest, RefusesRequestsThatMakeNoSense) {
  auto is_invalid = IsRefused(StatusCode::INVALID_ARGUMENT, "INVALID_REQUEST", kNotWritten);
  EXPECT_THAT(refused(v1::FetchRequest()), is_invalid);
  v1::FetchRequest no_topic = fetch_request("", 0);
  EXPECT_THAT(refused(no_topic), is_invalid);
  EXPECT_THAT(refused(fetch_request("orders", -1)), is_invalid);
  EXPECT_THAT(refused(fetch_request("orders", 0, -1)), is_invalid);
  v1::FetchRequest encoding = fetch_request("orders", 0);
  encoding.set_encoding(static_cast<v1::FetchRequest::Encoding>(9));
  EXPECT_THAT(refused(encoding), is_invalid);
}

TEST_F(FetchTest, FailsAsAWholeForAnUnknownTopicOrWhenEveryPartitionHasTheSameError) {
  EXPECT_THAT(refused(fetch_request("ordesr", 0)), IsRefused(StatusCode::NOT_FOUND, "UNKNOWN_TOPIC", kNotWritten));
  EXPECT_THAT(refused(fetch_request("orders", 0, 9)),
              IsRefused(StatusCode::NOT_FOUND, "UNKNOWN_PARTITION", kNotWritten));
  produce(records("orders", {"a", "b"}));
  Refusal range = refused(fetch_request("orders", 3));
  EXPECT_THAT(range, IsRefused(StatusCode::OUT_OF_RANGE, "OFFSET_OUT_OF_RANGE", kNotApplicable));
  EXPECT_EQ(range.error.details().at("start_offset"), "0");
  EXPECT_EQ(range.error.details().at("end_offset"), "2");
}

TEST_F(FetchTest, KeepsAnErrorInItsPartitionWhenOthersAreFine) {
  produce(records("orders", {"a"}));
  v1::FetchRequest request = fetch_request("orders", 0);
  v1::Position& other = *request.add_partitions();
  other.set_partition(1);
  other.set_offset(50);
  v1::FetchResponse response;
  Call call;
  ASSERT_TRUE(data_->Fetch(&call, request, &response).ok());
  ASSERT_EQ(response.partitions_size(), 2);
  EXPECT_EQ(response.partitions(0).records_size(), 1);
  EXPECT_EQ(response.partitions(1).error().code(), "OFFSET_OUT_OF_RANGE");
}

TEST_F(FetchTest, StaysBelowWhatStockClientsAcceptAndGoesOnFromNextOffset) {
  std::string large(900'000, 'x');
  for (int i = 0; i < 8; ++i) produce(records("orders", {large + std::to_string(i)}));
  v1::FetchRequest request = fetch_request("orders", 0);
  request.set_max_bytes(3'500'000);
  int seen = 0;
  while (seen < 8) {
    v1::FetchResponse response;
    Call call;
    ASSERT_TRUE(data_->Fetch(&call, request, &response).ok());
    EXPECT_LE(response.ByteSizeLong(), 3'670'016u + 1'000);
    ASSERT_GT(response.partitions(0).records_size(), 0);
    for (const auto& record : response.partitions(0).records()) {
      EXPECT_EQ(record.value(), large + std::to_string(seen++));
    }
    request.mutable_partitions(0)->set_offset(response.partitions(0).next_offset());
  }
}

TEST_F(FetchTest, GivesARecordThatIsLargerThanAsked) {
  produce(records("orders", {std::string(500'000, 'x')}));
  v1::FetchRequest request = fetch_request("orders", 0);
  request.set_max_bytes(10);
  EXPECT_EQ(fetch(request).records_size(), 1);
}

TEST_F(FetchTest, IsNotHeldUpByAClientThatVanishes) {
  v1::FetchRequest request = fetch_request("orders", 0);
  request.set_max_wait_ms(60'000);
  for (int i = 0; i < 20; ++i) {
    v1::FetchResponse response;
    Call call;
    std::thread vanishes([&] { call.TryCancel(); });
    EXPECT_FALSE(data_->Fetch(&call, request, &response).ok());
    vanishes.join();
  }
  produce(records("orders", {"still here"}));
  EXPECT_EQ(fetch(fetch_request("orders", 0)).records_size(), 1);
}

TEST_F(FetchTest, FindsOffsetsByEndsAndByTime) {
  v1::ProduceRequest request = records("orders", {"a", "b", "c"});
  for (int i = 0; i < 3; ++i) request.mutable_records(i)->set_timestamp_ms(1'000 * (i + 1));
  produce(request);
  auto find = [&](v1::ListOffsetsRequest::Spec spec, std::optional<int64_t> time) {
    v1::ListOffsetsRequest query;
    query.set_topic("orders");
    query.set_spec(spec);
    v1::Position& position = *query.add_partitions();
    position.set_partition(0);
    if (time) position.set_timestamp_ms(*time);
    v1::ListOffsetsResponse response;
    Call call;
    grpc::Status status = data_->ListOffsets(&call, query, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.offsets_size() == 1 ? response.offsets(0) : v1::ListedOffset();
  };
  EXPECT_EQ(find(v1::ListOffsetsRequest::EARLIEST, std::nullopt).offset(), 0);
  EXPECT_EQ(find(v1::ListOffsetsRequest::LATEST, std::nullopt).offset(), 3);
  EXPECT_EQ(find(v1::ListOffsetsRequest::TIMESTAMP, 1'500).offset(), 1);
  EXPECT_EQ(find(v1::ListOffsetsRequest::SPEC_UNSPECIFIED, 3'000).offset(), 2);
  v1::ListedOffset none = find(v1::ListOffsetsRequest::TIMESTAMP, 9'000);
  EXPECT_EQ(none.offset(), 3);
  EXPECT_FALSE(none.has_timestamp_ms());
}

}  // namespace
}  // namespace trilog
