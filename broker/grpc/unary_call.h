// UnaryCall: one call with one answer, received and sent as raw bytes. It deletes itself when gRPC is done with it;
// exactly one of succeed() and fail() must be called, from any thread, and nothing of it touched afterwards.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>

#include <optional>
#include <string_view>

#include "broker/grpc/edge.h"
#include "broker/grpc/rpc.h"

namespace google::protobuf {
class Message;
class MessageLite;
}  // namespace google::protobuf

namespace trilog::grpc_edge {

class UnaryCall : public RpcHandler {
 public:
  // `method` for the log, with static storage. Begins to read the request.
  UnaryCall(Edge& edge, RpcCall& call, std::string_view method)
      : edge_(edge), call_(call), method_(method), started_ns_(edge.now_ns()), alive_(edge) {
    call_.start_read(request_);
  }

  Edge& edge() { return edge_; }
  const Edge& edge() const { return edge_; }
  grpc::ServerContext& context() { return call_.context(); }
  int64_t deadline_ns(uint32_t timeout_ms) { return edge_.deadline_ns(context(), timeout_ms); }
  // Slow calls are logged; a call that waits because it was asked to is not slow.
  void set_may_wait() { may_wait_ = true; }

  void succeed(const grpc::ByteBuffer& answer);
  void succeed(const google::protobuf::MessageLite& answer);
  void fail(const api::Error& error);

 protected:
  ~UnaryCall() override = default;
  // The request is here, and the node takes calls.
  virtual void run(const grpc::ByteBuffer& request) = 0;
  virtual std::optional<api::Error> refusal() const { return edge_.refusal(); }  // why it takes none
  Edge::Registration& registration() { return alive_; }

 private:
  void on_read(bool ok) final;
  void on_done() final { delete this; }

  Edge& edge_;
  RpcCall& call_;
  const std::string_view method_;
  grpc::ByteBuffer request_;
  const int64_t started_ns_;
  bool may_wait_ = false;
  Edge::Registration alive_;
};

// Parses `request`, or says why not: it is not that message, or longer than control_bytes_max.
std::optional<api::Error> parse_message(const grpc::ByteBuffer& request, const BrokerOptions& options,
                                        google::protobuf::Message& message);

}  // namespace trilog::grpc_edge
