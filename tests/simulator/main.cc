// simulator: runs seeds of the simulated cluster. See usage().
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/simulator/batch.h"
#include "tests/simulator/explore.h"

namespace trilog::simulator {
namespace {

int usage() {
  std::fputs(
      "simulator --seed N | --seeds A..B  [--nodes 3|5] [--time 30s|1h] [--jobs N] [--results FILE] [--trace]\n"
      "          [--history FILE] [--without FAULT]... [--no-faults] [--counters] [--require-counters]\n"
      "          [--until-failure]\n"
      "simulator --explore\n"
      "\n"
      "  --seed N            one seed, in this process\n"
      "  --seeds A..B        each in a process of its own, --jobs of them at a time\n"
      "  --nodes N           nodes of the cluster, 3 by default\n"
      "  --time T            virtual time with faults; drawn by the seed if not given\n"
      "  --results FILE      a line per seed is added; seeds that are in it are skipped\n"
      "  --trace             everything that happens, to standard error\n"
      "  --history FILE      what clients saw, as history_check reads it (of one seed)\n"
      "  --counters          how often what must happen sometimes did\n"
      "  --require-counters  fails if something of it never happened in the batch\n"
      "  --until-failure     begins no seed after one that failed\n"
      "  --explore           every state of one partition within bounds, breadth-first\n"
      "\n"
      "Prints \"seed N hash HEX events N\" per seed. Exit code 1: a violation, with the command that replays it.\n",
      stderr);
  return 2;
}

bool parse_number(const char* text, uint64_t& out) {
  char* end = nullptr;
  out = std::strtoull(text, &end, 10);
  return end != text && *end == '\0';
}

bool parse_seeds(const std::string& text, BatchOptions& options) {
  const size_t dots = text.find("..");
  if (dots == std::string::npos) return false;
  return parse_number(text.substr(0, dots).c_str(), options.first) &&
         parse_number(text.substr(dots + 2).c_str(), options.last) && options.first <= options.last;
}

bool parse_time(const std::string& text, int64_t& out) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  const std::string unit = end;
  const double seconds = unit == "h" ? 3600 : unit == "m" ? 60 : unit == "s" || unit.empty() ? 1 : 0;
  out = static_cast<int64_t>(number * seconds * 1e9);
  return out > 0;
}

bool parse_fault(const std::string& name, PlanOptions& plan) {
  for (size_t i = 0; i < kFaults; ++i) {
    if (name != fault_name(static_cast<Fault>(i))) continue;
    plan.without.push_back(static_cast<Fault>(i));
    return true;
  }
  return false;
}

// Takes the option at argv[i], and moves i over its value.
bool parse_option(int argc, char** argv, int& i, BatchOptions& options) {
  const std::string option = argv[i];
  if (option == "--trace") return options.trace = true;
  if (option == "--no-faults") return options.plan.no_faults = true;
  if (option == "--counters") return options.show_counters = true;
  if (option == "--require-counters") return options.require_counters = true;
  if (option == "--until-failure") return options.until_failure = true;
  if (i + 1 >= argc) return false;
  const std::string value = argv[++i];
  uint64_t number = 0;
  if (option == "--seed" && parse_number(value.c_str(), number)) {
    options.first = options.last = number;
    return options.single = true;
  }
  if (option == "--seeds") return parse_seeds(value, options);
  if (option == "--nodes" && (value == "3" || value == "5")) return (options.plan.nodes = value == "3" ? 3 : 5) > 0;
  if (option == "--time") return parse_time(value, options.plan.duration_ns);
  if (option == "--jobs" && parse_number(value.c_str(), number) && number > 0) return (options.jobs = number) > 0;
  if (option == "--results") return !(options.results = value).empty();
  if (option == "--history") return !(options.history = value).empty();
  if (option == "--without") return parse_fault(value, options.plan);
  return false;
}

}  // namespace
}  // namespace trilog::simulator

int main(int argc, char** argv) {
  using namespace trilog::simulator;
  BatchOptions options;
  if (argc == 2 && std::strcmp(argv[1], "--explore") == 0) return explore();
  for (int i = 1; i < argc; ++i) {
    if (!parse_option(argc, argv, i, options)) return usage();
  }
  if (options.first == 0) return usage();
  return run_batch(options);
}
