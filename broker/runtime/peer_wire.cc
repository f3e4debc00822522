#include "broker/runtime/peer_wire.h"

#include <algorithm>
#include <utility>

#include "storage/base/codec.h"
#include "storage/base/crc32c.h"

namespace trilog {
namespace {

constexpr std::string_view kMagic = "TRILOGPR";
constexpr size_t kChecksumBytes = 4;

// The first letters of what other protocols begin with.
struct Stranger {
  std::string_view first;
  std::string_view speaks;
};
constexpr std::array kStrangers = {
    Stranger{"PRI ", "HTTP/2, as gRPC clients do"},
    Stranger{"GET ", "HTTP"},
    Stranger{"POST", "HTTP"},
    Stranger{"HEAD", "HTTP"},
    Stranger{"PUT ", "HTTP"},
    Stranger{"OPTI", "HTTP"},
    Stranger{"DELE", "HTTP"},
    Stranger{"SSH-", "SSH"},
    Stranger{"\x16\x03", "TLS"},
};

template <typename Id>
void write_id(ByteWriter& writer, const Id& id) {
  writer.write<uint64_t>(id.high());
  writer.write<uint64_t>(id.low());
}

template <typename Id>
Id read_id(ByteReader& reader) {
  auto high = reader.read<uint64_t>();
  return Id(high, reader.read<uint64_t>());
}

Status damaged(std::string what) { return {Errc::kCorruption, std::move(what)}; }

// Of all but the checksum itself.
uint32_t prefix_checksum(ByteView prefix) {
  uint32_t size = crc32c(prefix.first(kPeerSizeBytes));
  return crc32c(prefix.subspan(kPeerSizeBytes + kChecksumBytes), size);
}

std::string node_text(BrokerId node) { return "node " + std::to_string(node.value()); }

}  // namespace

// --- hello -----------------------------------------------------------------------------------------------------------

Bytes encode_peer_hello(const PeerHello& hello) {
  Bytes out;
  ByteWriter writer(out);
  writer.write<int32_t>(0);
  writer.write_bytes(as_bytes(kMagic));
  writer.write<uint32_t>(0);
  size_t checked_from = writer.position();
  writer.write<uint16_t>(hello.version);
  writer.write<uint8_t>(static_cast<uint8_t>(hello.what));
  writer.write<uint8_t>(static_cast<uint8_t>(hello.channel));
  writer.write<uint8_t>(hello.identity.empty ? 1 : 0);
  write_id(writer, hello.cluster);
  writer.write<int32_t>(hello.identity.broker.value());
  write_id(writer, hello.identity.directory);
  writer.write<int32_t>(hello.expected.value());
  writer.write<uint64_t>(hello.incarnation);
  writer.write_text(std::string_view(hello.quorum).substr(0, PeerHello::kQuorumBytesMax));
  writer.write_text(std::string_view(hello.why).substr(0, PeerHello::kWhyBytesMax));
  store_big_endian<int32_t>(out.data(), static_cast<int32_t>(out.size() - kPeerSizeBytes));
  store_big_endian<uint32_t>(out.data() + checked_from - kChecksumBytes, crc32c(out.view().subspan(checked_from)));
  return out;
}

Result<size_t> peer_hello_size(ByteView front) {
  auto size = load_big_endian<int32_t>(front.data());
  if (size < static_cast<int32_t>(kPeerHelloBytesMin) || size > static_cast<int32_t>(kPeerHelloBytesMax)) {
    return damaged("speaks " + describe_stranger(front));
  }
  return static_cast<size_t>(size);
}

Result<PeerHello> decode_peer_hello(ByteView bytes) {
  ByteReader reader(bytes);
  ByteView magic = reader.read_bytes(kMagic.size());
  if (as_text(magic) != kMagic) return damaged("speaks something else than the protocol between brokers");
  auto checksum = reader.read<uint32_t>();
  if (!reader.ok() || checksum != crc32c(bytes.subspan(kMagic.size() + kChecksumBytes))) {
    return damaged("sent a damaged hello");
  }
  PeerHello hello;
  hello.version = reader.read<uint16_t>();
  auto what = reader.read<uint8_t>();
  auto channel = reader.read<uint8_t>();
  auto empty = reader.read<uint8_t>();
  hello.cluster = read_id<ClusterId>(reader);
  hello.identity.broker = BrokerId(reader.read<int32_t>());
  hello.identity.directory = read_id<DirectoryId>(reader);
  hello.expected = BrokerId(reader.read<int32_t>());
  hello.incarnation = reader.read<uint64_t>();
  std::string_view quorum = reader.read_text();
  std::string_view why = reader.read_text();
  if (!reader.ok() || what > static_cast<uint8_t>(PeerHello::What::kRefused) || channel >= kPeerChannels || empty > 1 ||
      quorum.size() > PeerHello::kQuorumBytesMax || why.size() > PeerHello::kWhyBytesMax) {
    return damaged("sent a hello that does not parse");
  }
  hello.what = static_cast<PeerHello::What>(what);
  hello.channel = static_cast<PeerChannel>(channel);
  hello.identity.empty = empty == 1;
  hello.quorum = quorum;
  hello.why = why;
  return hello;
}

std::string describe_stranger(ByteView first) {
  for (const Stranger& stranger : kStrangers) {
    if (as_text(first).starts_with(stranger.first)) return std::string(stranger.speaks);
  }
  return "something else than the protocol between brokers";
}

std::optional<std::string> refuse_peer(const PeerHello& hello, const PeerExpectation& expectation) {
  BrokerId sender = hello.identity.broker;
  if (hello.version != kPeerProtocolVersion) {
    return node_text(sender) + " speaks version " + std::to_string(hello.version) +
           " of the protocol between brokers, " + node_text(expectation.self) + " version " +
           std::to_string(kPeerProtocolVersion);
  }
  if (sender == expectation.self) {
    return "two nodes have the id " + std::to_string(sender.value()) + ": check node_id and peers of both";
  }
  if (expectation.dialled != kNoBroker && sender != expectation.dialled) {
    return node_text(sender) + " is where peers of " + node_text(expectation.self) + " say that " +
           node_text(expectation.dialled) + " is";
  }
  if (!expectation.is_peer) {
    return node_text(sender) + " is not among the peers of " + node_text(expectation.self);
  }
  if (hello.expected != expectation.self) {
    return node_text(sender) + " looks for " + node_text(hello.expected) + " where " + node_text(expectation.self) +
           " is: check peers of both";
  }
  if (hello.quorum != expectation.quorum) {
    return "peers of " + node_text(sender) + " are " + hello.quorum + ", of " + node_text(expectation.self) + " " +
           expectation.quorum + ": the list must be the same on all nodes";
  }
  if (hello.cluster != expectation.cluster && !hello.identity.empty && !expectation.empty) {
    return node_text(sender) + " belongs to cluster " + hello.cluster.to_string() + ", " + node_text(expectation.self) +
           " to cluster " + expectation.cluster.to_string();
  }
  if (expectation.live && *expectation.live != hello.identity.directory) {
    return "two nodes have the id " + std::to_string(sender.value()) + ": one with data folder " +
           expectation.live->to_string() + " is connected, another with " + hello.identity.directory.to_string() +
           " came";
  }
  return std::nullopt;
}

// --- frames ----------------------------------------------------------------------------------------------------------

std::array<std::byte, kPeerPrefixBytes> encode_peer_prefix(const PeerFrame& frame) {
  DCHECK(peer_frame_fits(frame));
  std::array<std::byte, kPeerPrefixBytes> prefix{};
  std::byte* at = prefix.data();
  store_big_endian<int32_t>(at, static_cast<int32_t>(peer_frame_bytes(frame) - kPeerSizeBytes));
  store_big_endian<uint16_t>(at + 8, static_cast<uint16_t>(frame.kind));
  store_big_endian<uint8_t>(at + 10, frame.answer ? 1 : 0);
  store_big_endian<uint32_t>(at + 12, frame.route);
  store_big_endian<uint64_t>(at + 16, frame.call);
  store_big_endian<uint32_t>(at + 24, static_cast<uint32_t>(frame.body.size()));
  store_big_endian<uint32_t>(at + 4, crc32c(frame.body, prefix_checksum(prefix)));
  return prefix;
}

PeerFrameReader::PeerFrameReader() : staging_(kStagingBytes) {}

PeerFrameReader::Space PeerFrameReader::space() {
  if (in_frame_) {
    // Nothing is staged: what was there went into the frame.
    if (bulk_filled_ == bulk_.size() && bulk_filled_ < bulk_size_) {
      bulk_.resize_uninitialized(std::min(bulk_size_, 2 * bulk_.size()));
    }
    bool all = bulk_.size() == bulk_size_;
    return {body_.mutable_view().subspan(body_filled_), bulk_.mutable_view().subspan(bulk_filled_),
            all ? staging_.mutable_view() : MutableByteView()};
  }
  if (begin_ > 0) {
    std::memmove(staging_.data(), staging_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  return {MutableByteView(), MutableByteView(), staging_.mutable_view().subspan(end_)};
}

void PeerFrameReader::filled(size_t size) {
  if (in_frame_) {
    size_t to_body = std::min(size, body_.size() - body_filled_);
    body_filled_ += to_body;
    size_t to_bulk = std::min(size - to_body, bulk_.size() - bulk_filled_);
    bulk_filled_ += to_bulk;
    size -= to_body + to_bulk;
    begin_ = end_ = 0;
  }
  end_ += size;
  CHECK_LE(end_, staging_.size());
}

Result<std::optional<PeerFrame>> PeerFrameReader::next() {
  if (!in_frame_) {
    if (end_ - begin_ < kPeerPrefixBytes) return std::optional<PeerFrame>();
    TRY(begin_frame());
  }
  take_staged(body_, body_filled_);
  take_staged(bulk_, bulk_filled_);
  if (body_filled_ < body_.size() || bulk_filled_ < bulk_size_) return std::optional<PeerFrame>();
  if (crc32c(body_, header_checksum_) != checksum_) return damaged("a frame's checksum does not match");
  in_frame_ = false;
  frame_.body = std::move(body_);
  if (!bulk_.empty()) frame_.bulk = SharedBytes(std::move(bulk_));
  body_ = Bytes();
  bulk_ = Bytes();
  return std::optional<PeerFrame>(std::move(frame_));
}

Status PeerFrameReader::begin_frame() {
  ByteView prefix = staging_.view().subspan(begin_, kPeerPrefixBytes);
  ByteReader reader(prefix);
  auto size = reader.read<int32_t>();
  checksum_ = reader.read<uint32_t>();
  frame_ = PeerFrame();
  frame_.kind = static_cast<PeerKind>(reader.read<uint16_t>());
  auto answer = reader.read<uint8_t>();
  auto reserved = reader.read<uint8_t>();
  frame_.route = reader.read<uint32_t>();
  frame_.call = reader.read<uint64_t>();
  auto body_size = reader.read<uint32_t>();
  // Every length is judged before anything is allocated for it.
  if (size < static_cast<int32_t>(kPeerFrameHeaderBytes)) return damaged("a frame is shorter than its header");
  size_t rest = static_cast<size_t>(size) - kPeerFrameHeaderBytes;
  if (body_size > kPeerBodyBytesMax || body_size > rest || rest - body_size > kPeerBulkBytesMax) {
    return damaged("a frame of " + std::to_string(size) + " bytes with a body of " + std::to_string(body_size) +
                   " is outside the limits");
  }
  if (answer > 1 || reserved != 0) return damaged("a frame has flags that are not known");
  frame_.answer = answer == 1;
  header_checksum_ = prefix_checksum(prefix);
  body_ = Bytes(body_size);
  bulk_size_ = rest - body_size;
  bulk_ = Bytes(std::min(bulk_size_, kAheadBytesMax));
  body_filled_ = bulk_filled_ = 0;
  begin_ += kPeerPrefixBytes;
  in_frame_ = true;
  return {};
}

void PeerFrameReader::take_staged(Bytes& to, size_t& filled) {
  size_t size = std::min(end_ - begin_, to.size() - filled);
  if (size == 0) return;
  std::memcpy(to.data() + filled, staging_.data() + begin_, size);
  begin_ += size;
  filled += size;
}

}  // namespace trilog
