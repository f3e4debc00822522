#include "storage/base/names.h"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <utility>

namespace trilog {
namespace {

constexpr size_t kComparedMax = 250;

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

}  // namespace

std::vector<std::string> similar_names(std::string_view name, const std::vector<std::string>& known, size_t count_max) {
  std::vector<std::pair<size_t, std::string>> found;
  if (name.size() > kComparedMax) return {};
  for (const std::string& candidate : known) {
    if (candidate.size() > kComparedMax) continue;
    size_t distance = edit_distance(name, candidate);
    size_t near = std::max<size_t>(1, std::max(name.size(), candidate.size()) / 3);
    bool prefix =
        std::min(name.size(), candidate.size()) >= 3 && (candidate.starts_with(name) || name.starts_with(candidate));
    if (distance <= near || prefix) found.emplace_back(distance, candidate);
  }
  std::sort(found.begin(), found.end());
  if (found.size() > count_max) found.resize(count_max);
  std::vector<std::string> names;
  for (auto& entry : found) names.push_back(std::move(entry.second));
  return names;
}

std::optional<std::string> most_similar_name(std::string_view name, const std::vector<std::string>& known) {
  std::vector<std::string> names = similar_names(name, known, 1);
  if (names.empty()) return std::nullopt;
  return names.front();
}

}  // namespace trilog
