// GroupCoordinator: consumer groups of one shard: those whose partition of __consumer_offsets this shard leads. An
// offset commit becomes records of that partition; when its high watermark passes them, OffsetStore applies them to the
// state store together with the applied log offset, and the commit is answered (path (c) of architecture.md). The log
// is the truth; the store is a view that is rebuilt on doubt (G7).
//
// On the shard's thread; `done` is posted, once, also on stop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/api/requests.h"
#include "broker/metadata/metadata_image.h"
#include "broker/replica/replica_manager.h"
#include "storage/env/env.h"
#include "storage/state/state_store.h"

namespace trilog {

struct GroupOptions {
  size_t groups_max = 100'000;
  size_t group_name_bytes_max = 255;
  size_t metadata_bytes_max = 4'096;
  size_t offsets_per_commit_max = 10'000;
  size_t commit_bytes_max = 8u << 20;  // of one commit's records; it is written as one batch
  size_t commits_waiting_max = 10'000;
  uint64_t offsets_segment_bytes = 8u << 20;  // at each roll all live offsets are appended again (G3)
};

// INVALID_REQUEST if not 1 to 255 bytes of UTF-8 without control characters.
std::optional<api::Error> check_group_name(std::string_view name, const GroupOptions& options);
// Which partition of the offsets topic holds a group: a stable hash of its name.
PartitionId offsets_partition_of(std::string_view group, int32_t partition_count);

class GroupCoordinator {
 public:
  // `open_store` opens the node's state store when it is first needed (the store is not needed for the first record).
  using OpenStore = std::function<Result<StateStore*>()>;
  GroupCoordinator(Env& env, GroupOptions options, ReplicaManager& replicas, OpenStore open_store);
  ~GroupCoordinator();

  // Call after ReplicaManager::apply: loads offsets partitions that this shard leads now (replay from the store's
  // applied offset, G1), unloads others (G2). `delta` null: the first image.
  void apply(const ImagePtr& image, const MetadataDelta* delta);

  template <typename T>
  using Done = UniqueFunction<void(api::Answer<T>)>;

  // The offsets topic exists. Per-offset errors are in the result; the call fails as a whole for the group's own
  // reasons.
  void commit_offsets(api::CommitOffsetsRequest request, Done<std::vector<api::CommittedOffset>> done);
  // No entry where nothing was committed. Waits while the partition loads.
  void fetch_offsets(api::FetchOffsetsRequest request, Done<std::vector<api::CommittedOffset>> done);
  // Names with the prefix, after `after`, in order, at most `limit`.
  void list_groups(std::string prefix, std::string after, uint32_t limit, Done<std::vector<api::Group>> done);
  // State and committed offsets; the caller adds ends and lag. UNKNOWN_GROUP if there is neither an offset nor a
  // stream.
  void describe_group(std::string group, Done<api::Group> done);
  // GROUP_NOT_EMPTY while a stream lives, UNKNOWN_GROUP if there is none.
  void delete_group(std::string group, bool validate_only, Done<api::Unit> done);
  // Offsets of a deleted topic go.
  void forget_topic(const TopicId& topic);

  // GROUP_IN_USE (who, since when) if another live stream of the group has one of the topics. One that is renewed must
  // have been lost with an earlier coordinator, and its node must have been there ever since this one coordinates, else
  // FENCED_MEMBER: another stream may have come and gone, and what this one commits would lie behind it (X13, X14).
  api::Answer<api::GroupClaim> claim(const api::ClaimGroupRequest& request);
  void release(const std::string& group, api::StreamId stream);

  void stop();
  void check_invariants();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trilog
