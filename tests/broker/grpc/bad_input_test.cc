// What no good client sends. Each is refused with a reason or ends alone; the broker goes on, and needs no more memory.
#include <google/protobuf/descriptor.h>
#include <grpcpp/impl/client_unary_call.h>

#include <cstring>
#include <fstream>
#include <limits>

#include "broker/grpc/fetch_codec.h"
#include "storage/base/crc32c.h"
#include "storage/record/record_batch_builder.h"
#include "tests/broker/grpc/edge_fixture.h"

namespace trilog {
namespace {

using grpc::StatusCode;
using testing::AnyOf;

constexpr int64_t kFarAway = std::numeric_limits<int64_t>::max();

class BadInputTest : public EdgeTest {
 protected:
  void SetUp() override {
    start();
    create_topic("orders");
    produce(records("orders", {"a", "b"}));
  }
  // Whatever came, the broker still works.
  void TearDown() override { EXPECT_EQ(produce(records("orders", {"alive"})).failed(), 0u); }

  // Any unary call that is expected to be refused.
  template <typename Stub, typename Request, typename Response>
  Refusal refused_call(Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                       const Request& request) {
    Call call;
    Response response;
    grpc::Status status = (stub.*method)(&call, request, &response);
    EXPECT_FALSE(status.ok()) << request.ShortDebugString() << " -> " << response.ShortDebugString();
    return status.ok() ? Refusal() : refusal_of(status, call);
  }
  Refusal refused(const v1::CommitOffsetsRequest& r) {
    return refused_call(*data_, &v1::Broker::Stub::CommitOffsets, r);
  }
  Refusal refused(const v1::FetchOffsetsRequest& r) { return refused_call(*data_, &v1::Broker::Stub::FetchOffsets, r); }
  Refusal refused(const v1::ListOffsetsRequest& r) { return refused_call(*data_, &v1::Broker::Stub::ListOffsets, r); }
  Refusal refused(const v1::TrimTopicRequest& r) { return refused_call(*admin_, &v1::Admin::Stub::TrimTopic, r); }
  Refusal refused(const v1::DescribeGroupRequest& r) {
    return refused_call(*admin_, &v1::Admin::Stub::DescribeGroup, r);
  }
  Refusal refused(const v1::DeleteGroupRequest& r) { return refused_call(*admin_, &v1::Admin::Stub::DeleteGroup, r); }
  using EdgeTest::refused;

  static v1::CommitOffsetsRequest commit(const std::string& group, int partition, int64_t offset) {
    v1::CommitOffsetsRequest request;
    request.set_group(group);
    v1::CommittedOffset& entry = *request.add_offsets();
    entry.set_topic("orders");
    entry.set_partition(partition);
    entry.set_offset(offset);
    return request;
  }
  static v1::TrimTopicRequest trim(int partition, int64_t offset) {
    v1::TrimTopicRequest request;
    request.set_topic("orders");
    request.add_before()->set_partition(partition);
    request.mutable_before(0)->set_offset(offset);
    return request;
  }

  // A call by name with bytes that need not be a message.
  grpc::Status call_raw(const std::string& method, const std::string& bytes, Call& call) {
    grpc::Slice slice(bytes);
    grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    grpc::internal::RpcMethod rpc(method.c_str(), grpc::internal::RpcMethod::NORMAL_RPC, channel_);
    return grpc::internal::BlockingUnaryCall<grpc::ByteBuffer, grpc::ByteBuffer, grpc::ByteBuffer, grpc::ByteBuffer>(
        channel_.get(), rpc, &call, request, &response);
  }
};

const auto is_invalid = [] { return IsRefused(StatusCode::INVALID_ARGUMENT, "INVALID_REQUEST", kNotWritten); };

TEST_F(BadInputTest, EveryMethodAnswersAnEmptyRequest) {
  size_t methods = 0;
  for (const google::protobuf::FileDescriptor* file :
       {v1::ProduceRequest::descriptor()->file(), v1::CreateTopicRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        const google::protobuf::MethodDescriptor& method = *file->service(s)->method(m);
        if (method.client_streaming()) continue;
        ++methods;
        Call call;
        grpc::Status status =
            call_raw("/" + std::string(file->service(s)->full_name()) + "/" + method.name(), "", call);
        if (status.ok()) continue;
        Refusal refusal = refusal_of(status, call);
        EXPECT_EQ(refusal.status, StatusCode::INVALID_ARGUMENT) << method.full_name();
        EXPECT_THAT(refusal.error.code(), AnyOf("INVALID_REQUEST", "INVALID_TOPIC")) << method.full_name();
        EXPECT_NE(refusal.error.outcome(), v1::Error::UNKNOWN) << method.full_name();
      }
    }
  }
  EXPECT_GE(methods, 14u);

  EXPECT_THAT(refused(v1::ConsumeRequest()), is_invalid());
  Call call;
  auto stream = data_->ProduceStream(&call);
  stream->Write({});
  stream->WritesDone();
  v1::ProduceResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.error().code(), "INVALID_REQUEST");
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(BadInputTest, RefusesNegativePartitionsAndOffsetsEverywhere) {
  EXPECT_THAT(refused(records("orders", {"x"}, -1)), is_invalid());
  RecordBatchBuilder builder(Codec::kNone);
  builder.add(1'000, std::nullopt, as_bytes(std::string_view("x")));
  v1::ProduceRequest batch = records("orders", {}, -1);
  batch.set_record_batch(std::string(as_text(*builder.build())));
  EXPECT_THAT(refused(batch), is_invalid());
  EXPECT_THAT(refused(fetch_request("orders", 0, -1)), is_invalid());
  EXPECT_THAT(refused(fetch_request("orders", -1)), is_invalid());
  EXPECT_THAT(refused(commit("g", -1, 0)), is_invalid());
  EXPECT_THAT(refused(commit("g", 0, -1)), is_invalid());
  EXPECT_THAT(refused(trim(-1, 0)), is_invalid());
  EXPECT_THAT(refused(trim(0, -1)), is_invalid());
  v1::ListOffsetsRequest list;
  list.set_topic("orders");
  list.add_partitions()->set_partition(-1);
  EXPECT_THAT(refused(list), is_invalid());
  v1::FetchOffsetsRequest offsets;
  offsets.set_group("g");
  offsets.set_topic("orders");
  offsets.add_partitions()->set_partition(-1);
  EXPECT_THAT(refused(offsets), is_invalid());
  v1::ConsumeRequest start;
  v1::Position& position = *start.mutable_start()->add_positions();
  position.set_topic("orders");
  position.set_offset(-1);
  EXPECT_THAT(refused(start), is_invalid());
  position.set_offset(0);
  position.set_partition(-1);
  EXPECT_THAT(refused(start), is_invalid());
}

TEST_F(BadInputTest, SaysWhereAPartitionBeginsAndEndsWhenAnOffsetLiesOutside) {
  for (int64_t offset : {int64_t{3}, kFarAway - 1, kFarAway}) {
    Refusal refusal = refused(fetch_request("orders", offset));
    EXPECT_THAT(refusal, IsRefused(StatusCode::OUT_OF_RANGE, "OFFSET_OUT_OF_RANGE", kNotApplicable)) << offset;
    EXPECT_EQ(refusal.error.details().at("end_offset"), "2");
    for (bool dry : {false, true}) {
      v1::TrimTopicRequest request = trim(0, offset);
      request.set_validate_only(dry);
      EXPECT_THAT(refused(request), IsRefused(StatusCode::OUT_OF_RANGE, "OFFSET_OUT_OF_RANGE", kNotWritten)) << offset;
    }
    Call call;
    auto stream = data_->Consume(&call);
    v1::ConsumeRequest start;
    start.mutable_start()->add_positions()->set_topic("orders");
    start.mutable_start()->mutable_positions(0)->set_offset(offset);
    stream->Write(start);
    v1::ConsumeResponse response;
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(response.error().error().code(), "OFFSET_OUT_OF_RANGE") << response.ShortDebugString();
  }
  // Below the start, after a trim.
  v1::TrimTopicResponse trimmed;
  Call call;
  ASSERT_TRUE(admin_->TrimTopic(&call, trim(0, 2), &trimmed).ok());
  Refusal below = refused(fetch_request("orders", 0));
  EXPECT_EQ(below.error.code(), "OFFSET_OUT_OF_RANGE");
  EXPECT_EQ(below.error.details().at("start_offset"), "2");
}

TEST_F(BadInputTest, RefusesGroupNamesThatAreNone) {
  for (const std::string& name : {std::string(), std::string("a\0b", 3), std::string(300, 'x'), std::string("a\nb"),
                                  std::string("\xff\xfe"), std::string("\xc3")}) {
    Call call;
    bool is_text = name != "\xff\xfe" && name != "\xc3";
    grpc::Status status = call_raw("/trilog.v1.Broker/CommitOffsets", commit(name, 0, 0).SerializeAsString(), call);
    EXPECT_THAT(refusal_of(status, call), is_invalid()) << name;
    if (!is_text) continue;
    v1::FetchOffsetsRequest offsets;
    offsets.set_group(name);
    EXPECT_THAT(refused(offsets), is_invalid()) << name;
    v1::DescribeGroupRequest describe;
    describe.set_group(name);
    EXPECT_THAT(refused(describe), is_invalid()) << name;
    v1::DeleteGroupRequest remove;
    remove.set_group(name);
    EXPECT_THAT(refused(remove), is_invalid()) << name;
  }
  for (const char* name : {"..", "/", "注文 処理", "Bücher"}) {
    v1::CommitOffsetsResponse response;
    Call call;
    grpc::Status status = data_->CommitOffsets(&call, commit(name, 0, 1), &response);
    EXPECT_TRUE(status.ok()) << name << ": " << status.error_message() << ", a name and not a path";
  }
}

// The address sanitizer keeps what was freed for a while.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kMemoryIsGivenBack = false;
#else
constexpr bool kMemoryIsGivenBack = true;
#endif

// The most memory that this process had since the last reset, and what it has now.
size_t resident_kib(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name + ":")) return std::stoul(line.substr(name.size() + 1));
  }
  return 0;
}
void reset_peak() { std::ofstream("/proc/self/clear_refs") << 5; }

class BombTest : public BadInputTest, public testing::WithParamInterface<Codec> {
 protected:
  // A batch of one record in a block of zeros; built by hand because no client could send it as records.
  static std::string bomb(Codec codec, size_t bytes) {
    RecordBatchBuilder builder(codec);
    builder.add(1'000, std::nullopt, as_bytes(std::string_view("a")));
    Bytes zeros(bytes);
    std::memset(zeros.data(), 0, zeros.size());
    Result<Bytes> packed = compress(codec, zeros);
    EXPECT_TRUE(packed.ok());
    std::string batch = std::string(as_text(*builder.build())).substr(0, kBatchHeaderBytes);
    batch += as_text(*packed);
    auto* raw = reinterpret_cast<std::byte*>(batch.data());
    store_big_endian<int32_t>(raw + 8, static_cast<int32_t>(batch.size() - kBatchLengthPrefixBytes));
    store_big_endian<uint32_t>(raw + 17, crc32c(as_bytes(batch).subspan(kBatchCrcStart)));
    return batch;
  }
};

TEST_P(BombTest, IsDamageToReadersOfRecordsAndTakesNoMoreMemoryThanItsLimit) {
  constexpr size_t kBytes = 4 * grpc_edge::kDecompressedBatchBytesMax;
  create_topic("bombs", 1, {{"max.message.bytes", std::to_string(options_.record_bytes_limit)}});
  v1::ProduceRequest request;
  request.set_topic("bombs");
  request.set_partition(0);
  request.set_record_batch(bomb(GetParam(), kBytes));
  ASSERT_LT(request.record_batch().size(), options_.record_bytes_limit);
  size_t before = resident_kib("VmRSS");
  reset_peak();
  produce(request);
  produce(records("bombs", {"after"}));
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(refused(fetch_request("bombs", 0)), IsRefused(StatusCode::DATA_LOSS, "DATA_DAMAGED", kNotApplicable));
  }
  v1::FetchRequest raw = fetch_request("bombs", 0);
  raw.set_encoding(v1::FetchRequest::RECORD_BATCHES);
  raw.add_codecs("none");  // so that the broker would have to unpack it
  EXPECT_THAT(refused(raw), IsRefused(StatusCode::DATA_LOSS, "DATA_DAMAGED", kNotApplicable));
  v1::ConsumeRequest start;
  start.mutable_start()->add_topics("bombs");
  Call call;
  auto stream = data_->Consume(&call);
  stream->Write(start);
  v1::ConsumeResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.error().error().code(), "DATA_DAMAGED");
  EXPECT_EQ(fetch(fetch_request("bombs", 1)).records(0).value(), "after");
  size_t grown_kib = resident_kib("VmHWM") - std::min(before, resident_kib("VmHWM"));
  if (kMemoryIsGivenBack) {
    EXPECT_LT(grown_kib, kBytes / 1024) << "half of it is twice the limit for one batch";
  }
}
INSTANTIATE_TEST_SUITE_P(Codecs, BombTest, testing::Values(Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd),
                         [](const auto& codec) { return std::string(codec_name(codec.param)); });

TEST_F(BadInputTest, RefusesMessagesOverTheLimitOfTheConnectionAndGoesOn) {
  v1::ProduceRequest request = records("orders", {std::string(65u << 20, 'x')});
  v1::ProduceResponse response;
  Call call;
  EXPECT_EQ(data_->Produce(&call, request, &response).error_code(), StatusCode::RESOURCE_EXHAUSTED);
  Call stream_call;
  auto stream = data_->ProduceStream(&stream_call);
  stream->Write(request);
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(fetch(fetch_request("orders", 0)).high_watermark(), 2);
}

TEST_F(BadInputTest, ServesAThousandReadersAtOnceAndForgetsThemWhenTheyVanish) {
  std::vector<std::unique_ptr<Call>> calls;
  std::vector<std::unique_ptr<grpc::ClientReaderWriter<v1::ConsumeRequest, v1::ConsumeResponse>>> streams;
  v1::ConsumeRequest start;
  start.mutable_start()->add_topics("orders");
  for (int i = 0; i < 1'000; ++i) {
    calls.push_back(std::make_unique<Call>(60'000));
    streams.push_back(data_->Consume(calls.back().get()));
    ASSERT_TRUE(streams.back()->Write(start));
  }
  v1::ConsumeResponse response;
  for (auto& stream : streams) {
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(response.records().records_size(), 2);
  }
  for (auto& call : calls) call->TryCancel();
  for (auto& stream : streams) EXPECT_EQ(stream->Finish().error_code(), StatusCode::CANCELLED);
}

// Limits that are small enough to be reached.
class SmallLimitsTest : public EdgeTest {
 protected:
  static v1::ProduceRequest numbered(uint64_t id, const std::string& value) {
    v1::ProduceRequest request = records("orders", {value});
    request.set_request_id(id);
    return request;
  }
};

TEST_F(SmallLimitsTest, RefusesMoreStreamsThanItMayServeUntilOthersEnd) {
  options_.streams_max = 4;
  start();
  create_topic("orders");
  // As many again over a connection of their own: the limit is the broker's, not only each connection's.
  std::vector<std::unique_ptr<v1::Broker::Stub>> stubs;
  std::vector<std::unique_ptr<Call>> calls;
  std::vector<std::unique_ptr<grpc::ClientReaderWriter<v1::ProduceRequest, v1::ProduceResponse>>> streams;
  v1::ProduceResponse response;
  for (int i = 0; i < 4; ++i) {
    calls.push_back(std::make_unique<Call>());
    streams.push_back(data_->ProduceStream(calls.back().get()));
    streams.back()->Write(numbered(1, "x"));
    ASSERT_TRUE(streams.back()->Read(&response));
  }
  connect();
  Call fifth;
  auto refused_stream = data_->ProduceStream(&fifth);
  EXPECT_FALSE(refused_stream->Read(&response));
  grpc::Status status = refused_stream->Finish();
  EXPECT_THAT(refusal_of(status, fifth), IsRefused(StatusCode::RESOURCE_EXHAUSTED, "THROTTLED", kNotWritten));
  streams.back()->WritesDone();
  EXPECT_TRUE(streams.back()->Finish().ok());
  for (;;) {  // the answer may be here before the stream is gone there
    Call call;
    auto stream = data_->ProduceStream(&call);
    stream->Write(numbered(1, "y"));
    if (stream->Read(&response)) break;
    ASSERT_EQ(stream->Finish().error_code(), StatusCode::RESOURCE_EXHAUSTED);
  }
  for (auto& call : calls) call->TryCancel();
}

TEST_F(SmallLimitsTest, AProducerThatNeverTakesItsAnswersHoldsUpNobody) {
  options_.in_flight_bytes_max = 2 << 20;
  options_.stream_unacked_bytes_max = 8 << 20;
  start();
  create_topic("orders", 1, {{"durability", "replicated"}});
  constexpr int kRequests =
      9'000;  // their answers fill the window of the stream, their bytes all that may be in flight
  Call call;
  auto stream = data_->ProduceStream(&call);
  std::string value(2'000, 'x');
  for (uint64_t id = 1; id <= kRequests; ++id) ASSERT_TRUE(stream->Write(numbered(id, value)));
  // What is answered is no longer in memory, taken or not. How much of it the connection still lets through is up to
  // gRPC.
  const v1::ProduceRequest other = records("orders", {"other"});
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  bool taken = false;
  while (!taken && std::chrono::steady_clock::now() < until) {
    v1::ProduceResponse answer;
    Call other_call;
    taken = data_->Produce(&other_call, other, &answer).ok();  // refused while the requests before are written
  }
  EXPECT_TRUE(taken);
  v1::ProduceResponse response;
  for (uint64_t id = 1; id <= kRequests; ++id) {
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(response.request_id(), id);
  }
  stream->WritesDone();
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
}

}  // namespace
}  // namespace trilog
