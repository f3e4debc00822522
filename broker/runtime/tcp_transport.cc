#include "broker/runtime/tcp_transport.h"

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "broker/runtime/peer_acceptor.h"
#include "broker/runtime/peer_delivery.h"
#include "broker/runtime/peer_links.h"

namespace trilog {

namespace asio = boost::asio;

struct TcpTransport::Impl {
  Impl(const TcpTransportOptions& options, const std::vector<Env*>& shards)
      : loop(std::make_shared<asio::io_context>(1)),
        work(loop->get_executor()),
        delivery(std::make_shared<PeerDelivery>(shards)),
        acceptor(*loop, options.log),
        links(loop, options, delivery) {}

  void post(UniqueFunction<void()> task) {
    asio::post(*loop, [task = std::move(task)]() mutable { task(); });
  }

  // On the transport's thread. A frame for a shard that does not listen yet would be lost, and its sender wait in vain.
  void begin_if_all_listen() {
    if (!identity || listening.size() < delivery->shards()) return;
    links.start(identity->first, identity->second);
    acceptor.start([this](asio::ip::tcp::socket socket) { links.accepted(std::move(socket)); });
    identity.reset();
  }

  // Connections hold the loop too: a shard's thread may let go of the last one.
  std::shared_ptr<asio::io_context> loop;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work;
  std::shared_ptr<PeerDelivery> delivery;
  PeerAcceptor acceptor;
  PeerLinks links;
  std::optional<std::pair<ClusterId, DirectoryId>> identity;  // from start() until it begins
  std::set<uint32_t> listening;                               // shards that did once
  std::thread thread;
  std::atomic<bool> stopped = false;
};

TcpTransport::TcpTransport(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
  impl_->thread = std::thread([impl = impl_.get()] { impl->loop->run(); });
}

TcpTransport::~TcpTransport() { stop(); }

Result<std::unique_ptr<TcpTransport>> TcpTransport::open(TcpTransportOptions options, std::vector<Env*> shards) {
  if (shards.empty()) return Status(Errc::kInvalidArgument, "a transport needs at least one shard");
  auto impl = std::make_unique<Impl>(options, shards);
  TRY(impl->acceptor.listen(options.listen));
  return std::unique_ptr<TcpTransport>(new TcpTransport(std::move(impl)));
}

void TcpTransport::start(const ClusterId& cluster, const DirectoryId& directory) {
  impl_->post([impl = impl_.get(), cluster, directory] {
    impl->identity = {cluster, directory};
    impl->begin_if_all_listen();
  });
}

void TcpTransport::stop() {
  if (impl_->stopped.exchange(true)) return;
  impl_->post([impl = impl_.get()] {
    impl->identity.reset();  // a shard that begins to listen just now begins nothing any more
    impl->acceptor.stop();
    impl->links.stop();
    impl->work.reset();
  });
  impl_->thread.join();
}

int TcpTransport::port() const { return impl_->acceptor.port(); }

bool TcpTransport::send(BrokerId to, PeerChannel channel, PeerFrame frame) {
  return impl_->links.send(to, channel, std::move(frame));
}

bool TcpTransport::connected(BrokerId to, PeerChannel channel) const { return impl_->links.connected(to, channel); }

PeerIdentity TcpTransport::identity(BrokerId to) const { return impl_->links.identity(to); }

void TcpTransport::listen(uint32_t shard, PeerListener* listener) {
  uint64_t registration = impl_->delivery->listen(shard, listener);
  impl_->post([impl = impl_.get(), shard, registration, hears = listener != nullptr] {
    impl->delivery->begin(shard, hears ? registration : 0);
    if (!hears) return;
    impl->links.tell_present_state(shard);
    impl->listening.insert(shard);
    impl->begin_if_all_listen();
  });
}

void TcpTransport::set_empty(bool empty) {
  impl_->post([impl = impl_.get(), empty] { impl->links.set_empty(empty); });
}

void TcpTransport::set_cluster(const ClusterId& cluster) {
  impl_->post([impl = impl_.get(), cluster] { impl->links.set_cluster(cluster); });
}

}  // namespace trilog
