// ProgramPages: gives back the memory of pages of the program that are not needed any more. A start, or the first use
// of a part, touches pages of the executable that are not touched again; what is still used comes back from the page
// cache by itself.
#pragma once

#include <cstddef>
#include <cstdint>

namespace trilog {

// Of one thread.
class ProgramPages {
 public:
  // Call every few seconds: if little happened since the last call, and much more is in memory than what had come back
  // by itself after the last time, all pages that come unchanged from files are given up.
  void give_back_if_quiet();

 private:
  static constexpr double kQuietShare = 0.01;  // of one processor
  static constexpr size_t kWorthwhileBytes = size_t{2} << 20;

  int64_t seen_ns_ = 0;  // at the last call
  int64_t used_ns_ = 0;
  bool coming_back_ = false;   // given back at the last call
  size_t resident_bytes_ = 0;  // what is needed all the time
};

}  // namespace trilog
