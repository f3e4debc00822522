// Enumerates what a power cut may leave at each point of a recording: every prefix of the operations, and of those that
// were not yet synced any subset, any of the writes torn. For crash-consistency tests (fault F12):
//
//   disk.start_recording();  … run, calling disk.mark(n) when n records are acknowledged …
//   CrashStates states(disk.stop_recording());
//   do {
//     for (choices of fates) { SimDisk image(world.scheduler(), states.image(fates)); … recover and check against
//                              states.last_mark() … }
//   } while (states.advance());
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/disk_image.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_executor.h"

namespace trilog::sim {

// How many states for_each_choice() makes of one position.
struct CrashChoices {
  size_t exhaustive_max = 6;
  size_t tears_max = 8;
  size_t samples = 4;
};

class CrashStates {
 public:
  // Stands before the first operation.
  explicit CrashStates(Recording recording) : recording_(std::move(recording)), state_(recording_.base) {}

  // One operation further; false at the end.
  bool advance();
  size_t position() const { return position_; }  // operations that happened
  size_t size() const { return recording_.ops.size(); }
  const std::vector<DiskOp>& ops() const { return recording_.ops; }
  // Operations that happened and are not durable: one fate for each makes a crash state.
  const std::vector<DiskOp>& unsynced() const { return state_.unsynced(); }
  // The latest mark() so far.
  std::optional<uint64_t> last_mark() const { return last_mark_; }

  // What the disk holds after a crash here. Missing fates mean dropped. Cheap: contents are shared until written.
  DiskImage image(std::span<const Fate> fates) const { return state_.after_crash(fates); }

  // Calls `use` with fates for this position: all 2^n subsets if there are at most `exhaustive_max` unsynced
  // operations, else all kept, all dropped, every single one dropped or kept alone, and every prefix; then, with the
  // rest kept, each write torn after every granule up to `tears_max` places, at 512 bytes and at 4 KiB; then `samples`
  // random choices. Stops early when `use` answers false; answers false then.
  bool for_each_choice(const CrashChoices& choices, SeededRandom& random,
                       const std::function<bool(std::span<const Fate>)>& use) const;

 private:
  Recording recording_;
  DiskState state_;
  size_t position_ = 0;
  std::optional<uint64_t> last_mark_;
};

// One random fate, as SimDisk::power_cut draws it.
Fate draw_fate(const DiskOp& op, const CrashPolicy& policy, SeededRandom& random);

// "kept", "dropped", "first 3 of 512", … one per operation, for the message of a failed check.
std::string describe(std::span<const DiskOp> ops, std::span<const Fate> fates);

}  // namespace trilog::sim
