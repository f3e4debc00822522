// Golden bytes in tests are written as hexadecimal text.
#pragma once

#include <string_view>

#include "storage/base/bytes.h"

namespace trilog::testing {

// Blanks are skipped; the text must otherwise be pairs of lower-case digits.
inline Bytes from_hex(std::string_view text) {
  Bytes bytes;
  int high = -1;
  for (char c : text) {
    if (c == ' ') continue;
    int digit = c <= '9' ? c - '0' : c - 'a' + 10;
    if (high < 0) {
      high = digit;
    } else {
      const auto byte = static_cast<std::byte>(high * 16 + digit);
      bytes.append({&byte, 1});
      high = -1;
    }
  }
  CHECK(high < 0);
  return bytes;
}

}  // namespace trilog::testing
