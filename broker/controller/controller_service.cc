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
template <typename Request, typename Handle>
void handle(const Caller& caller, const PeerFrame& frame, Handle handle_request) {
  Result<Request> request = peer::decode_peer_message<Request>(frame.body);
  if (!request.ok()) return caller.calls.refuse(caller.from, caller.channel, frame, request.status().message());
  if (request->broker != caller.from) {
    return caller.calls.refuse(caller.from, caller.channel, frame, "a broker may speak for itself only");
  }
  handle_request(std::move(*request));
}

PeerError registration_error(const api::Error& error) {
  return error.code == api::ErrorCode::kInvalidRequest ? PeerError::kOtherDirectory : peer_error(error.code);
}

void register_broker(Controller& controller, const Caller& caller, peer::RegisterBrokerRequest request) {
  Registration registration{request.broker,       request.directory, request.address,           request.version,
                            request.peer_address, request.rack,      request.recorded_epoch,    request.clean,
                            request.same_boot,    request.recovered, std::move(request.damaged)};
  controller.register_broker(std::move(registration), [caller](const api::Answer<BrokerEpoch>& epoch) {
    peer::RegisterBrokerAnswer answer;
    if (epoch.ok()) {
      answer.epoch = epoch.value();
    } else {
      answer.error = registration_error(epoch.error());
      answer.message = epoch.error().message;
    }
    caller.answer(answer);
  });
}

void allocate_producer_ids(Controller& controller, const Caller& caller) {
  controller.allocate_producer_ids([caller](const api::Answer<Controller::ProducerIdBlock>& block) {
    peer::AllocateProducerIdsAnswer answer;
    if (block.ok()) {
      answer.first = block->first;
      answer.size = block->size;
    } else {
      answer.error = peer_error(block.error().code);
    }
    caller.answer(answer);
  });
}

}  // namespace

bool answer_controller_call(Controller& controller, PeerCalls& calls, BrokerId from, PeerChannel channel,
                            const PeerFrame& frame) {
  if (frame.answer || frame.call == 0) return false;
  const Caller caller{calls, from, channel, frame.kind, frame.call};
  auto reply = [caller](const auto& answer) { caller.answer(answer); };
  switch (frame.kind) {
    case PeerKind::kRegisterBroker:
      handle<peer::RegisterBrokerRequest>(caller, frame, [&](peer::RegisterBrokerRequest request) {
        register_broker(controller, caller, std::move(request));
      });
      return true;
    case PeerKind::kHeartbeat:
      handle<peer::HeartbeatRequest>(
          caller, frame, [&](peer::HeartbeatRequest request) { controller.heartbeat(std::move(request), reply); });
      return true;
    case PeerKind::kAlterPartition:
      handle<peer::AlterPartitionRequest>(caller, frame, [&](peer::AlterPartitionRequest request) {
        controller.alter_partitions(std::move(request), reply);
      });
      return true;
    case PeerKind::kAllocateProducerIds:
      handle<peer::AllocateProducerIdsRequest>(
          caller, frame, [&](const peer::AllocateProducerIdsRequest&) { allocate_producer_ids(controller, caller); });
      return true;
    case PeerKind::kControlledShutdown:
      handle<peer::ControlledShutdownRequest>(caller, frame, [&](peer::ControlledShutdownRequest request) {
        controller.controlled_shutdown(request, reply);
      });
      return true;
    default: return false;
  }
}

}  // namespace trilog
