#include "storage/record/compression.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "storage/base/codec.h"
#include "tests/support/hex.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TRILOG_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TRILOG_SANITIZED 1
#endif
#endif
#ifndef TRILOG_SANITIZED
#define TRILOG_SANITIZED 0
#endif

namespace trilog {
namespace {

using testing::from_hex;

constexpr size_t kMiB = size_t{1} << 20;
constexpr Codec kPacked[] = {Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd};

// What the golden blocks below hold; they were made by other programs than ours (Python's zlib, lz4, zstandard and
// snappy modules and kafka-python's xerial framing).
std::string golden_text() {
  std::string text;
  for (int i = 0; i < 8; ++i) text += "one log, two logs, three logs; ";
  return text;
}

constexpr std::string_view kXerialBlock =
    "82534e4150505900000000010000000100000023642c6f6e65206c6f672c2074776f010918732c2074687265051508733b20fe1f00051f"
    "0000002164402c2074776f206c6f67732c207468726565050c0c3b206f6e050afe1f00051f0000002e30486f67732c207468726565206c"
    "6f67733b206f6e050a102c2074776f0513342c207468726565206c6f67733b20";
constexpr std::string_view kGzipBlock =
    "1f8b0800000000000203cbcf4b55c8c94fd7512829cf07318a81ac8ca254b060b1b542fe70950600ea498a68f8000000";
constexpr std::string_view kSnappyBlock =
    "f8012c6f6e65206c6f672c2074776f010918732c2074687265051508733b20fe1f00fe1f00fe1f00621f00";
constexpr std::string_view kLz4Block =
    "04224d186840f800000000000000fd26000000c06f6e65206c6f672c2074776f090071732c207468726515003f733b201f00c1506f6773"
    "3b2000000000";
constexpr std::string_view kLz4LinkedBlock =
    "04224d186c40f800000000000000dd26000000c06f6e65206c6f672c2074776f090071732c207468726515003f733b201f00c1506f6773"
    "3b2000000000a1d50d46";
constexpr std::string_view kZstdBlock =
    "28b52ffd24f8150100b06f6e65206c6f672c2074776f732c2074687265733b20030056a168e06cc3b52401b9427e0e";
constexpr std::string_view kZstdStreamedBlock =
    "28b52ffd0058250100d06f6e65206c6f672c2074776f206c6f67732c2074687265733b20020056a168c4763601";

struct Golden {
  Codec codec;
  std::string_view hex;
};
constexpr Golden kGolden[] = {
    {Codec::kGzip, kGzipBlock},         {Codec::kSnappy, kSnappyBlock}, {Codec::kSnappy, kXerialBlock},
    {Codec::kLz4, kLz4Block},           {Codec::kLz4, kLz4LinkedBlock}, {Codec::kZstd, kZstdBlock},
    {Codec::kZstd, kZstdStreamedBlock},
};

Bytes zeros(size_t size) {
  Bytes bytes(size);
  std::fill_n(bytes.data(), size, std::byte{0});
  return bytes;
}

// Bytes that no codec can shorten.
Bytes noise(size_t size) {
  Bytes bytes(size);
  uint64_t state = 88172645463325252;
  for (size_t i = 0; i < size; ++i) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    bytes.data()[i] = static_cast<std::byte>(state);
  }
  return bytes;
}

Bytes repeated(ByteView piece, int times) {
  Bytes all;
  all.reserve(piece.size() * static_cast<size_t>(times));
  for (int i = 0; i < times; ++i) all.append(piece);
  return all;
}

// One gibibyte of zeros in a few megabytes (snappy: fifty), put together from smaller blocks as each format allows.
Bytes gibibyte_bomb(Codec codec) {
  if (codec == Codec::kLz4) {  // frame header of 7 bytes, blocks, end mark of 4
    Bytes frame = compress(codec, zeros(64 << 10)).value();
    Bytes bomb = Bytes::copy_of(frame.view().first(7));
    bomb.append(repeated(frame.view().subspan(7, frame.size() - 11), 16384));
    bomb.append(frame.view().last(4));
    return bomb;
  }
  Bytes part = compress(codec, zeros(64 * kMiB)).value();
  if (codec != Codec::kSnappy) return repeated(part, 16);
  Bytes bomb = from_hex("82534e41505059000000000100000001");
  Bytes block;
  ByteWriter(block).write(static_cast<uint32_t>(part.size()));
  block.append(part);
  bomb.append(repeated(block, 16));
  return bomb;
}

// Starts measuring the highest resident set anew. False where the system does not offer that, or where a sanitizer's
// shadow and quarantine would be measured instead.
bool start_peak() {
#if TRILOG_SANITIZED
  return false;
#else
  std::ofstream reset("/proc/self/clear_refs");
  reset << "5" << std::flush;
  return reset.good();
#endif
}
size_t resident_bytes(const char* field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(field, 0) == 0) return std::stoul(line.substr(std::strlen(field))) * 1024;
  }
  return 0;
}

TEST(Compression, NamesEveryCodecAndFindsItAgain) {
  for (Codec codec : {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd}) {
    EXPECT_EQ(codec_from_name(codec_name(codec)), codec);
  }
  EXPECT_EQ(codec_name(Codec::kZstd), "zstd");
  EXPECT_EQ(codec_from_name("brotli"), std::nullopt);
  EXPECT_EQ(codec_from_name(""), std::nullopt);
}

TEST(Compression, GivesBackWhatWentIn) {
  for (Codec codec : {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd}) {
    for (size_t size : {size_t{0}, size_t{1}, size_t{100}, size_t{65536}, size_t{70001}, 9 * kMiB}) {
      for (bool packable : {false, true}) {
        SCOPED_TRACE(std::string(codec_name(codec)) + " " + std::to_string(size));
        Bytes input = packable ? zeros(size) : noise(size);
        Result<Bytes> block = compress(codec, input);
        ASSERT_TRUE(block.ok()) << block.status().to_string();
        Result<Bytes> output = decompress(codec, *block, size);
        ASSERT_TRUE(output.ok()) << output.status().to_string();
        EXPECT_TRUE(bytes_equal(*output, input));
      }
    }
  }
}

TEST(Compression, ReadsBlocksOfOtherImplementations) {
  const std::string text = golden_text();
  for (const Golden& golden : kGolden) {
    SCOPED_TRACE(golden.hex);
    Result<Bytes> output = decompress(golden.codec, from_hex(golden.hex), text.size());
    ASSERT_TRUE(output.ok()) << output.status().to_string();
    EXPECT_EQ(as_text(*output), text);
  }
}

TEST(Compression, AcceptsExactlyTheLimitAndNotOneByteMore) {
  const std::string text = golden_text();
  for (const Golden& golden : kGolden) {
    SCOPED_TRACE(golden.hex);
    Bytes block = from_hex(golden.hex);
    EXPECT_TRUE(decompress(golden.codec, block, text.size()).ok());
    EXPECT_EQ(decompress(golden.codec, block, text.size() - 1).status().code(), Errc::kTooLarge);
    EXPECT_EQ(decompress(golden.codec, block, 0).status().code(), Errc::kTooLarge);
  }
  EXPECT_EQ(decompress(Codec::kNone, as_bytes(text), text.size() - 1).status().code(), Errc::kTooLarge);
}

TEST(Compression, RefusesABlockCutAnywhere) {
  for (const Golden& golden : kGolden) {
    Bytes block = from_hex(golden.hex);
    for (size_t size = 0; size < block.size(); ++size) {
      SCOPED_TRACE(std::string(golden.hex) + " cut at " + std::to_string(size));
      // A xerial stream may end after any of its blocks: the record count of the batch finds that loss.
      if (golden.hex == kXerialBlock && (size == 16 || size == 55 || size == 92)) continue;
      EXPECT_EQ(decompress(golden.codec, block.view().first(size), kMiB).status().code(), Errc::kCorruption);
    }
  }
}

TEST(Compression, RefusesBytesAfterTheEnd) {
  for (const Golden& golden : kGolden) {
    for (std::string_view garbage : {std::string_view("\0", 1), std::string_view("x"), std::string_view("garbage!")}) {
      SCOPED_TRACE(golden.hex);
      Bytes block = from_hex(golden.hex);
      block.append(as_bytes(garbage));
      EXPECT_EQ(decompress(golden.codec, block, kMiB).status().code(), Errc::kCorruption);
    }
  }
}

TEST(Compression, SurvivesEveryFlippedBit) {
  const std::string text = golden_text();
  for (const Golden& golden : kGolden) {
    Bytes block = from_hex(golden.hex);
    for (size_t bit = 0; bit < 8 * block.size(); ++bit) {
      block.data()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
      Result<Bytes> output = decompress(golden.codec, block, 4096);
      if (output.ok()) {
        EXPECT_LE(output->size(), 4096u);
      } else {
        EXPECT_TRUE(output.status().code() == Errc::kCorruption || output.status().code() == Errc::kTooLarge)
            << output.status().to_string();
      }
      block.data()[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    }
  }
}

TEST(Compression, TakesSeveralMembersOfGzipAndFramesOfZstd) {
  for (Codec codec : {Codec::kGzip, Codec::kZstd}) {
    Bytes two = compress(codec, as_bytes("one ")).value();
    two.append(compress(codec, as_bytes("two")).value());
    EXPECT_EQ(as_text(decompress(codec, two, 7).value()), "one two");
    EXPECT_EQ(decompress(codec, two, 6).status().code(), Errc::kTooLarge);
  }
}

TEST(Compression, WritesIndependentLz4BlocksBecauseJavaReadsNoOthers) {
  Bytes frame = compress(Codec::kLz4, noise(200000)).value();
  EXPECT_NE(static_cast<int>(frame.data()[4]) & 0x20, 0);
}

TEST(Compression, ABombIsTooLargeAndTakesNoMoreMemoryThanItsLimit) {
  constexpr size_t kLimit = 16 * kMiB;
  constexpr size_t kSlack = 2 * kMiB;  // the allocator's rounding and the libraries' own state
  for (Codec codec : kPacked) {
    SCOPED_TRACE(codec_name(codec));
    Bytes bomb = gibibyte_bomb(codec);
    bool measured = start_peak();
    size_t before = resident_bytes("VmRSS:");
    EXPECT_EQ(decompress(codec, bomb, kLimit).status().code(), Errc::kTooLarge);
    if (!measured) continue;
    EXPECT_LE(resident_bytes("VmHWM:"), before + kLimit + 8 * kMiB + kSlack);
  }
}

TEST(Compression, ALyingLengthAllocatesNothing) {
  // Raw snappy that promises 2^32 - 1 bytes, xerial blocks that promise it, and a xerial block longer than its stream.
  for (std::string_view hex : {"ffffffff0f", "ffffffff0f00", "82534e4150505900 00000001 00000001 00000006 ffffffff0f00",
                               "82534e4150505900 00000001 00000001 ffffffff 0100"}) {
    EXPECT_EQ(decompress(Codec::kSnappy, from_hex(hex), SIZE_MAX).status().code(), Errc::kCorruption) << hex;
  }
  // LZ4 and zstd frames that promise 2^62 bytes of content and hold none, or one.
  EXPECT_EQ(decompress(Codec::kLz4, from_hex("04224d18 4840 0000000000000040 27"), kMiB).status().code(),
            Errc::kCorruption);
  Bytes zstd = from_hex("28b52ffd c0 68 0000000000000040 090000 78");
  EXPECT_EQ(decompress(Codec::kZstd, zstd, kMiB).status().code(), Errc::kCorruption);
}

TEST(Compression, RefusesAZstdWindowOfMoreThanEightMebibytes) {
  // Magic, frame header with only a window descriptor (exponent - 10, eighths), one empty last block.
  EXPECT_EQ(decompress(Codec::kZstd, from_hex("28b52ffd 00 68 010000"), kMiB).value().size(), 0u);  // 2^23
  for (std::string_view hex : {"28b52ffd 00 69 010000",     // 2^23 and an eighth
                               "28b52ffd 00 70 010000",     // 2^24
                               "28b52ffd 00 a8 010000",     // 2^31
                               "28b52ffd 00 ff 010000"}) {  // nearly 2^42
    EXPECT_EQ(decompress(Codec::kZstd, from_hex(hex), kMiB).status().code(), Errc::kTooLarge) << hex;
  }
}

// Formats of before 1.0 have decoders without a limit, and frames to be skipped are a place to hide anything.
TEST(Compression, RefusesZstdFramesThatAreNotOfTodaysFormat) {
  for (std::string_view hex : {"27b52ffd601700c504ff27b52ffd008253", "26b52ffd601700c504ff27b52ffd008253",
                               "25b52ffd601700c504ff27b52ffd008253", "502a4d18 04000000 00000000"}) {
    EXPECT_EQ(decompress(Codec::kZstd, from_hex(hex), kMiB).status().code(), Errc::kCorruption) << hex;
    Bytes behind_a_sound_one = from_hex(kZstdBlock);
    behind_a_sound_one.append(from_hex(hex));
    EXPECT_EQ(decompress(Codec::kZstd, behind_a_sound_one, kMiB).status().code(), Errc::kCorruption) << hex;
  }
}

}  // namespace
}  // namespace trilog
