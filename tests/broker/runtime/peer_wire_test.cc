#include "broker/runtime/peer_wire.h"

#include <gtest/gtest.h>

#include <vector>

#include "broker/runtime/peer_connection.h"
#include "storage/base/codec.h"

namespace trilog {
namespace {

PeerHello some_hello() {
  PeerHello hello;
  hello.what = PeerHello::What::kRefused;
  hello.channel = PeerChannel::kBulk;
  hello.cluster = ClusterId(1, 2);
  hello.identity = {BrokerId(3), DirectoryId(4, 5), true};
  hello.expected = BrokerId(6);
  hello.incarnation = 7;
  hello.quorum = "1,3,5";
  hello.why = "because";
  return hello;
}

TEST(PeerWire, AHelloComesBackAsItWas) {
  Bytes bytes = encode_peer_hello(some_hello());
  ASSERT_EQ(peer_hello_size(bytes.view().first(4)).value(), bytes.size() - 4);
  PeerHello back = decode_peer_hello(bytes.view().subspan(4)).value();
  EXPECT_EQ(back.version, kPeerProtocolVersion);
  EXPECT_EQ(back.what, PeerHello::What::kRefused);
  EXPECT_EQ(back.channel, PeerChannel::kBulk);
  EXPECT_EQ(back.cluster, ClusterId(1, 2));
  EXPECT_EQ(back.identity, some_hello().identity);
  EXPECT_EQ(back.expected, BrokerId(6));
  EXPECT_EQ(back.incarnation, 7u);
  EXPECT_EQ(back.quorum, "1,3,5");
  EXPECT_EQ(back.why, "because");
}

TEST(PeerWire, AHelloIsNeverLongerThanItsLimit) {
  PeerHello hello = some_hello();
  hello.why = hello.quorum = std::string(100'000, 'x');
  Bytes bytes = encode_peer_hello(hello);
  EXPECT_LE(bytes.size(), kPeerSizeBytes + kPeerHelloBytesMax);
  EXPECT_EQ(decode_peer_hello(bytes.view().subspan(4))->why.size(), PeerHello::kWhyBytesMax);
}

TEST(PeerWire, ACutOrChangedHelloIsNone) {
  Bytes good = encode_peer_hello(some_hello());
  ByteView rest = good.view().subspan(4);
  for (size_t size = 0; size < rest.size(); ++size) {
    EXPECT_EQ(decode_peer_hello(rest.first(size)).status().code(), Errc::kCorruption) << size;
  }
  for (size_t i = 0; i < rest.size() * 8; ++i) {
    Bytes bad = Bytes::copy_of(rest);
    bad.data()[i / 8] ^= static_cast<std::byte>(1 << i % 8);
    EXPECT_EQ(decode_peer_hello(bad).status().code(), Errc::kCorruption) << i;
  }
}

PeerFrame frame_of(size_t body, size_t bulk, uint64_t call) {
  PeerFrame frame;
  frame.kind = PeerKind::kProgress;
  frame.route = 17;
  frame.call = call;
  frame.answer = call % 2 == 0;
  frame.body = Bytes(body);
  Bytes bulk_bytes(bulk);
  for (size_t i = 0; i < body; ++i) frame.body.data()[i] = static_cast<std::byte>(i + call);
  for (size_t i = 0; i < bulk; ++i) bulk_bytes.data()[i] = static_cast<std::byte>(i * 3 + call);
  if (bulk > 0) frame.bulk = SharedBytes(std::move(bulk_bytes));
  return frame;
}

// Through the queue that a connection writes from.
Bytes stream_of(const std::vector<std::pair<size_t, size_t>>& sizes) {
  PeerOutQueue queue;
  uint64_t call = 0;
  for (auto [body, bulk] : sizes) queue.append(frame_of(body, bulk, call++));
  Bytes out;
  while (!queue.empty()) {
    for (const PeerOutQueue::Run& run : queue.take(3)) out.append(run.view());
  }
  return out;
}

void feed(PeerFrameReader& reader, ByteView& bytes, size_t at_most) {
  size_t read = 0;
  for (MutableByteView space : reader.space()) {
    size_t size = std::min({space.size(), bytes.size(), at_most - read});
    if (size == 0) continue;
    std::memcpy(space.data(), bytes.data(), size);
    bytes = bytes.subspan(size);
    read += size;
  }
  reader.filled(read);
}

TEST(PeerWire, FramesComeOutWholeHoweverTheStreamIsCut) {
  const std::vector<std::pair<size_t, size_t>> sizes = {{0, 0},      {1, 0},     {0, 1},       {10, 20},
                                                        {4'096, 0},  {4'097, 3}, {0, 100'000}, {70'000, 70'000},
                                                        {5, 40'000}, {0, 0},     {32'740, 0},  {32'768, 1}};
  Bytes stream = stream_of(sizes);
  for (size_t piece : {size_t{1}, size_t{7}, size_t{28}, size_t{1'000}, size_t{33'000}, stream.size()}) {
    PeerFrameReader reader;
    ByteView rest = stream;
    std::vector<PeerFrame> frames;
    while (!rest.empty()) {
      feed(reader, rest, piece);
      for (;;) {
        Result<std::optional<PeerFrame>> next = reader.next();
        ASSERT_TRUE(next.ok()) << next.status().to_string();
        if (!next->has_value()) break;
        frames.push_back(std::move(**next));
      }
    }
    ASSERT_EQ(frames.size(), sizes.size()) << "pieces of " << piece;
    for (size_t i = 0; i < sizes.size(); ++i) {
      PeerFrame want = frame_of(sizes[i].first, sizes[i].second, i);
      EXPECT_EQ(frames[i].kind, want.kind);
      EXPECT_EQ(frames[i].route, want.route);
      EXPECT_EQ(frames[i].call, want.call);
      EXPECT_EQ(frames[i].answer, want.answer);
      EXPECT_TRUE(bytes_equal(frames[i].body, want.body)) << i;
      EXPECT_TRUE(bytes_equal(frames[i].bulk, want.bulk)) << i;
    }
  }
}

TEST(PeerWire, ABulkIsReadToWhereItStays) {
  Bytes stream = stream_of({{8, 1 << 20}});
  PeerFrameReader reader;
  ByteView rest = stream;
  feed(reader, rest, kPeerPrefixBytes);
  ASSERT_FALSE(reader.next()->has_value());
  const std::byte* place = reader.space()[1].data();
  feed(reader, rest, stream.size());
  EXPECT_EQ((*reader.next())->bulk.view().data(), place);
}

TEST(PeerWire, LengthsOutsideTheLimitsAreRefusedBeforeAnythingIsMadeForThem) {
  struct Case {
    int64_t size;
    uint32_t body;
  };
  const auto most = static_cast<int64_t>(kPeerFrameHeaderBytes + kPeerBodyBytesMax + kPeerBulkBytesMax);
  for (Case bad :
       {Case{-1, 0}, Case{0, 0}, Case{23, 0}, Case{24, 1}, Case{INT32_MAX, 0}, Case{INT32_MIN, 0},
        Case{most + 1, kPeerBodyBytesMax}, Case{most, kPeerBodyBytesMax + 1}, Case{most, 0}, Case{100, UINT32_MAX}}) {
    auto prefix = encode_peer_prefix(PeerFrame());
    store_big_endian<int32_t>(prefix.data(), static_cast<int32_t>(bad.size));
    store_big_endian<uint32_t>(prefix.data() + 24, bad.body);
    PeerFrameReader reader;
    ByteView rest = prefix;
    feed(reader, rest, prefix.size());
    EXPECT_EQ(reader.next().status().code(), Errc::kCorruption) << bad.size << " " << bad.body;
  }
}

TEST(PeerWire, AnEmptyFolderHasNoClusterYet) {
  PeerHello hello;
  hello.cluster = ClusterId(9, 9);
  hello.identity = {BrokerId(2), DirectoryId(1, 1), true};
  hello.expected = BrokerId(1);
  PeerExpectation here{.self = BrokerId(1), .cluster = ClusterId(1, 1), .is_peer = true};
  EXPECT_EQ(refuse_peer(hello, here), std::nullopt);
  hello.identity.empty = false;
  EXPECT_NE(refuse_peer(hello, here), std::nullopt);
  here.empty = true;
  EXPECT_EQ(refuse_peer(hello, here), std::nullopt);
}

}  // namespace
}  // namespace trilog
