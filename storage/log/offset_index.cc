#include "storage/log/offset_index.h"

#include <algorithm>

#include "storage/base/codec.h"
#include "storage/log/checkpoint_file.h"

namespace trilog {

namespace {
constexpr uint32_t kVersion = 1;
constexpr size_t kEntryBytes = 4 + 4;
}  // namespace

void write_cover(Bytes& out, const SegmentCover& cover) {
  ByteWriter writer(out);
  writer.write<int64_t>(cover.base.value());
  writer.write<int64_t>(cover.end.value());
  writer.write<uint64_t>(cover.bytes);
  writer.write<uint32_t>(cover.header_crc);
}

SegmentCover read_cover(ByteView bytes) {
  ByteReader in(bytes);
  SegmentCover cover;
  cover.base = Offset(in.read<int64_t>());
  cover.end = Offset(in.read<int64_t>());
  cover.bytes = in.read<uint64_t>();
  cover.header_crc = in.read<uint32_t>();
  return cover;
}

void OffsetIndex::add(Offset offset, uint64_t position) {
  CHECK_GE(offset, base_);
  auto relative = static_cast<uint64_t>(offset - base_);
  if (relative > UINT32_MAX || position > UINT32_MAX) return;
  if (!entries_.empty()) {
    CHECK_GT(relative, entries_.back().relative);
    CHECK_GT(position, entries_.back().position);
  }
  entries_.push_back({static_cast<uint32_t>(relative), static_cast<uint32_t>(position)});
}

IndexEntry OffsetIndex::at(size_t i) const { return {base_ + int64_t{entries_[i].relative}, entries_[i].position}; }

std::optional<IndexEntry> OffsetIndex::floor(Offset offset) const {
  auto after = std::upper_bound(entries_.begin(), entries_.end(), offset - base_,
                                [](int64_t wanted, const Entry& e) { return wanted < int64_t{e.relative}; });
  if (after == entries_.begin()) return std::nullopt;
  return at(static_cast<size_t>(after - entries_.begin()) - 1);
}

std::optional<IndexEntry> OffsetIndex::ceiling(Offset offset) const {
  auto first = std::lower_bound(entries_.begin(), entries_.end(), offset - base_,
                                [](const Entry& e, int64_t wanted) { return int64_t{e.relative} < wanted; });
  if (first == entries_.end()) return std::nullopt;
  return at(static_cast<size_t>(first - entries_.begin()));
}

std::optional<IndexEntry> OffsetIndex::last() const {
  if (entries_.empty()) return std::nullopt;
  return at(entries_.size() - 1);
}

Bytes OffsetIndex::encode(const SegmentCover& cover) const {
  Bytes payload;
  payload.reserve(kCoverBytes + 4 + entries_.size() * kEntryBytes);
  write_cover(payload, cover);
  ByteWriter out(payload);
  out.write<uint32_t>(static_cast<uint32_t>(entries_.size()));
  for (const Entry& entry : entries_) {
    out.write<uint32_t>(entry.relative);
    out.write<uint32_t>(entry.position);
  }
  return frame_checkpoint(kVersion, payload);
}

Result<OffsetIndex::Decoded> OffsetIndex::decode(ByteView bytes) {
  const Status bad(Errc::kCorruption, "the entries of an offset index do not add up");
  ByteView payload = TRY(unframe_checkpoint(bytes, kVersion));
  if (payload.size() < kCoverBytes + 4) return bad;
  SegmentCover cover = read_cover(payload);
  ByteReader in(payload.subspan(kCoverBytes));
  auto count = in.read<uint32_t>();
  if (cover.base < Offset(0) || cover.end < cover.base || in.remaining() != count * kEntryBytes) return bad;
  Decoded decoded{cover, OffsetIndex(cover.base)};
  decoded.index.entries_.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    auto relative = in.read<uint32_t>();
    auto position = in.read<uint32_t>();
    const auto& entries = decoded.index.entries_;
    bool rising = entries.empty() || (relative > entries.back().relative && position > entries.back().position);
    if (!rising || position >= cover.bytes || int64_t{relative} >= cover.end - cover.base) return bad;
    decoded.index.entries_.push_back({relative, position});
  }
  return decoded;
}

}  // namespace trilog
