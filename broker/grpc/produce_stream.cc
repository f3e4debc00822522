#include "broker/grpc/produce_stream.h"

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "broker/grpc/produce_codec.h"
#include "broker/grpc/produce_lanes.h"
#include "broker/grpc/stream_base.h"
#include "broker/grpc/wire.h"
#include "storage/record/record_batch.h"

namespace trilog::grpc_edge {
namespace {

constexpr size_t kOutstandingMax = 10'000;  // requests of one stream without an answer; then it is not read
constexpr size_t kFailedLanesMax = 10'000;  // partitions that wait for a resume

class ProduceStream final : public StreamBase<ProduceStream> {
 public:
  ProduceStream(Edge& edge, RpcCall& call) : StreamBase(edge, call, "ProduceStream") {}
  ~ProduceStream() override { edge().request_budget().give_back(unacked_bytes_ + freed_bytes_); }

  void begin() {
    std::lock_guard lock(mutex());
    read_on();
  }

  // The node stops: what is outstanding is answered, nothing new is read.
  void drain() {
    std::lock_guard lock(mutex());
    write_on();
  }

  void ended() {}

 private:
  struct Entry {
    uint64_t request_id = 0;
    uint64_t bytes = 0;  // what it holds in memory: of the request, then of the answer
    bool answered = false;
    grpc::ByteBuffer answer;
    // Until it begins.
    api::ProduceRequest request;
    std::optional<api::Error> error;  // found before it could begin
  };

  // --- reading ---

  // Under the mutex. Asks for the next request unless too much of this stream, or of all clients, is unanswered.
  void read_on() {
    if (reading_ || half_closed_ || finished() || edge().draining()) return;
    if (unacked_bytes_ >= edge().options().stream_unacked_bytes_max || entries_.size() >= kOutstandingMax) return;
    reading_ = true;
    bool waits = edge().request_budget().full() && edge().request_budget().wait_for_room([weak = weak_from_this()] {
      auto live = weak.lock();
      if (!live) return;
      std::lock_guard lock(live->mutex());
      if (!live->finished()) live->call().start_read(live->message_);
    });
    if (!waits) call().start_read(message_);
  }

  void on_read(bool ok) override {
    if (ok) {
      take_request();
    } else {
      std::lock_guard lock(mutex());
      reading_ = false;
      half_closed_ = true;
      write_on();
    }
    give_back_freed();
  }

  void take_request() {
    ReceivedProduce received;
    std::optional<api::Error> error = parse_produce(message_, edge().options(), received);
    message_.Clear();
    received.request.deadline_ns = edge().deadline_ns(context(), received.timeout_ms);

    std::lock_guard lock(mutex());
    reading_ = false;
    if (finished() || edge().draining()) {
      write_on();
      return;
    }
    uint64_t id = first_id_ + entries_.size();
    Entry& entry = entries_.emplace_back();
    entry.request_id = received.request_id;
    entry.bytes = received.bytes;
    unacked_bytes_ += received.bytes;
    edge().request_budget().take(received.bytes);
    ProduceLanes::Request place{id, received.request.topic, std::nullopt, is_sequenced(received), received.resume};
    if (received.request.partition) place.partition = received.request.partition->value();
    entry.request = std::move(received.request);
    entry.error = std::move(error);
    std::vector<uint64_t> startable;
    lanes_.admit(std::move(place), startable);
    start_all(std::move(startable));
    write_on();
    read_on();
  }

  static bool is_sequenced(const ReceivedProduce& received) {
    if (!received.request.partition) return false;
    if (received.request.sequence) return true;
    if (received.request.record_batch.empty()) return false;
    Result<RecordBatch> first = RecordBatch::parse(received.request.record_batch);
    return first.ok() && first->producer_id() != kNoProducerId;
  }

  // --- running ---

  Entry& entry_of(uint64_t id) { return entries_[id - first_id_]; }

  // Under the mutex, so that the requests of a partition reach the broker in order. Those that fail at once make room
  // for the next.
  void start_all(std::vector<uint64_t> startable) {
    for (size_t i = 0; i < startable.size(); ++i) {
      uint64_t id = startable[i];
      Entry& entry = entry_of(id);
      bool in_order = lanes_.begin(id);
      if (finished()) entry.error = api::Error(api::ErrorCode::kRequestTimedOut, "the client went away");
      if (!in_order && !entry.error) {
        entry.error = api::Error(api::ErrorCode::kPreviousFailed,
                                 "an earlier request of this stream failed in a partition of topic " +
                                     printable(entry.request.topic, 249) +
                                     "; send it again, and this one after it, the first with resume = true");
      }
      if (entry.error) {
        answer_error(id, *entry.error);
        lanes_.finish(id, {.whole = true, .partitions = {}}, startable);  // appends to what this loop walks
        continue;
      }
      edge().broker().produce(std::move(entry.request),
                              [self = shared_from_this(), id](api::Answer<api::ProduceResult> answer) {
                                self->on_answer(id, std::move(answer));
                              });
    }
  }

  void on_answer(uint64_t id, api::Answer<api::ProduceResult> answer) {
    const api::Error* error = answer.ok() ? whole_error(answer.value()) : &answer.error();
    ProduceLanes::Failure failure{.whole = !answer.ok(), .partitions = {}};
    if (answer.ok()) {
      for (const api::Produced& position : answer->positions) {
        if (position.error) failure.partitions.push_back(position.partition.value());
      }
    }
    {
      std::lock_guard lock(mutex());
      Entry& entry = entry_of(id);
      if (error != nullptr) {
        answer_error(id, in_stream_terms(id, *error));
      } else {
        set_answer(entry, buffer_of(encode_produce_result(entry.request_id, answer.value(), edge().self())));
      }
      std::vector<uint64_t> startable;
      lanes_.finish(id, failure, startable);
      start_all(std::move(startable));
      write_on();
      read_on();
    }
    give_back_freed();
  }

  // From here on the entry holds its answer in memory, and no request any more: a client that does not take its answers
  // must not hold up the requests of others.
  void set_answer(Entry& entry, grpc::ByteBuffer answer) {
    uint64_t bytes = answer.Length();
    unacked_bytes_ = unacked_bytes_ - entry.bytes + bytes;
    if (bytes > entry.bytes) {
      edge().request_budget().take(bytes - entry.bytes);
    } else {
      freed_bytes_ += entry.bytes - bytes;
    }
    entry.bytes = bytes;
    entry.answer = std::move(answer);
    entry.answered = true;
    entry.request = {};
  }

  // Not under the mutex: room in the budget resumes other streams, and this one.
  void give_back_freed() {
    uint64_t freed = 0;
    {
      std::lock_guard lock(mutex());
      freed = std::exchange(freed_bytes_, 0);
    }
    if (freed != 0) edge().request_budget().give_back(freed);
  }

  // A gap in the sequences is what a pipelined request meets after an earlier one failed.
  api::Error in_stream_terms(uint64_t id, const api::Error& error) {
    bool gap = error.code == api::ErrorCode::kOutOfOrderSequence || error.code == api::ErrorCode::kUnknownProducer;
    if (!gap || lanes_.in_order(id)) return error;
    return {api::ErrorCode::kPreviousFailed,
            "an earlier request of this stream was not written before this one in this partition; send again what "
            "failed, in its order, the first with resume = true (" +
                error.message + ")"};
  }

  void answer_error(uint64_t id, const api::Error& error) {
    if (lanes_.failed_count() > kFailedLanesMax) {
      finish_with({api::ErrorCode::kInvalidRequest,
                   "more than " + std::to_string(kFailedLanesMax) + " partitions failed and none was resumed"});
    }
    Entry& entry = entry_of(id);
    set_answer(entry, buffer_of(encode_produce_error(entry.request_id, error, edge().self())));
  }

  // --- writing ---

  // Under the mutex: the next answer whose turn it is, or the end.
  void write_on() {
    if (writing_ || finished()) return;
    if (!entries_.empty() && entries_.front().answered) {
      writing_ = true;
      bool more = entries_.size() > 1 && entries_[1].answered;
      call().start_write(entries_.front().answer, more);
      return;
    }
    if (!entries_.empty()) return;
    if (edge().draining()) {
      finish_with(*edge().refusal());
    } else if (half_closed_) {
      finish_ok();
    }
  }

  void on_write(bool ok) override {
    {
      std::lock_guard lock(mutex());
      writing_ = false;
      unacked_bytes_ -= entries_.front().bytes;
      freed_bytes_ += entries_.front().bytes;
      entries_.pop_front();
      ++first_id_;
      if (!ok) finish_cancelled();
      write_on();
      read_on();
    }
    give_back_freed();
  }

  void on_cancel() override {
    std::lock_guard lock(mutex());
    finish_cancelled();
  }

  grpc::ByteBuffer message_;  // being read
  bool reading_ = false;
  bool half_closed_ = false;
  bool writing_ = false;
  std::deque<Entry> entries_;   // without an answer sent, in order
  uint64_t first_id_ = 1;       // of entries_.front()
  uint64_t unacked_bytes_ = 0;  // of entries_, all of it taken from the budget
  uint64_t freed_bytes_ = 0;    // to be given back to it
  ProduceLanes lanes_;
};

}  // namespace

RpcHandler* start_produce_stream(Edge& edge, RpcCall& call) { return ProduceStream::start(edge, call); }

}  // namespace trilog::grpc_edge
