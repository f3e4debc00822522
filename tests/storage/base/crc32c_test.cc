#include "storage/base/crc32c.h"

#include <gtest/gtest.h>

#include <random>

namespace trilog {
namespace {

Bytes random_bytes(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  Bytes bytes(size);
  for (std::byte& b : bytes.mutable_view()) b = static_cast<std::byte>(random());
  return bytes;
}

// Values of RFC 3720 (iSCSI), appendix B.4.
TEST(Crc32c, MatchesThePublishedValues) {
  std::byte zeros[32] = {};
  std::byte ones[32];
  std::byte rising[32];
  std::byte falling[32];
  for (int i = 0; i < 32; ++i) {
    ones[i] = std::byte{0xff};
    rising[i] = static_cast<std::byte>(i);
    falling[i] = static_cast<std::byte>(31 - i);
  }
  for (auto* checksum : {&crc32c, &crc32c_software}) {
    EXPECT_EQ(checksum(as_bytes("123456789"), 0), 0xe3069283);
    EXPECT_EQ(checksum(ByteView(zeros), 0), 0x8a9136aa);
    EXPECT_EQ(checksum(ByteView(ones), 0), 0x62a8ab43);
    EXPECT_EQ(checksum(ByteView(rising), 0), 0x46dd794e);
    EXPECT_EQ(checksum(ByteView(falling), 0), 0x113fdb5c);
    EXPECT_EQ(checksum({}, 0), 0u);
  }
}

TEST(Crc32c, TheFastVersionAgreesWithThePortableOneForEveryLengthAndAlignment) {
  Bytes bytes = random_bytes(40'000, 1);
  for (size_t size = 0; size < 1700; ++size) {
    ByteView part = bytes.view().subspan(size % 9, size);
    ASSERT_EQ(crc32c(part), crc32c_software(part)) << size;
  }
  // Around the bounds of the interleaved lanes.
  for (size_t lanes : {3u * 256, 3u * 4096, 6u * 4096, 3u * 4096 + 3u * 256}) {
    for (size_t size = lanes - 17; size < lanes + 17; ++size) {
      ByteView part = bytes.view().subspan(3, size);
      ASSERT_EQ(crc32c(part), crc32c_software(part)) << size;
    }
  }
}

TEST(Crc32c, ContinuesFromTheChecksumOfAPrefix) {
  Bytes bytes = random_bytes(20'000, 2);
  uint32_t whole = crc32c(bytes);
  for (size_t cut : {size_t{0}, size_t{1}, size_t{7}, size_t{768}, size_t{13'000}, bytes.size()}) {
    EXPECT_EQ(crc32c(bytes.view().subspan(cut), crc32c(bytes.view().subspan(0, cut))), whole) << cut;
  }
}

TEST(Crc32c, EverySingleBitFlipChangesIt) {
  Bytes bytes = random_bytes(1024, 3);
  uint32_t whole = crc32c(bytes);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes.data()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    ASSERT_NE(crc32c(bytes), whole) << bit;
    bytes.data()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
  }
}

}  // namespace
}  // namespace trilog
