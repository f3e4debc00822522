#include "storage/base/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>
#endif

namespace trilog {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // Castagnoli, reflected

constexpr std::array<std::array<uint32_t, 256>, 8> make_tables() {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables[0][i] = crc;
  }
  for (uint32_t i = 0; i < 256; ++i) {
    for (size_t t = 1; t < 8; ++t) tables[t][i] = (tables[t - 1][i] >> 8) ^ tables[0][tables[t - 1][i] & 0xff];
  }
  return tables;
}
constexpr auto kTables = make_tables();

uint64_t load_little_endian(const std::byte* p) {
  uint64_t value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

// Register in, register out (not inverted).
uint32_t update_software(uint32_t crc, const std::byte* p, size_t size) {
  for (; size >= 8; p += 8, size -= 8) {
    uint64_t word = load_little_endian(p) ^ crc;
    crc = kTables[7][word & 0xff] ^ kTables[6][(word >> 8) & 0xff] ^ kTables[5][(word >> 16) & 0xff] ^
          kTables[4][(word >> 24) & 0xff] ^ kTables[3][(word >> 32) & 0xff] ^ kTables[2][(word >> 40) & 0xff] ^
          kTables[1][(word >> 48) & 0xff] ^ kTables[0][word >> 56];
  }
  for (; size > 0; ++p, --size) crc = (crc >> 8) ^ kTables[0][(crc ^ static_cast<uint8_t>(*p)) & 0xff];
  return crc;
}

#if defined(__x86_64__)

// x^n mod P in the reflected representation, n >= 32: the register 1<<31 (the polynomial "1") moved n places.
constexpr uint32_t power_of_x(uint32_t n) {
  uint32_t crc = 0x80000000;
  for (uint32_t i = 0; i < n; ++i) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
  return crc;
}

// Moves a register over `kBytes` zero bytes: carry-less multiply by x^(8*kBytes - 33), then let the crc32 instruction
// reduce the 64-bit product (it multiplies by another x^32; the reflected product is one bit short, hence 33).
template <uint32_t kBytes>
__attribute__((target("sse4.2,pclmul"))) uint32_t shift_over(uint32_t crc) {
  static constexpr uint32_t kFactor = power_of_x(8 * kBytes - 33);
  __m128i product =
      _mm_clmulepi64_si128(_mm_cvtsi32_si128(static_cast<int>(crc)), _mm_cvtsi32_si128(static_cast<int>(kFactor)), 0);
  return static_cast<uint32_t>(_mm_crc32_u64(0, static_cast<uint64_t>(_mm_cvtsi128_si64(product))));
}

// Three streams of kLane bytes hide the instruction's latency of three cycles.
template <uint32_t kLane>
__attribute__((target("sse4.2,pclmul"))) uint32_t update_lanes(uint32_t crc, const std::byte*& p, size_t& size) {
  while (size >= 3 * kLane) {
    uint64_t a = crc;
    uint64_t b = 0;
    uint64_t c = 0;
    for (uint32_t i = 0; i < kLane; i += 8) {
      a = _mm_crc32_u64(a, load_little_endian(p + i));
      b = _mm_crc32_u64(b, load_little_endian(p + kLane + i));
      c = _mm_crc32_u64(c, load_little_endian(p + 2 * kLane + i));
    }
    crc = shift_over<2 * kLane>(static_cast<uint32_t>(a)) ^ shift_over<kLane>(static_cast<uint32_t>(b)) ^
          static_cast<uint32_t>(c);
    p += 3 * kLane;
    size -= 3 * kLane;
  }
  return crc;
}

__attribute__((target("sse4.2,pclmul"))) uint32_t update_hardware(uint32_t crc, const std::byte* p, size_t size) {
  crc = update_lanes<4096>(crc, p, size);
  crc = update_lanes<256>(crc, p, size);
  uint64_t wide = crc;
  for (; size >= 8; p += 8, size -= 8) wide = _mm_crc32_u64(wide, load_little_endian(p));
  crc = static_cast<uint32_t>(wide);
  for (; size > 0; ++p, --size) crc = _mm_crc32_u8(crc, static_cast<uint8_t>(*p));
  return crc;
}

using Update = uint32_t (*)(uint32_t, const std::byte*, size_t);
Update choose_update() {
  return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul") ? update_hardware : update_software;
}

#endif

}  // namespace

uint32_t crc32c_software(ByteView bytes, uint32_t crc) { return ~update_software(~crc, bytes.data(), bytes.size()); }

uint32_t crc32c(ByteView bytes, uint32_t crc) {
#if defined(__x86_64__)
  static const Update update = choose_update();
  return ~update(~crc, bytes.data(), bytes.size());
#else
  return crc32c_software(bytes, crc);
#endif
}

}  // namespace trilog
