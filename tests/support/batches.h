// Record batches for tests: make_batch({{"key", "value"}, {std::nullopt, "v"}}) and back with records_of(batch).
#pragma once

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "storage/base/codec.h"
#include "storage/base/crc32c.h"
#include "storage/record/record_batch.h"
#include "storage/record/record_batch_builder.h"

namespace trilog::testing {

inline constexpr int64_t kTestTimestampMs = 1'700'000'000'000;

struct TestHeader {
  std::string key;
  std::optional<std::string> value;
  bool operator==(const TestHeader&) const = default;
};

struct TestRecord {
  std::optional<std::string> key;
  std::optional<std::string> value;
  std::vector<TestHeader> headers = {};
  int64_t timestamp_ms = kTestTimestampMs;
  bool operator==(const TestRecord&) const = default;

  friend std::ostream& operator<<(std::ostream& out, const TestRecord& record) {
    out << '{' << record.key.value_or("null") << ": " << record.value.value_or("null") << " @" << record.timestamp_ms;
    for (const TestHeader& header : record.headers) out << ", " << header.key << '=' << header.value.value_or("null");
    return out << '}';
  }
};

// All but the codec can also be changed afterwards, with the setters of RecordBatch or with patch().
struct TestBatchOptions {
  Codec codec = Codec::kNone;
  BatchProducer producer = {};
  Offset base_offset{0};
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  int16_t extra_attributes = 0;  // 0x10 transactional, 0x20 control
};

// Makes the CRC right again after bytes of the batch were changed on purpose.
inline void fix_crc(Bytes& batch) { store_big_endian(batch.data() + 17, crc32c(batch.view().subspan(kBatchCrcStart))); }

// Overwrites a field of the batch, e.g. patch<int32_t>(batch, 57, 9) for a wrong record count, and fixes the CRC.
template <typename T>
void patch(Bytes& batch, size_t at, T value) {
  store_big_endian<T>(batch.data() + at, value);
  fix_crc(batch);
}

inline Bytes make_batch(const std::vector<TestRecord>& records, const TestBatchOptions& options = {}) {
  RecordBatchBuilder builder(options.codec, options.producer);
  for (const TestRecord& record : records) {
    std::vector<RecordHeader> headers;
    for (const TestHeader& header : record.headers) {
      headers.push_back({header.key, header.value ? std::optional(as_bytes(*header.value)) : std::nullopt});
    }
    builder.add(record.timestamp_ms, record.key ? std::optional(as_bytes(*record.key)) : std::nullopt,
                record.value ? std::optional(as_bytes(*record.value)) : std::nullopt, headers);
  }
  Bytes batch = builder.build().value();
  RecordBatch::set_base_offset(batch.mutable_view(), options.base_offset);
  RecordBatch::set_leader_epoch(batch.mutable_view(), options.leader_epoch);
  if (options.extra_attributes != 0) {
    auto attributes = load_big_endian<int16_t>(batch.data() + 21);
    patch(batch, 21, static_cast<int16_t>(attributes | options.extra_attributes));
  }
  return batch;
}

// `count` records without keys whose values are `value_size` bytes; the same arguments give the same bytes.
inline Bytes make_filled_batch(int32_t count, size_t value_size, const TestBatchOptions& options = {}) {
  std::vector<TestRecord> records(static_cast<size_t>(count));
  for (size_t i = 0; i < records.size(); ++i)
    records[i].value = std::string(value_size, static_cast<char>('a' + i % 26));
  return make_batch(records, options);
}

// A batch that a leader of `epoch` has stamped, as a log or a follower sees it.
inline Bytes make_batch_at(Offset base, LeaderEpoch epoch, const std::vector<TestRecord>& records) {
  return make_batch(records, {.base_offset = base, .leader_epoch = epoch});
}

// A sequence of batches, one after another as in a file; the last batch need not be whole.
inline std::vector<RecordBatch> batches_of(ByteView bytes) {
  std::vector<RecordBatch> batches;
  while (!bytes.empty()) {
    Result<RecordBatch> batch = RecordBatch::parse(bytes);
    if (!batch.ok()) break;
    batches.push_back(*batch);
    bytes = bytes.subspan(batch->size());
  }
  return batches;
}

// The records of one batch, or of all whole batches of `bytes`. Stops the test program on a damaged record.
inline std::vector<TestRecord> records_of(ByteView bytes) {
  std::vector<TestRecord> records;
  auto text = [](std::optional<ByteView> view) {
    return view ? std::optional<std::string>(as_text(*view)) : std::nullopt;
  };
  for (const RecordBatch& batch : batches_of(bytes)) {
    RecordIterator iterator = RecordIterator::open(batch, 64u << 20).value();
    while (std::optional<RecordView> record = iterator.next().value()) {
      TestRecord& out = records.emplace_back();
      out = {text(record->key), text(record->value), {}, record->timestamp_ms};
      for (const RecordHeader& header : record->headers) {
        out.headers.push_back({std::string(header.key), text(header.value)});
      }
    }
  }
  return records;
}

}  // namespace trilog::testing
