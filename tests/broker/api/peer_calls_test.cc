// Calls between brokers: whose answer is whose.
#include "broker/api/peer_calls.h"

#include <gtest/gtest.h>

#include <deque>
#include <optional>
#include <utility>

#include "tests/sim/sim_env.h"

namespace trilog {
namespace {

constexpr BrokerId kPeer{2};

// Keeps what is sent.
class Outbox : public PeerTransport {
 public:
  bool send(BrokerId, PeerChannel, PeerFrame frame) override {
    sent.push_back(std::move(frame));
    return true;
  }
  bool connected(BrokerId, PeerChannel) const override { return true; }
  PeerIdentity identity(BrokerId) const override { return {}; }
  void listen(uint32_t, PeerListener*) override {}
  void set_empty(bool) override {}

  std::deque<PeerFrame> sent;
};

PeerFrame answer_to(const PeerFrame& question) {
  PeerFrame frame;
  frame.kind = question.kind;
  frame.call = question.call;
  frame.answer = true;
  return frame;
}

TEST(PeerCalls, AnAnswerToACallOfAnEarlierProcessIsAnAnswerToNothing) {
  sim::World world(1);
  sim::SimDisk disk(world.scheduler());
  Outbox outbox;
  auto env = world.make_env(disk);
  {
    PeerCalls earlier(*env, outbox, 0);
    earlier.call(kPeer, PeerChannel::kControl, {.kind = PeerKind::kHeartbeat}, 1'000'000'000, [](auto) {});
  }
  PeerFrame late = answer_to(outbox.sent.front());
  env = world.make_env(disk);
  PeerCalls calls(*env, outbox, 0);
  std::optional<Result<PeerFrame>> ended;
  calls.call(kPeer, PeerChannel::kControl, {.kind = PeerKind::kHeartbeat}, 1'000'000'000,
             [&](Result<PeerFrame> answer) { ended.emplace(std::move(answer)); });
  EXPECT_TRUE(calls.on_frame(kPeer, late));
  world.run_until_idle();
  EXPECT_FALSE(ended.has_value());
  PeerFrame own = answer_to(outbox.sent.back());
  EXPECT_TRUE(calls.on_frame(kPeer, own));
  world.run_until_idle();
  ASSERT_TRUE(ended.has_value());
  EXPECT_TRUE(ended->ok());
}

}  // namespace
}  // namespace trilog
