// Connections to servers: one gRPC channel per address, errors decoded, reads repeated where another server may answer.
// Private to the client library.
#pragma once

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "client/client.h"
#include "trilog/v1/admin.grpc.pb.h"
#include "trilog/v1/broker.grpc.pb.h"

namespace trilog::client {

using SteadyClock = std::chrono::steady_clock;
using SteadyTime = SteadyClock::time_point;

// A failed status as the broker meant it. Without the broker's details it comes from the transport: NO_SERVER or, where
// a write may have been sent, OUTCOME_UNKNOWN.
Error decode_error(const grpc::Status& status, bool may_be_written);
Error decode_error(const v1::Error& error);
// Whether another server has to be looked for: this one cannot be reached, or stops.
bool is_leaving(const grpc::Status& status);
// An answer of which no sense can be made. A write may have been carried out all the same.
Error broken_answer(const std::string& what, bool may_be_written);
// Whether `items` name every partition from 0 to their count - 1, each once.
template <typename Items>
bool names_each_partition_once(const Items& items) {
  std::vector<bool> seen(static_cast<size_t>(items.size()));
  for (const auto& item : items) {
    int32_t partition = item.partition();
    if (partition < 0 || partition >= items.size() || seen[static_cast<size_t>(partition)]) return false;
    seen[static_cast<size_t>(partition)] = true;
  }
  return true;
}
// What a person needs to know when nobody answers.
Error no_server(const std::string& address, const std::string& why);

struct Client::Impl {
  explicit Impl(ClientOptions client_options);

  // A connected channel: the server that worked last, else the first that answers. Tries every server at least three
  // times and for 0.4 s (a first connect of gRPC 1.51 can fail by chance) and gives up with NO_SERVER, or at `deadline`
  // if `patient`.
  Outcome<std::shared_ptr<grpc::Channel>> connect(SteadyTime deadline, bool patient);
  void forget(const std::shared_ptr<grpc::Channel>& channel);  // it failed: the next connect() looks again
  void prepare(grpc::ClientContext& context, SteadyTime deadline) const;
  std::string server_text() const;
  const ClientOptions& options() const { return options_; }

 private:
  std::shared_ptr<grpc::Channel> make_channel(const std::string& server) const;

  ClientOptions options_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_;  // guarded by mutex_
  size_t current_ = 0;                                    // guarded by mutex_
  bool connected_once_ = false;                           // guarded by mutex_
};

// One unary call. A read is repeated after a transport error or a retriable answer, a write only after an answer that
// says NOT_WRITTEN and retriable, until the client's time-out.
template <typename Stub, typename Request, typename Response>
Outcome<Response> call(Client::Impl& client, bool is_write,
                       grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                       std::unique_ptr<Stub> (*make_stub)(const std::shared_ptr<grpc::ChannelInterface>&,
                                                          const grpc::StubOptions&),
                       const Request& request) {
  SteadyTime deadline = SteadyClock::now() + std::chrono::milliseconds(client.options().timeout_ms);
  std::chrono::milliseconds pause(20);
  for (;;) {
    Outcome<std::shared_ptr<grpc::Channel>> channel = client.connect(deadline, false);
    if (!channel.ok()) return channel.error();
    std::unique_ptr<Stub> stub = make_stub(channel.value(), grpc::StubOptions());
    grpc::ClientContext context;
    client.prepare(context, deadline);
    Response response;
    grpc::Status status = (stub.get()->*method)(&context, request, &response);
    if (status.ok()) return response;
    Error error = decode_error(status, is_write);
    bool from_broker = !status.error_details().empty();
    if (is_leaving(status)) client.forget(channel.value());
    bool safe = from_broker ? error.retriable && error.outcome != Error::Outcome::kUnknown : !is_write;
    auto wait = std::max<std::chrono::milliseconds>(pause, std::chrono::milliseconds(error.retry_after_ms));
    if (!safe || SteadyClock::now() + wait >= deadline || status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
      return error;
    }
    std::this_thread::sleep_for(wait);
    pause = std::min(pause * 2, std::chrono::milliseconds(500));
  }
}

}  // namespace trilog::client
