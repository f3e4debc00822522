// ControllerClient: this broker's calls to the active controller, which may be in this very process. On the thread of
// shard 0.
#pragma once

#include <string>
#include <utility>

#include "broker/api/peer_calls.h"
#include "broker/controller/controller_service.h"
#include "broker/quorum/metadata_log.h"
#include "proto/kafka/peer_messages.h"

namespace trilog {

class ControllerClient {
 public:
  // Errors as PeerCalls, and kBusy if no controller is known. `done` never runs inside; not at all after the client is
  // gone.
  template <typename Answer>
  using Done = UniqueFunction<void(Result<Answer>)>;

  // `calls` null: a cluster of one, whose controller is always here.
  ControllerClient(Env& env, BrokerId self, const MetadataLog& log, Controller& controller, PeerCalls* calls)
      : env_(env), self_(self), log_(log), controller_(controller), calls_(calls) {}

  void call(peer::RegisterBrokerRequest request, int64_t timeout_ns, Done<peer::RegisterBrokerAnswer> done) {
    send(PeerKind::kRegisterBroker, std::move(request), timeout_ns, std::move(done));
  }
  void call(peer::HeartbeatRequest request, int64_t timeout_ns, Done<peer::HeartbeatAnswer> done) {
    send(PeerKind::kHeartbeat, std::move(request), timeout_ns, std::move(done));
  }
  void call(peer::AlterPartitionRequest request, int64_t timeout_ns, Done<peer::AlterPartitionAnswer> done) {
    send(PeerKind::kAlterPartition, std::move(request), timeout_ns, std::move(done));
  }
  void call(peer::AllocateProducerIdsRequest request, int64_t timeout_ns, Done<peer::AllocateProducerIdsAnswer> done) {
    send(PeerKind::kAllocateProducerIds, request, timeout_ns, std::move(done));
  }
  void call(peer::ControlledShutdownRequest request, int64_t timeout_ns, Done<peer::ControlledShutdownAnswer> done) {
    send(PeerKind::kControlledShutdown, request, timeout_ns, std::move(done));
  }

 private:
  template <typename Request, typename Answer>
  void send(PeerKind kind, Request request, int64_t timeout_ns, Done<Answer> done) {
    const BrokerId leader = log_.leader();
    if (leader == self_) {
      return handle_call(
          controller_, std::move(request),
          ControllerReply<Answer>([done = std::move(done)](Answer answer) mutable { done(std::move(answer)); }));
    }
    if (leader == kNoBroker || calls_ == nullptr) {
      env_.executor().post([done = std::move(done)]() mutable { done(Status(Errc::kBusy, "no controller is known")); });
      return;
    }
    PeerFrame frame;
    frame.kind = kind;
    frame.body = peer::encode_peer_message(request);
    calls_->call(leader, PeerChannel::kControl, std::move(frame), timeout_ns,
                 [done = std::move(done)](Result<PeerFrame> answer) mutable {
                   if (!answer.ok()) return done(answer.status());
                   done(peer::decode_peer_message<Answer>(answer->body));
                 });
  }

  Env& env_;
  const BrokerId self_;
  const MetadataLog& log_;
  Controller& controller_;
  PeerCalls* const calls_;
};

}  // namespace trilog
