// The consumer: one Consume stream, read by one thread into a small queue; the caller takes events from the queue. What
// is in the queue is bounded by the credit we gave.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "client/client.h"
#include "client/connection.h"

namespace trilog::client {
namespace {

using PartitionKey = std::pair<std::string, int32_t>;

v1::ListOffsetsRequest::Spec wire_spec(OffsetSpec spec) {
  return spec == OffsetSpec::kLatest ? v1::ListOffsetsRequest::LATEST : v1::ListOffsetsRequest::EARLIEST;
}

}  // namespace

struct Consumer::Impl {
  Impl(Client::Impl& client_impl, ConsumerOptions consumer_options)
      : client(client_impl), options(std::move(consumer_options)) {}
  ~Impl() { close(); }

  struct Stream {
    grpc::ClientContext context;
    std::unique_ptr<v1::Broker::Stub> stub;
    std::unique_ptr<grpc::ClientReaderWriter<v1::ConsumeRequest, v1::ConsumeResponse>> calls;
    std::shared_ptr<grpc::Channel> channel;
    std::thread reader;
    std::deque<v1::ConsumeResponse> events;                        // guarded by mutex
    std::map<uint64_t, v1::ConsumeResponse::Committed> committed;  // guarded by mutex
    bool ended = false;                                            // guarded by mutex
    grpc::Status status;                                           // after ended
    bool answered = false;                                         // guarded by mutex: the broker accepted the start
  };

  Outcome<Done> open();
  void read_loop(const std::shared_ptr<Stream>& stream);
  void close();
  bool write(const v1::ConsumeRequest& request);
  Event take(v1::ConsumeResponse response);
  Outcome<Done> reopen(const Error& why);

  Client::Impl& client;
  const ConsumerOptions options;
  std::vector<std::string> topics;
  std::map<PartitionKey, Position> positions;  // where each partition goes on: given by the caller, then as read
  bool only_positions = false;
  v1::ConsumeResponse current;  // the views of the last event point into it
  uint64_t used = 0;            // credit of the last event, to be given back
  uint64_t next_commit = 1;
  std::shared_ptr<Stream> stream;
  std::mutex mutex;
  std::condition_variable changed;
  std::atomic<bool> stopped{false};
};

Consumer::Consumer(Client& client, ConsumerOptions options)
    : impl_(std::make_unique<Impl>(client.impl(), std::move(options))) {}
Consumer::~Consumer() = default;

Outcome<Done> Consumer::subscribe(std::vector<std::string> topics, std::vector<Position> positions,
                                  bool only_positions) {
  impl_->close();
  impl_->topics = std::move(topics);
  impl_->positions.clear();
  for (Position& position : positions) impl_->positions[{position.topic, position.partition}] = position;
  impl_->only_positions = only_positions;
  return impl_->open();
}

Outcome<Done> Consumer::Impl::open() {
  SteadyTime deadline = SteadyClock::now() + std::chrono::milliseconds(client.options().timeout_ms);
  Outcome<std::shared_ptr<grpc::Channel>> channel = client.connect(deadline, false);
  if (!channel.ok()) return channel.error();
  auto opened = std::make_shared<Stream>();
  opened->channel = channel.value();
  opened->stub = v1::Broker::NewStub(opened->channel);
  opened->context.AddMetadata("trilog-client", client.options().name);
  opened->context.set_wait_for_ready(true);
  opened->calls = opened->stub->Consume(&opened->context);
  v1::ConsumeRequest request;
  v1::ConsumeRequest::Start* start = request.mutable_start();
  if (!only_positions) {
    for (const std::string& topic : topics) start->add_topics(topic);
  }
  for (const auto& [key, position] : positions) {
    v1::Position* to = start->add_positions();
    to->set_topic(position.topic);
    to->set_partition(position.partition);
    if (position.offset) to->set_offset(*position.offset);
  }
  start->set_group(options.group);
  start->set_credit_bytes(options.credit_bytes);
  start->set_from(wire_spec(options.from));
  used = 0;
  opened->calls->Write(request);  // a failure shows in the reader
  stream = opened;
  opened->reader = std::thread([this, opened] { read_loop(opened); });
  return Done{};
}

void Consumer::Impl::read_loop(const std::shared_ptr<Stream>& own) {
  v1::ConsumeResponse response;
  while (own->calls->Read(&response)) {
    std::lock_guard lock(mutex);
    own->answered = true;
    if (response.event_case() == v1::ConsumeResponse::kCommitted) {
      own->committed[response.committed().request_id()] = response.committed();
    } else if (response.event_case() != v1::ConsumeResponse::kHeartbeat) {
      own->events.push_back(std::move(response));
    }
    response = v1::ConsumeResponse();
    changed.notify_all();
  }
  grpc::Status status = own->calls->Finish();
  std::lock_guard lock(mutex);
  own->status = status;
  own->ended = true;
  changed.notify_all();
}

bool Consumer::Impl::write(const v1::ConsumeRequest& request) { return stream && stream->calls->Write(request); }

void Consumer::Impl::close() {
  if (!stream) return;
  stream->context.TryCancel();
  stream->reader.join();
  stream.reset();
}

// Goes on where it was: with the positions read so far, and the group's commits for partitions not read yet.
Outcome<Done> Consumer::Impl::reopen(const Error& why) {
  SteadyTime give_up = SteadyClock::now() + std::chrono::milliseconds(options.reconnect_timeout_ms);
  client.forget(stream->channel);
  close();
  while (!stopped && SteadyClock::now() < give_up) {
    Outcome<Done> opened = open();
    if (opened.ok()) return opened;
    if (opened.error().code != "NO_SERVER") return opened;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return why;
}

Consumer::Event Consumer::Impl::take(v1::ConsumeResponse response) {
  current = std::move(response);
  used = current.credit_used();
  Event event;
  if (current.event_case() == v1::ConsumeResponse::kCaughtUp) {
    event.kind = Event::Kind::kCaughtUp;
    for (const v1::Position& from : current.caught_up().partitions()) {
      Position position{from.topic(), from.partition(), {}};
      if (from.has_offset()) position.offset = from.offset();
      event.caught_up.push_back(std::move(position));
    }
    return event;
  }
  if (current.event_case() == v1::ConsumeResponse::kError) {
    event.kind = Event::Kind::kPartitionError;
    event.topic = current.error().position().topic();
    event.partition = current.error().position().partition();
    event.error = decode_error(current.error().error());
    return event;
  }
  event.kind = Event::Kind::kRecords;
  const v1::FetchedPartition& from = current.records();
  event.topic = from.topic();
  event.partition = from.partition();
  event.next_offset = from.next_offset();
  event.high_watermark = from.high_watermark();
  event.records.reserve(static_cast<size_t>(from.records_size()));
  for (const v1::Record& record : from.records()) {
    ConsumedRecord out;
    out.topic = from.topic();
    out.partition = from.partition();
    out.offset = record.offset();
    out.timestamp_ms = record.has_timestamp_ms() ? record.timestamp_ms() : -1;
    out.leader_epoch = from.leader_epoch();
    if (record.has_key()) out.key = record.key();
    if (record.has_value()) out.value = record.value();
    for (const v1::Header& header : record.headers()) {
      out.headers.emplace_back(header.key(),
                               header.has_value() ? std::optional<std::string_view>(header.value()) : std::nullopt);
    }
    event.records.push_back(std::move(out));
  }
  positions[{from.topic(), from.partition()}] = Position{from.topic(), from.partition(), from.next_offset()};
  return event;
}

Outcome<Consumer::Event> Consumer::poll(int64_t timeout_ms) {
  Impl& impl = *impl_;
  if (!impl.stream) return Error{"INVALID_REQUEST", "subscribe before poll"};
  if (impl.used > 0) {
    v1::ConsumeRequest request;
    request.set_credit_bytes(impl.used);
    impl.used = 0;
    impl.write(request);
  }
  SteadyTime until = SteadyClock::now() + std::chrono::milliseconds(timeout_ms);
  for (;;) {
    std::unique_lock lock(impl.mutex);
    impl.changed.wait_until(lock, until,
                            [&] { return !impl.stream->events.empty() || impl.stream->ended || impl.stopped; });
    if (!impl.stream->events.empty()) {
      v1::ConsumeResponse response = std::move(impl.stream->events.front());
      impl.stream->events.pop_front();
      lock.unlock();
      return impl.take(std::move(response));
    }
    if (impl.stopped || !impl.stream->ended) return Event{};
    grpc::Status status = impl.stream->status;
    lock.unlock();
    Error error = decode_error(status, false);
    bool from_broker = !status.error_details().empty();
    // A node that stops, or a broken connection: the records are still there, so go on where we were.
    if (from_broker && !error.retriable) return error;
    Outcome<Done> reopened = impl.reopen(error);
    if (!reopened.ok()) return reopened.error();
    if (SteadyClock::now() >= until) return Event{};
  }
}

void Consumer::seek(const Position& position) {
  impl_->positions[{position.topic, position.partition}] = position;
  v1::ConsumeRequest request;
  request.mutable_seek()->set_topic(position.topic);
  request.mutable_seek()->set_partition(position.partition);
  if (position.offset) request.mutable_seek()->set_offset(*position.offset);
  {
    // What was read ahead of the seek is not shown any more.
    std::lock_guard lock(impl_->mutex);
    if (!impl_->stream) return;
    auto stale = [&](const v1::ConsumeResponse& event) {
      bool is = event.event_case() == v1::ConsumeResponse::kRecords && event.records().topic() == position.topic &&
                event.records().partition() == position.partition;
      if (is) impl_->used += event.credit_used();
      return is;
    };
    std::erase_if(impl_->stream->events, stale);
  }
  impl_->write(request);
}

void Consumer::pause(const std::vector<Position>& partitions, bool paused) {
  v1::ConsumeRequest request;
  request.mutable_pause()->set_paused(paused);
  for (const Position& position : partitions) {
    v1::Position* to = request.mutable_pause()->add_partitions();
    to->set_topic(position.topic);
    to->set_partition(position.partition);
  }
  impl_->write(request);
}

Outcome<std::vector<Commit>> Consumer::commit(const std::vector<Commit>& offsets) {
  Impl& impl = *impl_;
  if (impl.options.group.empty()) return Error{"INVALID_REQUEST", "a consumer without a group cannot commit"};
  if (!impl.stream) return Error{"INVALID_REQUEST", "subscribe before commit"};
  v1::ConsumeRequest request;
  uint64_t id = impl.next_commit++;
  request.mutable_commit()->set_request_id(id);
  for (const Commit& commit : offsets) {
    v1::CommittedOffset* to = request.mutable_commit()->add_offsets();
    to->set_topic(commit.topic);
    to->set_partition(commit.partition);
    to->set_offset(commit.offset);
    if (commit.leader_epoch) to->set_leader_epoch(*commit.leader_epoch);
    to->set_metadata(commit.metadata);
  }
  SteadyTime until = SteadyClock::now() + std::chrono::milliseconds(impl.client.options().timeout_ms);
  for (;;) {
    bool written = impl.write(request);
    std::unique_lock lock(impl.mutex);
    auto settled = [&] { return impl.stream->committed.contains(id) || impl.stream->ended; };
    if (written) impl.changed.wait_until(lock, until, settled);
    if (impl.stream->committed.contains(id)) {
      v1::ConsumeResponse::Committed committed = std::move(impl.stream->committed[id]);
      impl.stream->committed.erase(id);
      std::vector<Commit> results;
      for (const v1::CommittedOffset& from : committed.offsets()) {
        Commit commit{from.topic(), from.partition(), from.offset()};
        if (from.has_error()) commit.error = decode_error(from.error());
        results.push_back(std::move(commit));
      }
      return results;
    }
    if (SteadyClock::now() >= until) {
      return Error{"OUTCOME_UNKNOWN", "no answer to the commit in time", true, Error::Outcome::kUnknown};
    }
    if (!impl.stream->ended) continue;
    grpc::Status status = impl.stream->status;
    lock.unlock();
    Error error = decode_error(status, true);
    if (!status.error_details().empty() && !error.retriable) return error;
    // The same offsets again do no harm.
    Outcome<Done> reopened = impl.reopen(error);
    if (!reopened.ok()) return reopened.error();
  }
}

Outcome<Done> Consumer::run(const std::vector<std::string>& topics,
                            const std::function<bool(const ConsumedRecord&)>& handler, bool stop_at_end,
                            int64_t commit_interval_ms) {
  Outcome<Done> subscribed = subscribe(topics);
  if (!subscribed.ok()) return subscribed;
  std::map<PartitionKey, Commit> handled;
  auto commit_handled = [&]() -> Outcome<Done> {
    if (handled.empty() || impl_->options.group.empty()) return Done{};
    std::vector<Commit> offsets;
    for (auto& [key, commit] : handled) offsets.push_back(std::move(commit));
    handled.clear();
    Outcome<std::vector<Commit>> committed = commit(offsets);
    if (!committed.ok()) return committed.error();
    for (const Commit& each : committed.value()) {
      if (each.error) return *each.error;
    }
    return Done{};
  };
  SteadyTime last_commit = SteadyClock::now();
  bool more = true;
  while (more && !impl_->stopped) {
    Outcome<Event> event = poll(commit_interval_ms);
    if (!event.ok()) return event.error();
    if (event->kind == Event::Kind::kPartitionError) return *event->error;
    for (const ConsumedRecord& record : event->records) {
      more = handler(record);
      if (!more) break;
      handled[{std::string(record.topic), record.partition}] =
          Commit{std::string(record.topic), record.partition, record.offset + 1, record.leader_epoch};
    }
    if (event->kind == Event::Kind::kCaughtUp && stop_at_end) more = false;
    if (more && SteadyClock::now() - last_commit < std::chrono::milliseconds(commit_interval_ms)) continue;
    Outcome<Done> committed = commit_handled();
    if (!committed.ok()) return committed;
    last_commit = SteadyClock::now();
  }
  Outcome<Done> committed = commit_handled();
  close();
  return committed;
}

void Consumer::stop() {
  impl_->stopped = true;
  std::lock_guard lock(impl_->mutex);
  impl_->changed.notify_all();
}

void Consumer::close() { impl_->close(); }

}  // namespace trilog::client
