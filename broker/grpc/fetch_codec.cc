#include "broker/grpc/fetch_codec.h"

#include <algorithm>
#include <string>
#include <utility>

#include "broker/grpc/grpc_error.h"
#include "broker/grpc/wire.h"
#include "storage/base/crc32c.h"
#include "storage/record/record_batch.h"

namespace trilog::grpc_edge {
namespace {

// Field numbers of trilog.v1.FetchedPartition and trilog.v1.Record.
enum : uint32_t { kRecords = 8, kRecordBatches = 9 };
enum : uint32_t { kKey = 1, kValue = 2, kHeaders = 3, kTimestamp = 4, kOffset = 5 };

constexpr int16_t kCodecBits = 0x07;

api::Error damaged(const api::FetchedPartition& fetched, const RecordBatch& batch, const Status& why) {
  std::string place = fetched.topic + "/" + std::to_string(fetched.partition.value());
  return api::Error(api::ErrorCode::kDataDamaged,
                    "the batch at offset " + std::to_string(batch.base_offset().value()) + " of " + place +
                        " does not decode (" + std::string(why.message()) + "); go on at " +
                        std::to_string(batch.next_offset().value()) + ", or read raw batches")
      .with_detail("partition", place)
      .with_detail("offset", std::to_string(batch.base_offset().value()))
      .with_detail("next_good_offset", std::to_string(batch.next_offset().value()));
}

struct HeaderText {
  std::string clean;  // only where the key is not UTF-8
  std::string_view key;
};

size_t header_size(std::string_view key, const RecordHeader& header) {
  size_t size = key.empty() ? 0 : bytes_field_size(1, key.size());
  if (header.value) size += bytes_field_size(2, header.value->size());
  return size;
}

class RecordWriter {
 public:
  explicit RecordWriter(Bytes& out) : writer_(out) {}

  // Encoded size with its tag; prepare() and then write() for the same record.
  size_t prepare(const RecordView& record, Offset offset) {
    size_t size = 0;
    if (record.key) size += bytes_field_size(kKey, record.key->size());
    if (record.value) size += bytes_field_size(kValue, record.value->size());
    keys_.clear();
    for (const RecordHeader& header : record.headers) {
      HeaderText& text = keys_.emplace_back();
      text.key = header.key;
      if (!is_utf8(as_bytes(header.key))) {
        text.clean = to_utf8(as_bytes(header.key));
        text.key = text.clean;
      }
    }
    for (size_t i = 0; i < keys_.size(); ++i) {
      if (!keys_[i].clean.empty()) keys_[i].key = keys_[i].clean;  // the vector may have moved it
      size += bytes_field_size(kHeaders, header_size(keys_[i].key, record.headers[i]));
    }
    if (record.timestamp_ms != kNoTimestamp) size += int_field_size(kTimestamp, record.timestamp_ms);
    if (offset.value() != 0) size += int_field_size(kOffset, offset.value());
    size_ = size;
    return bytes_field_size(kRecords, size);
  }

  void write(const RecordView& record, Offset offset) {
    writer_.bytes_header(kRecords, size_);
    if (record.key) writer_.present_bytes_field(kKey, *record.key);
    if (record.value) writer_.present_bytes_field(kValue, *record.value);
    for (size_t i = 0; i < keys_.size(); ++i) {
      writer_.bytes_header(kHeaders, header_size(keys_[i].key, record.headers[i]));
      writer_.bytes_field(1, as_bytes(keys_[i].key));
      if (record.headers[i].value) writer_.present_bytes_field(2, *record.headers[i].value);
    }
    if (record.timestamp_ms != kNoTimestamp) writer_.present_int_field(kTimestamp, record.timestamp_ms);
    writer_.int_field(kOffset, offset.value());
  }

 private:
  WireWriter writer_;
  std::vector<HeaderText> keys_;
  size_t size_ = 0;
};

uint64_t credit_of(const RecordView& record) {
  uint64_t credit = (record.key ? record.key->size() : 0) + (record.value ? record.value->size() : 0);
  for (const RecordHeader& header : record.headers) {
    credit += header.key.size() + (header.value ? header.value->size() : 0);
  }
  return credit;
}

// Whether one more of `size` bytes may go.
bool fits(const EncodeLimit& limit, const EncodedRecords& result, size_t written, size_t size) {
  if (limit.credit && static_cast<int64_t>(result.credit_used) >= *limit.credit) return false;
  if (static_cast<int64_t>(written + size) <= limit.bytes) return true;
  return limit.one_at_least && result.count == 0;
}

enum class BatchEnd { kDone, kFull, kDamaged };

BatchEnd encode_batch(const api::FetchedPartition& fetched, const RecordBatch& batch, const EncodeLimit& limit,
                      Bytes& out, EncodedRecords& result, Status& why) {
  Result<RecordIterator> records = RecordIterator::open(batch, kDecompressedBatchBytesMax);
  if (!records.ok()) {
    why = std::move(records).status();
    return BatchEnd::kDamaged;
  }
  RecordWriter writer(out);
  for (;;) {
    Result<std::optional<RecordView>> next = records->next();
    if (!next.ok()) {
      why = std::move(next).status();
      return BatchEnd::kDamaged;
    }
    if (!next->has_value()) return BatchEnd::kDone;
    const RecordView& record = **next;
    Offset offset = batch.base_offset() + record.offset_delta;
    if (offset < fetched.asked_offset) continue;
    if (!fits(limit, result, out.size(), writer.prepare(record, offset))) {
      result.next_offset = offset;
      return BatchEnd::kFull;
    }
    writer.write(record, offset);
    result.credit_used += credit_of(record);
    ++result.count;
    result.next_offset = offset + 1;
  }
}

// The same batch with its records uncompressed.
Result<Bytes> uncompressed(const RecordBatch& batch) {
  Bytes records = TRY(decompress(*batch.codec(), batch.records(), kDecompressedBatchBytesMax));
  Bytes plain(kBatchHeaderBytes);
  std::memcpy(plain.data(), batch.bytes().data(), kBatchHeaderBytes);
  plain.reserve(kBatchHeaderBytes + records.size());
  plain.append(records);
  store_big_endian<int32_t>(plain.data() + 8, static_cast<int32_t>(plain.size() - kBatchLengthPrefixBytes));
  store_big_endian<int16_t>(plain.data() + kBatchCrcStart, static_cast<int16_t>(batch.attributes() & ~kCodecBits));
  store_big_endian<uint32_t>(plain.data() + 17, crc32c(plain.view().subspan(kBatchCrcStart)));
  RecordBatch checked = TRY(RecordBatch::parse(plain));
  TRY(checked.check_records());
  return plain;
}

}  // namespace

EncodedRecords encode_records(const api::FetchedPartition& fetched, EncodeLimit limit) {
  EncodedRecords result;
  result.next_offset = fetched.asked_offset;
  Bytes out;
  out.reserve(std::min<size_t>(fetched.batches.size() + fetched.batches.size() / 8 + 64,
                               static_cast<size_t>(std::max<int64_t>(limit.bytes, 0)) + 64));
  bool complete = true;
  for (const RecordBatch& batch : fetched.views) {
    if (batch.next_offset() <= fetched.asked_offset) continue;
    if (!batch.is_control()) {
      Status why;
      BatchEnd end = encode_batch(fetched, batch, limit, out, result, why);
      if (end == BatchEnd::kDamaged && result.count == 0) result.error = damaged(fetched, batch, why);
      if (end != BatchEnd::kDone) {
        complete = false;
        break;
      }
    }
    result.next_offset = std::max(result.next_offset, batch.next_offset());
  }
  if (complete) result.next_offset = std::max(result.next_offset, fetched.next_offset);
  result.bytes = out.size();
  if (!out.empty()) result.pieces.push_back(slice_of(std::move(out)));
  return result;
}

bool CodecSet::add(std::string_view name) {
  std::optional<Codec> codec = codec_from_name(name);
  if (codec) mask_ |= 1u << static_cast<unsigned>(*codec);
  return codec.has_value();
}

EncodedRecords encode_batches(const api::FetchedPartition& fetched, const CodecSet& codecs, EncodeLimit limit) {
  EncodedRecords result;
  result.next_offset = fetched.asked_offset;
  Bytes heads;  // prefixes and small batches between the large ones, which leave as slices of what was read
  auto flush = [&] {
    if (!heads.empty()) result.pieces.push_back(slice_of(std::exchange(heads, Bytes())));
  };
  constexpr size_t kOwnSliceFrom = 4'096;
  for (const RecordBatch& batch : fetched.views) {
    SharedBytes bytes =
        fetched.batches.slice(static_cast<size_t>(batch.bytes().data() - fetched.batches.view().data()), batch.size());
    if (batch.codec() && !codecs.has(*batch.codec())) {
      Result<Bytes> plain = uncompressed(batch);
      if (!plain.ok()) {
        if (result.count == 0) result.error = damaged(fetched, batch, plain.status());
        break;
      }
      bytes = SharedBytes(std::move(plain).value());
    }
    size_t size = bytes_field_size(kRecordBatches, bytes.size());
    if (!fits(limit, result, result.bytes, size)) break;
    WireWriter(heads).bytes_header(kRecordBatches, bytes.size());
    if (bytes.size() < kOwnSliceFrom) {
      heads.append(bytes);
    } else {
      flush();
      result.pieces.push_back(slice_of(std::move(bytes)));
    }
    result.bytes += size;
    ++result.count;
    result.next_offset = batch.next_offset();
  }
  flush();
  if (result.count == fetched.views.size()) result.next_offset = std::max(result.next_offset, fetched.next_offset);
  return result;
}

Bytes encode_partition_head(const api::FetchedPartition& fetched, Offset next_offset,
                            const std::optional<api::Error>& error, BrokerId node) {
  Bytes out;
  WireWriter writer(out);
  writer.bytes_field(1, as_bytes(fetched.topic));
  writer.int_field(2, fetched.partition.value());
  writer.int_field(3, next_offset.value());
  writer.int_field(4, fetched.high_watermark.value());
  writer.int_field(5, fetched.log_start.value());
  writer.int_field(6, fetched.leader_epoch.value());
  writer.int_field(7, fetched.leader.value());
  writer.int_field(10, fetched.stale ? 1 : 0);
  if (error) {
    v1::Error message;
    fill_error(*error, node, message);
    writer.present_bytes_field(11, as_bytes(message.SerializeAsString()));
  }
  return out;
}

void MessageBuilder::add_submessage(uint32_t number, Bytes head, EncodedRecords records) {
  Bytes prefix;
  WireWriter(prefix).bytes_header(number, head.size() + records.bytes);
  prefix.append(head);
  add(std::move(prefix));
  size_ += records.bytes;
  for (grpc::Slice& piece : records.pieces) slices_.push_back(std::move(piece));
}

void MessageBuilder::add(Bytes bytes) {
  size_ += bytes.size();
  slices_.push_back(slice_of(std::move(bytes)));
}

grpc::ByteBuffer MessageBuilder::build() { return {slices_.data(), slices_.size()}; }

}  // namespace trilog::grpc_edge
