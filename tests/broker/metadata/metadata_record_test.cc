#include "broker/metadata/metadata_record.h"

#include <gtest/gtest.h>

namespace trilog {
namespace {

const TopicId kTopic(0x0123456789abcdef, 0xfedcba9876543210);

std::vector<MetadataRecord> one_of_each() {
  return {RegisterBrokerRecord{BrokerId(1), DirectoryId(3, 4), "localhost:9092", "0.1.0"},
          RegisterBrokerRecord{BrokerId(1), DirectoryId(3, 4), "localhost:9092", "0.1.0", "localhost:9192", "rack-a"},
          FenceBrokerRecord{BrokerId(1), BrokerEpoch(77), false},
          FenceBrokerRecord{BrokerId(1), BrokerEpoch(77), false, true},
          FenceBrokerRecord{BrokerId(1), BrokerEpoch(77), true, false, BrokerEpoch(70)},
          TopicRecord{kTopic, "orders", api::Durability::kReplicated, true},
          TopicConfigRecord{kTopic, "retention.ms", "1000"},
          TopicConfigRecord{kTopic, "retention.ms", std::nullopt},
          PartitionRecord{kTopic,
                          PartitionId(2),
                          {BrokerId(1), BrokerId(2)},
                          {BrokerId(1)},
                          {BrokerId(2)},
                          BrokerId(1),
                          LeaderEpoch(5),
                          PartitionEpoch(9)},
          PartitionRecord{kTopic,
                          PartitionId(2),
                          {BrokerId(1), BrokerId(2)},
                          {BrokerId(1)},
                          {BrokerId(2)},
                          BrokerId(1),
                          LeaderEpoch(5),
                          PartitionEpoch(9),
                          {BrokerId(2)},
                          LeaderEpoch(5),
                          true},
          RemoveTopicRecord{kTopic},
          AuditRecord{AuditRecord::Kind::kRescued, 1'700'000'000'000},
          AuditRecord{AuditRecord::Kind::kLossReported, 1'700'000'000'000, kTopic, PartitionId(2), BrokerId(1),
                      LeaderEpoch(5), "why"},
          ProducerIdsRecord{ProducerId(2000)},
          QuorumRecoveryRecord{3, BrokerId(2), 1'700'000'000'000}};
}

TEST(MetadataRecord, ReadsBackWhatItWrote) {
  for (const MetadataRecord& record : one_of_each()) {
    auto decoded = decode_metadata_record(encode_metadata_record(record));
    ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
    EXPECT_EQ(*decoded, record) << describe_metadata_record(record);
  }
}

TEST(MetadataRecord, KeepsItsBytesForEver) {
  Bytes bytes = encode_metadata_record(TopicConfigRecord{TopicId(1, 2), "ab", "c"});
  const unsigned char expected[] = {4, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 2, 'a', 'b', 1, 1, 'c'};
  EXPECT_TRUE(bytes_equal(bytes, ByteView(reinterpret_cast<const std::byte*>(expected), sizeof(expected))));
}

// A record that says nothing new is readable by those who know only version 0, and costs not a byte more.
TEST(MetadataRecord, IsWrittenInTheOldestVersionThatSaysEverything) {
  PartitionRecord record{kTopic, PartitionId(2), {BrokerId(1)}, {BrokerId(1)}};
  EXPECT_EQ(encode_metadata_record(record).data()[1], std::byte{0});
  record.loss_epoch = LeaderEpoch(3);
  EXPECT_EQ(encode_metadata_record(record).data()[1], std::byte{1});
}

TEST(MetadataRecord, ReadsVersionZeroWithDefaultsForWhatIsNewer) {
  const unsigned char old[] = {2, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9, 1};
  auto decoded = decode_metadata_record(ByteView(reinterpret_cast<const std::byte*>(old), sizeof(old)));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(*decoded, MetadataRecord(FenceBrokerRecord{BrokerId(7), BrokerEpoch(9), true}));
}

TEST(MetadataRecord, RefusesEveryTruncation) {
  for (const MetadataRecord& record : one_of_each()) {
    Bytes bytes = encode_metadata_record(record);
    for (size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_FALSE(decode_metadata_record(bytes.view().first(size)).ok())
          << describe_metadata_record(record) << " cut to " << size;
    }
  }
}

TEST(MetadataRecord, RefusesTrailingBytes) {
  for (const MetadataRecord& record : one_of_each()) {
    Bytes bytes = encode_metadata_record(record);
    bytes.append(as_bytes("x"));
    EXPECT_EQ(decode_metadata_record(bytes).status().code(), Errc::kCorruption);
  }
}

TEST(MetadataRecord, StopsAtATypeOrVersionItDoesNotKnow) {
  Bytes type = Bytes::copy_of(std::string_view("\x63\x00", 2));
  EXPECT_EQ(decode_metadata_record(type).status().code(), Errc::kUnsupported);
  Bytes version = encode_metadata_record(RemoveTopicRecord{kTopic});
  version.data()[1] = std::byte{9};
  EXPECT_EQ(decode_metadata_record(version).status().code(), Errc::kUnsupported);
}

TEST(MetadataRecord, DoesNotAllocateForACountThatCannotBeThere) {
  // A partition record whose replica list claims 2^40 entries.
  Bytes bytes = Bytes::copy_of(std::string_view("\x05\x00", 2));
  bytes.append(Bytes::copy_of(std::string(20, '\0')));
  bytes.append(as_bytes("\xff\xff\xff\xff\xff\x1f"));
  EXPECT_EQ(decode_metadata_record(bytes).status().code(), Errc::kCorruption);
}

}  // namespace
}  // namespace trilog
