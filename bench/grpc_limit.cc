// The yardstick under every gRPC figure: gRPC with nothing behind it. A server process takes raw messages, computes
// their CRC-32C, writes them to a file with pwrite and answers eight bytes: at once, or with --sync after an fdatasync
// that covers all that was written meanwhile. Measured are one stream with a window of batches on their way, and single
// calls with one record each from 1 and from 64 callers at once. The client's bytes are never copied on its side; the
// service methods are the broker's own, with the callback interface and raw messages.
//
// With --server HOST:PORT the same client measures a broker: ready batches of 64 KiB, up to --batch-kb of them in one
// request, in a topic of one partition made for it (--sync: acknowledged when synced).
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <memory>

#include "bench/limit_support.h"
#include "bench/stream_sender.h"
#include "storage/base/crc32c.h"
#include "trilog/v1/admin.grpc.pb.h"
#include "trilog/v1/broker.grpc.pb.h"

namespace trilog::bench {
namespace {

using grpc::ByteBuffer;

ByteBuffer number_message(uint64_t number) {
  return message_of({reinterpret_cast<const std::byte*>(&number), sizeof number}, true);
}

// One file that appends are written to, from any thread.
class Store {
 public:
  explicit Store(const LimitOptions& options) : file_(options.directory) {
    if (options.sync) sync_ = std::make_unique<GroupSync>(file_.fd(), [this](uint64_t count) { complete(count); });
  }

  void clear() {
    std::lock_guard lock(mutex_);
    position_ = 0;
    file_.clear();
  }

  // `done` runs when the message is as safe as the options ask, perhaps inside this call.
  void append(const ByteBuffer& message, std::function<void()> done) {
    std::vector<grpc::Slice> slices;
    if (!message.Dump(&slices).ok()) die("message");
    uint32_t crc = 0;
    for (const grpc::Slice& slice : slices) crc = crc32c(bytes_of(slice), crc);
    {
      std::lock_guard lock(mutex_);
      checksums_ ^= crc;  // so that nobody can leave the computation out
      for (const grpc::Slice& slice : slices) {
        write_at(file_.fd(), bytes_of(slice), position_);
        position_ += slice.size();
      }
      ++count_;
      if (sync_) {
        waiting_.push_back(std::move(done));
        sync_->written(count_);
        return;
      }
    }
    done();
  }

 private:
  static ByteView bytes_of(const grpc::Slice& slice) {
    return {reinterpret_cast<const std::byte*>(slice.begin()), slice.size()};
  }

  void complete(uint64_t count) {
    for (;;) {
      std::function<void()> done;
      {
        std::lock_guard lock(mutex_);
        if (completed_ == count) return;
        ++completed_;
        done = std::move(waiting_.front());
        waiting_.pop_front();
      }
      done();
    }
  }

  ScratchFile file_;
  std::mutex mutex_;
  uint64_t position_ = 0;
  uint64_t count_ = 0;
  uint64_t completed_ = 0;
  uint32_t checksums_ = 0;
  std::deque<std::function<void()>> waiting_;
  std::unique_ptr<GroupSync> sync_;  // last, so that its thread ends first
};

// Answers running totals: one write is on its way at a time, and the next one tells all that was completed meanwhile.
class StreamReactor : public grpc::ServerBidiReactor<ByteBuffer, ByteBuffer> {
 public:
  explicit StreamReactor(Store& store) : store_(store) { StartRead(&request_); }

  void OnReadDone(bool ok) override {
    if (!ok) {
      std::lock_guard lock(mutex_);
      reading_ = false;
      next_locked();
      return;
    }
    {
      std::lock_guard lock(mutex_);
      ++received_;
    }
    store_.append(request_, [this] {
      std::lock_guard lock(mutex_);
      ++completed_;
      next_locked();
    });
    StartRead(&request_);
  }
  void OnWriteDone(bool) override {
    std::lock_guard lock(mutex_);
    writing_ = false;
    next_locked();
  }
  void OnDone() override { delete this; }

 private:
  void next_locked() {
    if (writing_ || finished_) return;
    if (answered_ < completed_) {
      answered_ = completed_;
      response_ = number_message(answered_);
      writing_ = true;
      StartWrite(&response_);
    } else if (!reading_ && completed_ == received_) {
      finished_ = true;
      Finish(grpc::Status::OK);
    }
  }

  Store& store_;
  ByteBuffer request_;
  ByteBuffer response_;
  std::mutex mutex_;
  uint64_t received_ = 0;
  uint64_t completed_ = 0;
  uint64_t answered_ = 0;
  bool reading_ = true;
  bool writing_ = false;
  bool finished_ = false;
};

using RawService =
    v1::Broker::WithRawCallbackMethod_Produce<v1::Broker::WithRawCallbackMethod_ProduceStream<v1::Broker::Service>>;

class LimitService : public RawService {
 public:
  explicit LimitService(Store& store) : store_(store) {}

  grpc::ServerUnaryReactor* Produce(grpc::CallbackServerContext* context, const ByteBuffer* request,
                                    ByteBuffer* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    store_.append(*request, [reactor, response] {
      *response = number_message(1);
      reactor->Finish(grpc::Status::OK);
    });
    return reactor;
  }
  grpc::ServerBidiReactor<ByteBuffer, ByteBuffer>* ProduceStream(grpc::CallbackServerContext*) override {
    store_.clear();
    return new StreamReactor(store_);
  }

 private:
  Store& store_;
};

// Serves until `until_closed` reads end-of-file; tells its port on `port_to`.
void serve(const LimitOptions& options, int port_to, int until_closed) {
  Store store(options);
  LimitService service(store);
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(-1);
  builder.RegisterService(&service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || write(port_to, &port, sizeof port) != sizeof port) die("serve");
  char nothing;
  while (read(until_closed, &nothing, 1) > 0) {
  }
  server->Shutdown();
}

// Callers that each start their next call when the last one is answered, until the time is over.
class UnaryCallers {
 public:
  UnaryCallers(grpc::GenericStub& stub, const ByteBuffer& message, double seconds)
      : stub_(stub), message_(message), until_(now_seconds() + seconds) {}

  std::vector<double> run(int callers) {
    {
      std::lock_guard lock(mutex_);
      running_ = callers;
    }
    for (int i = 0; i < callers; ++i) start_call();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return running_ == 0; });
    return std::move(latencies_us_);
  }

 private:
  struct Call {
    grpc::ClientContext context;
    ByteBuffer response;
    double begin = now_seconds();
  };

  void start_call() {
    auto* call = new Call;
    prepare(call->context);
    stub_.UnaryCall(&call->context, "/trilog.v1.Broker/Produce", {}, &message_, &call->response,
                    [this, call](const grpc::Status& status) { finish(std::unique_ptr<Call>(call), status); });
  }

  void finish(std::unique_ptr<Call> call, const grpc::Status& status) {
    if (!status.ok()) {
      std::fprintf(stderr, "call failed: %s\n", status.error_message().c_str());
      std::exit(1);
    }
    const double now = now_seconds();
    bool more = now < until_;
    {
      std::lock_guard lock(mutex_);
      latencies_us_.push_back((now - call->begin) * 1e6);
      if (!more && --running_ == 0) changed_.notify_one();
    }
    if (more) start_call();
  }

  grpc::GenericStub& stub_;
  const ByteBuffer message_;
  const double until_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int running_ = 0;
  std::vector<double> latencies_us_;
};

// What is sent, and to whom.
struct Target {
  std::string address;
  ByteBuffer batches;
  ByteBuffer record;
  bool totals = true;
};

constexpr size_t kBrokerBatchBytes = 64u << 10;

ByteBuffer request_of(const std::string& topic, const std::string& batches, const std::string& value) {
  v1::ProduceRequest request;
  request.set_topic(topic);
  request.set_partition(0);
  if (!batches.empty()) request.set_record_batch(batches);
  if (!value.empty()) request.add_records()->set_value(value);
  std::string bytes = request.SerializeAsString();
  return message_of(as_bytes(bytes), true);
}

Target bare_target(const LimitOptions& options, int port) {
  static const Bytes batch = make_limit_batch(options);
  LimitOptions single = options;
  single.batch_bytes = 0;
  static const Bytes record = make_limit_batch(single);
  return {"127.0.0.1:" + std::to_string(port), message_of(batch, false), message_of(record, false), true};
}

Target broker_target(const LimitOptions& options) {
  v1::CreateTopicRequest create;
  create.set_name("limit-" + std::to_string(getpid()));
  create.set_partitions(1);
  (*create.mutable_configs())["durability"] = options.sync ? "synced" : "replicated";
  v1::CreateTopicResponse created;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  const grpc::Status status =
      v1::Admin::NewStub(lasting_channel(options.server))->CreateTopic(&context, create, &created);
  if (!status.ok()) {
    std::fprintf(stderr, "%s: %s\n", options.server.c_str(), status.error_message().c_str());
    std::exit(1);
  }
  LimitOptions part = options;
  part.batch_bytes = std::min(options.batch_bytes, kBrokerBatchBytes);
  const Bytes batch = make_limit_batch(part);
  std::string batches;
  while (batches.empty() || batches.size() + batch.size() <= options.batch_bytes) batches += as_text(batch);
  return {options.server, request_of(create.name(), batches, ""),
          request_of(create.name(), "", std::string(options.record_bytes, 'x')), false};
}

void measure(const LimitOptions& options, const Target& target) {
  grpc::GenericStub stub(lasting_channel(target.address));
  const size_t message_bytes = target.batches.Length();
  const uint64_t batches = std::max<uint64_t>(1, options.total_bytes / message_bytes);
  char name[64];
  for (int round = 0; round < options.rounds; ++round) {
    Figure figure;
    const double begin = now_seconds();
    StreamSender sender(
        stub, [&] { return target.batches; }, batches, static_cast<uint64_t>(options.window), target.totals);
    figure.latencies_us = sender.wait();
    figure.seconds = now_seconds() - begin;
    figure.operations = batches;
    figure.bytes = batches * message_bytes;
    std::snprintf(name, sizeof name, "stream %zu KiB, window %d", options.batch_bytes >> 10, options.window);
    figure.name = name;
    print(options, std::move(figure));
  }

  for (int callers : {1, 64}) {
    Figure figure;
    const double begin = now_seconds();
    figure.latencies_us = UnaryCallers(stub, target.record, options.seconds).run(callers);
    figure.seconds = now_seconds() - begin;
    figure.operations = figure.latencies_us.size();
    figure.bytes = figure.operations * target.record.Length();
    std::snprintf(name, sizeof name, "unary %zu B, %d callers", options.record_bytes, callers);
    figure.name = name;
    print(options, std::move(figure));
  }
}

int run(int argc, char** argv) {
  const LimitOptions options = parse_options(argc, argv, "grpc_limit");
  if (!options.server.empty()) {
    measure(options, broker_target(options));
    return 0;
  }
  int port_pipe[2];
  int life_pipe[2];
  if (pipe(port_pipe) != 0 || pipe(life_pipe) != 0) die("pipe");
  // gRPC must not have started threads before a fork: the server process is split off first.
  const pid_t server = fork();
  if (server < 0) die("fork");
  if (server == 0) {
    close(life_pipe[1]);
    serve(options, port_pipe[1], life_pipe[0]);
    return 0;
  }
  close(port_pipe[1]);
  int port = 0;
  if (read(port_pipe[0], &port, sizeof port) != sizeof port) die("the server did not start");
  measure(options, bare_target(options, port));
  close(life_pipe[1]);
  int status = 0;
  waitpid(server, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

}  // namespace
}  // namespace trilog::bench

int main(int argc, char** argv) { return trilog::bench::run(argc, argv); }
