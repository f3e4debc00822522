// ProduceRequest and ProduceResponse between wire and core. The records are not copied: the request's views point into
// the slices that gRPC received. A record_batch is copied once, into the memory where the broker stamps it.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <cstdint>

#include "broker/api/requests.h"
#include "broker/options.h"

namespace trilog::grpc_edge {

struct ReceivedProduce {
  api::ProduceRequest request;  // deadline not set
  uint64_t request_id = 0;
  uint32_t timeout_ms = 0;
  bool resume = false;
  size_t bytes = 0;  // of the message as received
};

// What can be checked without knowing topics: the message itself, limits of the request, contradictions. `received` has
// request_id, partition and topic even where an error is returned, as far as they could be read.
std::optional<api::Error> parse_produce(const grpc::ByteBuffer& message, const BrokerOptions& options,
                                        ReceivedProduce& received);

// With an error in every position the call itself has failed: the error to end it with, UNKNOWN going before
// NOT_WRITTEN.
const api::Error* whole_error(const api::ProduceResult& result);
Bytes encode_produce_result(uint64_t request_id, const api::ProduceResult& result, BrokerId node);
Bytes encode_produce_error(uint64_t request_id, const api::Error& error, BrokerId node);

}  // namespace trilog::grpc_edge
