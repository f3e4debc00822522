// The sending half of Producer: one thread that writes, one per stream that reads the answers.
//
// Order within a partition: batches are sent in the order they were closed. When one fails, the broker refuses the
// later ones that are on their way (PREVIOUS_FAILED); nothing new is sent for the partition until all of them came
// back, and then they go again, oldest first. Sequences make a repeat harmless: a batch keeps its sequence as long as a
// try of it may have been written, and gets a new one only when the broker said NOT_WRITTEN.
#include <algorithm>
#include <chrono>

#include "client/producer_impl.h"
#include "storage/base/check.h"

namespace trilog::client {
namespace {

constexpr int64_t kNever = INT64_MAX;
constexpr int64_t kBackoffMs = 20;
// A batch without an answer for this long after its time is over means a dead stream.
constexpr int64_t kAnswerGraceMs = 2'000;

bool is_sequence_error(const Error& error) {
  return error.code == "OUT_OF_ORDER_SEQUENCE" || error.code == "INVALID_PRODUCER_EPOCH" ||
         error.code == "UNKNOWN_PRODUCER";
}

}  // namespace

void Producer::Impl::send_loop() {
  std::unique_lock lock(mutex_);
  while (!closing_) {
    std::vector<Finished> finished;
    int64_t next_wake_ms = kNever;
    bool worked = collect(lock, finished, next_wake_ms);
    if (!finished.empty()) {
      lock.unlock();
      tell(finished);
      lock.lock();
      continue;
    }
    if (worked) continue;
    if (next_wake_ms == kNever) {
      changed_.wait(lock);
    } else {
      changed_.wait_for(lock, std::chrono::milliseconds(std::max<int64_t>(next_wake_ms - steady_ms(), 1)));
    }
  }
  std::shared_ptr<Stream> stream = std::move(stream_);
  lock.unlock();
  if (!stream) return;
  stream->context.TryCancel();
  if (stream->reader.joinable()) stream->reader.join();
}

// One round over all partitions: sends what may be sent. True if something was.
bool Producer::Impl::collect(std::unique_lock<std::mutex>& lock, std::vector<Finished>& finished,
                             int64_t& next_wake_ms) {
  bool worked = false;
  for (auto& [name, topic] : topics_) {
    for (Partition& partition : topic.partitions) {
      int64_t now = steady_ms();
      while (!closing_ && prepare_partition(name, partition, finished, now, next_wake_ms)) {
        if (!send_one(lock, name, partition)) {
          next_wake_ms = std::min(next_wake_ms, steady_ms() + kBackoffMs);
          return worked;
        }
        worked = true;
      }
    }
  }
  return worked;
}

// Whether the front of `queued` may be sent now.
bool Producer::Impl::prepare_partition(const std::string& name, Partition& partition, std::vector<Finished>& finished,
                                       int64_t now, int64_t& next_wake_ms) {
  if (!partition.in_flight.empty() && expired(*partition.in_flight.front()) && stream_ &&
      now > partition.in_flight.front()->created_ms() + options_.delivery_timeout_ms + kAnswerGraceMs) {
    stream_->context.TryCancel();  // its answers are overdue; the reader will put everything back
  }
  if (partition.failed && partition.in_flight.empty()) settle(partition);
  if (partition.failed) return false;
  if (partition.refusal) {
    // In order, and only what was handed over before the caller learnt of the refusal stays refused: later records too,
    // because a hole in the order is what the caller did not ask for.
    if (partition.open) close_open(partition);
    while (!partition.queued.empty()) {
      fail(name, std::move(partition.queued.front()), *partition.refusal, finished);
      partition.queued.pop_front();
    }
    return false;
  }
  while (!partition.queued.empty() && expired(*partition.queued.front())) {
    bool unknown = partition.queued.front()->maybe_written;
    std::string waited = std::to_string(options_.delivery_timeout_ms) + " ms";
    Error error{unknown ? "OUTCOME_UNKNOWN" : "REQUEST_TIMED_OUT", "no acknowledgement within " + waited, true,
                unknown ? Error::Outcome::kUnknown : Error::Outcome::kNotWritten};
    if (!unknown && partition.queued.front()->last_error) {
      // What kept it from being written is worth more than that time ran out.
      error = *partition.queued.front()->last_error;
      error.message += " (tried for " + waited + ")";
    }
    renew_producer_ = renew_producer_ || unknown;
    fail(name, std::move(partition.queued.front()), std::move(error), finished);
    partition.queued.pop_front();
  }
  if (partition.in_flight.size() >= static_cast<size_t>(options_.in_flight_per_partition)) return false;
  if (partition.queued.empty() && partition.open) {
    int64_t due = partition.open->created_ms() + options_.linger_ms;
    if (flushing_ == 0 && now < due) {
      next_wake_ms = std::min(next_wake_ms, due);
      return false;
    }
    // With records waiting for answers a fuller batch costs nobody anything: wait for one of them.
    if (flushing_ == 0 && partition.in_flight.size() >= 2) return false;
    close_open(partition);
  }
  if (partition.queued.empty()) return false;
  if (now < partition.not_before_ms) {
    next_wake_ms = std::min(next_wake_ms, partition.not_before_ms);
    return false;
  }
  return true;
}

// All that was on its way came back: what may be repeated goes to the front again, in its order.
void Producer::Impl::settle(Partition& partition) {
  while (!partition.retry.empty()) {
    partition.queued.push_front(std::move(partition.retry.back()));
    partition.retry.pop_back();
  }
  if (partition.renumber) {
    for (BatchPtr& batch : partition.queued) batch->forget_sequence();
  }
  partition.renumber = false;
  partition.failed = false;
  partition.resume_next = true;
}

bool Producer::Impl::send_one(std::unique_lock<std::mutex>& lock, const std::string& name, Partition& partition) {
  if (!ensure_stream(lock) || (options_.idempotent && !ensure_producer_id(lock))) {
    partition.not_before_ms = steady_ms() + kBackoffMs;
    return false;
  }
  if (partition.queued.empty() || partition.failed) return true;  // changed while the lock was away
  BatchPtr& batch = partition.queued.front();
  if (options_.idempotent && !batch->has_sequence()) {
    batch->set_sequence(*producer_id_, producer_epoch_, partition.next_sequence);
    partition.next_sequence = static_cast<int32_t>((int64_t{partition.next_sequence} + batch->count()) & INT32_MAX);
  }
  v1::ProduceRequest request;
  request.set_topic(name);
  request.set_partition(partition.index);
  request.set_acks(wire_acks());
  request.set_resume(partition.resume_next);
  int64_t left = batch->created_ms() + options_.delivery_timeout_ms - steady_ms();
  request.set_timeout_ms(static_cast<uint32_t>(std::max<int64_t>(left, 1)));
  if (batch->single() != nullptr && batch->bytes().size() > topics_.at(name).message_bytes_max) {
    fill_record(*request.add_records(), *batch->single());
    if (options_.idempotent) {
      request.mutable_sequence()->set_producer_id(producer_id_->value());
      request.mutable_sequence()->set_producer_epoch(producer_epoch_.value());
      request.mutable_sequence()->set_base_sequence(batch->base_sequence());
    }
  } else {
    request.set_record_batch(batch->bytes().data(), batch->bytes().size());
  }
  partition.resume_next = false;
  partition.in_flight.push_back(std::move(batch));
  partition.queued.pop_front();
  std::shared_ptr<Stream> stream = stream_;
  stream->expected.push_back({name, &partition});
  lock.unlock();
  bool written = stream->calls->Write(request);
  lock.lock();
  // A failed write is a broken stream: its reader puts everything back.
  if (!written) stream->context.TryCancel();
  return true;
}

bool Producer::Impl::ensure_stream(std::unique_lock<std::mutex>& lock) {
  if (stream_ && !stream_->broken) return true;
  std::shared_ptr<Stream> old = std::move(stream_);
  stream_ = nullptr;
  lock.unlock();
  if (old && old->reader.joinable()) old->reader.join();
  auto stream = std::make_shared<Stream>();
  Outcome<std::shared_ptr<grpc::Channel>> channel =
      client_.connect(SteadyClock::now() + std::chrono::milliseconds(500), true);
  if (channel.ok()) {
    stream->channel = channel.value();
    stream->stub = v1::Broker::NewStub(stream->channel);
    stream->context.AddMetadata("trilog-client", client_.options().name);
    stream->calls = stream->stub->ProduceStream(&stream->context);
    stream->reader = std::thread([this, stream] { read_loop(stream); });
  }
  lock.lock();
  if (!channel.ok()) return false;
  stream_ = std::move(stream);
  return true;
}

bool Producer::Impl::ensure_producer_id(std::unique_lock<std::mutex>& lock) {
  if (renew_producer_ && producer_id_) {
    // Sequences restart at 0, so nothing with the old ones may be on its way or waiting to be repeated.
    for (auto& [name, topic] : topics_) {
      for (Partition& partition : topic.partitions) {
        bool pending = !partition.in_flight.empty() || !partition.retry.empty();
        for (const BatchPtr& batch : partition.queued) pending = pending || batch->maybe_written;
        if (pending) return true;
      }
    }
    for (auto& [name, topic] : topics_) {
      for (Partition& partition : topic.partitions) {
        partition.next_sequence = 0;
        for (BatchPtr& batch : partition.queued) batch->forget_sequence();
      }
    }
    producer_id_.reset();
  }
  if (producer_id_) return true;
  lock.unlock();
  grpc::ClientContext context;
  client_.prepare(context, SteadyClock::now() + std::chrono::seconds(5));
  v1::InitProducerResponse response;
  std::shared_ptr<Stream> stream = stream_;
  grpc::Status status = stream->stub->InitProducer(&context, v1::InitProducerRequest(), &response);
  lock.lock();
  if (!status.ok()) return false;
  producer_id_ = ProducerId(response.producer_id());
  producer_epoch_ = ProducerEpoch(static_cast<int16_t>(response.producer_epoch()));
  renew_producer_ = false;
  return true;
}

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
  if (!status.ok() && status.error_details().empty()) client_.forget(stream->channel);
  tell(finished);
}

void Producer::Impl::on_answer(Stream& stream, const v1::ProduceResponse& response, std::vector<Finished>& finished) {
  if (stream.expected.empty()) return;
  Sent sent = std::move(stream.expected.front());
  stream.expected.pop_front();
  Partition& partition = *sent.partition;
  CHECK(!partition.in_flight.empty());
  BatchPtr batch = std::move(partition.in_flight.front());
  partition.in_flight.pop_front();
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

void Producer::Impl::on_failure(const std::string& name, Partition& partition, BatchPtr batch, Error error,
                                std::vector<Finished>& finished) {
  bool first = !partition.failed;
  partition.failed = true;
  partition.not_before_ms = steady_ms() + std::max<int64_t>(error.retry_after_ms, kBackoffMs);
  bool unknown = error.outcome == Error::Outcome::kUnknown;
  if (unknown) batch->maybe_written = true;
  if (error.code == "PREVIOUS_FAILED" && (!partition.retry.empty() || !partition.refusal)) {
    // Swept along by an earlier one: goes again after it.
    partition.retry.push_back(std::move(batch));
    return;
  }
  bool repeat = unknown ? options_.idempotent : error.retriable;
  if (repeat) {
    batch->last_error = std::move(error);
    partition.retry.push_back(std::move(batch));
    return;
  }
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

bool Producer::Impl::expired(const ProduceBatch& batch) const {
  return steady_ms() >= batch.created_ms() + options_.delivery_timeout_ms;
}

}  // namespace trilog::client
