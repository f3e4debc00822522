// ConsumePositions: where a consumer stands in every partition. Private to the client library.
//
// A seek takes a moment to reach the broker, and what it sent before is still on its way; those answers go on exactly
// where the last one ended, so they are known by that and left out. What a broken connection brings twice is left out
// too, because a partition only ever moves forward between seeks.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/client.h"
#include "trilog/v1/broker.pb.h"

namespace trilog::client {

// Why `response` cannot be what was subscribed to, `reads` telling topics: followed, it would move a position to where
// nothing was read.
std::optional<std::string> flaw_of(const v1::ConsumeResponse& response,
                                   const std::function<bool(const std::string&)>& reads);

class ConsumePositions {
 public:
  void clear() { places_.clear(); }
  void set(const Position& position);
  void seek(const Position& position);
  // A new connection brings nothing of what the old one still had on its way.
  void reconnected();

  // The first record of `part` that is news, and moves the position behind `part`; nothing if all of it is old.
  std::optional<int> take(const v1::FetchedPartition& part);
  // Leaves `part` unread; seek() to position() brings it again.
  void skip(const v1::FetchedPartition& part);
  Position position(const std::string& topic, int32_t partition) const;
  bool knows(const std::string& topic) const;
  // Whether this end was reached after the last seek; then the position is there.
  bool take_end(const v1::Position& end);

  // What to ask for when the stream is opened (again).
  std::vector<Position> all() const;

 private:
  struct Place {
    Position where;               // offset absent: the first record, or the first at its time
    bool seeking = false;         // the broker's answer to the last seek did not come yet
    bool old_start_known = true;  // whether `old` says where answers from before the seek begin
    std::vector<int64_t> old;     // offsets at which answers from before the seek would go on
  };
  std::map<std::pair<std::string, int32_t>, Place> places_;
};

}  // namespace trilog::client
