// The controller as other brokers see it: frames in, frames out. Bodies are those of proto/kafka/peer_messages.h.
#pragma once

#include "broker/api/peer_calls.h"
#include "broker/controller/controller.h"

namespace trilog {

// Handles calls of the kinds kRegisterBroker, kHeartbeat, kAlterPartition, kAllocateProducerIds and
// kControlledShutdown; false for every other frame, which is left alone. Each is answered once, with the error inside
// its body; a body that is malformed, or speaks for another broker than `from`, is refused. A node that is not the
// active controller answers NOT_CONTROLLER. On the thread of shard 0; both must outlive the answers.
bool answer_controller_call(Controller& controller, PeerCalls& calls, BrokerId from, PeerChannel channel,
                            const PeerFrame& frame);

}  // namespace trilog
