// The controller as other brokers see it: frames in, frames out. Bodies are those of proto/kafka/peer_messages.h.
#pragma once

#include "broker/api/peer_calls.h"
#include "broker/controller/controller.h"

namespace trilog {

// The same calls for the broker beside the controller.
template <typename Answer>
using ControllerReply = Controller::Reply<Answer>;
void handle_call(Controller& controller, peer::RegisterBrokerRequest request,
                 ControllerReply<peer::RegisterBrokerAnswer> done);
void handle_call(Controller& controller, peer::HeartbeatRequest request, ControllerReply<peer::HeartbeatAnswer> done);
void handle_call(Controller& controller, peer::AlterPartitionRequest request,
                 ControllerReply<peer::AlterPartitionAnswer> done);
void handle_call(Controller& controller, const peer::AllocateProducerIdsRequest& request,
                 ControllerReply<peer::AllocateProducerIdsAnswer> done);
void handle_call(Controller& controller, peer::ControlledShutdownRequest request,
                 ControllerReply<peer::ControlledShutdownAnswer> done);

// Handles calls of the kinds kRegisterBroker, kHeartbeat, kAlterPartition, kAllocateProducerIds and
// kControlledShutdown; false for every other frame, which is left alone. Each is answered once, with the error inside
// its body; a body that is malformed, or speaks for another broker than `from`, is refused. A node that is not the
// active controller answers NOT_CONTROLLER. On the thread of shard 0; both must outlive the answers.
bool answer_controller_call(Controller& controller, PeerCalls& calls, BrokerId from, PeerChannel channel,
                            const PeerFrame& frame);

}  // namespace trilog
