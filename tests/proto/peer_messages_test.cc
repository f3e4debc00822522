#include "proto/kafka/peer_messages.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace trilog::peer {
namespace {

const TopicPartition kFirst{TopicId(0x0123456789abcdef, 0xfedcba9876543210), PartitionId(3)};
const TopicPartition kSecond{TopicId(5, 6), PartitionId(0)};

// Calls `check` with a filled message of every kind.
template <typename Check>
void for_each_message(Check check) {
  check(RegisterBrokerRequest{BrokerId(2),
                              DirectoryId(3, 4),
                              "host:9092",
                              "host:9192",
                              "rack-b",
                              "0.1.0",
                              BrokerEpoch(77),
                              true,
                              true,
                              Recovered::kSomeDamaged,
                              {kFirst, kSecond}});
  check(RegisterBrokerAnswer{PeerError::kOtherDirectory, "no", BrokerEpoch(78)});
  check(HeartbeatRequest{BrokerId(2), BrokerEpoch(78), Offset(900), true, {kSecond}, 7, true});
  check(HeartbeatAnswer{PeerError::kNone, false, true, 12, Offset(77), true});
  check(AlterPartitionRequest{BrokerId(1),
                              BrokerEpoch(5),
                              {{kFirst,
                                LeaderEpoch(3),
                                PartitionEpoch(9),
                                true,
                                {{BrokerId(1), BrokerEpoch(5)}, {BrokerId(2), BrokerEpoch(78)}}},
                               {kSecond, LeaderEpoch(0), PartitionEpoch(0), false, {}}}});
  check(AlterPartitionAnswer{
      PeerError::kNone,
      {{kFirst, PeerError::kIneligibleReplica, BrokerId(1), LeaderEpoch(3), PartitionEpoch(9), {BrokerId(1)}, {}, 2},
       {kSecond, PeerError::kNone, kNoBroker, LeaderEpoch(4), PartitionEpoch(1), {}, {BrokerId(2), BrokerId(3)}}}});
  check(AllocateProducerIdsRequest{BrokerId(3)});
  check(AllocateProducerIdsAnswer{PeerError::kNone, ProducerId(4000), 1000});
  check(ControlledShutdownRequest{BrokerId(3), BrokerEpoch(8)});
  check(ControlledShutdownAnswer{PeerError::kNone, Offset(1'000'000'000'000)});
  check(ProbeRequest{BrokerId(1)});
  check(ProbeAnswer{BrokerEpoch(44), Offset(45)});
  check(RepairRangeRequest{kFirst, Offset(7), Offset(INT64_MAX)});
  check(HearingRequest{BrokerEpoch(44), {kFirst, kSecond}});
  check(HearingAnswer{BrokerEpoch(44), {{kFirst, true, LeaderEpoch(7), Offset(123)}, {kSecond, false}}});
}

TEST(PeerMessages, ReadBackWhatWasWritten) {
  for_each_message([](const auto& message) {
    using Message = std::decay_t<decltype(message)>;
    auto decoded = decode_peer_message<Message>(encode_peer_message(message));
    ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
    EXPECT_TRUE(*decoded == message);
  });
}

TEST(PeerMessages, KeepTheirBytesForEver) {
  Bytes bytes = encode_peer_message(HeartbeatRequest{BrokerId(2), BrokerEpoch(258), Offset(3), true, {}, 259});
  const unsigned char expected[] = {0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0,
                                    0, 0, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0};
  EXPECT_TRUE(bytes_equal(bytes, ByteView(reinterpret_cast<const std::byte*>(expected), sizeof(expected))));
}

TEST(PeerMessages, RefuseEveryTruncationAndEveryTail) {
  for_each_message([](const auto& message) {
    using Message = std::decay_t<decltype(message)>;
    Bytes bytes = encode_peer_message(message);
    for (size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_EQ(decode_peer_message<Message>(bytes.view().first(size)).status().code(), Errc::kCorruption) << size;
    }
    bytes.append(as_bytes("x"));
    EXPECT_EQ(decode_peer_message<Message>(bytes).status().code(), Errc::kCorruption);
  });
}

TEST(PeerMessages, RefuseANewerVersionByName) {
  for_each_message([](const auto& message) {
    using Message = std::decay_t<decltype(message)>;
    Bytes bytes = encode_peer_message(message);
    bytes.data()[0] = std::byte{9};
    EXPECT_EQ(decode_peer_message<Message>(bytes).status().code(), Errc::kUnsupported);
  });
}

// Whatever is accepted is within the limits and is written as the same bytes again.
TEST(PeerMessages, SurviveEveryChangedByte) {
  size_t accepted = 0;
  for_each_message([&](const auto& message) {
    using Message = std::decay_t<decltype(message)>;
    const Bytes original = encode_peer_message(message);
    for (size_t at = 1; at < original.size(); ++at) {
      for (int value = 0; value < 256; ++value) {
        Bytes bytes = Bytes::copy_of(original);
        bytes.data()[at] = static_cast<std::byte>(value);
        auto decoded = decode_peer_message<Message>(bytes);
        if (!decoded.ok()) continue;
        ++accepted;
        auto again = decode_peer_message<Message>(encode_peer_message(*decoded));
        ASSERT_TRUE(again.ok());
        EXPECT_TRUE(*again == *decoded);
      }
    }
  });
  EXPECT_GT(accepted, 1000u);
}

TEST(PeerMessages, DoNotAllocateForACountThatCannotBeThere) {
  Bytes bytes = encode_peer_message(HearingRequest{BrokerEpoch(1), {}});
  Bytes huge = Bytes::copy_of(bytes.view().first(bytes.size() - 1));
  huge.append(as_bytes("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
  EXPECT_EQ(decode_peer_message<HearingRequest>(huge).status().code(), Errc::kCorruption);
}

TEST(PeerMessages, RefuseMoreThanTheirLimits) {
  HearingRequest hearing{BrokerEpoch(1), std::vector<TopicPartition>(kHearingPartitionsMax + 1)};
  EXPECT_FALSE(decode_peer_message<HearingRequest>(encode_peer_message(hearing)).ok());
  hearing.partitions.pop_back();
  EXPECT_TRUE(decode_peer_message<HearingRequest>(encode_peer_message(hearing)).ok());
  AlterPartitionRequest alter{BrokerId(1), BrokerEpoch(1), {{}}};
  alter.partitions[0].isr.resize(kReplicasMax + 1);
  EXPECT_FALSE(decode_peer_message<AlterPartitionRequest>(encode_peer_message(alter)).ok());
  // A text that is too long is cut by the sender.
  RegisterBrokerAnswer answer{PeerError::kInvalidRequest, std::string(5000, 'm'), BrokerEpoch(0)};
  auto decoded = decode_peer_message<RegisterBrokerAnswer>(encode_peer_message(answer));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->message.size(), kTextBytesMax);
}

}  // namespace
}  // namespace trilog::peer
