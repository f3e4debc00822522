// Sizes, durations and times as people write them, both ways.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "storage/base/status.h"

namespace trilog {

// "64KiB", "1GiB", "10MB", "123" -> bytes; "500ms", "5s", "2h", "7d" -> ms. kInvalidArgument with an example.
Result<uint64_t> parse_size(std::string_view text);
Result<int64_t> parse_duration_ms(std::string_view text);
// RFC 3339: "2026-03-01T12:00:00Z", "2026-03-01T12:00:00.250+01:00", "2026-03-01" (midnight UTC) -> ms since 1970.
Result<int64_t> parse_time_ms(std::string_view text);

std::string format_size(uint64_t bytes);     // "512 B", "1.5 KiB", "3.2 GiB"
std::string format_duration_ms(int64_t ms);  // "250 ms", "5 s", "7 days"
std::string format_time_ms(int64_t ms);      // "2026-03-01T12:00:00.250Z"

}  // namespace trilog
