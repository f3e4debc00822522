// Acceptor: takes the connections of clients from listening sockets, on a thread of its own, and hands each one on. It
// is here because gRPC 1.51 closes its own listener for ever when accept() once finds no free descriptor; this one
// refuses whom it cannot serve and goes on. No error of accept() ends it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "broker/grpc/connection_table.h"
#include "broker/grpc/owned_fd.h"
#include "storage/base/logging.h"
#include "storage/base/status.h"

namespace trilog::grpc_edge {

// Of the descriptors that the process may have (limit), so many are never a connection's, but kept for the log.
size_t reserved_descriptors(size_t limit);

class Acceptor {
 public:
  struct Options {
    size_t connections_max = 10'000;
    Logger log;
  };
  // `connection` is non-blocking and close-on-exec, and the callee's. Runs on the acceptor's thread.
  using HandOver = std::function<void(int listener, OwnedFd connection)>;

  Acceptor(Options options, HandOver hand_over);
  ~Acceptor();  // stop()
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  // Accepts from `listeners`, which listen already and are non-blocking, after `closed_ms` or from open() on. kIo if
  // the system gives no descriptor for it.
  Status start(std::vector<OwnedFd> listeners, int closed_ms = 0);
  // From any thread, until stop(). Twice is fine.
  void open();
  // Closes the listening sockets; hand_over is not called any more. Twice is fine.
  void stop();

 private:
  enum class Next { kAgain, kWait, kPause };
  void wake();
  void run(int closed_ms);
  Next accept_one(int listener);
  Next refuse_with_spare(int listener);
  void refuse(const std::string& why);

  const Options options_;
  const HandOver hand_over_;
  ConnectionTable connections_;
  std::vector<OwnedFd> listeners_;
  OwnedFd wake_;
  std::atomic<bool> stopping_{false};
  // Given up for the moment that it takes to accept and close a connection when there is no other descriptor.
  OwnedFd spare_;
  std::thread thread_;

  uint64_t refused_ = 0;  // since the last line about it in the log
  std::chrono::steady_clock::time_point quiet_until_;
};

}  // namespace trilog::grpc_edge
