#include "broker/grpc/unary_call.h"

#include <google/protobuf/message.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include <string>

#include "broker/grpc/grpc_error.h"
#include "broker/grpc/typed_call.h"
#include "broker/grpc/wire.h"

namespace trilog::grpc_edge {

void UnaryCall::succeed(const grpc::ByteBuffer& answer) {
  if (!may_wait_) edge_.report(context(), method_, started_ns_, nullptr);
  call_.finish(answer, grpc::Status::OK);
}

void UnaryCall::succeed(const google::protobuf::MessageLite& answer) {
  Bytes bytes(answer.ByteSizeLong());
  answer.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(bytes.data()));
  succeed(buffer_of(std::move(bytes)));
}

void UnaryCall::fail(const api::Error& error) {
  edge_.report(context(), method_, started_ns_, &error);
  add_trailers(context(), error);
  call_.finish(make_status(error, edge_.self()));
}

void UnaryCall::on_read(bool ok) {
  if (auto refused = refusal()) return fail(*refused);
  if (!ok) return fail({api::ErrorCode::kInvalidRequest, "the call ended before its request"});
  grpc::ByteBuffer request = std::move(request_);
  run(request);
}

std::optional<api::Error> parse_message(const grpc::ByteBuffer& request, const BrokerOptions& options,
                                        google::protobuf::Message& message) {
  if (!request.Valid()) {
    message.Clear();
    return std::nullopt;  // no bytes: every field has its default
  }
  const std::string& name = message.GetDescriptor()->name();
  if (request.Length() > options.control_bytes_max) {
    return api::Error(api::ErrorCode::kInvalidRequest,
                      "a " + name + " of " + std::to_string(request.Length()) + " bytes; at most " +
                          std::to_string(options.control_bytes_max) + " are accepted: split it")
        .with_detail("limit", std::to_string(options.control_bytes_max));
  }
  grpc::ByteBuffer shared = request;  // counted, not copied
  grpc::ProtoBufferReader reader(&shared);
  if (message.ParseFromZeroCopyStream(&reader)) return std::nullopt;
  return api::Error(api::ErrorCode::kInvalidRequest,
                    "the bytes received are not a " + name + "; check the client's generated code");
}

api::Error throttled(const Edge& edge) {
  constexpr uint32_t kRetryAfterMs = 100;
  uint64_t limit = edge.options().in_flight_bytes_max;
  api::Error error(api::ErrorCode::kThrottled, "the broker holds as many bytes of requests as it may (" +
                                                   std::to_string(limit) + "); try again in " +
                                                   std::to_string(kRetryAfterMs) + " ms");
  error.retry_after_ms = kRetryAfterMs;
  return std::move(error).with_detail("limit", std::to_string(limit));
}

}  // namespace trilog::grpc_edge
