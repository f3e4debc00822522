// Server reflection (v1 and v1alpha, the same messages): tools such as grpcurl find services and messages by asking.
#pragma once

#include "broker/grpc/edge.h"
#include "broker/grpc/rpc.h"

namespace trilog::grpc_edge {

// `edge` must outlive the methods.
void add_reflection_methods(Edge& edge, RpcMethods& methods);

}  // namespace trilog::grpc_edge
