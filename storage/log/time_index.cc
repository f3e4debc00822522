#include "storage/log/time_index.h"

#include <algorithm>

#include "storage/base/codec.h"
#include "storage/log/checkpoint_file.h"

namespace trilog {

namespace {
constexpr uint32_t kVersion = 1;
constexpr size_t kEntryBytes = 8 + 4;
}  // namespace

void TimeIndex::add(int64_t max_timestamp, Offset offset) {
  CHECK_GE(offset, base_);
  auto relative = static_cast<uint64_t>(offset - base_);
  if (relative > UINT32_MAX) return;
  if (!entries_.empty()) {
    Entry& last = entries_.back();
    CHECK_GE(max_timestamp, last.timestamp);
    CHECK_GT(relative, last.relative);
    if (last.timestamp == max_timestamp) {
      // Nothing later came: the older entry says less than this one.
      last.relative = static_cast<uint32_t>(relative);
      return;
    }
  }
  entries_.push_back({max_timestamp, static_cast<uint32_t>(relative)});
}

std::optional<Offset> TimeIndex::search_from(int64_t timestamp) const {
  auto first = std::lower_bound(entries_.begin(), entries_.end(), timestamp,
                                [](const Entry& e, int64_t wanted) { return e.timestamp < wanted; });
  if (first == entries_.begin()) return std::nullopt;
  return base_ + int64_t{std::prev(first)->relative};
}

Bytes TimeIndex::encode(const SegmentCover& cover, int64_t max_timestamp) const {
  Bytes payload;
  payload.reserve(kCoverBytes + 12 + entries_.size() * kEntryBytes);
  write_cover(payload, cover);
  ByteWriter out(payload);
  out.write<int64_t>(max_timestamp);
  out.write<uint32_t>(static_cast<uint32_t>(entries_.size()));
  for (const Entry& entry : entries_) {
    out.write<int64_t>(entry.timestamp);
    out.write<uint32_t>(entry.relative);
  }
  return frame_checkpoint(kVersion, payload);
}

Result<TimeIndex::Decoded> TimeIndex::decode(ByteView bytes) {
  const Status bad(Errc::kCorruption, "the entries of a time index do not add up");
  ByteView payload = TRY(unframe_checkpoint(bytes, kVersion));
  if (payload.size() < kCoverBytes + 12) return bad;
  SegmentCover cover = read_cover(payload);
  ByteReader in(payload.subspan(kCoverBytes));
  auto max_timestamp = in.read<int64_t>();
  auto count = in.read<uint32_t>();
  if (cover.base < Offset(0) || cover.end < cover.base || in.remaining() != count * kEntryBytes) return bad;
  Decoded decoded{cover, max_timestamp, TimeIndex(cover.base)};
  decoded.index.entries_.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    auto timestamp = in.read<int64_t>();
    auto relative = in.read<uint32_t>();
    const auto& entries = decoded.index.entries_;
    bool rising = entries.empty() || (timestamp > entries.back().timestamp && relative > entries.back().relative);
    if (!rising || timestamp > max_timestamp || int64_t{relative} >= cover.end - cover.base) return bad;
    decoded.index.entries_.push_back({timestamp, relative});
  }
  return decoded;
}

}  // namespace trilog
