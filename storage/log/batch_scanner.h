// Walking the batches of a file: by headers alone (building an index), with checksums (recovery), and in search of the
// next sound batch behind damage. What the CRC of a batch does not cover is checked by structure (rule S1): base
// offsets follow one another, the length leads to the next header, the magic is its constant, and the leader epoch is
// the one that the epoch cache knows for that offset.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "storage/base/bytes.h"
#include "storage/base/function.h"
#include "storage/base/ids.h"
#include "storage/env/env.h"
#include "storage/log/leader_epoch_cache.h"
#include "storage/record/record_batch.h"

namespace trilog {

// The fixed header, read without the records behind it.
struct BatchHeader {
  Offset base_offset;
  uint64_t size = 0;  // of the whole batch; as the file says, so any number up to 2^32
  LeaderEpoch leader_epoch;
  int8_t magic = 0;
  int32_t last_offset_delta = 0;
  int64_t max_timestamp = kNoTimestamp;
  int32_t record_count = 0;
  std::array<std::byte, kBatchCrcStart> prefix;  // the bytes outside the CRC, and the CRC
  Offset next_offset() const { return base_offset + last_offset_delta + 1; }
  Offset last_offset() const { return base_offset + last_offset_delta; }

  // `bytes` has at least kBatchHeaderBytes.
  static BatchHeader decode(ByteView bytes);
  static BatchHeader of(const RecordBatch& batch);
};

// What the next batch of a file must look like.
struct BatchExpectation {
  Offset offset;
  // If it knows the epoch of that offset, exactly that one. Null: not below `epoch_min`.
  const LeaderEpochCache* epochs = nullptr;
  LeaderEpoch epoch_min = kNoLeaderEpoch;
  uint32_t batch_bytes_max = 0;
  Offset end{INT64_MAX};  // no batch reaches beyond

  // Why `header` cannot stand here with `bytes_left` to the end of the file, or null.
  const char* problem(const BatchHeader& header, uint64_t bytes_left) const;
  void step(const BatchHeader& header);
};

struct LocatedBatch {
  uint64_t position = 0;
  BatchHeader header;
};

// Whether the whole batch is there and matches its checksum. A walk over headers asks this of the batch before the
// place where it got stuck: a flipped bit in a length shows only at the next header.
Result<bool> batch_is_sound(const File& file, const LocatedBatch& batch);

// Reads headers at rising positions with few system calls: small batches are read ahead in chunks, of large ones only
// the header.
class HeaderReader {
 public:
  // `end`: nothing at or behind it is read. `read_ahead_max`: bytes per call at most.
  HeaderReader(const File& file, uint64_t end, size_t read_ahead_max)
      : file_(file), end_(end), read_ahead_max_(read_ahead_max) {}

  // Nothing if fewer than kBatchHeaderBytes are left, or the file is shorter than thought. kIo if the disk refuses.
  Result<std::optional<BatchHeader>> at(uint64_t position);

 private:
  const File& file_;
  const uint64_t end_;
  const size_t read_ahead_max_;
  Bytes buffer_;
  uint64_t buffer_at_ = 0;
  uint64_t last_position_ = 0;
  bool first_ = true;
};

enum class ScanStop {
  kEnd,     // the file ends where a batch ends
  kZeros,   // zeros from here to the end: space that was never written (S7)
  kBroken,  // something that is not the expected batch
};

struct ScanResult {
  ScanStop stop = ScanStop::kEnd;
  uint64_t position = 0;  // of the first byte that is not part of a good batch
  Offset offset;          // expected there
  std::string why;        // of kBroken
  uint64_t bytes_read = 0;
};

// Called for each good batch with its position.
using BatchVisitor = UniqueFunction<void(uint64_t position, const RecordBatch& batch)>;

// Checks batch after batch, CRC included, from `position` to `end`, the file's size. kIo if the disk refuses.
Result<ScanResult> scan_batches(const File& file, uint64_t position, uint64_t end, BatchExpectation expectation,
                                BatchVisitor* visitor);

struct FoundBatch {
  uint64_t position = 0;
  Offset offset;
};
struct SearchResult {
  std::optional<FoundBatch> found;
  bool gave_up = false;  // too many look-alikes: there may or may not be one
};

// The first sound batch at or behind `position` whose base offset is at least `least` and below `before`. Byte by byte,
// since the length of what is damaged cannot be trusted; candidates must have a plausible header and a matching CRC.
// Bounded by the file and by kSearchCrcBytesMax of checksumming, so that crafted records full of headers cannot stall a
// start.
inline constexpr uint64_t kSearchCrcBytesMax = 256u << 20;
struct SearchBounds {
  Offset least;
  Offset before;
  const LeaderEpochCache* epochs = nullptr;  // as in BatchExpectation
  uint32_t batch_bytes_max = 0;
  // Of the file, if it is a segment's: the batch with that offset, and no other, stands at the file's beginning. A
  // first batch that says otherwise has a flipped bit in its base offset, or no beginning that an index leads to.
  std::optional<Offset> file_base = std::nullopt;
};
Result<SearchResult> find_batch(const File& file, uint64_t position, uint64_t end, const SearchBounds& bounds);

// Whether there are only zeros from `position` to `end`.
Result<bool> all_zero(const File& file, uint64_t position, uint64_t end);

}  // namespace trilog
