// Cuts the input of a fuzzer into numbers and pieces. Every input means something: what is missing at the end is zero
// or empty.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "storage/base/bytes.h"
#include "storage/base/check.h"

namespace trilog::fuzz {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(std::as_bytes(std::span(data, size))) {}

  bool empty() const { return rest_.empty(); }
  uint8_t byte() {
    if (rest_.empty()) return 0;
    auto value = static_cast<uint8_t>(rest_.front());
    rest_ = rest_.subspan(1);
    return value;
  }
  // Big-endian, two bytes.
  uint32_t number() {
    uint32_t high = byte();
    return high << 8 | byte();
  }
  int64_t long_number() {
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | byte();
    return static_cast<int64_t>(value);
  }
  // A length of two bytes, then so many, or what is there.
  ByteView piece() {
    size_t size = number();
    ByteView taken = rest_.first(std::min(size, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  ByteView rest() { return std::exchange(rest_, {}); }

 private:
  ByteView rest_;
};

// The other way round, for seeds.
class InputWriter {
 public:
  InputWriter& byte(uint8_t value) {
    text_ += static_cast<char>(value);
    return *this;
  }
  InputWriter& number(size_t value) {
    CHECK_LE(value, 0xffffu);
    return byte(static_cast<uint8_t>(value >> 8)).byte(static_cast<uint8_t>(value));
  }
  InputWriter& long_number(int64_t value) {
    for (int shift = 56; shift >= 0; shift -= 8) byte(static_cast<uint8_t>(static_cast<uint64_t>(value) >> shift));
    return *this;
  }
  InputWriter& piece(ByteView bytes) {
    number(bytes.size());
    text_ += as_text(bytes);
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace trilog::fuzz
