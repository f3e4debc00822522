// Brokers: what the start of a process means for the cluster (rules C3, C4, C6, C8, C10).
#pragma once

#include "broker/controller/controller.h"
#include "broker/controller/planned_state.h"

namespace trilog {

// Adds, as one step: the registration, whose offset is the new broker epoch; for `caught_up` the end of its fencing;
// and a new state for every partition that the broker leads or follows.
//
// `caught_up`: the broker has applied everything up to its own registration by the time the registration is committed
// (C4). That is so for the only voter of a quorum: nothing is committed before it has committed and applied it itself.
// Then there is no moment between being registered and serving, and no second round of writes at every start.
//
// INVALID_REQUEST while another data folder is registered for the same node (C3): two processes, or a copied
// configuration.
api::Answer<BrokerEpoch> plan_registration(PlannedState& state, const Registration& registration, bool caught_up);

// The partition after a process of `broker`, one of its replicas, started anew: nothing that was true of the old
// process holds. With others in the ISR it leaves the ISR (and the ELR: without a look at its disk it may have lost its
// tail, C8), and somebody else leads. If it was the last of the ISR it stays, because nobody has more than it has; it
// leads again if it is in `eligible`, in a new leader epoch. Nothing if the partition stays as it is.
std::optional<PartitionImage> after_restart(const PartitionImage& partition, BrokerId broker,
                                            const std::set<BrokerId>& eligible);

}  // namespace trilog
