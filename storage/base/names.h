// "Did you mean": names that differ from a wrong one by little (Levenshtein distance).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace trilog {

// Up to `count_max` of `known`, nearest first, ties by name: distance at most a third of the longer name's length (at
// least 1), or one name a prefix of the other with three letters or more. Work is bounded: names over 250 bytes are not
// compared.
std::vector<std::string> similar_names(std::string_view name, const std::vector<std::string>& known, size_t count_max);
std::optional<std::string> most_similar_name(std::string_view name, const std::vector<std::string>& known);

}  // namespace trilog
