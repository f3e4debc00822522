#include "storage/record/record_batch.h"

#include <limits>
#include <string>

#include "storage/base/crc32c.h"

namespace trilog {
namespace {

// Offsets of the fields that are written in place, as drawn in the header.
constexpr size_t kLengthAt = 8;
constexpr size_t kLeaderEpochAt = 12;
constexpr size_t kMagicAt = 16;
constexpr size_t kCrcAt = 17;
constexpr size_t kAttributesAt = 21;
constexpr size_t kMaxTimestampAt = 35;

constexpr int16_t kCodecMask = 0x07;
constexpr int16_t kLogAppendTimeBit = 0x08;
constexpr int64_t kHeaderBytesMin = 2;  // a record header has at least two lengths

Status corrupt(std::string what) { return {Errc::kCorruption, "record batch: " + std::move(what)}; }

enum class Flaw { kNone, kDamaged, kTooManyHeaders };

// `record`: which one, for a person.
Status flawed(const std::string& record, Flaw flaw) {
  if (flaw == Flaw::kDamaged) return corrupt(record + " is damaged");
  return {Errc::kTooLarge,
          "record batch: " + record + " has more than " + std::to_string(kRecordHeadersMax) + " headers"};
}

// Steps over the fields of records. Each step says whether there was one; after a refusal the place is undefined.
// Written for the walk that every produced batch passes: everything inlines, and one byte is the fast case of a varint.
class Cursor {
 public:
  explicit Cursor(ByteView bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  ptrdiff_t remaining() const { return end_ - at_; }
  ByteView rest() const { return {at_, end_}; }

  bool skip(ptrdiff_t size) {
    if (size > remaining()) return false;
    at_ += size;
    return true;
  }

  // Zigzag, at most five bytes and 32 bits.
  bool varint(int32_t& value) {
    if (at_ == end_) return false;
    auto byte = static_cast<uint32_t>(*at_++);
    uint32_t bits = byte & 0x7f;
    for (int shift = 7; byte >= 0x80; shift += 7) {
      if (at_ == end_) return false;
      byte = static_cast<uint32_t>(*at_++);
      if (shift == 28 && byte > 0x0f) return false;  // over 32 bits, or a sixth byte
      bits |= (byte & 0x7f) << shift;
    }
    value = static_cast<int32_t>((bits >> 1) ^ (0 - (bits & 1)));
    return true;
  }

  // Zigzag, at most ten bytes and 64 bits.
  bool varlong(int64_t& value) {
    if (at_ == end_) return false;
    auto byte = static_cast<uint64_t>(*at_++);
    uint64_t bits = byte & 0x7f;
    for (int shift = 7; byte >= 0x80; shift += 7) {
      if (at_ == end_) return false;
      byte = static_cast<uint64_t>(*at_++);
      if (shift == 63 && byte > 1) return false;  // over 64 bits, or an eleventh byte
      bits |= (byte & 0x7f) << shift;
    }
    value = zigzag_decode(bits);
    return true;
  }

  // A length of at least `size_min` (-1 means null), then so many bytes, which `field` shows afterwards.
  bool sized(int32_t size_min, std::optional<ByteView>& field) {
    int32_t size = 0;
    if (!varint(size) || size < size_min || size > remaining()) return false;
    if (size < 0) {
      field.reset();
      return true;
    }
    field = ByteView(at_, static_cast<size_t>(size));
    at_ += size;
    return true;
  }
  bool skip_sized(int32_t size_min) {
    int32_t size = 0;
    return varint(size) && size >= size_min && skip(size < 0 ? 0 : size);
  }

  // A length that fits, and a cursor over just that many bytes; this one moves behind them.
  bool record(Cursor& inside) {
    int32_t size = 0;
    if (!varint(size) || size < 0 || size > remaining()) return false;
    inside = Cursor(ByteView(at_, static_cast<size_t>(size)));
    at_ += size;
    return true;
  }

  // A count of headers that could fit into what is left (fault F23: 2^31 of them in a few bytes), and that a reader may
  // hold as views: millions fit into a large record, and a view is twenty times as large as the smallest header.
  Flaw header_count(int32_t& count) {
    if (!varint(count) || count < 0 || count > remaining() / kHeaderBytesMin) return Flaw::kDamaged;
    return count > kRecordHeadersMax ? Flaw::kTooManyHeaders : Flaw::kNone;
  }

 private:
  const std::byte* at_;
  const std::byte* end_;
};

Flaw check_record(Cursor& records, int32_t index) {
  Cursor record{ByteView()};
  int64_t timestamp_delta = 0;
  int32_t offset_delta = 0;
  int32_t headers = 0;
  if (!records.record(record) || !record.skip(1) || !record.varlong(timestamp_delta)) return Flaw::kDamaged;
  if (!record.varint(offset_delta) || offset_delta != index) return Flaw::kDamaged;
  if (!record.skip_sized(-1) || !record.skip_sized(-1)) return Flaw::kDamaged;
  if (Flaw flaw = record.header_count(headers); flaw != Flaw::kNone) return flaw;
  for (; headers > 0; --headers) {
    if (!record.skip_sized(0) || !record.skip_sized(-1)) return Flaw::kDamaged;
  }
  return record.remaining() == 0 ? Flaw::kNone : Flaw::kDamaged;
}

// Of the rest of a record.
Flaw read_headers(Cursor& record, std::vector<RecordHeader>& headers) {
  int32_t count = 0;
  if (Flaw flaw = record.header_count(count); flaw != Flaw::kNone) return flaw;
  headers.reserve(static_cast<size_t>(count));
  for (; count > 0; --count) {
    std::optional<ByteView> key;
    RecordHeader header;
    if (!record.sized(0, key) || !record.sized(-1, header.value)) return Flaw::kDamaged;
    header.key = as_text(*key);
    headers.push_back(header);
  }
  return record.remaining() == 0 ? Flaw::kNone : Flaw::kDamaged;
}

// Timestamps are any 64 bits: the builder's difference wraps, and so does this sum.
int64_t wrapping_sum(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

}  // namespace

Result<RecordBatch> RecordBatch::parse(ByteView bytes) {
  if (bytes.size() < kBatchHeaderBytes) {
    return corrupt(std::to_string(bytes.size()) + " bytes are fewer than the header has");
  }
  const auto magic = load_big_endian<int8_t>(bytes.data() + kMagicAt);
  if (magic != kBatchMagic) return corrupt("magic is " + std::to_string(magic) + " instead of 2");
  const auto length = load_big_endian<int32_t>(bytes.data() + kLengthAt);
  const int64_t size = int64_t{length} + static_cast<int64_t>(kBatchLengthPrefixBytes);
  if (size < static_cast<int64_t>(kBatchHeaderBytes) || size > static_cast<int64_t>(bytes.size())) {
    return corrupt("length " + std::to_string(length) + " does not fit " + std::to_string(bytes.size()) + " bytes");
  }

  RecordBatch batch(bytes.first(static_cast<size_t>(size)));
  const int64_t span = int64_t{batch.last_offset_delta()} + 1;
  if (span < 1) return corrupt("last offset delta is " + std::to_string(batch.last_offset_delta()));
  if (batch.record_count() < 0 || batch.record_count() > span) {
    return corrupt("record count " + std::to_string(batch.record_count()) + " with " + std::to_string(span) +
                   " offsets");
  }
  const int64_t base = batch.base_offset().value();
  if (base < 0 || base > std::numeric_limits<int64_t>::max() - span) {
    return corrupt("base offset is " + std::to_string(base));
  }
  return batch;
}

Result<size_t> RecordBatch::peek_size(ByteView bytes, size_t size_max) {
  if (bytes.size() < kBatchLengthPrefixBytes) return corrupt("no length");
  const auto length = load_big_endian<int32_t>(bytes.data() + kLengthAt);
  const int64_t size = int64_t{length} + static_cast<int64_t>(kBatchLengthPrefixBytes);
  if (size < static_cast<int64_t>(kBatchHeaderBytes) || static_cast<uint64_t>(size) > size_max) {
    return corrupt("length " + std::to_string(length) + " is out of range");
  }
  return static_cast<size_t>(size);
}

std::optional<Codec> RecordBatch::codec() const {
  const int code = attributes() & kCodecMask;
  if (code > static_cast<int>(Codec::kZstd)) return std::nullopt;
  return static_cast<Codec>(code);
}

int32_t RecordBatch::last_sequence() const {
  if (base_sequence() < 0) return kNoSequence;
  return static_cast<int32_t>((int64_t{base_sequence()} + last_offset_delta()) & 0x7fffffff);
}

bool RecordBatch::crc_matches() const { return crc32c(bytes_.subspan(kBatchCrcStart)) == stored_crc(); }

Status RecordBatch::check_records() const {
  const int32_t count = record_count();
  if (int64_t{last_offset_delta()} + 1 != count) {
    return corrupt(std::to_string(count) + " records with last offset delta " + std::to_string(last_offset_delta()));
  }
  const std::optional<Codec> how = codec();
  if (!how) return corrupt("unknown codec " + std::to_string(attributes() & kCodecMask));
  if (*how != Codec::kNone) return {};

  Cursor cursor(records());
  for (int32_t i = 0; i < count; ++i) {
    if (Flaw flaw = check_record(cursor, i); flaw != Flaw::kNone) [[unlikely]]
      return flawed("record " + std::to_string(i), flaw);
  }
  if (cursor.remaining() != 0) return corrupt("bytes after record " + std::to_string(count - 1));
  return {};
}

void RecordBatch::set_base_offset(MutableByteView batch, Offset offset) {
  store_big_endian(batch.data(), offset.value());
}

void RecordBatch::set_leader_epoch(MutableByteView batch, LeaderEpoch epoch) {
  store_big_endian(batch.data() + kLeaderEpochAt, epoch.value());
}

void RecordBatch::set_log_append_time(MutableByteView batch, int64_t timestamp_ms) {
  const auto attributes = load_big_endian<int16_t>(batch.data() + kAttributesAt);
  store_big_endian(batch.data() + kAttributesAt, static_cast<int16_t>(attributes | kLogAppendTimeBit));
  store_big_endian(batch.data() + kMaxTimestampAt, timestamp_ms);
  store_big_endian(batch.data() + kCrcAt, crc32c(batch.subspan(kBatchCrcStart)));
}

Result<RecordIterator> RecordIterator::open(const RecordBatch& batch, size_t size_max) {
  const std::optional<Codec> codec = batch.codec();
  if (!codec) return corrupt("unknown codec " + std::to_string(batch.attributes() & kCodecMask));
  RecordIterator iterator;
  if (*codec == Codec::kNone) {
    iterator.rest_ = batch.records();
  } else if (batch.record_count() > 0 || !batch.records().empty()) {  // compaction may leave a header alone
    iterator.decompressed_ = TRY(decompress(*codec, batch.records(), size_max));
    iterator.rest_ = iterator.decompressed_.view();
  }
  iterator.base_timestamp_ = batch.base_timestamp();
  if (batch.is_log_append_time()) iterator.append_time_ = batch.max_timestamp();
  iterator.remaining_ = batch.record_count();
  iterator.last_offset_delta_ = batch.last_offset_delta();
  return iterator;
}

// On failure the iterator stays where it is, so the same failure comes again.
Result<std::optional<RecordView>> RecordIterator::next() {
  if (remaining_ == 0) {
    if (!rest_.empty()) return corrupt("bytes after the last record");
    return std::optional<RecordView>();
  }
  Cursor records(rest_);
  Cursor record{ByteView()};
  std::optional<RecordView> view(std::in_place);
  int64_t timestamp_delta = 0;
  int32_t offset_delta = 0;
  const bool sound = records.record(record) && record.skip(1) && record.varlong(timestamp_delta) &&
                     record.varint(offset_delta) && offset_delta > previous_offset_delta_ &&
                     offset_delta <= last_offset_delta_ && record.sized(-1, view->key) && record.sized(-1, view->value);
  if (Flaw flaw = sound ? read_headers(record, view->headers) : Flaw::kDamaged; flaw != Flaw::kNone) {
    return flawed("the record after offset delta " + std::to_string(previous_offset_delta_), flaw);
  }
  view->offset_delta = offset_delta;
  view->timestamp_ms = append_time_.value_or(wrapping_sum(base_timestamp_, timestamp_delta));
  previous_offset_delta_ = offset_delta;
  rest_ = records.rest();
  --remaining_;
  return view;
}

}  // namespace trilog
