// The in-sync replicas of one partition: pure functions from a committed state to the next one (rules C2, C6, C7, C8,
// R8). Everything that ever changes who is in an ISR or ELR, or who leads, is here and in leader_election.h; the
// exploration test runs exactly these functions.
//
// Why an ELR member may lead: while the ISR has fewer members than the minimum no high watermark moves (R6), so whoever
// was a member when it became that small has every acknowledged record, unless its disk loses some.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "broker/controller/leader_election.h"
#include "proto/kafka/peer_messages.h"

namespace trilog {

// What is in force, not more than there are replicas.
int32_t min_in_sync(const TopicImage& topic);

// What a registering process found, as far as trusting its replicas goes (C8).
struct RestartFacts {
  // The folder is that of the registered broker, and was last used by its last process that was ever let in. Not so
  // for a wiped or replaced disk, or a folder put back from a copy.
  bool same_folder = false;
  bool clean = false;      // with a valid clean marker
  bool same_boot = false;  // only the process had died: the page cache survived
  peer::Recovered recovered = peer::Recovered::kUnknown;
  std::set<TopicPartition> damaged;
};

// Why a broker leaves, which says what its replica is worth afterwards.
enum class Leaving : uint8_t {
  kFenced,   // its process cannot be reached; what its folder holds shows when it registers again
  kClean,    // restarted: everything is there
  kUnclean,  // restarted: nothing seems missing, but the disk may have lied: heard before it is elected
  kLost,     // restarted: something is missing or cannot be vouched for
};
Leaving judge_restart(const RestartFacts& facts, api::Durability durability, const TopicPartition& partition);

// The processes in `gone` have ended, all at once: their brokers leave the ISR together (C3), and the ELR if what they
// had is lost; a sole replica always stays a candidate, for there is no other. Somebody else leads, from a new epoch;
// with `live` holding a restarted broker, it may be that one again. Nothing if the partition stays as it is.
std::optional<PartitionImage> depart(const PartitionImage& partition, const std::map<BrokerId, Leaving>& gone,
                                     const LiveBrokers& live, int32_t min_in_sync);

// A broker found its replica damaged (S9): it leaves ISR and ELR and leads no more, if anybody else is in them.
std::optional<PartitionImage> set_aside(const PartitionImage& partition, BrokerId damaged, const LiveBrokers& live,
                                        int32_t min_in_sync);

// A broker that shuts down (C9) hands over what it leads, and leaves the ISR if enough members remain: then nothing
// waits for it when it stops. `leaves_isr` false: it only hands over.
std::optional<PartitionImage> hand_over(const PartitionImage& partition, BrokerId broker, const LiveBrokers& live,
                                        int32_t min_in_sync, bool leaves_isr);

// A change of the ISR that the leader asks for: the checks of C2, in their order. kNone: `next` is the new state, or
// nothing if the very same change was made already (R8).
struct AlterVerdict {
  peer::PeerError error = peer::PeerError::kNone;
  std::optional<PartitionImage> next;
};
AlterVerdict alter_isr(const PartitionImage& partition, BrokerId sender, const peer::AlterPartition& asked,
                       const std::map<BrokerId, BrokerImage>& brokers, int32_t min_in_sync);

// --- hearings (C8) ---------------------------------------------------------------------------------------------------

struct Heard {
  BrokerId broker = kNoBroker;
  LeaderEpoch last_epoch = kNoLeaderEpoch;
  Offset log_end{0};
};
// Nobody leads, and only candidates that must be heard are left.
bool needs_hearing(const PartitionImage& partition, int32_t min_in_sync);
// Of those heard from the ELR the one whose log reaches furthest, as (last epoch, log end), the first in order of
// assignment among equals; kNoBroker with fewer than `min_in_sync` heard: then one complete log might be missing.
BrokerId choose_heard(const PartitionImage& partition, const std::vector<Heard>& heard, int32_t min_in_sync);
// `leader`, chosen so, leads alone; the others stay candidates as they were.
PartitionImage elect_heard(const PartitionImage& partition, BrokerId leader, int32_t min_in_sync);

// --- by hand ---------------------------------------------------------------------------------------------------------

// `leader` leads alone although it may lack acknowledged records: an operator said so. Epoch and all are marked (R15).
PartitionImage elect_with_loss(const PartitionImage& partition, BrokerId leader);
// What a recovered quorum makes of a partition. The lost majority may have gone on without the survivor; it cannot have
// where nobody but the survivor could lead, in its own view and in what it knew to be `committed` (nullptr: nothing of
// this partition). Everywhere else nobody is trusted any more: nobody leads until an operator
// says who. Epochs rise above all that the lost ones can have used. A sole replica has no rival.
enum class AfterLoss : uint8_t {
  kLed,        // the survivor alone was in sync or eligible
  kGivenUp,    // it has a replica, which may lack acknowledged records
  kElsewhere,  // all replicas are on other nodes
};
AfterLoss judge_after_loss(const PartitionImage& partition, BrokerId survivor);
PartitionImage after_lost_quorum(const PartitionImage& partition, const PartitionImage* committed, BrokerId survivor);
// No partition has had so many elections that nobody here has heard of.
inline constexpr int32_t kUnheardEpochs = 1'000;

// `to`, a member of the ISR, leads.
PartitionImage move_leadership(const PartitionImage& partition, BrokerId to);
// The minimum was changed to `min_in_sync`: an ELR beside an ISR that is large enough now would soon be behind it.
std::optional<PartitionImage> with_minimum(const PartitionImage& partition, int32_t min_in_sync);

}  // namespace trilog
