// What all handlers of one gRPC server share: the broker, budgets of client memory, the calls that are alive, and the
// state that health reports. Thread-safe; handlers run on gRPC's threads, answers come on the shards'.
#pragma once

#include <grpcpp/server_context.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "broker/api/error_code.h"
#include "broker/broker.h"
#include "storage/base/logging.h"

namespace trilog::grpc_edge {

// Bytes of clients' data that are held in memory, against one limit.
class MemoryBudget {
 public:
  explicit MemoryBudget(uint64_t bytes_max) : bytes_max_(bytes_max) {}
  // False, and nothing taken, if they do not fit. Something always fits into an empty budget.
  bool try_take(uint64_t bytes);
  // For what is in memory already; may go over the limit, and then full() stops the next one.
  void take(uint64_t bytes) { used_.fetch_add(bytes, std::memory_order_relaxed); }
  void give_back(uint64_t bytes);
  bool full() const { return used_.load(std::memory_order_relaxed) >= bytes_max_; }
  uint64_t used() const { return used_.load(std::memory_order_relaxed); }
  uint64_t bytes_max() const { return bytes_max_; }
  // What one of many streams may hold now: an eighth of what is free. However many hold that and do not let go,
  // something is left for those who come after them.
  uint64_t share() const {
    uint64_t used = used_.load(std::memory_order_relaxed);
    return used < bytes_max_ ? (bytes_max_ - used) / 8 : 0;
  }
  // False if there is room now. Else `resume` runs once as soon as there is, inside the give_back() that made it: so
  // give_back() is never called under a lock that a resume takes. At most one per stream, bounded by streams_max.
  bool wait_for_room(std::function<void()> resume);
  bool waited_for() const { return waited_for_.load(std::memory_order_relaxed); }

 private:
  const uint64_t bytes_max_;
  std::atomic<uint64_t> used_{0};
  std::atomic<bool> waited_for_{false};
  std::mutex mutex_;
  std::vector<std::function<void()>> waiting_;
};

class Edge {
 public:
  using After = std::function<void(int64_t delay_ms, std::function<void(bool on_time)> task)>;
  Edge(Broker& broker, Logger log, After after);

  Broker& broker() { return broker_; }
  const BrokerOptions& options() const { return broker_.options(); }
  BrokerId self() const { return self_; }
  const Logger& log() const { return log_; }
  int64_t now_ns() const { return clock_.monotonic_ns(); }

  MemoryBudget& request_budget() { return request_budget_; }
  MemoryBudget& answer_budget() { return answer_budget_; }

  // The moment on the broker's clock by which an answer must leave: the smaller of `timeout_ms` (0: the default) and
  // the call's deadline less 50 ms, or less 10 % of what is left if that is smaller, so that the answer arrives before
  // the client's own timer.
  int64_t deadline_ns(const grpc::ServerContextBase& context, uint32_t timeout_ms) const;

  // Runs `task` after a delay on one of gRPC's threads, with false if the server stops first.
  void after(int64_t delay_ms, std::function<void(bool on_time)> task) { after_(delay_ms, std::move(task)); }

  // --- calls that are alive ---
  // Long calls are told when the node stops, so that they can end by themselves.
  using Calls = std::list<std::function<void()>>;
  class Registration {
   public:
    explicit Registration(Edge& edge) : edge_(edge) { edge_.enter(); }
    ~Registration() { edge_.leave(*this); }
    Registration(const Registration&) = delete;
    Registration& operator=(const Registration&) = delete;
    // `callback` runs once on the thread that stops the server, or at once if it already does. It may run a moment
    // after forget_drain() or the end of the call: it holds only what it may touch then (weak pointers, ids).
    void on_drain(std::function<void()> callback);
    void forget_drain();

   private:
    friend class Edge;
    Edge& edge_;
    Calls::iterator entry_;
    bool registered_ = false;
  };
  bool draining() const { return draining_.load(std::memory_order_acquire); }
  // Tells the long calls, and waits until no call is left or the time is up; true if none is left.
  bool drain(int64_t limit_ms);
  // A stream counts against streams_max from here on; false if there are too many.
  bool enter_stream();
  void leave_stream() { streams_.fetch_sub(1, std::memory_order_relaxed); }
  uint64_t next_stream_id() { return next_stream_id_.fetch_add(1, std::memory_order_relaxed); }

  // Whether the broker serves (its start() is done and it does not stop).
  bool serving() const { return serving_.load(std::memory_order_acquire) && !draining(); }
  void set_serving(bool serving);
  // `changed` runs after every change, on the thread that made it, until it answers false.
  void on_serving_change(std::function<bool()> changed);
  // Why a call cannot be taken now, if so: starting or stopping.
  std::optional<api::Error> refusal() const;

  // "billing-app/1.0 at ipv4:127.0.0.1:4711": what a caller says about itself, and where it is.
  std::string client_of(const grpc::ServerContext& context) const;
  // A log line for a call that failed or took long, with what the client says about itself.
  void report(const grpc::ServerContextBase& context, std::string_view method, int64_t started_ns,
              const api::Error* error) const;

 private:
  void enter();
  void leave(Registration& registration);

  Broker& broker_;
  const Clock& clock_;
  const BrokerId self_;
  const Logger log_;
  const After after_;
  MemoryBudget request_budget_;
  MemoryBudget answer_budget_;
  std::atomic<bool> serving_{false};
  std::atomic<bool> draining_{false};
  std::atomic<uint32_t> streams_{0};
  std::atomic<uint64_t> next_stream_id_{1};

  std::mutex mutex_;
  std::condition_variable idle_;
  uint64_t calls_ = 0;
  Calls on_drain_;
  std::vector<std::function<bool()>> on_serving_change_;
};

}  // namespace trilog::grpc_edge
