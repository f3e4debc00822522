#include "storage/base/units.h"

#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <optional>
#include <span>

namespace trilog {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};

std::optional<uint64_t> scaled(std::string_view text, std::span<const Unit> units) {
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  std::string_view suffix = text.substr(static_cast<size_t>(end - text.data()));
  for (const Unit& unit : units) {
    if (unit.name != suffix) continue;
    if (number > static_cast<uint64_t>(INT64_MAX) / unit.factor) return std::nullopt;
    return number * unit.factor;
  }
  return std::nullopt;
}

// Takes exactly `digits` digits off the front.
std::optional<int> take_number(std::string_view& text, size_t digits) {
  if (text.size() < digits) return std::nullopt;
  int value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + digits, value);
  if (error != std::errc() || end != text.data() + digits || value < 0) return std::nullopt;
  text.remove_prefix(digits);
  return value;
}

bool take(std::string_view& text, char c) {
  if (text.empty() || text.front() != c) return false;
  text.remove_prefix(1);
  return true;
}

std::optional<int64_t> parse_date(std::string_view& text) {
  std::optional<int> year = take_number(text, 4);
  if (!year || !take(text, '-')) return std::nullopt;
  std::optional<int> month = take_number(text, 2);
  if (!month || !take(text, '-')) return std::nullopt;
  std::optional<int> day = take_number(text, 2);
  if (!day) return std::nullopt;
  std::chrono::year_month_day date{std::chrono::year(*year), std::chrono::month(static_cast<unsigned>(*month)),
                                   std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok()) return std::nullopt;
  return std::chrono::sys_days(date).time_since_epoch().count() * int64_t{86'400'000};
}

// "12:00:00[.fraction](Z|+hh:mm|-hh:mm)"
std::optional<int64_t> parse_clock(std::string_view& text) {
  std::optional<int> hour = take_number(text, 2);
  if (!hour || *hour > 23 || !take(text, ':')) return std::nullopt;
  std::optional<int> minute = take_number(text, 2);
  if (!minute || *minute > 59 || !take(text, ':')) return std::nullopt;
  std::optional<int> second = take_number(text, 2);
  if (!second || *second > 60) return std::nullopt;
  int64_t ms = ((*hour * 60 + *minute) * int64_t{60} + *second) * 1000;
  if (take(text, '.')) {
    int64_t scale = 100;
    size_t digits = 0;
    for (; !text.empty() && text.front() >= '0' && text.front() <= '9'; ++digits, text.remove_prefix(1)) {
      ms += (text.front() - '0') * scale;
      scale /= 10;
    }
    if (digits == 0) return std::nullopt;
  }
  if (take(text, 'Z') || take(text, 'z')) return ms;
  bool plus = take(text, '+');
  if (!plus && !take(text, '-')) return std::nullopt;
  std::optional<int> off_hour = take_number(text, 2);
  if (!off_hour || *off_hour > 23 || !take(text, ':')) return std::nullopt;
  std::optional<int> off_minute = take_number(text, 2);
  if (!off_minute || *off_minute > 59) return std::nullopt;
  int64_t offset = (*off_hour * int64_t{60} + *off_minute) * 60'000;
  return plus ? ms - offset : ms + offset;
}

std::string shown(std::string_view text) { return "'" + std::string(text.substr(0, 100)) + "'"; }

std::string with_decimals(double value, std::string_view unit) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), value < 9.95 ? "%.1f " : "%.0f ", value);
  return std::string(text.data()) + std::string(unit);
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  static constexpr Unit kUnits[] = {{"", 1},
                                    {"B", 1},
                                    {"KB", 1'000},
                                    {"KiB", 1u << 10},
                                    {"MB", 1'000'000},
                                    {"MiB", 1u << 20},
                                    {"GB", 1'000'000'000},
                                    {"GiB", 1u << 30},
                                    {"TB", 1'000'000'000'000},
                                    {"TiB", 1ull << 40}};
  std::optional<uint64_t> size = scaled(text, kUnits);
  if (size) return *size;
  return Status(Errc::kInvalidArgument, shown(text) + " is not a size; write for example 64KiB, 10MB or 1GiB");
}

Result<int64_t> parse_duration_ms(std::string_view text) {
  static constexpr Unit kUnits[] = {{"ms", 1},       {"s", 1'000},     {"m", 60'000},
                                    {"min", 60'000}, {"h", 3'600'000}, {"d", 86'400'000}};
  std::optional<uint64_t> duration = scaled(text, kUnits);
  if (duration) return static_cast<int64_t>(*duration);
  return Status(Errc::kInvalidArgument, shown(text) + " is not a duration; write for example 500ms, 5s, 2h or 7d");
}

Result<int64_t> parse_time_ms(std::string_view text) {
  std::string_view rest = text;
  std::optional<int64_t> date = parse_date(rest);
  if (date && rest.empty()) return *date;
  if (date && (take(rest, 'T') || take(rest, 't') || take(rest, ' '))) {
    std::optional<int64_t> clock = parse_clock(rest);
    if (clock && rest.empty()) return *date + *clock;
  }
  return Status(Errc::kInvalidArgument, shown(text) + " is not a time; write for example 2026-03-01T12:00:00Z");
}

std::string format_size(uint64_t bytes) {
  static constexpr std::string_view kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; value >= 1023.5 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;  // "1024 KiB" is 1.0 MiB
  return with_decimals(value, kUnits[unit]);
}

std::string format_duration_ms(int64_t ms) {
  struct Step {
    int64_t ms;
    std::string_view one;
    std::string_view many;
  };
  static constexpr Step kSteps[] = {
      {86'400'000, "day", "days"}, {3'600'000, "hour", "hours"}, {60'000, "min", "min"}, {1'000, "s", "s"}};
  for (const Step& step : kSteps) {
    if (ms < step.ms || ms % step.ms != 0) continue;
    int64_t count = ms / step.ms;
    return std::to_string(count) + " " + std::string(count == 1 ? step.one : step.many);
  }
  if (ms >= 10'000) return with_decimals(static_cast<double>(ms) / 1000, "s");
  return std::to_string(ms) + " ms";
}

std::string format_time_ms(int64_t ms) {
  std::chrono::sys_time<std::chrono::milliseconds> time{std::chrono::milliseconds(ms)};
  auto day = std::chrono::floor<std::chrono::days>(time);
  std::chrono::year_month_day date(day);
  std::chrono::hh_mm_ss clock(time - day);
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%04d-%02u-%02uT%02d:%02d:%02d.%03dZ", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
                static_cast<int>(clock.seconds().count()), static_cast<int>(clock.subseconds().count()));
  return text.data();
}

}  // namespace trilog
