#include "storage/record/compression.h"

#include <lz4frame.h>
#include <snappy.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>

#include "storage/base/codec.h"

namespace trilog {
namespace {

constexpr std::string_view kNames[] = {"none", "gzip", "snappy", "lz4", "zstd"};

// A batch is shorter than 2 GiB, and zlib counts in 32 bits.
constexpr size_t kBlockBytesMax = std::numeric_limits<int32_t>::max();
constexpr int kZstdLevel = 3;
constexpr int kZstdWindowLogMax = 23;     // 8 MiB (fault F25: a frame may ask for 2 GiB)
constexpr int kGzipWindowBits = 15 + 16;  // the largest window, and the gzip wrapper rather than zlib's

// Snappy's best bargain is a three-byte copy of 64 bytes; a length that promises more than that is a lie.
constexpr size_t kSnappyRatioMax = 22;
// The stream header of snappy-java: eight bytes of magic, then two 32-bit version numbers. Blocks follow, each a
// big-endian 32-bit size and that many bytes of raw snappy.
constexpr char kXerialMagic[] = "\x82SNAPPY";  // with its terminating zero
constexpr size_t kXerialHeaderBytes = 16;

Status corrupt(std::string_view codec, std::string_view what) {
  return {Errc::kCorruption, std::string(codec) + " block: " + std::string(what)};
}

Status too_large(size_t size_max) {
  return {Errc::kTooLarge, "decompressed records exceed " + std::to_string(size_max) + " bytes"};
}

// Where a streaming decoder writes. Grows by doubling and jumps to the limit once it is past half of it, so that old
// and new buffer together never hold more touched bytes than the limit. One byte beyond the limit tells "exactly full"
// from "too much".
class Output {
 public:
  Output(size_t size_max, size_t input_size) : size_max_(size_max) {
    buffer_.resize_uninitialized(std::min(size_max_ + 1, std::max<size_t>(4096, 4 * input_size)));
  }

  // Never empty as long as over() is false.
  MutableByteView room() {
    if (used_ == buffer_.size()) {
      size_t grown = buffer_.size() > size_max_ / 4 ? size_max_ + 1 : 2 * buffer_.size();
      buffer_.reserve(grown);
      buffer_.resize_uninitialized(grown);
    }
    return buffer_.mutable_view().subspan(used_);
  }
  void advance(size_t bytes) { used_ += bytes; }
  bool over() const { return used_ > size_max_; }
  Bytes take() {
    buffer_.resize_uninitialized(used_);
    return std::move(buffer_);
  }

 private:
  const size_t size_max_;
  Bytes buffer_;
  size_t used_ = 0;
};

Result<Bytes> gzip_compress(ByteView bytes) {
  z_stream stream{};
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzipWindowBits, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    return Status(Errc::kFailed, "zlib could not start compressing");
  }
  std::unique_ptr<z_stream, decltype(&deflateEnd)> guard(&stream, deflateEnd);
  Bytes out(deflateBound(&stream, bytes.size()));
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  if (deflate(&stream, Z_FINISH) != Z_STREAM_END) return Status(Errc::kFailed, "zlib could not compress");
  out.resize_uninitialized(out.size() - stream.avail_out);
  return out;
}

// A gzip file may have several members, and Java's reader takes them all: so do we.
Result<Bytes> gzip_decompress(ByteView bytes, size_t size_max) {
  z_stream stream{};
  if (inflateInit2(&stream, kGzipWindowBits) != Z_OK) return Status(Errc::kFailed, "zlib could not start inflating");
  std::unique_ptr<z_stream, decltype(&inflateEnd)> guard(&stream, inflateEnd);
  Output output(size_max, bytes.size());
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  for (;;) {
    MutableByteView room = output.room();
    stream.next_out = reinterpret_cast<Bytef*>(room.data());
    stream.avail_out = static_cast<uInt>(room.size());
    int code = inflate(&stream, Z_NO_FLUSH);
    output.advance(room.size() - stream.avail_out);
    if (output.over()) return too_large(size_max);
    if (code == Z_STREAM_END) {
      if (stream.avail_in == 0) return output.take();
      inflateReset(&stream);
    } else if (code == Z_BUF_ERROR) {  // no progress: all input is used up and the stream has not ended
      return corrupt("gzip", "truncated");
    } else if (code != Z_OK) {
      return corrupt("gzip", stream.msg != nullptr ? stream.msg : "damaged");
    }
  }
}

Result<Bytes> snappy_compress(ByteView bytes) {
  Bytes out(snappy::MaxCompressedLength(bytes.size()));
  size_t size = 0;
  snappy::RawCompress(as_text(bytes).data(), bytes.size(), reinterpret_cast<char*>(out.data()), &size);
  out.resize_uninitialized(size);
  return out;
}

// The size that a raw snappy block promises, if it can keep the promise.
Result<size_t> snappy_size(ByteView block) {
  size_t size = 0;
  if (!snappy::GetUncompressedLength(as_text(block).data(), block.size(), &size)) {
    return corrupt("snappy", "no length");
  }
  if (size / kSnappyRatioMax > block.size()) return corrupt("snappy", "impossible length");
  return size;
}

Status snappy_block(ByteView block, MutableByteView out) {
  char nothing;
  char* to = out.empty() ? &nothing : reinterpret_cast<char*>(out.data());
  if (!snappy::RawUncompress(as_text(block).data(), block.size(), to)) return corrupt("snappy", "damaged");
  return {};
}

// Calls visit(block, its decompressed size) for each block of a xerial stream.
template <typename Visit>
Status for_each_xerial_block(ByteView bytes, Visit visit) {
  ByteReader reader(bytes.subspan(kXerialHeaderBytes));
  while (!reader.at_end()) {
    auto size = reader.read<uint32_t>();
    ByteView block = reader.read_bytes(size);
    if (!reader.ok()) return corrupt("snappy", "truncated");
    size_t decompressed_size = TRY(snappy_size(block));
    TRY(visit(block, decompressed_size));
  }
  return {};
}

Result<Bytes> xerial_decompress(ByteView bytes, size_t size_max) {
  size_t total = 0;
  TRY(for_each_xerial_block(bytes, [&](ByteView, size_t size) {
    total += size;
    return total > size_max ? too_large(size_max) : Status();
  }));
  Bytes out(total);
  size_t at = 0;
  TRY(for_each_xerial_block(bytes, [&](ByteView block, size_t size) {
    at += size;
    return snappy_block(block, out.mutable_view().subspan(at - size, size));
  }));
  return out;
}

// Raw snappy cannot be mistaken for the xerial magic: its first element would be a copy from before the start.
Result<Bytes> snappy_decompress(ByteView bytes, size_t size_max) {
  if (bytes.size() >= kXerialHeaderBytes && std::memcmp(bytes.data(), kXerialMagic, sizeof(kXerialMagic)) == 0) {
    return xerial_decompress(bytes, size_max);
  }
  size_t size = TRY(snappy_size(bytes));
  if (size > size_max) return too_large(size_max);
  Bytes out(size);
  TRY(snappy_block(bytes, out.mutable_view()));
  return out;
}

// Java's reader refuses linked blocks, so none are written; both kinds are read.
Result<Bytes> lz4_compress(ByteView bytes) {
  LZ4F_preferences_t preferences{};
  preferences.frameInfo.blockMode = LZ4F_blockIndependent;
  preferences.frameInfo.blockSizeID = LZ4F_max64KB;
  Bytes out(LZ4F_compressFrameBound(bytes.size(), &preferences));
  size_t size = LZ4F_compressFrame(out.data(), out.size(), bytes.data(), bytes.size(), &preferences);
  if (LZ4F_isError(size) != 0) return Status(Errc::kFailed, "LZ4 could not compress");
  out.resize_uninitialized(size);
  return out;
}

Result<Bytes> lz4_decompress(ByteView bytes, size_t size_max) {
  LZ4F_dctx* context = nullptr;
  if (LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)) != 0) {
    return Status(Errc::kFailed, "LZ4 could not start decompressing");
  }
  std::unique_ptr<LZ4F_dctx, decltype(&LZ4F_freeDecompressionContext)> guard(context, LZ4F_freeDecompressionContext);
  Output output(size_max, bytes.size());
  for (;;) {
    MutableByteView room = output.room();
    size_t written = room.size();
    size_t read = bytes.size();
    size_t code = LZ4F_decompress(context, room.data(), &written, bytes.data(), &read, nullptr);
    if (LZ4F_isError(code) != 0) return corrupt("lz4", LZ4F_getErrorName(code));
    output.advance(written);
    if (output.over()) return too_large(size_max);
    bytes = bytes.subspan(read);
    if (code == 0) {
      if (!bytes.empty()) return corrupt("lz4", "bytes after the end of the frame");
      return output.take();
    }
    if (read == 0 && written == 0) return corrupt("lz4", "truncated");
  }
}

Result<Bytes> zstd_compress(ByteView bytes) {
  Bytes out(ZSTD_compressBound(bytes.size()));
  size_t size = ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), kZstdLevel);
  if (ZSTD_isError(size) != 0) return Status(Errc::kFailed, "zstd could not compress");
  out.resize_uninitialized(size);
  return out;
}

// Whether a frame of today's format begins here. The library also reads the formats from before 1.0, whose decoders
// know no limit of the window and would allocate 128 MiB for thirty bytes (found by fuzzing); no Kafka client writes
// those.
bool begins_zstd_frame(const ZSTD_inBuffer& in) {
  uint32_t magic = 0;
  if (in.size - in.pos < sizeof(magic)) return false;
  std::memcpy(&magic, static_cast<const std::byte*>(in.src) + in.pos, sizeof(magic));
  return magic == ZSTD_MAGICNUMBER;
}

Result<Bytes> zstd_decompress(ByteView bytes, size_t size_max) {
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
  if (context == nullptr ||
      ZSTD_isError(ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kZstdWindowLogMax)) != 0) {
    return Status(Errc::kFailed, "zstd could not start decompressing");
  }
  Output output(size_max, bytes.size());
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  for (bool at_frame = true;;) {
    if (at_frame && !begins_zstd_frame(in)) return corrupt("zstd", "no frame");
    MutableByteView room = output.room();
    ZSTD_outBuffer out{room.data(), room.size(), 0};
    size_t read_before = in.pos;
    size_t code = ZSTD_decompressStream(context.get(), &out, &in);
    if (ZSTD_isError(code) != 0) {
      if (ZSTD_getErrorCode(code) == ZSTD_error_frameParameter_windowTooLarge) {
        return Status(Errc::kTooLarge, "zstd block: needs a window of more than 8 MiB");
      }
      return corrupt("zstd", ZSTD_getErrorName(code));
    }
    output.advance(out.pos);
    if (output.over()) return too_large(size_max);
    if (code == 0 && in.pos == in.size) return output.take();
    if (in.pos == read_before && out.pos == 0) return corrupt("zstd", "truncated");
    at_frame = code == 0;
  }
}

}  // namespace

std::string_view codec_name(Codec codec) { return kNames[static_cast<size_t>(codec)]; }

std::optional<Codec> codec_from_name(std::string_view name) {
  const auto* found = std::find(std::begin(kNames), std::end(kNames), name);
  if (found == std::end(kNames)) return std::nullopt;
  return static_cast<Codec>(found - std::begin(kNames));
}

Result<Bytes> compress(Codec codec, ByteView bytes) {
  if (bytes.size() > kBlockBytesMax) return Status(Errc::kTooLarge, "a block to compress is shorter than 2 GiB");
  switch (codec) {
    case Codec::kNone: return Bytes::copy_of(bytes);
    case Codec::kGzip: return gzip_compress(bytes);
    case Codec::kSnappy: return snappy_compress(bytes);
    case Codec::kLz4: return lz4_compress(bytes);
    case Codec::kZstd: return zstd_compress(bytes);
  }
  UNREACHABLE("Codec");
}

Result<Bytes> decompress(Codec codec, ByteView bytes, size_t size_max) {
  if (bytes.size() > kBlockBytesMax) return Status(Errc::kTooLarge, "a compressed block is shorter than 2 GiB");
  size_max = std::min(size_max, kBlockBytesMax);
  switch (codec) {
    case Codec::kNone:
      if (bytes.size() > size_max) return too_large(size_max);
      return Bytes::copy_of(bytes);
    case Codec::kGzip: return gzip_decompress(bytes, size_max);
    case Codec::kSnappy: return snappy_decompress(bytes, size_max);
    case Codec::kLz4: return lz4_decompress(bytes, size_max);
    case Codec::kZstd: return zstd_decompress(bytes, size_max);
  }
  UNREACHABLE("Codec");
}

}  // namespace trilog
