#include "broker/runtime/peer_links.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/error.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <utility>

namespace trilog {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using std::chrono::milliseconds;

constexpr int kRefusalLinesMax = 10;  // in the log, within
constexpr std::chrono::seconds kRefusalLinesTime{10};
constexpr std::chrono::seconds kSameComplaintTime{60};
// A connection that lives so long lets the next attempt begin at once.
constexpr milliseconds kStable{1'000};
// A thread that was stopped this much longer than it should must not take its own sleep for silence of others.
constexpr int kSleptTicks = 3;

uint64_t random_number() {
  std::random_device device;
  return static_cast<uint64_t>(device()) << 32 | device();
}

constexpr std::array kChannelNames = {"control", "replication", "bulk"};
const char* channel_name(PeerChannel channel) { return kChannelNames[static_cast<size_t>(channel)]; }

// Channels other than control are watched by the kernel: one that is cut alone ends within about half a minute.
constexpr int kUnacknowledgedMs = 30'000;
constexpr int kProbeAfterSeconds = 10;
constexpr int kProbeEverySeconds = 5;
constexpr int kProbes = 3;

void set_socket_options(tcp::socket& socket) {
  // Whatever cannot be set is an optimisation or a second net.
  auto set = [&socket](int level, int name, int value) {
    (void)::setsockopt(socket.native_handle(), level, name, &value, sizeof value);
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, kUnacknowledgedMs);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, kProbeAfterSeconds);
  set(IPPROTO_TCP, TCP_KEEPINTVL, kProbeEverySeconds);
  set(IPPROTO_TCP, TCP_KEEPCNT, kProbes);
}

bool is_closed(tcp::socket& socket) {
  char byte = 0;
  return ::recv(socket.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

}  // namespace

PeerLinks::PeerLinks(std::shared_ptr<asio::io_context> loop, const TcpTransportOptions& options,
                     std::shared_ptr<PeerDelivery> delivery)
    : loop_(std::move(loop)),
      options_(options),
      delivery_(std::move(delivery)),
      incarnation_(random_number()),
      ticker_(*loop_),
      random_(static_cast<uint32_t>(incarnation_)) {
  for (const auto& [id, address] : options_.peers) {
    quorum_ += (quorum_.empty() ? "" : ",") + std::to_string(id.value());
    if (id == options_.self) continue;
    auto peer = std::make_unique<Peer>();
    peer->id = id;
    peer->address = address;
    peer->retry_ms = options_.retry_ms_min;
    peer->retry = std::make_unique<asio::steady_timer>(*loop_);
    peers_.emplace(id, std::move(peer));
  }
}

// --- any thread ------------------------------------------------------------------------------------------------------

PeerLinks::Peer* PeerLinks::find(BrokerId id) const {
  auto it = peers_.find(id);
  return it == peers_.end() ? nullptr : it->second.get();
}

bool PeerLinks::send(BrokerId to, PeerChannel channel, PeerFrame frame) {
  Peer* peer = find(to);
  if (peer == nullptr || !peer_frame_fits(frame)) return false;
  Link& link = peer->links[static_cast<size_t>(channel)];
  std::shared_ptr<PeerConnection> connection;
  {
    std::lock_guard lock(link.mutex);
    connection = link.connection;
  }
  return connection && connection->send(std::move(frame));
}

bool PeerLinks::connected(BrokerId to, PeerChannel channel) const {
  Peer* peer = find(to);
  if (peer == nullptr) return false;
  Link& link = peer->links[static_cast<size_t>(channel)];
  std::lock_guard lock(link.mutex);
  return link.connection != nullptr;
}

PeerIdentity PeerLinks::identity(BrokerId to) const {
  Peer* peer = find(to);
  if (peer == nullptr) return {};
  for (Link& link : peer->links) {
    std::lock_guard lock(link.mutex);
    if (link.connection) return link.connection->hello().identity;
  }
  return {};
}

// --- start and stop --------------------------------------------------------------------------------------------------

void PeerLinks::start(const ClusterId& cluster, const DirectoryId& directory) {
  cluster_ = cluster;
  directory_ = directory;
  running_ = true;
  last_tick_ = std::chrono::steady_clock::now();
  for (auto& [id, peer] : peers_) {
    peer->missing_since = last_tick_;
    connect_missing(*peer);
  }
  tick();
}

void PeerLinks::stop() {
  running_ = false;
  ticker_.cancel();
  for (const auto& stranger : strangers_) stranger->cancel();
  strangers_.clear();
  for (auto& [id, peer] : peers_) {
    peer->retry->cancel();
    if (peer->knock) std::exchange(peer->knock, nullptr)->cancel();
    for (Link& link : peer->links) {
      if (link.attempt) std::exchange(link.attempt, nullptr)->cancel();
      std::lock_guard lock(link.mutex);
      if (link.connection) std::exchange(link.connection, nullptr)->close();
    }
  }
}

void PeerLinks::set_empty(bool empty) {
  if (std::exchange(empty_, empty) != empty) reconnect_all("its folder is no longer what it was");
}

void PeerLinks::set_cluster(const ClusterId& cluster) {
  if (std::exchange(cluster_, cluster) != cluster) reconnect_all("it belongs to a cluster now");
}

void PeerLinks::reconnect_all(const char* why) {
  for (const auto& stranger : strangers_) stranger->cancel();
  strangers_.clear();
  for (auto& [id, peer] : peers_) {
    for (Link& link : peer->links) {
      // A hello that is under way says what was true before.
      if (link.attempt) std::exchange(link.attempt, nullptr)->cancel();
      if (link.connection) link.connection->leave(why);
    }
    if (running_) retry_now(*peer);
  }
}

// --- hellos ----------------------------------------------------------------------------------------------------------

PeerHello PeerLinks::our_hello(PeerHello::What what, PeerChannel channel, BrokerId expected) const {
  PeerHello hello;
  hello.what = what;
  hello.channel = channel;
  hello.cluster = cluster_;
  hello.identity = {options_.self, directory_, empty_};
  hello.expected = expected;
  hello.incarnation = incarnation_;
  hello.quorum = quorum_;
  return hello;
}

PeerExpectation PeerLinks::expectation(BrokerId sender, BrokerId dialled) const {
  PeerExpectation expectation{.self = options_.self,
                              .cluster = cluster_,
                              .empty = empty_,
                              .dialled = dialled,
                              .quorum = quorum_,
                              .is_peer = false,
                              .live = std::nullopt};
  Peer* peer = find(sender);
  if (peer == nullptr) return expectation;
  expectation.is_peer = true;
  for (const Link& link : peer->links) {
    if (link.connection) expectation.live = link.connection->hello().identity.directory;
  }
  return expectation;
}

PeerHello PeerLinks::judge(const PeerHello& theirs) const {
  BrokerId sender = theirs.identity.broker;
  PeerHello answer = our_hello(PeerHello::What::kHello, theirs.channel, sender);
  std::optional<std::string> why = refuse_peer(theirs, expectation(sender, kNoBroker));
  bool wants_call = theirs.what == PeerHello::What::kKnock;
  if (!why && !wants_call && sender < options_.self) why = "the node with the higher id calls; a knock was expected";
  if (why) {
    answer.what = PeerHello::What::kRefused;
    answer.why = *why;
  }
  return answer;
}

void PeerLinks::accepted(tcp::socket socket) {
  if (strangers_.size() >= options_.strangers_max) {
    if (may_log_stranger()) {
      options_.log.warning("peer port: ", strangers_.size(),
                           " connections have not said who they are; closing new ones");
    }
    return;  // the socket closes with this
  }
  set_socket_options(socket);
  auto done = [this](PeerHandshake& handshake, const PeerHandshake::Outcome& outcome) {
    on_answered(handshake, outcome);
  };
  auto stranger = std::make_shared<PeerHandshake>(
      *loop_, PeerHandshake::Limits{options_.connect_limit_ms, options_.hello_limit_ms}, std::move(done));
  strangers_.insert(stranger);
  stranger->answer(std::move(socket), [this](const PeerHello& theirs) { return judge(theirs); });
}

void PeerLinks::on_answered(PeerHandshake& handshake, const PeerHandshake::Outcome& outcome) {
  strangers_.erase(handshake.shared_from_this());
  if (!outcome.hello) {
    if (!outcome.silent && may_log_stranger()) {
      options_.log.warning("peer port: refused ", handshake.remote(), ": ", outcome.why);
    }
    return;
  }
  Peer& peer = *find(outcome.hello->identity.broker);
  if (outcome.hello->what == PeerHello::What::kKnock) return retry_now(peer);
  tcp::socket socket = handshake.take_socket();
  // A caller that gave up while this process was stopped: another call is on its way, or will be.
  if (!is_closed(socket)) adopt(peer, std::move(socket), *outcome.hello);
}

// --- calling ---------------------------------------------------------------------------------------------------------

// The side with the higher id calls for what is missing, the other one asks for it.
void PeerLinks::connect_missing(Peer& peer) {
  bool missing = false;
  for (size_t i = 0; i < peer.links.size(); ++i) {
    Link& link = peer.links[i];
    if (link.connection) continue;
    missing = true;
    if (calls(peer) && !link.attempt) call(peer, static_cast<PeerChannel>(i));
  }
  if (missing && !calls(peer) && !peer.knock) knock(peer);
}

void PeerLinks::call(Peer& peer, PeerChannel channel) {
  auto done = [this, &peer, channel](PeerHandshake& handshake, const PeerHandshake::Outcome& outcome) {
    on_called(peer, channel, handshake, outcome);
  };
  auto attempt = std::make_shared<PeerHandshake>(
      *loop_, PeerHandshake::Limits{options_.connect_limit_ms, options_.hello_limit_ms}, std::move(done));
  peer.links[static_cast<size_t>(channel)].attempt = attempt;
  attempt->call(peer.address, our_hello(PeerHello::What::kHello, channel, peer.id));
}

void PeerLinks::knock(Peer& peer) {
  auto done = [this, &peer](PeerHandshake&, const PeerHandshake::Outcome& outcome) {
    peer.knock = nullptr;
    if (outcome.refused) {
      for (size_t i = 0; i < peer.links.size(); ++i) tell_refused(peer, static_cast<PeerChannel>(i));
    }
    if (!outcome.hello) return attempt_failed(peer, outcome);
    // It calls now. If it does not, it is asked again.
    retry_later(peer);
  };
  peer.knock = std::make_shared<PeerHandshake>(
      *loop_, PeerHandshake::Limits{options_.connect_limit_ms, options_.hello_limit_ms}, std::move(done));
  peer.knock->call(peer.address, our_hello(PeerHello::What::kKnock, PeerChannel::kControl, peer.id));
}

void PeerLinks::on_called(Peer& peer, PeerChannel channel, PeerHandshake& handshake,
                          const PeerHandshake::Outcome& outcome) {
  peer.links[static_cast<size_t>(channel)].attempt = nullptr;
  if (outcome.refused) tell_refused(peer, channel);
  if (!outcome.hello) return attempt_failed(peer, outcome);
  PeerHello hello = *outcome.hello;
  hello.channel = channel;
  tcp::socket socket = handshake.take_socket();
  set_socket_options(socket);
  if (std::optional<std::string> why = refuse_peer(hello, expectation(hello.identity.broker, peer.id))) {
    // The other side has agreed already: it is told by a goodbye that this process lives on.
    PeerFrame goodbye;
    goodbye.kind = kPeerGoodbye;
    goodbye.body = Bytes::copy_of(*why);
    std::array<std::byte, kPeerPrefixBytes> prefix = encode_peer_prefix(goodbye);
    error_code ignored;
    asio::write(socket, std::array{asio::buffer(prefix), asio::buffer(goodbye.body.data(), goodbye.body.size())},
                ignored);
    return attempt_failed(peer, {std::nullopt, false, false, *why});
  }
  adopt(peer, std::move(socket), hello);
}

// Each refused attempt is told: the controller counts them (C5).
void PeerLinks::tell_refused(Peer& peer, PeerChannel channel) {
  Link& link = peer.links[static_cast<size_t>(channel)];
  if (link.connection) return;
  link.refused = true;
  for (size_t shard = 0; shard < delivery_->shards(); ++shard) {
    delivery_->tell_disconnected(shard, peer.id, channel, true);
  }
}

void PeerLinks::attempt_failed(Peer& peer, const PeerHandshake::Outcome& outcome) {
  // A peer that is just starting refuses for a moment; that is not worth a line.
  if (!outcome.refused || std::chrono::steady_clock::now() - peer.missing_since > kStable) complain(peer, outcome.why);
  retry_later(peer);
}

void PeerLinks::retry_later(Peer& peer) {
  if (!running_ || std::exchange(peer.retry_set, true)) return;
  int64_t shortest = peer.retry_ms - peer.retry_ms / 2;
  peer.retry->expires_after(milliseconds(std::uniform_int_distribution<int64_t>(shortest, peer.retry_ms)(random_)));
  peer.retry_ms = std::min(peer.retry_ms * 2, options_.retry_ms_max);
  peer.retry->async_wait([this, &peer](const error_code& error) {
    if (error) return;
    peer.retry_set = false;
    if (running_) connect_missing(peer);
  });
}

void PeerLinks::retry_now(Peer& peer) {
  peer.retry_ms = options_.retry_ms_min;
  peer.retry->cancel();
  peer.retry_set = false;
  if (running_) connect_missing(peer);
}

// --- connections -----------------------------------------------------------------------------------------------------

void PeerLinks::adopt(Peer& peer, tcp::socket socket, const PeerHello& hello) {
  for (Link& link : peer.links) {
    // The other process called anew, or it is another process: what we still have is dead.
    bool replaced = &link == &peer.links[static_cast<size_t>(hello.channel)];
    if (!link.connection || (!replaced && link.connection->hello().incarnation == hello.incarnation)) continue;
    link.connection->close();
    drop(peer, link, link.connection->hello().incarnation != hello.incarnation);
  }
  Link& link = peer.links[static_cast<size_t>(hello.channel)];
  auto connection = std::make_shared<PeerConnection>(loop_, std::move(socket), hello, *this);
  {
    std::lock_guard lock(link.mutex);
    link.connection = connection;
  }
  link.refused = false;
  if (!peer.complaint.empty()) {
    options_.log.info("node ", peer.id, " at ", peer.address, ": connected (", channel_name(hello.channel), ")");
    peer.complaint.clear();
  }
  for (size_t shard = 0; shard < delivery_->shards(); ++shard) {
    delivery_->tell_connected(shard, hello.identity, hello.channel);
  }
  connection->start(options_.unread_bytes_max);
}

void PeerLinks::drop(Peer& peer, Link& link, bool refused) {
  PeerChannel channel = link.connection->channel();
  {
    std::lock_guard lock(link.mutex);
    link.connection = nullptr;
  }
  link.refused = refused;
  for (size_t shard = 0; shard < delivery_->shards(); ++shard) {
    delivery_->tell_disconnected(shard, peer.id, channel, refused);
  }
}

void PeerLinks::on_frames(PeerConnection& connection, std::vector<PeerFrame> frames) {
  if (delivery_->shards() == 1) {
    return delivery_->deliver(0, connection.peer(), connection.channel(), std::move(frames), connection.unread());
  }
  std::vector<std::vector<PeerFrame>> by_shard(delivery_->shards());
  for (PeerFrame& frame : frames) by_shard[frame.route % by_shard.size()].push_back(std::move(frame));
  for (size_t shard = 0; shard < by_shard.size(); ++shard) {
    if (by_shard[shard].empty()) continue;
    delivery_->deliver(shard, connection.peer(), connection.channel(), std::move(by_shard[shard]), connection.unread());
  }
}

void PeerLinks::on_end(PeerConnection& connection, const PeerConnection::End& end) {
  Peer& peer = *find(connection.peer());
  Link& link = peer.links[static_cast<size_t>(connection.channel())];
  if (!running_ || link.connection.get() != &connection) return;  // replaced
  if (std::chrono::steady_clock::now() - connection.born() >= kStable) peer.retry_ms = options_.retry_ms_min;
  if (!connection.left()) complain(peer, "connection lost: " + end.why);
  peer.missing_since = std::chrono::steady_clock::now();
  drop(peer, link, end.gone);
  retry_later(peer);
}

void PeerLinks::tell_present_state(size_t shard) {
  for (auto& [id, peer] : peers_) {
    for (size_t i = 0; i < peer->links.size(); ++i) {
      const Link& link = peer->links[i];
      auto channel = static_cast<PeerChannel>(i);
      if (link.connection) delivery_->tell_connected(shard, link.connection->hello().identity, channel);
      if (link.refused) delivery_->tell_disconnected(shard, id, channel, true);
    }
  }
}

// --- time ------------------------------------------------------------------------------------------------------------

void PeerLinks::tick() {
  PeerTime now = std::chrono::steady_clock::now();
  bool slept = now - last_tick_ > milliseconds(kSleptTicks * options_.idle_ms);
  last_tick_ = now;
  for (auto& [id, peer] : peers_) {
    if (slept) {
      for (Link& link : peer->links) {
        if (link.connection) link.connection->set_last_heard(now);
      }
    }
    check_peer(*peer, now);
  }
  ticker_.expires_after(milliseconds(options_.idle_ms));
  ticker_.async_wait([this](const error_code& error) {
    if (!error && running_) tick();
  });
}

void PeerLinks::check_peer(Peer& peer, PeerTime now) {
  for (Link& link : peer.links) {
    if (link.connection) link.connection->check(now);
  }
  Link& control = peer.links[static_cast<size_t>(PeerChannel::kControl)];
  // Without a control channel the others end too when it stays away.
  PeerTime heard = control.connection ? control.connection->last_heard() : peer.missing_since;
  if (control.connection) control.connection->say_idle(now - milliseconds(options_.idle_ms));
  if (now - heard < milliseconds(options_.silence_limit_ms)) return;
  std::string why = "nothing heard for " + std::to_string(options_.silence_limit_ms) + " ms";
  for (Link& link : peer.links) {
    if (link.connection) link.connection->abandon(why);
  }
}

// --- log -------------------------------------------------------------------------------------------------------------

bool PeerLinks::may_log_stranger() {
  PeerTime now = std::chrono::steady_clock::now();
  if (now - lines_since_ > kRefusalLinesTime) {
    if (lines_ > kRefusalLinesMax) {
      options_.log.warning("peer port: refused ", lines_ - kRefusalLinesMax, " more connections meanwhile");
    }
    lines_since_ = now;
    lines_ = 0;
  }
  return ++lines_ <= kRefusalLinesMax;
}

// Attempts repeat for as long as a peer is away: the same words are said once a minute.
void PeerLinks::complain(Peer& peer, const std::string& what) {
  PeerTime now = std::chrono::steady_clock::now();
  if (peer.complaint == what && now - peer.complained < kSameComplaintTime) return;
  peer.complaint = what;
  peer.complained = now;
  options_.log.warning("node ", peer.id, " at ", peer.address, ": ", what);
}

}  // namespace trilog
