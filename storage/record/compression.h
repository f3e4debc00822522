// The five codecs of a record batch behind one pair of functions. Frame formats are Kafka's: gzip, snappy (raw and the
// "xerial" framing of the Java client), the LZ4 frame format, zstd.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "storage/base/bytes.h"
#include "storage/base/status.h"

namespace trilog {

enum class Codec : uint8_t { kNone = 0, kGzip = 1, kSnappy = 2, kLz4 = 3, kZstd = 4 };

std::string_view codec_name(Codec codec);  // "none", "gzip", "snappy", "lz4", "zstd"
std::optional<Codec> codec_from_name(std::string_view name);

// kNone copies.
Result<Bytes> compress(Codec codec, ByteView bytes);

// At most `size_max` bytes come out, and never more memory than about that plus 8 MiB of window: a bomb (fault F25) is
// kTooLarge, damaged input kCorruption. Trailing garbage after the stream is kCorruption.
Result<Bytes> decompress(Codec codec, ByteView bytes, size_t size_max);

}  // namespace trilog
