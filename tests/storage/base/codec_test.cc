#include "storage/base/codec.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace trilog {
namespace {

template <size_t N>
ByteView view_of(const uint8_t (&bytes)[N]) {
  return {reinterpret_cast<const std::byte*>(bytes), N};
}

TEST(Codec, IntegersAreBigEndian) {
  Bytes out;
  ByteWriter writer(out);
  writer.write<int8_t>(-2);
  writer.write<uint16_t>(0x0102);
  writer.write<int32_t>(-2);
  writer.write<uint64_t>(0x0102030405060708);
  const uint8_t expected[] = {0xfe, 1, 2, 0xff, 0xff, 0xff, 0xfe, 1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_TRUE(bytes_equal(out, view_of(expected)));

  ByteReader reader(out);
  EXPECT_EQ(reader.read<int8_t>(), -2);
  EXPECT_EQ(reader.read<uint16_t>(), 0x0102);
  EXPECT_EQ(reader.read<int32_t>(), -2);
  EXPECT_EQ(reader.read<uint64_t>(), 0x0102030405060708u);
  EXPECT_TRUE(reader.ok());
  EXPECT_TRUE(reader.at_end());
}

struct VarintCase {
  uint64_t value;
  std::vector<uint8_t> bytes;
};

TEST(Codec, VarintsMatchTheirPublishedBytes) {
  const VarintCase cases[] = {
      {0, {0}},
      {127, {0x7f}},
      {128, {0x80, 1}},
      {300, {0xac, 2}},
      {16384, {0x80, 0x80, 1}},
      {std::numeric_limits<uint64_t>::max(), {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}},
  };
  for (const VarintCase& c : cases) {
    Bytes out;
    ByteWriter(out).write_varint(c.value);
    EXPECT_TRUE(bytes_equal(out, {reinterpret_cast<const std::byte*>(c.bytes.data()), c.bytes.size()})) << c.value;
    EXPECT_EQ(varint_size(c.value), c.bytes.size()) << c.value;
    ByteReader reader(out);
    EXPECT_EQ(reader.read_varint(), c.value);
    EXPECT_TRUE(reader.ok() && reader.at_end());
  }
}

TEST(Codec, ZigzagPutsSmallNumbersOfEitherSignFirst) {
  const std::pair<int64_t, uint64_t> cases[] = {{0, 0}, {-1, 1}, {1, 2}, {-2, 3}, {2147483647, 4294967294u}};
  for (auto [value, encoded] : cases) {
    EXPECT_EQ(zigzag_encode(value), encoded);
    EXPECT_EQ(zigzag_decode(encoded), value);
  }
}

TEST(Codec, SignedVarintsOfEveryPowerOfTwoSurviveARoundTrip) {
  for (int shift = 0; shift < 64; ++shift) {
    for (uint64_t delta : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
      auto value = static_cast<int64_t>((uint64_t{1} << shift) + delta);
      for (int64_t number : {value, static_cast<int64_t>(-static_cast<uint64_t>(value))}) {
        Bytes out;
        ByteWriter(out).write_signed_varint(number);
        EXPECT_EQ(out.size(), signed_varint_size(number));
        ByteReader reader(out);
        EXPECT_EQ(reader.read_signed_varint(), number);
        EXPECT_TRUE(reader.ok() && reader.at_end());
      }
    }
  }
}

TEST(Codec, AVarintOfElevenBytesOrMoreThan64BitsFails) {
  const uint8_t too_long[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1};
  const uint8_t too_large[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2};
  for (ByteView bytes : {view_of(too_long), view_of(too_large)}) {
    ByteReader reader(bytes);
    EXPECT_EQ(reader.read_varint(), 0u);
    EXPECT_FALSE(reader.ok());
  }
}

TEST(Codec, AReaderThatFailedOnceAnswersNothingMore) {
  const uint8_t bytes[] = {1, 2, 3};
  ByteReader reader(view_of(bytes));
  EXPECT_EQ(reader.read<uint32_t>(), 0u);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.read<uint8_t>(), 0);
  EXPECT_EQ(reader.read_varint(), 0u);
  EXPECT_TRUE(reader.read_bytes(1).empty());
  EXPECT_EQ(reader.read_text(), "");
  EXPECT_EQ(reader.remaining(), 0u);
}

TEST(Codec, EveryPrefixOfAMessageFailsWithoutReadingPastItsEnd) {
  Bytes message;
  ByteWriter writer(message);
  writer.write<int64_t>(42);
  writer.write_text("a name");
  writer.write_signed_varint(-12345678);
  writer.write_sized_bytes(as_bytes("payload"));
  for (size_t size = 0; size <= message.size(); ++size) {
    Bytes prefix =
        Bytes::copy_of(message.view().subspan(0, size));  // its own buffer, so that a sanitizer sees overruns
    ByteReader reader(prefix);
    int64_t number = reader.read<int64_t>();
    std::string name(reader.read_text());
    int64_t varint = reader.read_signed_varint();
    ByteView payload = reader.read_sized_bytes();
    EXPECT_EQ(reader.ok(), size == message.size());
    if (!reader.ok()) continue;
    EXPECT_EQ(number, 42);
    EXPECT_EQ(name, "a name");
    EXPECT_EQ(varint, -12345678);
    EXPECT_EQ(as_text(payload), "payload");
  }
}

TEST(Codec, ALengthBeyondTheInputFails) {
  Bytes out;
  ByteWriter writer(out);
  writer.write_varint(std::numeric_limits<uint64_t>::max());
  writer.write_bytes(as_bytes("abc"));
  ByteReader reader(out);
  EXPECT_TRUE(reader.read_sized_bytes().empty());
  EXPECT_FALSE(reader.ok());
}

TEST(Codec, StoredNumbersAreLoadedAgain) {
  std::byte place[8];
  store_big_endian<int64_t>(place, std::numeric_limits<int64_t>::min());
  EXPECT_EQ(load_big_endian<int64_t>(place), std::numeric_limits<int64_t>::min());
  store_big_endian<int16_t>(place, -2);
  EXPECT_EQ(static_cast<uint8_t>(place[1]), 0xfe);
  EXPECT_EQ(load_big_endian<int16_t>(place), -2);
}

}  // namespace
}  // namespace trilog
