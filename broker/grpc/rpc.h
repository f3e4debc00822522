// One gRPC call on the server, in raw bytes, for unary and streaming methods alike. RpcCall is gRPC's side of it;
// RpcHandler is ours. The async API of gRPC lies beneath, on completion queue threads of our own (rpc_server.h says
// why).
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <functional>
#include <map>
#include <string>

namespace trilog::grpc_edge {

// Starts operations, from any thread; at most one read and one write at a time. Good until RpcHandler::on_done().
class RpcCall {
 public:
  virtual ~RpcCall() = default;
  virtual grpc::ServerContext& context() = 0;
  // Then on_read(): with ok, `into` holds the next message; without, the client sends nothing more.
  virtual void start_read(grpc::ByteBuffer& into) = 0;
  // Then on_write(). `message` is not touched until then, nor freed. With `more_follows` gRPC may wait for the next
  // write, which must come at once.
  virtual void start_write(const grpc::ByteBuffer& message, bool more_follows) = 0;
  // Exactly once, with no write under way. Then on_done() follows, after everything else.
  virtual void finish(const grpc::Status& status) = 0;
  // The same after a last message.
  virtual void finish(const grpc::ByteBuffer& last, const grpc::Status& status) = 0;
};

// Called on gRPC's threads, one call of each kind at a time; none may block.
class RpcHandler {
 public:
  virtual ~RpcHandler() = default;
  virtual void on_read(bool ok) = 0;
  virtual void on_write(bool) {}
  // The client went away or its time is over. finish() must be called all the same, now or later.
  virtual void on_cancel() {}
  // The call is over and RpcCall is gone after this: the handler frees itself.
  virtual void on_done() = 0;
};

// "/trilog.v1.Broker/Produce" -> makes the handler, which starts at once.
using RpcMethods = std::map<std::string, std::function<RpcHandler*(RpcCall&)>, std::less<>>;

}  // namespace trilog::grpc_edge
