// OffsetStore: the committed offsets of one partition of the offsets topic in a StateStore, and how far the log of that
// partition has been applied. A view: every write also says which offset and epoch it reflects (G3, G7), so that after
// any crash the owner reads applied() and replays the log from there, or resets and replays all of it.
//
// Writes are not synced. What a power cut takes from the end is still in the log, and the position goes with it.
//
// Keys begin with "o" and the partition number as u32, then
//   0x00                                                      -> u8 version | topic id | i64 next offset | i32 epoch
//   0x01 group 0x00 topic id (16 bytes) partition (u32)       -> the value of the record (group_record.h)
// A group's name has no control characters, so the zero ends it, and groups come in the order of their names.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "broker/group/group_record.h"
#include "storage/base/ids.h"
#include "storage/base/status.h"
#include "storage/state/state_store.h"

namespace trilog {

struct AppliedPosition {
  TopicId topic;  // of the offsets topic, should it ever be made anew
  Offset next{0};
  LeaderEpoch epoch = kNoLeaderEpoch;  // of the last record below `next`
  bool operator==(const AppliedPosition&) const = default;
};

class OffsetStore {
 public:
  // `store` must outlive this. All calls block; errors are the store's, and kCorruption for bytes that are not ours.
  OffsetStore(StateStore& store, PartitionId offsets_partition);

  // Nothing if it was never written.
  Result<std::optional<AppliedPosition>> applied();
  // Empties the view, as of `position`.
  Status reset(const AppliedPosition& position);
  // Records in log order, up to `position`: all or nothing.
  Status apply(std::span<const GroupRecord> records, const AppliedPosition& position);

  Result<std::optional<OffsetValue>> get(const OffsetKey& key);
  // Entries in order of group, topic, partition, after `after` if given; at most `limit`.
  Result<std::vector<GroupRecord>> scan(const std::optional<OffsetKey>& after, size_t limit);
  // The same of one group.
  Result<std::vector<GroupRecord>> scan_group(std::string_view group, const std::optional<OffsetKey>& after,
                                              size_t limit);
  // The first group with the prefix whose name comes after `after` (empty: from the first).
  Result<std::optional<std::string>> next_group(std::string_view prefix, std::string_view after);

 private:
  std::string key_of(const OffsetKey& key) const;
  Result<OffsetKey> parse_key(std::string_view key) const;
  Result<std::vector<GroupRecord>> scan_prefix(std::string_view prefix, const std::optional<OffsetKey>& after,
                                               size_t limit);

  StateStore& store_;
  const std::string position_key_;
  const std::string offsets_prefix_;
};

}  // namespace trilog
