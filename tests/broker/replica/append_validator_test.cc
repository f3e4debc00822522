#include "broker/replica/append_validator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/batches.h"

namespace trilog {
namespace {

using api::ErrorCode;
using testing::fix_crc;
using ::testing::HasSubstr;
using testing::make_batch;
using testing::make_filled_batch;
using testing::patch;

constexpr int64_t kMegabyte = 1 << 20;

struct Outcome {
  std::optional<ErrorCode> code;
  std::string message;
  std::vector<CheckedBatch> batches;
};
Outcome check(ByteView bytes, const ProducerStateManager& producers = {}, int64_t bytes_max = kMegabyte) {
  auto answer = check_append(bytes, bytes_max, producers);
  if (answer.ok()) return {std::nullopt, "", answer.value()};
  EXPECT_EQ(answer.error().outcome, api::Outcome::kNotWritten);
  return {answer.error().code, answer.error().message, {}};
}
Bytes good(Codec codec = Codec::kNone) { return make_batch({{"k", "v"}, {"k2", "v2"}}, {.codec = codec}); }
Bytes sequenced(int64_t producer, int16_t epoch, int32_t base, int32_t count = 1) {
  return make_filled_batch(count, 5, {.producer = {ProducerId(producer), ProducerEpoch(epoch), base}});
}
Bytes joined(std::vector<Bytes> parts) {
  Bytes result;
  for (const Bytes& part : parts) result.append(part);
  return result;
}

TEST(AppendValidator, AcceptsWholeBatchesOfEveryCodec) {
  for (Codec codec : {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd}) {
    Bytes batch = good(codec);
    Outcome outcome = check(batch);
    ASSERT_EQ(outcome.code, std::nullopt) << codec_name(codec) << ": " << outcome.message;
    ASSERT_EQ(outcome.batches.size(), 1u);
    EXPECT_EQ(outcome.batches[0].size, batch.size());
    EXPECT_EQ(outcome.batches[0].offset_count, 2);
  }
}

TEST(AppendValidator, RefusesAnEmptyRequest) { EXPECT_EQ(check({}).code, ErrorCode::kInvalidRequest); }

TEST(AppendValidator, RefusesFramesThatDoNotAddUp) {
  Bytes short_header = Bytes::copy_of(good().view().first(60));
  EXPECT_EQ(check(short_header).code, ErrorCode::kCorruptBatch);
  Bytes cut = good();
  cut.resize_uninitialized(cut.size() - 1);
  EXPECT_EQ(check(cut).code, ErrorCode::kCorruptBatch);
  Bytes trailing = good();
  trailing.append(as_bytes("x"));
  Outcome outcome = check(trailing);
  EXPECT_EQ(outcome.code, ErrorCode::kCorruptBatch);
  EXPECT_THAT(outcome.message, HasSubstr("batch 2"));
  for (int32_t length : {-1, 0, 48, INT32_MAX, INT32_MIN}) {
    Bytes batch = good();
    store_big_endian(batch.data() + 8, length);
    EXPECT_EQ(check(batch).code, ErrorCode::kCorruptBatch) << length;
  }
}

TEST(AppendValidator, RefusesOtherMagics) {
  for (int8_t magic : {0, 1, 3, -1}) {
    Bytes batch = good();
    store_big_endian(batch.data() + 16, magic);
    Outcome outcome = check(batch);
    EXPECT_EQ(outcome.code, ErrorCode::kCorruptBatch);
    EXPECT_THAT(outcome.message, HasSubstr("magic"));
  }
}

TEST(AppendValidator, RefusesEveryFlippedBitThatTheCrcCovers) {
  const Bytes original = good();
  for (size_t bit = kBatchCrcStart * 8; bit < original.size() * 8; ++bit) {
    Bytes batch = Bytes::copy_of(original.view());
    batch.data()[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    EXPECT_NE(check(batch).code, std::nullopt) << "bit " << bit;
  }
}

TEST(AppendValidator, IgnoresBaseOffsetAndLeaderEpochOfTheClient) {
  Bytes batch = make_batch({{"k", "v"}}, {.base_offset = Offset(1234), .leader_epoch = LeaderEpoch(77)});
  EXPECT_EQ(check(batch).code, std::nullopt);
}

TEST(AppendValidator, RefusesBitsThatAreNotTheClients) {
  struct Case {
    int16_t bits;
    const char* word;
  };
  for (const Case& c : {Case{0x08, "log-append-time"}, Case{0x10, "transactional"}, Case{0x20, "control"},
                        Case{0x40, "delete-horizon"}, Case{0x0100, "not known"}}) {
    Bytes batch = good();
    patch<int16_t>(batch, 21, c.bits);
    Outcome outcome = check(batch);
    EXPECT_EQ(outcome.code, ErrorCode::kInvalidRequest) << c.word;
    EXPECT_THAT(outcome.message, HasSubstr(c.word));
  }
}

TEST(AppendValidator, RefusesCodecsThatDoNotExist) {
  for (int16_t codec : {5, 6, 7}) {
    Bytes batch = good();
    patch<int16_t>(batch, 21, codec);
    EXPECT_EQ(check(batch).code, ErrorCode::kUnsupportedCodec);
  }
}

TEST(AppendValidator, RefusesCountsThatDoNotAgree) {
  for (int32_t count : {0, 1, 3, -1, INT32_MAX}) {
    Bytes batch = good();
    patch<int32_t>(batch, 57, count);
    EXPECT_EQ(check(batch).code, ErrorCode::kCorruptBatch) << count;
  }
  for (int32_t delta : {-1, 0, 2, INT32_MAX}) {
    Bytes batch = good();
    patch<int32_t>(batch, 23, delta);
    EXPECT_EQ(check(batch).code, ErrorCode::kCorruptBatch) << delta;
  }
  Bytes compressed = good(Codec::kLz4);
  patch<int32_t>(compressed, 57, 1);
  EXPECT_EQ(check(compressed).code, ErrorCode::kCorruptBatch);
}

TEST(AppendValidator, WalksTheRecordsOfAnUncompressedBatch) {
  Bytes batch = good();
  size_t first_record = kBatchHeaderBytes;
  batch.data()[first_record] = std::byte{0x7e};  // a record longer than the batch
  fix_crc(batch);
  Outcome outcome = check(batch);
  EXPECT_EQ(outcome.code, ErrorCode::kCorruptBatch);
  EXPECT_THAT(outcome.message, HasSubstr("record 0"));
}

TEST(AppendValidator, RefusesARecordWithTooManyHeaders) {
  const size_t limit = kRecordHeadersMax;
  EXPECT_EQ(check(make_batch({{"k", "v", std::vector<testing::TestHeader>(limit)}})).code, std::nullopt);
  Outcome outcome = check(make_batch({{"k", "v", std::vector<testing::TestHeader>(limit + 1)}}));
  EXPECT_EQ(outcome.code, ErrorCode::kInvalidRequest);
  EXPECT_THAT(outcome.message, HasSubstr("record 0 has more than 1000 headers"));
}

TEST(AppendValidator, RefusesABatchOverTheLimitAndSaysBothSizes) {
  Bytes batch = make_filled_batch(3, 400);
  const auto size = static_cast<int64_t>(batch.size());
  EXPECT_EQ(check(batch, {}, size).code, std::nullopt);
  auto answer = check_append(batch, size - 1, {});
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().code, ErrorCode::kRecordTooLarge);
  EXPECT_EQ(answer.error().details.at("limit"), std::to_string(size - 1));
  EXPECT_EQ(answer.error().details.at("value"), std::to_string(size));
}

TEST(AppendValidator, RefusesTooManyBatchesInOneRequest) {
  Bytes one = make_filled_batch(1, 0);
  Bytes many;
  for (size_t i = 0; i < kBatchesPerAppendMax; ++i) many.append(one);
  EXPECT_EQ(check(many).code, std::nullopt);
  many.append(one);
  EXPECT_EQ(check(many).code, ErrorCode::kInvalidRequest);
}

TEST(AppendValidator, RefusesHalfFilledProducerFields) {
  EXPECT_EQ(check(sequenced(-2, 0, 0)).code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(check(sequenced(5, -1, 0)).code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(check(sequenced(5, 0, -1)).code, ErrorCode::kInvalidRequest);
  // Some clients leave the sequence at 0 when they have no producer id.
  EXPECT_EQ(check(sequenced(-1, -1, 0)).code, std::nullopt);
}

TEST(AppendValidator, ChecksBatchesOfOneRequestAgainstEachOther) {
  EXPECT_EQ(check(joined({})).code, ErrorCode::kInvalidRequest);
  auto pair = [](Bytes a, Bytes b) {
    std::vector<Bytes> parts;
    parts.push_back(std::move(a));
    parts.push_back(std::move(b));
    return joined(std::move(parts));
  };
  EXPECT_EQ(check(pair(sequenced(5, 0, 0, 3), sequenced(5, 0, 3))).code, std::nullopt);
  EXPECT_EQ(check(pair(sequenced(5, 0, 0, 3), sequenced(5, 0, 4))).code, ErrorCode::kOutOfOrderSequence);
  EXPECT_EQ(check(pair(sequenced(5, 0, 0, 3), sequenced(5, 0, 1))).code, ErrorCode::kOutOfOrderSequence);
  EXPECT_EQ(check(pair(sequenced(5, 1, 0), sequenced(5, 0, 1))).code, ErrorCode::kInvalidProducerEpoch);
  EXPECT_EQ(check(pair(sequenced(5, 1, 7), sequenced(5, 2, 0))).code, std::nullopt);
  EXPECT_EQ(check(pair(sequenced(5, 1, 7), sequenced(5, 2, 8))).code, ErrorCode::kOutOfOrderSequence);
  EXPECT_EQ(check(pair(sequenced(5, 0, 9), sequenced(6, 0, 3))).code, std::nullopt);
  EXPECT_EQ(check(pair(sequenced(5, 0, INT32_MAX), sequenced(5, 0, 0))).code, std::nullopt);

  Outcome twice = check(pair(sequenced(5, 0, 0, 2), sequenced(5, 0, 0, 2)));
  ASSERT_EQ(twice.code, std::nullopt);
  EXPECT_FALSE(twice.batches[0].duplicate);
  EXPECT_TRUE(twice.batches[1].duplicate);
  EXPECT_EQ(twice.batches[1].same_as, 0u);
}

TEST(AppendValidator, AnswersADuplicateWithItsFirstOffsetAlsoBehindNewBatches) {
  ProducerStateManager producers;
  Bytes stored = sequenced(5, 0, 0, 2);
  RecordBatch::set_base_offset(stored.mutable_view(), Offset(40));
  producers.record(RecordBatch::parse(stored).value(), 0);
  Bytes request = sequenced(5, 0, 2);
  request.append(sequenced(5, 0, 0, 2));
  Outcome outcome = check(request, producers);
  ASSERT_EQ(outcome.code, std::nullopt) << outcome.message;
  EXPECT_FALSE(outcome.batches[0].duplicate);
  EXPECT_TRUE(outcome.batches[1].duplicate);
  EXPECT_EQ(outcome.batches[1].first_offset, Offset(40));
  EXPECT_EQ(outcome.batches[1].same_as, std::nullopt);
}

TEST(AppendValidator, StampsInPlaceWithoutTouchingTheCrc) {
  Bytes batch = good();
  stamp_batch(batch.mutable_view(), Offset(99), LeaderEpoch(7), std::nullopt);
  RecordBatch stamped = RecordBatch::parse(batch).value();
  EXPECT_EQ(stamped.base_offset(), Offset(99));
  EXPECT_EQ(stamped.leader_epoch(), LeaderEpoch(7));
  EXPECT_TRUE(stamped.crc_matches());
  EXPECT_EQ(stamped.stored_crc(), RecordBatch::parse(good()).value().stored_crc());
  stamp_batch(batch.mutable_view(), Offset(99), LeaderEpoch(7), 1234);
  EXPECT_TRUE(stamped.crc_matches());
  EXPECT_TRUE(stamped.is_log_append_time());
  EXPECT_EQ(stamped.max_timestamp(), 1234);
}

}  // namespace
}  // namespace trilog
