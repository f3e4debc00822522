// Controller: what operators ask for (rules C7, C14).
#include <algorithm>
#include <tuple>
#include <utility>

#include "broker/controller/controller_impl.h"
#include "broker/controller/partition_control.h"

namespace trilog {

void Controller::move_leader(api::MoveLeaderRequest request, Done<api::MoveLeaderResult> done) {
  impl_->submit<api::MoveLeaderResult>(
      [impl = impl_.get(), request = std::move(request)](PlannedState& state) -> Step<api::MoveLeaderResult> {
        auto found = find_partition(state, request.topic, request.partition);
        if (found.ok() && !request.validate_only && !impl->returned.empty()) impl->moved_by_hand.insert(found.value());
        return plan_move_leader(state, request);
      },
      std::move(done));
}

void Controller::drain_broker(api::DrainRequest request, Done<api::DrainResult> done) {
  impl_->submit<api::DrainResult>(
      [impl = impl_.get(), request, moved = 0](PlannedState& state) mutable {
        if (!request.validate_only) impl->returned.erase(request.broker);
        return plan_drain(state, request, moved);
      },
      std::move(done));
}

void Controller::replace_voter(api::ReplaceVoterRequest request, Done<api::Unit> done) {
  impl_->log.replace_voter(request.broker, request.validate_only,
                           [done = std::move(done)](const Status& status) mutable {
                             if (status.ok()) return done(api::Unit{});
                             std::string why(status.message());
                             switch (status.code()) {
                               case Errc::kNotFound:
                               case Errc::kInvalidArgument:
                                 return done(api::Error(api::ErrorCode::kInvalidRequest, std::move(why)));
                               default: return done(api::Error(api::ErrorCode::kLeadershipLost, std::move(why)));
                             }
                           });
}

void Controller::believe_in_recovery(ImagePtr committed) { impl_->believed = std::move(committed); }

// The first thing in office, before anybody is fenced or elected: what the metadata says about who may lead is not
// believed any more. A survivor that dies in the middle of it begins again, and so would a successor; they believe
// nothing of it.
void Controller::Impl::recover_if_due(const MetadataImage& now) {
  const QuorumRecovery recovery = log.recovery();
  if (recovery.number == 0 || (now.recovery() && now.recovery()->number >= recovery.number)) return;
  QuorumRecoveryRecord record{recovery.number, recovery.survivor, env.clock().wall_ms()};
  submit<api::Unit>([record, known = std::exchange(believed, nullptr), done = size_t{0}](
                        PlannedState& state) mutable { return plan_quorum_recovery(state, record, known.get(), done); },
                    [](const api::Answer<api::Unit>&) {});
}

void Controller::elect_leader_with_loss(api::ElectLeaderRequest request, Done<api::ElectLeaderResult> done) {
  impl_->hear_replicas(std::move(request), std::move(done));
}

namespace {

struct ReplicaHearing {
  api::ElectLeaderRequest request;
  Controller::Done<api::ElectLeaderResult> done;
  std::vector<BrokerId> order;  // of assignment
  std::vector<api::ReplicaReach> heard;
  size_t outstanding = 0;
};

// The furthest of those that answered, the first in order of assignment among equals.
std::optional<BrokerId> furthest(const ReplicaHearing& hearing) {
  std::optional<api::ReplicaReach> best;
  for (BrokerId replica : hearing.order) {
    for (const api::ReplicaReach& each : hearing.heard) {
      if (each.broker != replica) continue;
      bool further = !best || std::tuple(each.last_epoch, each.log_end) > std::tuple(best->last_epoch, best->log_end);
      if (further) best = each;
    }
  }
  return best ? std::optional(best->broker) : std::nullopt;
}

}  // namespace

// Asks every replica that is up how far it reaches, then elects.
void Controller::Impl::hear_replicas(api::ElectLeaderRequest request, Done<api::ElectLeaderResult> done) {
  auto hearing = std::make_shared<ReplicaHearing>(ReplicaHearing{std::move(request), std::move(done), {}, {}, 1});
  auto arrived = [self_copy = self, hearing] {
    if (--hearing->outstanding > 0) return;
    Impl* impl = *self_copy;
    if (impl == nullptr) return hearing->done(api::Error(api::ErrorCode::kNodeStopping, "this node is stopping"));
    if (!hearing->request.leader) hearing->request.leader = furthest(*hearing);
    impl->submit<api::ElectLeaderResult>(
        [impl, hearing](PlannedState& state) -> Step<api::ElectLeaderResult> {
          auto found = find_partition(state, hearing->request.topic, hearing->request.partition);
          if (!found.ok()) return std::move(found.error());
          if (!hearing->request.leader) {
            return api::Error(api::ErrorCode::kNotEnoughReplicas,
                              "no replica of partition " + hearing->request.topic + "/" +
                                  std::to_string(hearing->request.partition.value()) + " is up and answers");
          }
          auto result = plan_elect_with_loss(state, hearing->request, impl->env.clock().wall_ms());
          if (result.ok()) result->heard = hearing->heard;
          return result;
        },
        std::move(hearing->done));
  };
  ImagePtr now = image();
  auto partition = find_partition(PlannedState(now, Offset(0)), hearing->request.topic, hearing->request.partition);
  if (partition.ok() && peers.hear && active && !stopped) {
    auto index = static_cast<size_t>(partition->partition.value());
    hearing->order = now->find_topic(partition->topic)->partitions[index].replicas;
    for (BrokerId replica : hearing->order) {
      const BrokerImage* broker = now->find_broker(replica);
      if (broker == nullptr || !broker->eligible()) continue;
      ++hearing->outstanding;
      peers.hear(replica, {broker->epoch, {partition.value()}},
                 [hearing, arrived, replica, epoch = broker->epoch](const Result<peer::HearingAnswer>& answer) {
                   bool told = answer.ok() && answer->epoch == epoch && answer->replicas.size() == 1;
                   if (told && answer->replicas.front().intact) {
                     const peer::HeardReplica& heard = answer->replicas.front();
                     hearing->heard.push_back({replica, heard.last_epoch, heard.log_end});
                   }
                   arrived();
                 });
    }
  }
  arrived();
}

}  // namespace trilog
