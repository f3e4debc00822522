#include "broker/controller/controller.h"

#include <algorithm>
#include <utility>

#include "broker/controller/controller_impl.h"
#include "broker/controller/topic_control.h"
#include "broker/metadata/topic_settings.h"

namespace trilog {

namespace {

using api::Error;
using api::ErrorCode;

// Of one proposal. An operation adds at most about eight megabytes (a registration of the only voter with the most
// partitions there can be), so that a proposal stays below the limit of the log.
constexpr size_t kOperationsPerProposalMax = 256;
constexpr size_t kRecordsPerProposalMax = 20'000;

// What an operation that is on its way hears. The log does not say whether its records survive (X5).
Error lost(const Status& why) {
  if (why.code() == Errc::kBusy) return Error(ErrorCode::kThrottled, "too many changes of metadata at once");
  if (why.code() == Errc::kTooLarge) return Error(ErrorCode::kInvalidRequest, std::string(why.message()));
  return Error(ErrorCode::kLeadershipLost, "whether the change was made is not known: " + std::string(why.message()) +
                                               "; look before repeating it");
}

}  // namespace

Error not_active_error() {
  return Error(ErrorCode::kLeaderNotAvailable, "this node does not lead the cluster's metadata now; try again");
}

Controller::Impl::Impl(Env& the_env, MetadataLog& the_log, ControllerOptions the_options,
                       std::function<ImagePtr()> the_image)
    : env(the_env),
      log(the_log),
      options(the_options),
      image(std::move(the_image)),
      sessions(the_options.session_timeout_ms * 1'000'000),
      hearings(env, image, [this](std::vector<HeardElection> elections) {
        submit<api::Unit>(
            [elections = std::move(elections)](PlannedState& state) -> Step<api::Unit> {
              plan_heard_elections(state, elections);
              return api::Unit{};
            },
            [](api::Answer<api::Unit>) {});
      }) {}

// The env may be gone already; a timer that is still set finds `self` empty.
Controller::Impl::~Impl() { *self = nullptr; }

// Answers at once what cannot wait.
void Controller::Impl::enqueue(std::unique_ptr<ControllerOperation> operation) {
  if (stopped) return operation->refuse(Error(ErrorCode::kNodeStopping, "this node is stopping"));
  if (!active) return operation->refuse(not_active_error());
  if (waiting.size() >= options.operations_waiting_max) {
    Error error(ErrorCode::kThrottled, std::to_string(waiting.size()) + " changes of metadata wait; try again later");
    error.retry_after_ms = 100;
    return operation->refuse(std::move(error));
  }
  waiting.push_back(std::move(operation));
  run_later();
}

void Controller::Impl::run_later() {
  if (proposal_out || std::exchange(run_posted, true)) return;
  env.executor().post([self_copy = self] {
    if (*self_copy == nullptr) return;
    (*self_copy)->run_posted = false;
    (*self_copy)->run();
  });
}

// Moves what was planned into `batch`. True if the first of those that wait is in the middle of its steps.
bool Controller::Impl::plan_batch(PlannedState& state, Batch& batch) {
  while (!waiting.empty() && batch.size() < kOperationsPerProposalMax &&
         state.records().size() < kRecordsPerProposalMax) {
    size_t before = state.records().size();
    // Nobody else's turn comes before all steps are made: nothing can undo one of them in between.
    if (!waiting.front()->plan(state)) return true;
    std::unique_ptr<ControllerOperation> operation = std::move(waiting.front());
    waiting.pop_front();
    operation->has_records = state.records().size() > before;
    if (state.records().empty()) {
      operation->answer();  // follows from what is committed
    } else {
      batch.push_back(std::move(operation));  // even an error: it may come from a change that is not committed yet
    }
  }
  return false;
}

// Computes what waits against the committed state and proposes it as one step.
void Controller::Impl::run() {
  if (proposal_out || !active || stopped || waiting.empty()) return;
  PlannedState state(image(), log.next_offset());
  auto batch = std::make_shared<Batch>();
  const bool unfinished = plan_batch(state, *batch);
  if (state.records().empty()) return waiting.empty() ? void() : run_later();
  propose(state, std::move(batch), unfinished);
}

void Controller::Impl::propose(const PlannedState& state, std::shared_ptr<Batch> batch, bool unfinished) {
  std::vector<Bytes> records;
  for (const MetadataRecord& record : state.records()) records.push_back(encode_metadata_record(record));
  proposal_out = true;
  Offset expected = log.next_offset();
  log.propose(std::move(records), [self_copy = self, batch, expected, unfinished](const Result<Offset>& first) {
    // Broker epochs in the records are the offsets that were foreseen.
    if (first.ok()) CHECK_EQ(*first, expected);
    for (auto& operation : *batch) {
      if (first.ok()) {
        operation->answer();
      } else {
        operation->refuse(operation->has_records ? lost(first.status()) : not_active_error());
      }
    }
    Impl* impl = *self_copy;
    if (impl == nullptr) return;
    impl->proposal_out = false;
    if (first.ok()) impl->look_at_leaders();
    if (!first.ok() && unfinished && !impl->waiting.empty()) {
      impl->waiting.front()->refuse(lost(first.status()));
      impl->waiting.pop_front();
    }
    impl->run();
  });
}

void Controller::Impl::refuse_waiting(const Error& error) {
  for (auto& operation : std::exchange(waiting, {})) operation->refuse(error);
  for (HeldRegistration& each : std::exchange(held, {})) post<api::Answer<BrokerEpoch>>(std::move(each.done), error);
}

Controller::Controller(Env& env, MetadataLog& log, ControllerOptions options, std::function<ImagePtr()> image)
    : impl_(std::make_unique<Impl>(env, log, options, std::move(image))) {}

Controller::~Controller() = default;

void Controller::set_peers(ControllerPeers peers) {
  impl_->hearings.set_peers(peers.hear);
  impl_->peers = std::move(peers);
}

void Controller::set_active(bool active) {
  if (impl_->active) impl_->leave_office();
  impl_->active = active;
  if (active) {
    impl_->fenced_at = impl_->image()->applied();
    impl_->take_office();
  } else {
    impl_->refuse_waiting(not_active_error());
  }
}

void Controller::stop() {
  impl_->stopped = true;
  impl_->leave_office();
  impl_->refuse_waiting(Error(ErrorCode::kNodeStopping, "this node is stopping"));
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

void Controller::find_topic(std::string name, Done<bool> done) {
  impl_->submit<bool>(
      [name = std::move(name)](PlannedState& state) -> Step<bool> { return state.find_topic(name) != nullptr; },
      std::move(done));
}

void Controller::allocate_producer_ids(Done<ProducerIdBlock> done) {
  impl_->submit<ProducerIdBlock>(
      [impl = impl_.get()](PlannedState& state) -> Step<ProducerIdBlock> {
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
  described.unsafe = described.replicas == 1 || settings.min_insync_replicas == 1 ||
                     std::any_of(topic.partitions.begin(), topic.partitions.end(),
                                 [](const PartitionImage& partition) { return partition.nobody_trusted(); });
  return described;
}

}  // namespace trilog
