// After an unclean stop: which bytes of a log to keep (rules S2, S3, S12). Reads what the disk holds above the mark,
// not what the page cache shows, and decides by a table; bytes that anybody may still need are never cut.
#pragma once

#include <memory>
#include <vector>

#include "storage/log/log.h"
#include "storage/log/segment.h"

namespace trilog {

enum class Later {
  kNothing,  // no sound batch follows, in this file or a later one
  kBatch,    // one does
  kUnknown,  // the search had to be given up
};

enum class Verdict {
  kKeep,        // the log ends here
  kLost,        // the log ends here, before its mark: acknowledged records are missing
  kCut,         // a torn or never written tail that nobody was promised: cut it, the log ends here
  kQuarantine,  // damage: go on at the batch that follows
  kFence,       // damage without anything behind it: never cut, never written behind; the log goes on in a new segment
                // at its mark, or at the next offset if that is later
};

// What to do where the row of good batches stops. `below_mark`: the offset expected there is below durable_end of the
// mark, so the record was promised. `has_copies`: as in LogConfig.
Verdict decide(ScanStop stop, bool below_mark, Later later, bool has_copies = false);

struct RecoveredLog {
  Offset end;
  bool needs_new_segment = false;  // kFence: nothing may be appended to the last file
  RecoveryReport report;
};

// `segments`: what the folder lists, rising; ends as the names suggest. Damage is reported through the context. Removes
// or cuts what the table says and leaves segments with right ends; the last one is open for writing. Everything kept is
// durable on return. Indexes cover what was scanned. kIo if the disk refuses.
Result<RecoveredLog> recover_log(SegmentContext& context, std::vector<std::unique_ptr<Segment>>& segments,
                                 const LogMark& mark);

}  // namespace trilog
