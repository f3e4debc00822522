// Arbitrary bytes as what a peer sends: the first byte of the input says whether they are a hello or frames, and how
// the stream is cut. Whatever parses must come out again from its own encoding.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "broker/runtime/peer_wire.h"
#include "storage/base/check.h"
#include "storage/base/codec.h"
#include "storage/base/crc32c.h"

namespace trilog {
namespace {

void examine_hello(ByteView input) {
  if (input.size() < kPeerSizeBytes) return;
  (void)peer_hello_size(input);
  CHECK(!describe_stranger(input).empty());
  // Sound magic and checksum, so that the fields are reached.
  Bytes framed = encode_peer_hello(PeerHello());
  framed.resize_uninitialized(kPeerSizeBytes + kPeerHelloBytesMin);
  framed.append(input);
  store_big_endian<uint32_t>(framed.data() + 12, crc32c(input));
  for (ByteView bytes : {input, framed.view().subspan(kPeerSizeBytes)}) {
    Result<PeerHello> hello = decode_peer_hello(bytes);
    if (!hello.ok()) continue;
    Bytes again = encode_peer_hello(*hello);
    CHECK_EQ(peer_hello_size(again).value(), again.size() - kPeerSizeBytes);
    PeerHello back = decode_peer_hello(again.view().subspan(kPeerSizeBytes)).value();
    CHECK(back.identity == hello->identity && back.cluster == hello->cluster && back.expected == hello->expected);
    CHECK(back.what == hello->what && back.channel == hello->channel && back.incarnation == hello->incarnation);
    CHECK(back.why == hello->why && back.quorum == hello->quorum && back.version == hello->version);
    PeerExpectation here{.self = BrokerId(1), .cluster = ClusterId(1, 2), .quorum = "1,2,3", .is_peer = true};
    std::optional<std::string> why = refuse_peer(*hello, here);
    CHECK(!why || !why->empty());
  }
}

// Every frame whose checksum is made right first, if the input says so: then lengths are what is left to be wrong.
Bytes with_sound_checksum(ByteView input) {
  Bytes bytes = Bytes::copy_of(input);
  if (bytes.size() < kPeerPrefixBytes) return bytes;
  size_t body = std::min<size_t>(load_big_endian<uint32_t>(bytes.data() + 24), bytes.size() - kPeerPrefixBytes);
  uint32_t checksum = crc32c(bytes.view().first(kPeerSizeBytes));
  checksum = crc32c(bytes.view().subspan(8, 20), checksum);
  checksum = crc32c(bytes.view().subspan(kPeerPrefixBytes, body), checksum);
  store_big_endian<uint32_t>(bytes.data() + 4, checksum);
  return bytes;
}

void examine_frames(ByteView stream, size_t piece) {
  PeerFrameReader reader;
  size_t taken = 0;
  size_t frame_bytes = 0;
  while (taken < stream.size()) {
    size_t read = 0;
    for (MutableByteView space : reader.space()) {
      size_t size = std::min({space.size(), stream.size() - taken, piece - read});
      if (size > 0) std::memcpy(space.data(), stream.data() + taken, size);
      taken += size;
      read += size;
    }
    CHECK_GT(read, 0u);
    reader.filled(read);
    for (;;) {
      Result<std::optional<PeerFrame>> next = reader.next();
      if (!next.ok()) return;
      if (!next->has_value()) break;
      // What came out is what went in.
      const PeerFrame& frame = **next;
      CHECK(peer_frame_fits(frame));
      auto prefix = encode_peer_prefix(frame);
      CHECK(bytes_equal(prefix, stream.subspan(frame_bytes, prefix.size())));
      CHECK(bytes_equal(frame.body, stream.subspan(frame_bytes + prefix.size(), frame.body.size())));
      frame_bytes += peer_frame_bytes(frame);
      CHECK_LE(frame_bytes, taken);
    }
  }
}

}  // namespace
}  // namespace trilog

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  trilog::ByteView input = std::as_bytes(std::span(data, size));
  if (input.empty()) return 0;
  uint8_t how = data[0];
  input = input.subspan(1);
  if ((how & 1) != 0) {
    trilog::examine_hello(input);
  } else {
    size_t piece = size_t{1} << (how >> 4);
    trilog::Bytes sound = (how & 2) != 0 ? trilog::with_sound_checksum(input) : trilog::Bytes::copy_of(input);
    trilog::examine_frames(sound, piece);
  }
  return 0;
}
