// The real file system. Blocking syncs run on a SyncRunner, so that this room needs no threads of its own.
#pragma once

#include <memory>

#include "storage/env/env.h"

namespace trilog {

// Runs blocking work elsewhere (runtime's IoPool). Called on any shard's thread.
class SyncRunner {
 public:
  virtual ~SyncRunner() = default;
  virtual void run(UniqueFunction<void()> blocking_work) = 0;
};

// `executor` receives the callbacks of sync(), sync_directory() and load(); `syncs` does the waiting of the first two,
// `loads` that of the last: readers of old data must not stand in the way of writers. All must outlive the file system
// and its files. Files opened here keep one descriptor each.
std::unique_ptr<FileSystem> make_posix_file_system(Executor& executor, SyncRunner& syncs, SyncRunner& loads);

// For tools and clients that never sync asynchronously: sync() blocks and calls back at once.
std::unique_ptr<FileSystem> make_blocking_posix_file_system();

}  // namespace trilog
