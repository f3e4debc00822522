#include "broker/grpc/edge.h"

#include <algorithm>
#include <chrono>

#include "broker/grpc/grpc_error.h"

namespace trilog::grpc_edge {
namespace {

constexpr int64_t kMarginMs = 50;
constexpr int64_t kSlowMs = 1'000;
constexpr int64_t kNsPerMs = 1'000'000;

std::string client_text(const grpc::ServerContextBase& context, const char* name) {
  const auto& metadata = context.client_metadata();
  auto found = metadata.find(name);
  return found == metadata.end() ? std::string("-") : printable({found->second.data(), found->second.size()}, 100);
}

}  // namespace

bool MemoryBudget::try_take(uint64_t bytes) {
  uint64_t used = used_.load(std::memory_order_relaxed);
  do {
    if (used != 0 && used + bytes > bytes_max_) return false;
  } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
  return true;
}

void MemoryBudget::give_back(uint64_t bytes) {
  used_.fetch_sub(bytes);
  if (!waited_for_.load() || full()) return;
  std::vector<std::function<void()>> waiting;
  {
    std::lock_guard lock(mutex_);
    waiting.swap(waiting_);
    waited_for_ = false;
  }
  for (auto& resume : waiting) resume();
}

bool MemoryBudget::wait_for_room(std::function<void()> resume) {
  std::lock_guard lock(mutex_);
  waited_for_ = true;
  // Looked at after the flag is up: whoever gives back from here on sees it.
  if (used_.load() < bytes_max_) return false;
  waiting_.push_back(std::move(resume));
  return true;
}

Edge::Edge(Broker& broker, Logger log, After after)
    : broker_(broker),
      clock_(broker.clock()),
      self_(broker.self()),
      log_(std::move(log)),
      after_(std::move(after)),
      request_budget_(broker.options().in_flight_bytes_max),
      answer_budget_(std::max(broker.options().memory_limit / 2,
                              broker.options().memory_limit -
                                  std::min(broker.options().memory_limit, broker.options().in_flight_bytes_max))) {}

int64_t Edge::deadline_ns(const grpc::ServerContextBase& context, uint32_t timeout_ms) const {
  int64_t limit_ns = static_cast<int64_t>(timeout_ms == 0 ? options().default_timeout_ms : timeout_ms) * kNsPerMs;
  gpr_timespec deadline = context.raw_deadline();
  gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
  constexpr int64_t kEndlessSeconds = 1'000'000;  // a call without deadline has one that is further away than this
  if (left.tv_sec < kEndlessSeconds) {
    int64_t left_ns = std::max<int64_t>(left.tv_sec * 1'000'000'000 + left.tv_nsec, 0);
    limit_ns = std::min(limit_ns, left_ns - std::min(kMarginMs * kNsPerMs, left_ns / 10));
  }
  return now_ns() + limit_ns;
}

void Edge::enter() {
  std::lock_guard lock(mutex_);
  ++calls_;
}

void Edge::leave(Registration& registration) {
  registration.forget_drain();
  std::lock_guard lock(mutex_);
  if (--calls_ == 0) idle_.notify_all();
}

void Edge::Registration::on_drain(std::function<void()> callback) {
  {
    std::lock_guard lock(edge_.mutex_);
    if (!edge_.draining()) {
      entry_ = edge_.on_drain_.insert(edge_.on_drain_.end(), std::move(callback));
      registered_ = true;
      return;
    }
  }
  callback();
}

void Edge::Registration::forget_drain() {
  std::lock_guard lock(edge_.mutex_);
  if (!registered_) return;
  edge_.on_drain_.erase(entry_);
  registered_ = false;
}

bool Edge::drain(int64_t limit_ms) {
  Calls calls;
  {
    std::lock_guard lock(mutex_);
    draining_.store(true, std::memory_order_release);
    calls = on_drain_;
  }
  // Outside the lock: they take locks of their own, under which others register and forget.
  for (auto& tell : calls) tell();
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, std::chrono::milliseconds(limit_ms), [this] { return calls_ == 0; });
}

void Edge::set_serving(bool serving) {
  serving_.store(serving, std::memory_order_release);
  std::vector<std::function<bool()>> listeners;
  {
    std::lock_guard lock(mutex_);
    listeners.swap(on_serving_change_);
  }
  for (auto& changed : listeners) {
    if (changed()) on_serving_change(std::move(changed));
  }
}

void Edge::on_serving_change(std::function<bool()> changed) {
  std::lock_guard lock(mutex_);
  on_serving_change_.push_back(std::move(changed));
}

bool Edge::enter_stream() {
  if (streams_.fetch_add(1, std::memory_order_relaxed) < options().streams_max) return true;
  leave_stream();
  return false;
}

std::optional<api::Error> Edge::refusal() const {
  if (draining()) {
    return api::Error(api::ErrorCode::kNodeStopping,
                      "node " + std::to_string(self_.value()) + " is stopping; try again, or another node");
  }
  if (!serving_.load(std::memory_order_acquire)) {
    return api::Error(api::ErrorCode::kLeaderNotAvailable,
                      "node " + std::to_string(self_.value()) + " is starting; try again in a moment");
  }
  return std::nullopt;
}

std::string Edge::client_of(const grpc::ServerContext& context) const {
  std::string name = client_text(context, "trilog-client");
  // What comes through the Unix socket has no address of its own.
  std::string peer = context.peer();
  return (name == "-" ? "a client" : name) + " at " + (peer == "unix:" ? "the Unix socket" : printable(peer, 100));
}

void Edge::report(const grpc::ServerContextBase& context, std::string_view method, int64_t started_ns,
                  const api::Error* error) const {
  int64_t took_ms = (now_ns() - started_ns) / kNsPerMs;
  // Refusals of the client's own making are for the client; the operator wants what is slow and what we failed at.
  bool ours =
      error != nullptr && (error->outcome == api::Outcome::kUnknown || error->code == api::ErrorCode::kDataDamaged ||
                           error->code == api::ErrorCode::kDiskFull);
  LogLevel level = ours || took_ms >= kSlowMs ? LogLevel::kWarning : LogLevel::kDebug;
  if (!log_.enabled(level) || (error == nullptr && took_ms < kSlowMs)) return;
  std::string line = std::string(method) + " took " + std::to_string(took_ms) + " ms";
  if (error != nullptr) {
    line += ", " + std::string(api::error_code_name(error->code)) + " (" + std::string(outcome_name(error->outcome)) +
            "): " + printable(error->message);
  }
  line += "; client " + client_text(context, "trilog-client") + ", traceparent " + client_text(context, "traceparent");
  if (level == LogLevel::kWarning) {
    log_.warning(line);
  } else {
    log_.debug(line);
  }
}

}  // namespace trilog::grpc_edge
