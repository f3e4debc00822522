// The members of a struct of requests.h as a tuple, so that tests can compare whole requests and results. How many
// there are is said here: a member that is added does not compile before somebody has looked whether it travels.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "broker/api/forward_codec.h"

namespace trilog::testing {

template <typename T>
inline constexpr size_t kMembers = 0;
// clang-format off
template <> inline constexpr size_t kMembers<TopicPartition> = 2;
template <> inline constexpr size_t kMembers<api::Error> = 5;
template <> inline constexpr size_t kMembers<api::ProduceRequest> = 11;
template <> inline constexpr size_t kMembers<api::Produced> = 6;
template <> inline constexpr size_t kMembers<api::ProduceResult> = 5;
template <> inline constexpr size_t kMembers<api::Position> = 4;
template <> inline constexpr size_t kMembers<api::FetchRequest> = 5;
template <> inline constexpr size_t kMembers<api::FetchedPartition> = 12;
template <> inline constexpr size_t kMembers<api::CancelFetchRequest> = 1;
template <> inline constexpr size_t kMembers<api::OffsetQuery> = 3;
template <> inline constexpr size_t kMembers<api::ListOffsetsRequest> = 3;
template <> inline constexpr size_t kMembers<api::ListedOffset> = 7;
template <> inline constexpr size_t kMembers<api::CommittedOffset> = 7;
template <> inline constexpr size_t kMembers<api::CommitOffsetsRequest> = 6;
template <> inline constexpr size_t kMembers<api::FetchOffsetsRequest> = 2;
template <> inline constexpr size_t kMembers<api::ClaimGroupRequest> = 5;
template <> inline constexpr size_t kMembers<api::GroupClaim> = 1;
template <> inline constexpr size_t kMembers<api::ReleaseGroupRequest> = 2;
template <> inline constexpr size_t kMembers<api::ListGroupsRequest> = 3;
template <> inline constexpr size_t kMembers<api::DescribeGroupRequest> = 1;
template <> inline constexpr size_t kMembers<api::DeleteGroupRequest> = 2;
template <> inline constexpr size_t kMembers<api::GroupPartition> = 6;
template <> inline constexpr size_t kMembers<api::Group> = 4;
template <> inline constexpr size_t kMembers<api::GroupPage> = 2;
template <> inline constexpr size_t kMembers<api::ConfigValue> = 2;
template <> inline constexpr size_t kMembers<api::PartitionState> = 10;
template <> inline constexpr size_t kMembers<api::Topic> = 8;
template <> inline constexpr size_t kMembers<api::CreateTopicRequest> = 7;
template <> inline constexpr size_t kMembers<api::CreateTopicResult> = 2;
template <> inline constexpr size_t kMembers<api::DeleteTopicRequest> = 4;
template <> inline constexpr size_t kMembers<api::AlterTopicRequest> = 5;
template <> inline constexpr size_t kMembers<api::AlterTopicResult> = 2;
template <> inline constexpr size_t kMembers<api::TrimTopicRequest> = 3;
template <> inline constexpr size_t kMembers<api::PartitionStatesRequest> = 1;
template <> inline constexpr size_t kMembers<api::MoveLeaderRequest> = 4;
template <> inline constexpr size_t kMembers<api::MoveLeaderResult> = 3;
template <> inline constexpr size_t kMembers<api::ElectLeaderRequest> = 4;
template <> inline constexpr size_t kMembers<api::ReplicaReach> = 3;
template <> inline constexpr size_t kMembers<api::ElectLeaderResult> = 4;
template <> inline constexpr size_t kMembers<api::DrainRequest> = 2;
template <> inline constexpr size_t kMembers<api::DrainResult> = 2;
template <> inline constexpr size_t kMembers<api::ReplaceVoterRequest> = 2;
template <> inline constexpr size_t kMembers<api::FindTopicRequest> = 1;

#define MEMBERS(count, ...)                  \
  if constexpr (kMembers<T> == (count)) {    \
    const auto& [__VA_ARGS__] = value;       \
    return std::tie(__VA_ARGS__);            \
  }
// clang-format on
template <typename T>
auto members(const T& value) {
  MEMBERS(1, a)
  MEMBERS(2, a, b)
  MEMBERS(3, a, b, c)
  MEMBERS(4, a, b, c, d)
  MEMBERS(5, a, b, c, d, e)
  MEMBERS(6, a, b, c, d, e, f)
  MEMBERS(7, a, b, c, d, e, f, g)
  MEMBERS(8, a, b, c, d, e, f, g, h)
  MEMBERS(10, a, b, c, d, e, f, g, h, i, j)
  MEMBERS(11, a, b, c, d, e, f, g, h, i, j, k)
  MEMBERS(12, a, b, c, d, e, f, g, h, i, j, k, l)
}
#undef MEMBERS

template <typename T>
concept HasMembers = kMembers<T>
!= 0;

inline bool same(const Bytes& a, const Bytes& b) { return bytes_equal(a, b); }
inline bool same(const SharedBytes& a, const SharedBytes& b) { return bytes_equal(a, b); }
inline bool same(const RecordBatch& a, const RecordBatch& b) { return bytes_equal(a.bytes(), b.bytes()); }
inline bool same(const api::Unit&, const api::Unit&) { return true; }
inline bool same(const std::vector<api::Record>& a, const std::vector<api::Record>& b) {
  return a.empty() && b.empty();  // they do not travel
}
inline bool same(const std::optional<api::Sequence>& a, const std::optional<api::Sequence>& b) { return !a && !b; }
template <typename T>
bool same(const T& a, const T& b);
template <typename T>
bool same(const std::optional<T>& a, const std::optional<T>& b) {
  return a.has_value() == b.has_value() && (!a || same(*a, *b));
}
template <typename T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!same(a[i], b[i])) return false;
  }
  return true;
}
template <typename T>
bool same(const std::map<std::string, T>& a, const std::map<std::string, T>& b) {
  if (a.size() != b.size()) return false;
  for (auto i = a.begin(), j = b.begin(); i != a.end(); ++i, ++j) {
    if (i->first != j->first || !same(i->second, j->second)) return false;
  }
  return true;
}
template <typename T>
bool same(const T& a, const T& b) {
  if constexpr (HasMembers<T>) {
    return std::apply(
        [&b](const auto&... ours) {
          return std::apply([&](const auto&... theirs) { return (same(ours, theirs) && ...); }, members(b));
        },
        members(a));
  } else {
    return a == b;
  }
}

// How many members, of the members as well, are as in a new struct.
template <typename T>
size_t left_alone(const T&) {
  return 0;
}
template <typename T>
size_t left_alone(const std::vector<T>& items);
template <HasMembers T>
size_t left_alone(const T& value);
template <typename T>
size_t left_alone(const std::optional<T>& value) {
  return value ? left_alone(*value) : 0;
}
template <typename T>
size_t left_alone(const std::vector<T>& items) {
  size_t count = 0;
  for (const T& item : items) count += left_alone(item);
  return count;
}
template <HasMembers T>
size_t left_alone(const T& value) {
  const T fresh{};
  auto of_one = [](const auto& member, const auto& untouched) {
    return same(member, untouched) ? size_t{1} : left_alone(member);
  };
  return std::apply(
      [&](const auto&... ours) {
        return std::apply([&](const auto&... theirs) { return (of_one(ours, theirs) + ...); }, members(fresh));
      },
      members(value));
}

}  // namespace trilog::testing
