#include "broker/api/peer_calls.h"

namespace trilog {

PeerCalls::~PeerCalls() {
  for (auto& [number, waiting] : waiting_) env_.executor().cancel(waiting.timer);
}

void PeerCalls::call(BrokerId to, PeerChannel channel, PeerFrame frame, int64_t timeout_ns, Done done) {
  if (stopped_) return fail_later(std::move(done), Status(Errc::kBusy, "this node is stopping"));
  if (waiting_.size() >= kCallsMax) return fail_later(std::move(done), Status(Errc::kBusy, "too many calls to peers"));
  // The shard in the upper bits, so that answers find their way back to it.
  const uint64_t number = uint64_t{shard_} << 48 | next_++;
  frame.call = number;
  frame.answer = false;
  if (!transport_.send(to, channel, std::move(frame))) {
    return fail_later(std::move(done), Status(Errc::kBusy, "node " + std::to_string(to.value()) + " is not connected"));
  }
  Waiting waiting{to, channel, 0, std::move(done)};
  waiting.timer = env_.executor().schedule_after(timeout_ns, [this, number, to] {
    auto found = waiting_.find(number);
    if (found == waiting_.end()) return;
    found->second.timer = 0;
    end(number, Status(Errc::kFailed, "node " + std::to_string(to.value()) + " did not answer in time"));
  });
  waiting_.emplace(number, std::move(waiting));
}

void PeerCalls::answer(BrokerId to, PeerChannel channel, const PeerFrame& question, Bytes body, SharedBytes bulk) {
  PeerFrame frame;
  frame.kind = question.kind;
  frame.route = static_cast<uint32_t>(question.call >> 48);
  frame.call = question.call;
  frame.answer = true;
  frame.body = std::move(body);
  frame.bulk = std::move(bulk);
  // If it cannot be sent the caller sees its connection break or its time run out.
  static_cast<void>(transport_.send(to, channel, std::move(frame)));
}

void PeerCalls::refuse(BrokerId to, PeerChannel channel, const PeerFrame& question, std::string_view why) {
  PeerFrame frame;
  frame.kind = PeerKind::kRefused;
  frame.route = static_cast<uint32_t>(question.call >> 48);
  frame.call = question.call;
  frame.answer = true;
  frame.body = Bytes::copy_of(why);
  static_cast<void>(transport_.send(to, channel, std::move(frame)));
}

bool PeerCalls::on_frame(BrokerId from, PeerFrame& frame) {
  if (!frame.answer) return false;
  auto found = waiting_.find(frame.call);
  if (found == waiting_.end() || found->second.to != from) return true;
  if (frame.kind == PeerKind::kRefused) {
    end(frame.call, Status(Errc::kUnsupported, std::string(as_text(frame.body.view()))));
  } else {
    const uint64_t number = frame.call;
    end(number, std::move(frame));
  }
  return true;
}

void PeerCalls::on_disconnected(BrokerId peer, PeerChannel channel) {
  std::vector<uint64_t> lost;
  for (const auto& [number, waiting] : waiting_) {
    if (waiting.to == peer && waiting.channel == channel) lost.push_back(number);
  }
  for (uint64_t number : lost) {
    end(number, Status(Errc::kFailed, "the connection to node " + std::to_string(peer.value()) + " was lost"));
  }
}

void PeerCalls::stop() {
  stopped_ = true;
  while (!waiting_.empty()) end(waiting_.begin()->first, Status(Errc::kFailed, "this node is stopping"));
}

void PeerCalls::end(uint64_t number, Result<PeerFrame> result) {
  auto found = waiting_.find(number);
  if (found == waiting_.end()) return;
  Waiting waiting = std::move(found->second);
  waiting_.erase(found);
  if (waiting.timer != 0) env_.executor().cancel(waiting.timer);
  env_.executor().post(
      [done = std::move(waiting.done), result = std::move(result)]() mutable { done(std::move(result)); });
}

void PeerCalls::fail_later(Done done, Status why) {
  env_.executor().post([done = std::move(done), why = std::move(why)]() mutable { done(std::move(why)); });
}

}  // namespace trilog
