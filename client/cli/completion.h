// Completion scripts for shells, made from the commands themselves.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace trilog::cli {

struct CompletionEntry {
  std::string path;                                           // "topic create"; empty: the program
  std::vector<std::pair<std::string, std::string>> commands;  // name, what it does
  std::vector<std::pair<std::string, std::string>> options;   // "--server", what it does
};

// `shell`: bash, zsh or fish. Topic names are completed by asking the broker (trilog topic list -q).
std::string completion_script(const std::string& shell, const std::vector<CompletionEntry>& entries);

}  // namespace trilog::cli
