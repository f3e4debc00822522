#include "broker/grpc/wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "broker/grpc/grpc_error.h"
#include "broker/grpc/outbox.h"
#include "broker/grpc/produce_codec.h"
#include "broker/grpc/unary_call.h"
#include "trilog/v1/broker.pb.h"

namespace trilog::grpc_edge {
namespace {

// The same bytes cut into slices of `size`, as a connection may deliver them.
grpc::ByteBuffer in_slices(const std::string& bytes, size_t size) {
  std::vector<grpc::Slice> slices;
  for (size_t at = 0; at < bytes.size(); at += size) slices.emplace_back(bytes.substr(at, size));
  return {slices.data(), slices.size()};
}

v1::ProduceRequest some_request() {
  v1::ProduceRequest request;
  request.set_topic("orders");
  request.set_partition(3);
  request.set_timeout_ms(1'500);
  request.set_request_id(1ull << 60);
  request.set_acks(v1::ProduceRequest::LEADER);
  request.mutable_sequence()->set_producer_id(1ll << 40);
  request.mutable_sequence()->set_producer_epoch(32'767);
  request.mutable_sequence()->set_base_sequence(2'147'483'647);
  for (int i = 0; i < 5; ++i) {
    auto& record = *request.add_records();
    record.set_key("key " + std::to_string(i));
    record.set_value(std::string(static_cast<size_t>(i) * 50, 'v'));
    record.set_timestamp_ms(1'000 + i);
    record.add_headers()->set_key("h");
  }
  return request;
}

TEST(ReceivedMessage, ReadsTheSameRequestHoweverItIsCutIntoSlices) {
  std::string bytes = some_request().SerializeAsString();
  for (size_t size = 1; size <= bytes.size(); size += size < 64 ? 1 : 37) {
    ReceivedProduce received;
    auto error = parse_produce(in_slices(bytes, size), BrokerOptions(), received);
    ASSERT_FALSE(error.has_value()) << error->message;
    const api::ProduceRequest& request = received.request;
    EXPECT_EQ(request.topic, "orders");
    EXPECT_EQ(request.partition, PartitionId(3));
    EXPECT_EQ(received.timeout_ms, 1'500u);
    EXPECT_EQ(received.request_id, 1ull << 60);
    EXPECT_EQ(request.acks, api::Acks::kLeader);
    EXPECT_EQ(request.sequence->base_sequence, 2'147'483'647);
    ASSERT_EQ(request.records.size(), 5u);
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_EQ(as_text(*request.records[i].key), "key " + std::to_string(i));
      EXPECT_EQ(request.records[i].value->size(), i * 50);
      EXPECT_EQ(request.records[i].timestamp_ms, 1'000 + static_cast<int64_t>(i));
      EXPECT_EQ(request.records[i].headers[0].key, "h");
    }
  }
}

TEST(ReceivedMessage, NeverCrashesOnBytesThatAreCutOffOrChanged) {
  std::string bytes = some_request().SerializeAsString();
  for (size_t size = 0; size < bytes.size(); ++size) {
    ReceivedProduce received;
    (void)parse_produce(in_slices(bytes.substr(0, size), 7), BrokerOptions(), received);
  }
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (char value : {'\x00', '\x01', '\x7f', '\x80', '\xff'}) {
      std::string changed = bytes;
      changed[at] = value;
      ReceivedProduce received;
      (void)parse_produce(in_slices(changed, 11), BrokerOptions(), received);
      EXPECT_LE(received.request.records.size(), changed.size());
    }
  }
}

TEST(ProduceCodec, BoundsHowMuchOneRequestCanMakeUsHold) {
  BrokerOptions options;
  options.records_per_request_max = 10;
  options.headers_per_record_max = 2;
  v1::ProduceRequest many = some_request();
  for (int i = 0; i < 10; ++i) many.add_records();
  ReceivedProduce received;
  auto error = parse_produce(in_slices(many.SerializeAsString(), 4'096), options, received);
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->details.at("limit"), "10");
  EXPECT_EQ(received.request_id, 1ull << 60) << "the answer still knows which request it is for";

  v1::ProduceRequest headers = some_request();
  for (int i = 0; i < 3; ++i) headers.mutable_records(0)->add_headers();
  ReceivedProduce again;
  error = parse_produce(in_slices(headers.SerializeAsString(), 4'096), options, again);
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->details.at("limit"), "2");
}

TEST(ProduceCodec, BoundsTheHeadersOfAllRecordsTogether) {
  BrokerOptions options;
  options.headers_per_request_max = 5;
  v1::ProduceRequest request;
  request.set_topic("t");
  for (int i = 0; i < 5; ++i) request.add_records()->add_headers();
  ReceivedProduce received;
  EXPECT_FALSE(parse_produce(in_slices(request.SerializeAsString(), 4'096), options, received).has_value());
  request.mutable_records(4)->add_headers();
  ReceivedProduce again;
  auto error = parse_produce(in_slices(request.SerializeAsString(), 4'096), options, again);
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code, api::ErrorCode::kInvalidRequest);
  EXPECT_EQ(error->details.at("limit"), "5");
}

// Positions of no bytes: what is two bytes to send is a hundred to hold.
TEST(ParseMessage, RefusesALongMessageBeforeItReadsIt) {
  BrokerOptions options;
  options.control_bytes_max = 1'000;
  v1::FetchRequest request;
  for (int i = 0; i < 500; ++i) request.add_partitions();
  v1::FetchRequest parsed;
  EXPECT_FALSE(parse_message(in_slices(request.SerializeAsString(), 100), options, parsed).has_value());
  EXPECT_EQ(parsed.partitions_size(), 500);
  request.add_partitions();
  v1::FetchRequest refused;
  auto error = parse_message(in_slices(request.SerializeAsString(), 100), options, refused);
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code, api::ErrorCode::kInvalidRequest);
  EXPECT_EQ(error->details.at("limit"), "1000");
  EXPECT_EQ(refused.partitions_size(), 0);
  auto malformed = parse_message(in_slices("\xff", 1), options, refused);
  ASSERT_TRUE(malformed.has_value());
  EXPECT_NE(malformed->message.find("not a FetchRequest"), std::string::npos);
}

TEST(ProduceCodec, PutsAnUnknownOutcomeBeforeADefiniteOne) {
  api::ProduceResult result;
  result.positions.resize(2);
  result.positions[0].error = api::Error(api::ErrorCode::kDiskFull, "full");
  EXPECT_EQ(whole_error(result), nullptr) << "one succeeded";
  result.positions[1].error = api::Error(api::ErrorCode::kStorageError, "gone");
  EXPECT_EQ(whole_error(result)->code, api::ErrorCode::kStorageError);
}

TEST(ProduceCodec, WritesWhatGeneratedCodeReads) {
  api::ProduceResult result;
  result.replicas = 3;
  result.synced_replicas = 2;
  result.topic_created = true;
  result.positions.resize(2);
  result.positions[0] = {PartitionId(4), Offset(1ll << 50), 1'234, LeaderEpoch(7), true, std::nullopt};
  result.positions[1].error = api::Error(api::ErrorCode::kDiskFull, "no room").with_detail("free", "0");
  v1::ProduceResponse read;
  ASSERT_TRUE(read.ParseFromString(std::string(as_text(encode_produce_result(77, result, BrokerId(2))))));
  EXPECT_EQ(read.request_id(), 77u);
  EXPECT_EQ(read.positions(0).offset(), 1ll << 50);
  EXPECT_TRUE(read.positions(0).duplicate());
  EXPECT_EQ(read.positions(1).offset(), -1);
  EXPECT_EQ(read.positions(1).error().code(), "DISK_FULL");
  EXPECT_EQ(read.positions(1).error().node_id(), 2);
  EXPECT_EQ(read.positions(1).error().details().at("free"), "0");
  EXPECT_EQ(read.failed(), 1u);
  EXPECT_TRUE(read.topic_created());
}

TEST(GrpcError, SaysUnavailableOnlyWhenNothingWasWritten) {
  for (int i = 0; i <= static_cast<int>(api::ErrorCode::kDataDamaged); ++i) {
    auto code = static_cast<api::ErrorCode>(i);
    api::Error error(code, api::Outcome::kUnknown, "x");
    EXPECT_NE(status_code_of(error), grpc::StatusCode::UNAVAILABLE) << api::error_code_name(code);
    EXPECT_NE(status_code_of(error), grpc::StatusCode::OK);
    EXPECT_FALSE(is_retriable(error));
  }
}

TEST(GrpcError, StaysUnderFourKibibytesWhateverTheMessageSays) {
  api::Error error(api::ErrorCode::kInvalidRequest, std::string(100'000, '\xe2'));
  for (int i = 0; i < 100; ++i) error.details["key" + std::to_string(i)] = std::string(10'000, '\x01');
  grpc::Status status = make_status(error, BrokerId(1));
  // On the wire the message is percent-encoded and the details are base64.
  EXPECT_LT(3 * status.error_message().size() + status.error_details().size() * 4 / 3, 4'096u);
  EXPECT_TRUE(is_utf8(as_bytes(status.error_message())));
}

TEST(Utf8, TellsWellFormedTextFromBytes) {
  for (const char* good : {"", "a", "ü", "注", "\xf0\x9f\x98\x80", "\xef\xbf\xbf"})
    EXPECT_TRUE(is_utf8(as_bytes(good)));
  for (const char* bad :
       {"\x80", "\xc0\x80", "\xc3", "\xe2\x82", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xf0\x80\x80\x80"}) {
    EXPECT_FALSE(is_utf8(as_bytes(bad)));
    EXPECT_TRUE(is_utf8(as_bytes(to_utf8(as_bytes(bad)))));
  }
  EXPECT_EQ(printable("a\nb\x7f"), "a?b?");
}

TEST(Outbox, TakesBackRecordsOfOnePartitionButNotWhatIsBeingWritten) {
  Outbox outbox;
  for (size_t partition : {0u, 1u, 0u}) {
    Outbox::Item item;
    item.bytes = 10;
    item.credit = 7;
    item.records_of = partition;
    outbox.push(std::move(item));
  }
  outbox.push({});
  outbox.set_writing(true);
  Outbox::Removed removed = outbox.remove_records(0);
  EXPECT_EQ(removed.bytes, 10u);
  EXPECT_EQ(removed.credit, 7u);
  EXPECT_EQ(outbox.size(), 3u);
  EXPECT_EQ(outbox.bytes(), 20u);
  EXPECT_EQ(outbox.front().records_of, 0u);
}

TEST(Outbox, WithoutTheRecordsNobodyIsToldThatAPartitionGoesOnBehindThem) {
  Outbox outbox;
  outbox.push({.bytes = 10, .credit = 7, .records_of = 0});
  outbox.push({.bytes = 5, .answers = true});
  outbox.push({.caught_up = {{0, 0, Offset(3)}}});
  outbox.push({});  // a heartbeat
  EXPECT_EQ(outbox.keep_answers().bytes, 10u);
  EXPECT_EQ(outbox.size(), 1u);
  EXPECT_TRUE(outbox.front().answers);
}

}  // namespace
}  // namespace trilog::grpc_edge
