// The service trilog.v1.Broker: each call is decoded, handed to the broker, and answered from its callback. No handler
// waits: all of them share a few threads.
#pragma once

#include "broker/grpc/edge.h"
#include "broker/grpc/rpc.h"

namespace trilog::grpc_edge {

// `edge` must outlive the methods.
void add_data_methods(Edge& edge, RpcMethods& methods);

}  // namespace trilog::grpc_edge
