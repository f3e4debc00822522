// Arbitrary bytes through every decoder, under a cap; and through every coder and back. The first byte chooses the
// codec.
#include <cstdint>

#include "storage/record/compression.h"

namespace trilog {
namespace {

constexpr size_t kOutputBytesMax = 1 << 20;

void examine(Codec codec, ByteView bytes) {
  Result<Bytes> output = decompress(codec, bytes, kOutputBytesMax);
  if (output.ok()) {
    CHECK_LE(output->size(), kOutputBytesMax);
    // The cap is exact.
    CHECK(decompress(codec, bytes, output->size()).ok());
    CHECK(output->empty() || decompress(codec, bytes, output->size() - 1).status().code() == Errc::kTooLarge);
  } else {
    CHECK(output.status().code() == Errc::kCorruption || output.status().code() == Errc::kTooLarge);
  }

  Bytes block = compress(codec, bytes).value();
  CHECK(bytes_equal(decompress(codec, block, bytes.size()).value(), bytes));
}

}  // namespace
}  // namespace trilog

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  trilog::examine(static_cast<trilog::Codec>(data[0] % 5), std::as_bytes(std::span(data + 1, size - 1)));
  return 0;
}
