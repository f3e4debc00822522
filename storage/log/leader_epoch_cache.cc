#include "storage/log/leader_epoch_cache.h"

#include <algorithm>

#include "storage/base/codec.h"
#include "storage/log/checkpoint_file.h"

namespace trilog {

namespace {
constexpr uint32_t kVersion = 1;
constexpr size_t kEntryBytes = 4 + 8;
}  // namespace

void LeaderEpochCache::assign(LeaderEpoch epoch, Offset start) {
  if (epoch < LeaderEpoch(0)) return;
  bool known = std::any_of(entries_.begin(), entries_.end(), [&](const EpochEntry& e) { return e.epoch == epoch; });
  if (known) return;
  if (!entries_.empty()) CHECK_GT(epoch, entries_.back().epoch);
  truncate_from_end(start);
  entries_.push_back({epoch, start});
}

std::optional<EpochEntry> LeaderEpochCache::latest() const {
  if (entries_.empty()) return std::nullopt;
  return entries_.back();
}

LeaderEpoch LeaderEpochCache::epoch_at(Offset offset) const {
  auto after = std::upper_bound(entries_.begin(), entries_.end(), offset,
                                [](Offset wanted, const EpochEntry& e) { return wanted < e.start; });
  return after == entries_.begin() ? kNoLeaderEpoch : std::prev(after)->epoch;
}

EpochEnd LeaderEpochCache::end_of(LeaderEpoch requested, Offset log_end) const {
  if (entries_.empty() || requested < LeaderEpoch(0) || requested > entries_.back().epoch) return {};
  auto after = std::upper_bound(entries_.begin(), entries_.end(), requested,
                                [](LeaderEpoch wanted, const EpochEntry& e) { return wanted < e.epoch; });
  if (after == entries_.begin()) return {requested, after->start};
  return {std::prev(after)->epoch, after == entries_.end() ? log_end : after->start};
}

void LeaderEpochCache::truncate_from_end(Offset end) {
  while (!entries_.empty() && entries_.back().start >= end) entries_.pop_back();
}

void LeaderEpochCache::truncate_from_start(Offset start) {
  auto after = std::upper_bound(entries_.begin(), entries_.end(), start,
                                [](Offset wanted, const EpochEntry& e) { return wanted < e.start; });
  if (after == entries_.begin()) return;
  auto covering = std::prev(after);
  covering->start = start;
  entries_.erase(entries_.begin(), covering);
}

Bytes LeaderEpochCache::encode() const {
  Bytes payload;
  payload.reserve(4 + entries_.size() * kEntryBytes);
  ByteWriter out(payload);
  out.write<uint32_t>(static_cast<uint32_t>(entries_.size()));
  for (const EpochEntry& entry : entries_) {
    out.write<int32_t>(entry.epoch.value());
    out.write<int64_t>(entry.start.value());
  }
  return frame_checkpoint(kVersion, payload);
}

Result<LeaderEpochCache> LeaderEpochCache::decode(ByteView bytes) {
  ByteReader in(TRY(unframe_checkpoint(bytes, kVersion)));
  LeaderEpochCache cache;
  uint32_t count = in.read<uint32_t>();
  if (!in.ok() || in.remaining() != count * kEntryBytes)
    return Status(Errc::kCorruption, "the epoch entries do not add up");
  cache.entries_.reserve(count);
  EpochEntry previous{LeaderEpoch(-1), Offset(-1)};
  for (uint32_t i = 0; i < count; ++i) {
    LeaderEpoch epoch(in.read<int32_t>());
    EpochEntry entry{epoch, Offset(in.read<int64_t>())};
    if (entry.epoch <= previous.epoch || entry.start <= previous.start) {
      return Status(Errc::kCorruption, "leader epochs do not rise at entry " + std::to_string(i));
    }
    cache.entries_.push_back(entry);
    previous = entry;
  }
  return cache;
}

}  // namespace trilog
