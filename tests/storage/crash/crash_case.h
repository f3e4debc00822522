// A crash case: a random program that runs on a simulated disk while the disk records, and what must hold after a power
// cut at any point of it (fault F12).
//
// The program leaves an expectation in the recording before and after each thing it does: before, one that allows the
// thing to have happened or not; after, one that demands it as far as it was promised.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/sim/sim_disk.h"

namespace trilog::crash {

class CrashCase {
 public:
  virtual ~CrashCase() = default;
  // Runs a program of about `steps` steps, drawn from `seed`, and returns what the disk recorded; the first entry is a
  // mark.
  virtual sim::Recording record(uint64_t seed, size_t steps) = 0;
  // Recovers from `image` and says what is wrong with it under the expectation number `mark`; empty if nothing is.
  // `seed` draws how closely it looks.
  virtual std::string check(const sim::DiskImage& image, uint64_t mark, uint64_t seed) = 0;
  // Whether `mark` demands more than the one before, so that images seen already must be looked at again.
  virtual bool stricter(uint64_t mark) const = 0;
  // What the program had done up to `mark`, a line each.
  virtual std::string story(uint64_t mark) const = 0;

  // What was met in all states so far, by kind: shows that a run reached what it is meant to test.
  using Counts = std::map<std::string, uint64_t, std::less<>>;
  void count_into(Counts& counts) { counts_ = &counts; }

 protected:
  void count(std::string_view what, uint64_t times = 1) {
    if (counts_ == nullptr || times == 0) return;
    auto at = counts_->find(what);
    if (at == counts_->end()) at = counts_->emplace(what, 0).first;
    at->second += times;
  }

 private:
  Counts* counts_ = nullptr;
};

std::unique_ptr<CrashCase> make_log_case();
std::unique_ptr<CrashCase> make_marks_case();
std::unique_ptr<CrashCase> make_view_case();
std::unique_ptr<CrashCase> make_raft_case();

// The expectations of one recording, numbered by the marks on the disk.
template <typename Expectation>
class Expectations {
 public:
  void add(sim::SimDisk& disk, Expectation expectation, bool stricter, std::string line) {
    entries_.push_back({std::move(expectation), stricter, std::move(line)});
    disk.mark(entries_.size() - 1);
  }
  Expectation& last() { return entries_.back().expectation; }
  const Expectation& at(uint64_t mark) const { return entries_.at(static_cast<size_t>(mark)).expectation; }
  bool stricter(uint64_t mark) const { return entries_.at(static_cast<size_t>(mark)).stricter; }
  std::string story(uint64_t mark) const {
    std::string text;
    for (size_t i = 0; i <= mark && i < entries_.size(); ++i) {
      text += "  " + std::to_string(i) + ": " + entries_[i].line + "\n";
    }
    return text;
  }

 private:
  struct Entry {
    Expectation expectation;
    bool stricter;
    std::string line;
  };
  std::vector<Entry> entries_;
};

}  // namespace trilog::crash
