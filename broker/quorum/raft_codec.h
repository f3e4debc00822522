// The bodies of peer frames of kind kRaft: what the nodes of the quorum say to each other, in bytes.
//
//   u8 version 2 | u8 type | cluster id 16 | i32 from | i32 to | directory id 16 | i32 term |
//   u32 number and i32 survivor of the QuorumRecovery | fields of the type
//
//   1 vote            u8 flags (1 pre, 2 transfer) | i64 log end | i32 last term | directory id asked
//   2 vote reply      u8 flags (1 pre, 2 granted)
//   3 append          i64 prev end | i32 prev term | i64 commit | u64 round | varint n | n x (varint count, i32 term,
//                     varint bytes); the entries' batches follow each other in the frame's bulk
//   4 append reply    u8 matched | i64 end | i32 end term | i64 refused end | u64 round
//   5 transfer
//   6 presence        u8 flags (1 running, 2 leading) | set of voters (raft_entry.h), sized
//   7 snapshot chunk  i64 end | i32 last term | u64 size | u32 CRC-32C of the whole state | u64 offset; bytes: bulk
//   8 chunk reply     i64 end | u64 received
//
// Decoding checks every length and count before it is used; bytes of any origin give a message or kCorruption.
#pragma once

#include <cstdint>
#include <variant>

#include "broker/api/peer_transport.h"
#include "broker/quorum/raft_entry.h"
#include "broker/quorum/raft_message.h"

namespace trilog {

// Sent whenever a connection is made, and when what it says changes. `running`: the sender knows that all voters of the
// first set have it on their disks (Q8), or is a learner.
struct RaftPresence {
  bool running = false;
  bool leading = false;
  VoterSet voters;  // may be empty: a learner that knows none yet
};
// A piece of a snapshot's state.
struct RaftChunk {
  Offset end;
  Term last_term;
  uint64_t size = 0;  // of the state
  uint32_t checksum = 0;
  uint64_t offset = 0;
  SharedBytes bytes;
};
struct RaftChunkReply {
  Offset end;
  uint64_t received = 0;
};

// What a frame holds: a RaftMessage, or something that is for the driver of Raft and not for Raft.
struct RaftEnvelope {
  ClusterId cluster;
  RaftMessage message;  // its body counts only if `extra` holds nothing
  std::variant<std::monostate, RaftPresence, RaftChunk, RaftChunkReply> extra;
};

inline constexpr size_t kRaftEntriesMax = 65'536;  // in one message

// RaftInstall has no bytes: snapshots travel as chunks (CHECKed).
PeerFrame encode_raft(const RaftEnvelope& envelope);
// kCorruption, kUnsupported (a newer version). Entries are whole batches with their checksums verified.
Result<RaftEnvelope> decode_raft(const PeerFrame& frame);

}  // namespace trilog
