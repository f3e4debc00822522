// Addresses to listen on: text to numbers, free ports, and who holds a port that is taken.
#pragma once

#include <string>
#include <vector>

#include "storage/base/status.h"

namespace trilog::grpc_edge {

// "127.0.0.1:9092" or "[::1]:9092", with a port that was free a moment ago.
struct ListenAddress {
  std::string host;  // numeric, without brackets
  int port = 0;
  bool is_v6 = false;
  std::string text() const;
};

// "localhost:P", "HOST:P", "[V6]:P", ":P" (all interfaces). Host names are looked up. Port 0 becomes a free port, one
// for all addresses of `listen`. An address that cannot be bound is kAlreadyExists (taken, with the process that has
// it) or kInvalidArgument.
Result<std::vector<ListenAddress>> resolve_listen(const std::vector<std::string>& listen);

// "trilog (pid 4711)" or empty: which process listens on a TCP port of this machine, as far as /proc tells us.
std::string holder_of_port(int port);

}  // namespace trilog::grpc_edge
