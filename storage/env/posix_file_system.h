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

// `executor` receives the callbacks of sync() and sync_directory(); `runner` does their waiting. Both must outlive the
// file system and its files. Files opened here keep one descriptor each.
std::unique_ptr<FileSystem> make_posix_file_system(Executor& executor, SyncRunner& runner);

// For tools and clients that never sync asynchronously: sync() blocks and calls back at once.
std::unique_ptr<FileSystem> make_blocking_posix_file_system();

}  // namespace trilog
