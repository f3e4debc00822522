// Fetch: one read of several partitions, waiting for records if the client asked for that.
#pragma once

#include "broker/grpc/edge.h"
#include "broker/grpc/rpc.h"

namespace trilog::grpc_edge {

RpcHandler* start_fetch(Edge& edge, RpcCall& call);

}  // namespace trilog::grpc_edge
