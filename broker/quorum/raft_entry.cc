#include "broker/quorum/raft_entry.h"

#include <algorithm>
#include <optional>
#include <string>

#include "storage/base/codec.h"
#include "storage/record/record_batch_builder.h"

namespace trilog {

namespace {

constexpr uint8_t kVoterSetVersion = 2;
constexpr size_t kVotersMax = 99;

void add(RecordBatchBuilder& builder, RaftEntryKind kind, ByteView value, int64_t timestamp_ms) {
  auto key = static_cast<std::byte>(kind);
  builder.add(timestamp_ms, ByteView(&key, 1), value);
}

std::optional<RaftEntryKind> kind_of(const RecordView& record) {
  if (!record.key || record.key->size() != 1 || !record.value) return std::nullopt;
  auto kind = static_cast<RaftEntryKind>(record.key->front());
  for (RaftEntryKind known : {RaftEntryKind::kVoters, RaftEntryKind::kNoOp, RaftEntryKind::kData}) {
    if (kind == known) return kind;
  }
  return std::nullopt;
}

Status no_entry(const RecordBatch& batch, std::string_view why) {
  return Status(Errc::kCorruption, "the batch at offset " + std::to_string(batch.base_offset().value()) +
                                       " is no metadata entry: " + std::string(why));
}

}  // namespace

Bytes encode_voter_set(const VoterSet& set) {
  Bytes bytes;
  ByteWriter out(bytes);
  out.write<uint8_t>(kVoterSetVersion);
  out.write<uint64_t>(set.cluster.high());
  out.write<uint64_t>(set.cluster.low());
  out.write_varint(set.voters.size());
  for (const Voter& voter : set.voters) {
    out.write<int32_t>(voter.id.value());
    out.write<uint64_t>(voter.directory.high());
    out.write<uint64_t>(voter.directory.low());
  }
  out.write<uint32_t>(set.recovery.number);
  out.write<int32_t>(set.recovery.survivor.value());
  return bytes;
}

Result<VoterSet> decode_voter_set(ByteView bytes) {
  ByteReader in(bytes);
  auto version = in.read<uint8_t>();
  if (in.ok() && version > kVoterSetVersion) {
    return Status(Errc::kUnsupported, "the set of voters has version " + std::to_string(version) +
                                          "; this program knows " + std::to_string(kVoterSetVersion));
  }
  VoterSet set;
  auto high = in.read<uint64_t>();
  set.cluster = ClusterId(high, in.read<uint64_t>());
  uint64_t count = in.read_varint();
  if (count == 0 || count > kVotersMax) in.fail();
  for (uint64_t i = 0; i < count && in.ok(); ++i) {
    Voter voter;
    voter.id = BrokerId(in.read<int32_t>());
    high = in.read<uint64_t>();
    voter.directory = DirectoryId(high, in.read<uint64_t>());
    set.voters.push_back(voter);
  }
  if (version > 1) {
    set.recovery.number = in.read<uint32_t>();
    set.recovery.survivor = BrokerId(in.read<int32_t>());
  }
  if (!in.ok() || !in.at_end()) return Status(Errc::kCorruption, "the set of voters does not add up");
  return set;
}

Result<Bytes> make_voters_batch(const VoterSet& set, int64_t timestamp_ms) {
  RecordBatchBuilder builder;
  add(builder, RaftEntryKind::kVoters, encode_voter_set(set), timestamp_ms);
  return builder.build();
}

Result<Bytes> make_no_op_batch(BrokerId leader, int64_t timestamp_ms) {
  Bytes value;
  ByteWriter(value).write<int32_t>(leader.value());
  RecordBatchBuilder builder;
  add(builder, RaftEntryKind::kNoOp, value, timestamp_ms);
  return builder.build();
}

Result<Bytes> make_data_batch(const std::vector<Bytes>& records, int64_t timestamp_ms) {
  RecordBatchBuilder builder;
  for (const Bytes& record : records) add(builder, RaftEntryKind::kData, record, timestamp_ms);
  return builder.build();
}

Result<RaftEntryContent> read_entry(const RecordBatch& batch) {
  if (batch.codec() != Codec::kNone) return no_entry(batch, "it is compressed");
  if (batch.record_count() != int64_t{batch.last_offset_delta()} + 1) return no_entry(batch, "records are missing");
  RecordIterator records = TRY(RecordIterator::open(batch, batch.size()));
  RaftEntryContent content;
  while (auto record = TRY(records.next())) {
    auto kind = kind_of(*record);
    if (!kind) return no_entry(batch, "a record of an unknown kind");
    if (!content.records.empty() && kind != content.kind) return no_entry(batch, "records of two kinds");
    content.kind = *kind;
    content.records.push_back(*record->value);
  }
  if (content.records.empty()) return no_entry(batch, "it is empty");
  return content;
}

std::optional<VoterSet> voters_in_batch(ByteView bytes) {
  auto batch = RecordBatch::parse(bytes);
  if (!batch.ok() || batch->codec() != Codec::kNone || batch->record_count() != 1) return std::nullopt;
  auto records = RecordIterator::open(*batch, batch->size());
  if (!records.ok()) return std::nullopt;
  auto record = records->next();
  if (!record.ok() || !*record || kind_of(**record) != RaftEntryKind::kVoters) return std::nullopt;
  auto set = decode_voter_set(*(*record)->value);
  return set.ok() ? std::optional(std::move(*set)) : std::nullopt;
}

std::string to_string(const VoterSet& set) {
  std::string text;
  for (const Voter& voter : set.voters) text += (text.empty() ? "" : ", ") + std::to_string(voter.id.value());
  return text;
}

}  // namespace trilog
