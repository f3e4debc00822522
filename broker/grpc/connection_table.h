// ConnectionTable: how many of the connections that were handed to gRPC are still open. gRPC tells nobody when it
// closes one, so each entry is a descriptor with the inode of its socket: what the number means now says whether it is
// gone. One thread uses it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <unordered_map>

namespace trilog::grpc_edge {

class ConnectionTable {
 public:
  explicit ConnectionTable(size_t connections_max) : connections_max_(connections_max) {}

  // Takes in an open socket; false, and nothing changed, if there are connections_max already. The system gives the
  // lowest free number, so most entries of what is gone are replaced by what comes; only a full table is looked
  // through, and not for every one of a crowd: what is gone may count for another tenth of a second.
  bool add(int fd);
  // At least as many as are open.
  size_t size() const { return inodes_.size(); }

 private:
  void forget_closed();

  const size_t connections_max_;
  std::unordered_map<int, ino_t> inodes_;
  std::chrono::steady_clock::time_point looked_through_at_;
};

}  // namespace trilog::grpc_edge
