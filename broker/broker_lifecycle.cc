#include "broker/broker_lifecycle.h"

#include <utility>

namespace trilog {

using peer::PeerError;

BrokerLifecycle::BrokerLifecycle(Env& env, ControllerClient& controller, peer::RegisterBrokerRequest facts, bool alone,
                                 Host host)
    : env_(env), controller_(controller), facts_(std::move(facts)), alone_(alone), host_(std::move(host)) {}

BrokerLifecycle::~BrokerLifecycle() { *self_ = nullptr; }

void BrokerLifecycle::poke() {
  if (state_ != State::kActive && state_ != State::kLeaving) step_later(0);
}

void BrokerLifecycle::stop() {
  state_ = State::kStopped;
  if (timer_ != 0) env_.executor().cancel(std::exchange(timer_, 0));
}

void BrokerLifecycle::step_later(int64_t delay_ns) {
  if (state_ == State::kStopped) return;
  if (timer_ != 0) env_.executor().cancel(timer_);
  timer_ = env_.executor().schedule_after(delay_ns, [self = self_] {
    if (*self == nullptr) return;
    (*self)->timer_ = 0;
    (*self)->step();
  });
}

void BrokerLifecycle::step() {
  switch (state_) {
    case State::kMetadata:
      if (!host_.is_current()) return alone_ ? void() : step_later(kEagerNs);
      state_ = State::kLogs;
      return host_.open_logs([self = self_](std::vector<TopicPartition> damaged) {
        if (*self == nullptr || (*self)->state_ != State::kLogs) return;
        BrokerLifecycle& lifecycle = **self;
        lifecycle.facts_.recovered = damaged.empty() ? peer::Recovered::kAllFine : peer::Recovered::kSomeDamaged;
        lifecycle.facts_.damaged = std::move(damaged);
        lifecycle.state_ = State::kRegistering;
        lifecycle.step();
      });
    case State::kLogs:
    case State::kStopped: return;
    case State::kRegistering: return register_now();
    case State::kFenced:
      if (image_shows_us(true)) return admit({});
      if (image_shows_us(false)) return heartbeat();
      // The image will poke. What an earlier process of this folder asked for may have been carried out after it.
      if (image_shows_a_later_one()) register_later();
      return;
    case State::kActive:
    case State::kLeaving: return heartbeat();
  }
}

// --- registration --------------------------------------------------------------------------------------------------

void BrokerLifecycle::register_now() {
  if (std::exchange(calling_, true)) return;
  controller_.call(facts_, kCallNs * 4, [self = self_](const Result<peer::RegisterBrokerAnswer>& answer) {
    if (*self == nullptr) return;
    (*self)->calling_ = false;
    if ((*self)->state_ == State::kRegistering) (*self)->on_registered(answer);
  });
}

void BrokerLifecycle::on_registered(const Result<peer::RegisterBrokerAnswer>& answer) {
  if (answer.ok() && answer->error == PeerError::kOtherDirectory) return other_folder(answer->message);
  if (!answer.ok() || answer->error != PeerError::kNone) return step_later(kRetryNs);
  epoch_ = answer->epoch;
  facts_.recorded_epoch = epoch_;
  Status noted = host_.registered(epoch_);
  if (!noted.ok()) return admit(noted);
  state_ = State::kFenced;
  step();
}

// Perhaps the session of a process that is gone has not ended yet; perhaps it lives (C3).
void BrokerLifecycle::other_folder(const std::string& message) {
  const int64_t now = env_.clock().monotonic_ns();
  if (refused_since_ns_ == 0) {
    refused_since_ns_ = now;
    env_.log().warning("the controller refuses this node, it asks again: ", message);
  }
  if (!admitted_ && now - refused_since_ns_ > kOtherFolderNs) {
    return admit(Status(Errc::kInvalidArgument, message));
  }
  step_later(kRetryNs * 4);
}

bool BrokerLifecycle::image_shows_a_later_one() const {
  ImagePtr image = host_.image();
  const BrokerImage* broker = image->find_broker(facts_.broker);
  return broker != nullptr && broker->epoch > epoch_;
}

void BrokerLifecycle::register_later() {
  env_.log().warning("the controller does not know this process; it registers again");
  state_ = State::kRegistering;
  step_later(kRetryNs);
}

bool BrokerLifecycle::image_shows_us(bool unfenced) const {
  ImagePtr image = host_.image();
  const BrokerImage* broker = image->find_broker(facts_.broker);
  return broker != nullptr && broker->epoch == epoch_ && (!unfenced || !broker->fenced);
}

void BrokerLifecycle::admit(Status status) {
  if (!status.ok()) {
    stop();
  } else {
    state_ = State::kActive;
    if (!alone_) step_later(0);
  }
  if (!std::exchange(admitted_, true)) host_.admitted(std::move(status));
}

// --- heartbeats ------------------------------------------------------------------------------------------------------

void BrokerLifecycle::heartbeat() {
  if (std::exchange(calling_, true)) return;
  peer::HeartbeatRequest request;
  request.broker = facts_.broker;
  request.epoch = epoch_;
  request.applied = host_.image()->applied();
  request.wants_shutdown = state_ == State::kLeaving;
  request.wall_ms = env_.clock().wall_ms();
  request.disk_full = host_.disk_full();
  const int64_t sent_ns = env_.clock().monotonic_ns();
  controller_.call(std::move(request), kCallNs, [self = self_, sent_ns](const Result<peer::HeartbeatAnswer>& answer) {
    if (*self == nullptr) return;
    (*self)->calling_ = false;
    if ((*self)->state_ != State::kStopped) (*self)->on_heartbeat(sent_ns, answer);
  });
}

void BrokerLifecycle::on_heartbeat(int64_t sent_ns, const Result<peer::HeartbeatAnswer>& answer) {
  const int64_t now = env_.clock().monotonic_ns();
  const bool heard = answer.ok() && answer->error == PeerError::kNone;
  // To be known is not to lead: while it is fenced, others may lead what this node's older image still gives to it
  // (R18).
  if (heard && !answer->fenced) host_.confirmed(sent_ns, answer->applied, answer->clock_agrees);
  if (state_ == State::kLeaving) {
    if (heard) unheard_until_ns_ = now + kShutDownUnheardNs;
    if ((heard && answer->may_shut_down) || now >= leaving_until_ns_ || now >= unheard_until_ns_) return left();
    return step_later(kEagerNs);
  }
  if (answer.ok() && answer->error == PeerError::kStaleBrokerEpoch) {
    return register_later();
  }
  if (!heard) return step_later(kRetryNs);
  if (state_ == State::kFenced && !answer->fenced) return admit({});
  step_later(answer->fenced ? kEagerNs : kHeartbeatNs);
}

// --- leaving -------------------------------------------------------------------------------------------------------

void BrokerLifecycle::shut_down(UniqueFunction<void()> done) {
  if (state_ == State::kLeaving) {
    left_ = [first = std::move(left_), second = std::move(done)]() mutable {
      first();
      second();
    };
    return;
  }
  if (alone_ || state_ != State::kActive) {
    stop();
    return done();
  }
  left_ = std::move(done);
  state_ = State::kLeaving;
  const int64_t now = env_.clock().monotonic_ns();
  leaving_until_ns_ = now + kShutDownNs;
  unheard_until_ns_ = now + kShutDownUnheardNs;
  step_later(0);
}

void BrokerLifecycle::left() {
  stop();
  if (left_) std::exchange(left_, nullptr)();
}

void BrokerLifecycle::farewell(UniqueFunction<void()> done) {
  if (alone_ || epoch_ < BrokerEpoch(0)) return done();
  controller_.call(peer::ControlledShutdownRequest{facts_.broker, epoch_}, kFarewellNs,
                   [done = std::move(done)](const Result<peer::ControlledShutdownAnswer>&) mutable { done(); });
}

}  // namespace trilog
