// The consumer: one Consume stream, read by one thread into a small queue; the caller takes events from the queue. What
// is in the queue is bounded by the credit we gave.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "client/client.h"
#include "client/connection.h"
#include "client/consume_positions.h"

namespace trilog::client {
namespace {

using PartitionKey = std::pair<std::string, int32_t>;

v1::ListOffsetsRequest::Spec wire_spec(OffsetSpec spec) {
  return spec == OffsetSpec::kLatest ? v1::ListOffsetsRequest::LATEST : v1::ListOffsetsRequest::EARLIEST;
}

void add_position(v1::Position& to, const Position& position) {
  to.set_topic(position.topic);
  to.set_partition(position.partition);
  if (position.offset) to.set_offset(*position.offset);
  if (!position.offset && position.timestamp_ms) to.set_timestamp_ms(*position.timestamp_ms);
}

// One try to connect again may take so long; poll() may overrun its time by it.
constexpr int64_t kConnectMs = 500;
constexpr int64_t kPauseMs = 50;
// The end of another stream of the group may still be on its way to the broker when this one begins.
constexpr int64_t kGroupReleaseMs = 1'000;
// Another consumer may have had the group meanwhile: reading goes on if it is free, what was to be committed does not.
constexpr std::string_view kFenced = "FENCED_MEMBER";

// Handler style: what run() keeps while it runs.
struct Handled {
  std::map<PartitionKey, Commit> uncommitted;
  std::map<PartitionKey, int64_t> ends;  // what is still to be reached, with stop_at_end

  void reached(const std::string& topic, int32_t partition, int64_t offset) {
    auto end = ends.find({topic, partition});
    if (end != ends.end() && offset >= end->second) ends.erase(end);
  }
};

}  // namespace

struct Consumer::Impl {
  Impl(Client& owner, ConsumerOptions consumer_options)
      : client(owner), connections(owner.impl()), options(std::move(consumer_options)) {}
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

  Outcome<Done> add_times();
  Outcome<Done> open(SteadyTime deadline, bool patient);
  void read_loop(const std::shared_ptr<Stream>& own);
  void close();
  bool write(const v1::ConsumeRequest& request);
  bool reads(const std::string& topic) const;
  std::optional<Event> take(v1::ConsumeResponse response);
  static ConsumedRecord view(const v1::FetchedPartition& from, const v1::Record& record);
  std::optional<Error> lose(bool may_be_written);
  void begin_again(const Error& why);
  Outcome<bool> reopen(SteadyTime until);
  Outcome<Done> commit_handled(Consumer& consumer, Handled& handled);

  Client& client;
  Client::Impl& connections;
  const ConsumerOptions options;
  bool subscribed = false;
  std::vector<std::string> topics;
  ConsumePositions positions;
  std::set<PartitionKey> paused;
  std::set<PartitionKey> skipped;  // paused, and something of theirs was on its way: to be asked for again
  bool only_positions = false;
  v1::ConsumeResponse current;  // the views of the last event point into it
  uint64_t used = 0;            // credit of the last event, to be given back
  uint64_t next_commit = 1;
  std::shared_ptr<Stream> stream;        // none while there is no connection
  bool was_answered = false;             // by any stream of this subscription
  std::optional<SteadyTime> lost_since;  // no broker accepted us since then
  SteadyTime not_before;                 // of the next try
  Error lost_why;
  std::mutex mutex;
  std::condition_variable changed;
  std::atomic<bool> stopped{false};
};

Consumer::Consumer(Client& client, ConsumerOptions options)
    : impl_(std::make_unique<Impl>(client, std::move(options))) {}
Consumer::~Consumer() = default;

Outcome<Done> Consumer::subscribe(std::vector<std::string> topics, std::vector<Position> positions,
                                  bool only_positions) {
  Impl& impl = *impl_;
  impl.close();
  impl.topics = std::move(topics);
  impl.positions.clear();
  impl.paused.clear();
  impl.skipped.clear();
  impl.only_positions = only_positions;
  impl.was_answered = false;
  impl.lost_since.reset();
  if (impl.options.from == OffsetSpec::kTimestamp && !only_positions) {
    Outcome<Done> added = impl.add_times();
    if (!added.ok()) return added;
  }
  for (const Position& position : positions) impl.positions.set(position);
  Outcome<Done> opened =
      impl.open(SteadyClock::now() + std::chrono::milliseconds(impl.client.options().timeout_ms), false);
  impl.subscribed = opened.ok();
  return opened;
}

// A time belongs to a position, so the partitions must be named.
Outcome<Done> Consumer::Impl::add_times() {
  for (const std::string& topic : topics) {
    Outcome<TopicInfo> info = Admin(client).describe_topic(topic);
    if (!info.ok()) return info.error();
    for (const PartitionInfo& partition : info->partitions) {
      positions.set({topic, partition.partition, {}, options.from_timestamp_ms});
    }
  }
  return Done{};
}

Outcome<Done> Consumer::Impl::open(SteadyTime deadline, bool patient) {
  Outcome<std::shared_ptr<grpc::Channel>> channel = connections.connect(deadline, patient);
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
  positions.reconnected();
  for (const Position& position : positions.all()) add_position(*start->add_positions(), position);
  start->set_group(options.group);
  start->set_credit_bytes(options.credit_bytes);
  start->set_from(wire_spec(options.from));
  used = 0;
  opened->calls->Write(request);  // a failure shows in the reader
  if (!paused.empty()) {
    request.Clear();
    request.mutable_pause()->set_paused(true);
    for (const auto& [topic, partition] : paused)
      add_position(*request.mutable_pause()->add_partitions(), {topic, partition, {}});
    opened->calls->Write(request);
  }
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

// The stream ended. Nothing if reading may go on over another one, else why not.
std::optional<Error> Consumer::Impl::lose(bool may_be_written) {
  Error error = decode_error(stream->status, may_be_written);
  bool from_broker = !stream->status.error_details().empty();
  SteadyTime now = SteadyClock::now();
  was_answered = was_answered || stream->answered;
  if (stream->answered || !lost_since) lost_since = now;
  not_before = stream->answered ? now : now + std::chrono::milliseconds(kPauseMs);
  lost_why = error;
  if (is_leaving(stream->status)) connections.forget(stream->channel);
  close();
  // Our own stream before this one, or another consumer's that was closed just now, may still hold the group.
  bool released_soon =
      error.code == "GROUP_IN_USE" && (was_answered || now < *lost_since + std::chrono::milliseconds(kGroupReleaseMs));
  if (!from_broker || error.retriable || released_soon || error.code == kFenced) return std::nullopt;
  return error;
}

// Another stream, so that what may be on its way over this one has no effect any more: commits that are older than
// what is committed next (X13).
void Consumer::Impl::begin_again(const Error& why) {
  lost_why = why;
  lost_since = not_before = SteadyClock::now();
  was_answered = true;
  close();
}

// Goes on where it was. False if there is no stream by `until`, or on stop(); an error when it gives up.
Outcome<bool> Consumer::Impl::reopen(SteadyTime until) {
  while (!stream && !stopped) {
    SteadyTime now = SteadyClock::now();
    if (now >= *lost_since + std::chrono::milliseconds(options.reconnect_timeout_ms)) return lost_why;
    if (now < not_before) {
      if (now >= until) return false;
      std::unique_lock lock(mutex);
      changed.wait_until(lock, std::min(until, not_before), [&] { return stopped.load(); });
      continue;
    }
    Outcome<Done> opened = open(now + std::chrono::milliseconds(kConnectMs), true);
    if (opened.ok()) return true;
    if (opened.error().code != "NO_SERVER") return opened.error();
    not_before = SteadyClock::now() + std::chrono::milliseconds(kPauseMs);
  }
  return stream != nullptr;
}

bool Consumer::Impl::reads(const std::string& topic) const {
  return positions.knows(topic) || std::find(topics.begin(), topics.end(), topic) != topics.end();
}

// Nothing if all of it is from before a seek.
std::optional<Consumer::Event> Consumer::Impl::take(v1::ConsumeResponse response) {
  current = std::move(response);
  used += current.credit_used();
  Event event;
  if (current.event_case() == v1::ConsumeResponse::kCaughtUp) {
    event.kind = Event::Kind::kCaughtUp;
    for (const v1::Position& from : current.caught_up().partitions()) {
      // The end of a paused partition was reached over records that were left out.
      if (paused.contains({from.topic(), from.partition()}) || !positions.take_end(from)) continue;
      Position position{from.topic(), from.partition(), {}};
      if (from.has_offset()) position.offset = from.offset();
      event.caught_up.push_back(std::move(position));
    }
    if (event.caught_up.empty()) return std::nullopt;
    return event;
  }
  if (current.event_case() == v1::ConsumeResponse::kError) {
    event.kind = Event::Kind::kPartitionError;
    event.topic = current.error().position().topic();
    event.partition = current.error().position().partition();
    event.error = decode_error(current.error().error());
    return event;
  }
  const v1::FetchedPartition& from = current.records();
  if (PartitionKey key(from.topic(), from.partition()); paused.contains(key)) {
    positions.skip(from);
    skipped.insert(key);
    return std::nullopt;
  }
  std::optional<int> first = positions.take(from);
  if (!first) return std::nullopt;
  event.kind = Event::Kind::kRecords;
  event.topic = from.topic();
  event.partition = from.partition();
  event.next_offset = from.next_offset();
  event.high_watermark = from.high_watermark();
  event.records.reserve(static_cast<size_t>(from.records_size() - *first));
  for (int i = *first; i < from.records_size(); ++i) event.records.push_back(view(from, from.records(i)));
  return event;
}

ConsumedRecord Consumer::Impl::view(const v1::FetchedPartition& from, const v1::Record& record) {
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
  return out;
}

Outcome<Consumer::Event> Consumer::poll(int64_t timeout_ms) {
  Impl& impl = *impl_;
  if (!impl.subscribed) return Error{"INVALID_REQUEST", "subscribe before poll"};
  SteadyTime until = SteadyClock::now() + std::chrono::milliseconds(timeout_ms);
  for (;;) {
    if (impl.stopped) return Event{};
    if (!impl.stream) {
      Outcome<bool> opened = impl.reopen(until);
      if (!opened.ok()) return opened.error();
      if (!opened.value()) return Event{};
    }
    if (impl.used > 0) {
      v1::ConsumeRequest request;
      request.set_credit_bytes(std::exchange(impl.used, 0));
      impl.write(request);
    }
    std::unique_lock lock(impl.mutex);
    impl.changed.wait_until(lock, until,
                            [&] { return !impl.stream->events.empty() || impl.stream->ended || impl.stopped; });
    if (!impl.stream->events.empty()) {
      v1::ConsumeResponse response = std::move(impl.stream->events.front());
      impl.stream->events.pop_front();
      lock.unlock();
      if (std::optional<std::string> flaw =
              flaw_of(response, [&](const std::string& topic) { return impl.reads(topic); })) {
        impl.lost_why = broken_answer(*flaw, false);
        impl.lost_since = SteadyClock::now();
        impl.close();
        return impl.lost_why;
      }
      std::optional<Event> event = impl.take(std::move(response));
      if (event) return std::move(*event);
      continue;
    }
    if (impl.stopped || !impl.stream->ended) return Event{};
    lock.unlock();
    if (std::optional<Error> error = impl.lose(false)) return *error;
  }
}

void Consumer::seek(const Position& position) {
  impl_->positions.seek({position.topic, position.partition, position.offset});
  v1::ConsumeRequest request;
  add_position(*request.mutable_seek(), {position.topic, position.partition, position.offset});
  impl_->write(request);  // without a stream, the next one begins there
}

void Consumer::pause(const std::vector<Position>& partitions, bool paused) {
  v1::ConsumeRequest request;
  request.mutable_pause()->set_paused(paused);
  for (const Position& position : partitions) {
    add_position(*request.mutable_pause()->add_partitions(), {position.topic, position.partition, {}});
    PartitionKey key(position.topic, position.partition);
    if (paused) {
      impl_->paused.insert(key);
    } else {
      impl_->paused.erase(key);
      if (impl_->skipped.erase(key) > 0) seek(impl_->positions.position(key.first, key.second));
    }
  }
  impl_->write(request);
}

Outcome<std::vector<Commit>> Consumer::commit(const std::vector<Commit>& offsets) {
  Impl& impl = *impl_;
  if (impl.options.group.empty()) return Error{"INVALID_REQUEST", "a consumer without a group cannot commit"};
  if (!impl.subscribed) return Error{"INVALID_REQUEST", "subscribe before commit"};
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
  bool sent = false;
  for (;;) {
    // The same offsets again do no harm, so after a lost connection they are committed over the next.
    if (!impl.stream) {
      Outcome<bool> opened = impl.reopen(until);
      if (!opened.ok() && !sent) return opened.error();
      if (!opened.ok() || !opened.value()) break;
    }
    sent = true;
    impl.write(request);
    std::unique_lock lock(impl.mutex);
    bool settled =
        impl.changed.wait_until(lock, until, [&] { return impl.stream->committed.contains(id) || impl.stream->ended; });
    if (!settled) break;
    if (impl.stream->committed.contains(id)) {
      v1::ConsumeResponse::Committed committed = std::move(impl.stream->committed[id]);
      impl.stream->committed.erase(id);
      if (!offsets.empty() && static_cast<size_t>(committed.offsets_size()) != offsets.size()) {
        return broken_answer(
            std::to_string(committed.offsets_size()) + " entries for a commit of " + std::to_string(offsets.size()),
            true);
      }
      std::vector<Commit> results;
      std::optional<Error> again;
      for (const v1::CommittedOffset& from : committed.offsets()) {
        Commit commit{from.topic(), from.partition(), from.offset()};
        if (from.has_error()) commit.error = decode_error(from.error());
        if (commit.error && (commit.error->retriable || commit.error->outcome == Error::Outcome::kUnknown))
          again = commit.error;
        results.push_back(std::move(commit));
      }
      const auto pause = std::chrono::milliseconds(std::max<int64_t>(kPauseMs, again ? again->retry_after_ms : 0));
      if (!again || impl.stopped || SteadyClock::now() + pause >= until) return results;
      impl.changed.wait_for(lock, pause, [&] { return impl.stopped.load(); });
      lock.unlock();
      if (again->outcome == Error::Outcome::kUnknown) impl.begin_again(*again);
      continue;
    }
    lock.unlock();
    if (std::optional<Error> error = impl.lose(true)) return *error;
    if (impl.lost_why.code == kFenced) return impl.lost_why;
  }
  if (sent) return Error{"OUTCOME_UNKNOWN", "no answer to the commit in time", true, Error::Outcome::kUnknown};
  return Error{"NO_SERVER", "no connection to commit over: " + impl.lost_why.message, true};
}

Outcome<Done> Consumer::Impl::commit_handled(Consumer& consumer, Handled& handled) {
  if (handled.uncommitted.empty() || options.group.empty()) return Done{};
  std::vector<Commit> offsets;
  for (auto& [key, commit] : handled.uncommitted) offsets.push_back(std::move(commit));
  handled.uncommitted.clear();
  Outcome<std::vector<Commit>> committed = consumer.commit(offsets);
  if (!committed.ok()) return committed.error();
  for (const Commit& each : committed.value()) {
    if (each.error) return *each.error;
  }
  return Done{};
}

Outcome<Done> Consumer::run(const std::vector<std::string>& topics,
                            const std::function<bool(const ConsumedRecord&)>& handler, bool stop_at_end,
                            int64_t commit_interval_ms) {
  Handled handled;
  for (const std::string& topic : topics) {
    if (!stop_at_end) break;
    Outcome<std::vector<ListedOffset>> ends = Admin(impl_->client).list_offsets(topic, OffsetSpec::kLatest);
    if (!ends.ok()) return ends.error();
    for (const ListedOffset& end : ends.value()) {
      if (end.error) return *end.error;
      handled.ends[{topic, end.partition}] = end.offset;
    }
  }
  Outcome<Done> subscribed = subscribe(topics);
  if (!subscribed.ok()) return subscribed;
  std::optional<Error> failed;
  const auto interval = std::chrono::milliseconds(commit_interval_ms);
  SteadyTime next_commit = SteadyClock::now() + interval;
  bool more = true;
  while (more && !failed && !impl_->stopped) {
    Outcome<Event> event = poll(commit_interval_ms);
    if (!event.ok()) failed = event.error();
    if (!event.ok()) break;
    if (event->kind == Event::Kind::kPartitionError) failed = event->error;
    for (const ConsumedRecord& record : event->records) {
      more = !impl_->stopped && handler(record);
      if (!more) break;
      handled.uncommitted[{std::string(record.topic), record.partition}] =
          Commit{std::string(record.topic), record.partition, record.offset + 1, record.leader_epoch};
      if (SteadyClock::now() < next_commit) continue;
      Outcome<Done> committed = impl_->commit_handled(*this, handled);
      if (!committed.ok()) failed = committed.error();
      if (failed) break;
      next_commit = SteadyClock::now() + interval;
    }
    if (more && !failed && event->kind == Event::Kind::kRecords)
      handled.reached(event->topic, event->partition, event->next_offset);
    for (const Position& end : event->caught_up) handled.reached(end.topic, end.partition, end.offset.value_or(0));
    if (stop_at_end && handled.ends.empty()) more = false;
    if (!failed && more && SteadyClock::now() >= next_commit) {
      Outcome<Done> committed = impl_->commit_handled(*this, handled);
      if (!committed.ok()) failed = committed.error();
      next_commit = SteadyClock::now() + interval;
    }
  }
  // What was handled is committed also when reading failed, as far as that is possible.
  Outcome<Done> committed = impl_->commit_handled(*this, handled);
  close();
  if (failed) return *failed;
  return committed;
}

void Consumer::stop() {
  impl_->stopped = true;
  std::lock_guard lock(impl_->mutex);
  impl_->changed.notify_all();
}

void Consumer::close() {
  impl_->close();
  impl_->subscribed = false;
}

}  // namespace trilog::client
