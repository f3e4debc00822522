#include "tests/simulator/producer.h"

#include <utility>

#include "storage/record/record_batch_builder.h"

namespace trilog::simulator {

using api::Error;
using api::ErrorCode;
using history::Outcome;

namespace {

constexpr int64_t kAttemptNs = 3 * kSecond;

api::Acks wire_acks(history::Acks acks) {
  switch (acks) {
    case history::Acks::kNone: return api::Acks::kNone;
    case history::Acks::kLeader: return api::Acks::kLeader;
    case history::Acks::kAll: break;
  }
  return api::Acks::kAll;
}

bool is_sequence_error(ErrorCode code) {
  return code == ErrorCode::kOutOfOrderSequence || code == ErrorCode::kInvalidProducerEpoch ||
         code == ErrorCode::kUnknownProducer;
}

}  // namespace

int64_t Producer::draw_pause() { return context_.draw(plan_.pause_ns / 10, plan_.pause_ns * 19 / 10); }

void Producer::pause_then_next() {
  if (context_.winding_down || once_) return;
  context_.gateway.after(draw_pause(), [this] { next(); });
}

void Producer::next() {
  if (context_.winding_down && !once_) return;
  if (plan_.idempotent && !id_) return take_id();
  Send& send = send_.emplace();
  send.values = std::make_shared<std::vector<std::string>>();
  const int64_t count = plan_.partition ? context_.draw(1, plan_.records_max) : 1;
  send.told.client = plan_.name;
  send.told.invoked_ns = context_.now_ns();
  send.told.acks = plan_.acks;
  send.told.idempotent = plan_.idempotent;
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t token = context_.next_token++;
    const size_t padding = context_.random.chance(2) ? 4'000 : context_.random.below(plan_.bytes_max);
    send.told.records.push_back({-1, token});
    send.values->push_back(value_of(token, padding));
  }
  send.key = "key-" + std::to_string(context_.random.below(50));
  send.told.partition.topic = topic().name;
  send.told.partition.index =
      plan_.partition ? *plan_.partition : partition_for_key(as_bytes(send.key), topic().partitions).value();
  send.base_sequence = next_sequence_;
  send.raw_batch = plan_.partition && context_.random.chance(50);
  if (ImagePtr image = context_.newest_image()) {
    const PartitionImage* at = context_.find_partition(*image, topic().name, send.told.partition.index);
    if (at != nullptr) send.first_epoch = at->leader_epoch;
  }
  attempt();
}

void Producer::take_id() {
  taking_id_ = true;
  context_.gateway.ask<api::InitProducerResult>(
      context_.pick_node(), kAttemptNs, [](Broker& broker, auto done) { broker.init_producer(std::move(done)); },
      [this](Reply<api::InitProducerResult> reply) {
        if (reply.ok()) {
          id_ = reply.answer->value();
          next_sequence_ = 0;
        }
        taking_id_ = false;
        once_&& id_ ? next() : pause_then_next();
      });
}

int Producer::choose_node() {
  if (context_.random.chance(50)) return context_.pick_node();
  return context_.leader_node(topic().name, send_->told.partition.index);
}

api::ProduceRequest Producer::make_request() {
  const Send& send = *send_;
  api::ProduceRequest request{.topic = topic().name};
  request.acks = wire_acks(plan_.acks);
  request.deadline_ns = context_.now_ns() + kAttemptNs - 200 * kMs;
  request.auto_create = false;
  BatchProducer producer;
  if (plan_.idempotent) producer = {id_->producer_id, id_->producer_epoch, send.base_sequence};
  if (send.raw_batch) {
    RecordBatchBuilder builder(Codec::kNone, producer);
    for (const std::string& value : *send.values) builder.add(1'700'000'000'000, as_bytes(send.key), as_bytes(value));
    request.record_batch = builder.build().value();
    request.partition = PartitionId(send.told.partition.index);
    return request;
  }
  auto owner =
      std::make_shared<std::pair<std::string, std::shared_ptr<std::vector<std::string>>>>(send.key, send.values);
  for (const std::string& value : *owner->second) {
    request.records.push_back({.key = as_bytes(owner->first), .value = as_bytes(value)});
  }
  request.owner = owner;
  if (plan_.partition) request.partition = PartitionId(*plan_.partition);
  if (plan_.idempotent) request.sequence = api::Sequence{producer.id, producer.epoch, producer.base_sequence};
  return request;
}

void Producer::attempt() {
  ++send_->attempts;
  send_->asked = choose_node();
  context_.gateway.ask<api::ProduceResult>(
      send_->asked, kAttemptNs,
      [request = make_request()](Broker& broker, auto done) mutable {
        broker.produce(std::move(request), std::move(done));
      },
      [this](Reply<api::ProduceResult> reply) { on_reply(std::move(reply)); });
}

void Producer::on_reply(Reply<api::ProduceResult> reply) {
  using Fate = Reply<api::ProduceResult>::Fate;
  if (reply.fate == Fate::kRefused) return again_or_give_up(true, false, "refused by the network");
  if (reply.fate == Fate::kLost) return again_or_give_up(plan_.idempotent, true, "no answer");
  if (!reply.answer->ok()) return on_error(reply.answer->error());
  const api::ProduceResult& result = reply.answer->value();
  if (result.positions.empty() || result.positions[0].error) {
    return on_error(result.positions.empty() ? Error(ErrorCode::kStorageError, "no positions")
                                             : *result.positions[0].error);
  }
  on_written(result);
}

void Producer::on_written(const api::ProduceResult& result) {
  Send& send = *send_;
  const api::Produced& first = result.positions[0];
  if (plan_.acks != history::Acks::kNone) {
    for (size_t i = 0; i < send.told.records.size(); ++i) {
      const bool per_record = !send.raw_batch && i < result.positions.size();
      send.told.records[i].offset =
          per_record ? result.positions[i].offset.value() : first.offset.value() + static_cast<int64_t>(i);
    }
  }
  send.told.leader_epoch = first.leader_epoch.value();
  if (first.partition.value() != send.told.partition.index) {
    context_.violation(plan_.name + " was told of partition " + std::to_string(first.partition.value()) +
                       " for a write to " + std::to_string(send.told.partition.index));
  }
  if (send.asked != context_.leader_node(topic().name, send.told.partition.index)) ++context_.counters.forwarded;
  if (first.duplicate) {
    if (send.attempts < 2) context_.violation(plan_.name + " sent a batch once and was told that it is a duplicate");
    ++context_.counters.retries_deduplicated;
    ImagePtr image = context_.newest_image();
    const PartitionImage* at =
        image ? context_.find_partition(*image, topic().name, send.told.partition.index) : nullptr;
    if (at != nullptr && at->leader_epoch > send.first_epoch) ++context_.counters.retries_deduplicated_across_failover;
  }
  context_.counters.acknowledged += plan_.acks == history::Acks::kAll ? send.told.records.size() : 0;
  finish(Outcome::kOk, "");
}

void Producer::on_error(const Error& error) {
  const bool maybe_written = error.outcome != api::Outcome::kNotWritten;
  const std::string text = std::string(api::error_code_name(error.code)) + ": " + error.message;
  if (error.code == ErrorCode::kNotEnoughReplicasAfterAppend) ++context_.counters.after_append_errors;
  if (text.find("has not heard from the controller") != std::string::npos) ++context_.counters.zombie_leaders;
  if (is_sequence_error(error.code)) {
    id_.reset();
    return finish(send_->maybe_written ? Outcome::kUnknown : Outcome::kNotWritten, text);
  }
  const bool safe = maybe_written ? plan_.idempotent : api::error_code_retriable(error.code);
  again_or_give_up(safe, maybe_written, text);
}

void Producer::again_or_give_up(bool safe, bool maybe_written, const std::string& why) {
  Send& send = *send_;
  send.maybe_written = send.maybe_written || maybe_written;
  const bool late = context_.now_ns() - send.told.invoked_ns > plan_.patience_ns;
  if (safe && !late) {
    context_.gateway.after(context_.draw(10 * kMs, 150 * kMs), [this] { attempt(); });
    return;
  }
  // What was given up may still be written: its sequence numbers are used up, and with them the producer id.
  if (send.maybe_written) id_.reset();
  finish(send.maybe_written ? Outcome::kUnknown : Outcome::kNotWritten, why);
}

void Producer::finish(Outcome outcome, const std::string& detail) {
  Send& send = *send_;
  send.told.outcome = last_outcome_ = outcome;
  send.told.answered_ns = context_.now_ns();
  send.told.detail = "node " + std::to_string(send.asked) + ", attempt " + std::to_string(send.attempts) +
                     (detail.empty() ? "" : ", " + detail);
  if (outcome == Outcome::kOk) {
    if (plan_.idempotent && id_) next_sequence_ += static_cast<int32_t>(send.told.records.size());
    if (context_.on_acknowledged) context_.on_acknowledged(send.told, topic());
  } else {
    ++(outcome == Outcome::kUnknown ? context_.counters.unknown_outcomes : context_.counters.refused_honestly);
    context_.journal.note(plan_.name + " " + topic().name + "/" + std::to_string(send.told.partition.index) +
                          " token " + std::to_string(send.told.records[0].token) +
                          (outcome == Outcome::kUnknown ? " unknown: " : " not written: ") + send.told.detail);
  }
  context_.history.add(std::move(send.told));
  send_.reset();
  pause_then_next();
}

}  // namespace trilog::simulator
