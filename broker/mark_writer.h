// MarkWriter: the one writer of the marks file (S2), on shard 0. Shards hand it changes; changes that arrive while a
// write is in flight share the next one.
#pragma once

#include <memory>
#include <vector>

#include "storage/env/env.h"
#include "storage/log/checkpoint_file.h"
#include "storage/log/log.h"

namespace trilog {

class MarkWriter {
 public:
  // `marks` starts from what was read at the start; both must outlive this.
  MarkWriter(Env& env, MarksFile& file);
  // On shard 0's thread. `done` is posted to `reply_to` after the changes are on disk. A failed sync is fatal (S3).
  void write(Marks changes, Executor& reply_to, UniqueFunction<void(Status)> done);
  // The topic is gone: its marks go with the next write.
  void forget(const TopicId& topic);

 private:
  struct Waiter {
    Executor* reply_to;
    UniqueFunction<void(Status)> done;
  };
  void start_write();

  Env& env_;
  MarksFile& file_;
  Marks marks_;
  std::vector<Waiter> waiting_;
  bool writing_ = false;
};

}  // namespace trilog
