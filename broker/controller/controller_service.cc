#include "broker/controller/controller_service.h"

#include <utility>

#include "proto/kafka/peer_messages.h"

namespace trilog {

namespace {

using peer::PeerError;

// Where the answer goes. The question's body is not kept.
struct Caller {
  PeerCalls& calls;
  BrokerId from;
  PeerChannel channel;
  PeerKind kind;
  uint64_t call;

  PeerFrame question() const {
    PeerFrame frame;
    frame.kind = kind;
    frame.call = call;
    return frame;
  }
  template <typename Message>
  void answer(const Message& message) const {
    calls.answer(from, channel, question(), peer::encode_peer_message(message));
  }
};

// Decodes and hands over what `from` asks for itself.
template <typename Request, typename Answer>
void handle_frame(Controller& controller, const Caller& caller, const PeerFrame& frame) {
  Result<Request> request = peer::decode_peer_message<Request>(frame.body);
  if (!request.ok()) return caller.calls.refuse(caller.from, caller.channel, frame, request.status().message());
  if (request->broker != caller.from) {
    return caller.calls.refuse(caller.from, caller.channel, frame, "a broker may speak for itself only");
  }
  handle_call(controller, std::move(*request),
              ControllerReply<Answer>([caller](const Answer& answer) { caller.answer(answer); }));
}

PeerError registration_error(const api::Error& error) {
  return error.code == api::ErrorCode::kInvalidRequest ? PeerError::kOtherDirectory : peer_error(error.code);
}

}  // namespace

void handle_call(Controller& controller, peer::RegisterBrokerRequest request,
                 ControllerReply<peer::RegisterBrokerAnswer> done) {
  Registration registration{request.broker,       request.directory, request.address,           request.version,
                            request.peer_address, request.rack,      request.recorded_epoch,    request.clean,
                            request.same_boot,    request.recovered, std::move(request.damaged)};
  controller.register_broker(std::move(registration),
                             [done = std::move(done)](const api::Answer<BrokerEpoch>& epoch) mutable {
                               peer::RegisterBrokerAnswer answer;
                               if (epoch.ok()) {
                                 answer.epoch = epoch.value();
                               } else {
                                 answer.error = registration_error(epoch.error());
                                 answer.message = epoch.error().message;
                               }
                               done(std::move(answer));
                             });
}

void handle_call(Controller& controller, peer::HeartbeatRequest request, ControllerReply<peer::HeartbeatAnswer> done) {
  controller.heartbeat(std::move(request), std::move(done));
}

void handle_call(Controller& controller, peer::AlterPartitionRequest request,
                 ControllerReply<peer::AlterPartitionAnswer> done) {
  controller.alter_partitions(std::move(request), std::move(done));
}

void handle_call(Controller& controller, const peer::AllocateProducerIdsRequest&,
                 ControllerReply<peer::AllocateProducerIdsAnswer> done) {
  controller.allocate_producer_ids(
      [done = std::move(done)](const api::Answer<Controller::ProducerIdBlock>& block) mutable {
        peer::AllocateProducerIdsAnswer answer;
        if (block.ok()) {
          answer.first = block->first;
          answer.size = block->size;
        } else {
          answer.error = peer_error(block.error().code);
        }
        done(answer);
      });
}

void handle_call(Controller& controller, peer::ControlledShutdownRequest request,
                 ControllerReply<peer::ControlledShutdownAnswer> done) {
  controller.controlled_shutdown(request, std::move(done));
}

bool answer_controller_call(Controller& controller, PeerCalls& calls, BrokerId from, PeerChannel channel,
                            const PeerFrame& frame) {
  if (frame.answer || frame.call == 0) return false;
  const Caller caller{calls, from, channel, frame.kind, frame.call};
  using namespace peer;
  switch (frame.kind) {
    case PeerKind::kRegisterBroker:
      handle_frame<RegisterBrokerRequest, RegisterBrokerAnswer>(controller, caller, frame);
      return true;
    case PeerKind::kHeartbeat: handle_frame<HeartbeatRequest, HeartbeatAnswer>(controller, caller, frame); return true;
    case PeerKind::kAlterPartition:
      handle_frame<AlterPartitionRequest, AlterPartitionAnswer>(controller, caller, frame);
      return true;
    case PeerKind::kAllocateProducerIds:
      handle_frame<AllocateProducerIdsRequest, AllocateProducerIdsAnswer>(controller, caller, frame);
      return true;
    case PeerKind::kControlledShutdown:
      handle_frame<ControlledShutdownRequest, ControlledShutdownAnswer>(controller, caller, frame);
      return true;
    default: return false;
  }
}

}  // namespace trilog
