#include "broker/grpc/fetch_call.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "broker/grpc/convert.h"
#include "broker/grpc/fetch_codec.h"
#include "broker/grpc/typed_call.h"
#include "broker/grpc/unary_call.h"

namespace trilog::grpc_edge {
namespace {

// What a client may raise the size of an answer to.
constexpr uint32_t kAskedBytesMax = 64u << 20;

api::Error invalid(std::string text) { return {api::ErrorCode::kInvalidRequest, std::move(text)}; }

class FetchCall final : public UnaryCall {
 public:
  FetchCall(Edge& edge, RpcCall& call) : UnaryCall(edge, call, "Fetch") {}
  ~FetchCall() override { edge().answer_budget().give_back(taken_); }

 private:
  void run(const grpc::ByteBuffer& bytes) override {
    v1::FetchRequest message;
    if (auto error = parse_message(bytes, edge().options(), message)) return fail(*error);
    auto request = request_of(message);
    if (!request.ok()) return fail(request.error());
    if (edge().answer_budget().full()) return fail(throttled(edge()));
    if (request->deadline_ns != 0) set_may_wait();
    Broker& broker = edge().broker();
    // The answer may come before fetch() returns here; on_done() cannot, as long as this runs.
    auto state = state_;
    if (request->deadline_ns != 0) {
      registration().on_drain([&broker, state] { cancel(broker, *state); });
    }
    Broker::FetchId id = broker.fetch(std::move(request.value()),
                                      [this](api::Answer<api::FetchResult> answer) { finish(std::move(answer)); });
    // Whoever comes second, this or the cancellation, sees the other.
    if (state->exchange(id) == kCancelled) broker.cancel_fetch(id);
  }

  // The id of the waiting fetch, as soon as it is known.
  static constexpr Broker::FetchId kUnknown = 0;
  static constexpr Broker::FetchId kCancelled = ~Broker::FetchId{0};
  using State = std::atomic<Broker::FetchId>;

  static void cancel(Broker& broker, State& state) {
    Broker::FetchId id = state.exchange(kCancelled);
    if (id != kUnknown && id != kCancelled) broker.cancel_fetch(id);
  }

  // The client is gone: nothing needs to wait for it.
  void on_cancel() override { cancel(edge().broker(), *state_); }

  api::Answer<api::FetchRequest> request_of(const v1::FetchRequest& message) {
    auto positions = positions_of(message.partitions(), message.topic(), edge().options().positions_per_request_max);
    if (!positions.ok()) return std::move(positions.error());
    if (positions->empty()) return invalid("a FetchRequest needs partitions to read from");
    api::FetchRequest request;
    request.positions = std::move(positions.value());
    request.bytes_min = std::max(1u, message.min_bytes());
    if (message.max_bytes() != 0) request.bytes_max = std::min(message.max_bytes(), kAskedBytesMax);
    bytes_max_ = std::max<int64_t>(edge().options().response_bytes_max, request.bytes_max);
    if (message.max_wait_ms() != 0) {
      request.deadline_ns = deadline_ns(std::min(message.max_wait_ms(), edge().options().fetch_wait_ms_max));
    }
    switch (message.isolation()) {
      case v1::FetchRequest::ISOLATION_UNSPECIFIED:
      case v1::FetchRequest::COMMITTED: request.isolation = api::Isolation::kCommitted; break;
      case v1::FetchRequest::UNCOMMITTED: request.isolation = api::Isolation::kUncommitted; break;
      default: return invalid("isolation " + std::to_string(message.isolation()) + " is not COMMITTED or UNCOMMITTED");
    }
    switch (message.encoding()) {
      case v1::FetchRequest::ENCODING_UNSPECIFIED:
      case v1::FetchRequest::RECORDS: raw_ = false; break;
      case v1::FetchRequest::RECORD_BATCHES: raw_ = true; break;
      default: return invalid("encoding " + std::to_string(message.encoding()) + " is not RECORDS or RECORD_BATCHES");
    }
    for (const std::string& name : message.codecs()) {
      if (codecs_.add(name)) continue;
      return api::Error(api::ErrorCode::kUnsupportedCodec,
                        "codec '" + name + "' is none of none, gzip, snappy, lz4, zstd");
    }
    return request;
  }

  void finish(api::Answer<api::FetchResult> answer) {
    if (!answer.ok()) return fail(answer.error());
    if (const api::Error* error = shared_error(answer.value())) return fail(*error);
    MessageBuilder message;
    EncodeLimit limit{.bytes = bytes_max_, .credit = std::nullopt, .one_at_least = true};
    std::vector<std::optional<api::Error>> errors;
    for (const api::FetchedPartition& part : answer.value()) {
      EncodedRecords records = raw_ ? encode_batches(part, codecs_, limit) : encode_records(part, limit);
      limit.bytes -= static_cast<int64_t>(records.bytes);
      if (records.count > 0) limit.one_at_least = false;
      errors.push_back(part.error ? part.error : records.error);
      Offset next = part.error ? part.next_offset : records.next_offset;
      Bytes head = encode_partition_head(part, next, errors.back(), edge().self());
      message.add_submessage(1, std::move(head), std::move(records));
    }
    // A batch that does not decode is found only here.
    bool all_failed = !errors.empty();
    for (const auto& error : errors) all_failed = all_failed && error && error->code == errors.front()->code;
    if (all_failed) return fail(*errors.front());
    taken_ = message.size();
    edge().answer_budget().take(taken_);
    succeed(message.build());
  }

  std::shared_ptr<State> state_ = std::make_shared<State>(kUnknown);
  bool raw_ = false;
  CodecSet codecs_;
  int64_t bytes_max_ = 0;
  uint64_t taken_ = 0;
};

}  // namespace

RpcHandler* start_fetch(Edge& edge, RpcCall& call) { return new FetchCall(edge, call); }

}  // namespace trilog::grpc_edge
