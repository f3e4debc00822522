// SegmentWalk: a segment's file a piece at a time, each piece either sound batches, checksums checked, or a gap:
// offsets for which the file has none. What the disk refuses to read is a gap as well. For the scrub and for repair
// (S9, S10).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "storage/env/env.h"
#include "storage/log/segment.h"

namespace trilog {

class SegmentWalk {
 public:
  struct Piece {
    bool sound = false;
    Offset first;
    Offset next;  // exclusive
    uint64_t position = 0;
    uint64_t bytes = 0;    // of sound batches
    const char* why = "";  // of a gap
  };

  // The segment holds the offsets [base, end). `file` null: it has no file, so all of it is a gap.
  SegmentWalk(const SegmentContext& context, std::shared_ptr<const File> file, uint64_t size, Offset base, Offset end);

  // At most `bytes_max` bytes of sound batches, at least one batch; nothing at the end. A gap reaches to the next sound
  // batch, which need not follow directly in the file. Blocking.
  std::optional<Piece> next(uint64_t bytes_max);
  // Of the last gap the offsets up to `offset` came from elsewhere: goes on with the rest of it, or with the sound
  // batch behind. Past the end of the gap: what looked like that batch was part of the damage.
  void skip_to(Offset offset);
  Offset gap_end() const { return gap_end_; }  // of the last gap

  uint64_t position() const { return position_; }
  const std::shared_ptr<const File>& file() const { return file_; }

 private:
  std::optional<Piece> sound_piece(uint64_t bytes_max, const char** why);
  std::optional<FoundBatch> find_sound() const;
  BatchExpectation expectation() const;

  const SegmentContext& context_;
  const std::shared_ptr<const File> file_;
  const uint64_t size_;
  const Offset base_;
  const Offset end_;
  uint64_t position_ = 0;
  Offset offset_;
  uint64_t gap_position_ = 0;  // of the last gap
  bool in_gap_ = false;        // position_ is where it ends, gap_end_ the offset there
  Offset gap_end_;
};

}  // namespace trilog
