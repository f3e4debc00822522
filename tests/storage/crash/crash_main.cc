// crash_test: crash-consistency of everything that is written to disk (fault F12). Exits 1 with the seed, the steps and
// the disk operations of the first violation.
//   crash_test [--states N] [--seed S] [--case log|marks|view|raft]
#include <signal.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <sstream>
#include <string>
#include <string_view>

#include "tests/storage/crash/crash_runner.h"

namespace {

trilog::crash::CrashRunner* running = nullptr;

unsigned long long states(const trilog::crash::CrashRunner& runner) { return runner.totals().states; }

// A failed CHECK, a bad access or an endless recovery: the process is lost, but says what it was doing. Nothing here is
// safe in a signal handler in general; it need only work when the fault was in our own code.
void die_with_report(int signal_number) {
  signal(signal_number, SIG_DFL);
  const char* what = signal_number == SIGPROF ? "recovery did not end in time" : "recovery crashed";
  std::string report = running == nullptr ? std::string() : running->where();
  std::fprintf(stderr, "crash_test: VIOLATION in state %llu: %s (signal %d)\n%s", running ? states(*running) : 0, what,
               signal_number, report.c_str());
  std::fflush(stderr);
  _exit(1);
}

template <typename Map>
std::string listed(const Map& counts) {
  std::string text;
  for (const auto& [name, count] : counts) text += (text.empty() ? "" : ", ") + name + " " + std::to_string(count);
  return text;
}

void print_totals(const trilog::crash::CrashTotals& totals, uint64_t seed, double seconds) {
  std::ostringstream line;
  line.setf(std::ios::fixed);
  line.precision(1);
  line << "crash_test: " << totals.states << " states ok (" << listed(totals.states_by_case) << "; "
       << totals.torn_states << " with torn writes) of " << totals.programs << " programs with " << totals.operations
       << " disk operations, at most " << totals.unsynced_max << " unsynced; met: " << listed(totals.met)
       << "; longest recovery with checks " << static_cast<double>(totals.longest_ns) / 1e6 << " ms; " << seconds
       << " s; seed " << seed;
  std::puts(line.str().c_str());
}

bool parse_number(std::string_view text, uint64_t& number) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

int usage() {
  std::fprintf(stderr, "usage: crash_test [--states N] [--seed S] [--case NAME]\n");
  return 2;
}

bool parse(int argc, char** argv, trilog::crash::CrashOptions& options) {
  for (int i = 1; i < argc; ++i) {
    std::string_view argument = argv[i];
    size_t equals = argument.find('=');
    std::string_view name = argument.substr(0, equals);
    std::string_view value;
    if (equals != std::string_view::npos) {
      value = argument.substr(equals + 1);
    } else if (++i < argc) {
      value = argv[i];
    }
    if (name == "--case") {
      options.only_case = value;
    } else if (!(name == "--states" && parse_number(value, options.states)) &&
               !(name == "--seed" && parse_number(value, options.seed))) {
      return false;
    }
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  trilog::crash::CrashOptions options;
  if (!parse(argc, argv, options)) return usage();
  for (int fault : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGPROF}) signal(fault, die_with_report);
  trilog::crash::CrashRunner runner(options);
  running = &runner;
  auto began = std::chrono::steady_clock::now();
  auto violation = runner.run();
  if (violation) {
    std::fprintf(stderr, "crash_test: VIOLATION in state %llu: %s", states(runner), violation->c_str());
    return 1;
  }
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  print_totals(runner.totals(), options.seed, seconds);
  return 0;
}
