// The gRPC edge of a broker: services trilog.v1.Broker and trilog.v1.Admin, health and reflection, on TCP and on a Unix
// socket. Start it before the broker's start() (the broker is told the address that clients use), say set_serving()
// when the broker is ready; on the way down drain() first, then the broker's stop(), then stop().
//
// Whoever connects before it serves waits in the system's backlog, so that a start that takes no longer than usual
// refuses nobody. A longer one is no secret: then health and "is starting" are answered.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "broker/broker.h"
#include "storage/base/logging.h"
#include "storage/base/status.h"

namespace trilog {

struct GrpcServerOptions {
  // "localhost:9092" is 127.0.0.1 and, where the machine has it, ::1; port 0: the system picks one, the same for all.
  std::vector<std::string> listen;
  std::string unix_socket;  // path; empty: none. A stale one is replaced
  Logger log;
  size_t threads = 2;
  int accept_after_ms = 1'000;  // so long after start() clients are accepted even if it does not serve yet
};

class GrpcServer {
 public:
  // `broker` must outlive it, and have been told to stop before stop().
  GrpcServer(Broker& broker, GrpcServerOptions options);
  ~GrpcServer();
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  // Takes the addresses. kAlreadyExists if a port is taken: the message names the address, and the process where it can
  // be seen; kInvalidArgument for an address that is none.
  Status start();
  // "127.0.0.1:9092", "[::1]:9092": where it listens, with the ports that were picked.
  const std::vector<std::string>& addresses() const;
  int port() const;  // of the first address

  void set_serving(bool serving);
  // No new calls (UNAVAILABLE, NODE_STOPPING); waits for those under way. True if none is left after `limit_ms`.
  bool drain(int64_t limit_ms);
  // Cancels what is left. Blocks until every call is over.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trilog
