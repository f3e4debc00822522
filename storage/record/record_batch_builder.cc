#include "storage/record/record_batch_builder.h"

#include <algorithm>
#include <limits>
#include <string>

#include "storage/base/codec.h"
#include "storage/base/crc32c.h"

namespace trilog {
namespace {

constexpr size_t kVarintBytesMax = 5;  // of an int32
constexpr size_t kVarlongBytesMax = 10;
constexpr int64_t kNullLength = -1;
constexpr size_t kBatchBytesMax = std::numeric_limits<int32_t>::max();

size_t nullable_size(std::optional<ByteView> bytes) {
  if (!bytes) return signed_varint_size(kNullLength);
  return signed_varint_size(static_cast<int64_t>(bytes->size())) + bytes->size();
}

std::byte* put_varint(std::byte* to, int64_t value) {
  uint64_t rest = zigzag_encode(value);
  for (; rest >= 0x80; rest >>= 7) *to++ = static_cast<std::byte>(rest | 0x80);
  *to++ = static_cast<std::byte>(rest);
  return to;
}

std::byte* put_nullable(std::byte* to, std::optional<ByteView> bytes) {
  if (!bytes) return put_varint(to, kNullLength);
  to = put_varint(to, static_cast<int64_t>(bytes->size()));
  if (!bytes->empty()) std::memcpy(to, bytes->data(), bytes->size());
  return to + bytes->size();
}

// Timestamps are any 64 bits; their difference wraps, and the reader's sum wraps back.
int64_t wrapping_difference(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
}

}  // namespace

RecordBatchBuilder::RecordBatchBuilder(Codec codec, BatchProducer producer) : codec_(codec), producer_(producer) {
  reset();
}

void RecordBatchBuilder::reset() {
  buffer_.resize_uninitialized(kBatchHeaderBytes);
  count_ = 0;
}

size_t RecordBatchBuilder::record_size_bound(std::optional<ByteView> key, std::optional<ByteView> value,
                                             std::span<const RecordHeader> headers) {
  // Length, attributes, timestamp, offset, key length, value length, header count.
  size_t size = kVarintBytesMax + 1 + kVarlongBytesMax + 4 * kVarintBytesMax;
  size += (key ? key->size() : 0) + (value ? value->size() : 0);
  for (const RecordHeader& header : headers) {
    size += 2 * kVarintBytesMax + header.key.size() + (header.value ? header.value->size() : 0);
  }
  return size;
}

void RecordBatchBuilder::add(int64_t timestamp_ms, std::optional<ByteView> key, std::optional<ByteView> value,
                             std::span<const RecordHeader> headers) {
  CHECK_LT(count_, std::numeric_limits<int32_t>::max());
  if (count_ == 0) {
    base_timestamp_ = timestamp_ms;
    max_timestamp_ = timestamp_ms;
  }
  max_timestamp_ = std::max(max_timestamp_, timestamp_ms);
  const int64_t timestamp_delta = wrapping_difference(timestamp_ms, base_timestamp_);
  const auto header_count = static_cast<int64_t>(headers.size());

  size_t body = 1 + signed_varint_size(timestamp_delta) + signed_varint_size(count_) + nullable_size(key) +
                nullable_size(value) + signed_varint_size(header_count);
  for (const RecordHeader& header : headers) {
    body += nullable_size(as_bytes(header.key)) + nullable_size(header.value);
  }

  size_t at = buffer_.size();
  size_t whole = signed_varint_size(static_cast<int64_t>(body)) + body;
  buffer_.resize_uninitialized(at + whole);
  std::byte* to = put_varint(buffer_.data() + at, static_cast<int64_t>(body));
  *to++ = std::byte{0};  // attributes
  to = put_varint(to, timestamp_delta);
  to = put_varint(to, count_);
  to = put_nullable(to, key);
  to = put_nullable(to, value);
  to = put_varint(to, header_count);
  for (const RecordHeader& header : headers) {
    to = put_nullable(to, as_bytes(header.key));
    to = put_nullable(to, header.value);
  }
  DCHECK(to == buffer_.data() + buffer_.size());
  ++count_;
}

Result<Bytes> RecordBatchBuilder::build() {
  CHECK(count_ > 0);
  if (buffer_.size() > kBatchBytesMax) return Status(Errc::kTooLarge, "a record batch is shorter than 2 GiB");
  Bytes batch;
  if (codec_ == Codec::kNone) {
    batch = std::move(buffer_);
  } else {
    Bytes block = TRY(compress(codec_, buffer_.view().subspan(kBatchHeaderBytes)));
    batch.reserve(kBatchHeaderBytes + block.size());
    batch.resize_uninitialized(kBatchHeaderBytes);
    batch.append(block);
  }

  std::byte* header = batch.data();
  store_big_endian<int64_t>(header, 0);
  store_big_endian(header + 8, static_cast<int32_t>(batch.size() - kBatchLengthPrefixBytes));
  store_big_endian(header + 12, kNoLeaderEpoch.value());
  store_big_endian(header + 16, kBatchMagic);
  store_big_endian(header + 21, static_cast<int16_t>(codec_));
  store_big_endian(header + 23, count_ - 1);
  store_big_endian(header + 27, base_timestamp_);
  store_big_endian(header + 35, max_timestamp_);
  store_big_endian(header + 43, producer_.id.value());
  store_big_endian(header + 51, producer_.epoch.value());
  store_big_endian(header + 53, producer_.base_sequence);
  store_big_endian(header + 57, count_);
  store_big_endian(header + 17, crc32c(batch.view().subspan(kBatchCrcStart)));

  if (producer_.base_sequence != kNoSequence) {
    producer_.base_sequence = static_cast<int32_t>((int64_t{producer_.base_sequence} + count_) & 0x7fffffff);
  }
  reset();
  return batch;
}

}  // namespace trilog
