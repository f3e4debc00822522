// Records of the offsets topic: one key per committed offset, so that the newest record of a key is the state.
//
//   key    u8 type = 1 | text group | 16 bytes topic id | i32 partition
//   value  u8 version = 1 | i64 offset | i32 leader epoch | i64 commit time in ms | text topic name | text metadata
//
// No value: the offset is gone. Text is a varint length and UTF-8. The topic's identity is its id (rule C11); its name
// is for people. Fields are only added at the end, with a new version; a type keeps its key for ever.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/base/status.h"
#include "storage/record/record_batch.h"
#include "storage/record/record_batch_builder.h"

namespace trilog {

struct OffsetKey {
  std::string group;
  TopicId topic;
  PartitionId partition{0};
  auto operator<=>(const OffsetKey&) const = default;
};

struct OffsetValue {
  Offset offset{0};
  LeaderEpoch leader_epoch = kNoLeaderEpoch;  // as the consumer gave it (G5)
  int64_t commit_timestamp_ms = kNoTimestamp;
  std::string topic_name;
  std::string metadata;
  bool operator==(const OffsetValue&) const = default;
};

struct GroupRecord {
  OffsetKey key;
  std::optional<OffsetValue> value;  // nothing: the offset is gone
  bool operator==(const GroupRecord&) const = default;
};

Bytes encode_offset_key(const OffsetKey& key);
// Also what the state store keeps as its value.
Bytes encode_offset_value(const OffsetValue& value);
// kCorruption if malformed, kUnsupported for a newer type or version: whoever loads must not go on without it.
Result<OffsetKey> decode_offset_key(ByteView bytes);
Result<OffsetValue> decode_offset_value(ByteView bytes);
Result<GroupRecord> decode_group_record(const RecordView& record);

// Bytes that it adds to a batch at most.
size_t record_size_bound(const GroupRecord& record);
void add_group_record(RecordBatchBuilder& builder, const GroupRecord& record, int64_t now_ms);

}  // namespace trilog
