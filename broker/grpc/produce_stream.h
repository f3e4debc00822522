// ProduceStream: pipelined produce requests, answered in their order.
#pragma once

#include "broker/grpc/edge.h"
#include "broker/grpc/rpc.h"

namespace trilog::grpc_edge {

RpcHandler* start_produce_stream(Edge& edge, RpcCall& call);

}  // namespace trilog::grpc_edge
