#include "client/connection.h"

#include "google/rpc/status.pb.h"

namespace trilog::client {
namespace {

// Nobody there: said after so long, since a first connect can fail by chance and a broker may just be starting.
constexpr int kImpatienceMs = 400;

Error::Outcome decode_outcome(v1::Error::Outcome outcome) {
  switch (outcome) {
    case v1::Error::NOT_WRITTEN: return Error::Outcome::kNotWritten;
    case v1::Error::NOT_APPLICABLE: return Error::Outcome::kNotApplicable;
    default: return Error::Outcome::kUnknown;  // an enum value from a newer broker too: never promise too much
  }
}

}  // namespace

Error decode_error(const v1::Error& error) {
  Error decoded{error.code(), error.message(), error.retriable(), decode_outcome(error.outcome()),
                error.retry_after_ms()};
  for (const auto& [key, value] : error.details()) decoded.details[key] = value;
  return decoded;
}

Error decode_error(const grpc::Status& status, bool may_be_written) {
  google::rpc::Status details;
  if (!status.error_details().empty() && details.ParseFromString(status.error_details())) {
    for (const auto& any : details.details()) {
      v1::Error error;
      if (any.UnpackTo(&error)) return decode_error(error);
    }
  }
  if (may_be_written) {
    return {
        "OUTCOME_UNKNOWN",
        "the connection failed after the request was sent, so it may have been carried out: " + status.error_message(),
        false, Error::Outcome::kUnknown};
  }
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return {"REQUEST_TIMED_OUT", "no answer in time: " + status.error_message(), true, Error::Outcome::kNotApplicable};
  }
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    return {"NO_SERVER", status.error_message(), true, Error::Outcome::kNotApplicable};
  }
  return broken_answer(status.error_message(), false);
}

bool is_leaving(const grpc::Status& status) {
  if (status.ok()) return false;
  return status.error_details().empty() || decode_error(status, false).code == "NODE_STOPPING";
}

Error broken_answer(const std::string& what, bool may_be_written) {
  std::string text = "the server answered in a way that Trilog does not: " + what;
  if (!may_be_written) return {"NO_SERVER", text, false, Error::Outcome::kNotApplicable};
  return {"OUTCOME_UNKNOWN", text + "; whether it did what was asked is unknown", false, Error::Outcome::kUnknown};
}

Error no_server(const std::string& address, const std::string& why) {
  return {"NO_SERVER",
          "no Trilog answers at " + address + (why.empty() ? "" : " (" + why + ")") +
              "; start one with: trilog up, or name another with --server HOST:PORT",
          true, Error::Outcome::kNotWritten};
}

namespace {

// Why a channel does not connect, where more can be said than that nobody is there.
std::string why_not_connected(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;  // does not wait: it fails with what the last try to connect met
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  v1::DescribeClusterResponse response;
  grpc::Status status = v1::Admin::NewStub(channel)->DescribeCluster(&context, {}, &response);
  const std::string& text = status.error_message();
  bool hung_up = text.find("Socket closed") != std::string::npos || text.find("reset by peer") != std::string::npos;
  return hung_up
             ? "something listens there and hangs up at once, as a broker does that has too many clients; its log says"
             : "";
}

}  // namespace

Client::Impl::Impl(ClientOptions client_options)
    : options_(std::move(client_options)), channels_(options_.servers.size()) {}

std::shared_ptr<grpc::Channel> Client::Impl::make_channel(const std::string& server) const {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(64 << 20);
  arguments.SetMaxSendMessageSize(64 << 20);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);  // we know better what is safe to repeat
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  // A server that vanished without a word, or stopped reading, is noticed; with these gRPC also sets TCP_USER_TIMEOUT,
  // without which a write into a full socket could wait for ever, even when cancelled.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 4 << 20);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, 1 << 20);
  // A channel of one's own, so that one client's broken connection is not another's.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(server, grpc::InsecureChannelCredentials(), arguments);
}

Outcome<std::shared_ptr<grpc::Channel>> Client::Impl::connect(SteadyTime deadline, bool patient) {
  size_t first = 0;
  {
    std::lock_guard lock(mutex_);
    first = current_;
    patient = patient || connected_once_;
  }
  size_t count = options_.servers.size();
  SteadyTime gives_up = SteadyClock::now() + std::chrono::milliseconds(kImpatienceMs);
  std::shared_ptr<grpc::Channel> last;
  for (size_t attempt = 0; patient || attempt < 3 * count || SteadyClock::now() < gives_up; ++attempt) {
    size_t index = (first + attempt) % count;
    std::shared_ptr<grpc::Channel> channel;
    {
      std::lock_guard lock(mutex_);
      if (!channels_[index]) channels_[index] = make_channel(options_.servers[index]);
      channel = channels_[index];
    }
    auto limit = std::min(deadline, SteadyClock::now() + std::chrono::seconds(3));
    auto wall_limit = std::chrono::system_clock::now() +
                      std::chrono::duration_cast<std::chrono::microseconds>(limit - SteadyClock::now());
    grpc_connectivity_state state = channel->GetState(true);
    while (state != GRPC_CHANNEL_READY && state != GRPC_CHANNEL_TRANSIENT_FAILURE) {
      if (!channel->WaitForStateChange(state, wall_limit)) break;
      state = channel->GetState(true);
    }
    if (state == GRPC_CHANNEL_READY) {
      std::lock_guard lock(mutex_);
      current_ = index;
      connected_once_ = true;
      return channel;
    }
    {
      std::lock_guard lock(mutex_);
      if (channels_[index] == channel) channels_[index] = nullptr;  // a fresh one does not wait out a back-off
      if (current_ == index) current_ = (index + 1) % count;        // a later call begins with another server
    }
    last = std::move(channel);
    if (SteadyClock::now() >= deadline) break;
    if (attempt + 1 >= count) std::this_thread::sleep_for(std::chrono::milliseconds(patient ? 50 : 20));
  }
  return no_server(server_text(), last ? why_not_connected(last) : "");
}

void Client::Impl::forget(const std::shared_ptr<grpc::Channel>& channel) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < channels_.size(); ++i) {
    if (channels_[i] != channel) continue;
    channels_[i] = nullptr;
    current_ = (i + 1) % channels_.size();
  }
}

void Client::Impl::prepare(grpc::ClientContext& context, SteadyTime deadline) const {
  auto left = std::chrono::duration_cast<std::chrono::microseconds>(deadline - SteadyClock::now());
  context.set_deadline(std::chrono::system_clock::now() + left);
  context.set_wait_for_ready(true);  // the first connect of a process can fail by chance
  context.AddMetadata("trilog-client", options_.name);
}

std::string Client::Impl::server_text() const {
  std::string text;
  for (const std::string& server : options_.servers) text += (text.empty() ? "" : ", ") + server;
  return text;
}

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;
const ClientOptions& Client::options() const { return impl_->options(); }

std::unique_ptr<Client> Client::connect(ClientOptions options) {
  if (options.servers.empty()) options.servers.push_back("localhost:9092");
  return std::unique_ptr<Client>(new Client(std::make_unique<Impl>(std::move(options))));
}

}  // namespace trilog::client
