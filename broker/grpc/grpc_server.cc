#include "broker/grpc/grpc_server.h"

#include <google/protobuf/stubs/logging.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <unistd.h>

#include <utility>

#include "broker/grpc/acceptor.h"
#include "broker/grpc/admin_service.h"
#include "broker/grpc/data_service.h"
#include "broker/grpc/edge.h"
#include "broker/grpc/health_service.h"
#include "broker/grpc/listen_address.h"
#include "broker/grpc/reflection_service.h"
#include "broker/grpc/rpc_server.h"

namespace trilog {
namespace {

// Above the limit of a request, so that the refusal of a larger one comes from us, with its reason.
constexpr int kReceiveBytesMax = 64 << 20;
// A client may ping this often, also without calls; we ping one that was silent for long, to notice that it is gone.
constexpr int kPingIntervalMinMs = 5'000;
constexpr int kKeepaliveMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 10'000;
// A connection on which nobody speaks HTTP/2 within this time is closed: it only holds a descriptor.
constexpr int kHandshakeMs = 20'000;
// Records come by the megabyte: fewer, larger frames, and room for a whole request before we acknowledge it.
constexpr int kFrameBytes = 1 << 20;
constexpr int kLookAheadBytes = 4 << 20;

void configure(grpc::ServerBuilder& builder, const BrokerOptions& options) {
  builder.SetMaxReceiveMessageSize(kReceiveBytesMax);
  builder.SetMaxSendMessageSize(-1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, kFrameBytes);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kLookAheadBytes);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kPingIntervalMinMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, static_cast<int>(options.streams_max));
  builder.SetResourceQuota(grpc::ResourceQuota("trilog").Resize(options.memory_limit));
}

}  // namespace

struct GrpcServer::Impl {
  Impl(Broker& broker, GrpcServerOptions given)
      : options(std::move(given)), edge(broker, options.log, [this](int64_t delay_ms, std::function<void(bool)> task) {
          server.after(delay_ms, std::move(task));
        }) {}

  Status start() {
    std::vector<grpc_edge::ListenSocket> sockets = TRY(grpc_edge::listen_on(options.listen));
    std::vector<grpc_edge::OwnedFd> listeners;
    for (auto& socket : sockets) listeners.push_back(std::move(socket.fd));
    // Whoever holds the data folder owns the socket in it; what lies there is from a process that is gone.
    if (!options.unix_socket.empty()) listeners.push_back(TRY(grpc_edge::listen_on_unix(options.unix_socket)));

    grpc::ServerBuilder builder;
    configure(builder, edge.options());
    auto taker = builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, grpc::InsecureServerCredentials());
    if (!server.start(builder, options.threads)) return {Errc::kIo, "gRPC does not start"};
    acceptor = std::make_unique<grpc_edge::Acceptor>(
        grpc_edge::Acceptor::Options{.connections_max = edge.options().connections_max, .log = options.log},
        [taker = std::shared_ptr(std::move(taker))](int listener, grpc_edge::OwnedFd connection) {
          grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
          parameters.listener_fd = listener;
          parameters.fd = connection.release();
          taker->HandleNewConnection(&parameters);
        });
    TRY(acceptor->start(std::move(listeners), options.accept_after_ms));
    for (const auto& socket : sockets) addresses.push_back(socket.address.text());
    port = sockets.front().address.port;
    return {};
  }

  const GrpcServerOptions options;
  grpc_edge::Edge edge;
  grpc_edge::RpcServer server;
  std::unique_ptr<grpc_edge::Acceptor> acceptor;
  std::vector<std::string> addresses;
  int port = 0;
};

GrpcServer::GrpcServer(Broker& broker, GrpcServerOptions options)
    : impl_(std::make_unique<Impl>(broker, std::move(options))) {
  // protobuf would print a line for every text that is not UTF-8, as often as a client likes; the client is told.
  google::protobuf::SetLogHandler(nullptr);
  grpc_edge::RpcMethods methods;
  grpc_edge::add_data_methods(impl_->edge, methods);
  grpc_edge::add_admin_methods(impl_->edge, methods);
  grpc_edge::add_health_methods(impl_->edge, methods);
  grpc_edge::add_reflection_methods(impl_->edge, methods);
  impl_->server.set_methods(std::move(methods));
}

GrpcServer::~GrpcServer() { stop(); }

Status GrpcServer::start() { return impl_->start(); }
const std::vector<std::string>& GrpcServer::addresses() const { return impl_->addresses; }
int GrpcServer::port() const { return impl_->port; }
void GrpcServer::set_serving(bool serving) {
  impl_->edge.set_serving(serving);
  if (serving && impl_->acceptor) impl_->acceptor->open();
}
bool GrpcServer::drain(int64_t limit_ms) { return impl_->edge.drain(limit_ms); }

void GrpcServer::stop() {
  // First: gRPC must not be given connections once it shuts down.
  if (impl_->acceptor) impl_->acceptor->stop();
  impl_->server.stop(0);
  if (!impl_->options.unix_socket.empty()) ::unlink(impl_->options.unix_socket.c_str());
}

}  // namespace trilog
