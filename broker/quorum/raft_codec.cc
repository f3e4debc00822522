#include "broker/quorum/raft_codec.h"

#include <string>
#include <utility>

#include "storage/base/codec.h"

namespace trilog {

namespace {

constexpr uint8_t kVersion = 2;
enum class Type : uint8_t {
  kVote = 1,
  kVoteReply,
  kAppend,
  kAppendReply,
  kTransfer,
  kPresence,
  kChunk,
  kChunkReply,
};

template <typename Id>
void write_uuid(ByteWriter& out, const Id& id) {
  out.write<uint64_t>(id.high());
  out.write<uint64_t>(id.low());
}
template <typename Id>
Id read_uuid(ByteReader& in) {
  auto high = in.read<uint64_t>();
  return Id(high, in.read<uint64_t>());
}
uint8_t flags(bool first, bool second) { return static_cast<uint8_t>((first ? 1 : 0) | (second ? 2 : 0)); }

// --- writing -------------------------------------------------------------------------------------------------------

class Encoder {
 public:
  explicit Encoder(PeerFrame& frame) : frame_(frame), out_(frame.body) {}
  void header(const RaftEnvelope& envelope, Type type) {
    out_.write<uint8_t>(kVersion);
    out_.write<uint8_t>(static_cast<uint8_t>(type));
    write_uuid(out_, envelope.cluster);
    out_.write<int32_t>(envelope.message.from.value());
    out_.write<int32_t>(envelope.message.to.value());
    write_uuid(out_, envelope.message.directory);
    out_.write<int32_t>(envelope.message.term.value());
    out_.write<uint32_t>(envelope.message.recovery.number);
    out_.write<int32_t>(envelope.message.recovery.survivor.value());
  }

  static Type type_of(const RaftVote&) { return Type::kVote; }
  static Type type_of(const RaftVoteReply&) { return Type::kVoteReply; }
  static Type type_of(const RaftAppend&) { return Type::kAppend; }
  static Type type_of(const RaftAppendReply&) { return Type::kAppendReply; }
  static Type type_of(const RaftTransfer&) { return Type::kTransfer; }
  static Type type_of(const RaftPresence&) { return Type::kPresence; }
  static Type type_of(const RaftChunk&) { return Type::kChunk; }
  static Type type_of(const RaftChunkReply&) { return Type::kChunkReply; }
  static Type type_of(const RaftInstall&) { UNREACHABLE("a snapshot travels in chunks"); }
  static Type type_of(const std::monostate&) { UNREACHABLE("nothing to send"); }

  void write(const RaftVote& vote) {
    out_.write<uint8_t>(flags(vote.pre, vote.transfer));
    out_.write<int64_t>(vote.log_end.value());
    out_.write<int32_t>(vote.last_term.value());
    write_uuid(out_, vote.asked);
  }
  void write(const RaftVoteReply& reply) { out_.write<uint8_t>(flags(reply.pre, reply.granted)); }
  void write(const RaftAppend& append) {
    out_.write<int64_t>(append.prev_end.value());
    out_.write<int32_t>(append.prev_term.value());
    out_.write<int64_t>(append.commit.value());
    out_.write<uint64_t>(append.round);
    out_.write_varint(append.entries.size());
    size_t bytes = 0;
    for (const RaftEntry& entry : append.entries) {
      out_.write_varint(static_cast<uint64_t>(entry.count));
      out_.write<int32_t>(entry.term.value());
      out_.write_varint(entry.batch.size());
      bytes += entry.batch.size();
    }
    if (append.entries.size() == 1) frame_.bulk = append.entries.front().batch;
    if (append.entries.size() <= 1) return;
    Bytes joined;
    joined.reserve(bytes);
    for (const RaftEntry& entry : append.entries) joined.append(entry.batch);
    frame_.bulk = SharedBytes(std::move(joined));
  }
  void write(const RaftAppendReply& reply) {
    out_.write<uint8_t>(flags(reply.matched, false));
    out_.write<int64_t>(reply.end.value());
    out_.write<int32_t>(reply.end_term.value());
    out_.write<int64_t>(reply.refused_end.value());
    out_.write<uint64_t>(reply.round);
  }
  void write(const RaftPresence& presence) {
    out_.write<uint8_t>(flags(presence.running, presence.leading));
    out_.write_sized_bytes(presence.voters.voters.empty() ? Bytes() : encode_voter_set(presence.voters));
  }
  void write(const RaftChunk& chunk) {
    out_.write<int64_t>(chunk.end.value());
    out_.write<int32_t>(chunk.last_term.value());
    out_.write<uint64_t>(chunk.size);
    out_.write<uint32_t>(chunk.checksum);
    out_.write<uint64_t>(chunk.offset);
    frame_.bulk = chunk.bytes;
  }
  void write(const RaftChunkReply& reply) {
    out_.write<int64_t>(reply.end.value());
    out_.write<uint64_t>(reply.received);
  }
  void write(const RaftTransfer&) {}
  void write(const RaftInstall&) {}
  void write(const std::monostate&) {}

 private:
  PeerFrame& frame_;
  ByteWriter out_;
};

// --- reading -------------------------------------------------------------------------------------------------------

RaftVote read_vote(ByteReader& in) {
  RaftVote vote;
  auto bits = in.read<uint8_t>();
  vote.pre = (bits & 1) != 0;
  vote.transfer = (bits & 2) != 0;
  vote.log_end = Offset(in.read<int64_t>());
  vote.last_term = Term(in.read<int32_t>());
  vote.asked = read_uuid<DirectoryId>(in);
  if (vote.log_end < Offset(0) || vote.last_term < Term(0)) in.fail();
  return vote;
}

// One whole batch of `count` records: nothing else may reach the log.
bool is_sound(const RaftEntry& entry) {
  auto batch = RecordBatch::parse(entry.batch);
  return batch.ok() && batch->size() == entry.batch.size() && batch->crc_matches() &&
         int64_t{batch->last_offset_delta()} + 1 == entry.count;
}

RaftAppend read_append(ByteReader& in, const SharedBytes& bulk) {
  RaftAppend append;
  append.prev_end = Offset(in.read<int64_t>());
  append.prev_term = Term(in.read<int32_t>());
  append.commit = Offset(in.read<int64_t>());
  append.round = in.read<uint64_t>();
  uint64_t count = in.read_varint();
  constexpr size_t kEntryBytesLeast = 6;
  if (!in.ok() || count > kRaftEntriesMax || count > in.remaining() / kEntryBytesLeast || append.prev_end < Offset(0)) {
    in.fail();
    return append;
  }
  append.entries.reserve(static_cast<size_t>(count));
  Offset first = append.prev_end;
  size_t at = 0;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t records = in.read_varint();
    Term term(in.read<int32_t>());
    uint64_t bytes = in.read_varint();
    bool fits = in.ok() && records >= 1 && records <= INT32_MAX && bytes <= bulk.size() - at &&
                first.value() <= INT64_MAX - INT32_MAX;
    if (!fits) {
      in.fail();
      return append;
    }
    RaftEntry entry{first, static_cast<int32_t>(records), term, bulk.slice(at, static_cast<size_t>(bytes))};
    if (!is_sound(entry)) in.fail();
    first = entry.end();
    at += static_cast<size_t>(bytes);
    append.entries.push_back(std::move(entry));
  }
  if (at != bulk.size()) in.fail();
  return append;
}

RaftAppendReply read_append_reply(ByteReader& in) {
  RaftAppendReply reply;
  reply.matched = (in.read<uint8_t>() & 1) != 0;
  reply.end = Offset(in.read<int64_t>());
  reply.end_term = Term(in.read<int32_t>());
  reply.refused_end = Offset(in.read<int64_t>());
  reply.round = in.read<uint64_t>();
  if (reply.end < Offset(0)) in.fail();
  return reply;
}

RaftPresence read_presence(ByteReader& in) {
  RaftPresence presence;
  auto bits = in.read<uint8_t>();
  presence.running = (bits & 1) != 0;
  presence.leading = (bits & 2) != 0;
  ByteView set = in.read_sized_bytes();
  if (set.empty()) return presence;
  auto voters = decode_voter_set(set);
  if (!voters.ok()) {
    in.fail();
    return presence;
  }
  presence.voters = std::move(*voters);
  return presence;
}

RaftChunk read_chunk(ByteReader& in, const SharedBytes& bulk) {
  RaftChunk chunk;
  chunk.end = Offset(in.read<int64_t>());
  chunk.last_term = Term(in.read<int32_t>());
  chunk.size = in.read<uint64_t>();
  chunk.checksum = in.read<uint32_t>();
  chunk.offset = in.read<uint64_t>();
  chunk.bytes = bulk;
  bool inside = chunk.offset <= chunk.size && bulk.size() <= chunk.size - chunk.offset;
  if (chunk.end <= Offset(0) || chunk.last_term < Term(0) || !inside) in.fail();
  return chunk;
}

RaftChunkReply read_chunk_reply(ByteReader& in) {
  RaftChunkReply reply;
  reply.end = Offset(in.read<int64_t>());
  reply.received = in.read<uint64_t>();
  return reply;
}

bool read_body(Type type, ByteReader& in, const PeerFrame& frame, RaftEnvelope& envelope) {
  switch (type) {
    case Type::kVote: envelope.message.body = read_vote(in); return true;
    case Type::kVoteReply: {
      auto bits = in.read<uint8_t>();
      envelope.message.body = RaftVoteReply{(bits & 1) != 0, (bits & 2) != 0};
      return true;
    }
    case Type::kAppend: envelope.message.body = read_append(in, frame.bulk); return true;
    case Type::kAppendReply: envelope.message.body = read_append_reply(in); return true;
    case Type::kTransfer: envelope.message.body = RaftTransfer{}; return true;
    case Type::kPresence: envelope.extra = read_presence(in); return true;
    case Type::kChunk: envelope.extra = read_chunk(in, frame.bulk); return true;
    case Type::kChunkReply: envelope.extra = read_chunk_reply(in); return true;
  }
  return false;
}

}  // namespace

PeerFrame encode_raft(const RaftEnvelope& envelope) {
  PeerFrame frame;
  frame.kind = PeerKind::kRaft;
  Encoder encoder(frame);
  auto write = [&](const auto& body) {
    encoder.header(envelope, Encoder::type_of(body));
    encoder.write(body);
  };
  if (std::holds_alternative<std::monostate>(envelope.extra)) {
    std::visit(write, envelope.message.body);
  } else {
    std::visit(write, envelope.extra);
  }
  return frame;
}

Result<RaftEnvelope> decode_raft(const PeerFrame& frame) {
  ByteReader in(frame.body);
  auto version = in.read<uint8_t>();
  if (in.ok() && version != kVersion) {
    return Status(Errc::kUnsupported, "a quorum message of version " + std::to_string(version));
  }
  auto type = in.read<uint8_t>();
  RaftEnvelope envelope;
  envelope.cluster = read_uuid<ClusterId>(in);
  envelope.message.from = BrokerId(in.read<int32_t>());
  envelope.message.to = BrokerId(in.read<int32_t>());
  envelope.message.directory = read_uuid<DirectoryId>(in);
  envelope.message.term = Term(in.read<int32_t>());
  envelope.message.recovery.number = in.read<uint32_t>();
  envelope.message.recovery.survivor = BrokerId(in.read<int32_t>());
  bool known = in.ok() && read_body(static_cast<Type>(type), in, frame, envelope);
  if (!known || !in.ok() || !in.at_end() || envelope.message.term < Term(0)) {
    return Status(Errc::kCorruption, "a quorum message that does not add up");
  }
  return envelope;
}

}  // namespace trilog
