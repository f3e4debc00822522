// Sockets to listen on: text to numbers, free ports, and who holds a port that is taken.
#pragma once

#include <string>
#include <vector>

#include "broker/grpc/owned_fd.h"
#include "storage/base/status.h"

namespace trilog::grpc_edge {

// "127.0.0.1:9092" or "[::1]:9092".
struct ListenAddress {
  std::string host;  // numeric, without brackets
  int port = 0;
  bool is_v6 = false;
  std::string text() const;
};

// A socket that listens, non-blocking and close-on-exec. Its connections inherit what matters for them: no delay of
// small packets, and an end after some seconds without an acknowledgement of the other side.
struct ListenSocket {
  ListenAddress address;
  OwnedFd fd;
};

// "localhost:P" (127.0.0.1 and, where the machine has it, ::1), "HOST:P", "[V6]:P", ":P" (all interfaces). Host names
// are looked up. All interfaces of one family means those of both, where the machine has both. Port 0 becomes a free
// port, one for all addresses of `listen`. An address that cannot be bound is kAlreadyExists (taken, with the process
// that has it) or kInvalidArgument.
Result<std::vector<ListenSocket>> listen_on(const std::vector<std::string>& listen);

// A Unix socket at `path`; what lies there is replaced.
Result<OwnedFd> listen_on_unix(const std::string& path);

// "trilog (pid 4711)" or empty: which process listens on a TCP port of this machine, as far as /proc tells us.
std::string holder_of_port(int port);

}  // namespace trilog::grpc_edge
