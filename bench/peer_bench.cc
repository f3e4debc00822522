// How fast brokers talk: frames with a bulk between two TcpTransports over loopback, in one direction, with a bounded
// number of bytes on their way. Beside it the same bytes with nothing around them: `copy_limit` without --sync also
// computes checksums and writes a file, so this should be at least as fast.

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>

#include "broker/runtime/port_reservation.h"
#include "broker/runtime/shard_pool.h"
#include "broker/runtime/tcp_transport.h"
#include "storage/base/check.h"

namespace trilog::bench {
namespace {

constexpr BrokerId kSender{1};
constexpr BrokerId kReceiver{2};

class Counter : public PeerListener {
 public:
  void on_frame(BrokerId, PeerChannel, PeerFrame frame) override {
    std::lock_guard lock(mutex_);
    bytes_ += frame.bulk.size();
    changed_.notify_one();
  }
  void on_connected(const PeerIdentity&, PeerChannel channel) override {
    std::lock_guard lock(mutex_);
    connected_ |= channel == PeerChannel::kReplication;
    changed_.notify_one();
  }
  void on_disconnected(BrokerId, PeerChannel, bool) override {}
  void wait_for_bytes(uint64_t bytes) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return bytes_ >= bytes; });
  }
  void wait_for_connection() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return connected_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t bytes_ = 0;
  bool connected_ = false;
};

struct Side {
  ShardPool pool{ShardPoolOptions{.shards = 1, .io_threads_max = 1}};
  Counter counter;
  std::unique_ptr<TcpTransport> transport;
  void start(BrokerId self, const std::map<BrokerId, std::string>& peers) {
    TcpTransportOptions options;
    options.self = self;
    options.listen = peers.at(self);
    options.peers = peers;
    transport = TcpTransport::open(options, pool.envs()).value();
    transport->listen(0, &counter);
    transport->start(ClusterId(1, 1), DirectoryId(1, self.value()));
  }
  void stop() {
    transport->stop();
    pool.stop();
  }
};

double measure(Side& from, Side& to, uint64_t total, size_t frame_bytes, uint64_t window) {
  static uint64_t received_before = 0;
  SharedBytes bulk{[&] {
    Bytes bytes(frame_bytes);
    std::memset(bytes.data(), 7, bytes.size());
    return bytes;
  }()};
  auto begin = std::chrono::steady_clock::now();
  uint64_t sent = 0;
  while (sent < total) {
    if (sent > window) to.counter.wait_for_bytes(received_before + sent - window);
    PeerFrame frame;
    frame.kind = PeerKind::kPush;
    frame.bulk = bulk;
    CHECK(from.transport->send(kReceiver, PeerChannel::kReplication, std::move(frame)));
    sent += frame_bytes;
  }
  to.counter.wait_for_bytes(received_before + sent);
  received_before += sent;
  std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  return static_cast<double>(sent) / 1e6 / seconds.count();
}

int run(uint64_t total_mb, int rounds) {
  auto first = PortReservation::make().value();
  auto second = PortReservation::make().value();
  const std::map<BrokerId, std::string> peers = {{kSender, "127.0.0.1:" + std::to_string(first.port())},
                                                 {kReceiver, "127.0.0.1:" + std::to_string(second.port())}};
  Side from;
  Side to;
  from.start(kSender, peers);
  to.start(kReceiver, peers);
  from.counter.wait_for_connection();
  to.counter.wait_for_connection();
  for (size_t frame_bytes : {size_t{64} << 10, size_t{1} << 20}) {
    double best = 0;
    for (int round = 0; round < rounds; ++round) {
      best = std::max(best, measure(from, to, total_mb << 20, frame_bytes, uint64_t{8} << 20));
    }
    std::printf("frames of %zu KiB: %.0f MB/s (best of %d, 8 MiB on the way)\n", frame_bytes >> 10, best, rounds);
  }
  from.stop();
  to.stop();
  return 0;
}

}  // namespace
}  // namespace trilog::bench

// peer_bench [MIB ROUNDS]
int main(int argc, char** argv) {
  uint64_t total_mb = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 2'048;
  int rounds = argc > 2 ? std::atoi(argv[2]) : 3;
  return trilog::bench::run(total_mb, rounds);
}
