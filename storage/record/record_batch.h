// RecordBatch v2, byte for byte as in Kafka: on the wire, on disk and to a follower. A RecordBatch is a view; it owns
// nothing and trusts nothing it has not checked. Format source: "Messages" in the Kafka protocol guide.
//
//   0 base offset i64 | 8 length i32 (bytes after this field) | 12 partition leader epoch i32 | 16 magic i8 = 2
//  17 crc32c u32 over [21, end) | 21 attributes i16 | 23 last offset delta i32 | 27 base timestamp i64
//  35 max timestamp i64 | 43 producer id i64 | 51 producer epoch i16 | 53 base sequence i32 | 57 record count i32
//  61 records (one compressed block if the codec is not 0)
//
// Base offset, length, leader epoch and magic lie outside the CRC: the broker stamps the first and third in place
// without touching the checksum, and therefore storage checks them structurally (rule S1).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/codec.h"
#include "storage/base/ids.h"
#include "storage/base/status.h"
#include "storage/record/compression.h"

namespace trilog {

inline constexpr size_t kBatchHeaderBytes = 61;
inline constexpr size_t kBatchLengthPrefixBytes = 12;  // base offset and length
inline constexpr size_t kBatchCrcStart = 21;
inline constexpr int8_t kBatchMagic = 2;
inline constexpr int64_t kNoTimestamp = -1;
inline constexpr int32_t kNoSequence = -1;
inline constexpr int32_t kRecordHeadersMax = 1'000;  // of one record: so much is held in memory to read one

struct RecordHeader {
  std::string_view key;
  std::optional<ByteView> value;
};

// One record, as views into the (decompressed) records block.
struct RecordView {
  int64_t offset_delta = 0;
  int64_t timestamp_ms = kNoTimestamp;
  std::optional<ByteView> key;
  std::optional<ByteView> value;
  std::vector<RecordHeader> headers;
};

class RecordBatch {
 public:
  // The batch at the front of `bytes` if its frame is sound: 61 bytes there, magic 2, length >= 49 and within `bytes`,
  // last offset delta >= 0, record count >= 0 and <= last offset delta + 1 (compaction leaves gaps), and no offset in
  // it is negative or beyond 63 bits. Does not look at the CRC. kCorruption otherwise, with what was wrong. The view
  // ends where the length says.
  static Result<RecordBatch> parse(ByteView bytes);
  // The whole length of the batch whose first 12 bytes are here, without checking more than that it is between 61 and
  // `size_max`; for walking a file.
  static Result<size_t> peek_size(ByteView bytes, size_t size_max);

  ByteView bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }

  Offset base_offset() const { return Offset(load<int64_t>(0)); }
  Offset last_offset() const { return base_offset() + last_offset_delta(); }
  Offset next_offset() const { return last_offset() + 1; }
  LeaderEpoch leader_epoch() const { return LeaderEpoch(load<int32_t>(12)); }
  uint32_t stored_crc() const { return load<uint32_t>(17); }
  int16_t attributes() const { return load<int16_t>(21); }
  int32_t last_offset_delta() const { return load<int32_t>(23); }
  int64_t base_timestamp() const { return load<int64_t>(27); }
  int64_t max_timestamp() const { return load<int64_t>(35); }
  ProducerId producer_id() const { return ProducerId(load<int64_t>(43)); }
  ProducerEpoch producer_epoch() const { return ProducerEpoch(load<int16_t>(51)); }
  int32_t base_sequence() const { return load<int32_t>(53); }
  int32_t record_count() const { return load<int32_t>(57); }
  ByteView records() const { return bytes_.subspan(kBatchHeaderBytes); }

  // kNone..kZstd, or nothing for the codes 5 to 7 that do not exist.
  std::optional<Codec> codec() const;
  bool is_log_append_time() const { return (attributes() & 0x08) != 0; }
  bool is_transactional() const { return (attributes() & 0x10) != 0; }
  bool is_control() const { return (attributes() & 0x20) != 0; }
  bool has_delete_horizon() const { return (attributes() & 0x40) != 0; }
  // The sequence of the last record: sequences wrap from 2^31-1 to 0.
  int32_t last_sequence() const;

  bool crc_matches() const;
  // Walks an uncompressed batch without allocating: lengths add up, offset deltas are 0..count-1, count and last offset
  // delta agree, header counts are sane. kCorruption says at which record; kTooLarge if one has more than
  // kRecordHeadersMax headers. Compressed batches: only the header is checked.
  Status check_records() const;

  // Where the fields outside the CRC, and time, are stamped, in place. `batch` is the mutable memory of a parsed batch.
  static void set_base_offset(MutableByteView batch, Offset offset);
  static void set_leader_epoch(MutableByteView batch, LeaderEpoch epoch);
  // Sets the log-append-time bit and the max timestamp, and recomputes the CRC.
  static void set_log_append_time(MutableByteView batch, int64_t timestamp_ms);

 private:
  explicit RecordBatch(ByteView bytes) : bytes_(bytes) {}
  template <typename T>
  T load(size_t at) const {
    return load_big_endian<T>(bytes_.data() + at);
  }

  ByteView bytes_;
};

// Iterates the records of one batch, decompressing first if need be. Owns the decompressed block; the views it hands
// out live as long as the iterator and the batch.
class RecordIterator {
 public:
  // `size_max` caps the decompressed block (kTooLarge).
  static Result<RecordIterator> open(const RecordBatch& batch, size_t size_max);
  // The next record, nothing at the end, kCorruption on a bad record or one out of order, kTooLarge on one with more
  // than kRecordHeadersMax headers. With log append time every record has the batch's max timestamp.
  Result<std::optional<RecordView>> next();

 private:
  RecordIterator() = default;
  Bytes decompressed_;
  ByteView rest_;
  int64_t base_timestamp_ = 0;
  std::optional<int64_t> append_time_;
  int32_t remaining_ = 0;
  int32_t last_offset_delta_ = 0;
  int32_t previous_offset_delta_ = -1;
};

}  // namespace trilog
