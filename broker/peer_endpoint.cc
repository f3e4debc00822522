#include "broker/peer_endpoint.h"

#include <utility>

#include "broker/broker_impl.h"
#include "broker/controller/controller_service.h"

namespace trilog {

void PeerEndpoint::stop() {
  calls.stop();
  transport_.listen(index_, nullptr);
}

void PeerEndpoint::on_frame(BrokerId from, PeerChannel channel, PeerFrame frame) {
  if (calls.on_frame(from, frame)) return;
  switch (frame.kind) {
    case PeerKind::kRaft:
      if (MetadataLog* log = broker_.metadata_log(index_)) log->on_frame(from, channel, std::move(frame));
      return;
    case PeerKind::kRegisterBroker:
    case PeerKind::kHeartbeat:
    case PeerKind::kAlterPartition:
    case PeerKind::kAllocateProducerIds:
    case PeerKind::kControlledShutdown:
      if (Controller* controller = broker_.controller(index_)) {
        answer_controller_call(*controller, calls, from, channel, frame);
      } else if (frame.call != 0) {
        calls.refuse(from, channel, frame, "this node is starting or stopping");
      }
      return;
    case PeerKind::kProbe:
    case PeerKind::kHearing: return broker_.answer_controller_question(*this, from, channel, frame);
    case PeerKind::kRepairRange: return give_range(from, channel, frame);
    case PeerKind::kForward: return broker_.serve_forwarded(*this, from, channel, std::move(frame));
    case PeerKind::kOpenSession:
    case PeerKind::kCloseSession:
    case PeerKind::kPush:
    case PeerKind::kProgress:
    case PeerKind::kEpochEnd: return shard_.replicas.on_frame(from, channel, std::move(frame));
    default:
      if (frame.call != 0) calls.refuse(from, channel, frame, "this version does not know that call");
  }
}

void PeerEndpoint::give_range(BrokerId from, PeerChannel channel, const PeerFrame& frame) {
  if (frame.call == 0) return;
  auto request = peer::decode_peer_message<peer::RepairRangeRequest>(frame.body);
  if (!request.ok()) return calls.refuse(from, channel, frame, request.status().message());
  PeerFrame question;
  question.kind = frame.kind;
  question.call = frame.call;
  shard_.replicas.read_range(
      *request,
      [this, from, channel, question = std::make_shared<PeerFrame>(std::move(question))](Result<SharedBytes> batches) {
        if (!batches.ok()) return calls.refuse(from, channel, *question, batches.status().message());
        calls.answer(from, channel, *question, Bytes(), std::move(*batches));
      });
}

void PeerEndpoint::on_connected(const PeerIdentity& peer, PeerChannel channel) {
  if (MetadataLog* log = broker_.metadata_log(index_)) log->on_connected(peer, channel);
  if (Controller* controller = broker_.controller(index_); controller != nullptr && channel == PeerChannel::kControl) {
    controller->on_peer_connected(peer.broker);
  }
  shard_.replicas.on_connected(peer, channel);
}

void PeerEndpoint::on_disconnected(BrokerId peer, PeerChannel channel, bool refused) {
  calls.on_disconnected(peer, channel);
  if (MetadataLog* log = broker_.metadata_log(index_)) log->on_disconnected(peer, channel, refused);
  if (Controller* controller = broker_.controller(index_); controller != nullptr && channel == PeerChannel::kControl) {
    controller->on_peer_disconnected(peer, refused);
  }
  shard_.replicas.on_disconnected(peer, channel, refused);
}

}  // namespace trilog
