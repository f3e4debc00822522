// history_check FILE...: judges the history in these files of JSON lines, taken together; "-" is standard input.
// Prints what was recorded, so that an empty history is not taken for a clean one, then each violation with the
// operations that prove it. Exit status: 0 clean, 1 violations, 2 the history cannot be read or judged.
#include <fstream>
#include <iostream>
#include <string>

#include "tests/history/checker.h"
#include "tests/history/history_json.h"

namespace trilog::history {
namespace {

constexpr int kClean = 0;
constexpr int kViolated = 1;
constexpr int kUnusable = 2;

Status read_file(const std::string& path, HistoryReader& reader) {
  if (path == "-") return reader.read(std::cin).with_context("standard input");
  std::ifstream file(path);
  if (!file) return Status(Errc::kNotFound, path + " cannot be opened");
  return reader.read(file).with_context(path);
}

template <typename Kind>
void print_count(const History& history) {
  if (!history.all<Kind>().empty()) std::cout << ' ' << Kind::kName << ' ' << history.all<Kind>().size();
}

template <typename... Kinds>
void print_counts(const Operations<Kinds...>& history) {
  std::cout << "history: operations " << history.size();
  (print_count<Kinds>(history), ...);
  std::cout << '\n';
}

int run(const std::vector<std::string>& paths) {
  if (paths.empty()) {
    std::cerr << "usage: history_check FILE...\n";
    return kUnusable;
  }
  History history;
  HistoryReader reader(history);
  for (const std::string& path : paths) {
    if (Status status = read_file(path, reader); !status.ok()) {
      std::cerr << "history_check: " << status.message() << '\n';
      return kUnusable;
    }
  }
  if (history.size() == 0) {
    std::cerr << "history_check: nothing is recorded there\n";
    return kUnusable;
  }
  print_counts(history);
  const auto violations = check(history);
  if (!violations.ok()) {
    std::cerr << "history_check: " << violations.status().message() << '\n';
    return kUnusable;
  }
  std::cout << to_text(*violations);
  std::cout << (violations->empty() ? "no violations\n" : "violations found\n");
  return violations->empty() ? kClean : kViolated;
}

}  // namespace
}  // namespace trilog::history

int main(int argc, char** argv) { return trilog::history::run({argv + 1, argv + argc}); }
