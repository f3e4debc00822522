// AsioExecutor: the Executor of one shard, an Asio io_context that one thread runs. Sockets of later edges live on the
// same loop. Work from other threads comes through a mailbox that wakes the loop once per batch, not once per task.
#pragma once

#include <memory>

#include "storage/env/env.h"

namespace trilog {

class AsioExecutor final : public Executor {
 public:
  AsioExecutor();
  ~AsioExecutor() override;  // after run() returned; destroys what was posted and never ran
  AsioExecutor(const AsioExecutor&) = delete;
  AsioExecutor& operator=(const AsioExecutor&) = delete;

  // Makes the calling thread the shard's thread until stop(). Once.
  void run();
  // Any thread. run() returns after the task under way; later tasks never run.
  void stop();

  // Timers fire in the order of their times, those of one time in the order they were made, never early.
  void post(UniqueFunction<void()> task) override;
  TimerId schedule_after(int64_t delay_ns, UniqueFunction<void()> task) override;
  void cancel(TimerId timer) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trilog
