// The service trilog.v1.Admin.
#pragma once

#include "broker/grpc/edge.h"
#include "broker/grpc/rpc.h"

namespace trilog::grpc_edge {

// `edge` must outlive the methods.
void add_admin_methods(Edge& edge, RpcMethods& methods);

}  // namespace trilog::grpc_edge
