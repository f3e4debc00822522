#include "broker/group/group_record.h"

#include "storage/base/codec.h"

namespace trilog {
namespace {

constexpr uint8_t kOffsetType = 1;
constexpr uint8_t kValueVersion = 1;

}  // namespace

Bytes encode_offset_key(const OffsetKey& key) {
  Bytes bytes;
  ByteWriter out(bytes);
  out.write<uint8_t>(kOffsetType);
  out.write_text(key.group);
  out.write<uint64_t>(key.topic.high());
  out.write<uint64_t>(key.topic.low());
  out.write<int32_t>(key.partition.value());
  return bytes;
}

Bytes encode_offset_value(const OffsetValue& value) {
  Bytes bytes;
  ByteWriter out(bytes);
  out.write<uint8_t>(kValueVersion);
  out.write<int64_t>(value.offset.value());
  out.write<int32_t>(value.leader_epoch.value());
  out.write<int64_t>(value.commit_timestamp_ms);
  out.write_text(value.topic_name);
  out.write_text(value.metadata);
  return bytes;
}

Result<OffsetKey> decode_offset_key(ByteView bytes) {
  ByteReader in(bytes);
  const auto type = in.read<uint8_t>();
  if (in.ok() && type != kOffsetType) {
    return Status(Errc::kUnsupported, "group record of type " + std::to_string(type) + ", written by a newer version");
  }
  OffsetKey key;
  key.group = in.read_text();
  const auto high = in.read<uint64_t>();
  const auto low = in.read<uint64_t>();
  key.topic = TopicId(high, low);
  key.partition = PartitionId(in.read<int32_t>());
  if (!in.ok() || !in.at_end() || key.group.empty() || key.topic.is_zero() || key.partition < PartitionId(0)) {
    return Status(Errc::kCorruption, "the key of a group record is malformed");
  }
  return key;
}

Result<OffsetValue> decode_offset_value(ByteView bytes) {
  ByteReader in(bytes);
  const auto version = in.read<uint8_t>();
  if (in.ok() && version > kValueVersion) {
    return Status(Errc::kUnsupported,
                  "group record of version " + std::to_string(version) + ", written by a newer version");
  }
  OffsetValue value;
  value.offset = Offset(in.read<int64_t>());
  value.leader_epoch = LeaderEpoch(in.read<int32_t>());
  value.commit_timestamp_ms = in.read<int64_t>();
  value.topic_name = in.read_text();
  value.metadata = in.read_text();
  if (!in.ok() || !in.at_end() || version == 0 || value.offset < Offset(0)) {
    return Status(Errc::kCorruption, "the value of a group record is malformed");
  }
  return value;
}

Result<GroupRecord> decode_group_record(const RecordView& record) {
  if (!record.key) return Status(Errc::kCorruption, "a group record has no key");
  GroupRecord result;
  result.key = TRY(decode_offset_key(*record.key));
  if (record.value) result.value = TRY(decode_offset_value(*record.value));
  return result;
}

size_t record_size_bound(const GroupRecord& record) {
  constexpr size_t kBesideTexts = 96;
  const size_t texts = record.value ? record.value->topic_name.size() + record.value->metadata.size() : size_t{0};
  return kBesideTexts + record.key.group.size() + texts;
}

void add_group_record(RecordBatchBuilder& builder, const GroupRecord& record, int64_t now_ms) {
  const Bytes key = encode_offset_key(record.key);
  if (!record.value) return builder.add(now_ms, key.view(), std::nullopt);
  const Bytes value = encode_offset_value(*record.value);
  builder.add(now_ms, key.view(), value.view());
}

}  // namespace trilog
