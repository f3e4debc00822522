// grpc.health.v1.Health: "" is alive as soon as the port is open, "trilog.v1.Broker" (and Admin) serves while the
// broker does. Every watcher is told of a change.
#pragma once

#include "broker/grpc/edge.h"
#include "broker/grpc/rpc.h"

namespace trilog::grpc_edge {

// `edge` must outlive the methods.
void add_health_methods(Edge& edge, RpcMethods& methods);

}  // namespace trilog::grpc_edge
