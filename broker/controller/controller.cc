#include "broker/controller/controller.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "broker/controller/broker_control.h"
#include "broker/controller/planned_state.h"
#include "broker/controller/topic_control.h"
#include "broker/metadata/topic_settings.h"

namespace trilog {

namespace {

using api::Error;
using api::ErrorCode;

// Of one proposal. An operation adds at most about eight megabytes (a registration with the most partitions there can
// be), so that a proposal stays below the limit of the log.
constexpr size_t kOperationsPerProposalMax = 256;
constexpr size_t kRecordsPerProposalMax = 20'000;

// An operation that waits for its turn, and then for its records.
class Operation {
 public:
  virtual ~Operation() = default;
  virtual void plan(PlannedState& state) = 0;
  virtual void answer() = 0;  // as planned
  virtual void refuse(Error error) = 0;
  bool has_records = false;
};

template <typename T>
class TypedOperation final : public Operation {
 public:
  using Plan = UniqueFunction<api::Answer<T>(PlannedState&)>;
  TypedOperation(Env& env, Plan plan, Controller::Done<T> done)
      : env_(env), plan_(std::move(plan)), done_(std::move(done)) {}

  void plan(PlannedState& state) override { planned_ = plan_(state); }
  void answer() override { post(std::move(*planned_)); }
  void refuse(Error error) override { post(std::move(error)); }

 private:
  void post(api::Answer<T> answer) {
    env_.executor().post([done = std::move(done_), answer = std::move(answer)]() mutable { done(std::move(answer)); });
  }
  Env& env_;
  Plan plan_;
  Controller::Done<T> done_;
  std::optional<api::Answer<T>> planned_;
};

Error not_active() {
  return Error(ErrorCode::kLeaderNotAvailable, "this node does not lead the cluster's metadata now; try again");
}

// What an operation that is on its way hears. The log does not say whether its records survive (X5).
Error lost(const Status& why) {
  if (why.code() == Errc::kBusy) return Error(ErrorCode::kThrottled, "too many changes of metadata at once");
  if (why.code() == Errc::kTooLarge) return Error(ErrorCode::kInvalidRequest, std::string(why.message()));
  return Error(ErrorCode::kLeadershipLost, "whether the change was made is not known: " + std::string(why.message()) +
                                               "; look before repeating it");
}

}  // namespace

struct Controller::Impl {
  using Batch = std::vector<std::unique_ptr<Operation>>;

  Impl(Env& the_env, MetadataLog& the_log, ControllerOptions the_options, std::function<ImagePtr()> the_image)
      : env(the_env), log(the_log), options(the_options), image(std::move(the_image)) {}

  // Answers at once what cannot wait.
  template <typename T>
  void submit(typename TypedOperation<T>::Plan plan, Done<T> done) {
    auto operation = std::make_unique<TypedOperation<T>>(env, std::move(plan), std::move(done));
    if (stopped) return operation->refuse(Error(ErrorCode::kNodeStopping, "this node is stopping"));
    if (!active) return operation->refuse(not_active());
    if (waiting.size() >= options.operations_waiting_max) {
      Error error(ErrorCode::kThrottled, std::to_string(waiting.size()) + " changes of metadata wait; try again later");
      error.retry_after_ms = 100;
      return operation->refuse(std::move(error));
    }
    waiting.push_back(std::move(operation));
    run_later();
  }

  void run_later() {
    if (proposal_out || std::exchange(run_posted, true)) return;
    env.executor().post([self = self] {
      if (*self == nullptr) return;
      (*self)->run_posted = false;
      (*self)->run();
    });
  }

  // Computes what waits against the committed state and proposes it as one step.
  void run() {
    if (proposal_out || !active || stopped || waiting.empty()) return;
    PlannedState state(image(), log.next_offset());
    auto batch = std::make_shared<Batch>();
    while (!waiting.empty() && batch->size() < kOperationsPerProposalMax &&
           state.records().size() < kRecordsPerProposalMax) {
      std::unique_ptr<Operation> operation = std::move(waiting.front());
      waiting.pop_front();
      size_t before = state.records().size();
      operation->plan(state);
      operation->has_records = state.records().size() > before;
      if (state.records().empty()) {
        operation->answer();  // follows from what is committed
      } else {
        batch->push_back(std::move(operation));  // even an error: it may come from a change that is not committed yet
      }
    }
    if (batch->empty()) return waiting.empty() ? void() : run_later();
    std::vector<Bytes> records;
    for (const MetadataRecord& record : state.records()) records.push_back(encode_metadata_record(record));
    proposal_out = true;
    Offset expected = log.next_offset();
    log.propose(std::move(records), [self = self, batch, expected](const Result<Offset>& first) {
      // Broker epochs in the records are the offsets that were foreseen.
      if (first.ok()) CHECK_EQ(*first, expected);
      for (auto& operation : *batch) {
        if (first.ok()) {
          operation->answer();
        } else {
          operation->refuse(operation->has_records ? lost(first.status()) : not_active());
        }
      }
      if (*self == nullptr) return;
      (*self)->proposal_out = false;
      (*self)->run();
    });
  }

  void refuse_waiting(const Error& error) {
    for (auto& operation : std::exchange(waiting, {})) operation->refuse(error);
  }

  Env& env;
  MetadataLog& log;
  const ControllerOptions options;
  const std::function<ImagePtr()> image;
  bool active = false;
  bool stopped = false;
  std::deque<std::unique_ptr<Operation>> waiting;
  bool proposal_out = false;
  bool run_posted = false;
  std::shared_ptr<Impl*> self = std::make_shared<Impl*>(this);  // null inside once the controller is gone
};

Controller::Controller(Env& env, MetadataLog& log, ControllerOptions options, std::function<ImagePtr()> image)
    : impl_(std::make_unique<Impl>(env, log, options, std::move(image))) {}

Controller::~Controller() { *impl_->self = nullptr; }

void Controller::set_active(bool active) {
  impl_->active = active;
  if (!active) impl_->refuse_waiting(not_active());
}

void Controller::stop() {
  impl_->stopped = true;
  impl_->refuse_waiting(Error(ErrorCode::kNodeStopping, "this node is stopping"));
}

void Controller::register_broker(Registration registration, Done<BrokerEpoch> done) {
  impl_->submit<BrokerEpoch>(
      [impl = impl_.get(), registration = std::move(registration)](PlannedState& state) {
        const std::vector<Voter>& voters = impl->log.voters();
        bool only_voter = voters.size() == 1 && voters.front() == Voter{registration.broker, registration.directory};
        return plan_registration(state, registration, only_voter);
      },
      std::move(done));
}

void Controller::create_topic(api::CreateTopicRequest request, Done<api::CreateTopicResult> done) {
  impl_->submit<api::CreateTopicResult>(
      [impl = impl_.get(), request = std::move(request)](PlannedState& state) {
        return plan_create_topic(state, request, impl->options, impl->env.random());
      },
      std::move(done));
}

void Controller::delete_topic(api::DeleteTopicRequest request, Done<bool> done) {
  impl_->submit<bool>([request = std::move(request)](PlannedState& state) { return plan_delete_topic(state, request); },
                      std::move(done));
}

void Controller::alter_topic(api::AlterTopicRequest request, Done<api::AlterTopicResult> done) {
  impl_->submit<api::AlterTopicResult>(
      [impl = impl_.get(), request = std::move(request)](PlannedState& state) {
        return plan_alter_topic(state, request, impl->options);
      },
      std::move(done));
}

void Controller::allocate_producer_ids(Done<ProducerIdBlock> done) {
  impl_->submit<ProducerIdBlock>(
      [impl = impl_.get()](PlannedState& state) -> api::Answer<ProducerIdBlock> {
        ProducerIdBlock block{state.next_producer_id(), impl->options.producer_id_block};
        state.add(ProducerIdsRecord{block.first + block.size});
        return block;
      },
      std::move(done));
}

api::Topic describe_topic(const MetadataImage&, const TopicImage& topic) {
  api::Topic described;
  described.name = topic.name;
  described.id = topic.id;
  described.durability = topic.durability;
  described.replicas = topic.partitions.empty() ? 1 : static_cast<int32_t>(topic.partitions.front().replicas.size());
  for (size_t p = 0; p < topic.partitions.size(); ++p) {
    const PartitionImage& partition = topic.partitions[p];
    api::PartitionState state;
    state.partition = PartitionId(static_cast<int32_t>(p));
    state.leader = partition.leader;
    state.leader_epoch = partition.leader_epoch;
    state.replicas = partition.replicas;
    state.isr = partition.isr;
    for (BrokerId replica : partition.replicas) {
      bool in_sync = std::find(partition.isr.begin(), partition.isr.end(), replica) != partition.isr.end();
      if (!in_sync) state.lagging.push_back(replica);
    }
    described.partitions.push_back(std::move(state));
  }
  described.configs = describe_topic_settings(topic.configs, topic.durability, described.replicas);
  TopicSettings settings = resolve_topic_settings(topic.configs, topic.durability, described.replicas);
  described.unsafe = described.replicas == 1 || settings.min_insync_replicas == 1;
  return described;
}

}  // namespace trilog
