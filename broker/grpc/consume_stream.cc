#include "broker/grpc/consume_stream.h"

#include <algorithm>
#include <string>
#include <utility>

#include "broker/grpc/consume_events.h"
#include "broker/grpc/consume_partitions.h"
#include "broker/grpc/consume_start.h"
#include "broker/grpc/convert.h"
#include "broker/grpc/fetch_codec.h"
#include "broker/grpc/outbox.h"
#include "broker/grpc/stream_base.h"
#include "broker/grpc/unary_call.h"

namespace trilog::grpc_edge {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kHeartbeatMs = 10'000;
constexpr int64_t kRetryMs = 200;    // after a failure that passes by itself
constexpr int64_t kStallMs = 5'000;  // without taking anything, while others wait for memory
// Of one read, of one answer unless a single record is larger, and waiting for the client; then nothing more is read.
// Many streams whose clients do not read get less and less of what is left.
constexpr uint64_t kQueuedBytesMax = 1u << 20;
constexpr uint64_t kQueuedBytesMin = 16u << 10;
constexpr size_t kQueuedItemsMax = 1'000;  // then the client's own messages are not read either
constexpr size_t kCommitsMax = 100;        // outstanding; then likewise

api::Error invalid(std::string text) { return {api::ErrorCode::kInvalidRequest, std::move(text)}; }

class ConsumeStream final : public StreamBase<ConsumeStream> {
 public:
  ConsumeStream(Edge& edge, RpcCall& call) : StreamBase(edge, call, "Consume"), id_(edge.next_stream_id()) {}
  ~ConsumeStream() override { edge().answer_budget().give_back(outbox_.bytes() + reserved_); }

  void begin() {
    std::lock_guard lock(mutex());
    read_on();
  }

  // The node stops: commits under way are answered, nothing else is sent any more.
  void drain() {
    uint64_t freed = 0;
    {
      std::lock_guard lock(mutex());
      freed = outbox_.keep_answers().bytes;
      cancel_fetch();
      write_on();
    }
    edge().answer_budget().give_back(freed);
  }

  // gRPC is done with it.
  void ended() {
    std::lock_guard lock(mutex());
    cancel_fetch();
    if (claimed_) edge().broker().release_group(group_, id_);
    claimed_ = false;
  }

 private:
  // --- the client's messages ---

  // Under the mutex, as all below unless they say otherwise.
  void read_on() {
    if (reading_ || half_closed_ || finished() || edge().draining()) return;
    if (started_ && !running_) return;  // what the next message names is not known yet
    if (outbox_.size() >= kQueuedItemsMax || commits_ >= kCommitsMax) return;
    reading_ = true;
    call().start_read(message_);
  }

  void on_read(bool ok) override {
    uint64_t freed = 0;
    {
      std::lock_guard lock(mutex());
      reading_ = false;
      if (!ok) {
        half_closed_ = true;  // the client only listens from here on
        if (!started_) finish_with(invalid("the stream ended before its start message"));
        return;
      }
      if (finished() || edge().draining()) return;
      freed = take(message_);
      message_.Clear();
      write_on();
      read_on();
    }
    edge().answer_budget().give_back(freed);
  }

  // Returns how many bytes of queued records it took back.
  uint64_t take(const grpc::ByteBuffer& bytes) {
    v1::ConsumeRequest request;
    if (auto error = parse_message(bytes, edge().options(), request)) {
      finish_with(*error);
      return 0;
    }
    if (!started_ && !request.has_start()) {
      finish_with(invalid("the first message of a Consume stream must be start"));
      return 0;
    }
    switch (request.step_case()) {
      case v1::ConsumeRequest::kStart: take_start(request.start()); break;
      case v1::ConsumeRequest::kCreditBytes: add_credit(request.credit_bytes()); break;
      case v1::ConsumeRequest::kCommit: commit(request.commit()); break;
      case v1::ConsumeRequest::kSeek: return seek(request.seek());
      case v1::ConsumeRequest::kPause: pause(request.pause()); break;
      case v1::ConsumeRequest::STEP_NOT_SET:
        fail_message(nullptr, invalid("a message without a step that this broker knows"));
        break;
    }
    return 0;
  }

  void take_start(const v1::ConsumeRequest::Start& message) {
    if (started_) return fail_message(nullptr, invalid("the stream has been started already"));
    started_ = true;
    if (auto error = check_consume_start(message, edge().options().positions_per_request_max)) {
      return finish_with(*error);
    }
    group_ = message.group();
    if (message.credit_bytes() != 0) credit_ = clamp_credit(message.credit_bytes());
    topics_.assign(message.topics().begin(), message.topics().end());
    if (group_.empty()) return resolve(message);
    api::ClaimGroupRequest claim{
        .group = group_, .topics = topics_, .stream = id_, .holder = edge().client_of(context())};
    for (const v1::Position& position : message.positions()) claim.topics.push_back(position.topic());
    auto lost = [weak = weak_from_this()](const api::Error& error) {
      auto live = weak.lock();
      if (!live) return;
      std::lock_guard lock(live->mutex());
      live->finish_with(error);
    };
    edge().broker().claim_group(std::move(claim), std::move(lost),
                                [self = shared_from_this(), message](api::Answer<api::Unit> answer) {
                                  std::lock_guard lock(self->mutex());
                                  if (!answer.ok()) return self->finish_with(answer.error());
                                  if (self->finished())
                                    return self->edge().broker().release_group(self->group_, self->id_);
                                  self->claimed_ = true;
                                  self->resolve(message);
                                });
  }

  void resolve(const v1::ConsumeRequest::Start& message) {
    resolve_consume_start(edge().broker(), message,
                          [self = shared_from_this()](api::Answer<std::vector<ConsumeBeginning>> answer) {
                            std::lock_guard lock(self->mutex());
                            self->on_resolved(std::move(answer));
                          });
  }

  void on_resolved(api::Answer<std::vector<ConsumeBeginning>> answer) {
    if (!answer.ok()) return finish_with(answer.error());
    if (finished()) return;
    for (const ConsumeBeginning& beginning : answer.value()) {
      partitions_.seek(partitions_.add(beginning.topic, beginning.partition), beginning.offset);
    }
    running_ = true;
    arm_heartbeat();
    fetch_on();
    read_on();
  }

  void add_credit(uint64_t credit) {
    if (!credit_) return;
    *credit_ = std::min(*credit_ + clamp_credit(credit), kCreditMax);
    fetch_on();
  }

  void commit(const v1::ConsumeRequest::Commit& message) {
    auto checked = consume_commit_of(message, group_, edge().options().positions_per_request_max);
    if (!checked.ok()) return outbox_.push(refused_commit_event(message, checked.error(), edge().self()));
    api::CommitOffsetsRequest& request = checked.value();
    request.stream = id_;
    request.deadline_ns = edge().deadline_ns(context(), 0);
    ++commits_;
    edge().broker().commit_offsets(std::move(request), [self = shared_from_this(), message](
                                                           api::Answer<std::vector<api::CommittedOffset>> answer) {
      std::lock_guard lock(self->mutex());
      --self->commits_;
      BrokerId node = self->edge().self();
      self->outbox_.push(answer.ok() ? committed_event(message.request_id(), answer.value(), node)
                                     : refused_commit_event(message, answer.error(), node));
      self->write_on();
      self->read_on();
    });
  }

  uint64_t seek(const v1::Position& position) {
    std::optional<size_t> index = find(position);
    if (!index) return 0;
    if (position.has_offset() && position.offset() < 0) {
      fail_message(&position, invalid("offset " + std::to_string(position.offset()) + ": an offset is 0 or more"));
      return 0;
    }
    std::optional<Offset> next;
    if (position.has_offset()) next = Offset(position.offset());
    partitions_.seek(*index, next);
    if (!position.has_offset() && position.has_timestamp_ms()) seek_time(*index, position.timestamp_ms());
    cancel_fetch();  // its answer, already without this partition, comes at once
    fetch_on();
    Outbox::Removed removed = outbox_.remove_records(*index);
    if (credit_) *credit_ += static_cast<int64_t>(removed.credit);
    return removed.bytes;
  }

  void seek_time(size_t index, int64_t timestamp_ms) {
    ConsumePartition& partition = partitions_.at(index);
    partition.seeking = true;
    api::ListOffsetsRequest request{.topic = partition.topic,
                                    .queries = {{partition.topic, partition.partition, timestamp_ms}},
                                    .spec = api::OffsetSpec::kTimestamp};
    edge().broker().list_offsets(std::move(request), [self = shared_from_this(), index, version = partition.version](
                                                         api::Answer<std::vector<api::ListedOffset>> answer) {
      std::lock_guard lock(self->mutex());
      ConsumePartition& sought = self->partitions_.at(index);
      if (sought.version != version) return;  // another seek came later
      sought.seeking = false;
      const api::Error* error = !answer.ok()            ? &answer.error()
                                : answer->empty()       ? nullptr
                                : answer->front().error ? &*answer->front().error
                                                        : nullptr;
      if (error != nullptr) {
        self->fail_partition(index, *error);
      } else if (!answer->empty()) {
        sought.next = answer->front().offset;
      }
      self->cancel_fetch();  // one without this partition may have begun to wait
      self->fetch_on();
      self->write_on();
    });
  }

  void pause(const v1::ConsumeRequest::Pause& message) {
    for (const v1::Position& position : message.partitions()) {
      std::optional<size_t> index = find(position);
      if (index) partitions_.at(*index).paused = message.paused();
    }
    cancel_fetch();
    fetch_on();
  }

  std::optional<size_t> find(const v1::Position& position) {
    std::string topic = position.topic();
    if (topic.empty() && topics_.size() == 1) topic = topics_.front();
    std::optional<size_t> index = partitions_.find(topic, PartitionId(position.partition()));
    if (!index) {
      fail_message(&position, api::Error(api::ErrorCode::kUnknownPartition, "partition " + printable(topic, 100) + "/" +
                                                                                std::to_string(position.partition()) +
                                                                                " is not part of this stream"));
    }
    return index;
  }
  void fail_message(const v1::Position* position, const api::Error& error) {
    outbox_.push(failed_event(position, error, edge().self()));
  }

  // --- reading the log ---

  // Starts the next read if there is room, credit, and something to read.
  void fetch_on() {
    if (!running_ || fetching_ || waiting_ || finished() || edge().draining()) return;
    queue_max_ = std::clamp(edge().answer_budget().share(), kQueuedBytesMin, kQueuedBytesMax);
    if (!has_room()) return;
    partitions_.follow(topics_, edge().broker().image());
    round_ = partitions_.next_round();
    if (round_.positions.empty()) return;
    if (edge().answer_budget().full() && wait_for_memory()) return;
    api::FetchRequest request;
    request.positions = std::move(round_.positions);
    request.bytes_max = static_cast<uint32_t>(queue_max_);
    // As long as a partition may have more, none is waited for, and what is read counts from now on: else all streams
    // would begin at once and take many times what there is.
    if (round_.all_caught_up) {
      request.deadline_ns = edge().now_ns() + kHeartbeatMs * kNsPerMs;
    } else {
      reserved_ = queue_max_;
      edge().answer_budget().take(reserved_);
    }
    fetching_ = true;
    fetch_id_ = edge().broker().fetch(
        std::move(request),
        [self = shared_from_this()](api::Answer<api::FetchResult> answer) { self->on_fetched(std::move(answer)); });
  }

  bool has_room() const { return outbox_.bytes() < queue_max_ && (!credit_ || *credit_ > 0); }

  bool wait_for_memory() {
    waiting_ = edge().answer_budget().wait_for_room([weak = weak_from_this()] {
      auto live = weak.lock();
      if (!live) return;
      std::lock_guard lock(live->mutex());
      live->waiting_ = false;
      live->fetch_on();
    });
    return waiting_;
  }

  void cancel_fetch() {
    if (fetching_) edge().broker().cancel_fetch(fetch_id_);
  }

  void on_fetched(api::Answer<api::FetchResult> answer) {
    uint64_t freed = 0;
    {
      std::lock_guard lock(mutex());
      fetching_ = false;
      freed = std::exchange(reserved_, 0);
      if (!finished()) take_fetched(std::move(answer));
    }
    edge().answer_budget().give_back(freed);
  }

  void take_fetched(api::Answer<api::FetchResult> answer) {
    if (edge().draining()) return write_on();
    if (!answer.ok()) {
      on_fetch_error(answer.error());
    } else {
      bool progress = round_.all_caught_up;  // then it was a wait, which may end with nothing
      for (size_t i = 0; i < answer->size() && i < round_.indexes.size(); ++i) {
        if (take_partition(round_.indexes[i], round_.versions[i], std::move(answer.value()[i]))) progress = true;
      }
      push_caught_up();
      // Never ask again at once for what was not given.
      if (!progress && has_room()) retry_later();
    }
    write_on();
    if (!retrying_) fetch_on();
  }

  void on_fetch_error(const api::Error& error) {
    auto topic = error.details.find("topic");
    if (error.code == api::ErrorCode::kUnknownTopic && topic != error.details.end()) {
      for (size_t index : round_.indexes) {
        if (partitions_.at(index).topic == topic->second) fail_partition(index, error);
      }
      return;
    }
    if (!api::error_code_retriable(error.code)) return finish_with(error);
    retry_later();
  }

  void retry_later() {
    if (std::exchange(retrying_, true)) return;
    edge().after(kRetryMs, [weak = weak_from_this()](bool on_time) {
      auto live = weak.lock();
      if (!live || !on_time) return;
      std::lock_guard lock(live->mutex());
      live->retrying_ = false;
      live->fetch_on();
    });
  }

  // Whether it brought anything.
  bool take_partition(size_t index, uint64_t version, api::FetchedPartition part) {
    ConsumePartition& partition = partitions_.at(index);
    if (partition.version != version || !partition.active()) return true;
    if (part.error && api::error_code_retriable(part.error->code)) return false;
    if (part.error) return fail_partition(index, *part.error);
    bool progress = false;
    Offset end = part.next_offset;
    bool any = !part.views.empty();
    while (any && part.asked_offset < end && outbox_.bytes() < queue_max_) {
      EncodedRecords records = encode_records(part, {static_cast<int64_t>(queue_max_), credit_, true});
      if (records.error) return fail_partition(index, *records.error);
      bool moved = records.next_offset > part.asked_offset;
      part.asked_offset = records.next_offset;
      if (records.count > 0) push_records(index, part, std::move(records));
      if (!moved) break;  // no credit left
      progress = true;
    }
    partition.next = part.asked_offset;
    if (part.asked_offset < part.high_watermark) partition.caught_up = false;
    if (part.asked_offset >= part.high_watermark && (any || !partition.caught_up)) {
      newly_caught_up_.push_back(index);
      progress = true;
    }
    part.batches = SharedBytes();
    part.views.clear();
    partition.seen = std::move(part);
    return progress;
  }

  void push_records(size_t index, const api::FetchedPartition& part, EncodedRecords records) {
    partitions_.at(index).caught_up = false;
    Outbox::Item item = records_event(index, part, std::move(records), edge().self());
    if (credit_) *credit_ -= static_cast<int64_t>(item.credit);
    edge().answer_budget().take(item.bytes);
    outbox_.push(std::move(item));
  }

  void push_caught_up() {
    if (newly_caught_up_.empty()) return;
    Outbox::Item item;
    for (size_t index : std::exchange(newly_caught_up_, {})) {
      ConsumePartition& partition = partitions_.at(index);
      partition.caught_up = true;
      item.caught_up.push_back({index, partition.version, partition.next});
    }
    outbox_.push(std::move(item));
  }

  // The partition rests; true, because that is news.
  bool fail_partition(size_t index, const api::Error& error) {
    partitions_.at(index).failed = true;
    outbox_.push(failed_event(partitions_.at(index), error, edge().self()));
    return true;
  }

  // --- heartbeats ---

  void arm_heartbeat() {
    edge().after(kHeartbeatMs, [weak = weak_from_this()](bool on_time) {
      auto live = weak.lock();
      if (live && on_time) live->beat();
    });
  }

  void beat() {
    std::lock_guard lock(mutex());
    if (finished()) return;
    arm_heartbeat();
    // Memory that a client does not take is memory that others lack. It can come back and go on where it was.
    bool stalled = writing_ && edge().now_ns() - write_began_ns_ >= kStallMs * kNsPerMs;
    if (stalled && edge().answer_budget().waited_for()) return cancel_stalled(kStallMs);
    // A client that does not read needs no further sign of life.
    if (!outbox_.empty() || beating_ || edge().draining()) return;
    api::ListOffsetsRequest request = partitions_.end_queries();
    if (request.queries.empty()) return on_ends({});
    beating_ = true;
    edge().broker().list_offsets(std::move(request),
                                 [self = shared_from_this()](api::Answer<std::vector<api::ListedOffset>> answer) {
                                   std::lock_guard inner(self->mutex());
                                   self->beating_ = false;
                                   if (!self->finished())
                                     self->on_ends(answer.ok() ? answer.value() : std::vector<api::ListedOffset>());
                                 });
  }

  void on_ends(const std::vector<api::ListedOffset>& ends) {
    if (edge().draining()) return;
    partitions_.take_ends(ends);
    outbox_.push(heartbeat_event(partitions_, edge().self()));
    write_on();
  }

  // --- writing ---

  void write_on() {
    if (writing_ || finished()) return;
    if (outbox_.empty()) {
      if (edge().draining() && commits_ == 0) finish_with(*edge().refusal());
      return;
    }
    writing_ = true;
    write_began_ns_ = edge().now_ns();
    outbox_.set_writing(true);
    Outbox::Item& item = outbox_.front();
    if (!item.caught_up.empty()) item.message = caught_up_message(partitions_, item.caught_up);
    call().start_write(item.message, false);
  }

  void on_write(bool ok) override {
    uint64_t freed = 0;
    {
      std::lock_guard lock(mutex());
      writing_ = false;
      outbox_.set_writing(false);
      freed = outbox_.front().bytes;
      outbox_.pop();
      if (!ok) finish_cancelled();
      fetch_on();
      write_on();
      read_on();
    }
    edge().answer_budget().give_back(freed);
  }

  void on_cancel() override {
    std::lock_guard lock(mutex());
    finish_cancelled();
    cancel_fetch();
  }

  const uint64_t id_;
  grpc::ByteBuffer message_;
  bool reading_ = false;
  bool half_closed_ = false;
  bool writing_ = false;
  bool started_ = false;  // the start message came
  bool running_ = false;  // and its positions are known
  bool claimed_ = false;
  bool fetching_ = false;
  bool waiting_ = false;  // for memory
  bool retrying_ = false;
  bool beating_ = false;
  Broker::FetchId fetch_id_ = 0;
  std::string group_;
  std::vector<std::string> topics_;
  std::optional<int64_t> credit_;
  size_t commits_ = 0;
  ConsumePartitions partitions_;
  ConsumePartitions::Round round_;  // of the fetch under way
  std::vector<size_t> newly_caught_up_;
  uint64_t queue_max_ = kQueuedBytesMax;  // kQueuedBytesMin or more
  uint64_t reserved_ = 0;                 // for the fetch under way
  int64_t write_began_ns_ = 0;
  Outbox outbox_;
};

}  // namespace

RpcHandler* start_consume_stream(Edge& edge, RpcCall& call) { return ConsumeStream::start(edge, call); }

}  // namespace trilog::grpc_edge
