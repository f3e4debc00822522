// Who leads a partition: pure functions of its state and of who may lead now (rules C6, C7, C8). Only the controller's
// committed records carry their answers out.
#pragma once

#include <algorithm>
#include <optional>
#include <set>
#include <vector>

#include "broker/metadata/metadata_image.h"

namespace trilog {

struct LiveBrokers {
  std::set<BrokerId> up;        // registered and not fenced: a leader among them stays
  std::set<BrokerId> eligible;  // of these, those that are not shutting down: may become leader
};

inline bool contains(const std::vector<BrokerId>& brokers, BrokerId broker) {
  return std::find(brokers.begin(), brokers.end(), broker) != brokers.end();
}

// The ISR becomes `isr`. With `min_in_sync` members or more the ELR is empty. With fewer, those who leave the ISR stay
// eligible (C8): nothing is acknowledged while the ISR is that small, so they have all that ever was.
PartitionImage with_isr(const PartitionImage& partition, std::vector<BrokerId> isr, int32_t min_in_sync);

// The state after an election, with epochs raised as C6 asks, or nothing if it stays as it is. The leader is the
// current one if it is still in the ISR and up; else the first replica, in order of assignment, that is in the ISR and
// eligible; else, only if the ISR is empty, the first eligible member of the ELR, which then is the ISR alone; else
// nobody. Never a replica outside both: that would drop acknowledged records. Of the ELR a member that restarted
// uncleanly is passed over where a minimum above 1 was promised: it is heard first (C8, elect_heard()).
std::optional<PartitionImage> elect_leader(const PartitionImage& partition, const LiveBrokers& live,
                                           int32_t min_in_sync);

// `next` follows `before`: every change raises the partition epoch, and a change of the leader (also to nobody), or
// `new_leadership`, the leader epoch (C6).
PartitionImage with_raised_epochs(const PartitionImage& before, PartitionImage next, bool new_leadership = false);

}  // namespace trilog
