// How clients of the simulated world reach its brokers: a request travels, is taken by the process that runs when it
// arrives, and its answer travels back. What a real client sees when a process is gone, stands still or dies in the
// middle is what these see.
//
//   gateway.ask<api::ProduceResult>(node, timeout_ns,
//       [](Broker& broker, auto done) { broker.produce(…, std::move(done)); },
//       [](Reply<api::ProduceResult> reply) { … });
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "tests/sim/sim_cluster.h"

namespace trilog::simulator {

template <typename T>
struct Reply {
  enum class Fate {
    kAnswered,
    kRefused,  // nobody listened: the request was never taken
    kLost,     // the process ended, or no answer came in time: what became of it is not known
  };
  Fate fate = Fate::kLost;
  std::optional<api::Answer<T>> answer;  // if answered

  bool ok() const { return answer && answer->ok(); }
};

class Gateway {
 public:
  explicit Gateway(sim::SimCluster& cluster) : cluster_(cluster), self_(std::make_shared<Gateway*>(this)) {}
  // What is under way is not answered any more.
  ~Gateway() { *self_ = nullptr; }
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  sim::World& world() { return cluster_.world(); }
  sim::SimCluster& cluster() { return cluster_; }
  int64_t now_ns() { return world().now_ns(); }

  // `call(broker, done)` makes the call; `then` runs once, as an event of the world.
  template <typename T, typename Call>
  void ask(int node, int64_t timeout_ns, Call call, UniqueFunction<void(Reply<T>)> then) {
    auto pending = std::make_shared<Pending<T>>();
    pending->then = std::move(then);
    after(draw_delay(), [this, node, pending, call = std::move(call)]() mutable {
      arrive<T>(node, cluster_.life(node), pending, std::move(call));
    });
    after(timeout_ns, [pending] { pending->finish({}); });
  }

  // Runs `task` later unless this is gone then.
  void after(int64_t delay_ns, UniqueFunction<void()> task) {
    world().after(delay_ns, [self = self_, task = std::move(task)]() mutable {
      if (*self != nullptr) task();
    });
  }
  int64_t draw_delay() { return 30'000 + static_cast<int64_t>(world().random().below(150'000)); }

 private:
  template <typename T>
  struct Pending {
    UniqueFunction<void(Reply<T>)> then;
    void finish(Reply<T> reply) {
      if (!then) return;
      auto now = std::move(then);
      then = nullptr;
      now(std::move(reply));
    }
  };
  // The broker's callback. Destroyed without having run, it tells that the connection broke.
  template <typename T>
  class Return {
   public:
    Return(Gateway& gateway, std::shared_ptr<Pending<T>> pending)
        : gateway_(gateway), alive_(gateway.self_), pending_(std::move(pending)) {}
    Return(Return&&) noexcept = default;
    Return& operator=(Return&&) = delete;
    ~Return() {
      if (pending_) send({});
    }
    void operator()(api::Answer<T> answer) { send({Reply<T>::Fate::kAnswered, std::move(answer)}); }

   private:
    void send(Reply<T> reply) {
      auto pending = std::exchange(pending_, nullptr);
      if (!pending || *alive_ == nullptr) return;
      gateway_.after(gateway_.draw_delay(),
                     [pending, reply = std::move(reply)]() mutable { pending->finish(std::move(reply)); });
    }
    Gateway& gateway_;
    std::shared_ptr<Gateway*> alive_;
    std::shared_ptr<Pending<T>> pending_;
  };

  template <typename T, typename Call>
  void arrive(int node, uint64_t life, const std::shared_ptr<Pending<T>>& pending, Call call) {
    if (!cluster_.runs(node)) return pending->finish({Reply<T>::Fate::kRefused, std::nullopt});
    if (cluster_.life(node) != life) return pending->finish({});
    if (cluster_.paused(node)) {  // it lies in the socket until the process goes on, even if nobody waits any more
      return after(kPollNs, [this, node, life, pending, call = std::move(call)]() mutable {
        arrive<T>(node, life, pending, std::move(call));
      });
    }
    call(*cluster_.broker(node), UniqueFunction<void(api::Answer<T>)>(Return<T>(*this, pending)));
  }

  static constexpr int64_t kPollNs = 20'000'000;

  sim::SimCluster& cluster_;
  const std::shared_ptr<Gateway*> self_;
};

}  // namespace trilog::simulator
