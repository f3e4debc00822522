// What two brokers say on a TCP connection, as bytes: a hello each way, then frames. Encoding and decoding only; no
// socket is seen here. Sizes in front as in the Kafka protocol; all numbers big-endian; checksums are CRC-32C.
//
//   hello:  int32 size | "TRILOGPR" | uint32 checksum of the rest | uint16 version | uint8 what | uint8 channel |
//           uint8 empty | cluster id (16) | int32 node | directory id (16) | int32 expected node | uint64 incarnation |
//           text quorum | text why      (later versions may append; what they append is skipped)
//   frame:  int32 size | uint32 checksum of the size, the next 20 bytes and the body | uint16 kind | uint8 answer |
//   uint8 0 |
//           uint32 route | uint64 call | uint32 body size | body | bulk (the rest; it has checksums of its own inside)
#pragma once

#include <array>
#include <optional>
#include <string>

#include "broker/api/peer_transport.h"
#include "storage/base/status.h"

namespace trilog {

inline constexpr uint16_t kPeerProtocolVersion = 1;
inline constexpr size_t kPeerSizeBytes = 4;          // the size in front
inline constexpr size_t kPeerHelloBytesMax = 1024;   // after the size
inline constexpr size_t kPeerHelloBytesMin = 12;     // magic and checksum, enough to know a stranger
inline constexpr size_t kPeerFrameHeaderBytes = 24;  // after the size, before the body
inline constexpr size_t kPeerPrefixBytes = kPeerSizeBytes + kPeerFrameHeaderBytes;

// Kinds that the transport keeps to itself.
inline constexpr PeerKind kPeerIdle{0};          // says nothing but "I am here"
inline constexpr PeerKind kPeerGoodbye{0xffff};  // the sender closes and lives on; body: why

struct PeerHello {
  enum class What : uint8_t {
    kHello,
    kKnock,    // from the side that is called: please call me now
    kRefused,  // an answer; `why` says the reason
  };
  uint16_t version = kPeerProtocolVersion;
  What what = What::kHello;
  PeerChannel channel = PeerChannel::kControl;
  ClusterId cluster;
  PeerIdentity identity;          // of the sender
  BrokerId expected = kNoBroker;  // whom the sender believes to talk to
  uint64_t incarnation = 0;       // of the sender's process: another number is another process
  std::string quorum;             // ids of the nodes in the sender's list, "1,2,3"; at most kQuorumBytesMax
  std::string why;                // at most kWhyBytesMax
  static constexpr size_t kQuorumBytesMax = 128;
  static constexpr size_t kWhyBytesMax = 512;
};

// With the size in front.
Bytes encode_peer_hello(const PeerHello& hello);
// From the four bytes in front: how many follow. kCorruption if no hello can be that long.
Result<size_t> peer_hello_size(ByteView front);
// From what follows the size. kCorruption if it is none; the version is not judged.
Result<PeerHello> decode_peer_hello(ByteView bytes);
// What a stranger seems to speak, by its first bytes (at least 4): "HTTP/2, as gRPC clients do".
std::string describe_stranger(ByteView first);

// What this node knows when it reads a hello.
struct PeerExpectation {
  BrokerId self = kNoBroker;
  ClusterId cluster;
  bool empty = false;
  BrokerId dialled = kNoBroker;     // who should be there if we called; kNoBroker: whoever called us
  std::string quorum;               // ids of the nodes in our list
  bool is_peer = false;             // the sender is in our list
  std::optional<DirectoryId> live;  // directory of the sender's other connections that live now
};
// Why a connection with the sender must not be, in words for both logs, or nothing. An empty folder belongs to no
// cluster yet (Q8), so its cluster id does not count.
std::optional<std::string> refuse_peer(const PeerHello& hello, const PeerExpectation& expectation);

// The prefix of a frame; the caller sends body and bulk behind it. The frame must be within the limits.
std::array<std::byte, kPeerPrefixBytes> encode_peer_prefix(const PeerFrame& frame);
inline bool peer_frame_fits(const PeerFrame& frame) {
  return frame.body.size() <= kPeerBodyBytesMax && frame.bulk.size() <= kPeerBulkBytesMax;
}
inline size_t peer_frame_bytes(const PeerFrame& frame) {
  return kPeerPrefixBytes + frame.body.size() + frame.bulk.size();
}

// Cuts a stream of bytes into frames. Large bodies and bulks are received where they stay: space() says where the next
// bytes belong.
//
//   for (;;) { n = readv(fd, reader.space()); reader.filled(n); while (frame = TRY(reader.next())) …; }
class PeerFrameReader {
 public:
  PeerFrameReader();
  // Where to read to, in this order; not empty in sum. Unused ones are empty.
  using Space = std::array<MutableByteView, 3>;
  Space space();
  // So many bytes were read into the last space().
  void filled(size_t size);
  // The next whole frame; nothing: more bytes are wanted. kCorruption, with the reason, for good.
  Result<std::optional<PeerFrame>> next();

  static constexpr size_t kStagingBytes = size_t{32} << 10;
  // For a longer bulk the memory comes as the bytes do: a header alone must not cost more.
  static constexpr size_t kAheadBytesMax = size_t{8} << 20;

 private:
  Status begin_frame();
  void take_staged(Bytes& to, size_t& filled);

  Bytes staging_;  // [begin_, end_) was read and not used yet
  size_t begin_ = 0;
  size_t end_ = 0;
  bool in_frame_ = false;
  PeerFrame frame_;
  uint32_t checksum_ = 0;         // as received
  uint32_t header_checksum_ = 0;  // of size and header
  Bytes body_;
  Bytes bulk_;
  size_t body_filled_ = 0;
  size_t bulk_filled_ = 0;
  size_t bulk_size_ = 0;  // bulk_ may still be smaller
};

}  // namespace trilog
