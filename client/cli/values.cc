// Values as people write them.
#include <charconv>
#include <chrono>

#include "client/cli/commands.h"
#include "storage/base/units.h"

namespace trilog::cli {
namespace {

std::optional<int64_t> parse_whole(std::string_view text) {
  int64_t value = 0;
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<int64_t> parse_digits(std::string_view text) {
  bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
  return digits ? parse_whole(text) : std::nullopt;
}

constexpr int64_t kPartitionsMax = 100'000;

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Status check_servers(const std::string& servers) {
  for (size_t begin = 0; begin <= servers.size();) {
    size_t comma = std::min(servers.find(',', begin), servers.size());
    std::string_view server = std::string_view(servers).substr(begin, comma - begin);
    begin = comma + 1;
    if (server.starts_with("unix:") && server.size() > 5) continue;
    size_t colon = server.rfind(':');
    bool has_port = colon != std::string_view::npos && colon > 0;
    std::optional<int64_t> port = has_port ? parse_digits(server.substr(colon + 1)) : std::nullopt;
    if (port && *port >= 1 && *port <= 65'535) continue;
    return Status(Errc::kInvalidArgument,
                  "'" + std::string(server.substr(0, 100)) +
                      "' is no address; write HOST:PORT with a port from 1 to 65535, for example "
                      "localhost:9092, or unix:PATH");
  }
  return {};
}

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
  Status bad(Errc::kInvalidArgument, "'" + text.substr(0, 100) + "' is no list of partitions; write for example 0,2-4");
  for (size_t begin = 0; begin <= text.size();) {
    size_t end = std::min(text.find(',', begin), text.size());
    std::string_view item = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    size_t dash = item.find('-');
    std::optional<int64_t> first = parse_digits(item.substr(0, dash));
    std::optional<int64_t> last = dash == std::string_view::npos ? first : parse_digits(item.substr(dash + 1));
    if (!first || !last || *last < *first || *last >= kPartitionsMax) return bad;
    for (int64_t p = *first; p <= *last; ++p) partitions.push_back(static_cast<int32_t>(p));
    if (partitions.size() > kPartitionsMax) return bad;
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
