#include "broker/quorum/raft_link.h"

#include <algorithm>
#include <utility>

#include "storage/base/crc32c.h"
#include "storage/log/log_directory.h"  // kCheckpointBytesMax

namespace trilog {

RaftLink::RaftLink(Env& env, PeerTransport* transport, ClusterId cluster, Voter self, Handler handler)
    : env_(env), transport_(transport), cluster_(cluster), self_(self), handler_(std::move(handler)) {}

RaftEnvelope RaftLink::envelope_to(BrokerId to) const {
  RaftEnvelope envelope;
  envelope.cluster = cluster_;
  envelope.message.from = self_.id;
  envelope.message.to = to;
  envelope.message.directory = self_.directory;
  return envelope;
}

void RaftLink::send(RaftMessage message) {
  if (transport_ == nullptr) return;
  if (auto* install = std::get_if<RaftInstall>(&message.body)) {
    return begin_snapshot(message, std::move(install->snapshot));
  }
  BrokerId to = message.to;
  RaftEnvelope envelope;
  envelope.cluster = cluster_;
  envelope.message = std::move(message);
  transport_->send(to, PeerChannel::kControl, encode_raft(envelope));
}

void RaftLink::send_presence(BrokerId to, const RaftPresence& presence) {
  if (transport_ == nullptr) return;
  RaftEnvelope envelope = envelope_to(to);
  envelope.extra = presence;
  transport_->send(to, PeerChannel::kControl, encode_raft(envelope));
}

void RaftLink::on_frame(BrokerId from, const PeerFrame& frame) {
  auto decoded = decode_raft(frame);
  if (!decoded.ok()) {
    env_.log().warning("from node ", from, ": ", decoded.status().to_string());
    return;
  }
  const RaftMessage& message = decoded->message;
  // The connection has proven who sends; what the message says must agree.
  const bool foreign = decoded->cluster != cluster_;
  if (foreign && any_cluster_ && !std::holds_alternative<RaftPresence>(decoded->extra)) return;
  if (message.from != from || message.to != self_.id || (foreign && !any_cluster_)) {
    env_.log().warning("from node ", from, ": a quorum message of node ", message.from, " to node ", message.to,
                       " of cluster ", decoded->cluster.to_string(), "; dropped");
    return;
  }
  if (const auto* presence = std::get_if<RaftPresence>(&decoded->extra)) {
    handler_.on_presence({from, message.directory}, *presence);
  } else if (const auto* chunk = std::get_if<RaftChunk>(&decoded->extra)) {
    on_chunk(message, *chunk);
  } else if (const auto* reply = std::get_if<RaftChunkReply>(&decoded->extra)) {
    on_chunk_reply(from, *reply);
  } else {
    handler_.on_message(message);
  }
}

void RaftLink::on_disconnected(BrokerId peer, PeerChannel channel) {
  if (channel != PeerChannel::kBulk) return;
  outgoing_.erase(peer);
  if (incoming_ && incoming_->from.id == peer) incoming_.reset();
}

// --- snapshots -----------------------------------------------------------------------------------------------------

void RaftLink::begin_snapshot(const RaftMessage& message, RaftSnapshot snapshot) {
  const BrokerId to = message.to;
  if (!transport_->connected(to, PeerChannel::kBulk)) return;
  Outgoing fresh{message.term, message.recovery, std::move(snapshot), 0, 0, 0};
  fresh.checksum = crc32c(fresh.snapshot.state);
  outgoing_.insert_or_assign(to, std::move(fresh));
  send_chunks(to);
}

void RaftLink::send_chunks(BrokerId to) {
  Outgoing& out = outgoing_.at(to);
  uint64_t size = out.snapshot.state.size();
  while (out.sent == 0 || (out.sent < size && out.sent - out.received < kChunksInFlightMax * kChunkBytes)) {
    auto length = static_cast<size_t>(std::min<uint64_t>(kChunkBytes, size - out.sent));
    RaftEnvelope envelope = envelope_to(to);
    envelope.message.term = out.term;
    envelope.message.recovery = out.recovery;
    envelope.extra = RaftChunk{out.snapshot.end,
                               out.snapshot.last_term,
                               size,
                               out.checksum,
                               out.sent,
                               out.snapshot.state.slice(static_cast<size_t>(out.sent), length)};
    if (!transport_->send(to, PeerChannel::kBulk, encode_raft(envelope))) {
      outgoing_.erase(to);  // Raft will begin again
      return;
    }
    out.sent += length;
    if (size == 0) return;
  }
}

void RaftLink::on_chunk(const RaftMessage& header, const RaftChunk& chunk) {
  Voter from{header.from, header.directory};
  if (chunk.size > kCheckpointBytesMax) return;
  if (chunk.offset == 0) {
    RaftChunk head = chunk;
    head.bytes = {};
    incoming_ = Incoming{from, header.term, header.recovery, std::move(head), {}};
  }
  bool continues = incoming_ && incoming_->from == from && incoming_->term == header.term &&
                   incoming_->head.end == chunk.end && incoming_->head.size == chunk.size &&
                   incoming_->bytes.size() == chunk.offset;
  if (!continues) return;
  incoming_->bytes.append(chunk.bytes);
  uint64_t received = incoming_->bytes.size();
  RaftEnvelope answer = envelope_to(from.id);
  answer.extra = RaftChunkReply{chunk.end, received};
  transport_->send(from.id, PeerChannel::kBulk, encode_raft(answer));
  if (received < chunk.size) return;
  Incoming whole = std::move(*incoming_);
  incoming_.reset();
  if (crc32c(whole.bytes) != whole.head.checksum) {
    env_.log().warning("a snapshot from node ", from.id, " arrived damaged; dropped");
    return;
  }
  RaftSnapshot snapshot{whole.head.end, whole.head.last_term, SharedBytes(std::move(whole.bytes))};
  handler_.on_message(
      {from.id, self_.id, from.directory, whole.term, RaftInstall{std::move(snapshot)}, whole.recovery});
}

void RaftLink::on_chunk_reply(BrokerId from, const RaftChunkReply& reply) {
  auto found = outgoing_.find(from);
  if (found == outgoing_.end() || found->second.snapshot.end != reply.end || reply.received > found->second.sent)
    return;
  found->second.received = std::max(found->second.received, reply.received);
  handler_.on_snapshot_moves(from);
  if (found->second.received >= found->second.snapshot.state.size()) {
    outgoing_.erase(found);
  } else {
    send_chunks(from);
  }
}

}  // namespace trilog
