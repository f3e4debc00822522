// OffsetIndex: where in a segment's file a batch begins, for some of its batches. In memory while the segment is
// written; saved once when it is sealed (rule S6: no writable mapping, no trust without a check). 8 bytes an entry.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/base/status.h"

namespace trilog {

// What of a segment a derived file describes: the first `bytes` of its file, which end before offset `end`, and the
// CRC-32C over the first 21 bytes of each batch header in them. Two contents that agree in this are the same.
struct SegmentCover {
  Offset base;
  Offset end;
  uint64_t bytes = 0;
  uint32_t header_crc = 0;
  bool operator==(const SegmentCover&) const = default;
};

struct IndexEntry {
  Offset offset;  // base offset of a batch
  uint64_t position = 0;
  bool operator==(const IndexEntry&) const = default;
};

class OffsetIndex {
 public:
  explicit OffsetIndex(Offset base) : base_(base) {}

  // Rising in both columns (CHECKed). Left out silently if it is more than 2^32 from the base: the index is sparse.
  void add(Offset offset, uint64_t position);
  // The last entry at or below `offset`.
  std::optional<IndexEntry> floor(Offset offset) const;
  // The first entry at or above `offset`.
  std::optional<IndexEntry> ceiling(Offset offset) const;
  std::optional<IndexEntry> last() const;
  size_t size() const { return entries_.size(); }
  IndexEntry at(size_t i) const;
  void clear() { entries_ = {}; }

  // The file .index, in a checksummed frame (checkpoint_file.h).
  Bytes encode(const SegmentCover& cover) const;
  struct Decoded;
  // kCorruption also if entries do not rise or lie outside the cover.
  static Result<Decoded> decode(ByteView bytes);

 private:
  struct Entry {
    uint32_t relative;
    uint32_t position;
  };
  Offset base_;
  std::vector<Entry> entries_;
};

struct OffsetIndex::Decoded {
  SegmentCover cover;
  OffsetIndex index;
};

// The part that .index, .timeindex and .checksum share.
void write_cover(Bytes& out, const SegmentCover& cover);
inline constexpr size_t kCoverBytes = 8 + 8 + 8 + 4;
// `bytes` has at least kCoverBytes.
SegmentCover read_cover(ByteView bytes);

}  // namespace trilog
