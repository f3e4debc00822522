// Builds a RecordBatch v2 record by record: internal records, the broker for clients that send single records, the
// client library, tests.
#pragma once

#include <optional>
#include <span>

#include "storage/record/record_batch.h"

namespace trilog {

struct BatchProducer {
  ProducerId id = kNoProducerId;
  ProducerEpoch epoch{-1};
  int32_t base_sequence = kNoSequence;
};

// One batch at a time; build() starts the next. Base offset is 0 and leader epoch -1 until the broker stamps them.
class RecordBatchBuilder {
 public:
  explicit RecordBatchBuilder(Codec codec = Codec::kNone, BatchProducer producer = {});

  // Bytes that `key`, `value` and `headers` would add at most (uncompressed).
  static size_t record_size_bound(std::optional<ByteView> key, std::optional<ByteView> value,
                                  std::span<const RecordHeader> headers);

  // Copies. Records get offset deltas 0, 1, 2 …
  void add(int64_t timestamp_ms, std::optional<ByteView> key, std::optional<ByteView> value,
           std::span<const RecordHeader> headers = {});

  int32_t count() const { return count_; }
  bool empty() const { return count_ == 0; }
  // Header and records so far, uncompressed.
  size_t size() const { return buffer_.size(); }
  void reserve(size_t bytes) { buffer_.reserve(bytes); }

  // The finished batch with its CRC; the builder is empty again, with the sequence moved on if there is a producer.
  // At least one record must have been added. Fails only if compression does.
  Result<Bytes> build();

 private:
  void reset();

  Codec codec_;
  BatchProducer producer_;
  Bytes buffer_;
  int32_t count_ = 0;
  int64_t base_timestamp_ = 0;
  int64_t max_timestamp_ = kNoTimestamp;
};

}  // namespace trilog
