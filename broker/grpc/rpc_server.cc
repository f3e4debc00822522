#include "broker/grpc/rpc_server.h"

#include <grpcpp/alarm.h>

#include <atomic>
#include <chrono>
#include <utility>

#include "broker/grpc/grpc_error.h"

namespace trilog::grpc_edge {
namespace {

constexpr int kCallsAwaited = 8;  // accepted by gRPC without waiting for one of our threads

// The answer to a method that does not exist.
class UnknownMethod final : public RpcHandler {
 public:
  UnknownMethod(RpcCall& call, const std::string& method) {
    call.finish(grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "no method " + printable(method, 200)));
  }
  void on_read(bool) override {}
  void on_done() override { delete this; }
};

}  // namespace

// A slot for one call: waits for it, then carries it. Counts what it waits for, and goes when nothing is left.
class RpcServer::Call final : public RpcCall {
 public:
  explicit Call(RpcServer& server) : server_(server) {
    server_.made_.pass_on();
    context_.AsyncNotifyWhenDone(tag(closed_));
    server_.service_.RequestCall(&context_, &stream_, server_.queue_.get(), server_.queue_.get(), tag(accepted_));
  }

  grpc::ServerContext& context() override { return context_; }
  void start_read(grpc::ByteBuffer& into) override {
    pending_.fetch_add(1);
    started_.pass_on();
    stream_.Read(&into, tag(read_));
  }
  void start_write(const grpc::ByteBuffer& message, bool more_follows) override {
    pending_.fetch_add(1);
    started_.pass_on();
    // The headers go with the first message, and gRPC says that it is written only when they are: held back for a next
    // one, which waits for that, it would stay.
    const bool hold_back = !std::exchange(first_write_, false) && more_follows;
    stream_.Write(message, hold_back ? grpc::WriteOptions().set_buffer_hint() : grpc::WriteOptions(), tag(written_));
  }
  // The count for it was taken at the start, so that the call cannot go before it is finished.
  void finish(const grpc::Status& status) override {
    started_.pass_on();
    stream_.Finish(status, tag(finished_));
  }
  void finish(const grpc::ByteBuffer& last, const grpc::Status& status) override {
    started_.pass_on();
    stream_.WriteAndFinish(last, grpc::WriteOptions(), status, tag(finished_));
  }

 private:
  static void* tag(Event& event) { return &event; }

  template <void (Call::*method)(bool)>
  class CallEvent final : public Event {
   public:
    explicit CallEvent(Call& call) : call_(call) {}
    void happened(bool ok) override {
      call_.started_.take_over();
      (call_.*method)(ok);
    }

   private:
    Call& call_;
  };

  void on_accepted(bool ok) {
    if (!ok) {  // the server stops
      delete this;
      return;
    }
    server_.enter();
    server_.accept();
    auto method = server_.methods_.find(context_.method());
    // The handler may start operations, and even finish, while it is made: their events need it, and wait.
    handler_ = method != server_.methods_.end() ? method->second(*this) : new UnknownMethod(*this, context_.method());
    ready_.store(true, std::memory_order_release);
    ready_.notify_all();
    release();
  }
  RpcHandler& handler() {
    ready_.wait(false, std::memory_order_acquire);
    return *handler_;
  }
  void on_read(bool ok) {
    handler().on_read(ok);
    release();
  }
  void on_written(bool ok) {
    handler().on_write(ok);
    release();
  }
  void on_closed(bool) {
    if (context_.IsCancelled()) handler().on_cancel();
    release();
  }
  void on_finished(bool) { release(); }

  void release() {
    if (pending_.fetch_sub(1) != 1) return;
    handler().on_done();
    RpcServer& server = server_;
    delete this;
    server.leave();
  }

  RpcServer& server_;
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter stream_{&context_};
  RpcHandler* handler_ = nullptr;
  bool first_write_ = true;
  std::atomic<bool> ready_{false};
  ThroughQueue started_;
  std::atomic<int> pending_{3};  // being made, closed, finished
  CallEvent<&Call::on_accepted> accepted_{*this};
  CallEvent<&Call::on_read> read_{*this};
  CallEvent<&Call::on_written> written_{*this};
  CallEvent<&Call::on_closed> closed_{*this};
  CallEvent<&Call::on_finished> finished_{*this};
};

class RpcServer::Timer final : public Event {
 public:
  Timer(RpcServer& server, std::function<void(bool)> task) : server_(server), task_(std::move(task)) {}
  // Under the server's mutex.
  void arm(int64_t delay_ms) {
    place_ = server_.timers_.insert(server_.timers_.end(), this);
    server_.made_.pass_on();
    alarm_.Set(server_.queue_.get(), std::chrono::system_clock::now() + std::chrono::milliseconds(delay_ms),
               static_cast<Event*>(this));
  }
  void cancel() { alarm_.Cancel(); }
  void happened(bool ok) override {
    {
      std::lock_guard lock(server_.mutex_);
      server_.timers_.erase(place_);
    }
    task_(ok);
    delete this;
  }

 private:
  RpcServer& server_;
  std::function<void(bool)> task_;
  std::list<Timer*>::iterator place_;
  grpc::Alarm alarm_;
};

RpcServer::~RpcServer() { stop(0); }

bool RpcServer::start(grpc::ServerBuilder& builder, size_t threads) {
  builder.RegisterAsyncGenericService(&service_);
  queue_ = builder.AddCompletionQueue();
  server_ = builder.BuildAndStart();
  if (!server_) {
    queue_->Shutdown();
    serve();
    queue_.reset();
    return false;
  }
  for (int i = 0; i < kCallsAwaited; ++i) accept();
  for (size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { serve(); });
  }
  return true;
}

void RpcServer::accept() {
  std::lock_guard lock(mutex_);
  if (!stopping_) new Call(*this);  // owns itself
}

void RpcServer::enter() {
  std::lock_guard lock(mutex_);
  ++calls_;
}

void RpcServer::leave() {
  std::lock_guard lock(mutex_);
  if (--calls_ == 0) idle_.notify_all();
}

void RpcServer::serve() {
  void* tag = nullptr;
  bool ok = false;
  while (queue_->Next(&tag, &ok)) {
    made_.take_over();
    static_cast<Event*>(tag)->happened(ok);
  }
}

void RpcServer::after(int64_t delay_ms, std::function<void(bool)> task) {
  {
    std::lock_guard lock(mutex_);
    if (!stopping_) {
      auto* timer = new Timer(*this, std::move(task));  // owns itself
      timer->arm(delay_ms);
      return;
    }
  }
  task(false);
}

void RpcServer::stop(int64_t limit_ms) {
  if (!server_) return;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    for (Timer* timer : timers_) timer->cancel();
  }
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(limit_ms));
  {
    // The last answers of the broker may still come: their calls need the queue.
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return calls_ == 0; });
  }
  queue_->Shutdown();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  server_.reset();
  queue_.reset();
}

}  // namespace trilog::grpc_edge
