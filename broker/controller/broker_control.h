// Brokers: what their registrations, deaths and departures mean for the cluster (rules C3, C4, C6, C8, C9, C10, S9).
//
// A change may touch every partition there is. It is planned in steps of at most kPartitionChangesPerStep partitions,
// so that no proposal grows without bound; every prefix of the records, within a step and between steps, is a state
// that may be seen, and a step computed anew from what is committed goes on where the last one ended, also on another
// controller.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "broker/controller/controller.h"
#include "broker/controller/isr_control.h"
#include "broker/controller/planned_state.h"

namespace trilog {

inline constexpr size_t kPartitionChangesPerStep = 10'000;

// Nothing: the records so far have to be committed, then the same plan is asked again.
template <typename T>
using Step = std::optional<api::Answer<T>>;

struct RegistrationContext {
  // The broker has applied everything up to its own registration by the time that is committed (C4). So it is for the
  // only voter of a quorum: nothing is committed before it has committed and applied it itself. Then there is no moment
  // between being registered and serving, and no second round of writes at every start.
  bool caught_up = false;
  bool expired = false;  // the session of the registered process has ended
  int64_t now_ms = 0;    // wall clock, for the audit
};
// Removal of the broker's former process from every ISR, what C8 says of the ELR, and the registration, whose offset is
// the new broker epoch; for `caught_up` also the end of its fencing and its elections. A replica that nobody else has
// and that is damaged is reported in an audit record.
//
// INVALID_REQUEST while a live registration of another data folder exists for the same node (C3): two processes, or a
// copied configuration.
Step<BrokerEpoch> plan_registration(PlannedState& state, const Registration& registration,
                                    const RegistrationContext& context);

// The processes have ended, as far as anybody can tell: they lead nothing and leave every ISR together (C3, C4), then
// they are fenced. Those that are registered with another epoch meanwhile are passed over.
Step<api::Unit> plan_fence(PlannedState& state, const std::map<BrokerId, BrokerEpoch>& brokers);

// The broker has caught up to its registration (C4): it may lead and be in sync again. Partitions without a leader that
// it may lead get one. False if it is another process by now.
Step<bool> plan_unfence(PlannedState& state, BrokerId broker, BrokerEpoch epoch);

// Replicas that the broker found damaged (S9) are set aside.
Step<api::Unit> plan_set_aside(PlannedState& state, BrokerId broker, const std::vector<TopicPartition>& damaged);

// The broker wants to shut down (C9): it hands over what it can, and joins and leads nothing new. `leaves_isr`, once it
// knows of that: it leaves every ISR where enough remain. Until then nothing is committed without it, so that it cannot
// tell an end that others have gone beyond (X12).
Step<bool> plan_shutdown(PlannedState& state, BrokerId broker, BrokerEpoch epoch, bool leaves_isr);
// An operator wants it to lead nothing for a while; it goes on following. `moved` partitions have another leader now,
// `left` have nobody else in sync; the steps count together in `moved`.
Step<api::DrainResult> plan_drain(PlannedState& state, const api::DrainRequest& request, int32_t& moved);

// Its disk is full (S8): it goes on following as long as it can, and those in sync whose disk is not, by `full`, lead.
// How many partitions have another leader now, counted over the steps in `moved`.
Step<int32_t> plan_relief(PlannedState& state, BrokerId broker, const std::set<BrokerId>& full, int32_t& moved);

// A survivor of a lost quorum begins alone: every partition as after_lost_quorum() says, `done` of them in earlier
// steps, and producer ids above all that can have been handed out. Its log may end with what no majority ever had, its
// own last wishes when it led; so what is believed about a partition must be in `committed` too, the image of what was
// known to be committed before (nullptr: nothing is).
Step<api::Unit> plan_quorum_recovery(PlannedState& state, const QuorumRecoveryRecord& recovery,
                                     const MetadataImage* committed, size_t& done);

// Partitions that `broker` leads, those of them that somebody else could take over, and those led by others whose ISR
// it could leave.
struct Leaderships {
  int32_t all = 0;
  int32_t movable = 0;
  int32_t in_sync = 0;
};
Leaderships count_leaderships(const MetadataImage& image, BrokerId broker);

}  // namespace trilog
