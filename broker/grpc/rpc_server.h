// RpcServer: gRPC's server with threads of our own. gRPC 1.51 offers callbacks as well, but its threads for them go to
// sleep for 100 ms whenever nothing happened for a second: measured, 9 % of the calls to an idle server then wait up to
// 100 ms. With the async API our threads wait in the completion queue as long as it takes, and an idle server does
// nothing at all.
#pragma once

#include <grpcpp/completion_queue.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "broker/grpc/rpc.h"

namespace trilog::grpc_edge {

class RpcServer {
 public:
  RpcServer() = default;
  ~RpcServer();  // stop(0)
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  void set_methods(RpcMethods methods) { methods_ = std::move(methods); }
  // `builder` has its addresses and settings. False if gRPC cannot listen.
  bool start(grpc::ServerBuilder& builder, size_t threads);
  // Ends what is still alive after `limit_ms`, and the threads. Every handler must finish its call when it is
  // cancelled. Twice is fine.
  void stop(int64_t limit_ms);

  // Runs `task` on one of the threads after `delay_ms`, or with false as soon as the server stops.
  void after(int64_t delay_ms, std::function<void(bool on_time)> task);

  // What comes out of the completion queue.
  class Event {
   public:
    virtual ~Event() = default;
    virtual void happened(bool ok) = 0;
  };

 private:
  class Call;
  class Timer;
  // What a thread did before it gave something to gRPC is seen by the one that gets it back. gRPC sees to that, but the
  // thread sanitizer cannot look into gRPC and is told here.
  class ThroughQueue {
   public:
    void pass_on() { passed_on_.store(true, std::memory_order_release); }
    void take_over() const { (void)passed_on_.load(std::memory_order_acquire); }

   private:
    std::atomic<bool> passed_on_{false};
  };
  void accept();
  void enter();
  void leave();
  void serve();

  RpcMethods methods_;
  grpc::AsyncGenericService service_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::unique_ptr<grpc::Server> server_;
  std::vector<std::thread> threads_;
  ThroughQueue made_;  // calls and timers

  std::mutex mutex_;  // guards what follows, and that nothing is put into a queue that was shut down
  std::list<Timer*> timers_;
  bool stopping_ = false;
  size_t calls_ = 0;
  std::condition_variable idle_;
};

}  // namespace trilog::grpc_edge
