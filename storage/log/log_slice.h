// What a read of a log gives: a byte range that an edge may read on its own thread, and the one function that turns it
// into batches fit to be served.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/env/env.h"
#include "storage/record/record_batch.h"

namespace trilog {

struct TimestampedOffset {
  Offset offset;
  int64_t timestamp_ms = kNoTimestamp;
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
};

struct LogSlice {
  FileSlice slice;
  Offset first;                            // base offset of the first batch in the slice (<= the offset asked for)
  Offset limit;                            // batches at or past it are not to be shown
  LeaderEpoch epoch_min = kNoLeaderEpoch;  // every batch's leader epoch lies in [epoch_min, epoch_max] (S1)
  LeaderEpoch epoch_max = kNoLeaderEpoch;
  std::string file;  // for messages
  bool empty() const { return slice.length == 0; }
};

// Whole, checked batches; the views point into `bytes`.
struct BatchRun {
  SharedBytes bytes;  // exactly the batches, one after another
  std::vector<RecordBatch> batches;
  Offset next_offset{0};  // after the last batch; the slice's `first` if there is none
};

// Reads the slice (one copy), checks every batch that will be shown - frame, CRC, base offsets without gap, epochs
// within bounds (rule S9: never serve damage) - and drops what lies past the limit and a cut-off last batch. Safe on
// any thread. kCorruption names file and position; the good batches before a bad one are returned first: the error
// comes only if the very first batch is bad. kIo if the disk refuses.
Result<BatchRun> read_slice(const LogSlice& slice);
// The same without waiting for the disk: nullopt if it would have to (File::read_cached).
Result<std::optional<BatchRun>> read_slice_cached(const LogSlice& slice);

}  // namespace trilog
