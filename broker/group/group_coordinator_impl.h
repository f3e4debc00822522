// The inside of GroupCoordinator, shared by its two source files: commits (group_commits.cc) and all else
// (group_coordinator.cc).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "broker/group/deadlines.h"
#include "broker/group/group.h"
#include "broker/group/group_coordinator.h"
#include "broker/group/group_record.h"
#include "broker/group/offsets_partition.h"

namespace trilog {

struct GroupCoordinator::Impl {
  Impl(Env& environment, GroupOptions group_options, ReplicaManager& replica_manager, OpenStore open)
      : env(environment),
        options(group_options),
        replicas(replica_manager),
        open_store(std::move(open)),
        deadlines(environment) {}

  Env& env;
  const GroupOptions options;
  ReplicaManager& replicas;
  const OpenStore open_store;
  Deadlines deadlines;
  ImagePtr image;
  std::map<PartitionId, std::shared_ptr<OffsetsPartition>> partitions;
  std::map<std::string, Group, std::less<>> groups;  // those that somebody is in
  std::map<BrokerId, int64_t> away_ns;               // when a node was last seen to be away
  bool stopping = false;

  template <typename T>
  void post(Done<T> done, api::Answer<T> answer) {
    env.executor().post([done = std::move(done), answer = std::move(answer)]() mutable { done(std::move(answer)); });
  }
  const TopicImage* offsets_topic() const { return image ? image->find_topic(kOffsetsTopic) : nullptr; }
  void follow(const TopicImage* topic);
  void release_gone(const MetadataImage& before);
  bool was_away(BrokerId node, int64_t since_ns) const;
  // The partition that holds the group, or why it is not here.
  api::Answer<OffsetsPartition*> home_of(std::string_view group);
  std::optional<api::Error> refuse_waiting(const OffsetsPartition& partition) const;
  std::optional<api::Error> check_commit(const api::CommitOffsetsRequest& request);
  std::optional<api::Error> check_offset(const api::CommittedOffset& offset, TopicId& topic_id);
  std::optional<api::Error> check_size(const std::vector<GroupRecord>& records) const;
  Result<OffsetsPartition::Made> admit(OffsetsPartition& home, const std::vector<GroupRecord>& records) const;
  Result<std::vector<GroupRecord>> entries_of(OffsetsPartition& home, const std::string& group) const;
  Result<bool> has_entries(OffsetsPartition& home, const std::string& group) const;
  Result<OffsetsPartition::Made> tombstones(OffsetsPartition& home, const std::string& group) const;
  bool lives(const GroupRecord& entry) const { return image->find_topic(entry.key.topic) != nullptr; }
  GroupState state_of(std::string_view group) const {
    auto found = groups.find(group);
    return found == groups.end() ? GroupState::kEmpty : found->second.state();
  }
  Status names_in(OffsetsPartition& home, const std::string& prefix, const std::string& after, uint32_t limit,
                  std::vector<std::string>& names) const;
};

}  // namespace trilog
