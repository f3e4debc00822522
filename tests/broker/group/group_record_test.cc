#include "broker/group/group_record.h"

#include <gtest/gtest.h>

namespace trilog {
namespace {

const OffsetKey kKey{"billing", TopicId(0x0123456789abcdef, 42), PartitionId(7)};
const OffsetValue kValue{Offset(1234567890123), LeaderEpoch(5), 1'700'000'000'000, "orders", "note \xc3\xa9"};

TEST(GroupRecord, KeyAndValueComeBackAsTheyWere) {
  EXPECT_EQ(decode_offset_key(encode_offset_key(kKey)).value(), kKey);
  EXPECT_EQ(decode_offset_value(encode_offset_value(kValue)).value(), kValue);
}

TEST(GroupRecord, TheBytesOfAKeyAreForEver) {
  const std::string expected(
      "\x01"
      "\x07"
      "billing"
      "\x01\x23\x45\x67\x89\xab\xcd\xef"
      "\x00\x00\x00\x00\x00\x00\x00\x2a"
      "\x00\x00\x00\x07",
      29);
  EXPECT_EQ(as_text(encode_offset_key(kKey)), expected);
}

TEST(GroupRecord, TravelsThroughABatchWithAndWithoutValue) {
  RecordBatchBuilder builder;
  add_group_record(builder, {kKey, kValue}, 1);
  add_group_record(builder, {kKey, std::nullopt}, 2);
  Bytes bytes = builder.build().value();
  EXPECT_LE(bytes.size(), kBatchHeaderBytes + record_size_bound({kKey, kValue}) + record_size_bound({kKey, {}}));
  RecordBatch batch = RecordBatch::parse(bytes).value();
  RecordIterator records = RecordIterator::open(batch, bytes.size()).value();
  EXPECT_EQ(decode_group_record(*records.next().value()).value(), (GroupRecord{kKey, kValue}));
  EXPECT_EQ(decode_group_record(*records.next().value()).value(), (GroupRecord{kKey, std::nullopt}));
}

TEST(GroupRecord, EveryCutOfTheBytesIsRefused) {
  Bytes key = encode_offset_key(kKey);
  for (size_t size = 0; size < key.size(); ++size) EXPECT_FALSE(decode_offset_key(key.view().first(size)).ok()) << size;
  Bytes value = encode_offset_value(kValue);
  for (size_t size = 0; size < value.size(); ++size) {
    EXPECT_FALSE(decode_offset_value(value.view().first(size)).ok()) << size;
  }
  key.append(as_bytes("x"));
  EXPECT_FALSE(decode_offset_key(key).ok());
  EXPECT_EQ(decode_group_record(RecordView{}).status().code(), Errc::kCorruption);
}

TEST(GroupRecord, WhatANewerVersionWroteIsNotGuessedAt) {
  Bytes key = encode_offset_key(kKey);
  key.data()[0] = std::byte{9};
  EXPECT_EQ(decode_offset_key(key).status().code(), Errc::kUnsupported);
  Bytes value = encode_offset_value(kValue);
  value.data()[0] = std::byte{2};
  EXPECT_EQ(decode_offset_value(value).status().code(), Errc::kUnsupported);
}

}  // namespace
}  // namespace trilog
