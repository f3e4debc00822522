// What the two yardstick programs share: options, the batch they send, a file with group commit, statistics.
// Yardsticks stop the program with a message on the first failed system call.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "storage/base/bytes.h"

namespace trilog::bench {

struct LimitOptions {
  std::string directory = ".";    // a temporary folder is made in it and removed
  size_t total_bytes = 1u << 30;  // per round
  size_t batch_bytes = 1u << 20;
  size_t record_bytes = 1000;
  int window = 5;                      // batches on their way at once
  int replicas = 1;                    // copy_limit, sync_limit: so many processes write
  size_t unsynced_bytes = 256u << 20;  // copy_limit without sync: when so many came one begins beside it
  int rounds = 3;                      // the first one also warms up the memory and the disk
  double seconds = 2;                  // per unary measurement
  bool sync = false;                   // acknowledge after fdatasync (group commit) instead of after pwrite
  bool json = false;
  std::string topic;   // cluster_load
  std::string server;  // grpc_limit: measure the broker there instead; cluster_load: any node
};

// --server HOST:PORT --topic NAME --directory D --total-mb N --batch-kb N --record-bytes N --window N --replicas N
// --unsynced-mb N --rounds N --seconds S --sync --json
LimitOptions parse_options(int argc, char** argv, const char* program);

[[noreturn]] void die(const char* what);  // with errno's text

// A sound record batch of about batch_bytes, its values not compressible.
Bytes make_limit_batch(const LimitOptions& options);

// A file in a temporary folder that goes away with this object.
class ScratchFile {
 public:
  explicit ScratchFile(const std::string& directory);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  int fd() const { return fd_; }
  void clear();

 private:
  std::string folder_;
  int fd_;
};

void write_at(int fd, ByteView bytes, uint64_t position);

// Syncs a file on a thread of its own: one fdatasync for all that was noted meanwhile.
class GroupSync {
 public:
  // `on_synced` runs on that thread with the highest count that is durable.
  GroupSync(int fd, std::function<void(uint64_t)> on_synced);
  ~GroupSync();  // after syncing the rest
  // The first `count` appends are written. Any thread; counts never fall.
  void written(uint64_t count);

 private:
  void run();

  const int fd_;
  const std::function<void(uint64_t)> on_synced_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t written_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

double now_seconds();

// One measured line: what, how much per second, latencies.
struct Figure {
  std::string name;
  double seconds = 0;
  uint64_t bytes = 0;
  uint64_t operations = 0;
  std::vector<double> latencies_us;  // sorted by print()
};
void print(const LimitOptions& options, Figure figure);

}  // namespace trilog::bench
