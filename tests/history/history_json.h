// A history as JSON lines: one operation per line, so that clients in any language can record one.
//
//   {"op":"produce","client":"p1","invoked_ns":10,"answered_ns":25,"topic":"orders","partition":0,"records":[[0,71],[1,72]]}
//   {"op":"fetch","client":"c1","invoked_ns":30,"answered_ns":31,"topic":"orders","partition":0,"asked_offset":0,
//    "records":[[0,71],[1,72]],"next_offset":2,"high_watermark":2}
//
// "op" is kName of the operation, the other fields are its members in history.h. A partition is "topic" and
// "partition", a record [offset, token]. Fields may be left out where history.h gives a sensible default: outcome
// ("ok", "not_written", "unknown"), detail, acks ("all", "leader", "none"), idempotent, leader_epoch, high_watermark,
// log_start, session, stale, uncommitted, earliest, latest, node, member, generation of a commit. Unknown fields are
// refused. Empty lines are skipped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <istream>
#include <map>
#include <string>
#include <tuple>

#include "storage/base/status.h"
#include "tests/history/history.h"

namespace trilog::history {

// One line without its end.
std::string to_json(const AnyOperation& operation);
std::string to_json(const OperationPointer& operation);

// kInvalidArgument with what is wrong in the line.
Result<AnyOperation> operation_from_json(const std::string& line);

// Adds all lines to the history. Stops at the first bad one, with "line N: " before what is wrong. A Produce takes the
// place of an earlier one with the same client, invoked_ns and first token. A last line that was cut, as a client
// leaves it that is killed while it writes, counts as not written: it had neither sent that batch yet nor got that
// answer recorded.
class HistoryReader {
 public:
  explicit HistoryReader(History& history) : history_(history) {}
  Status read(std::istream& lines);

 private:
  void add(Produce produce);

  History& history_;
  // Of each Produce: where it is in the history.
  std::map<std::tuple<std::string, int64_t, uint64_t>, size_t> produces_;
};

}  // namespace trilog::history
