// typed_method(): a unary method whose request is a generated message.
#pragma once

#include <string_view>
#include <utility>

#include "broker/grpc/convert.h"
#include "broker/grpc/unary_call.h"

namespace trilog::grpc_edge {

// A write with a field that this broker does not know is refused; a read ignores it.
// kEarlyWrite: wanted also while the node waits for its cluster.
enum class Kind { kRead, kWrite, kEarlyWrite };

api::Error throttled(const Edge& edge);

// Parses, checks, and runs `handle(call, message)`, which must see to it that the call is answered. The message lives
// as long as handle() runs.
template <typename Request, typename Handle>
class TypedCall final : public UnaryCall {
 public:
  TypedCall(Edge& edge, RpcCall& call, std::string_view method, Kind kind, Handle handle)
      : UnaryCall(edge, call, method), kind_(kind), handle_(std::move(handle)) {}

 private:
  std::optional<api::Error> refusal() const override {
    const bool early = kind_ == Kind::kEarlyWrite && !edge().draining();
    return early ? std::nullopt : UnaryCall::refusal();
  }
  void run(const grpc::ByteBuffer& bytes) override {
    Request request;
    if (auto error = parse_message(bytes, edge().options(), request)) return fail(*error);
    if (kind_ != Kind::kRead) {
      if (auto unknown = check_no_unknown_fields(request)) return fail(*unknown);
    }
    handle_(static_cast<UnaryCall&>(*this), request);
  }
  const Kind kind_;
  const Handle handle_;
};

// `method` with static storage.
template <typename Request, typename Handle>
auto typed_method(Edge& edge, std::string_view method, Kind kind, Handle handle) {
  return [&edge, method, kind, handle](RpcCall& call) -> RpcHandler* {
    return new TypedCall<Request, Handle>(edge, call, method, kind, handle);
  };
}

}  // namespace trilog::grpc_edge
