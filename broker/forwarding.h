// Forwarding: a request that another node has to answer goes there, once, with the time that is left, and its answer
// comes back as if it had been made here. Private to this folder; behind broker_impl.h.
#pragma once

#include <utility>

#include "broker/api/forward_codec.h"
#include "broker/broker_impl.h"

namespace trilog {

// What is said of a forwarded request that got no answer. Nothing is sent twice: whether it took effect is not known.
api::Error no_answer(api::ForwardedCall call, BrokerId to, const Status& why);
// Until when its answer is waited for, from now.
int64_t forward_timeout_ns(int64_t now_ns, int64_t deadline_ns);

// From any thread. `route`: of the shard there that it concerns. `done` runs on a shard's thread. `applied` is what the
// answering node had applied of the metadata, kNoOffset without an answer.
template <typename Request, typename Reply>
void BrokerImpl::forward(BrokerId to, uint32_t route, Request request, int64_t deadline_ns, uint64_t id, Reply done) {
  using Value = typename api::Forwarded<Request>::Value;
  constexpr api::ForwardedCall kCall = api::Forwarded<Request>::kCall;
  const int64_t now_ns = clock().monotonic_ns();
  api::ForwardedHeader header{kCall, deadline_ns == INT64_MAX ? INT64_MAX : std::max<int64_t>(deadline_ns - now_ns, 0),
                              id, image()->applied()};
  PeerFrame frame;
  frame.kind = PeerKind::kForward;
  frame.route = route;
  frame.body = api::encode_forwarded(header, request);
  if constexpr (std::same_as<Request, api::ProduceRequest>) frame.bulk = SharedBytes(std::move(request.record_batch));
  const size_t from = route % shards_.size();
  shards_[from]->post([this, to, from, deadline_ns, frame = std::move(frame), done = std::move(done)]() mutable {
    if (frame.body.empty() || frame.bulk.size() > kPeerBulkBytesMax) {
      return done(
          api::Answer<Value>(api::Error(api::ErrorCode::kInvalidRequest, "the request is too large to be passed on")),
          kNoOffset);
    }
    endpoints_[from]->calls.call(to, PeerChannel::kBulk, std::move(frame),
                                 forward_timeout_ns(clock().monotonic_ns(), deadline_ns),
                                 [to, done = std::move(done)](Result<PeerFrame> answer) mutable {
                                   if (!answer.ok())
                                     return done(api::Answer<Value>(no_answer(kCall, to, answer.status())), kNoOffset);
                                   Offset applied = kNoOffset;
                                   auto decoded = api::decode_answer<Value>(answer->body, &applied, answer->bulk);
                                   if (!decoded.ok())
                                     return done(api::Answer<Value>(no_answer(kCall, to, decoded.status())), kNoOffset);
                                   done(std::move(*decoded), applied);
                                 });
  });
}

// To the node that leads the metadata, if that is another one: true. Answered when this node has applied what the other
// one had: who asks here next sees the change. On the thread of shard 0.
template <typename Request, typename Reply>
bool BrokerImpl::forward_to_controller(const Request& request, Origin origin, Reply& done) {
  const BrokerId leader = metadata_log_->leader();
  if (transport_ == nullptr || origin == Origin::kPeer || leader == self() || leader == kNoBroker) return false;
  const int64_t deadline_ns = clock().monotonic_ns() + int64_t{options_.default_timeout_ms} * 1'000'000;
  forward(leader, 0, request, deadline_ns, 0, [this, done = std::move(done)](auto answer, Offset applied) mutable {
    when_applied(applied, [done = std::move(done), answer = std::move(answer)]() mutable { done(std::move(answer)); });
  });
  return true;
}

}  // namespace trilog
