// PeerCalls: questions and answers over a PeerTransport. Numbers the calls of one shard, matches answers, and ends each
// call exactly once: with the answer, with the refusal, when the connection breaks, at its deadline, or on stop().
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "broker/api/peer_transport.h"
#include "storage/base/status.h"
#include "storage/env/env.h"

namespace trilog {

// On the thread of its Env's shard. Calls of several users may share one.
class PeerCalls {
 public:
  // Errors: kBusy: was not sent (not connected, queue full, too many calls): nothing happened. kFailed: it is not known
  // what happened (connection lost, deadline). kUnsupported: the other side refused it, with its words.
  using Done = UniqueFunction<void(Result<PeerFrame>)>;

  // Its numbers begin anywhere: an answer to a call of an earlier process of this node, which may come over a new
  // connection, is then an answer to nothing.
  PeerCalls(Env& env, PeerTransport& transport, uint32_t shard)
      : env_(env), transport_(transport), shard_(shard), next_(env.random().next() >> 17 | 1) {}
  ~PeerCalls();
  PeerCalls(const PeerCalls&) = delete;
  PeerCalls& operator=(const PeerCalls&) = delete;

  // `done` never runs inside. The frame's `call` is set here.
  void call(BrokerId to, PeerChannel channel, PeerFrame frame, int64_t timeout_ns, Done done);
  // Answers a frame that came as a call.
  void answer(BrokerId to, PeerChannel channel, const PeerFrame& question, Bytes body, SharedBytes bulk = {});
  void refuse(BrokerId to, PeerChannel channel, const PeerFrame& question, std::string_view why);

  // From the shard's PeerListener. True if the frame was an answer (to a call that may have ended already).
  bool on_frame(BrokerId from, PeerFrame& frame);
  void on_disconnected(BrokerId peer, PeerChannel channel);
  // Ends all calls with kFailed; later ones end with kBusy.
  void stop();

  static constexpr size_t kCallsMax = 100'000;

 private:
  struct Waiting {
    BrokerId to = kNoBroker;
    PeerChannel channel = PeerChannel::kControl;
    TimerId timer = 0;
    Done done;
  };
  void end(uint64_t number, Result<PeerFrame> result);
  void fail_later(Done done, Status why);

  Env& env_;
  PeerTransport& transport_;
  const uint32_t shard_;
  uint64_t next_;  // below 2^47 at the beginning
  bool stopped_ = false;
  std::map<uint64_t, Waiting> waiting_;
};

}  // namespace trilog
