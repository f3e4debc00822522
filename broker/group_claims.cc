#include "broker/group_claims.h"

#include <utility>

#include "broker/group/group_coordinator.h"

namespace trilog {

GroupClaims::GroupClaims(Env& env, std::function<ImagePtr()> image, Ask ask, Release release)
    : env_(env), image_(std::move(image)), ask_(std::move(ask)), release_(std::move(release)) {}

GroupClaims::~GroupClaims() { *alive_ = nullptr; }

void GroupClaims::add(api::ClaimGroupRequest request, api::GroupClaim granted, Lost lost) {
  const api::StreamId stream = request.stream;
  held_.insert_or_assign(stream, Held{std::move(request), granted, std::move(lost)});
}

void GroupClaims::remove(api::StreamId stream) { held_.erase(stream); }

void GroupClaims::follow() {
  const ImagePtr image = image_();
  const TopicImage* topic = image->find_topic(kOffsetsTopic);
  if (topic == nullptr) return;
  for (const auto& [stream, held] : held_) {
    const PartitionId home = offsets_partition_of(held.request.group, static_cast<int32_t>(topic->partitions.size()));
    const PartitionImage& partition = topic->partitions[static_cast<size_t>(home.value())];
    if (partition.leader != kNoBroker && partition.leader_epoch > held.granted.epoch) renew(stream);
  }
}

bool GroupClaims::refused(api::StreamId stream) {
  if (!held_.contains(stream)) return false;
  renew(stream);
  return true;
}

void GroupClaims::renew(api::StreamId stream) {
  Held& held = held_.at(stream);
  if (std::exchange(held.renewing, true)) return;
  api::ClaimGroupRequest request = held.request;
  request.renewed_from = held.granted.epoch;
  ask_(std::move(request), [alive = alive_, stream, group = held.request.group](api::Answer<api::GroupClaim> answer) {
    if (*alive != nullptr) (*alive)->answered(stream, group, std::move(answer));
  });
}

void GroupClaims::answered(api::StreamId stream, const std::string& group, api::Answer<api::GroupClaim> answer) {
  auto found = held_.find(stream);
  if (found == held_.end()) {
    if (answer.ok()) release_(group, stream);
    return;
  }
  Held& held = found->second;
  if (answer.ok()) {
    held.renewing = false;
    held.granted = answer.value();
    return follow();
  }
  if (!api::error_code_retriable(answer.error().code)) {
    Lost lost = std::move(held.lost);
    held_.erase(found);
    return lost(answer.error());
  }
  env_.executor().schedule_after(kAgainNs, [alive = alive_, stream] {
    if (*alive == nullptr) return;
    auto waiting = (*alive)->held_.find(stream);
    if (waiting == (*alive)->held_.end()) return;
    waiting->second.renewing = false;
    (*alive)->renew(stream);
  });
}

}  // namespace trilog
