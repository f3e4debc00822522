#include "broker/isr_requests.h"

#include <algorithm>
#include <utility>

namespace trilog {

using api::Error;
using api::ErrorCode;
using api::Outcome;
using peer::PeerError;

namespace {

Error unknown(const std::string& why) {
  return Error(ErrorCode::kLeaderNotAvailable, Outcome::kUnknown, "the controller has not decided: " + why);
}

peer::AlterPartition to_wire(const IsrChange& change) {
  peer::AlterPartition asked;
  asked.partition = change.partition;
  asked.leader_epoch = change.leader_epoch;
  asked.partition_epoch = change.partition_epoch;
  for (const IsrMember& member : change.isr) asked.isr.push_back({member.broker, member.epoch});
  return asked;
}

}  // namespace

IsrRequests::IsrRequests(ControllerClient& controller, BrokerId self, std::function<BrokerEpoch()> epoch,
                         std::function<ImagePtr()> image)
    : controller_(controller), self_(self), epoch_(std::move(epoch)), image_(std::move(image)) {}

IsrRequests::~IsrRequests() { *alive_ = nullptr; }

void IsrRequests::ask(IsrChange change, Done done) {
  waiting_.push_back({std::move(change), std::move(done)});
  if (!under_way_) send();
}

void IsrRequests::send() {
  under_way_ = true;
  const size_t count = std::min(waiting_.size(), kPartitionsPerRequest);
  std::vector<Waiting> asked(std::make_move_iterator(waiting_.begin()),
                             std::make_move_iterator(waiting_.begin() + static_cast<ptrdiff_t>(count)));
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<ptrdiff_t>(count));
  peer::AlterPartitionRequest request;
  request.broker = self_;
  request.epoch = epoch_();
  for (const Waiting& each : asked) request.partitions.push_back(to_wire(each.change));
  controller_.call(
      std::move(request), kTimeoutNs,
      [alive = alive_, asked = std::move(asked)](const Result<peer::AlterPartitionAnswer>& answer) mutable {
        if (*alive != nullptr) (*alive)->on_answer(std::move(asked), answer);
      });
}

void IsrRequests::on_answer(std::vector<Waiting> asked, const Result<peer::AlterPartitionAnswer>& answer) {
  std::string failure;
  if (!answer.ok()) {
    failure = answer.status().message();
  } else if (answer->error != PeerError::kNone) {
    failure = peer::peer_error_name(answer->error);
  } else if (answer->partitions.size() != asked.size()) {
    failure = "its answer is not to the question";
  }
  for (size_t i = 0; i < asked.size(); ++i) {
    asked[i].done(failure.empty() ? outcome(answer->partitions[i]) : api::Answer<IsrChanged>(unknown(failure)));
  }
  under_way_ = false;
  if (!waiting_.empty()) send();
}

api::Answer<IsrChanged> IsrRequests::outcome(const peer::AlteredPartition& altered) const {
  switch (altered.error) {
    case PeerError::kNone:
    case PeerError::kStalePartitionEpoch: {  // too late: the answer is the state that it was too late for
      // A minimum that was raised comes with the image; before it does, this state must not be acted upon.
      const TopicImage* topic = image_()->find_topic(altered.partition.topic);
      if (topic == nullptr || altered.min_in_sync > topic->settings.min_insync_replicas) {
        return unknown("the metadata here is older than its answer");
      }
      return IsrChanged{altered.leader_epoch, altered.partition_epoch, altered.isr};
    }
    case PeerError::kFencedLeaderEpoch:
    case PeerError::kNotLeader:
    case PeerError::kInvalidRequest:
    case PeerError::kIneligibleReplica:
    case PeerError::kUnknownPartition:
      return Error(ErrorCode::kNotLeader, Outcome::kNotWritten, std::string(peer::peer_error_name(altered.error)));
    default: return unknown(std::string(peer::peer_error_name(altered.error)));
  }
}

}  // namespace trilog
