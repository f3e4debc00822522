// The client half of the yardsticks over gRPC: ready messages down one ProduceStream, with a window.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "storage/base/bytes.h"

namespace trilog::bench {

// Not copied: `bytes` must outlive everything.
grpc::ByteBuffer message_of(ByteView bytes, bool copied);
// The eight bytes of a message that is a running total; 0 if it is something else.
uint64_t number_in(const grpc::ByteBuffer& message);
// Waits for a connection, ten minutes at most.
void prepare(grpc::ClientContext& context);
// Never destroyed: a finished call may still hold a channel for a moment on gRPC's own callback thread, and in gRPC
// 1.51 that thread crashes when the last channel of the process goes away on it, because it then joins itself.
const std::shared_ptr<grpc::Channel>& lasting_channel(const std::string& address);

// Sends `count` messages with at most `window` unanswered ones.
class StreamSender : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  // `next` makes each message. `totals`: answers are running totals; otherwise each is a ProduceResponse to one
  // message.
  StreamSender(grpc::GenericStub& stub, std::function<grpc::ByteBuffer()> next, uint64_t count, uint64_t window,
               bool totals);
  // Until all are answered; how long each one took. Ends the program if one failed.
  std::vector<double> wait();

  void OnWriteDone(bool ok) override;
  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  void next_locked();

  const std::function<grpc::ByteBuffer()> next_;
  const uint64_t count_;
  const uint64_t window_;
  const bool totals_;
  grpc::ClientContext context_;
  grpc::ByteBuffer message_;
  grpc::ByteBuffer answer_;
  std::mutex mutex_;
  std::condition_variable done_changed_;
  std::deque<double> sent_at_;
  std::vector<double> latencies_us_;
  uint64_t sent_ = 0;
  uint64_t answered_ = 0;
  bool writing_ = false;
  bool done_ = false;
  grpc::Status status_;
};

}  // namespace trilog::bench
