// Judges a recorded history by the anomaly classes of docs/rules.md: X1 to X9, X12 to X14, X16 to X18. Takes O(n log n)
// for n records sent and read; about 100 bytes of memory for each.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "storage/base/status.h"
#include "tests/history/history.h"

namespace trilog::history {

inline constexpr size_t kViolationsPerClassMax = 20;  // more of a class are counted, not kept
inline constexpr size_t kProofBytesMax = 1000;        // of each operation in a violation

struct Violation {
  std::string id;                       // "X1"
  std::string what;                     // a sentence with partition, offset and token, or what else it is about
  std::vector<std::string> operations;  // those that prove it, as JSON lines; cut at kProofBytesMax
};

// Class by class. Empty: the history is one that a cluster may show.
// kInvalidArgument if it cannot be judged: two operations send the same token to one partition.
Result<std::vector<Violation>> check(const History& history);

// "X1: …\n  {…}\n  {…}\n" for each.
std::string to_text(const std::vector<Violation>& violations);

}  // namespace trilog::history
