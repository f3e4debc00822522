#include "storage/log/segment_walk.h"

#include <algorithm>
#include <utility>

#include "storage/base/check.h"

namespace trilog {

SegmentWalk::SegmentWalk(const SegmentContext& context, std::shared_ptr<const File> file, uint64_t size, Offset base,
                         Offset end)
    : context_(context), file_(std::move(file)), size_(file_ ? size : 0), base_(base), end_(end), offset_(base) {}

BatchExpectation SegmentWalk::expectation() const {
  return {offset_, context_.epochs, kNoLeaderEpoch, context_.config.batch_bytes_max, end_};
}

std::optional<FoundBatch> SegmentWalk::find_sound() const {
  if (file_ == nullptr) return std::nullopt;
  SearchBounds bounds{offset_, end_, context_.epochs, context_.config.batch_bytes_max, base_};
  auto search = find_batch(*file_, position_ + 1, size_, bounds);
  return search.ok() ? search->found : std::nullopt;
}

std::optional<SegmentWalk::Piece> SegmentWalk::next(uint64_t bytes_max) {
  if (offset_ >= end_) return std::nullopt;
  const char* why = "the file ends too early";
  if (!in_gap_) {
    if (auto piece = sound_piece(bytes_max, &why)) return piece;
    gap_position_ = position_;
    const std::optional<FoundBatch> found = find_sound();
    position_ = found ? found->position : size_;
    gap_end_ = found ? found->offset : end_;
    if (gap_end_ == offset_) {  // something stands between two batches
      if (auto piece = sound_piece(bytes_max, &why)) return piece;
      gap_end_ = end_;  // the disk reads it now and then
      position_ = size_;
    }
  }
  in_gap_ = false;
  const Offset first = std::exchange(offset_, gap_end_);
  return Piece{.first = first, .next = gap_end_, .position = gap_position_, .why = why};
}

std::optional<SegmentWalk::Piece> SegmentWalk::sound_piece(uint64_t bytes_max, const char** why) {
  if (position_ >= size_) return std::nullopt;
  const uint64_t until = std::min(size_, position_ + bytes_max);
  auto scanned = scan_batches(*file_, position_, until, expectation(), nullptr);
  Piece piece{.sound = true, .first = offset_, .position = position_};
  if (scanned.ok() && scanned->position > position_) {
    position_ = scanned->position;
    offset_ = scanned->offset;
  } else {
    // Broken, unreadable, or larger than a piece.
    HeaderReader reader(*file_, size_, kBatchHeaderBytes);
    auto header = reader.at(position_);
    *why = "the disk refuses to read it";
    if (!header.ok()) return std::nullopt;
    *why = *header ? expectation().problem(**header, size_ - position_) : "the header is cut off";
    if (*why != nullptr) return std::nullopt;
    auto sound = batch_is_sound(*file_, {position_, **header});
    *why = sound.ok() ? "the checksum does not match" : "the disk refuses to read it";
    if (!sound.ok() || !*sound) return std::nullopt;
    position_ += (*header)->size;
    offset_ = (*header)->next_offset();
  }
  piece.next = offset_;
  piece.bytes = position_ - piece.position;
  return piece;
}

void SegmentWalk::skip_to(Offset offset) {
  CHECK(offset <= end_);
  in_gap_ = offset < gap_end_;
  if (offset > gap_end_) position_ = gap_position_;
  offset_ = offset;
}

}  // namespace trilog
