// The sending half of Producer: one thread that writes, one per stream that reads the answers.
//
// Order within a partition: batches are sent in the order they were closed. When one fails, the broker refuses the
// later ones that are on their way (PREVIOUS_FAILED); nothing new is sent for the partition until all of them came
// back, and then they go again, oldest first. Sequences make a repeat harmless: a batch keeps its sequence as long as a
// try of it may have been written, and gets a new one only when the broker said NOT_WRITTEN.
#include <algorithm>
#include <chrono>

#include "client/producer_impl.h"

namespace trilog::client {
namespace {

constexpr int64_t kNever = INT64_MAX;
// A batch without an answer for this long after its time is over means a dead stream: the broker answers in time.
constexpr int64_t kAnswerGraceMs = 1'000;
constexpr int64_t kWatchMs = 100;
constexpr int64_t kAskIdMs = 5'000;

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
      while (!closing_ && prepare_partition(name, topic, partition, finished, now, next_wake_ms)) {
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
bool Producer::Impl::prepare_partition(const std::string& name, Topic& topic, Partition& partition,
                                       std::vector<Finished>& finished, int64_t now, int64_t& next_wake_ms) {
  if (partition.failed && partition.in_flight.empty()) settle(partition);
  if (partition.failed) return false;
  if (partition.refusal) {
    // In order, and only what was handed over before the caller learnt of the refusal stays refused: later records too,
    // because a hole in the order is what the caller did not ask for.
    if (partition.open) close_open(topic, partition);
    while (!partition.queued.empty()) {
      fail(name, std::move(partition.queued.front()), *partition.refusal, finished);
      partition.queued.pop_front();
    }
    return false;
  }
  expire(name, topic, partition, finished);
  if (partition.in_flight.size() >= static_cast<size_t>(options_.in_flight_per_partition)) return false;
  if (partition.queued.empty() && partition.open) {
    int64_t due = partition.open->created_ms() + options_.linger_ms;
    if (flushing_ == 0 && now < due) {
      next_wake_ms = std::min(next_wake_ms, due);
      return false;
    }
    // With records waiting for answers a fuller batch costs nobody anything: wait for one of them.
    if (flushing_ == 0 && partition.in_flight.size() >= 2) return false;
    close_open(topic, partition);
  }
  if (partition.queued.empty()) return false;
  if (now < partition.not_before_ms) {
    next_wake_ms = std::min(next_wake_ms, partition.not_before_ms);
    return false;
  }
  return true;
}

// Fails what waited too long.
void Producer::Impl::expire(const std::string& name, Topic& topic, Partition& partition,
                            std::vector<Finished>& finished) {
  if (partition.open && expired(*partition.open)) close_open(topic, partition);
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
  if (!ensure_stream(lock) || (options_.idempotent && !ensure_producer_id(lock, *partition.queued.front()))) {
    partition.not_before_ms = steady_ms() + kBackoffMs;
    if (id_refusal_ && !partition.queued.empty()) partition.queued.front()->last_error = id_refusal_;
    return false;
  }
  // While the lock was away answers may have come, and records may have waited too long.
  if (closing_ || partition.queued.empty() || partition.failed || partition.refusal || !stream_ || stream_->broken)
    return true;
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
  std::shared_ptr<Stream> stream = stream_;
  request.set_request_id(++stream->requests);
  partition.resume_next = false;
  partition.in_flight.push_back(std::move(batch));
  partition.queued.pop_front();
  stream->expected.push_back({name, &partition, request.request_id()});
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

// Whether `batch` may go: with the sequence it has, or with one of the producer id that is valid now.
bool Producer::Impl::ensure_producer_id(std::unique_lock<std::mutex>& lock, const ProduceBatch& batch) {
  if (renew_producer_ && producer_id_ && !begin_new_sequences()) return batch.has_sequence();
  if (producer_id_) return true;
  grpc::ClientContext context;
  int64_t left = batch.created_ms() + options_.delivery_timeout_ms - steady_ms();
  client_.prepare(context, SteadyClock::now() + std::chrono::milliseconds(std::clamp<int64_t>(left, 1, kAskIdMs)));
  v1::InitProducerResponse response;
  std::shared_ptr<Stream> stream = stream_;
  asking_id_ = &context;
  if (closing_) context.TryCancel();
  lock.unlock();
  grpc::Status status = stream->stub->InitProducer(&context, v1::InitProducerRequest(), &response);
  lock.lock();
  asking_id_ = nullptr;
  if (!status.ok()) {
    id_refusal_ = decode_error(status, false);
    return false;
  }
  id_refusal_.reset();
  producer_id_ = ProducerId(response.producer_id());
  producer_epoch_ = ProducerEpoch(static_cast<int16_t>(response.producer_epoch()));
  renew_producer_ = false;
  return true;
}

// Sequences restart at 0 under another id, so nothing with the old ones may be on its way or waiting to be repeated.
// False as long as something is.
bool Producer::Impl::begin_new_sequences() {
  for (auto& [name, topic] : topics_) {
    for (Partition& partition : topic.partitions) {
      if (!partition.in_flight.empty() || !partition.retry.empty()) return false;
      for (const BatchPtr& batch : partition.queued) {
        if (batch->maybe_written) return false;
      }
    }
  }
  for (auto& [name, topic] : topics_) {
    for (Partition& partition : topic.partitions) {
      partition.next_sequence = 0;
      for (BatchPtr& batch : partition.queued) batch->forget_sequence();
    }
  }
  producer_id_.reset();
  return true;
}

// The sender may be waiting in a write to a broker that stopped reading: this thread looks at the clock while records
// are unfinished.
void Producer::Impl::watch_loop() {
  std::unique_lock lock(mutex_);
  while (!closing_) {
    watching_ = unfinished_ > 0;
    if (watching_) {
      cancel_overdue();
      std::vector<Finished> finished;
      for (auto& [name, topic] : topics_) {
        for (Partition& partition : topic.partitions) {
          if (partition.failed && partition.in_flight.empty()) settle(partition);
          if (!partition.failed) expire(name, topic, partition, finished);
        }
      }
      if (!finished.empty()) {
        lock.unlock();
        tell(finished);
        lock.lock();
      }
      if (!closing_) watch_.wait_for(lock, std::chrono::milliseconds(kWatchMs));
    } else {
      watch_.wait(lock);
    }
  }
}

// Answers that are overdue end the stream; its reader puts everything back.
void Producer::Impl::cancel_overdue() {
  if (!stream_ || stream_->broken) return;
  int64_t oldest = steady_ms() - options_.delivery_timeout_ms - std::min(kAnswerGraceMs, options_.delivery_timeout_ms);
  for (auto& [name, topic] : topics_) {
    for (Partition& partition : topic.partitions) {
      if (partition.in_flight.empty() || partition.in_flight.front()->created_ms() > oldest) continue;
      stream_->context.TryCancel();
      return;
    }
  }
}

bool Producer::Impl::expired(const ProduceBatch& batch) const {
  return steady_ms() >= batch.created_ms() + options_.delivery_timeout_ms;
}

}  // namespace trilog::client
