#include "broker/controller/controller_service.h"

#include <gtest/gtest.h>

#include "tests/broker/controller/controller_node.h"

namespace trilog {
namespace {

using testing::ControllerNode;

// Keeps what is sent.
class Outbox final : public PeerTransport {
 public:
  bool send(BrokerId, PeerChannel, PeerFrame frame) override {
    sent.push_back(std::move(frame));
    return true;
  }
  bool connected(BrokerId, PeerChannel) const override { return true; }
  PeerIdentity identity(BrokerId) const override { return {}; }
  void listen(uint32_t, PeerListener*) override {}
  void set_empty(bool) override {}
  void set_cluster(const ClusterId&) override {}
  std::vector<PeerFrame> sent;
};

class ControllerServiceTest : public ::testing::Test {
 protected:
  void SetUp() override { node.run(); }
  // The answer to a call of broker 2.
  PeerFrame ask(PeerKind kind, Bytes body) {
    PeerCalls calls(*node.env, outbox, 0);
    PeerFrame frame;
    frame.kind = kind;
    frame.call = 77;
    frame.body = std::move(body);
    outbox.sent.clear();
    EXPECT_TRUE(answer_controller_call(*node.controller, calls, BrokerId(2), PeerChannel::kControl, frame));
    node.world.run_until_idle();
    if (outbox.sent.size() != 1) return {};
    EXPECT_EQ(outbox.sent[0].call, 77u);
    EXPECT_TRUE(outbox.sent[0].answer);
    return std::move(outbox.sent[0]);
  }
  ControllerNode node;
  Outbox outbox;
};

TEST_F(ControllerServiceTest, RegistersABrokerAndHearsIt) {
  peer::RegisterBrokerRequest request{BrokerId(2), DirectoryId(5, 5), "host:9092", "host:9192", "rack-b", "0.1.0"};
  PeerFrame told = ask(PeerKind::kRegisterBroker, peer::encode_peer_message(request));
  auto registered = peer::decode_peer_message<peer::RegisterBrokerAnswer>(told.body);
  ASSERT_TRUE(registered.ok());
  EXPECT_EQ(registered->error, peer::PeerError::kNone);
  EXPECT_EQ(node.image().find_broker(BrokerId(2))->rack, "rack-b");
  EXPECT_EQ(node.image().find_broker(BrokerId(2))->peer_address, "host:9192");
  peer::HeartbeatRequest beat{BrokerId(2), registered->epoch, node.image().applied(), false, {}};
  told = ask(PeerKind::kHeartbeat, peer::encode_peer_message(beat));
  auto heard = peer::decode_peer_message<peer::HeartbeatAnswer>(told.body);
  ASSERT_TRUE(heard.ok());
  EXPECT_FALSE(heard->fenced);
  request.directory = DirectoryId(6, 6);
  told = ask(PeerKind::kRegisterBroker, peer::encode_peer_message(request));
  EXPECT_EQ(peer::decode_peer_message<peer::RegisterBrokerAnswer>(told.body)->error, peer::PeerError::kOtherDirectory);
}

TEST_F(ControllerServiceTest, RefusesGarbageAndWhoSpeaksForAnother) {
  EXPECT_EQ(ask(PeerKind::kAlterPartition, Bytes::copy_of("garbage")).kind, PeerKind::kRefused);
  Bytes other = peer::encode_peer_message(peer::AllocateProducerIdsRequest{BrokerId(3)});
  EXPECT_EQ(ask(PeerKind::kAllocateProducerIds, std::move(other)).kind, PeerKind::kRefused);
  Bytes own = peer::encode_peer_message(peer::AllocateProducerIdsRequest{BrokerId(2)});
  PeerFrame told = ask(PeerKind::kAllocateProducerIds, std::move(own));
  EXPECT_GT(peer::decode_peer_message<peer::AllocateProducerIdsAnswer>(told.body)->size, 0);
}

TEST_F(ControllerServiceTest, SaysThatItIsNotTheController) {
  node.controller->set_active(false);
  Bytes body = peer::encode_peer_message(peer::ControlledShutdownRequest{BrokerId(2), BrokerEpoch(1)});
  PeerFrame told = ask(PeerKind::kControlledShutdown, std::move(body));
  EXPECT_EQ(peer::decode_peer_message<peer::ControlledShutdownAnswer>(told.body)->error,
            peer::PeerError::kNotController);
}

}  // namespace
}  // namespace trilog
