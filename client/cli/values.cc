// Values as people write them.
#include <charconv>
#include <chrono>

#include "client/cli/commands.h"
#include "storage/base/units.h"

namespace trilog::cli {
namespace {

std::optional<int64_t> parse_whole(std::string_view text) {
  int64_t value = 0;
  if (text.starts_with('+')) text.remove_prefix(1);
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Result<Place> parse_place(const std::string& text, bool steps_allowed) {
  using Kind = Place::Kind;
  if (text == "start" || text == "earliest") return Place{Kind::kStart, 0};
  if (text == "end" || text == "latest") return Place{Kind::kEnd, 0};
  std::optional<int64_t> number = parse_whole(text);
  if (number && !text.starts_with('+') && !text.starts_with('-')) return Place{Kind::kOffset, *number};
  if (number && steps_allowed) return Place{Kind::kStep, *number};
  if (text.starts_with('-')) {
    Result<int64_t> ago = parse_duration_ms(std::string_view(text).substr(1));
    if (ago.ok()) return Place{Kind::kTime, now_ms() - *ago};
  }
  Result<int64_t> time = parse_time_ms(text);
  if (time.ok()) return Place{Kind::kTime, *time};
  return Status(Errc::kInvalidArgument,
                "'" + text.substr(0, 100) + "' is no place in a topic; write start, end, an offset, -2h or " +
                    "2026-03-01T12:00:00Z" + (steps_allowed ? ", or a step such as +1 or -10" : ""));
}

Result<std::vector<int32_t>> parse_partitions(const std::string& text) {
  std::vector<int32_t> partitions;
  std::string_view rest = text;
  Status bad(Errc::kInvalidArgument, "'" + text.substr(0, 100) + "' is no list of partitions; write for example 0,2-4");
  while (!rest.empty()) {
    size_t comma = std::min(rest.find(','), rest.size());
    std::string_view item = rest.substr(0, comma);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    size_t dash = item.find('-', 1);
    std::optional<int64_t> first = parse_whole(item.substr(0, dash));
    std::optional<int64_t> last = dash == std::string_view::npos ? first : parse_whole(item.substr(dash + 1));
    if (!first || !last || *first < 0 || *last < *first || *last > 100'000) return bad;
    for (int64_t p = *first; p <= *last; ++p) partitions.push_back(static_cast<int32_t>(p));
  }
  return partitions;
}

Result<std::pair<std::string, std::string>> parse_assignment(const std::string& text, const std::string& what) {
  size_t at = text.find('=');
  if (at == std::string::npos || at == 0) {
    return Status(Errc::kInvalidArgument, what + " '" + text.substr(0, 100) + "' must be written NAME=VALUE");
  }
  return std::pair(text.substr(0, at), text.substr(at + 1));
}

}  // namespace trilog::cli
