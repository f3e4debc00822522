#include "broker/quorum/raft_codec.h"

#include <gtest/gtest.h>

#include "tests/broker/quorum/raft_log_fixture.h"

namespace trilog {
namespace {

using testing::data_entry;

RaftEnvelope envelope() {
  RaftEnvelope made;
  made.cluster = ClusterId(11, 12);
  made.message.from = BrokerId(1);
  made.message.to = BrokerId(2);
  made.message.directory = DirectoryId(13, 14);
  made.message.term = Term(15);
  return made;
}
RaftEnvelope with(decltype(RaftMessage::body) body) {
  RaftEnvelope made = envelope();
  made.message.body = std::move(body);
  return made;
}
template <typename Extra>
RaftEnvelope extra(Extra body) {
  RaftEnvelope made = envelope();
  made.extra = std::move(body);
  return made;
}
// A frame as it arrives: in buffers of its own.
PeerFrame arrived(const PeerFrame& frame) {
  PeerFrame copy;
  copy.kind = frame.kind;
  copy.body = Bytes::copy_of(frame.body);
  copy.bulk = SharedBytes(Bytes::copy_of(frame.bulk.view()));
  return copy;
}
RaftEnvelope round_trip(const RaftEnvelope& sent) {
  auto decoded = decode_raft(arrived(encode_raft(sent)));
  CHECK(decoded.ok());
  CHECK(decoded->cluster == sent.cluster);
  CHECK_EQ(decoded->message.from, sent.message.from);
  CHECK_EQ(decoded->message.to, sent.message.to);
  CHECK(decoded->message.directory == sent.message.directory);
  CHECK_EQ(decoded->message.term, sent.message.term);
  return std::move(*decoded);
}
std::vector<RaftEnvelope> one_of_each() {
  std::vector<RaftEntry> entries{data_entry(7, 3, {"a", "b"}), data_entry(9, 4, {"c"})};
  VoterSet set{ClusterId(11, 12), {{BrokerId(1), DirectoryId(1, 1)}, {BrokerId(2), DirectoryId(2, 2)}}};
  return {
      with(RaftVote{true, false, Offset(5), Term(3), DirectoryId(1, 2)}),
      with(RaftVoteReply{false, true}),
      with(RaftAppend{Offset(7), Term(3), entries, Offset(6), 99}),
      with(RaftAppendReply{true, Offset(9), Term(2), Offset(4), 98}),
      with(RaftTransfer{}),
      extra(RaftPresence{true, false, set}),
      extra(RaftChunk{Offset(4), Term(2), 1000, 77, 100, SharedBytes(Bytes::copy_of("piece"))}),
      extra(RaftChunkReply{Offset(4), 105}),
  };
}

TEST(RaftCodec, EveryMessageArrivesAsItWasSent) {
  auto all = one_of_each();
  auto vote = std::get<RaftVote>(round_trip(all[0]).message.body);
  EXPECT_TRUE(vote.pre && !vote.transfer);
  EXPECT_EQ(vote.log_end, Offset(5));
  EXPECT_EQ(vote.last_term, Term(3));
  EXPECT_EQ(vote.asked, DirectoryId(1, 2));
  auto vote_reply = std::get<RaftVoteReply>(round_trip(all[1]).message.body);
  EXPECT_TRUE(!vote_reply.pre && vote_reply.granted);
  auto append = std::get<RaftAppend>(round_trip(all[2]).message.body);
  EXPECT_EQ(append.prev_end, Offset(7));
  EXPECT_EQ(append.commit, Offset(6));
  EXPECT_EQ(append.round, 99u);
  ASSERT_EQ(append.entries.size(), 2u);
  EXPECT_EQ(append.entries[1].first, Offset(9));
  EXPECT_EQ(append.entries[1].term, Term(4));
  EXPECT_TRUE(bytes_equal(append.entries[1].batch, std::get<RaftAppend>(all[2].message.body).entries[1].batch));
  auto reply = std::get<RaftAppendReply>(round_trip(all[3]).message.body);
  EXPECT_TRUE(reply.matched);
  EXPECT_EQ(reply.end, Offset(9));
  EXPECT_EQ(reply.refused_end, Offset(4));
  EXPECT_EQ(reply.round, 98u);
  EXPECT_TRUE(std::holds_alternative<RaftTransfer>(round_trip(all[4]).message.body));
  auto presence = std::get<RaftPresence>(round_trip(all[5]).extra);
  EXPECT_TRUE(presence.running && !presence.leading);
  EXPECT_EQ(presence.voters, std::get<RaftPresence>(all[5].extra).voters);
  auto chunk = std::get<RaftChunk>(round_trip(all[6]).extra);
  EXPECT_EQ(chunk.offset, 100u);
  EXPECT_EQ(as_text(chunk.bytes), "piece");
  EXPECT_EQ(std::get<RaftChunkReply>(round_trip(all[7]).extra).received, 105u);
}

TEST(RaftCodec, ALearnerWithoutASetSaysSo) {
  EXPECT_TRUE(std::get<RaftPresence>(round_trip(extra(RaftPresence{true, false, {}})).extra).voters.voters.empty());
}

TEST(RaftCodec, AMessageCutAnywhereIsRefused) {
  for (const RaftEnvelope& each : one_of_each()) {
    PeerFrame whole = encode_raft(each);
    for (size_t size = 0; size < whole.body.size(); ++size) {
      PeerFrame cut = arrived(whole);
      cut.body = Bytes::copy_of(whole.body.view().first(size));
      EXPECT_FALSE(decode_raft(cut).ok()) << size;
    }
    PeerFrame longer = arrived(whole);
    longer.body.append(as_bytes("x"));
    EXPECT_FALSE(decode_raft(longer).ok());
  }
}

TEST(RaftCodec, ADamagedEntryDoesNotGetIn) {
  PeerFrame whole = encode_raft(with(RaftAppend{Offset(7), Term(3), {data_entry(7, 3, {"a", "b"})}, Offset(6), 1}));
  for (size_t at = 0; at < whole.bulk.size(); ++at) {
    bool stamped_when_written = at < 8 || (at >= 12 && at < 16);  // base offset and epoch
    if (stamped_when_written) continue;
    PeerFrame damaged = arrived(whole);
    Bytes bulk = Bytes::copy_of(whole.bulk.view());
    bulk.mutable_view()[at] ^= std::byte{0x10};
    damaged.bulk = SharedBytes(std::move(bulk));
    EXPECT_EQ(decode_raft(damaged).status().code(), Errc::kCorruption) << at;
  }
}

TEST(RaftCodec, ANewerVersionIsNamed) {
  PeerFrame frame = encode_raft(one_of_each()[0]);
  frame.body.mutable_view()[0] = std::byte{9};
  EXPECT_EQ(decode_raft(frame).status().code(), Errc::kUnsupported);
}

TEST(RaftCodec, RandomBytesNeverDoHarm) {
  sim::SeededRandom random(1);
  size_t understood = 0;
  auto all = one_of_each();
  for (int i = 0; i < 200'000; ++i) {
    PeerFrame frame = arrived(encode_raft(all[random.below(all.size())]));
    for (uint64_t flips = random.below(4); flips > 0 && !frame.body.empty(); --flips) {
      frame.body.mutable_view()[random.below(frame.body.size())] = static_cast<std::byte>(random.next());
    }
    if (random.chance(10)) frame.body = Bytes::copy_of(frame.body.view().first(random.below(frame.body.size() + 1)));
    if (random.chance(10)) frame.bulk = frame.bulk.slice(0, random.below(frame.bulk.size() + 1));
    auto decoded = decode_raft(frame);
    if (!decoded.ok()) continue;
    ++understood;
    if (const auto* append = std::get_if<RaftAppend>(&decoded->message.body)) {
      size_t bytes = 0;
      for (const RaftEntry& entry : append->entries) bytes += entry.batch.size();
      ASSERT_EQ(bytes, std::holds_alternative<std::monostate>(decoded->extra) ? frame.bulk.size() : bytes);
    }
  }
  EXPECT_GT(understood, 10'000u);
}

}  // namespace
}  // namespace trilog
