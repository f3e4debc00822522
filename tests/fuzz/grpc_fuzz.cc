// Any bytes as the messages of any method (grpc_calls.h), through the real handlers into a real broker in the simulated
// world. Every call is answered exactly once, reads and writes take turns, and the broker's invariants hold afterwards.
#include <google/protobuf/stubs/logging.h>
#include <grpc/grpc.h>
#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "broker/grpc/admin_service.h"
#include "broker/grpc/data_service.h"
#include "broker/grpc/edge.h"
#include "broker/grpc/health_service.h"
#include "broker/grpc/reflection_service.h"
#include "broker/grpc/rpc.h"
#include "broker/grpc/wire.h"
#include "storage/base/crc32c.h"
#include "storage/record/record_batch.h"
#include "tests/broker/sim_broker.h"
#include "tests/fuzz/grpc_calls.h"
#include "tests/fuzz/input.h"

namespace trilog::fuzz {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kPatienceMs = 70'000;  // longer than any call may take
constexpr size_t kCallsMax = 30;
constexpr uint64_t kAnswerBytesMax = 64u << 20;

// What gRPC does for one call, as events of the simulated world.
class Call final : public grpc_edge::RpcCall {
 public:
  Call(sim::World& world, std::vector<grpc::ByteBuffer> messages) : world_(world), messages_(std::move(messages)) {}
  ~Call() override { CHECK(done()); }

  void begin(const std::function<grpc_edge::RpcHandler*(grpc_edge::RpcCall&)>& method) {
    handler_ = method(*this);
    release();
  }
  void cancel() {
    if (cancelled_ || finished_) return;
    cancelled_ = true;
    post([this] {
      if (!finished_) handler_->on_cancel();
    });
  }
  bool finished() const { return finished_; }
  bool done() const { return handler_ == nullptr && begun_; }

  grpc::ServerContext& context() override { return context_; }
  void start_read(grpc::ByteBuffer& into) override {
    CHECK(!reading_ && !over_);
    reading_ = true;
    post([this, &into] {
      reading_ = false;
      bool ok = !cancelled_ && next_ < messages_.size();
      if (ok) into = messages_[next_++];
      handler_->on_read(ok);
    });
  }
  void start_write(const grpc::ByteBuffer& message, bool) override {
    CHECK(!writing_ && !finished_);
    writing_ = true;
    count(message);
    post([this] {
      writing_ = false;
      handler_->on_write(!cancelled_);
    });
  }
  // A write may be on its way: gRPC sends the status behind it.
  void finish(const grpc::Status& status) override {
    CHECK(!finished_);
    CHECK(status.ok() || !status.error_message().empty());
    CHECK_LE(status.error_message().size() + status.error_details().size(), 4'096u);
    finished_ = true;
    post([] {});
    release();
  }
  void finish(const grpc::ByteBuffer& last, const grpc::Status& status) override {
    count(last);
    finish(status);
  }

 private:
  void post(std::function<void()> event) {
    ++pending_;
    world_.post([this, event = std::move(event)] {
      event();
      release();
    });
  }
  void release() {
    if (--pending_ != 0) return;
    over_ = true;
    begun_ = true;
    std::exchange(handler_, nullptr)->on_done();
  }
  void count(const grpc::ByteBuffer& message) {
    written_ += message.Length();
    CHECK_LE(written_, kAnswerBytesMax);
  }

  sim::World& world_;
  const std::vector<grpc::ByteBuffer> messages_;
  grpc::ServerContext context_;
  grpc_edge::RpcHandler* handler_ = nullptr;
  int pending_ = 2;  // being made, and finished
  size_t next_ = 0;
  uint64_t written_ = 0;
  bool reading_ = false;
  bool writing_ = false;
  bool finished_ = false;
  bool cancelled_ = false;
  bool begun_ = false;
  bool over_ = false;
};

class Examination {
 public:
  Examination()
      : edge_(started(), Logger(), [this](int64_t delay_ms, auto task) { after(delay_ms, std::move(task)); }) {
    add_data_methods(edge_, methods_);
    add_admin_methods(edge_, methods_);
    add_health_methods(edge_, methods_);
    add_reflection_methods(edge_, methods_);
    CHECK_EQ(methods_.size(), std::size(kMethods));
    edge_.set_serving(true);
  }

  void run(Input input) {
    while (!input.empty() && calls_.size() < kCallsMax) begin(input);
    node_.world.run_for(kPatienceMs * kNsPerMs);
    for (size_t i = 0; i < calls_.size(); ++i) CHECK(calls_[i]->done() || is_stream_[i]);
    if (calls_.size() % 2 == 0) stop_edge();
    node_.world.run_for(1'000 * kNsPerMs);
    for (auto& call : calls_) call->cancel();
    node_.world.run_for(1'000 * kNsPerMs);
    if (!edge_.draining()) stop_edge();
    for (auto& [id, task] : std::exchange(timers_, {})) task(false);
    node_.world.run_for(1'000 * kNsPerMs);
    for (auto& call : calls_) CHECK(call->done());
    CHECK_EQ(edge_.request_budget().used(), 0u);
    CHECK_EQ(edge_.answer_budget().used(), 0u);
    calls_.clear();
    bool checked = false;
    node_.broker->check_invariants([&] { checked = true; });
    CHECK(node_.world.run_until([&] { return checked; }));
    CHECK(node_.stop().ok());
  }

 private:
  Broker& started() {
    node_.options.controller.partitions_max = 50;
    node_.options.controller.partitions_total_max = 200;
    node_.options.default_partitions = 2;
    CHECK(node_.try_start().ok());
    CHECK(node_.create_topic(std::string(kTopic), 2).ok());
    for (const char* key : {"a", "b", "c", "d"}) CHECK(node_.produce(std::string(kTopic), key, "value").ok());
    return *node_.broker;
  }

  void begin(Input& input) {
    std::string_view method = kMethods[input.byte() % std::size(kMethods)];
    uint8_t how = input.byte();
    bool stream = method.ends_with("Stream") || method.ends_with("Consume") || method.ends_with("Watch") ||
                  method.ends_with("Info");
    std::vector<grpc::ByteBuffer> messages;
    for (int i = stream ? how & kMessagesMask : 1; i > 0; --i) messages.push_back(message_of(input.piece(), how));
    calls_.push_back(std::make_unique<Call>(node_.world, std::move(messages)));
    is_stream_.push_back(stream);
    calls_.back()->begin(methods_.at(std::string(method)));
    if ((how & kCancelled) != 0) calls_.back()->cancel();
    if ((how & kAnswered) != 0) node_.world.run_for(100 * kNsPerMs);
    if ((how & kStopping) != 0 && calls_.size() % 4 == 0) stop_edge();
  }

  static grpc::ByteBuffer message_of(ByteView bytes, uint8_t how) {
    Bytes message = (how & kBatch) != 0 ? produce_batch(bytes) : Bytes::copy_of(bytes);
    std::vector<grpc::Slice> slices;
    size_t piece = (how & kSliced) != 0 ? 5 : std::max<size_t>(message.size(), 1);
    for (ByteView rest = message; !rest.empty(); rest = rest.subspan(std::min(piece, rest.size()))) {
      slices.emplace_back(rest.data(), std::min(piece, rest.size()));
    }
    return {slices.data(), slices.size()};
  }

  static Bytes produce_batch(ByteView bytes) {
    Bytes batch = Bytes::copy_of(bytes);
    if (batch.size() >= kBatchHeaderBytes) {
      store_big_endian<int32_t>(batch.data() + 8, static_cast<int32_t>(batch.size() - kBatchLengthPrefixBytes));
      store_big_endian<int8_t>(batch.data() + 16, kBatchMagic);
      store_big_endian(batch.data() + 17, crc32c(batch.view().subspan(kBatchCrcStart)));
    }
    Bytes message;
    grpc_edge::WireWriter writer(message);
    writer.bytes_field(1, as_bytes(kTopic));
    writer.present_int_field(2, 0);
    writer.bytes_field(4, batch);
    return message;
  }

  void after(int64_t delay_ms, std::function<void(bool)> task) {
    uint64_t id = next_timer_++;
    timers_[id] = std::move(task);
    node_.world.after(delay_ms * kNsPerMs, [this, id] {
      auto found = timers_.find(id);
      if (found == timers_.end()) return;
      auto due = std::move(found->second);
      timers_.erase(found);
      due(true);
    });
  }
  void stop_edge() { (void)edge_.drain(0); }

  testing::SimBroker node_;
  std::map<uint64_t, std::function<void(bool)>> timers_;
  uint64_t next_timer_ = 1;
  grpc_edge::Edge edge_;
  grpc_edge::RpcMethods methods_;
  std::vector<std::unique_ptr<Call>> calls_;
  std::vector<bool> is_stream_;
};

}  // namespace
}  // namespace trilog::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  grpc_init();
  google::protobuf::SetLogHandler(nullptr);  // as the server does
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  trilog::fuzz::Examination().run(trilog::fuzz::Input(data, size));
  return 0;
}
