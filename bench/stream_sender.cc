#include "bench/stream_sender.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "bench/limit_support.h"
#include "trilog/v1/broker.grpc.pb.h"

namespace trilog::bench {

using grpc::ByteBuffer;

ByteBuffer message_of(ByteView bytes, bool copied) {
  grpc::Slice slice = copied ? grpc::Slice(bytes.data(), bytes.size())
                             : grpc::Slice(bytes.data(), bytes.size(), grpc::Slice::STATIC_SLICE);
  return ByteBuffer(&slice, 1);
}

uint64_t number_in(const ByteBuffer& message) {
  std::vector<grpc::Slice> slices;
  uint64_t number = 0;
  if (!message.Dump(&slices).ok() || slices.size() != 1 || slices[0].size() != sizeof number) return 0;
  std::memcpy(&number, slices[0].begin(), sizeof number);
  return number;
}

void prepare(grpc::ClientContext& context) {
  context.set_wait_for_ready(true);  // the first connection of a process may flicker with this gRPC version
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(10));
}

const std::shared_ptr<grpc::Channel>& lasting_channel(const std::string& address) {
  static auto* const channels = new std::map<std::string, std::shared_ptr<grpc::Channel>>();
  std::shared_ptr<grpc::Channel>& channel = (*channels)[address];
  if (!channel) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  }
  return channel;
}

namespace {

// The answer to a request that was not written as a whole ends the program.
uint64_t produced(ByteBuffer& message) {
  v1::ProduceResponse response;
  bool good = grpc::SerializationTraits<v1::ProduceResponse>::Deserialize(&message, &response).ok() &&
              !response.has_error() && response.failed() == 0;
  if (good) return 1;
  std::fprintf(stderr, "refused: %s\n", response.ShortDebugString().c_str());
  std::_Exit(1);
}

}  // namespace

StreamSender::StreamSender(grpc::GenericStub& stub, std::function<ByteBuffer()> next, uint64_t count, uint64_t window,
                           bool totals)
    : next_(std::move(next)), count_(count), window_(window), totals_(totals) {
  prepare(context_);
  stub.PrepareBidiStreamingCall(&context_, "/trilog.v1.Broker/ProduceStream", {}, this);
  std::lock_guard lock(mutex_);
  StartRead(&answer_);
  next_locked();
  StartCall();
}

std::vector<double> StreamSender::wait() {
  std::unique_lock lock(mutex_);
  done_changed_.wait(lock, [&] { return done_; });
  if (!status_.ok() || answered_ != count_) {
    std::fprintf(stderr, "stream failed: %s\n", status_.error_message().c_str());
    std::exit(1);
  }
  return std::move(latencies_us_);
}

void StreamSender::OnWriteDone(bool ok) {
  std::lock_guard lock(mutex_);
  writing_ = false;
  if (ok) next_locked();
}

void StreamSender::OnReadDone(bool ok) {
  std::lock_guard lock(mutex_);
  if (!ok) return;
  const double now = now_seconds();
  for (const uint64_t upto = totals_ ? number_in(answer_) : answered_ + produced(answer_);
       answered_ < upto && !sent_at_.empty(); ++answered_) {
    latencies_us_.push_back((now - sent_at_.front()) * 1e6);
    sent_at_.pop_front();
  }
  next_locked();
  StartRead(&answer_);
}

void StreamSender::OnDone(const grpc::Status& status) {
  std::lock_guard lock(mutex_);
  status_ = status;
  done_ = true;
  done_changed_.notify_one();
}

void StreamSender::next_locked() {
  if (writing_ || sent_ == count_ || sent_ - answered_ >= window_) return;
  message_ = next_();
  ++sent_;
  writing_ = true;
  sent_at_.push_back(now_seconds());
  if (sent_ == count_) {
    StartWriteLast(&message_, {});
  } else {
    StartWrite(&message_);
  }
}

}  // namespace trilog::bench
