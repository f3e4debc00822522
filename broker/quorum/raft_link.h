// RaftLink: carries what a node of the quorum says over a PeerTransport. Encodes and decodes, refuses what is not meant
// for this node or this cluster, and sends snapshots as a row of chunks on the bulk channel, a few at a time, so that
// neither a queue nor a heartbeat suffers from them.
//
// Keeps no message: what cannot be sent now is dropped, and Raft asks again.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>

#include "broker/quorum/raft_codec.h"
#include "storage/env/env.h"

namespace trilog {

inline constexpr size_t kChunkBytes = 256u << 10;
inline constexpr size_t kChunksInFlightMax = 4;

class RaftLink {
 public:
  // Run inside on_frame().
  struct Handler {
    std::function<void(const RaftMessage&)> on_message;
    std::function<void(const Voter& from, const RaftPresence&)> on_presence;
    std::function<void(BrokerId to)> on_snapshot_moves;  // it took another piece
  };
  // `transport` may be null: then nothing is sent.
  RaftLink(Env& env, PeerTransport* transport, ClusterId cluster, Voter self, Handler handler);

  void set_self(const Voter& self) { self_ = self; }
  void set_cluster(const ClusterId& cluster) { cluster_ = cluster; }
  // Presence of any cluster is heard, and other messages of another one are dropped in silence: this node has none yet.
  void listen_to_any_cluster(bool any) { any_cluster_ = any; }
  void send(RaftMessage message);
  void send_presence(BrokerId to, const RaftPresence& presence);
  void on_frame(BrokerId from, const PeerFrame& frame);
  void on_disconnected(BrokerId peer, PeerChannel channel);  // snapshots on their way are given up

 private:
  struct Outgoing {
    Term term;
    QuorumRecovery recovery;
    RaftSnapshot snapshot;
    uint32_t checksum = 0;
    uint64_t sent = 0;
    uint64_t received = 0;  // by the other side
  };
  struct Incoming {
    Voter from;
    Term term;
    QuorumRecovery recovery;
    RaftChunk head;  // without bytes
    Bytes bytes;
  };

  RaftEnvelope envelope_to(BrokerId to) const;
  void begin_snapshot(const RaftMessage& message, RaftSnapshot snapshot);
  void send_chunks(BrokerId to);
  void on_chunk(const RaftMessage& header, const RaftChunk& chunk);
  void on_chunk_reply(BrokerId from, const RaftChunkReply& reply);

  Env& env_;
  PeerTransport* const transport_;
  ClusterId cluster_;
  bool any_cluster_ = false;
  Voter self_;
  Handler handler_;
  std::map<BrokerId, Outgoing> outgoing_;
  std::optional<Incoming> incoming_;  // one at a time; a later one takes its place
};

}  // namespace trilog
