// What both streams have in common: they are kept alive by gRPC until on_done(), and by every callback of the broker
// that is still to come; they are finished once; they end when the node stops.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "broker/grpc/edge.h"
#include "broker/grpc/grpc_error.h"
#include "broker/grpc/rpc.h"

namespace trilog::grpc_edge {

// A stream that cannot be taken: its only act is to end.
class RefusedStream final : public RpcHandler {
 public:
  RefusedStream(Edge& edge, RpcCall& call, const api::Error& error) : alive_(edge) {
    add_trailers(call.context(), error);
    call.finish(make_status(error, edge.self()));
  }
  void on_read(bool) override {}
  void on_done() override { delete this; }

 private:
  Edge::Registration alive_;
};

template <typename Derived>
class StreamBase : public RpcHandler, public std::enable_shared_from_this<Derived> {
 public:
  StreamBase(Edge& edge, RpcCall& call, std::string_view method)
      : edge_(edge), call_(call), method_(method), alive_(edge) {}
  ~StreamBase() override { edge_.leave_stream(); }

  // Makes the stream, or one that ends at once if none can be taken.
  static RpcHandler* start(Edge& edge, RpcCall& call) {
    if (auto refusal = edge.refusal()) return new RefusedStream(edge, call, *refusal);
    return start_always(edge, call);
  }
  // Also while the node starts or stops.
  static RpcHandler* start_always(Edge& edge, RpcCall& call) {
    if (!edge.enter_stream()) {
      api::Error error(api::ErrorCode::kThrottled, "the broker serves as many streams as it may (" +
                                                       std::to_string(edge.options().streams_max) + "); try again");
      error.retry_after_ms = 1'000;
      return new RefusedStream(edge, call, error);
    }
    auto stream = std::make_shared<Derived>(edge, call);
    stream->self_ = stream;
    stream->alive_.on_drain([weak = std::weak_ptr<Derived>(stream)] {
      if (auto live = weak.lock()) live->drain();
    });
    stream->begin();
    return stream.get();
  }

 protected:
  Edge& edge() { return edge_; }
  RpcCall& call() { return call_; }  // until ended()
  grpc::ServerContext& context() { return call_.context(); }
  std::mutex& mutex() { return mutex_; }

  // Under the mutex; the first one counts.
  bool finished() const { return finished_; }
  void finish_ok() {
    if (std::exchange(finished_, true)) return;
    call_.finish(grpc::Status::OK);
  }
  void finish_with(const api::Error& error) {
    if (std::exchange(finished_, true)) return;
    edge_.report(context(), method_, edge_.now_ns(), &error);
    add_trailers(context(), error);
    call_.finish(make_status(error, edge_.self()));
  }
  void finish_cancelled() {
    if (std::exchange(finished_, true)) return;
    call_.finish(grpc::Status(grpc::StatusCode::CANCELLED, "the client went away"));
  }
  // Ends the call without a last word, which a client that takes nothing would not take either.
  void cancel_stalled(int64_t stalled_ms) {
    edge_.log().warning(method_, " of ", edge_.client_of(context()), " is ended: it took nothing for ",
                        stalled_ms / 1000, " s while others waited for memory (memory_limit)");
    context().TryCancel();
  }

 private:
  void on_done() final {
    alive_.forget_drain();
    self_->ended();
    std::shared_ptr<Derived> last = std::move(self_);  // goes at the end of this function, or with a late callback
  }

  Edge& edge_;
  RpcCall& call_;  // gone after on_done(); not touched once finished_
  const std::string_view method_;
  std::mutex mutex_;
  bool finished_ = false;
  Edge::Registration alive_;
  std::shared_ptr<Derived> self_;
};

}  // namespace trilog::grpc_edge
