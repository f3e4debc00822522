#include "storage/record/record_batch_builder.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "tests/support/batches.h"

namespace trilog {
namespace {

using testing::kTestTimestampMs;
using testing::make_batch;
using testing::records_of;
using testing::TestRecord;

RecordBatch parsed(const Bytes& batch) { return RecordBatch::parse(batch).value(); }

TEST(RecordBatchBuilder, GivesBackItsRecordsWithEveryCodec) {
  std::vector<TestRecord> records = {
      {"key", "value"},
      {std::nullopt, "no key"},
      {"no value", std::nullopt},
      {"", ""},
      {std::nullopt, std::nullopt},
      {"headers", "yes", {{"a", "1"}, {"a", "2"}, {"", std::nullopt}, {"empty", ""}}},
      {"earlier", "v", {}, kTestTimestampMs - 10},
      {"later", std::string(100000, 'x'), {}, kTestTimestampMs + 10},
  };
  for (Codec codec : {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd}) {
    SCOPED_TRACE(codec_name(codec));
    Bytes batch = make_batch(records, {.codec = codec});
    EXPECT_EQ(parsed(batch).codec(), codec);
    EXPECT_TRUE(parsed(batch).crc_matches());
    EXPECT_TRUE(parsed(batch).check_records().ok());
    EXPECT_EQ(parsed(batch).base_timestamp(), kTestTimestampMs);
    EXPECT_EQ(parsed(batch).max_timestamp(), kTestTimestampMs + 10);
    EXPECT_EQ(records_of(batch), records);
  }
}

TEST(RecordBatchBuilder, LeavesToTheBrokerWhatTheBrokerStamps) {
  RecordBatchBuilder builder;
  for (int i = 0; i < 2; ++i) {  // without a producer no sequence moves on
    builder.add(0, as_bytes("k"), as_bytes("v"));
    Bytes batch = builder.build().value();
    EXPECT_EQ(parsed(batch).base_offset(), Offset(0));
    EXPECT_EQ(parsed(batch).leader_epoch(), kNoLeaderEpoch);
    EXPECT_EQ(parsed(batch).producer_id(), kNoProducerId);
    EXPECT_EQ(parsed(batch).producer_epoch(), ProducerEpoch(-1));
    EXPECT_EQ(parsed(batch).base_sequence(), kNoSequence);
    EXPECT_EQ(parsed(batch).last_sequence(), kNoSequence);
  }
}

TEST(RecordBatchBuilder, StartsTheNextBatchEmpty) {
  RecordBatchBuilder builder;
  EXPECT_TRUE(builder.empty());
  builder.add(5, as_bytes("k"), as_bytes("v"));
  builder.add(9, std::nullopt, std::nullopt);
  EXPECT_EQ(builder.count(), 2);
  size_t size = builder.size();
  Bytes first = builder.build().value();
  EXPECT_EQ(first.size(), size);
  EXPECT_TRUE(builder.empty());
  EXPECT_EQ(builder.size(), kBatchHeaderBytes);

  builder.add(3, as_bytes("next"), as_bytes("w"));
  Bytes second = builder.build().value();
  EXPECT_EQ(parsed(second).base_timestamp(), 3);
  EXPECT_EQ(parsed(second).max_timestamp(), 3);
  EXPECT_EQ(records_of(second), (std::vector<TestRecord>{{"next", "w", {}, 3}}));
  EXPECT_EQ(records_of(first).size(), 2u);
}

TEST(RecordBatchBuilder, MovesAProducersSequenceOnAndWrapsIt) {
  BatchProducer producer{ProducerId(7), ProducerEpoch(2), std::numeric_limits<int32_t>::max() - 1};
  RecordBatchBuilder builder(Codec::kNone, producer);
  for (int i = 0; i < 3; ++i) builder.add(0, std::nullopt, as_bytes("v"));
  Bytes first = builder.build().value();
  builder.add(0, std::nullopt, as_bytes("v"));
  Bytes second = builder.build().value();
  EXPECT_EQ(parsed(first).producer_id(), ProducerId(7));
  EXPECT_EQ(parsed(first).producer_epoch(), ProducerEpoch(2));
  EXPECT_EQ(parsed(first).base_sequence(), std::numeric_limits<int32_t>::max() - 1);
  EXPECT_EQ(parsed(first).last_sequence(), 0);
  EXPECT_EQ(parsed(second).base_sequence(), 1);
}

TEST(RecordBatchBuilder, CarriesTimestampsThatAreFartherApartThan63Bits) {
  constexpr int64_t kEarliest = std::numeric_limits<int64_t>::min();
  constexpr int64_t kLatest = std::numeric_limits<int64_t>::max();
  std::vector<TestRecord> records = {{"a", "1", {}, kEarliest}, {"b", "2", {}, kLatest}, {"c", "3", {}, 0}};
  Bytes batch = make_batch(records);
  EXPECT_EQ(parsed(batch).max_timestamp(), kLatest);
  EXPECT_EQ(records_of(batch), records);
}

TEST(RecordBatchBuilder, KnowsTheLatestOfTimestampsBefore1970) {
  Bytes batch = make_batch({{"a", "1", {}, -5000}, {"b", "2", {}, -3000}, {"c", "3", {}, -4000}});
  EXPECT_EQ(parsed(batch).base_timestamp(), -5000);
  EXPECT_EQ(parsed(batch).max_timestamp(), -3000);
}

TEST(RecordBatchBuilder, NeverAddsMoreThanItsBound) {
  std::string large(70000, 'v');
  std::vector<RecordHeader> headers = {{"name", as_bytes(large)}, {"", std::nullopt}};
  RecordBatchBuilder builder;
  builder.add(0, std::nullopt, std::nullopt);
  for (std::optional<ByteView> value :
       {std::optional<ByteView>(), std::optional(as_bytes("")), std::optional(as_bytes(large))}) {
    for (std::span<const RecordHeader> used :
         {std::span<const RecordHeader>(), std::span<const RecordHeader>(headers)}) {
      size_t before = builder.size();
      builder.add(std::numeric_limits<int64_t>::min(), value, value, used);
      EXPECT_LE(builder.size() - before, RecordBatchBuilder::record_size_bound(value, value, used));
    }
  }
  EXPECT_TRUE(parsed(builder.build().value()).check_records().ok());
}

TEST(RecordBatchBuilderDeathTest, RefusesToBuildNothing) {
  EXPECT_DEATH({ Bytes unused = RecordBatchBuilder().build().value(); }, "count_ > 0");
}

}  // namespace
}  // namespace trilog
