// Node: one broker with everything it needs to run as a process: shards, connections to its peers, broker, gRPC edge.
// What `serve` and `up` have in common.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "broker/broker.h"
#include "broker/grpc/grpc_server.h"
#include "broker/runtime/shard_pool.h"
#include "broker/runtime/tcp_transport.h"

namespace trilog {

class Node {
 public:
  struct Options {
    BrokerOptions broker;
    std::vector<std::string> listen;  // "host:port"; empty: as in `broker`
    Logger log;
    std::function<bool()> give_up;  // asked now and then while others are waited for; true: start() fails with kFailed
  };

  // Opens the data folder, listens, and returns when the broker serves. Blocking; signals that are to be waited for
  // must be blocked before, so that no thread of the node takes them.
  static Result<std::unique_ptr<Node>> start(Options options);
  ~Node();  // stop()
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  Broker& broker() { return *broker_; }
  const std::vector<std::string>& addresses() const { return server_->addresses(); }
  int port() const { return server_->port(); }
  // Where clients reach it: "localhost:9092" if it listens on loopback, the first address otherwise.
  std::string client_address() const;

  // Drains: no new calls, answers for those under way within `limit_ms`, then a clean stop of the broker. With an error
  // the data is safe and the next start runs recovery. Twice is fine.
  Status stop(int64_t limit_ms = 10'000);

 private:
  explicit Node(Options options);
  Status run();
  Status open_transport();

  const Options options_;
  std::unique_ptr<ShardPool> shards_;
  std::unique_ptr<TcpTransport> transport_;  // null: a cluster of one opens no peer port
  std::unique_ptr<Broker> broker_;
  std::unique_ptr<GrpcServer> server_;
  bool started_ = false;
};

// --- signals of a process that runs a node ---

// Blocks SIGINT and SIGTERM for this thread and all that it starts, and ignores SIGPIPE. Before Node::start().
void block_end_signals();
// The one that has come already, or 0.
int take_end_signal();
// Waits for one of them and returns it, and meanwhile, whenever it is quiet, gives back the memory of program pages
// that are no longer used. A second one, while the node stops, ends the process at once.
int wait_for_end_signal();
void let_second_signal_end_us();

// TRILOG_… settings and then `--set a.b=c`, over what `options` has.
Status apply_environment_and_sets(BrokerOptions& options, const std::vector<std::string>& sets);

}  // namespace trilog
