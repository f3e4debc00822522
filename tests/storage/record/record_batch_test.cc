#include "storage/record/record_batch.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "tests/support/allocation_count.h"
#include "tests/support/batches.h"
#include "tests/support/hex.h"

namespace trilog {
namespace {

using testing::allocation_count;
using testing::fix_crc;
using testing::from_hex;
using testing::make_batch;
using testing::make_filled_batch;
using testing::patch;
using testing::records_of;
using testing::TestRecord;

constexpr size_t kCapBytes = 1 << 20;

// Three records of producer 4242, epoch 3, from sequence 2^31 - 2, at base offset 0x1122334455 and leader epoch 7.
// Written out by hand with a bit-by-bit CRC, and read back as shown by kafka-python 3.0.
constexpr std::string_view kGoldenHex =
    "0000001122334455 00000058 00000007 02 3820e31c 0000 00000002 0000018bcfe56800 0000018bcfe5692c"
    "0000000000001092 0003 7ffffffe 00000003"
    "1c 00 00 00 06 6b6579 0a 76616c7565 00"          // "key", "value"
    "1e 00 09 02 01 04 7632 04 02 68 02 31 02 6e 01"  // 5 ms earlier, no key, "v2", headers h = "1", n = null
    "0e 00 d804 04 00 01 00";                         // 300 ms later, empty key, no value
const std::vector<TestRecord> kGoldenRecords = {
    {"key", "value", {}, 1700000000000},
    {std::nullopt, "v2", {{"h", "1"}, {"n", std::nullopt}}, 1699999999995},
    {"", std::nullopt, {}, 1700000000300},
};

RecordBatch parsed(const Bytes& batch) { return RecordBatch::parse(batch).value(); }
Errc parse_code(ByteView bytes) { return RecordBatch::parse(bytes).status().code(); }
Errc check_code(const Bytes& batch) { return parsed(batch).check_records().code(); }

// A batch around the given records block, with everything else right.
Bytes batch_around(std::string_view records_hex, int32_t count) {
  Bytes batch = make_batch({{"k", "v"}});
  batch.resize_uninitialized(kBatchHeaderBytes);
  batch.append(from_hex(records_hex));
  store_big_endian(batch.data() + 8, static_cast<int32_t>(batch.size() - kBatchLengthPrefixBytes));
  store_big_endian(batch.data() + 23, count - 1);
  patch<int32_t>(batch, 57, count);
  return batch;
}

// Reads to the end or to the first failure.
struct ReadOutcome {
  Status status;
  std::vector<int64_t> offset_deltas;
};
ReadOutcome read_all(const RecordBatch& batch) {
  Result<RecordIterator> iterator = RecordIterator::open(batch, kCapBytes);
  ReadOutcome outcome{iterator.status(), {}};
  while (outcome.status.ok()) {
    Result<std::optional<RecordView>> record = iterator->next();
    outcome.status = record.status();
    if (!record.ok() || !record->has_value()) break;
    outcome.offset_deltas.push_back((*record)->offset_delta);
  }
  return outcome;
}

TEST(RecordBatch, ReadsEveryFieldOfAKnownBatch) {
  Bytes golden = from_hex(kGoldenHex);
  RecordBatch batch = parsed(golden);
  EXPECT_EQ(batch.size(), 100u);
  EXPECT_EQ(batch.base_offset(), Offset(0x1122334455));
  EXPECT_EQ(batch.last_offset(), Offset(0x1122334457));
  EXPECT_EQ(batch.next_offset(), Offset(0x1122334458));
  EXPECT_EQ(batch.leader_epoch(), LeaderEpoch(7));
  EXPECT_EQ(batch.stored_crc(), 0x3820e31cu);
  EXPECT_EQ(batch.attributes(), 0);
  EXPECT_EQ(batch.codec(), Codec::kNone);
  EXPECT_EQ(batch.base_timestamp(), 1700000000000);
  EXPECT_EQ(batch.max_timestamp(), 1700000000300);
  EXPECT_EQ(batch.producer_id(), ProducerId(4242));
  EXPECT_EQ(batch.producer_epoch(), ProducerEpoch(3));
  EXPECT_EQ(batch.base_sequence(), 0x7ffffffe);
  EXPECT_EQ(batch.last_sequence(), 0);
  EXPECT_EQ(batch.record_count(), 3);
  EXPECT_TRUE(batch.crc_matches());
  EXPECT_TRUE(batch.check_records().ok());
  EXPECT_EQ(records_of(golden), kGoldenRecords);
}

TEST(RecordBatch, IsBuiltByteForByteAsKnown) {
  Bytes batch = make_batch(kGoldenRecords, {.producer = {ProducerId(4242), ProducerEpoch(3), 0x7ffffffe},
                                            .base_offset = Offset(0x1122334455),
                                            .leader_epoch = LeaderEpoch(7)});
  EXPECT_TRUE(bytes_equal(batch, from_hex(kGoldenHex)));
}

TEST(RecordBatch, ParsesTheFrontOfALongerRun) {
  Bytes two = from_hex(kGoldenHex);
  two.append(make_batch({{"next", "one"}}));
  EXPECT_EQ(parsed(two).size(), 100u);
  EXPECT_EQ(testing::batches_of(two).size(), 2u);
  EXPECT_EQ(records_of(two).size(), 4u);
}

// Rule S1: what the checksum does not cover is either refused by the frame or checked by the log's contiguity.
TEST(RecordBatch, EveryFlippedBitIsFoundOrLiesInBaseOffsetOrLeaderEpoch) {
  Bytes batch = from_hex(kGoldenHex);
  for (size_t bit = 0; bit < 8 * batch.size(); ++bit) {
    batch.data()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    Result<RecordBatch> flipped = RecordBatch::parse(batch);
    const bool stamped_by_broker = bit / 8 < 8 || (bit / 8 >= 12 && bit / 8 < 16);
    if (flipped.ok()) {
      EXPECT_EQ(flipped->crc_matches(), stamped_by_broker) << "bit " << bit;
      read_all(*flipped);
    } else {
      EXPECT_EQ(flipped.status().code(), Errc::kCorruption);
    }
    batch.data()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
  }
}

TEST(RecordBatch, AFlippedBitUnderAFreshChecksumIsRefusedOrReadsConsistently) {
  const Bytes original = from_hex(kGoldenHex);
  int accepted = 0;
  for (size_t bit = 8 * kBatchCrcStart; bit < 8 * original.size(); ++bit) {
    Bytes batch = Bytes::copy_of(original.view());
    batch.data()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    fix_crc(batch);
    Result<RecordBatch> flipped = RecordBatch::parse(batch);
    if (!flipped.ok()) continue;
    ReadOutcome outcome = read_all(*flipped);
    if (flipped->codec() != Codec::kNone) {
      EXPECT_FALSE(outcome.status.ok()) << "bit " << bit;
    } else if (flipped->check_records().ok()) {
      ++accepted;  // e.g. a bit of a value or of a timestamp
      EXPECT_TRUE(outcome.status.ok()) << "bit " << bit << ": " << outcome.status.to_string();
      EXPECT_EQ(outcome.offset_deltas, (std::vector<int64_t>{0, 1, 2}));
    }
  }
  EXPECT_GT(accepted, 0);
}

TEST(RecordBatch, IsNotParsedWhenCutAnywhere) {
  Bytes batch = from_hex(kGoldenHex);
  for (size_t size = 0; size < batch.size(); ++size) {
    EXPECT_EQ(parse_code(batch.view().first(size)), Errc::kCorruption) << size;
  }
}

TEST(RecordBatch, RecordsCutAnywhereAreDamagedEvenWithAFittingLength) {
  Bytes whole = from_hex(kGoldenHex);
  for (size_t size = kBatchHeaderBytes; size < whole.size(); ++size) {
    Bytes cut = Bytes::copy_of(whole.view().first(size));
    patch(cut, 8, static_cast<int32_t>(size - kBatchLengthPrefixBytes));
    EXPECT_EQ(check_code(cut), Errc::kCorruption) << size;
    EXPECT_EQ(read_all(parsed(cut)).status.code(), Errc::kCorruption) << size;
  }
}

TEST(RecordBatch, RefusesAFrameThatCannotBe) {
  const Bytes sound = from_hex(kGoldenHex);
  auto with = [&](size_t at, auto value) {
    Bytes batch = Bytes::copy_of(sound.view());
    patch(batch, at, value);
    return parse_code(batch);
  };
  EXPECT_EQ(with(8, int32_t{48}), Errc::kCorruption);
  EXPECT_EQ(with(8, int32_t{89}), Errc::kCorruption);
  EXPECT_EQ(with(8, int32_t{-1}), Errc::kCorruption);
  EXPECT_EQ(with(8, std::numeric_limits<int32_t>::max()), Errc::kCorruption);
  EXPECT_EQ(with(8, std::numeric_limits<int32_t>::min()), Errc::kCorruption);
  EXPECT_EQ(with(16, int8_t{1}), Errc::kCorruption);
  EXPECT_EQ(with(23, int32_t{-1}), Errc::kCorruption);
  EXPECT_EQ(with(23, int32_t{1}), Errc::kCorruption);  // two offsets for three records
  EXPECT_EQ(with(57, int32_t{-1}), Errc::kCorruption);
  Bytes no_offsets = Bytes::copy_of(sound.view());
  patch(no_offsets, 23, int32_t{-1});
  patch(no_offsets, 57, int32_t{0});
  EXPECT_EQ(parse_code(no_offsets), Errc::kCorruption);
  EXPECT_EQ(with(57, int32_t{4}), Errc::kCorruption);
  EXPECT_EQ(with(57, std::numeric_limits<int32_t>::max()), Errc::kCorruption);
  EXPECT_EQ(with(0, int64_t{-1}), Errc::kCorruption);
  EXPECT_EQ(with(0, std::numeric_limits<int64_t>::max() - 2), Errc::kCorruption);
  EXPECT_EQ(with(0, std::numeric_limits<int64_t>::max() - 3), Errc::kOk);
}

TEST(RecordBatch, SaysWhatIsWrong) {
  Bytes batch = from_hex(kGoldenHex);
  patch(batch, 16, int8_t{1});
  EXPECT_EQ(RecordBatch::parse(batch).status().message(), "record batch: magic is 1 instead of 2");
  Bytes damaged = batch_around("10 00 00 00 02 6b 02 76 00 10 00 00 00 02 6b 02 76 00", 2);
  EXPECT_EQ(parsed(damaged).check_records().message(), "record batch: record 1 is damaged");
}

TEST(RecordBatch, PeeksASizeWithinItsBounds) {
  Bytes golden = from_hex(kGoldenHex);
  EXPECT_EQ(RecordBatch::peek_size(golden.view().first(12), 100).value(), 100u);
  EXPECT_EQ(RecordBatch::peek_size(golden, 99).status().code(), Errc::kCorruption);
  EXPECT_EQ(RecordBatch::peek_size(golden.view().first(11), 100).status().code(), Errc::kCorruption);
  patch(golden, 8, int32_t{49});
  EXPECT_EQ(RecordBatch::peek_size(golden, 100).value(), kBatchHeaderBytes);
  patch(golden, 8, int32_t{48});
  EXPECT_EQ(RecordBatch::peek_size(golden, 100).status().code(), Errc::kCorruption);
  patch(golden, 8, int32_t{-1});
  EXPECT_EQ(RecordBatch::peek_size(golden, SIZE_MAX).status().code(), Errc::kCorruption);
}

TEST(RecordBatch, IsStampedInPlaceOutsideTheChecksum) {
  Bytes batch = make_batch({{"k", "v"}});
  RecordBatch::set_base_offset(batch.mutable_view(), Offset(99));
  RecordBatch::set_leader_epoch(batch.mutable_view(), LeaderEpoch(5));
  EXPECT_EQ(parsed(batch).base_offset(), Offset(99));
  EXPECT_EQ(parsed(batch).leader_epoch(), LeaderEpoch(5));
  EXPECT_TRUE(parsed(batch).crc_matches());
}

TEST(RecordBatch, LogAppendTimeReplacesEveryTimestamp) {
  for (Codec codec : {Codec::kNone, Codec::kZstd}) {
    Bytes batch = make_batch({{"a", "1"}, {"b", "2", {}, 17}}, {.codec = codec});
    EXPECT_FALSE(parsed(batch).is_log_append_time());
    RecordBatch::set_log_append_time(batch.mutable_view(), 1234);
    EXPECT_TRUE(parsed(batch).is_log_append_time());
    EXPECT_TRUE(parsed(batch).crc_matches());
    EXPECT_EQ(parsed(batch).codec(), codec);
    EXPECT_EQ(records_of(batch), (std::vector<TestRecord>{{"a", "1", {}, 1234}, {"b", "2", {}, 1234}}));
  }
}

TEST(RecordBatch, TellsItsAttributes) {
  Bytes plain = make_batch({{"k", "v"}});
  EXPECT_FALSE(parsed(plain).is_transactional());
  EXPECT_FALSE(parsed(plain).is_control());
  EXPECT_FALSE(parsed(plain).has_delete_horizon());
  Bytes marked = make_batch({{"k", "v"}}, {.extra_attributes = 0x70});
  EXPECT_TRUE(parsed(marked).is_transactional());
  EXPECT_TRUE(parsed(marked).is_control());
  EXPECT_TRUE(parsed(marked).has_delete_horizon());
}

TEST(RecordBatch, RefusesCodecsThatDoNotExist) {
  for (int16_t code = 5; code <= 7; ++code) {
    Bytes batch = make_batch({{"k", "v"}}, {.extra_attributes = code});
    EXPECT_EQ(parsed(batch).codec(), std::nullopt);
    EXPECT_EQ(check_code(batch), Errc::kCorruption);
    EXPECT_EQ(read_all(parsed(batch)).status.code(), Errc::kCorruption);
  }
}

// Each record: length, attributes, timestamp delta, offset delta, key, value, header count.
TEST(RecordBatch, ChecksThatRecordsAddUp) {
  constexpr std::string_view kSound = "10 00 00 00 02 6b 02 76 00";
  EXPECT_EQ(check_code(batch_around(kSound, 1)), Errc::kOk);
  const struct {
    const char* what;
    const char* records;
  } cases[] = {
      {"no record", ""},
      {"length too short", "0e 00 00 00 02 6b 02 76 00"},
      {"length too long", "12 00 00 00 02 6b 02 76 00"},
      {"length zero", "00"},
      {"length negative", "01 00 00 00 02 6b 02 76 00"},
      {"length with unused bytes inside", "12 00 00 00 02 6b 02 76 00 00"},
      {"bytes after the last record", "10 00 00 00 02 6b 02 76 00 00"},
      {"a second record", "10 00 00 00 02 6b 02 76 00 10 00 00 02 02 6b 02 76 00"},
      {"offset delta 1", "10 00 00 02 02 6b 02 76 00"},
      {"offset delta -1", "10 00 00 01 02 6b 02 76 00"},
      {"key longer than the record", "10 00 00 00 7e 6b 02 76 00"},
      {"key length -2", "10 00 00 00 03 6b 02 76 00"},
      {"value longer than the record", "10 00 00 00 02 6b 7e 76 00"},
      {"value length -2", "10 00 00 00 02 6b 03 76 00"},
      {"key of 2^31 - 1 bytes", "18 00 00 00 feffffff0f 02 76 00 00"},
      {"header count -1", "10 00 00 00 02 6b 02 76 01"},
      {"one header that is not there", "10 00 00 00 02 6b 02 76 02"},
      {"2^31 - 1 headers", "18 00 00 00 02 6b 02 76 feffffff0f"},
      {"2^31 headers", "18 00 00 00 02 6b 02 76 8080808010"},
      {"2^62 headers in a nine-byte varint", "20 00 00 00 02 6b 02 76 808080808080808040"},
      {"header without a key", "14 00 00 00 02 6b 02 76 02 01 01"},
      {"header value length -2", "14 00 00 00 02 6b 02 76 02 00 03"},
      {"varint of six bytes", "1a 00 00 8080808080 00 02 6b 02 76 00"},
      {"timestamp of eleven bytes", "24 00 8080808080808080808000 00 02 6b 02 76 00"},
      {"timestamp beyond 64 bits", "22 00 80808080808080808002 00 02 6b 02 76 00"},
      {"length beyond 32 bits", "ffffffff1f 00 00 00 02 6b 02 76 00"},
      {"length that never ends", "ffffffffffffffffffff"},
  };
  for (const auto& c : cases) {
    Bytes batch = batch_around(c.records, 1);
    EXPECT_EQ(check_code(batch), Errc::kCorruption) << c.what;
    EXPECT_EQ(read_all(parsed(batch)).status.code(), Errc::kCorruption) << c.what;
  }
}

TEST(RecordBatch, AcceptsTheWidestNumbers) {
  // Timestamp delta of ten bytes, and overlong but legal varints.
  Bytes batch = batch_around("22 00 ffffffffffffffffff01 00 02 6b 02 76 00", 1);
  EXPECT_EQ(check_code(batch), Errc::kOk);
  EXPECT_TRUE(read_all(parsed(batch)).status.ok());
  EXPECT_EQ(check_code(batch_around("9000 00 00 00 02 6b 02 76 00", 1)), Errc::kOk);
}

TEST(RecordBatch, AcceptsTheSmallestHeader) {
  Bytes batch = make_batch({{"k", "v", {{"", std::nullopt}}}});
  EXPECT_EQ(check_code(batch), Errc::kOk);
  EXPECT_EQ(records_of(batch), (std::vector<TestRecord>{{"k", "v", {{"", std::nullopt}}}}));
}

// A record with `count` empty headers, behind one without any.
Bytes batch_with_headers(int32_t count, Codec codec = Codec::kNone) {
  return make_batch({{"a", "1"}, {"k", "v", std::vector<testing::TestHeader>(static_cast<size_t>(count))}},
                    {.codec = codec});
}

TEST(RecordBatch, RefusesARecordWithTooManyHeaders) {
  EXPECT_EQ(check_code(batch_with_headers(kRecordHeadersMax)), Errc::kOk);
  for (int32_t count : {kRecordHeadersMax + 1, 1 << 20}) {
    Status status = parsed(batch_with_headers(count)).check_records();
    EXPECT_EQ(status.code(), Errc::kTooLarge);
    EXPECT_EQ(status.message(), "record batch: record 1 has more than 1000 headers");
  }
}

TEST(RecordBatch, RefusesAWrongCountOrLastOffset) {
  for (int32_t count : {0, 1, 2, 4, 1000}) {
    Bytes batch = make_filled_batch(3, 10);
    store_big_endian(batch.data() + 23, std::max(count, 1) - 1);
    patch<int32_t>(batch, 57, count);
    EXPECT_EQ(check_code(batch), Errc::kCorruption) << count;
  }
  Bytes gap = make_filled_batch(3, 10);
  patch<int32_t>(gap, 23, 7);
  EXPECT_EQ(check_code(gap), Errc::kCorruption);
}

TEST(RecordBatch, OfACompressedBatchOnlyTheHeaderIsChecked) {
  Bytes batch = make_batch({{"k", "v"}, {"l", "w"}}, {.codec = Codec::kLz4});
  EXPECT_EQ(check_code(batch), Errc::kOk);
  batch.data()[batch.size() - 6] ^= std::byte{0xff};
  EXPECT_EQ(check_code(batch), Errc::kOk);
  patch<int32_t>(batch, 23, 5);
  EXPECT_EQ(check_code(batch), Errc::kCorruption);
}

TEST(RecordBatch, ChecksWithoutAllocating) {
  Bytes batch = make_filled_batch(10000, 40);
  RecordBatch view = parsed(batch);
  size_t before = allocation_count();
  Status status = view.check_records();
  bool crc = view.crc_matches();
  EXPECT_EQ(allocation_count(), before);
  EXPECT_TRUE(status.ok());
  EXPECT_TRUE(crc);
}

TEST(RecordIterator, ReadsABatchThatCompactionThinned) {
  // Records 1 and 5 of eight offsets.
  Bytes batch = batch_around("10 00 00 02 02 6b 02 76 00 10 00 00 0a 02 6b 02 77 00", 2);
  patch<int32_t>(batch, 23, 7);
  ReadOutcome outcome = read_all(parsed(batch));
  EXPECT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.offset_deltas, (std::vector<int64_t>{1, 5}));
  EXPECT_EQ(parsed(batch).next_offset(), Offset(8));
}

TEST(RecordIterator, ReadsABatchOfWhichOnlyTheHeaderIsLeft) {
  for (int16_t codec = 0; codec <= 4; ++codec) {
    Bytes batch = batch_around("", 1);
    patch<int16_t>(batch, 21, codec);
    patch<int32_t>(batch, 57, 0);
    patch<int32_t>(batch, 23, 7);
    ReadOutcome outcome = read_all(parsed(batch));
    EXPECT_TRUE(outcome.status.ok());
    EXPECT_TRUE(outcome.offset_deltas.empty());
  }
}

TEST(RecordIterator, RefusesOffsetsOutOfOrderOrOutOfTheBatch) {
  Bytes twice = batch_around("10 00 00 02 02 6b 02 76 00 10 00 00 02 02 6b 02 77 00", 2);
  EXPECT_EQ(read_all(parsed(twice)).status.code(), Errc::kCorruption);
  Bytes outside = batch_around("10 00 00 00 02 6b 02 76 00 10 00 00 04 02 6b 02 77 00", 2);
  ReadOutcome outcome = read_all(parsed(outside));
  EXPECT_EQ(outcome.status.code(), Errc::kCorruption);
  EXPECT_EQ(outcome.offset_deltas, (std::vector<int64_t>{0}));
}

TEST(RecordIterator, FailsAgainAfterAFailure) {
  Bytes batch = batch_around("10 00 00 02 02 6b 02 76 01", 1);
  RecordIterator iterator = RecordIterator::open(parsed(batch), kCapBytes).value();
  EXPECT_EQ(iterator.next().status().code(), Errc::kCorruption);
  EXPECT_EQ(iterator.next().status().code(), Errc::kCorruption);
}

TEST(RecordIterator, KeepsItsViewsWhenMoved) {
  Bytes batch = make_batch({{"key", "value"}, {"second", "2"}}, {.codec = Codec::kGzip});
  RecordIterator first = RecordIterator::open(parsed(batch), kCapBytes).value();
  std::optional<RecordView> record = first.next().value();
  RecordIterator second = std::move(first);
  EXPECT_EQ(as_text(*record->value), "value");
  EXPECT_EQ(as_text(*second.next().value()->key), "second");
  EXPECT_FALSE(second.next().value().has_value());
  EXPECT_FALSE(second.next().value().has_value());
}

TEST(RecordIterator, CapsTheDecompressedBlock) {
  for (Codec codec : {Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd}) {
    Bytes batch = make_batch({{"k", std::string(100000, 'x')}}, {.codec = codec});
    EXPECT_EQ(RecordIterator::open(parsed(batch), 100000).status().code(), Errc::kTooLarge);
    EXPECT_TRUE(RecordIterator::open(parsed(batch), 100100).ok());
  }
}

// 8 Mi headers in a block of 16 MiB would be 320 MiB of views, and far fewer bytes are enough to send them.
TEST(RecordIterator, RefusesTooManyHeadersBeforeItMakesRoomForThem) {
  for (Codec codec : {Codec::kNone, Codec::kZstd}) {
    EXPECT_TRUE(read_all(parsed(batch_with_headers(kRecordHeadersMax, codec))).status.ok());
    Bytes batch = batch_with_headers(kRecordHeadersMax + 1, codec);
    RecordIterator iterator = RecordIterator::open(parsed(batch), kCapBytes).value();
    ASSERT_TRUE(iterator.next().ok());
    size_t before = allocation_count();
    Status status = iterator.next().status();
    size_t allocated = allocation_count() - before;
    EXPECT_EQ(status.code(), Errc::kTooLarge);
    EXPECT_EQ(status.message(), "record batch: the record after offset delta 0 has more than 1000 headers");
    EXPECT_LT(allocated, 10u);
    EXPECT_EQ(iterator.next().status().code(), Errc::kTooLarge);
  }
}

TEST(RecordIterator, FindsALieInsideACompressedBatch) {
  for (Codec codec : {Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd}) {
    for (int32_t count : {1, 2, 4}) {
      Bytes batch = make_batch({{"a", "1"}, {"b", "2"}, {"c", "3"}}, {.codec = codec});
      store_big_endian(batch.data() + 23, count - 1);
      patch<int32_t>(batch, 57, count);
      EXPECT_EQ(check_code(batch), Errc::kOk);
      EXPECT_EQ(read_all(parsed(batch)).status.code(), Errc::kCorruption) << count;
    }
  }
}

}  // namespace
}  // namespace trilog
