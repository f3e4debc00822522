#include "broker/group/group.h"

#include <algorithm>
#include <utility>

#include "broker/group/group_coordinator.h"
#include "storage/base/crc32c.h"

namespace trilog {
namespace {

using api::Error;
using api::ErrorCode;

// The length of the UTF-8 character at the front (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF),
// or 0 if there is none.
size_t utf8_character(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return 1;
  const size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < size) return 0;
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  if (first == 0xe0 && byte(1) < 0xa0) return 0;
  if (first == 0xed && byte(1) > 0x9f) return 0;
  if (first == 0xf0 && byte(1) < 0x90) return 0;
  if (first == 0xf4 && byte(1) > 0x8f) return 0;
  return size;
}

// C0, delete, and C1 (two bytes in UTF-8).
bool is_control(std::string_view character) {
  const auto first = static_cast<uint8_t>(character[0]);
  if (character.size() == 1) return first < 0x20 || first == 0x7f;
  return first == 0xc2 && static_cast<uint8_t>(character[1]) < 0xa0;
}

}  // namespace

std::optional<Error> check_group_name(std::string_view name, const GroupOptions& options) {
  if (name.empty()) return Error(ErrorCode::kInvalidRequest, "the group has no name");
  if (name.size() > options.group_name_bytes_max) {
    return Error(ErrorCode::kInvalidRequest, "the group name has " + std::to_string(name.size()) + " bytes; at most " +
                                                 std::to_string(options.group_name_bytes_max) + " are allowed")
        .with_detail("limit", std::to_string(options.group_name_bytes_max))
        .with_detail("value", std::to_string(name.size()));
  }
  for (size_t at = 0; at < name.size();) {
    const size_t size = utf8_character(name.substr(at));
    if (size == 0) {
      return Error(ErrorCode::kInvalidRequest, "the group name is not UTF-8 at byte " + std::to_string(at));
    }
    if (is_control(name.substr(at, size))) {
      return Error(ErrorCode::kInvalidRequest, "the group name has a control character at byte " + std::to_string(at));
    }
    at += size;
  }
  return std::nullopt;
}

PartitionId offsets_partition_of(std::string_view group, int32_t partition_count) {
  CHECK_GT(partition_count, 0);
  // On disk for ever: a group must be found in the same partition by every later version.
  return PartitionId(static_cast<int32_t>(crc32c(as_bytes(group)) % static_cast<uint32_t>(partition_count)));
}

std::string_view group_state_name(GroupState state) {
  switch (state) {
    case GroupState::kEmpty: return "Empty";
    case GroupState::kStable: return "Stable";
  }
  UNREACHABLE("group state");
}

GroupState Group::state() const {
  const bool held = std::any_of(claims_.begin(), claims_.end(), [](const Claim& claim) { return !claim.lapsed; });
  return held ? GroupState::kStable : GroupState::kEmpty;
}

bool Group::holds(api::StreamId stream) const {
  return std::any_of(claims_.begin(), claims_.end(), [&](const Claim& claim) { return claim.stream == stream; });
}

Error Group::in_use(const Claim& claim, std::string_view topic) const {
  return Error(ErrorCode::kGroupInUse, "group " + name_ + " is in use for topic " + std::string(topic) + " by " +
                                           (claim.holder.empty() ? "another stream" : claim.holder))
      .with_detail("holder", claim.holder)
      .with_detail("since_ms", std::to_string(claim.since_ms))
      .with_detail("topic", std::string(topic));
}

std::optional<Error> Group::claim(const api::ClaimGroupRequest& request, int64_t now_ms) {
  CHECK_NE(request.stream, api::StreamId{0});
  for (const Claim& claim : claims_) {
    if (claim.stream == request.stream || claim.lapsed) continue;
    for (const std::string& topic : request.topics) {
      if (claim.topics.contains(topic)) return in_use(claim, topic);
    }
  }
  release(request.stream);
  for (const std::string& topic : request.topics) evict_lapsed(topic);
  if (claims_.size() == kStreamsMax) {
    return Error(ErrorCode::kThrottled,
                 "group " + name_ + " is held by " + std::to_string(kStreamsMax) + " streams, which is the limit");
  }
  claims_.push_back({request.stream, {request.topics.begin(), request.topics.end()}, request.holder, now_ms});
  return std::nullopt;
}

void Group::release(api::StreamId stream) {
  std::erase_if(claims_, [&](const Claim& claim) { return claim.stream == stream; });
}

void Group::evict_lapsed(std::string_view topic) {
  std::erase_if(claims_, [&](const Claim& claim) { return claim.lapsed && claim.topics.contains(topic); });
}

void Group::release_node(BrokerId node) {
  std::erase_if(claims_, [&](const Claim& claim) { return api::node_of_stream(claim.stream) == node; });
}

void Group::lapse(BrokerId node) {
  for (Claim& claim : claims_) claim.lapsed = claim.lapsed || api::node_of_stream(claim.stream) == node;
}

std::optional<Error> Group::refuse_commit(const api::CommitOffsetsRequest& request) {
  if (!request.member_id.empty()) {
    return Error(ErrorCode::kFencedMember, "group " + name_ + " has no member " + request.member_id);
  }
  if (request.generation && *request.generation >= 0) {
    return Error(ErrorCode::kIllegalGeneration,
                 "group " + name_ + " has no generation " + std::to_string(*request.generation));
  }
  Claim* own = nullptr;
  for (Claim& claim : claims_) {
    if (claim.stream == request.stream) {
      own = &claim;
      continue;
    }
    if (claim.lapsed) continue;
    for (const api::CommittedOffset& offset : request.offsets) {
      if (claim.topics.contains(offset.topic)) return in_use(claim, offset.topic);
    }
  }
  if (request.stream != 0 && own == nullptr) {
    return Error(ErrorCode::kFencedMember, "the stream does not hold group " + name_ + " any more");
  }
  if (own != nullptr) own->lapsed = false;
  for (const api::CommittedOffset& offset : request.offsets) evict_lapsed(offset.topic);
  return std::nullopt;
}

std::optional<Error> Group::refuse_delete() const {
  for (const Claim& claim : claims_) {
    if (claim.lapsed) continue;
    return Error(ErrorCode::kGroupNotEmpty, "group " + name_ + " is in use by " +
                                                (claim.holder.empty() ? "a stream" : claim.holder) + "; stop it first");
  }
  return std::nullopt;
}

}  // namespace trilog
