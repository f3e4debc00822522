#include "proto/kafka/replication_messages.h"

#include <gtest/gtest.h>

#include "storage/base/codec.h"

namespace trilog::peer {
namespace {

OpenSession some_open() {
  OpenSession open{.reply_route = 3, .broker_epoch = BrokerEpoch(77), .credit_bytes = 1 << 20, .partitions = {}};
  open.partitions.push_back({SessionId(UINT64_MAX),
                             {TopicId(1, 2), PartitionId(4)},
                             LeaderEpoch(5),
                             Offset(1000),
                             Offset(900),
                             LeaderEpoch(4)});
  open.partitions.push_back(
      {SessionId(9), {TopicId(1, 2), PartitionId(5)}, LeaderEpoch(0), Offset(0), Offset(0), kNoLeaderEpoch});
  return open;
}
Push some_push() {
  Push push{.reply_route = 1, .sequence = 12, .partitions = {}};
  push.partitions.push_back({SessionId(4), LeaderEpoch(2), Offset(50), Offset(10), 4096});
  push.partitions.push_back({SessionId(5), LeaderEpoch(2), Offset(7), Offset(0), 0});
  return push;
}
Progress some_progress() {
  Progress progress{.reply_route = 2, .sequence = 11, .partitions = {}};
  progress.partitions.push_back({SessionId(4), LeaderEpoch(2), BrokerEpoch(9), Offset(60), Offset(55)});
  return progress;
}
CloseSession some_close() {
  return {.partitions = {{SessionId(1), CloseReason::kBelowLogStart, Offset(44)},
                         {SessionId(2), CloseReason::kRestart, Offset(0)}}};
}
EpochEnd some_end() { return {SessionId(8), LeaderEpoch(6), LeaderEpoch(3), Offset(123)}; }

TEST(ReplicationMessages, ComeBackAsTheyWereSent) {
  EXPECT_EQ(decode_open_session(encode(some_open())).value(), some_open());
  EXPECT_EQ(decode_push(encode(some_push())).value(), some_push());
  EXPECT_EQ(decode_progress(encode(some_progress())).value(), some_progress());
  EXPECT_EQ(decode_close_session(encode(some_close())).value(), some_close());
  EXPECT_EQ(decode_epoch_end(encode(some_end())).value(), some_end());
}

TEST(ReplicationMessages, RefuseEveryShorterOrLongerBody) {
  auto refuse = [](Bytes whole, auto decode) {
    for (size_t size = 0; size < whole.size(); ++size) {
      EXPECT_FALSE(decode(whole.view().first(size)).ok()) << size;
    }
    ByteWriter(whole).write<uint8_t>(0);
    EXPECT_FALSE(decode(whole.view()).ok());
  };
  refuse(encode(some_open()), decode_open_session);
  refuse(encode(some_push()), decode_push);
  refuse(encode(some_progress()), decode_progress);
  refuse(encode(some_close()), decode_close_session);
  refuse(encode(some_end()), decode_epoch_end);
}

TEST(ReplicationMessages, RefuseANewerVersion) {
  Bytes body = encode(some_push());
  body.data()[0] = std::byte{1};
  EXPECT_EQ(decode_push(body).status().code(), Errc::kUnsupported);
}

TEST(ReplicationMessages, RefuseCountsThatTheBytesCannotHoldBeforeAllocating) {
  Bytes body;
  ByteWriter out(body);
  out.write<uint8_t>(0);
  out.write<uint32_t>(0);
  out.write<uint64_t>(1);
  out.write_varint(UINT64_MAX);
  EXPECT_EQ(decode_push(body).status().code(), Errc::kCorruption);
  EXPECT_EQ(decode_progress(body).status().code(), Errc::kCorruption);
}

TEST(ReplicationMessages, RefusePositionsThatCannotBe) {
  OpenSession open = some_open();
  open.partitions[0].durable = open.partitions[0].fetched + 1;
  EXPECT_FALSE(decode_open_session(encode(open)).ok());
  open = some_open();
  open.partitions[0].fetched = Offset(-5);
  EXPECT_FALSE(decode_open_session(encode(open)).ok());
  Progress progress = some_progress();
  progress.partitions[0].durable = progress.partitions[0].fetched + 1;
  EXPECT_FALSE(decode_progress(encode(progress)).ok());
}

}  // namespace
}  // namespace trilog::peer
