// ShardPool: the threads of a broker process. N shards, each a thread with its own Env: real clock, event loop, files,
// random numbers, log.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "storage/base/logging.h"
#include "storage/env/env.h"

namespace trilog {

struct ShardPoolOptions {
  int shards = 1;
  size_t io_threads_max = 16;  // helper threads that wait for the disk, started when needed
  Logger log;
  // Env::fatal(), on a shard's thread: must not return to business as usual (rule S3). Default: logs and ends the
  // process at once, without running exit handlers.
  std::function<void(const Status&)> fatal;
};

// max(1, cores - 1), at most 64: the rest is for gRPC and the disk.
int default_shard_count();

class ShardPool {
 public:
  explicit ShardPool(ShardPoolOptions options);  // starts the shards' threads
  ~ShardPool();                                  // stop()
  ShardPool(const ShardPool&) = delete;
  ShardPool& operator=(const ShardPool&) = delete;

  // One per shard; they live as long as the pool.
  std::vector<Env*> envs();
  // Ends the threads after the task under way; later tasks are destroyed without running. Syncs under way are waited
  // for. Not from a shard's thread. Twice is fine.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trilog
