// Errors on the wire: api::Error to a gRPC status with google.rpc.Status details, to trailers, and to the Error message
// inside answers. The table is section "Errors" of docs/cli.md.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <string>
#include <string_view>

#include "broker/api/error_code.h"
#include "storage/base/ids.h"
#include "trilog/v1/broker.pb.h"

namespace trilog::grpc_edge {

// Stock clients and proxies repeat UNAVAILABLE by themselves, so it is given only where nothing was written.
grpc::StatusCode status_code_of(const api::Error& error);
std::string_view outcome_name(api::Outcome outcome);
// Whether the same request may be sent again as it is: never when it may have been written.
bool is_retriable(const api::Error& error);

void fill_error(const api::Error& error, BrokerId node, v1::Error& out);
// All together under 4 KiB, whatever the message says: longer texts are cut, bytes that are not text are replaced.
grpc::Status make_status(const api::Error& error, BrokerId node);
// trilog-code, trilog-outcome, trilog-retriable. Before Finish().
void add_trailers(grpc::ServerContextBase& context, const api::Error& error);

// "…" for text that is fit for a message to people: valid UTF-8 without control characters, at most `bytes_max`.
std::string printable(std::string_view text, size_t bytes_max = 500);

}  // namespace trilog::grpc_edge
