// Consume: a stream that pushes records of several partitions as they come.
#pragma once

#include "broker/grpc/edge.h"
#include "broker/grpc/rpc.h"

namespace trilog::grpc_edge {

RpcHandler* start_consume_stream(Edge& edge, RpcCall& call);

}  // namespace trilog::grpc_edge
