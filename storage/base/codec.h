// Cursors over bytes: big-endian integers, Kafka's varints (unsigned LEB128, zigzag when signed), length-prefixed text.
// Format source: the Kafka protocol guide, "Protocol Primitive Types".
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "storage/base/bytes.h"

namespace trilog {

template <std::integral T>
T load_big_endian(const std::byte* from) {
  std::make_unsigned_t<T> value;
  std::memcpy(&value, from, sizeof(T));
  if constexpr (sizeof(T) == 2) value = __builtin_bswap16(value);
  if constexpr (sizeof(T) == 4) value = __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) value = __builtin_bswap64(value);
  return static_cast<T>(value);
}

template <std::integral T>
void store_big_endian(std::byte* to, T number) {
  auto value = static_cast<std::make_unsigned_t<T>>(number);
  if constexpr (sizeof(T) == 2) value = __builtin_bswap16(value);
  if constexpr (sizeof(T) == 4) value = __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) value = __builtin_bswap64(value);
  std::memcpy(to, &value, sizeof(T));
}

inline uint64_t zigzag_encode(int64_t value) {
  return (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
}
inline int64_t zigzag_decode(uint64_t value) {
  return static_cast<int64_t>(value >> 1) ^ -static_cast<int64_t>(value & 1);
}
inline size_t varint_size(uint64_t value) { return 1 + static_cast<size_t>(63 - std::countl_zero(value | 1)) / 7; }
inline size_t signed_varint_size(int64_t value) { return varint_size(zigzag_encode(value)); }

// Reads from the front. The first read past the end, or malformed varint, makes the reader fail for good: every later
// read returns zero or empty, so a decoder may read a whole struct and ask ok() once. Views point into the input.
class ByteReader {
 public:
  explicit ByteReader(ByteView bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  bool ok() const { return ok_; }
  size_t remaining() const { return static_cast<size_t>(end_ - at_); }
  bool at_end() const { return at_ == end_; }
  void fail() {
    ok_ = false;
    at_ = end_;
  }

  template <std::integral T>
  T read() {
    if (remaining() < sizeof(T)) {
      fail();
      return T{};
    }
    T value = load_big_endian<T>(at_);
    at_ += sizeof(T);
    return value;
  }

  // At most 10 bytes; a longer one, or one that overflows 64 bits, fails.
  uint64_t read_varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (at_ == end_) break;
      auto byte = static_cast<uint64_t>(*at_++);
      if (shift == 63 && byte > 1) break;
      value |= (byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return value;
    }
    fail();
    return 0;
  }
  int64_t read_signed_varint() { return zigzag_decode(read_varint()); }

  ByteView read_bytes(size_t size) {
    if (remaining() < size) {
      fail();
      return {};
    }
    ByteView result(at_, size);
    at_ += size;
    return result;
  }
  // Varint length, then bytes.
  ByteView read_sized_bytes() {
    uint64_t size = read_varint();
    if (size > remaining()) {
      fail();
      return {};
    }
    return read_bytes(static_cast<size_t>(size));
  }
  std::string_view read_text() { return as_text(read_sized_bytes()); }

 private:
  const std::byte* at_;
  const std::byte* end_;
  bool ok_ = true;
};

// Appends to a Bytes it borrows.
class ByteWriter {
 public:
  explicit ByteWriter(Bytes& out) : out_(out) {}

  template <std::integral T>
  void write(T value) {
    size_t at = out_.size();
    out_.resize_uninitialized(at + sizeof(T));
    store_big_endian<T>(out_.data() + at, value);
  }
  void write_varint(uint64_t value) {
    std::byte scratch[10];
    size_t size = 0;
    while (value >= 0x80) {
      scratch[size++] = static_cast<std::byte>(value | 0x80);
      value >>= 7;
    }
    scratch[size++] = static_cast<std::byte>(value);
    out_.append({scratch, size});
  }
  void write_signed_varint(int64_t value) { write_varint(zigzag_encode(value)); }
  void write_bytes(ByteView bytes) { out_.append(bytes); }
  void write_sized_bytes(ByteView bytes) {
    write_varint(bytes.size());
    out_.append(bytes);
  }
  void write_text(std::string_view text) { write_sized_bytes(as_bytes(text)); }
  size_t position() const { return out_.size(); }

 private:
  Bytes& out_;
};

}  // namespace trilog
