// The inside of Controller: the queue of operations, and what one term of office knows.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "broker/controller/broker_control.h"
#include "broker/controller/controller.h"
#include "broker/controller/hearings.h"
#include "broker/controller/planned_state.h"
#include "broker/controller/sessions.h"

namespace trilog {

// An operation that waits for its turn, and then for its records.
class ControllerOperation {
 public:
  virtual ~ControllerOperation() = default;
  virtual bool plan(PlannedState& state) = 0;  // false: a step of it; planned again once that is committed
  virtual void answer() = 0;                   // as planned
  virtual void refuse(api::Error error) = 0;
  bool has_records = false;
};

template <typename T>
class TypedOperation final : public ControllerOperation {
 public:
  using Plan = UniqueFunction<Step<T>(PlannedState&)>;
  TypedOperation(Env& env, Plan plan, Controller::Done<T> done)
      : env_(env), plan_(std::move(plan)), done_(std::move(done)) {}

  bool plan(PlannedState& state) override {
    planned_ = plan_(state);
    return planned_.has_value();
  }
  void answer() override { post(std::move(*planned_)); }
  void refuse(api::Error error) override { post(std::move(error)); }

 private:
  void post(api::Answer<T> answer) {
    env_.executor().post([done = std::move(done_), answer = std::move(answer)]() mutable { done(std::move(answer)); });
  }
  Env& env_;
  Plan plan_;
  Controller::Done<T> done_;
  Step<T> planned_;
};

api::Error not_active_error();

struct Controller::Impl {
  using Batch = std::vector<std::unique_ptr<ControllerOperation>>;
  struct HeldRegistration {
    Registration registration;
    Done<BrokerEpoch> done;
  };

  Impl(Env& env, MetadataLog& log, ControllerOptions options, std::function<ImagePtr()> image);
  ~Impl();

  // --- queue (controller.cc)
  template <typename T>
  void submit(typename TypedOperation<T>::Plan plan, Done<T> done) {
    enqueue(std::make_unique<TypedOperation<T>>(env, std::move(plan), std::move(done)));
  }
  void enqueue(std::unique_ptr<ControllerOperation> operation);
  void run_later();
  void run();
  bool plan_batch(PlannedState& state, Batch& batch);
  void propose(const PlannedState& state, std::shared_ptr<Batch> batch, bool unfinished);
  void refuse_waiting(const api::Error& error);

  // --- brokers (controller_brokers.cc)
  void take_office();
  void leave_office();
  void probe(BrokerId broker);
  void submit_registration(Registration registration, Done<BrokerEpoch> done);
  // Ends the roll call when nobody is undecided; fences whose session has ended; sets the timer for the next one.
  void check_sessions();
  void end_roll_call();
  void fence(std::map<BrokerId, BrokerEpoch> brokers);
  void arm_timer();
  // Of a process that is the registered one; else what to tell it.
  peer::PeerError hear(BrokerId broker, BrokerEpoch epoch, std::optional<Offset> applied);
  void on_heartbeat(peer::HeartbeatRequest request, Reply<peer::HeartbeatAnswer> done);
  void confirm(BrokerId broker, BrokerEpoch epoch, bool patiently, Reply<peer::HeartbeatAnswer> done);
  void unfence(BrokerId broker, BrokerEpoch epoch, Reply<peer::HeartbeatAnswer> done);
  void begin_shutdown(BrokerId broker, BrokerEpoch epoch, bool leaves_isr, Reply<peer::HeartbeatAnswer> done);
  void report_damage(BrokerId broker, std::vector<TopicPartition> damaged);
  void hear_of_disk(BrokerId broker, bool full);
  peer::HeartbeatAnswer heartbeat_answer(BrokerId broker, BrokerEpoch epoch);
  std::optional<BrokerId> only_voter() const;
  int64_t now_ns() const { return env.clock().monotonic_ns(); }

  // --- by hand (controller_elections.cc)
  void recover_if_due(const MetadataImage& now);
  void hear_replicas(api::ElectLeaderRequest request, Done<api::ElectLeaderResult> done);
  // --- preferred leaders (controller_leaders.cc). After every change of the metadata:
  void look_at_leaders();
  void give_leaders_back_after(int64_t ms);
  void give_leaders_back();
  void forget_leaders();

  template <typename T>
  void post(Reply<T> done, T value) {
    env.executor().post([done = std::move(done), value = std::move(value)]() mutable { done(std::move(value)); });
  }

  Env& env;
  MetadataLog& log;
  const ControllerOptions options;
  const std::function<ImagePtr()> image;
  bool active = false;
  bool stopped = false;
  ImagePtr believed;  // by a recovery of the quorum in this process
  std::deque<std::unique_ptr<ControllerOperation>> waiting;
  bool proposal_out = false;
  bool run_posted = false;

  ControllerPeers peers;
  Sessions sessions;
  Hearings hearings;
  bool roll_call = false;
  std::vector<HeldRegistration> held;       // registrations that wait for the end of the roll call
  std::map<BrokerId, BrokerEpoch> fencing;  // under way
  // Whoever has applied so much knows what it lost with being fenced; before that it is not unfenced (C4).
  Offset fenced_at{0};
  std::set<BrokerId> damage_reported;  // under way
  // Brokers that came back; what they are first in line for has not all gone back to them yet.
  std::set<BrokerId> returned;
  std::set<TopicPartition> moved_by_hand;  // meanwhile: they stay where they are
  bool giving_back = false;
  TimerId leaders_timer = 0;
  TimerId timer = 0;
  int64_t timer_due_ns = 0;

  std::shared_ptr<Impl*> self = std::make_shared<Impl*>(this);  // null inside once the controller is gone
};

}  // namespace trilog
