// The receiving half of Producer: what the answers of a stream, or its end, mean for the batches that were on their
// way.
#include <algorithm>

#include "client/producer_impl.h"
#include "storage/base/check.h"

namespace trilog::client {
namespace {

bool is_sequence_error(const Error& error) {
  return error.code == "OUT_OF_ORDER_SEQUENCE" || error.code == "INVALID_PRODUCER_EPOCH" ||
         error.code == "UNKNOWN_PRODUCER";
}

}  // namespace

void Producer::Impl::read_loop(std::shared_ptr<Stream> stream) {
  v1::ProduceResponse response;
  while (stream->calls->Read(&response)) {
    std::vector<Finished> finished;
    {
      std::lock_guard lock(mutex_);
      on_answer(*stream, response, finished);
      changed_.notify_one();
    }
    tell(finished);
    response.Clear();
  }
  grpc::Status status = stream->calls->Finish();
  std::vector<Finished> finished;
  {
    std::lock_guard lock(mutex_);
    stream->broken = true;
    on_broken(*stream, finished);
    changed_.notify_all();
  }
  if (is_leaving(status)) client_.forget(stream->channel);
  tell(finished);
}

void Producer::Impl::on_answer(Stream& stream, const v1::ProduceResponse& response, std::vector<Finished>& finished) {
  if (stream.broken) return;
  if (stream.expected.empty()) {
    // Nothing that follows could be told from an answer.
    stream.broken = true;
    return stream.context.TryCancel();
  }
  Sent sent = std::move(stream.expected.front());
  stream.expected.pop_front();
  Partition& partition = *sent.partition;
  CHECK(!partition.in_flight.empty());
  BatchPtr batch = std::move(partition.in_flight.front());
  partition.in_flight.pop_front();
  if (std::optional<std::string> flaw = flaw_of(response, sent)) {
    // The other answers of this stream are worth no more: what waits for them is unknown as well.
    stream.broken = true;
    stream.context.TryCancel();
    return on_failure(sent.topic, partition, std::move(batch), broken_answer(*flaw, true), finished, false);
  }
  if (response.has_error())
    return on_failure(sent.topic, partition, std::move(batch), decode_error(response.error()), finished);
  const v1::Produced& position = response.positions(0);
  if (position.has_error())
    return on_failure(sent.topic, partition, std::move(batch), decode_error(position.error()), finished);
  Finished done;
  done.delivery.partition = position.partition();
  done.delivery.offset = position.offset();
  done.delivery.timestamp_ms = position.timestamp_ms() > 0 ? position.timestamp_ms() : -1;
  done.delivery.duplicate = position.duplicate();
  done.durability = response.durability();
  done.delivery.synced_replicas = response.synced_replicas();
  done.delivery.replicas = response.replicas();
  done.topic = sent.topic;
  done.batch = std::move(batch);
  finished.push_back(std::move(done));
}

// Why `response` cannot be the answer to `sent`, which was one batch or one record.
std::optional<std::string> Producer::Impl::flaw_of(const v1::ProduceResponse& response, const Sent& sent) const {
  if (response.request_id() != sent.request_id) {
    return "request " + std::to_string(response.request_id()) + " where " + std::to_string(sent.request_id) +
           " was next";
  }
  if (response.has_error()) return std::nullopt;
  if (response.positions_size() != 1)
    return std::to_string(response.positions_size()) + " positions for one batch of " + sent.topic;
  const v1::Produced& position = response.positions(0);
  const int32_t asked = sent.partition->index;
  if (position.partition() != asked) {
    return "partition " + std::to_string(position.partition()) + " of " + sent.topic + " where " +
           std::to_string(asked) + " was asked for";
  }
  if (!position.has_error() && position.offset() < 0 && options_.acks != Acks::kNone)
    return "no offset for a batch of " + sent.topic;
  return std::nullopt;
}

void Producer::Impl::on_failure(const std::string& name, Partition& partition, BatchPtr batch, Error error,
                                std::vector<Finished>& finished, bool may_repeat) {
  bool first = !partition.failed;
  partition.failed = true;
  partition.not_before_ms = steady_ms() + std::max<int64_t>(error.retry_after_ms, kBackoffMs);
  bool unknown = error.outcome == Error::Outcome::kUnknown;
  if (unknown) batch->maybe_written = true;
  // A gap in the sequences as well is told of what was sent behind an earlier one that has to go again, as to a new
  // leader that has seen only the later one.
  bool behind_a_retry = is_sequence_error(error) && !unknown && batch->has_sequence() && !partition.retry.empty();
  if (behind_a_retry || (error.code == "PREVIOUS_FAILED" && (!partition.retry.empty() || !partition.refusal))) {
    // Swept along by an earlier one: goes again after it.
    partition.retry.push_back(std::move(batch));
    return;
  }
  bool repeat = unknown ? options_.idempotent : error.retriable;
  if (repeat && may_repeat) {
    batch->last_error = std::move(error);
    partition.retry.push_back(std::move(batch));
    return;
  }
  unknown = batch->maybe_written;  // an earlier try counts as well
  if (is_sequence_error(error)) renew_producer_ = true;
  if (unknown) renew_producer_ = true;
  if (!unknown && first && batch->has_sequence()) {
    // The sequence it would have had goes to the next batch; none of those sent after it can have been written.
    partition.next_sequence = batch->base_sequence();
    partition.renumber = true;
  }
  if (!options_.skip_refused && error.code != "PREVIOUS_FAILED") {
    partition.refusal = Error{"PREVIOUS_FAILED",
                              "not written, because an earlier record for the same partition failed: " + error.message};
  }
  fail(name, std::move(batch), std::move(error), finished);
}

// Everything on its way over this stream has an unknown outcome.
void Producer::Impl::on_broken(Stream& stream, std::vector<Finished>& finished) {
  while (!stream.expected.empty()) {
    Sent sent = std::move(stream.expected.front());
    stream.expected.pop_front();
    if (sent.partition->in_flight.empty()) continue;
    BatchPtr batch = std::move(sent.partition->in_flight.front());
    sent.partition->in_flight.pop_front();
    on_failure(
        sent.topic, *sent.partition, std::move(batch),
        {"OUTCOME_UNKNOWN", "the connection to the broker was lost before it answered", true, Error::Outcome::kUnknown},
        finished);
  }
}

void Producer::Impl::fail(const std::string& name, BatchPtr batch, Error error, std::vector<Finished>& finished) {
  Finished done;
  if (batch->maybe_written && error.outcome != Error::Outcome::kUnknown) {
    error = {"OUTCOME_UNKNOWN", "an earlier try may have been written; the last one failed: " + error.message, false,
             Error::Outcome::kUnknown};
  }
  done.topic = name;
  done.batch = std::move(batch);
  done.error = std::move(error);
  finished.push_back(std::move(done));
}

void Producer::Impl::tell(std::vector<Finished>& finished) {
  size_t records = 0;
  size_t bytes = 0;
  for (Finished& done : finished) {
    done.delivery.durability = done.durability;
    records += static_cast<size_t>(done.batch->count());
    bytes += done.batch->memory();
    done.batch->deliver(done.topic, done.delivery, done.error ? &*done.error : nullptr);
  }
  if (finished.empty()) return;
  std::lock_guard lock(mutex_);
  unfinished_ -= records;
  buffered_ -= bytes;
  space_.notify_all();
}

}  // namespace trilog::client
