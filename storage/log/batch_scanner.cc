#include "storage/log/batch_scanner.h"

#include <algorithm>
#include <cstring>

#include "storage/base/codec.h"
#include "storage/base/crc32c.h"

namespace trilog {

namespace {

constexpr size_t kScanChunkBytes = 1u << 20;
constexpr size_t kSmallBatchBytes = 8u << 10;  // below it reading ahead is cheaper than another call
constexpr size_t kMagicAt = 16;

// A window onto a file that slides forward and grows to the largest piece asked for.
class Window {
 public:
  Window(const File& file, uint64_t end) : file_(file), end_(end) {}

  // At least min(size, end - position) bytes from `position` on, more if they are in memory.
  Result<ByteView> at(uint64_t position, size_t size) {
    size_t wanted = static_cast<size_t>(std::min<uint64_t>(size, end_ - position));
    if (position < start_ || position + wanted > start_ + buffer_.size()) TRY(load(position, wanted));
    size_t skip = static_cast<size_t>(position - start_);
    if (skip > buffer_.size()) return ByteView();
    return buffer_.view().subspan(skip);
  }
  uint64_t bytes_read() const { return bytes_read_; }

 private:
  Status load(uint64_t position, size_t wanted) {
    size_t size = static_cast<size_t>(std::min<uint64_t>(std::max(wanted, kScanChunkBytes), end_ - position));
    if (buffer_.size() < size) buffer_ = Bytes(size);
    buffer_.resize_uninitialized(size);
    start_ = position;
    buffer_.resize_uninitialized(TRY(file_.read_at(position, buffer_.mutable_view())));
    bytes_read_ += buffer_.size();
    return ok_status();
  }

  const File& file_;
  const uint64_t end_;
  Bytes buffer_;
  uint64_t start_ = 0;
  uint64_t bytes_read_ = 0;
};

bool is_zero(ByteView bytes) {
  return bytes.empty() ||
         (bytes[0] == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

const char* checked_batch_problem(const RecordBatch& batch) {
  return batch.crc_matches() ? nullptr : "the checksum does not match";
}

}  // namespace

BatchHeader BatchHeader::decode(ByteView bytes) {
  const std::byte* at = bytes.data();
  BatchHeader header;
  header.base_offset = Offset(load_big_endian<int64_t>(at));
  header.size = uint64_t{load_big_endian<uint32_t>(at + 8)} + kBatchLengthPrefixBytes;
  header.leader_epoch = LeaderEpoch(load_big_endian<int32_t>(at + 12));
  header.magic = static_cast<int8_t>(at[kMagicAt]);
  header.last_offset_delta = load_big_endian<int32_t>(at + 23);
  header.max_timestamp = load_big_endian<int64_t>(at + 35);
  header.record_count = load_big_endian<int32_t>(at + 57);
  std::memcpy(header.prefix.data(), at, header.prefix.size());
  return header;
}

BatchHeader BatchHeader::of(const RecordBatch& batch) { return decode(batch.bytes()); }

const char* BatchExpectation::problem(const BatchHeader& header, uint64_t bytes_left) const {
  if (header.magic != kBatchMagic) return "the magic byte is not 2";
  if (header.size < kBatchHeaderBytes) return "the length is too small";
  if (header.size > batch_bytes_max) return "the length is above the limit";
  if (header.size > bytes_left) return "the batch runs past the end of the file";
  if (header.base_offset != offset) return "the base offset is not the expected one";
  if (header.last_offset_delta < 0) return "the last offset delta is negative";
  if (header.record_count < 0 || header.record_count > int64_t{header.last_offset_delta} + 1) {
    return "the record count does not fit the offsets";
  }
  if (end - header.base_offset <= header.last_offset_delta) return "the offsets reach beyond the end";
  // Below its first entry the cache has forgotten the epochs, because retention has. Where it never had any, a batch
  // that carries one was not followed by the sync that would have made both durable.
  bool forgotten = epochs == nullptr || (!epochs->entries().empty() && offset < epochs->entries().front().start);
  bool epoch_fits = forgotten ? header.leader_epoch >= epoch_min : header.leader_epoch == epochs->epoch_at(offset);
  if (!epoch_fits) return "the leader epoch is not the one of this offset";
  return nullptr;
}

void BatchExpectation::step(const BatchHeader& header) {
  offset = header.next_offset();
  epoch_min = std::max(epoch_min, header.leader_epoch);
}

Result<bool> batch_is_sound(const File& file, const LocatedBatch& batch) {
  Bytes bytes(static_cast<size_t>(batch.header.size));
  bytes.resize_uninitialized(TRY(file.read_at(batch.position, bytes.mutable_view())));
  auto parsed = RecordBatch::parse(bytes);
  return parsed.ok() && parsed->crc_matches();
}

Result<std::optional<BatchHeader>> HeaderReader::at(uint64_t position) {
  if (position + kBatchHeaderBytes > end_) return std::optional<BatchHeader>();
  bool near = !first_ && position >= last_position_ && position - last_position_ < kSmallBatchBytes;
  first_ = false;
  last_position_ = position;
  if (position < buffer_at_ || position + kBatchHeaderBytes > buffer_at_ + buffer_.size()) {
    size_t size = near ? std::max(read_ahead_max_, kBatchHeaderBytes) : kBatchHeaderBytes;
    buffer_.resize_uninitialized(static_cast<size_t>(std::min<uint64_t>(size, end_ - position)));
    buffer_at_ = position;
    buffer_.resize_uninitialized(TRY(file_.read_at(position, buffer_.mutable_view())));
    if (buffer_.size() < kBatchHeaderBytes) return std::optional<BatchHeader>();
  }
  return std::optional(BatchHeader::decode(buffer_.view().subspan(static_cast<size_t>(position - buffer_at_))));
}

Result<ScanResult> scan_batches(const File& file, uint64_t position, uint64_t end, BatchExpectation expectation,
                                BatchVisitor* visitor) {
  Window window(file, end);
  ScanResult result;
  while (true) {
    result.position = position;
    result.offset = expectation.offset;
    result.bytes_read = window.bytes_read();
    if (position == end) return result;
    ByteView bytes = TRY(window.at(position, kBatchHeaderBytes));
    const char* problem = "the header is cut off";
    if (bytes.size() >= kBatchHeaderBytes) {
      BatchHeader header = BatchHeader::decode(bytes);
      problem = expectation.problem(header, end - position);
      if (problem == nullptr) {
        bytes = TRY(window.at(position, static_cast<size_t>(header.size)));
        Result<RecordBatch> batch = RecordBatch::parse(bytes);
        problem = batch.ok() ? checked_batch_problem(*batch) : "the header is not sound";
        if (problem == nullptr) {
          if (visitor != nullptr) (*visitor)(position, *batch);
          position += header.size;
          expectation.step(header);
          continue;
        }
      }
    }
    result.why = problem;
    result.stop = TRY(all_zero(file, position, end)) ? ScanStop::kZeros : ScanStop::kBroken;
    return result;
  }
}

Result<SearchResult> find_batch(const File& file, uint64_t position, uint64_t end, const SearchBounds& bounds) {
  Window window(file, end);
  SearchResult result;
  uint64_t crc_budget = kSearchCrcBytesMax;
  while (position + kBatchHeaderBytes <= end) {
    ByteView bytes = TRY(window.at(position, kBatchHeaderBytes));
    if (bytes.size() < kBatchHeaderBytes) break;
    // All candidates of this window have a 2 where the magic byte is; memchr finds those fast.
    ByteView magics = bytes.subspan(kMagicAt, bytes.size() - kBatchHeaderBytes + 1);
    const void* hit = std::memchr(magics.data(), kBatchMagic, magics.size());
    if (hit == nullptr) {
      position += magics.size();
      continue;
    }
    position += static_cast<size_t>(static_cast<const std::byte*>(hit) - magics.data());
    BatchHeader header = BatchHeader::decode(TRY(window.at(position, kBatchHeaderBytes)));
    bool in_bounds = header.base_offset >= bounds.least && header.base_offset < bounds.before;
    if (bounds.file_base.has_value() && (position == 0) != (header.base_offset == *bounds.file_base)) in_bounds = false;
    BatchExpectation expectation{header.base_offset, bounds.epochs, kNoLeaderEpoch, bounds.batch_bytes_max};
    if (in_bounds && expectation.problem(header, end - position) == nullptr) {
      if (header.size > crc_budget) {
        result.gave_up = true;
        return result;
      }
      crc_budget -= header.size;
      bytes = TRY(window.at(position, static_cast<size_t>(header.size)));
      Result<RecordBatch> batch = RecordBatch::parse(bytes);
      if (batch.ok() && batch->crc_matches()) {
        result.found = FoundBatch{position, header.base_offset};
        return result;
      }
    }
    ++position;
  }
  return result;
}

Result<bool> all_zero(const File& file, uint64_t position, uint64_t end) {
  Window window(file, end);
  while (position < end) {
    ByteView bytes = TRY(window.at(position, 1));
    if (bytes.empty()) break;
    if (!is_zero(bytes)) return false;
    position += bytes.size();
  }
  return true;
}

}  // namespace trilog
