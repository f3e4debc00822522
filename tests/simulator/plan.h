// What one seed does: which faults at which rate, which clients, which network. Drawn from the seed alone, in the
// manner of swarm testing: each kind of fault is on or off, so that some seeds have much of little.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "storage/base/units.h"
#include "tests/sim/sim_cluster.h"

namespace trilog::simulator {

enum class Fault : uint8_t {
  kKill,
  kStop,       // a clean stop, and start
  kPowerCut,   // of one node
  kBlackout,   // of all nodes
  kPause,      // SIGSTOP, SIGCONT
  kCut,        // a link, both ways
  kOneWay,     // one way only
  kIsolate,    // a node from all others
  kBridge,     // all see only one
  kFlap,       // a link comes and goes
  kSlow,       // a link
  kReset,      // connections break
  kWallJump,   // of the wall clock of a node
  kSlowDisk,   // syncs take up to seconds
  kSyncFails,  // and the pages turn clean
  kWriteFails,
  kReadFails,
  kDiskFull,
  kWipe,        // a new disk
  kMoveLeader,  // by hand
  kDrain,
  kForget,  // the fragile node loses its disk, or bits of its metadata, while few others have what it had
  kRot,     // a bit of a sealed segment flips
};
inline constexpr size_t kFaults = 23;
const char* fault_name(Fault fault);

struct Plan {
  uint64_t seed = 1;
  int nodes = 3;
  int64_t duration_ns = 20'000'000'000;        // of the phase with faults
  std::array<int64_t, kFaults> interval_ns{};  // between two of a kind, on average; 0: not in this seed
  bool faults_while_forming = false;
  int fragile_node = 1;  // the one whose disk may be lost: what is promised holds for one
  size_t shards_max = 2;
  sim::NetworkConfig network;
  // Clients.
  int idempotent_producers = 10;
  int plain_producers = 3;
  int consumers = 4;
  int askers = 1;
  int64_t produce_pause_ns = 250'000'000;
  int32_t synced_partitions = 8;
  int32_t replicated_partitions = 2;  // 0: no such topic
  bool small_segments = false;
  bool strikes_at_decisions = false;  // of the controller
  int64_t replica_lag_ms = 0;         // after which leaders take followers out by themselves; 0: the default
  bool frequent_snapshots = false;    // of the metadata
  bool hot_partition = false;         // most write to one partition, fast: several writes between two syncs

  bool on(Fault fault) const { return interval_ns[static_cast<size_t>(fault)] > 0; }
  int64_t& interval(Fault fault) { return interval_ns[static_cast<size_t>(fault)]; }
  std::string to_string() const;
};

struct PlanOptions {
  int nodes = 3;
  int64_t duration_ns = 0;     // 0: the default
  std::vector<Fault> without;  // faults that are off in every seed
  bool no_faults = false;
};
Plan draw_plan(uint64_t seed, const PlanOptions& options);

}  // namespace trilog::simulator
