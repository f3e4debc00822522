// Group: one consumer group while somebody is in it. Until groups have members, that is the Consume streams which hold
// it: at most one at a time for each topic. Nothing of it is stored: a stream ends with its connection, and so with the
// node; with another coordinator it is claimed again. The claim of a stream whose node is away lapses: it is in
// nobody's way, and counts again as soon as the stream commits, if nobody took the topics meanwhile.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "broker/api/requests.h"

namespace trilog {

// Empty: nobody is in it. Stable: whoever is in it may consume. (Groups with members will add the two rebalancing
// states between them.)
enum class GroupState { kEmpty, kStable };
std::string_view group_state_name(GroupState state);  // as users see it

class Group {
 public:
  // At most so many streams hold one group.
  static constexpr size_t kStreamsMax = 1'000;

  explicit Group(std::string name) : name_(std::move(name)) {}

  GroupState state() const;
  bool forgotten() const { return claims_.empty(); }  // nothing is known of anybody
  // GROUP_IN_USE, with who and since when, if another stream has one of the topics. A stream that claims again replaces
  // its own topics.
  std::optional<api::Error> claim(const api::ClaimGroupRequest& request, int64_t now_ms);
  // An unknown stream is ignored.
  void release(api::StreamId stream);
  void release_node(BrokerId node);  // all streams of its process
  void lapse(BrokerId node);         // likewise
  bool holds(api::StreamId stream) const;
  // Why this commit is not accepted (X14), or nothing: a stream must still hold the group; anybody else must wait until
  // no stream has the topics; there are no members and no generations. What a stream may commit revives its claim.
  std::optional<api::Error> refuse_commit(const api::CommitOffsetsRequest& request);
  // GROUP_NOT_EMPTY while a stream lives.
  std::optional<api::Error> refuse_delete() const;

 private:
  struct Claim {
    api::StreamId stream = 0;
    std::set<std::string, std::less<>> topics;
    std::string holder;
    int64_t since_ms = 0;
    bool lapsed = false;
  };
  void evict_lapsed(std::string_view topic);
  api::Error in_use(const Claim& claim, std::string_view topic) const;

  const std::string name_;
  std::vector<Claim> claims_;
};

}  // namespace trilog
