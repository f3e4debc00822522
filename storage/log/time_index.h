// TimeIndex: from when on a segment holds records of a given time. An entry (timestamp, offset) says that no batch up
// to and including the one that begins at `offset` has a record later than `timestamp`. Sparse, in memory while the
// segment is written, saved when it is sealed (rule S6).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "storage/log/offset_index.h"
#include "storage/record/record_batch.h"

namespace trilog {

class TimeIndex {
 public:
  explicit TimeIndex(Offset base) : base_(base) {}

  // The latest record so far has `max_timestamp`, and the batch at `offset` belongs to "so far". Neither ever falls.
  void add(int64_t max_timestamp, Offset offset);
  // Every record at or after `timestamp` lies in the batch at the answer or behind it; nothing: search from the start.
  std::optional<Offset> search_from(int64_t timestamp) const;
  size_t size() const { return entries_.size(); }

  // The file .timeindex, in a checksummed frame. `max_timestamp` is that of the whole cover, or kNoTimestamp.
  Bytes encode(const SegmentCover& cover, int64_t max_timestamp) const;
  struct Decoded;
  static Result<Decoded> decode(ByteView bytes);  // kCorruption also if entries do not rise or lie outside the cover

 private:
  struct Entry {
    int64_t timestamp;
    uint32_t relative;
  };
  Offset base_;
  std::vector<Entry> entries_;
};

struct TimeIndex::Decoded {
  SegmentCover cover;
  int64_t max_timestamp = kNoTimestamp;
  TimeIndex index;
};

}  // namespace trilog
