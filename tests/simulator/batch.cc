#include "tests/simulator/batch.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <utility>
#include <vector>

#include "tests/history/history_json.h"
#include "tests/simulator/simulation.h"

namespace trilog::simulator {
namespace {

constexpr unsigned kSecondsMax = 600;  // of one seed; one that takes longer hangs

std::string replay_command(const BatchOptions& options, uint64_t seed) {
  std::string command = "build/release/simulator --seed " + std::to_string(seed);
  if (options.plan.nodes != 3) command += " --nodes " + std::to_string(options.plan.nodes);
  if (options.plan.duration_ns > 0) command += " --time " + std::to_string(options.plan.duration_ns / kSecond) + "s";
  if (options.plan.no_faults) command += " --no-faults";
  for (const Fault fault : options.plan.without) command += std::string(" --without ") + fault_name(fault);
  return command + " --trace";
}

void write_history(const history::History& history, const std::string& path) {
  std::ofstream file(path);
  auto write = [&file](const auto& operations) {
    for (const auto& operation : operations) file << history::to_json(history::OperationPointer(&operation)) << "\n";
  };
  write(history.all<history::Produce>());
  write(history.all<history::Fetch>());
  write(history.all<history::ListOffsets>());
  write(history.all<history::FinalRead>());
  write(history.all<history::AcceptedLoss>());
  write(history.all<history::Commit>());
  write(history.all<history::FetchCommitted>());
  write(history.all<history::Change>());
  write(history.all<history::Listing>());
  write(history.all<history::Healed>());
}

// "seed N hash HEX events N" and what else is told of one seed, as one line of the results file.
std::string result_line(const Verdict& verdict) {
  char head[128];
  std::snprintf(head, sizeof(head), "seed %" PRIu64 " hash %016" PRIx64 " events %" PRIu64, verdict.seed, verdict.hash,
                verdict.events);
  std::string line = head;
  line += verdict.violations.empty() ? " ok" : " FAILED";
  for (const Counters::Named& row : Counters::all()) {
    const uint64_t value = verdict.counters.*row.value;
    if (value > 0) line += std::string(" ") + row.name + "=" + std::to_string(value);
  }
  return line;
}

void tell_failure(const BatchOptions& options, const Verdict& verdict) {
  std::string text;
  if (!options.trace) text += "--- the end of its trace\n" + verdict.journal;
  for (const std::string& violation : verdict.violations) text += "VIOLATION " + violation + "\n";
  text += "replay: " + replay_command(options, verdict.seed) + "\n";
  std::fputs(text.c_str(), stderr);
}

int run_here(const BatchOptions& options, uint64_t seed, std::string* line) {
  auto simulation = std::make_unique<Simulation>(draw_plan(seed, options.plan), options.trace);
  const Verdict verdict = simulation->run();
  *line = result_line(verdict);
  if (!options.history.empty()) write_history(simulation->history(), options.history);
  if (verdict.violations.empty()) return 0;
  tell_failure(options, verdict);
  return 1;
}

class Batch {
 public:
  explicit Batch(const BatchOptions& options) : options_(options) {}

  int run() {
    if (!options_.results.empty() && !read_results()) return 2;
    uint64_t next = options_.first;
    auto more = [&] { return next <= options_.last && (failed_.empty() || !options_.until_failure); };
    while (more() || !running_.empty()) {
      while (more() && running_.size() < options_.jobs) {
        if (!done_.contains(next)) begin(next);
        ++next;
      }
      if (!running_.empty()) collect();
    }
    return finish();
  }

 private:
  struct Child {
    uint64_t seed = 0;
    int pipe = -1;
    std::string said;
  };

  // Seeds that are in the file count as run, with their counters.
  bool read_results() {
    std::ifstream before(options_.results);
    for (std::string line; std::getline(before, line);) take(line, false);
    results_.open(options_.results, std::ios::app);
    if (results_) return true;
    std::fprintf(stderr, "cannot write %s\n", options_.results.c_str());
    return false;
  }

  void begin(uint64_t seed) {
    int ends[2];
    if (::pipe(ends) != 0) std::abort();
    std::fflush(stdout);
    std::fflush(stderr);
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::close(ends[0]);
      ::alarm(kSecondsMax);
      std::string line;
      const int code = run_here(options_, seed, &line);
      line += "\n";
      const bool told = ::write(ends[1], line.data(), line.size()) == static_cast<ssize_t>(line.size());
      std::fflush(stderr);
      ::_exit(told ? code : 3);
    }
    ::close(ends[1]);
    running_[pid] = {seed, ends[0], {}};
  }

  // Waits for one of them to end.
  void collect() {
    int status = 0;
    const pid_t pid = ::wait(&status);
    auto found = running_.find(pid);
    if (found == running_.end()) return;
    Child child = std::move(found->second);
    running_.erase(found);
    char buffer[4096];
    for (ssize_t count; (count = ::read(child.pipe, buffer, sizeof(buffer))) > 0;) {
      child.said.append(buffer, static_cast<size_t>(count));
    }
    ::close(child.pipe);
    std::string line = child.said.substr(0, child.said.find('\n'));
    if (!WIFEXITED(status) || line.empty()) {
      const std::string how = WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status)) : "no result";
      line = "seed " + std::to_string(child.seed) + " hash 0 events 0 FAILED " + how;
      std::fprintf(stderr, "seed %" PRIu64 " ended by %s\nreplay: %s\n", child.seed, how.c_str(),
                   replay_command(options_, child.seed).c_str());
    }
    take(line, true);
  }

  void take(const std::string& line, bool is_new) {
    std::istringstream words(line);
    std::string word;
    uint64_t seed = 0;
    if (!(words >> word >> seed) || word != "seed") return;
    if (!is_new && (seed < options_.first || seed > options_.last)) return;
    done_.insert(seed);
    uint64_t events = 0;
    std::string shown = "seed " + std::to_string(seed);
    while (words >> word) {
      const size_t equals = word.find('=');
      if (word == "FAILED") failed_.insert(seed);
      if (equals == std::string::npos) {
        if (word != "ok") shown += " " + word;
        if (shown.ends_with(" events " + word)) events = std::strtoull(word.c_str(), nullptr, 10);
        continue;
      }
      for (const Counters::Named& row : Counters::all()) {
        if (word.substr(0, equals) == row.name) {
          counters_.*row.value += std::strtoull(word.c_str() + equals + 1, nullptr, 10);
        }
      }
    }
    events_ += events;
    if (!is_new) return;
    std::printf("%s\n", shown.c_str());
    std::fflush(stdout);
    if (results_.is_open()) results_ << line << std::endl;
  }

  int finish() {
    int code = failed_.empty() ? 0 : 1;
    if (options_.show_counters || options_.require_counters) {
      for (const Counters::Named& row : Counters::all()) {
        const uint64_t value = counters_.*row.value;
        std::printf("%10" PRIu64 "  %-36s %s\n", value, row.name, row.text);
        if (value > 0 || !options_.require_counters) continue;
        std::fprintf(stderr, "never happened: %s\n", row.text);
        code = 1;
      }
    }
    std::printf("%zu seeds, %" PRIu64 " events, %zu failed", done_.size(), events_, failed_.size());
    for (const uint64_t seed : failed_) std::printf(" %" PRIu64, seed);
    std::printf("\n");
    return code;
  }

  const BatchOptions& options_;
  std::map<pid_t, Child> running_;
  std::set<uint64_t> done_, failed_;
  std::ofstream results_;
  Counters counters_;
  uint64_t events_ = 0;
};

}  // namespace

int run_batch(const BatchOptions& options) {
  if (!options.single) return Batch(options).run();
  std::string line;
  const int code = run_here(options, options.first, &line);
  const size_t end = line.find(code == 0 ? " ok" : " FAILED");
  std::printf("%s\n", line.substr(0, end).c_str());
  if (options.show_counters) std::printf("%s\n", line.substr(end + 1).c_str());
  return code;
}

}  // namespace trilog::simulator
