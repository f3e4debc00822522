// Arbitrary bytes as a record batch. The first byte of the input chooses: 0xff takes the rest as it is; anything else
// puts a sound header before the rest, so that the walk over records and the decoders are reached at once (its low
// three bits are the codec, the second byte the record count).
#include <cstdint>
#include <vector>

#include "storage/record/record_batch.h"
#include "storage/record/record_batch_builder.h"
#include "tests/support/batches.h"

namespace trilog {
namespace {

constexpr size_t kBlockBytesMax = 1 << 20;

Bytes with_sound_header(uint8_t attributes, uint8_t count, ByteView records) {
  Bytes batch(kBatchHeaderBytes);
  std::byte* header = batch.data();
  store_big_endian<int64_t>(header, 1000);
  store_big_endian(header + 8, static_cast<int32_t>(kBatchHeaderBytes - kBatchLengthPrefixBytes + records.size()));
  store_big_endian<int32_t>(header + 12, 3);
  store_big_endian(header + 16, kBatchMagic);
  store_big_endian<int16_t>(header + 21, attributes & 0x7f);
  store_big_endian<int32_t>(header + 23, count);
  store_big_endian<int64_t>(header + 27, 1'700'000'000'000);
  store_big_endian<int64_t>(header + 35, 1'700'000'000'000);
  store_big_endian<int64_t>(header + 43, -1);
  store_big_endian<int16_t>(header + 51, -1);
  store_big_endian<int32_t>(header + 53, -1);
  store_big_endian<int32_t>(header + 57, count + 1);
  batch.append(records);
  testing::fix_crc(batch);
  return batch;
}

// Reads to the end; what was read must come out of a rebuilt batch again. Returns whether the batch was sound.
bool read_and_rebuild(const RecordBatch& batch) {
  Result<RecordIterator> iterator = RecordIterator::open(batch, kBlockBytesMax);
  if (!iterator.ok()) return false;
  RecordBatchBuilder builder;
  std::vector<RecordView> records;
  for (;;) {
    Result<std::optional<RecordView>> record = iterator->next();
    if (!record.ok()) {
      CHECK(!iterator->next().ok());
      return false;
    }
    if (!record->has_value()) break;
    const RecordView& view = **record;
    CHECK_GE(view.offset_delta, records.empty() ? 0 : records.back().offset_delta + 1);
    CHECK_LE(view.offset_delta, batch.last_offset_delta());
    builder.add(view.timestamp_ms, view.key, view.value, view.headers);
    records.push_back(view);
  }
  CHECK_EQ(records.size(), static_cast<size_t>(batch.record_count()));
  if (records.empty()) return true;

  Bytes rebuilt = builder.build().value();
  RecordBatch again = RecordBatch::parse(rebuilt).value();
  CHECK(again.crc_matches() && again.check_records().ok());
  RecordIterator second = RecordIterator::open(again, kBlockBytesMax).value();
  for (const RecordView& want : records) {
    RecordView got = second.next().value().value();
    CHECK_EQ(got.timestamp_ms, want.timestamp_ms);
    CHECK(got.key.has_value() == want.key.has_value() && got.value.has_value() == want.value.has_value());
    CHECK(!got.key || bytes_equal(*got.key, *want.key));
    CHECK(!got.value || bytes_equal(*got.value, *want.value));
    CHECK_EQ(got.headers.size(), want.headers.size());
  }
  return true;
}

void examine(Bytes bytes) {
  Result<RecordBatch> parsed = RecordBatch::parse(bytes);
  Result<size_t> size = RecordBatch::peek_size(bytes, bytes.size());
  if (!parsed.ok()) return;
  CHECK_EQ(parsed->size(), size.value());
  CHECK_GE(parsed->last_offset(), parsed->base_offset());
  CHECK_GE(parsed->last_sequence(), kNoSequence);
  const bool checked = parsed->check_records().ok();
  const bool readable = read_and_rebuild(*parsed);
  // What a producer may append, a consumer can read.
  if (checked && parsed->codec() == Codec::kNone) CHECK(readable);

  RecordBatch::set_base_offset(bytes.mutable_view(), Offset(7));
  RecordBatch::set_log_append_time(bytes.mutable_view().first(parsed->size()), 99);
  RecordBatch stamped = RecordBatch::parse(bytes).value();
  CHECK(stamped.crc_matches() && stamped.is_log_append_time());
  CHECK_EQ(stamped.check_records().ok(), checked);
}

}  // namespace
}  // namespace trilog

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  trilog::ByteView input = std::as_bytes(std::span(data, size));
  if (size < 2) return 0;
  trilog::examine(data[0] == 0xff ? trilog::Bytes::copy_of(input.subspan(1))
                                  : trilog::with_sound_header(data[0], data[1], input.subspan(2)));
  return 0;
}
