#include "broker/runtime/tcp_transport.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "broker/runtime/peer_wire.h"
#include "tests/broker/runtime/tcp_world.h"

namespace trilog::testing {
namespace {

INSTANTIATE_TEST_SUITE_P(RealSockets, PeerTransportContract,
                         ::testing::Values([] { return std::unique_ptr<PeerWorld>(std::make_unique<TcpWorld>()); }),
                         [](const auto&) { return std::string("Tcp"); });

constexpr BrokerId kOne{1};
constexpr BrokerId kTwo{2};
constexpr BrokerId kThree{3};
constexpr PeerChannel kControl = PeerChannel::kControl;
constexpr PeerChannel kReplication = PeerChannel::kReplication;

// A client that says what it likes. Blocking, but not for ever.
class RawPeer {
 public:
  explicit RawPeer(int port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    timeval limit{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~RawPeer() { ::close(fd_); }
  RawPeer(const RawPeer&) = delete;
  RawPeer& operator=(const RawPeer&) = delete;
  void send(ByteView bytes) { (void)::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  // True if the other side closes, whatever it says before.
  bool is_closed() {
    std::array<std::byte, 4096> some;
    ssize_t got = 0;
    do {
      got = ::recv(fd_, some.data(), some.size(), 0);
    } while (got > 0);
    return got == 0 || errno == ECONNRESET;
  }
  PeerHello receive_hello() {
    Bytes front(kPeerSizeBytes);
    CHECK(receive(front));
    Bytes rest(peer_hello_size(front).value());
    CHECK(receive(rest));
    return decode_peer_hello(rest).value();
  }
  bool receive(Bytes& into) {
    return ::recv(fd_, into.data(), into.size(), MSG_WAITALL) == static_cast<ssize_t>(into.size());
  }

 private:
  int fd_;
};

PeerHello hello_of(BrokerId from, BrokerId to, PeerChannel channel = kControl) {
  PeerHello hello;
  hello.channel = channel;
  hello.cluster = kTestCluster;
  hello.identity = PeerWorld::identity_of(from);
  hello.expected = to;
  hello.incarnation = 99;
  hello.quorum = "1,2,3";
  return hello;
}

Bytes frame_bytes(const PeerFrame& frame) {
  Bytes bytes = Bytes::copy_of(ByteView(encode_peer_prefix(frame)));
  bytes.append(frame.body);
  bytes.append(frame.bulk);
  return bytes;
}

PeerFrame small_frame() {
  PeerFrame frame;
  frame.kind = PeerKind::kRaft;
  frame.body = Bytes::copy_of("who leads?");
  return frame;
}

bool still_answers(TcpWorld& world, BrokerId node) {
  RawPeer peer(world.port(node));
  peer.send(encode_peer_hello(hello_of(kThree, node)));
  return peer.receive_hello().what == PeerHello::What::kHello;
}

// --- strangers -------------------------------------------------------------------------------------------------------

TEST(TcpTransport, TurnsStrangersAwayAndSaysWhatTheySpeak) {
  TcpWorld world;
  world.start(kOne);
  const std::pair<std::string, std::string> strangers[] = {
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "speaks HTTP/2, as gRPC clients do"},
      {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "speaks HTTP"},
      {std::string("\x16\x03\x01\x02\x00\x01", 6), "speaks TLS"},
      // ApiVersions of a Kafka client.
      {std::string("\0\0\0\x19\0\x12\0\x03\0\0\0\x01\0\x07"
                   "abcdefgabcdefgab",
                   29),
       "speaks something else than the protocol between brokers"},
      {std::string("\xff\xff\xff\xff", 4), "speaks something else"},
      {std::string("\0\0\0\0", 4), "speaks something else"},
  };
  for (const auto& [says, logged] : strangers) {
    RawPeer stranger(world.port(kOne));
    stranger.send(as_bytes(says));
    EXPECT_TRUE(stranger.is_closed());
    EXPECT_TRUE(world.logs(logged)) << world.log();
  }
  EXPECT_TRUE(still_answers(world, kOne));
}

TEST(TcpTransport, TurnsAwayAHelloWithAnyByteChanged) {
  TcpWorld world;
  world.start(kOne);
  const Bytes good = encode_peer_hello(hello_of(kThree, kOne));
  for (size_t i = 0; i < good.size(); ++i) {
    Bytes bad = Bytes::copy_of(good.view());
    bad.data()[i] ^= std::byte{0x01};
    RawPeer stranger(world.port(kOne));
    stranger.send(bad);
    // A size that grew wants more: end what is said.
    stranger.send(as_bytes(std::string(2'048, '\0')));
    EXPECT_TRUE(stranger.is_closed()) << "byte " << i;
    EXPECT_FALSE(world.transport(kOne).connected(kThree, kControl)) << "byte " << i;
  }
  EXPECT_TRUE(still_answers(world, kOne));
}

TEST(TcpTransport, GivesUpOnWhoeverSaysNothing) {
  TcpWorld world;
  TcpTransportOptions options = world.options(kOne);
  options.hello_limit_ms = 30;
  options.strangers_max = 2;
  world.start(kOne, PeerWorld::identity_of(kOne), options, kTestCluster);
  RawPeer silent(world.port(kOne));
  RawPeer half(world.port(kOne));
  half.send(encode_peer_hello(hello_of(kThree, kOne)).view().first(20));
  EXPECT_TRUE(silent.is_closed());
  EXPECT_TRUE(half.is_closed());
  EXPECT_TRUE(world.logs("no hello within 30 ms"));
  EXPECT_TRUE(still_answers(world, kOne));
}

TEST(TcpTransport, HoldsFewStrangersAtOnce) {
  TcpWorld world;
  TcpTransportOptions options = world.options(kOne);
  options.strangers_max = 2;
  world.start(kOne, PeerWorld::identity_of(kOne), options, kTestCluster);
  RawPeer first(world.port(kOne));
  auto second = std::make_unique<RawPeer>(world.port(kOne));
  RawPeer third(world.port(kOne));
  EXPECT_TRUE(third.is_closed());
  EXPECT_TRUE(world.logs("have not said who they are"));
  second.reset();
  EXPECT_TRUE(world.run_until([&] {
    RawPeer again(world.port(kOne));
    again.send(encode_peer_hello(hello_of(kThree, kOne)));
    Bytes front(kPeerSizeBytes);
    return again.receive(front);
  }));
}

struct Refusal {
  const char* name;
  std::function<void(PeerHello&)> change;
  std::string says;
};

TEST(TcpTransport, RefusesWhoDoesNotBelongAndTellsBothWhy) {
  TcpWorld world;
  world.start(kOne);
  const Refusal refusals[] = {
      {"another cluster", [](PeerHello& h) { h.cluster = ClusterId(6, 6); }, "belongs to cluster"},
      {"not a peer", [](PeerHello& h) { h.identity.broker = BrokerId(7); }, "node 7 is not among the peers of node 1"},
      {"the same id", [](PeerHello& h) { h.identity.broker = kOne; }, "two nodes have the id 1"},
      {"looks for another", [](PeerHello& h) { h.expected = kTwo; }, "looks for node 2 where node 1 is"},
      {"another list", [](PeerHello& h) { h.quorum = "1,3,4"; }, "peers of node 3 are 1,3,4, of node 1 1,2,3"},
      {"a later version", [](PeerHello& h) { h.version = 2; }, "speaks version 2"},
  };
  for (const Refusal& refusal : refusals) {
    PeerHello hello = hello_of(kThree, kOne);
    refusal.change(hello);
    RawPeer peer(world.port(kOne));
    peer.send(encode_peer_hello(hello));
    PeerHello answer = peer.receive_hello();
    EXPECT_EQ(answer.what, PeerHello::What::kRefused) << refusal.name;
    EXPECT_NE(answer.why.find(refusal.says), std::string::npos) << answer.why;
    EXPECT_TRUE(peer.is_closed()) << refusal.name;
    EXPECT_TRUE(world.logs(refusal.says)) << world.log();
  }
  EXPECT_FALSE(world.transport(kOne).connected(kThree, kControl));
}

TEST(TcpTransport, RefusesASecondProcessWithTheIdOfAConnectedOne) {
  TcpWorld world;
  world.start(kOne);
  world.start(kTwo);
  ASSERT_TRUE(world.run_until([&] { return world.connected(kOne, kTwo); }));
  PeerHello impostor = hello_of(kTwo, kOne);
  impostor.identity.directory = DirectoryId(66, 66);
  RawPeer peer(world.port(kOne));
  peer.send(encode_peer_hello(impostor));
  EXPECT_NE(peer.receive_hello().why.find("two nodes have the id 2"), std::string::npos);
  EXPECT_TRUE(world.connected(kOne, kTwo));
  EXPECT_TRUE(world.recorder(kOne, 0).losses(kTwo, kControl).empty());
}

// A request that came between the start of a node and its first listener would be answered by nobody.
TEST(TcpTransport, NobodyIsConnectedBeforeEveryShardListens) {
  TcpWorld world;
  ShardPool pool({.shards = 2, .io_threads_max = 1});
  auto opened = TcpTransport::open(world.options(kTwo), pool.envs());
  ASSERT_TRUE(opened.ok()) << opened.status().to_string();
  TcpTransport& two = **opened;
  PeerRecorder first([] {}), second([] {});
  two.listen(0, &first);
  two.start(kTestCluster, PeerWorld::identity_of(kTwo).directory);
  world.start(kOne);
  world.start(kThree);
  ASSERT_TRUE(world.run_until([&] { return world.connected(kOne, kThree); }));
  EXPECT_FALSE(two.connected(kOne, kControl));
  EXPECT_FALSE(world.transport(kOne).connected(kTwo, kControl));
  two.listen(1, &second);
  EXPECT_TRUE(world.run_until([&] { return world.transport(kOne).connected(kTwo, kControl); }));
  two.stop();
}

TEST(TcpTransport, LetsAnEmptyFolderOfNoClusterIn) {
  TcpWorld world;
  PeerIdentity empty = PeerWorld::identity_of(kTwo);
  empty.empty = true;
  world.start(kOne);
  world.start(kTwo, empty, world.options(kTwo), ClusterId(8, 8));
  ASSERT_TRUE(world.run_until([&] { return world.connected(kOne, kTwo); }));
  // Formed into the cluster of the others.
  world.tcp(kTwo).set_cluster(kTestCluster);
  world.tcp(kTwo).set_empty(false);
  EXPECT_TRUE(
      world.run_until([&] { return world.connected(kOne, kTwo) && !world.transport(kOne).identity(kTwo).empty; }));
  for (bool refused : world.recorder(kOne, 0).losses(kTwo, kControl)) EXPECT_FALSE(refused) << "it lives on";
}

TEST(TcpTransport, SaysWhenAnotherNodeAnswersAtThePlaceOfAPeer) {
  TcpWorld world;
  world.start(kOne);
  TcpTransportOptions options = world.options(kThree);
  options.peers[kTwo] = world.address(kOne);
  world.start(kThree, PeerWorld::identity_of(kThree), options, kTestCluster);
  EXPECT_TRUE(world.logs("looks for node 2 where node 1 is")) << world.log();
  EXPECT_TRUE(world.run_until([&] { return world.connected(kOne, kThree); }));
  EXPECT_FALSE(world.transport(kThree).connected(kTwo, kControl));
}

TEST(TcpTransport, SaysThatItsPortIsTaken) {
  TcpWorld world;
  world.start(kOne);
  ShardPool pool({.shards = 1, .io_threads_max = 1});
  auto second = TcpTransport::open(world.options(kOne), pool.envs());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), Errc::kBusy);
  EXPECT_NE(second.status().message().find("in use"), std::string_view::npos);
  TcpTransportOptions wrong = world.options(kTwo);
  wrong.listen = "192.0.2.1:1";
  EXPECT_EQ(TcpTransport::open(wrong, pool.envs()).status().code(), Errc::kInvalidArgument);
}

TEST(TcpTransport, SurvivesAWantOfDescriptors) {
  TcpWorld world;
  world.start(kOne);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  {
    RawPeer waiting(world.port(kOne));  // so that what follows needs no descriptor of ours
    ASSERT_TRUE(world.run_until([&] { return true; }));
    int highest = ::dup(0);
    ASSERT_GE(highest, 0);
    int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ::close(highest);
    rlimit few = before;
    few.rlim_cur = static_cast<rlim_t>(highest);  // every lower one is in use
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(world.port(kOne)));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_TRUE(world.logs("cannot accept"));
    ::setrlimit(RLIMIT_NOFILE, &before);
    ::close(socket);
  }
  EXPECT_TRUE(still_answers(world, kOne));
}

// --- broken connections ----------------------------------------------------------------------------------------------

TEST(TcpTransport, EndsAConnectionWithAnyByteOfAFrameChangedAndDeliversNothingWrong) {
  TcpWorld world;
  TcpTransportOptions options = world.options(kOne);
  options.idle_ms = 20;
  options.silence_limit_ms = 100;  // a length that grew: the rest never comes
  world.start(kOne, PeerWorld::identity_of(kOne), options, kTestCluster);
  const Bytes good = frame_bytes(small_frame());
  PeerRecorder& recorder = world.recorder(kOne, 0);
  for (size_t i = 0; i < good.size(); ++i) {
    Bytes bad = Bytes::copy_of(good.view());
    bad.data()[i] ^= std::byte{0x01};
    RawPeer peer(world.port(kOne));
    peer.send(encode_peer_hello(hello_of(kThree, kOne)));
    ASSERT_EQ(peer.receive_hello().what, PeerHello::What::kHello);
    peer.send(good);
    peer.send(bad);
    peer.send(Bytes::copy_of(std::string(300, 'x')));
    EXPECT_TRUE(peer.is_closed()) << "byte " << i;
    ASSERT_TRUE(world.run_until([&] { return recorder.losses(kThree, kControl).size() == i + 1; }));
    EXPECT_EQ(recorder.frames(kThree, kControl), i + 1) << "byte " << i;
  }
  EXPECT_TRUE(world.logs("sent damaged bytes"));
}

TEST(TcpTransport, NoticesSilenceAndSaysThatItIsNotGone) {
  TcpWorld world;
  TcpTransportOptions options = world.options(kOne);
  options.idle_ms = 10;
  options.silence_limit_ms = 60;
  world.start(kOne, PeerWorld::identity_of(kOne), options, kTestCluster);
  RawPeer control(world.port(kOne));
  control.send(encode_peer_hello(hello_of(kThree, kOne)));
  RawPeer replication(world.port(kOne));
  replication.send(encode_peer_hello(hello_of(kThree, kOne, kReplication)));
  PeerRecorder& recorder = world.recorder(kOne, 0);
  for (PeerChannel channel : {kControl, kReplication}) {
    ASSERT_TRUE(world.run_until([&] { return !recorder.losses(kThree, channel).empty(); }));
    EXPECT_EQ(recorder.losses(kThree, channel), std::vector<bool>{false});
  }
  EXPECT_TRUE(control.is_closed());
  EXPECT_TRUE(replication.is_closed());
  EXPECT_TRUE(world.logs("nothing heard for 60 ms"));
}

TEST(TcpTransport, StaysConnectedWhenThereIsNothingToSay) {
  TcpWorld world;
  for (BrokerId node : {kOne, kTwo}) {
    TcpTransportOptions options = world.options(node);
    options.idle_ms = 5;
    options.silence_limit_ms = 200;
    world.start(node, PeerWorld::identity_of(node), options, kTestCluster);
  }
  ASSERT_TRUE(world.run_until([&] { return world.connected(kOne, kTwo); }));
  auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(600);
  ASSERT_TRUE(world.run_until([&] { return std::chrono::steady_clock::now() > until; }));
  EXPECT_TRUE(world.connected(kOne, kTwo));
  EXPECT_TRUE(world.recorder(kOne, 0).losses(kTwo, kControl).empty()) << world.log();
}

TEST(TcpTransport, ToldGoodbyeItDoesNotTakeThePeerForDead) {
  TcpWorld world;
  world.start(kOne);
  RawPeer peer(world.port(kOne));
  peer.send(encode_peer_hello(hello_of(kThree, kOne)));
  ASSERT_EQ(peer.receive_hello().what, PeerHello::What::kHello);
  PeerFrame goodbye;
  goodbye.kind = kPeerGoodbye;
  goodbye.body = Bytes::copy_of("tea time");
  peer.send(frame_bytes(goodbye));
  EXPECT_TRUE(peer.is_closed());
  EXPECT_TRUE(world.logs("said goodbye: tea time"));
  PeerRecorder& recorder = world.recorder(kOne, 0);
  ASSERT_TRUE(world.run_until([&] { return !recorder.losses(kThree, kControl).empty(); }));
  EXPECT_EQ(recorder.losses(kThree, kControl), std::vector<bool>{false});
}

TEST(TcpTransport, AKnockBringsTheCallAtOnce) {
  TcpWorld world;
  // Node 2 calls node 1, but waits long between attempts; node 1 comes later and knocks.
  TcpTransportOptions patient = world.options(kTwo);
  patient.retry_ms_min = patient.retry_ms_max = 3'600'000;
  world.start(kTwo, PeerWorld::identity_of(kTwo), patient, kTestCluster);
  PeerRecorder& recorder = world.recorder(kTwo, 0);
  ASSERT_TRUE(world.run_until([&] {
    return recorder.count(PeerEvent::What::kDisconnected, kOne, PeerChannel::kBulk) == 1 &&
           recorder.count(PeerEvent::What::kDisconnected, kOne, kControl) == 1;
  })) << "the refused calls are told";
  world.start(kOne);
  EXPECT_TRUE(world.run_until([&] { return world.connected(kOne, kTwo); }));
}

TEST(TcpTransport, LosesALinkThatIsGarbledAndMakesAnotherOne) {
  TcpWorld world;
  world.start(kOne);
  world.start(kTwo);
  ASSERT_TRUE(world.run_until([&] { return world.connected(kOne, kTwo); }));
  {
    // The same process, as far as node 1 can see, calls anew and then talks nonsense.
    PeerHello hello = hello_of(kTwo, kOne, kReplication);
    RawPeer peer(world.port(kOne));
    peer.send(encode_peer_hello(hello));
    ASSERT_EQ(peer.receive_hello().what, PeerHello::What::kHello);
    peer.send(as_bytes("this is not a frame, but it is long enough to be taken for one"));
    EXPECT_TRUE(peer.is_closed());
  }
  ASSERT_TRUE(world.run_until([&] { return world.connected(kOne, kTwo); })) << world.log();
  ASSERT_TRUE(world.run_until([&] { return world.transport(kTwo).send(kOne, kReplication, small_frame()); }));
  EXPECT_TRUE(world.run_until([&] { return world.recorder(kOne, 0).frames(kTwo, kReplication) == 1; }));
}

// --- limits ----------------------------------------------------------------------------------------------------------

TEST(TcpTransport, RefusesFramesOverTheLimits) {
  TcpWorld world;
  world.start(kOne);
  world.start(kTwo);
  ASSERT_TRUE(world.run_until([&] { return world.connected(kOne, kTwo); }));
  PeerFrame body;
  body.body = Bytes(kPeerBodyBytesMax + 1);
  EXPECT_FALSE(world.transport(kOne).send(kTwo, kControl, std::move(body)));
  PeerFrame bulk;
  bulk.bulk = SharedBytes(Bytes(kPeerBulkBytesMax + 1));
  EXPECT_FALSE(world.transport(kOne).send(kTwo, kControl, std::move(bulk)));
  // Both at their limits at once, alone, is fine.
  PeerFrame largest;
  largest.body = Bytes(kPeerBodyBytesMax);
  largest.bulk = SharedBytes(Bytes(kPeerBulkBytesMax));
  EXPECT_TRUE(world.transport(kOne).send(kTwo, kControl, std::move(largest)));
  EXPECT_TRUE(world.run_until([&] { return world.recorder(kTwo, 0).frames(kOne, kControl) == 1; }));
}

TEST(TcpTransport, ASlowShardFillsTheSendersQueueAndNothingIsLost) {
  TcpWorld world;
  TcpTransportOptions options = world.options(kTwo);
  options.unread_bytes_max = size_t{4} << 20;
  world.start(kOne);
  world.start(kTwo, PeerWorld::identity_of(kTwo), options, kTestCluster);
  ASSERT_TRUE(world.run_until([&] { return world.connected(kOne, kTwo); }));
  std::promise<void> go_on;
  std::promise<void> stuck;
  world.env(kTwo, 0).executor().post([&] {
    stuck.set_value();
    go_on.get_future().get();
  });
  stuck.get_future().get();
  SharedBytes megabyte(Bytes(size_t{1} << 20));
  uint64_t sent = 0;
  auto send_one = [&] {
    PeerFrame frame;
    frame.call = sent;
    frame.bulk = megabyte;
    return world.transport(kOne).send(kTwo, kReplication, std::move(frame));
  };
  ASSERT_TRUE(world.run_until([&] {
    while (send_one()) ++sent;
    // Full for good: the queue, the two kernels' buffers and what was received unread.
    return sent >= (kPeerQueueBytesMax >> 20);
  }));
  EXPECT_TRUE(world.transport(kOne).send(kTwo, kControl, small_frame())) << "other channels are not held up";
  EXPECT_LT(sent, (kPeerQueueBytesMax >> 20) + 64);
  go_on.set_value();
  PeerRecorder& recorder = world.recorder(kTwo, 0);
  ASSERT_TRUE(world.run_until([&] { return recorder.frames(kOne, kReplication) == sent; }));
  recorder.with([&](const std::vector<PeerEvent>& events) {
    uint64_t next = 0;
    for (const PeerEvent& event : events) {
      if (event.what != PeerEvent::What::kFrame || event.channel != kReplication) continue;
      EXPECT_EQ(event.frame.call, next++);
      EXPECT_EQ(event.frame.bulk.size(), megabyte.size());
    }
    return 0;
  });
  EXPECT_TRUE(recorder.losses(kOne, kReplication).empty());
}

TEST(TcpTransport, DoesNotCopyABulkOnItsWayOut) {
  TcpWorld world;
  world.start(kOne);
  world.start(kTwo);
  ASSERT_TRUE(world.run_until([&] { return world.connected(kOne, kTwo); }));
  auto owner = std::make_shared<Bytes>(size_t{1} << 20);
  std::weak_ptr<Bytes> alive = owner;
  PeerFrame frame;
  frame.bulk = SharedBytes(owner, owner->view());
  owner.reset();
  ASSERT_TRUE(world.transport(kOne).send(kTwo, kReplication, std::move(frame)));
  ASSERT_TRUE(world.run_until([&] { return world.recorder(kTwo, 0).frames(kOne, kReplication) == 1; }));
  EXPECT_TRUE(world.run_until([&] { return alive.expired(); })) << "let go of once it is out";
}

TEST(TcpTransport, StopsInTheMiddleOfEverything) {
  for (int round = 0; round < 10; ++round) {
    TcpWorld world;
    world.start(kOne);
    world.start(kTwo);
    world.start(kThree);
    if (round % 2 == 0) {
      ASSERT_TRUE(world.run_until([&] { return world.connected(kOne, kTwo); }));
    }
    SharedBytes megabyte(Bytes(size_t{1} << 20));
    for (int i = 0; i < 20; ++i) {
      PeerFrame frame;
      frame.bulk = megabyte;
      (void)world.transport(kTwo).send(kOne, kReplication, std::move(frame));
    }
    world.tcp(kTwo).stop();
    world.tcp(kTwo).stop();
    EXPECT_FALSE(world.transport(kTwo).send(kOne, kReplication, small_frame()));
    EXPECT_FALSE(world.transport(kTwo).connected(kOne, kReplication));
    EXPECT_EQ(world.transport(kTwo).identity(kOne), PeerIdentity());
  }
}

}  // namespace
}  // namespace trilog::testing
