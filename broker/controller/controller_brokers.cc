// Controller: registrations, heartbeats, sessions, shutdowns (rules C3, C4, C5, C9, R8).
#include <algorithm>
#include <utility>

#include "broker/controller/controller_impl.h"
#include "broker/controller/partition_control.h"

namespace trilog {

using api::Error;
using api::ErrorCode;
using peer::PeerError;

PeerError peer_error(ErrorCode code) {
  switch (code) {
    case ErrorCode::kLeaderNotAvailable: return PeerError::kNotController;
    case ErrorCode::kThrottled: return PeerError::kBusy;
    case ErrorCode::kLeadershipLost: return PeerError::kOutcomeUnknown;
    case ErrorCode::kNodeStopping: return PeerError::kStopping;
    default: return PeerError::kInvalidRequest;
  }
}

std::optional<BrokerId> Controller::Impl::only_voter() const {
  const std::vector<Voter>& voters = log.voters();
  if (voters.size() != 1) return std::nullopt;
  return voters.front().id;
}

// --- office ----------------------------------------------------------------------------------------------------------

void Controller::Impl::take_office() {
  ImagePtr now = image();
  recover_if_due(*now);
  sessions.take_office(*now, only_voter(), now_ns());
  roll_call = true;
  for (BrokerId broker : sessions.undecided(*now, now_ns())) probe(broker);
  check_sessions();
  hearings.look();
}

void Controller::Impl::leave_office() {
  sessions.leave_office();
  hearings.stop();
  roll_call = false;
  fencing.clear();
  damage_reported.clear();
  forget_leaders();
  if (timer != 0) env.executor().cancel(std::exchange(timer, 0));
}

void Controller::Impl::probe(BrokerId broker) {
  if (!peers.probe) return;
  const BrokerImage* known = image()->find_broker(broker);
  if (known == nullptr) return;
  peers.probe(broker, {peers.self},
              [self_copy = self, broker, epoch = known->epoch](const Result<peer::ProbeAnswer>& answer) {
                Impl* impl = *self_copy;
                if (impl == nullptr || !impl->active || impl->stopped || !answer.ok()) return;
                if (answer->epoch == epoch) {
                  impl->sessions.heard(broker, epoch, answer->applied, impl->now_ns());
                } else {
                  // Whoever answers has not registered yet, or knows of a registration that this node must have as
                  // well.
                  const BrokerImage* registered = impl->image()->find_broker(broker);
                  if (registered != nullptr && registered->epoch == epoch) impl->sessions.found_gone(broker);
                }
                impl->check_sessions();
              });
}

void Controller::Impl::arm_timer() {
  if (timer != 0) return;
  std::optional<int64_t> end = sessions.next_end(*image());
  if (!end) return;
  timer_due_ns = std::max(*end, now_ns() + 10'000'000);
  timer = env.executor().schedule_after(timer_due_ns - now_ns(), [self_copy = self] {
    Impl* impl = *self_copy;
    if (impl == nullptr) return;
    impl->timer = 0;
    // A timer that comes late says that this process did not run. Heartbeats of that time wait to be read, so nobody
    // else is to blame.
    const int64_t late_ns = impl->now_ns() - impl->timer_due_ns;
    if (late_ns > impl->options.session_timeout_ms * 1'000'000 / 4) impl->sessions.restart_all(impl->now_ns());
    impl->check_sessions();
  });
}

void Controller::Impl::check_sessions() {
  if (!active || stopped) return;
  if (roll_call) {
    std::set<BrokerId> undecided = sessions.undecided(*image(), now_ns());
    // A process that registers anew is the end of the one before it.
    for (const HeldRegistration& each : held) {
      const BrokerImage* known = image()->find_broker(each.registration.broker);
      if (known != nullptr && known->directory == each.registration.directory) undecided.erase(known->id);
    }
    if (undecided.empty()) end_roll_call();
  } else {
    fence(sessions.ended(*image(), now_ns()));
  }
  arm_timer();
}

void Controller::Impl::end_roll_call() {
  roll_call = false;
  ImagePtr now = image();
  std::map<BrokerId, BrokerEpoch> gone = sessions.ended(*now, now_ns());
  std::vector<HeldRegistration> registrations = std::exchange(held, {});
  // All that are gone leave together, before the first of them comes back (C3). Two folders may claim one id: only
  // the registered one says that the process is gone.
  for (const HeldRegistration& each : registrations) {
    const BrokerImage* known = now->find_broker(each.registration.broker);
    if (known == nullptr || known->fenced || known->directory != each.registration.directory) continue;
    if (only_voter() != known->id) gone[known->id] = known->epoch;
  }
  fence(std::move(gone));
  for (HeldRegistration& each : registrations) submit_registration(std::move(each.registration), std::move(each.done));
}

void Controller::Impl::fence(std::map<BrokerId, BrokerEpoch> brokers) {
  std::erase_if(brokers, [&](const auto& each) {
    auto under_way = fencing.find(each.first);
    return under_way != fencing.end() && under_way->second == each.second;
  });
  if (brokers.empty()) return;
  for (const auto& [broker, epoch] : brokers) {
    fencing[broker] = epoch;
    env.log().warning("node ", broker, " is gone or silent: fenced");
  }
  submit<api::Unit>([brokers](PlannedState& state) { return plan_fence(state, brokers); },
                    [self_copy = self, brokers](const api::Answer<api::Unit>& answer) {
                      Impl* impl = *self_copy;
                      if (impl == nullptr || !impl->active) return;
                      for (const auto& [broker, epoch] : brokers) impl->fencing.erase(broker);
                      if (answer.ok()) impl->fenced_at = impl->image()->applied();
                      if (!answer.ok()) return impl->arm_timer();  // tries again then
                      impl->hearings.look();
                      impl->check_sessions();
                    });
}

PeerError Controller::Impl::hear(BrokerId broker, BrokerEpoch epoch, std::optional<Offset> applied) {
  if (stopped) return PeerError::kStopping;
  if (!active) return PeerError::kNotController;
  ImagePtr now = image();
  const BrokerImage* known = now->find_broker(broker);
  if (known != nullptr && epoch > known->epoch) return PeerError::kNotController;
  if (known == nullptr || known->epoch != epoch) return PeerError::kStaleBrokerEpoch;
  sessions.heard(broker, epoch, applied, now_ns());
  if (roll_call) check_sessions();
  return PeerError::kNone;
}

// --- calls -----------------------------------------------------------------------------------------------------------

void Controller::Impl::submit_registration(Registration registration, Done<BrokerEpoch> done) {
  const BrokerId broker = registration.broker;
  auto plan = [this, registration = std::move(registration)](PlannedState& state) {
    RegistrationContext context;
    const std::vector<Voter>& voters = log.voters();
    context.caught_up = voters.size() == 1 && voters.front() == Voter{registration.broker, registration.directory};
    context.expired = !sessions.live(registration.broker, now_ns());
    context.now_ms = env.clock().wall_ms();
    return plan_registration(state, registration, context);
  };
  submit<BrokerEpoch>(std::move(plan),
                      [self_copy = self, broker, done = std::move(done)](api::Answer<BrokerEpoch> epoch) mutable {
                        Impl* impl = *self_copy;
                        if (impl != nullptr && impl->active && !impl->stopped && epoch.ok()) {
                          impl->sessions.registered(broker, epoch.value(), impl->now_ns());
                          impl->hearings.look();
                          impl->check_sessions();
                        }
                        done(std::move(epoch));
                      });
}

void Controller::register_broker(Registration registration, Done<BrokerEpoch> done) {
  Impl& impl = *impl_;
  if (!impl.active || impl.stopped || !impl.roll_call) {
    return impl.submit_registration(std::move(registration), std::move(done));
  }
  Error again(ErrorCode::kThrottled, "the cluster is finding out who is alive; try again");
  again.retry_after_ms = 100;
  // Of two questions of one process the first was given up.
  for (Impl::HeldRegistration& each : impl.held) {
    if (each.registration.broker != registration.broker || each.registration.directory != registration.directory)
      continue;
    impl.post<api::Answer<BrokerEpoch>>(std::exchange(each.done, std::move(done)), std::move(again));
    each.registration = std::move(registration);
    return;
  }
  if (impl.held.size() >= impl.options.registrations_held_max) {
    return impl.post<api::Answer<BrokerEpoch>>(std::move(done), std::move(again));
  }
  impl.held.push_back({std::move(registration), std::move(done)});
  impl.check_sessions();
}

peer::HeartbeatAnswer Controller::Impl::heartbeat_answer(BrokerId broker, BrokerEpoch epoch) {
  peer::HeartbeatAnswer answer;
  ImagePtr now = image();
  const BrokerImage* known = now->find_broker(broker);
  if (known == nullptr || known->epoch != epoch) {
    answer.error = PeerError::kStaleBrokerEpoch;
    return answer;
  }
  answer.fenced = known->fenced;
  answer.applied = now->applied();
  answer.clock_agrees = sessions.clock_agrees(broker, now_ns());
  if (!known->draining) return answer;
  Leaderships leads = count_leaderships(*now, broker);
  answer.leads = leads.all;
  std::optional<Offset> at = sessions.handed_over_at(broker);
  const bool left = leads.movable == 0 && leads.in_sync == 0;
  answer.may_shut_down = known->fenced || (left && at && sessions.all_others_applied(*now, broker, *at));
  return answer;
}

void Controller::Impl::on_heartbeat(peer::HeartbeatRequest request, Reply<peer::HeartbeatAnswer> done) {
  PeerError error = hear(request.broker, request.epoch, request.applied);
  if (error != PeerError::kNone) return post(std::move(done), peer::HeartbeatAnswer{error});
  // Bounded, so that no clock makes the difference overflow.
  constexpr int64_t kLatest_ms = int64_t{1} << 53;
  sessions.clock_told(request.broker, std::clamp<int64_t>(request.wall_ms, 0, kLatest_ms) - env.clock().wall_ms());
  if (!request.damaged.empty()) report_damage(request.broker, std::move(request.damaged));
  hear_of_disk(request.broker, request.disk_full);
  ImagePtr now = image();
  const BrokerImage& broker = *now->find_broker(request.broker);
  if (request.wants_shutdown && broker.fenced) {
    return post(std::move(done), peer::HeartbeatAnswer{PeerError::kNone, true, true, 0});
  }
  if (request.wants_shutdown) {
    std::optional<Offset> at = sessions.handed_over_at(broker.id);
    Leaderships leads = count_leaderships(*now, broker.id);
    const bool knows = broker.draining && at && request.applied >= *at;
    if (!broker.draining || !at || leads.movable > 0 || (knows && leads.in_sync > 0)) {
      return begin_shutdown(request.broker, request.epoch, knows, std::move(done));
    }
  } else if (broker.fenced && request.applied.value() >= request.epoch.value() && request.applied >= fenced_at) {
    return unfence(request.broker, request.epoch, std::move(done));
  }
  confirm(request.broker, request.epoch, !request.wants_shutdown && !broker.fenced, std::move(done));
}

// R18: who hears this leads on for the time of a session. A controller that stood still does not know yet that another
// one was elected meanwhile, so a majority has to say that it still leads.
void Controller::Impl::confirm(BrokerId broker, BrokerEpoch epoch, bool patiently, Reply<peer::HeartbeatAnswer> done) {
  log.read_index(patiently,
                 [self_copy = self, broker, epoch, done = std::move(done)](const Result<Offset>& leads) mutable {
                   Impl* impl = *self_copy;
                   if (impl == nullptr || impl->stopped) return done(peer::HeartbeatAnswer{PeerError::kStopping});
                   if (!leads.ok() || !impl->active) return done(peer::HeartbeatAnswer{PeerError::kNotController});
                   done(impl->heartbeat_answer(broker, epoch));
                 });
}

// The answer comes when it is done, so that the broker serves as soon as it may.
void Controller::Impl::unfence(BrokerId broker, BrokerEpoch epoch, Reply<peer::HeartbeatAnswer> done) {
  submit<bool>([broker, epoch](PlannedState& state) { return plan_unfence(state, broker, epoch); },
               [self_copy = self, broker, epoch, done = std::move(done)](const api::Answer<bool>& answer) mutable {
                 Impl* impl = *self_copy;
                 if (impl == nullptr || !answer.ok()) {
                   PeerError error = answer.ok() ? PeerError::kStopping : peer_error(answer.error().code);
                   return done(peer::HeartbeatAnswer{error});
                 }
                 if (answer.value()) impl->returned.insert(broker);
                 impl->look_at_leaders();
                 impl->hearings.look();
                 impl->check_sessions();
                 done(impl->heartbeat_answer(broker, epoch));
               });
}

void Controller::Impl::begin_shutdown(BrokerId broker, BrokerEpoch epoch, bool leaves_isr,
                                      Reply<peer::HeartbeatAnswer> done) {
  submit<bool>([=](PlannedState& state) { return plan_shutdown(state, broker, epoch, leaves_isr); },
               [self_copy = self, broker, epoch, done = std::move(done)](const api::Answer<bool>& answer) mutable {
                 Impl* impl = *self_copy;
                 if (impl == nullptr || !answer.ok()) {
                   PeerError error = answer.ok() ? PeerError::kStopping : peer_error(answer.error().code);
                   return done(peer::HeartbeatAnswer{error});
                 }
                 impl->sessions.handed_over(broker, impl->image()->applied());
                 done(impl->heartbeat_answer(broker, epoch));
               });
}

void Controller::Impl::report_damage(BrokerId broker, std::vector<TopicPartition> damaged) {
  if (!damage_reported.insert(broker).second) return;
  submit<api::Unit>(
      [broker, damaged = std::move(damaged)](PlannedState& state) { return plan_set_aside(state, broker, damaged); },
      [self_copy = self, broker](const api::Answer<api::Unit>&) {
        if (*self_copy == nullptr) return;
        (*self_copy)->damage_reported.erase(broker);
        (*self_copy)->hearings.look();
      });
}

// S8: a full disk leads nothing that another one in sync can lead. What it led comes back to it like to a broker that
// was away (C14).
void Controller::Impl::hear_of_disk(BrokerId broker, bool full) {
  const bool news = sessions.disk_told(broker, full);
  if (!full) {
    if (news) returned.insert(broker);
    if (news) look_at_leaders();
    return;
  }
  returned.erase(broker);
  auto plan = [impl = this, broker, moved = 0](PlannedState& state) mutable {
    return plan_relief(state, broker, impl->sessions.with_full_disk(), moved);
  };
  submit<int32_t>(std::move(plan), [self_copy = self, broker](const api::Answer<int32_t>& moved) {
    if (*self_copy == nullptr || !moved.ok() || moved.value() == 0) return;
    (*self_copy)
        ->env.log()
        .warning("the disk of node ", broker.value(), " is full: of what it led ", moved.value(),
                 " partitions have other leaders now");
  });
}

void Controller::heartbeat(peer::HeartbeatRequest request, Reply<peer::HeartbeatAnswer> done) {
  impl_->on_heartbeat(std::move(request), std::move(done));
}

void Controller::alter_partitions(peer::AlterPartitionRequest request, Reply<peer::AlterPartitionAnswer> done) {
  PeerError error = impl_->hear(request.broker, request.epoch, std::nullopt);
  if (error != PeerError::kNone) return impl_->post(std::move(done), peer::AlterPartitionAnswer{error});
  impl_->submit<peer::AlterPartitionAnswer>(
      [request = std::move(request)](PlannedState& state) -> Step<peer::AlterPartitionAnswer> {
        return plan_alter_partitions(state, request);
      },
      [done = std::move(done)](api::Answer<peer::AlterPartitionAnswer> answer) mutable {
        done(answer.ok() ? std::move(answer.value()) : peer::AlterPartitionAnswer{peer_error(answer.error().code)});
      });
}

void Controller::controlled_shutdown(peer::ControlledShutdownRequest request,
                                     Reply<peer::ControlledShutdownAnswer> done) {
  PeerError error = impl_->hear(request.broker, request.epoch, std::nullopt);
  if (error != PeerError::kNone) return impl_->post(std::move(done), peer::ControlledShutdownAnswer{error});
  impl_->submit<api::Unit>(
      [request](PlannedState& state) {
        return plan_fence(state, {{request.broker, request.epoch}});
      },
      [self = impl_->self, done = std::move(done)](const api::Answer<api::Unit>& answer) mutable {
        if (!answer.ok()) return done(peer::ControlledShutdownAnswer{peer_error(answer.error().code)});
        if (*self == nullptr) return done(peer::ControlledShutdownAnswer{PeerError::kStopping});
        (*self)->hearings.look();
        done(peer::ControlledShutdownAnswer{PeerError::kNone, (*self)->image()->applied()});
      });
}

void Controller::on_peer_connected(BrokerId broker) {
  impl_->sessions.connected(broker);
  if (!impl_->active || impl_->stopped || !impl_->roll_call) return;
  if (impl_->sessions.undecided(*impl_->image(), impl_->now_ns()).contains(broker)) impl_->probe(broker);
}

void Controller::on_peer_disconnected(BrokerId broker, bool refused) {
  if (!refused) return;
  const ImagePtr now = impl_->image();
  const BrokerImage* known = now->find_broker(broker);
  if (known == nullptr) return;
  impl_->sessions.refused(broker, known->epoch, impl_->now_ns());
  impl_->check_sessions();
}

}  // namespace trilog
