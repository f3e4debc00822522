#include "broker/grpc/connection_table.h"

#include <sys/stat.h>

#include <iterator>

namespace trilog::grpc_edge {
namespace {

constexpr std::chrono::milliseconds kLookThroughInterval(100);

// The inode of an open socket, 0 for everything else.
ino_t socket_inode(int fd) {
  struct stat found {};
  return ::fstat(fd, &found) == 0 && S_ISSOCK(found.st_mode) ? found.st_ino : 0;
}

}  // namespace

bool ConnectionTable::add(int fd) {
  bool is_known_number = inodes_.count(fd) != 0;
  if (!is_known_number && inodes_.size() >= connections_max_) {
    forget_closed();
    if (inodes_.size() >= connections_max_) return false;
  }
  inodes_[fd] = socket_inode(fd);
  return true;
}

void ConnectionTable::forget_closed() {
  auto now = std::chrono::steady_clock::now();
  if (now - looked_through_at_ < kLookThroughInterval) return;
  looked_through_at_ = now;
  for (auto entry = inodes_.begin(); entry != inodes_.end();) {
    entry = socket_inode(entry->first) == entry->second ? std::next(entry) : inodes_.erase(entry);
  }
}

}  // namespace trilog::grpc_edge
