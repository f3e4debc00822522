#include "broker/node.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <map>
#include <utility>

#include "broker/runtime/descriptor_limit.h"
#include "broker/runtime/program_pages.h"

extern char** environ;  // NOLINT: POSIX declares it so

namespace trilog {
namespace {

template <typename Call>
Status wait_for(Call call) {
  std::promise<Status> status;
  call([&](Status result) { status.set_value(std::move(result)); });
  return status.get_future().get();
}

std::string unix_socket_path(const std::string& data_dir, const Logger& log) {
  std::string path = data_dir + "/trilog.sock";
  if (path.size() < sizeof(sockaddr_un::sun_path)) return path;
  log.warning("no Unix socket: ", path, " is longer than the ", sizeof(sockaddr_un::sun_path) - 1,
              " characters that the system allows");
  return {};
}

sigset_t end_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGINT);
  ::sigaddset(&set, SIGTERM);
  return set;
}

constexpr time_t kQuietCheckSeconds = 3;
constexpr std::chrono::milliseconds kGiveUpCheck{50};

}  // namespace

Node::Node(Options options) : options_(std::move(options)) {}
Node::~Node() { (void)stop(); }

Result<std::unique_ptr<Node>> Node::start(Options options) {
  std::unique_ptr<Node> node(new Node(std::move(options)));
  TRY(node->run());
  return node;
}

Status Node::run() {
  raise_descriptor_limit();
  int shards = options_.broker.io_threads == 0 ? default_shard_count() : options_.broker.io_threads;
  shards_ = std::make_unique<ShardPool>(ShardPoolOptions{.shards = shards, .log = options_.log});
  TRY(open_transport());
  broker_ = TRY(Broker::open(options_.broker, shards_->envs(), nullptr, transport_.get()));
  GrpcServerOptions server;
  server.listen = options_.listen.empty() ? std::vector<std::string>{options_.broker.listen} : options_.listen;
  server.unix_socket = unix_socket_path(options_.broker.data_dir, options_.log);
  server.log = options_.log;
  server_ = std::make_unique<GrpcServer>(*broker_, std::move(server));
  TRY(server_->start());
  std::string address = options_.broker.advertise.empty() ? client_address() : options_.broker.advertise;
  if (transport_) transport_->start(broker_->cluster_id(), broker_->directory_id());
  started_ = true;
  auto begun = std::make_shared<std::promise<Status>>();  // a start that is given up is answered by the stop
  broker_->start(address, [begun](Status status) { begun->set_value(std::move(status)); });
  std::future<Status> ready = begun->get_future();
  while (ready.wait_for(kGiveUpCheck) != std::future_status::ready) {
    if (options_.give_up && options_.give_up()) return {Errc::kFailed, "stopped before it was ready"};
  }
  TRY(ready.get());
  server_->set_serving(true);
  return {};
}

// Before the broker, so that a taken port is known before anything is touched.
Status Node::open_transport() {
  std::vector<QuorumPeer> peers = TRY(quorum_peers(options_.broker));
  if (peers.size() <= 1) return {};
  TcpTransportOptions transport;
  transport.self = BrokerId(options_.broker.node_id);
  transport.log = options_.log;
  transport.listen = options_.broker.peer_listen;
  for (const QuorumPeer& peer : peers) {
    if (transport.listen.empty() && peer.id == transport.self) transport.listen = peer.address;
    transport.peers.emplace(peer.id, peer.address);
  }
  transport_ = TRY(TcpTransport::open(std::move(transport), shards_->envs()));
  return {};
}

std::string Node::client_address() const {
  const std::string& first = server_->addresses().front();
  return first.starts_with("127.0.0.1:") ? "localhost:" + std::to_string(server_->port()) : first;
}

Status Node::stop(int64_t limit_ms) {
  Status status;
  if (broker_ && started_) {
    std::promise<void> handed_over;
    broker_->hand_over([&] { handed_over.set_value(); });
    handed_over.get_future().wait();
  }
  if (server_) {
    server_->set_serving(false);
    if (!server_->drain(limit_ms)) options_.log.warning("calls were still open after ", limit_ms, " ms of draining");
  }
  if (broker_ && started_) status = wait_for([&](auto done) { broker_->stop(std::move(done)); });
  started_ = false;
  server_.reset();
  if (transport_) transport_->stop();
  if (shards_) shards_->stop();
  broker_.reset();
  transport_.reset();
  shards_.reset();
  return status;
}

void block_end_signals() {
  sigset_t set = end_signals();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

int take_end_signal() {
  sigset_t set = end_signals();
  const timespec now{};
  return std::max(::sigtimedwait(&set, nullptr, &now), 0);
}

int wait_for_end_signal() {
  sigset_t set = end_signals();
  const timespec check{.tv_sec = kQuietCheckSeconds, .tv_nsec = 0};
  ProgramPages pages;
  while (true) {
    int number = ::sigtimedwait(&set, nullptr, &check);
    if (number > 0) return number;
    pages.give_back_if_quiet();
  }
}

void let_second_signal_end_us() {
  ::signal(SIGINT, SIG_DFL);
  ::signal(SIGTERM, SIG_DFL);
  sigset_t set = end_signals();
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

Status apply_environment_and_sets(BrokerOptions& options, const std::vector<std::string>& sets) {
  std::map<std::string, std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    std::string text(*entry);
    size_t equals = text.find('=');
    if (text.starts_with("TRILOG_") && equals != std::string::npos) {
      environment[text.substr(0, equals)] = text.substr(equals + 1);
    }
  }
  TRY(read_environment(options, environment));
  for (const std::string& set : sets) {
    size_t equals = set.find('=');
    if (equals == std::string::npos) {
      return {Errc::kInvalidArgument, "--set " + set + ": NAME=VALUE is wanted, for example --set memory_limit=1GiB"};
    }
    Status status = set_option(options, set.substr(0, equals), set.substr(equals + 1));
    if (!status.ok()) return status.with_context("--set");
  }
  return {};
}

}  // namespace trilog
