#include "broker/group/group_coordinator.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "broker/group/group_coordinator_impl.h"

namespace trilog {

using api::Error;
using api::ErrorCode;
using api::Outcome;

namespace {

constexpr size_t kScanEntries = 1'000;

Error not_applicable(Error error) {
  error.outcome = Outcome::kNotApplicable;
  return error;
}

api::CommittedOffset to_answer(const GroupRecord& entry) {
  return {.topic = entry.value->topic_name,
          .partition = entry.key.partition,
          .offset = entry.value->offset,
          .leader_epoch = entry.value->leader_epoch,
          .metadata = entry.value->metadata,
          .commit_timestamp_ms = entry.value->commit_timestamp_ms};
}

}  // namespace

GroupCoordinator::GroupCoordinator(Env& env, GroupOptions options, ReplicaManager& replicas, OpenStore open_store)
    : impl_(std::make_unique<Impl>(env, options, replicas, std::move(open_store))) {}

GroupCoordinator::~GroupCoordinator() = default;

// --- following the image -------------------------------------------------------------------------------------------

void GroupCoordinator::apply(const ImagePtr& image, const MetadataDelta* delta) {
  ImagePtr before = std::exchange(impl_->image, image);
  if (impl_->stopping) return;
  impl_->follow(impl_->offsets_topic());
  if (delta != nullptr && delta->brokers_changed()) impl_->release_gone(*before);
}

// Streams end with the process that they come through. One that cannot be heard for a while is in nobody's way.
void GroupCoordinator::Impl::release_gone(const MetadataImage& before) {
  for (const auto& [id, was] : before.brokers()) {
    const BrokerImage* now = image->find_broker(id);
    const bool gone = now == nullptr || now->epoch != was.epoch;
    if (gone || now->fenced || was.fenced) away_ns[id] = env.clock().monotonic_ns();
    if (!gone && (!now->fenced || was.fenced)) continue;
    for (auto it = groups.begin(); it != groups.end();) {
      if (gone) it->second.release_node(id);
      if (!gone) it->second.lapse(id);
      it = it->second.forgotten() ? groups.erase(it) : std::next(it);
    }
  }
}

bool GroupCoordinator::Impl::was_away(BrokerId node, int64_t since_ns) const {
  const BrokerImage* broker = image->find_broker(node);
  const auto last = away_ns.find(node);
  return broker == nullptr || broker->fenced || (last != away_ns.end() && last->second >= since_ns);
}

void GroupCoordinator::Impl::follow(const TopicImage* topic) {
  auto led_here = [&](PartitionId partition) {
    return topic != nullptr && partition.value() < static_cast<int32_t>(topic->partitions.size()) &&
           replicas.leader_log({topic->id, partition}) != nullptr;
  };
  for (auto it = partitions.begin(); it != partitions.end();) {
    if (led_here(it->first) && it->second->topic() == topic->id) {
      ++it;
      continue;
    }
    it->second->close(Error(ErrorCode::kNotLeader, "this node does not hold the group's partition any more"));  // G2
    // Who leads it now keeps the claims.
    std::erase_if(groups, [&](const auto& group) {
      return topic != nullptr &&
             offsets_partition_of(group.first, static_cast<int32_t>(topic->partitions.size())) == it->first;
    });
    it = partitions.erase(it);
  }
  if (topic == nullptr) return;
  for (size_t i = 0; i < topic->partitions.size(); ++i) {
    const PartitionId partition(static_cast<int32_t>(i));
    if (!led_here(partition)) continue;
    const LeaderEpoch epoch = topic->partitions[i].leader_epoch;
    std::shared_ptr<OffsetsPartition>& slot = partitions[partition];
    if (slot == nullptr) {
      slot = std::make_shared<OffsetsPartition>(
          OffsetsPartition::Context{env, options, replicas, deadlines, open_store,
                                    [this](const TopicId& id) { return image->find_topic(id) != nullptr; }},
          TopicPartition{topic->id, partition}, epoch);
    } else if (slot->epoch() != epoch) {
      slot->epoch_changed(epoch);
    }
  }
}

api::Answer<OffsetsPartition*> GroupCoordinator::Impl::home_of(std::string_view group) {
  if (stopping) return Error(ErrorCode::kNodeStopping, "the node is stopping");
  if (auto error = check_group_name(group, options)) return *std::move(error);
  const TopicImage* topic = offsets_topic();
  if (topic == nullptr || topic->partitions.empty()) {
    return Error(ErrorCode::kLeaderNotAvailable, "the topic of committed offsets is not there yet");
  }
  const PartitionId partition = offsets_partition_of(group, static_cast<int32_t>(topic->partitions.size()));
  auto found = partitions.find(partition);
  if (found != partitions.end()) {
    // R18: what was committed since may be known to another coordinator only.
    const auto ends = replicas.ends({topic->id, partition});
    if (!ends.ok() || !ends->stale) return found->second.get();
    return Error(ErrorCode::kLeaderNotAvailable, "this node coordinated group " + std::string(group) +
                                                     " but has not heard from the controller for longer than the "
                                                     "session time");
  }
  const BrokerId leader = topic->partitions[static_cast<size_t>(partition.value())].leader;
  if (leader == kNoBroker) {
    return Error(ErrorCode::kLeaderNotAvailable, "the partition of group " + std::string(group) + " has no leader now");
  }
  return Error(ErrorCode::kNotLeader,
               "group " + std::string(group) + " is coordinated by node " + std::to_string(leader.value()))
      .with_detail("leader", std::to_string(leader.value()));
}

std::optional<Error> GroupCoordinator::Impl::refuse_waiting(const OffsetsPartition& partition) const {
  if (partition.waiting() < options.commits_waiting_max) return std::nullopt;
  Error error(ErrorCode::kThrottled,
              std::to_string(partition.waiting()) + " group requests are waiting, which is the limit; come back later");
  error.retry_after_ms = 100;
  return error;
}

void GroupCoordinator::forget_topic(const TopicId&) {
  // Offsets of a topic that is gone are not shown from now on, because its id is in no image again (C11). Their records
  // go in the background, or with the next full set.
  for (const auto& [id, partition] : impl_->partitions) partition->sweep();
}

// --- reading -------------------------------------------------------------------------------------------------------

// Of topics that still exist, in the order of their names and partitions.
Result<std::vector<GroupRecord>> GroupCoordinator::Impl::entries_of(OffsetsPartition& home,
                                                                    const std::string& group) const {
  std::vector<GroupRecord> result;
  std::optional<OffsetKey> after;
  while (true) {
    std::vector<GroupRecord> page = TRY(home.view().scan_group(group, after, kScanEntries));
    const bool last = page.size() < kScanEntries;
    if (!page.empty()) after = page.back().key;
    for (GroupRecord& entry : page) {
      if (lives(entry)) result.push_back(std::move(entry));
    }
    if (last) break;
  }
  std::sort(result.begin(), result.end(), [](const GroupRecord& a, const GroupRecord& b) {
    return std::tie(a.value->topic_name, a.key.partition) < std::tie(b.value->topic_name, b.key.partition);
  });
  return result;
}

Result<bool> GroupCoordinator::Impl::has_entries(OffsetsPartition& home, const std::string& group) const {
  std::optional<OffsetKey> after;
  while (true) {
    // The first entry decides as a rule.
    std::vector<GroupRecord> page = TRY(home.view().scan_group(group, after, after ? kScanEntries : 1));
    if (page.empty()) return false;
    after = page.back().key;
    if (std::any_of(page.begin(), page.end(), [&](const GroupRecord& entry) { return lives(entry); })) return true;
  }
}

void GroupCoordinator::fetch_offsets(api::FetchOffsetsRequest request, Done<std::vector<api::CommittedOffset>> done) {
  using Answer = api::Answer<std::vector<api::CommittedOffset>>;
  Impl& self = *impl_;
  auto home = self.home_of(request.group);
  std::optional<Error> error;
  if (!home.ok()) error = std::move(home.error());
  if (!error) error = self.refuse_waiting(*home.value());
  if (error) return self.post(std::move(done), Answer(not_applicable(*std::move(error))));

  OffsetsPartition& partition = *home.value();
  partition.when_ready(
      [&self, &partition, request = std::move(request), done = std::move(done)](const Error* failed) mutable -> Status {
        if (failed != nullptr) {
          done(not_applicable(*failed));
          return {};
        }
        std::vector<api::CommittedOffset> found;
        if (request.positions.empty()) {
          for (const GroupRecord& entry : TRY(self.entries_of(partition, request.group)))
            found.push_back(to_answer(entry));
        }
        for (const api::Position& position : request.positions) {
          const TopicImage* topic = self.image->find_topic(position.topic);
          if (topic == nullptr) continue;
          GroupRecord entry{{request.group, topic->id, position.partition}, std::nullopt};
          entry.value = TRY(partition.view().get(entry.key));
          if (entry.value) found.push_back(to_answer(entry));
        }
        done(std::move(found));
        return {};
      });
}

void GroupCoordinator::describe_group(std::string group, Done<api::Group> done) {
  Impl& self = *impl_;
  auto home = self.home_of(group);
  std::optional<Error> error;
  if (!home.ok()) error = std::move(home.error());
  if (!error) error = self.refuse_waiting(*home.value());
  // Without the offsets topic no group was ever there.
  if (error && self.offsets_topic() == nullptr && self.image && !self.stopping) {
    error = Error(ErrorCode::kUnknownGroup, "there is no group " + group);
  }
  if (error) return self.post(std::move(done), api::Answer<api::Group>(*std::move(error)));

  OffsetsPartition& partition = *home.value();
  partition.when_ready(
      [&self, &partition, group = std::move(group), done = std::move(done)](const Error* failed) mutable -> Status {
        if (failed != nullptr) {
          done(not_applicable(*failed));
          return {};
        }
        const std::vector<GroupRecord> entries = TRY(self.entries_of(partition, group));
        const GroupState state = self.state_of(group);
        if (entries.empty() && state == GroupState::kEmpty) {
          done(Error(ErrorCode::kUnknownGroup, "there is no group " + group));
          return {};
        }
        api::Group answer{.group = group, .state = std::string(group_state_name(state))};
        for (const GroupRecord& entry : entries) {
          answer.partitions.push_back({.topic = entry.value->topic_name,
                                       .partition = entry.key.partition,
                                       .committed = entry.value->offset,
                                       .commit_timestamp_ms = entry.value->commit_timestamp_ms});
        }
        done(std::move(answer));
        return {};
      });
}

Status GroupCoordinator::Impl::names_in(OffsetsPartition& home, const std::string& prefix, const std::string& after,
                                        uint32_t limit, std::vector<std::string>& names) const {
  std::string last = after;
  for (uint32_t found = 0; found < limit;) {
    std::optional<std::string> next = TRY(home.view().next_group(prefix, last));
    if (!next) return {};
    last = *next;
    if (!TRY(has_entries(home, last))) continue;  // only offsets of topics that are gone
    names.push_back(*std::move(next));
    ++found;
  }
  return {};
}

void GroupCoordinator::list_groups(std::string prefix, std::string after, uint32_t limit,
                                   Done<std::vector<api::Group>> done) {
  using Answer = api::Answer<std::vector<api::Group>>;
  Impl& self = *impl_;
  if (self.stopping) return self.post(std::move(done), Answer(Error(ErrorCode::kNodeStopping, "the node is stopping")));

  // Every partition adds its first `limit` names; the first `limit` of all are among them.
  struct Gathered {
    std::vector<std::string> names;
    std::optional<Error> error;
    size_t missing = 0;
    Done<std::vector<api::Group>> done;
  };
  auto gathered = std::make_shared<Gathered>();
  gathered->done = std::move(done);
  for (const auto& [name, group] : self.groups) {
    if (name.starts_with(prefix) && name > after && group.state() != GroupState::kEmpty)
      gathered->names.push_back(name);
  }
  auto arrived = [&self, gathered, limit] {
    if (--gathered->missing > 0) return;
    if (gathered->error) return gathered->done(not_applicable(*gathered->error));
    std::vector<std::string>& names = gathered->names;
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    if (names.size() > limit) names.resize(limit);
    std::vector<api::Group> groups;
    for (const std::string& name : names) {
      groups.push_back({.group = name, .state = std::string(group_state_name(self.state_of(name)))});
    }
    gathered->done(std::move(groups));
  };
  gathered->missing = self.partitions.size() + 1;
  for (const auto& [id, shared] : self.partitions) {
    OffsetsPartition& partition = *shared;
    partition.when_ready([&self, &partition, gathered, arrived, prefix, after, limit](const Error* failed) -> Status {
      std::vector<std::string> names;
      if (failed == nullptr) TRY(self.names_in(partition, prefix, after, limit, names));
      if (failed != nullptr) gathered->error = *failed;
      std::move(names.begin(), names.end(), std::back_inserter(gathered->names));
      arrived();
      return {};
    });
  }
  self.env.executor().post(arrived);
}

// --- deleting ------------------------------------------------------------------------------------------------------

Result<OffsetsPartition::Made> GroupCoordinator::Impl::tombstones(OffsetsPartition& home,
                                                                  const std::string& group) const {
  OffsetsPartition::Made made;
  // A piece at a time: the next one is what is left when this one is applied.
  made.records = TRY(home.view().scan_group(group, std::nullopt, kScanEntries));
  made.more = made.records.size() == kScanEntries;
  for (GroupRecord& entry : made.records) entry.value.reset();
  return made;
}

void GroupCoordinator::delete_group(std::string group, bool validate_only, Done<api::Unit> done) {
  Impl& self = *impl_;
  auto home = self.home_of(group);
  std::optional<Error> error;
  if (!home.ok()) error = std::move(home.error());
  if (!error) error = self.refuse_waiting(*home.value());
  if (error && self.offsets_topic() == nullptr && self.image && !self.stopping) {
    error = Error(ErrorCode::kUnknownGroup, "there is no group " + group);
  }
  if (error) return self.post(std::move(done), api::Answer<api::Unit>(*std::move(error)));
  OffsetsPartition& partition = *home.value();
  auto make = [&self, &partition, group = std::move(group), validate_only,
               begun = false]() mutable -> Result<OffsetsPartition::Made> {
    OffsetsPartition::Made made;
    if (auto found = self.groups.find(group); found != self.groups.end()) made.error = found->second.refuse_delete();
    if (!made.error && !begun && !TRY(self.has_entries(partition, group))) {
      made.error = Error(ErrorCode::kUnknownGroup, "there is no group " + group);
    }
    if (made.error || validate_only) return made;
    begun = true;
    return self.tombstones(partition, group);
  };
  partition.write({.make = std::move(make),
                   .reads_view = true,
                   .done = [done = std::move(done)](std::optional<Error> failed) mutable {
                     if (failed) return done(*std::move(failed));
                     done(api::Unit{});
                   }});
}

// --- streams -------------------------------------------------------------------------------------------------------

api::Answer<api::GroupClaim> GroupCoordinator::claim(const api::ClaimGroupRequest& request) {
  Impl& self = *impl_;
  if (self.stopping) return Error(ErrorCode::kNodeStopping, "the node is stopping");
  if (auto error = check_group_name(request.group, self.options)) return *std::move(error);
  // Before there is a topic of offsets nobody else can be the coordinator.
  api::GroupClaim granted;
  if (self.offsets_topic() != nullptr) {
    auto home = self.home_of(request.group);
    if (!home.ok()) return std::move(home.error());
    granted.epoch = home.value()->epoch();
    const auto known = self.groups.find(request.group);
    const bool held = known != self.groups.end() && known->second.holds(request.stream);
    // Of a coordinator in between that it did not meet, nobody here knows whom it let in.
    const bool from_the_one_before = request.renewed_from.value() + 1 == granted.epoch.value();
    const int64_t since_ns = from_the_one_before ? home.value()->begun_ns() : 0;
    if (request.renewed_from != kNoLeaderEpoch && !held &&
        (request.renewed_from >= granted.epoch || self.was_away(api::node_of_stream(request.stream), since_ns))) {
      return Error(ErrorCode::kFencedMember, "the stream does not hold group " + request.group + " any more");
    }
  }
  if (self.groups.size() >= self.options.groups_max && !self.groups.contains(request.group)) {
    return Error(ErrorCode::kThrottled,
                 "streams hold " + std::to_string(self.groups.size()) + " groups of this node, which is its limit");
  }
  Group& group = self.groups.try_emplace(request.group, request.group).first->second;
  auto error = group.claim(request, self.env.clock().wall_ms());
  if (group.forgotten()) self.groups.erase(request.group);
  if (error) return *std::move(error);
  return granted;
}

void GroupCoordinator::release(const std::string& group, api::StreamId stream) {
  auto found = impl_->groups.find(group);
  if (found == impl_->groups.end()) return;
  found->second.release(stream);
  if (found->second.forgotten()) impl_->groups.erase(found);
}

// --- life ----------------------------------------------------------------------------------------------------------

void GroupCoordinator::stop() {
  impl_->stopping = true;
  const Error stopping(ErrorCode::kNodeStopping, "the node is stopping");
  for (auto& [id, partition] : impl_->partitions) {
    // Posted: whoever stops must not be answered inside this call.
    impl_->env.executor().post([partition = partition, stopping] { partition->close(stopping); });
  }
}

void GroupCoordinator::check_invariants() {
  for (auto& [id, partition] : impl_->partitions) partition->check_invariants();
}

}  // namespace trilog
