#include "broker/grpc/health_service.h"

#include <optional>
#include <string>
#include <utility>

#include "broker/grpc/stream_base.h"
#include "broker/grpc/unary_call.h"
#include "broker/grpc/wire.h"

namespace trilog::grpc_edge {
namespace {

// HealthCheckResponse.ServingStatus.
enum class Serving : int { kServing = 1, kNotServing = 2, kServiceUnknown = 3 };

// HealthCheckRequest{string service = 1}.
std::optional<std::string> service_of(const grpc::ByteBuffer& request) {
  auto message = ReceivedMessage::of(request);
  if (!message) return std::nullopt;
  std::string service;
  while (auto tag = message->next()) {
    if (tag->number != 1 || tag->type != WireType::kBytes) return std::nullopt;
    service = std::string(as_text(message->bytes()));
  }
  if (!message->ok()) return std::nullopt;
  return service;
}

Serving status_of(const Edge& edge, const std::string& service) {
  if (service.empty()) return Serving::kServing;
  if (service != "trilog.v1.Broker" && service != "trilog.v1.Admin") return Serving::kServiceUnknown;
  return edge.serving() ? Serving::kServing : Serving::kNotServing;
}

grpc::ByteBuffer response(Serving status) {
  Bytes bytes;
  WireWriter(bytes).int_field(1, static_cast<int>(status));
  return buffer_of(std::move(bytes));
}

// Answers also while the node starts or stops, which is what it is for.
class HealthCheck final : public RpcHandler {
 public:
  HealthCheck(Edge& edge, RpcCall& call) : edge_(edge), call_(call), alive_(edge) { call_.start_read(request_); }

 private:
  void on_read(bool ok) override {
    std::optional<std::string> service = ok ? service_of(request_) : std::nullopt;
    if (!service) {
      call_.finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "not a HealthCheckRequest"));
      return;
    }
    Serving status = status_of(edge_, *service);
    if (status == Serving::kServiceUnknown) {
      call_.finish(grpc::Status(grpc::StatusCode::NOT_FOUND, "no service " + printable(*service, 200)));
      return;
    }
    call_.finish(response(status), grpc::Status::OK);
  }
  void on_done() override { delete this; }

  Edge& edge_;
  RpcCall& call_;
  grpc::ByteBuffer request_;
  Edge::Registration alive_;
};

class HealthWatch final : public StreamBase<HealthWatch> {
 public:
  HealthWatch(Edge& edge, RpcCall& call) : StreamBase(edge, call, "Watch") {}

  void begin() { call().start_read(request_); }
  void ended() {}
  void drain() { tell(); }

 private:
  void on_read(bool ok) override {
    {
      std::lock_guard lock(mutex());
      if (finished()) return;
      service_ = ok ? service_of(request_) : std::nullopt;
      if (!service_) return finish_with({api::ErrorCode::kInvalidRequest, "not a HealthCheckRequest"});
    }
    edge().on_serving_change([weak = weak_from_this()] {
      auto live = weak.lock();
      if (live) live->tell();
      return live != nullptr;
    });
    tell();
  }

  void tell() {
    std::lock_guard lock(mutex());
    if (!service_ || writing_ || finished()) return;
    Serving now = status_of(edge(), *service_);
    if (told_ == now) {
      if (edge().draining()) finish_with(*edge().refusal());
      return;
    }
    told_ = now;
    answer_ = response(now);
    writing_ = true;
    call().start_write(answer_, false);
  }

  void on_write(bool ok) override {
    {
      std::lock_guard lock(mutex());
      writing_ = false;
      if (!ok) finish_cancelled();
    }
    tell();
  }

  void on_cancel() override {
    std::lock_guard lock(mutex());
    finish_cancelled();
  }

  grpc::ByteBuffer request_;
  grpc::ByteBuffer answer_;
  std::optional<std::string> service_;
  std::optional<Serving> told_;
  bool writing_ = false;
};

}  // namespace

void add_health_methods(Edge& edge, RpcMethods& methods) {
  methods["/grpc.health.v1.Health/Check"] = [&edge](RpcCall& call) -> RpcHandler* {
    return new HealthCheck(edge, call);
  };
  methods["/grpc.health.v1.Health/Watch"] = [&edge](RpcCall& call) -> RpcHandler* {
    return HealthWatch::start_always(edge, call);
  };
}

}  // namespace trilog::grpc_edge
