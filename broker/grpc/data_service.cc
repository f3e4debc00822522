#include "broker/grpc/data_service.h"

#include <string>
#include <utility>
#include <vector>

#include "broker/grpc/consume_stream.h"
#include "broker/grpc/convert.h"
#include "broker/grpc/fetch_call.h"
#include "broker/grpc/produce_codec.h"
#include "broker/grpc/produce_stream.h"
#include "broker/grpc/typed_call.h"
#include "broker/grpc/wire.h"

namespace trilog::grpc_edge {
namespace {

class ProduceCall final : public UnaryCall {
 public:
  ProduceCall(Edge& edge, RpcCall& call) : UnaryCall(edge, call, "Produce") {}
  ~ProduceCall() override { edge().request_budget().give_back(taken_); }

 private:
  void run(const grpc::ByteBuffer& message) override {
    if (context().IsCancelled()) {
      return fail({api::ErrorCode::kRequestTimedOut, "the call was cancelled before anything was written"});
    }
    ReceivedProduce received;
    if (auto error = parse_produce(message, edge().options(), received)) return fail(*error);
    if (!edge().request_budget().try_take(received.bytes)) return fail(throttled(edge()));
    taken_ = received.bytes;
    request_id_ = received.request_id;
    received.request.deadline_ns = deadline_ns(received.timeout_ms);
    edge().broker().produce(std::move(received.request), [this](api::Answer<api::ProduceResult> answer) {
      if (!answer.ok()) return fail(answer.error());
      if (const api::Error* error = whole_error(answer.value())) return fail(*error);
      succeed(buffer_of(encode_produce_result(request_id_, answer.value(), edge().self())));
    });
  }

  uint64_t taken_ = 0;
  uint64_t request_id_ = 0;
};

void init_producer(UnaryCall& call, const v1::InitProducerRequest&) {
  call.edge().broker().init_producer([&call](api::Answer<api::InitProducerResult> result) {
    if (!result.ok()) return call.fail(result.error());
    v1::InitProducerResponse response;
    response.set_producer_id(result->producer_id.value());
    response.set_producer_epoch(result->producer_epoch.value());
    call.succeed(response);
  });
}

void list_offsets(UnaryCall& call, const v1::ListOffsetsRequest& message) {
  auto parsed = list_offsets_of(message, call.edge().options().positions_per_request_max);
  if (!parsed.ok()) return call.fail(parsed.error());
  call.edge().broker().list_offsets(std::move(parsed.value()),
                                    [&call](api::Answer<std::vector<api::ListedOffset>> result) {
                                      if (!result.ok()) return call.fail(result.error());
                                      if (const api::Error* error = shared_error(result.value()))
                                        return call.fail(*error);
                                      v1::ListOffsetsResponse response;
                                      for (const auto& offset : result.value()) {
                                        fill_offset(offset, call.edge().self(), *response.add_offsets());
                                      }
                                      call.succeed(response);
                                    });
}

void commit_offsets(UnaryCall& call, const v1::CommitOffsetsRequest& message) {
  auto offsets = commits_of(message.offsets(), call.edge().options().positions_per_request_max);
  if (!offsets.ok()) return call.fail(offsets.error());
  api::CommitOffsetsRequest commit;
  commit.group = message.group();
  commit.offsets = std::move(offsets.value());
  commit.member_id = message.member_id();
  if (message.has_generation()) commit.generation = message.generation();
  commit.deadline_ns = call.deadline_ns(0);
  call.edge().broker().commit_offsets(std::move(commit),
                                      [&call](api::Answer<std::vector<api::CommittedOffset>> result) {
                                        if (!result.ok()) return call.fail(result.error());
                                        if (const api::Error* error = shared_error(result.value()))
                                          return call.fail(*error);
                                        v1::CommitOffsetsResponse response;
                                        for (const auto& offset : result.value()) {
                                          fill_commit(offset, call.edge().self(), *response.add_offsets());
                                        }
                                        call.succeed(response);
                                      });
}

void fetch_offsets(UnaryCall& call, const v1::FetchOffsetsRequest& message) {
  auto positions = positions_of(message.partitions(), message.topic(), call.edge().options().positions_per_request_max);
  if (!positions.ok()) return call.fail(positions.error());
  api::FetchOffsetsRequest fetch;
  fetch.group = message.group();
  fetch.positions = std::move(positions.value());
  // A topic without partitions: all of the group that lie in this topic.
  std::string only_topic = message.partitions_size() == 0 ? message.topic() : std::string();
  call.edge().broker().fetch_offsets(std::move(fetch),
                                     [&call, only_topic](api::Answer<std::vector<api::CommittedOffset>> result) {
                                       if (!result.ok()) return call.fail(result.error());
                                       if (const api::Error* error = shared_error(result.value()))
                                         return call.fail(*error);
                                       v1::FetchOffsetsResponse response;
                                       for (const auto& offset : result.value()) {
                                         if (!only_topic.empty() && offset.topic != only_topic) continue;
                                         fill_commit(offset, call.edge().self(), *response.add_offsets());
                                       }
                                       call.succeed(response);
                                     });
}

}  // namespace

void add_data_methods(Edge& edge, RpcMethods& methods) {
  auto name = [](const char* method) { return std::string("/trilog.v1.Broker/") + method; };
  methods[name("Produce")] = [&edge](RpcCall& call) -> RpcHandler* { return new ProduceCall(edge, call); };
  methods[name("ProduceStream")] = [&edge](RpcCall& call) { return start_produce_stream(edge, call); };
  methods[name("Fetch")] = [&edge](RpcCall& call) { return start_fetch(edge, call); };
  methods[name("Consume")] = [&edge](RpcCall& call) { return start_consume_stream(edge, call); };
  methods[name("InitProducer")] =
      typed_method<v1::InitProducerRequest>(edge, "InitProducer", Kind::kWrite, init_producer);
  methods[name("ListOffsets")] = typed_method<v1::ListOffsetsRequest>(edge, "ListOffsets", Kind::kRead, list_offsets);
  methods[name("CommitOffsets")] =
      typed_method<v1::CommitOffsetsRequest>(edge, "CommitOffsets", Kind::kWrite, commit_offsets);
  methods[name("FetchOffsets")] =
      typed_method<v1::FetchOffsetsRequest>(edge, "FetchOffsets", Kind::kRead, fetch_offsets);
}

}  // namespace trilog::grpc_edge
