// Who leads a partition: a pure function of its state and of who may lead now (rule C7). Only the controller's
// committed records carry its answer out.
#pragma once

#include <optional>
#include <set>

#include "broker/metadata/metadata_image.h"

namespace trilog {

// The state after an election, with epochs raised as C6 asks, or nothing if it stays as it is. `eligible`: brokers that
// are registered, not fenced and not shutting down. The leader is the current one if it is still in the ISR and
// eligible; else the first replica, in order of assignment, that is; else, only if the ISR is empty, the first eligible
// member of the ELR, which then is the ISR alone; else nobody. Never a replica outside both: that would drop
// acknowledged records.
std::optional<PartitionImage> elect_leader(const PartitionImage& partition, const std::set<BrokerId>& eligible);

// `next` follows `before`: every change raises the partition epoch, and a change of the leader (also to nobody), or
// `new_leadership`, the leader epoch (C6).
PartitionImage with_raised_epochs(const PartitionImage& before, PartitionImage next, bool new_leadership = false);

}  // namespace trilog
