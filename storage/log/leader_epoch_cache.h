// LeaderEpochCache: which leader epoch began at which offset; answers "where do we diverge" (rules R11, A2).
// Strictly increasing in both columns. In memory; encoded into the file leader-epochs by Log.
#pragma once

#include <optional>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/base/status.h"

namespace trilog {

struct EpochEntry {
  LeaderEpoch epoch;
  Offset start;
  bool operator==(const EpochEntry&) const = default;
};

struct EpochEnd {
  LeaderEpoch epoch = kNoLeaderEpoch;
  Offset end = kNoOffset;
  bool operator==(const EpochEnd&) const = default;
};

class LeaderEpochCache {
 public:
  // Adds an epoch that begins at `start`. A known epoch is ignored; entries that start at or after `start` are replaced
  // (an epoch without records gives way). A smaller epoch than the latest is a bug. "Unknown" (-1) is ignored.
  void assign(LeaderEpoch epoch, Offset start);
  std::optional<EpochEntry> latest() const;
  // The epoch of the record at `offset`, or kNoLeaderEpoch before the first entry.
  LeaderEpoch epoch_at(Offset offset) const;
  // R11: the greatest own epoch <= `requested` and its end: the start of the next one, or `log_end` for the newest. If
  // all are younger: the requested epoch and the start of the oldest. Nothing known, or `requested` above all: (-1,
  // -1).
  EpochEnd end_of(LeaderEpoch requested, Offset log_end) const;
  void truncate_from_end(Offset end);      // drops entries that start at or after `end`
  void truncate_from_start(Offset start);  // keeps the entry that covers `start`, moved up to it
  void clear() { entries_.clear(); }
  const std::vector<EpochEntry>& entries() const { return entries_; }

  // In a checksummed frame (checkpoint_file.h). decode(): kCorruption, also if entries do not rise, or kUnsupported.
  Bytes encode() const;
  static Result<LeaderEpochCache> decode(ByteView bytes);

 private:
  std::vector<EpochEntry> entries_;
};

}  // namespace trilog
