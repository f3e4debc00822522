// What a Raft entry holds: one record batch whose records have a key of one byte that says what they are, so that a
// reader of the log can tell the quorum's own records from data.
//
//   'v' VoterSet      the first entry of every log (Q8): u8 2 | cluster id 16 | varint count | (id i32, directory 16)…
//   |
//                     u32 number and i32 survivor of the QuorumRecovery (version 1: without these, none)
//   'n' no-op         the first entry of every term (Q5): id i32 of the leader
//   'd' data          opaque
//
// Base offset and leader epoch (the term) are stamped when the entry is written; both lie outside the batch's checksum.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "broker/quorum/metadata_log.h"
#include "storage/base/bytes.h"
#include "storage/record/record_batch.h"

namespace trilog {

struct VoterSet {
  ClusterId cluster;
  std::vector<Voter> voters;
  QuorumRecovery recovery = {};
  bool operator==(const VoterSet&) const = default;
};

Bytes encode_voter_set(const VoterSet& set);
Result<VoterSet> decode_voter_set(ByteView bytes);  // kCorruption, kUnsupported

enum class RaftEntryKind : uint8_t { kVoters = 'v', kNoOp = 'n', kData = 'd' };

std::string to_string(const VoterSet& set);  // "1, 2, 3"

// `timestamp_ms` is for people who read the log. Fails only if the batch would be too large.
Result<Bytes> make_voters_batch(const VoterSet& set, int64_t timestamp_ms);
Result<Bytes> make_no_op_batch(BrokerId leader, int64_t timestamp_ms);
Result<Bytes> make_data_batch(const std::vector<Bytes>& records, int64_t timestamp_ms);

struct RaftEntryContent {
  RaftEntryKind kind = RaftEntryKind::kNoOp;
  std::vector<ByteView> records;  // values, views into the batch
};
// kCorruption if it is no entry: unknown or mixed kinds, compressed, gaps in the offsets.
Result<RaftEntryContent> read_entry(const RecordBatch& batch);
// The set of voters that a batch carries, if it is an entry that does. Looks at no more than the first record.
std::optional<VoterSet> voters_in_batch(ByteView batch);

}  // namespace trilog
