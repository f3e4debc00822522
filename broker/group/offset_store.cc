#include "broker/group/offset_store.h"

#include "storage/base/codec.h"

namespace trilog {
namespace {

constexpr uint8_t kPositionVersion = 1;
constexpr char kPositionMark = '\x00';
constexpr char kOffsetsMark = '\x01';
constexpr char kGroupEnd = '\x00';
// Comes after kGroupEnd and before everything that a group's name may hold.
constexpr char kAfterGroup = '\x01';
constexpr size_t kTopicAndPartitionBytes = 20;

std::string partition_prefix(PartitionId partition) {
  Bytes bytes;
  ByteWriter out(bytes);
  out.write<uint8_t>('o');
  out.write<uint32_t>(static_cast<uint32_t>(partition.value()));
  return std::string(as_text(bytes));
}

Status foreign_key() { return {Errc::kCorruption, "a key of the offset view is malformed"}; }

}  // namespace

OffsetStore::OffsetStore(StateStore& store, PartitionId offsets_partition)
    : store_(store),
      position_key_(partition_prefix(offsets_partition) + kPositionMark),
      offsets_prefix_(partition_prefix(offsets_partition) + kOffsetsMark) {}

Result<std::optional<AppliedPosition>> OffsetStore::applied() {
  const std::optional<std::string> found = TRY(store_.get(as_bytes(position_key_)));
  if (!found) return std::optional<AppliedPosition>();
  ByteReader in(as_bytes(*found));
  AppliedPosition position;
  const auto version = in.read<uint8_t>();
  const auto high = in.read<uint64_t>();
  const auto low = in.read<uint64_t>();
  position.topic = TopicId(high, low);
  position.next = Offset(in.read<int64_t>());
  position.epoch = LeaderEpoch(in.read<int32_t>());
  if (!in.ok() || !in.at_end() || version != kPositionVersion || position.next < Offset(0)) {
    return Status(Errc::kCorruption, "the applied position of the offset view is malformed");
  }
  return std::optional<AppliedPosition>(position);
}

namespace {

void put_position(StateBatch& batch, std::string_view key, const AppliedPosition& position) {
  Bytes bytes;
  ByteWriter out(bytes);
  out.write<uint8_t>(kPositionVersion);
  out.write<uint64_t>(position.topic.high());
  out.write<uint64_t>(position.topic.low());
  out.write<int64_t>(position.next.value());
  out.write<int32_t>(position.epoch.value());
  batch.put(as_bytes(key), bytes);
}

}  // namespace

Status OffsetStore::reset(const AppliedPosition& position) {
  StateBatch batch;
  batch.remove_prefix(as_bytes(offsets_prefix_));
  put_position(batch, position_key_, position);
  return store_.write(batch);
}

Status OffsetStore::apply(std::span<const GroupRecord> records, const AppliedPosition& position) {
  StateBatch batch;
  for (const GroupRecord& record : records) {
    const std::string key = key_of(record.key);
    if (record.value) {
      batch.put(as_bytes(key), encode_offset_value(*record.value));
    } else {
      batch.remove(as_bytes(key));
    }
  }
  put_position(batch, position_key_, position);
  return store_.write(batch);
}

Result<std::optional<OffsetValue>> OffsetStore::get(const OffsetKey& key) {
  const std::optional<std::string> found = TRY(store_.get(as_bytes(key_of(key))));
  if (!found) return std::optional<OffsetValue>();
  return std::optional<OffsetValue>(TRY(decode_offset_value(as_bytes(*found))));
}

Result<std::vector<GroupRecord>> OffsetStore::scan(const std::optional<OffsetKey>& after, size_t limit) {
  return scan_prefix(offsets_prefix_, after, limit);
}

Result<std::vector<GroupRecord>> OffsetStore::scan_group(std::string_view group, const std::optional<OffsetKey>& after,
                                                         size_t limit) {
  std::string prefix = offsets_prefix_;
  prefix.append(group).push_back(kGroupEnd);
  return scan_prefix(prefix, after, limit);
}

Result<std::vector<GroupRecord>> OffsetStore::scan_prefix(std::string_view prefix,
                                                          const std::optional<OffsetKey>& after, size_t limit) {
  std::string start;
  if (after) start = key_of(*after) + '\0';
  std::vector<GroupRecord> records;
  for (const StateEntry& entry :
       TRY(store_.scan({.prefix = as_bytes(prefix), .start = as_bytes(start), .limit = limit}))) {
    GroupRecord& record = records.emplace_back();
    record.key = TRY(parse_key(entry.key));
    record.value = TRY(decode_offset_value(as_bytes(entry.value)));
  }
  return records;
}

Result<std::optional<std::string>> OffsetStore::next_group(std::string_view prefix, std::string_view after) {
  const std::string wanted = offsets_prefix_ + std::string(prefix);
  std::string start;
  if (!after.empty()) {
    start = offsets_prefix_;
    start.append(after).push_back(kAfterGroup);
  }
  std::vector<StateEntry> found = TRY(store_.scan({.prefix = as_bytes(wanted), .start = as_bytes(start), .limit = 1}));
  if (found.empty()) return std::optional<std::string>();
  return std::optional<std::string>(TRY(parse_key(found.front().key)).group);
}

std::string OffsetStore::key_of(const OffsetKey& key) const {
  Bytes tail;
  ByteWriter out(tail);
  out.write<uint64_t>(key.topic.high());
  out.write<uint64_t>(key.topic.low());
  out.write<uint32_t>(static_cast<uint32_t>(key.partition.value()));
  std::string result = offsets_prefix_;
  result.append(key.group).push_back(kGroupEnd);
  return result.append(as_text(tail));
}

Result<OffsetKey> OffsetStore::parse_key(std::string_view key) const {
  if (key.size() < offsets_prefix_.size() + kTopicAndPartitionBytes + 2) return foreign_key();
  key.remove_prefix(offsets_prefix_.size());
  const size_t group_bytes = key.size() - kTopicAndPartitionBytes - 1;
  if (key.find(kGroupEnd) != group_bytes) return foreign_key();
  ByteReader in(as_bytes(key.substr(group_bytes + 1)));
  const auto high = in.read<uint64_t>();
  const auto low = in.read<uint64_t>();
  const auto partition = in.read<uint32_t>();
  return OffsetKey{std::string(key.substr(0, group_bytes)), TopicId(high, low),
                   PartitionId(static_cast<int32_t>(partition))};
}

}  // namespace trilog
