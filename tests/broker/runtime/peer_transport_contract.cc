#include "tests/broker/runtime/peer_transport_contract.h"

#include <set>
#include <string>

namespace trilog::testing {
namespace {

constexpr BrokerId kOne{1};
constexpr BrokerId kTwo{2};
constexpr BrokerId kThree{3};
constexpr PeerChannel kControl = PeerChannel::kControl;
constexpr PeerChannel kReplication = PeerChannel::kReplication;
constexpr PeerChannel kBulk = PeerChannel::kBulk;
constexpr PeerChannel kAll[] = {kControl, kReplication, kBulk};

PeerFrame numbered(uint64_t number, uint32_t route = 0) {
  PeerFrame frame;
  frame.kind = PeerKind::kPush;
  frame.route = route;
  frame.call = number;
  return frame;
}

Bytes pattern(size_t size, unsigned seed) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes.data()[i] = static_cast<std::byte>((i * 31 + (i >> 12) + seed) & 0xff);
  return bytes;
}

// The calls of the frames that came on one channel, in order.
std::vector<uint64_t> numbers(const PeerRecorder& recorder, BrokerId peer, PeerChannel channel) {
  return recorder.with([&](const std::vector<PeerEvent>& events) {
    std::vector<uint64_t> numbers;
    for (const PeerEvent& event : events) {
      if (event.what != PeerEvent::What::kFrame || event.peer != peer || event.channel != channel) continue;
      numbers.push_back(event.frame.call);
    }
    return numbers;
  });
}

std::vector<uint64_t> first_numbers(uint64_t count) {
  std::vector<uint64_t> numbers;
  for (uint64_t i = 0; i < count; ++i) numbers.push_back(i);
  return numbers;
}

}  // namespace

TEST_P(PeerTransportContract, ConnectsEveryPairOnEveryChannelAndTellsWhoIsThere) {
  for (BrokerId node : {kOne, kTwo, kThree}) world_->start(node);
  ASSERT_TRUE(world_->run_until([&] {
    return world_->connected(kOne, kTwo) && world_->connected(kOne, kThree) && world_->connected(kTwo, kThree);
  }));
  EXPECT_EQ(world_->transport(kOne).identity(kThree), PeerWorld::identity_of(kThree));
  EXPECT_EQ(world_->transport(kThree).identity(kOne), PeerWorld::identity_of(kOne));
  EXPECT_EQ(world_->transport(kThree).identity(BrokerId(9)), PeerIdentity());
  EXPECT_FALSE(world_->transport(kThree).connected(BrokerId(9), kControl));
  for (uint32_t shard : {0u, 1u}) {
    PeerRecorder& recorder = world_->recorder(kTwo, shard);
    for (PeerChannel channel : kAll) {
      EXPECT_TRUE(world_->run_until([&] {
        return recorder.count(PeerEvent::What::kConnected, kOne, channel) == 1 &&
               recorder.count(PeerEvent::What::kConnected, kThree, channel) == 1;
      }));
    }
  }
}

TEST_P(PeerTransportContract, RefusesToSendWhereNobodyIsConnected) {
  world_->start(kOne);
  EXPECT_FALSE(world_->transport(kOne).send(kTwo, kControl, numbered(1)));
  EXPECT_FALSE(world_->transport(kOne).send(BrokerId(9), kControl, numbered(1)));
}

TEST_P(PeerTransportContract, DeliversManyFramesWholeAndInOrder) {
  world_->start(kOne);
  world_->start(kTwo);
  ASSERT_TRUE(world_->run_until([&] { return world_->connected(kOne, kTwo); }));
  constexpr uint64_t kFrames = 3'000;
  for (uint64_t i = 0; i < kFrames; ++i) {
    for (PeerChannel channel : kAll) {
      PeerFrame frame = numbered(i);
      frame.body = pattern(i % 7'000, static_cast<unsigned>(i));
      if (i % 3 == 0) frame.bulk = SharedBytes(pattern(i * 7 % 20'000, static_cast<unsigned>(i)));
      frame.answer = i % 2 == 1;
      ASSERT_TRUE(world_->transport(kOne).send(kTwo, channel, std::move(frame)));
    }
  }
  PeerRecorder& recorder = world_->recorder(kTwo, 0);
  for (PeerChannel channel : kAll) {
    ASSERT_TRUE(world_->run_until([&] { return recorder.frames(kOne, channel) == kFrames; }));
    EXPECT_EQ(numbers(recorder, kOne, channel), first_numbers(kFrames));
  }
  recorder.with([](const std::vector<PeerEvent>& events) {
    for (const PeerEvent& event : events) {
      if (event.what != PeerEvent::What::kFrame) continue;
      uint64_t i = event.frame.call;
      EXPECT_EQ(event.frame.kind, PeerKind::kPush);
      EXPECT_EQ(event.frame.answer, i % 2 == 1);
      EXPECT_TRUE(bytes_equal(event.frame.body, pattern(i % 7'000, static_cast<unsigned>(i))));
      size_t bulk = i % 3 == 0 ? i * 7 % 20'000 : 0;
      EXPECT_TRUE(bytes_equal(event.frame.bulk, pattern(bulk, static_cast<unsigned>(i))));
    }
    return 0;
  });
}

TEST_P(PeerTransportContract, DeliversToTheShardOfTheRoute) {
  world_->start(kOne);
  world_->start(kTwo);
  ASSERT_TRUE(world_->run_until([&] { return world_->connected(kOne, kTwo); }));
  for (uint32_t route = 0; route < 100; ++route) {
    ASSERT_TRUE(world_->transport(kOne).send(kTwo, kReplication, numbered(route, route * 3)));
  }
  for (uint32_t shard : {0u, 1u}) {
    PeerRecorder& recorder = world_->recorder(kTwo, shard);
    ASSERT_TRUE(world_->run_until([&] { return recorder.frames(kOne, kReplication) == 50; }));
    for (uint64_t number : numbers(recorder, kOne, kReplication)) EXPECT_EQ(number * 3 % 2, shard);
  }
}

TEST_P(PeerTransportContract, CarriesTheLargestFrameBothWays) {
  world_->start(kOne);
  world_->start(kTwo);
  ASSERT_TRUE(world_->run_until([&] { return world_->connected(kOne, kTwo); }));
  for (auto [from, to] : {std::pair(kOne, kTwo), std::pair(kTwo, kOne)}) {
    // Queues hold kPeerQueueBytesMax: the largest of both at once need not fit.
    PeerFrame body = numbered(1);
    body.body = pattern(kPeerBodyBytesMax, 3);
    PeerFrame bulk = numbered(2);
    bulk.bulk = SharedBytes(pattern(kPeerBulkBytesMax - (size_t{1} << 20), 5));
    ASSERT_TRUE(world_->transport(from).send(to, kBulk, std::move(body)));
    PeerRecorder& recorder = world_->recorder(to, 0);
    ASSERT_TRUE(world_->run_until([&] { return recorder.frames(from, kBulk) == 1; }));
    ASSERT_TRUE(world_->transport(from).send(to, kBulk, std::move(bulk)));
    ASSERT_TRUE(world_->run_until([&] { return recorder.frames(from, kBulk) == 2; }));
    recorder.with([](const std::vector<PeerEvent>& events) {
      for (const PeerEvent& event : events) {
        if (event.what != PeerEvent::What::kFrame) continue;
        bool is_body = event.frame.call == 1;
        EXPECT_TRUE(bytes_equal(event.frame.body, is_body ? pattern(kPeerBodyBytesMax, 3) : Bytes()));
        EXPECT_TRUE(
            bytes_equal(event.frame.bulk, is_body ? Bytes() : pattern(kPeerBulkBytesMax - (size_t{1} << 20), 5)));
      }
      return 0;
    });
  }
}

TEST_P(PeerTransportContract, TellsOfADeadProcessOncePerChannelAndOfItsReturn) {
  world_->start(kOne);
  world_->start(kTwo);
  ASSERT_TRUE(world_->run_until([&] { return world_->connected(kOne, kTwo); }));
  PeerRecorder& recorder = world_->recorder(kOne, 0);
  ASSERT_TRUE(world_->run_until([&] { return recorder.count(PeerEvent::What::kConnected, kTwo, kBulk) == 1; }));
  world_->kill(kTwo);
  ASSERT_TRUE(world_->run_until([&] {
    for (PeerChannel channel : kAll) {
      if (recorder.losses(kTwo, channel).empty()) return false;
    }
    return true;
  }));
  for (PeerChannel channel : kAll) EXPECT_EQ(recorder.losses(kTwo, channel), std::vector<bool>{true});
  EXPECT_FALSE(world_->transport(kOne).connected(kTwo, kControl));
  EXPECT_FALSE(world_->transport(kOne).send(kTwo, kControl, numbered(1)));
  // Another folder this time.
  recorder.clear();
  PeerIdentity wiped{kTwo, DirectoryId(8, 8), true};
  world_->start(kTwo, wiped);
  ASSERT_TRUE(world_->run_until([&] { return world_->connected(kOne, kTwo); }));
  EXPECT_EQ(world_->transport(kOne).identity(kTwo), wiped);
  ASSERT_TRUE(world_->transport(kOne).send(kTwo, kControl, numbered(7)));
  ASSERT_TRUE(world_->run_until([&] { return world_->recorder(kTwo, 0).frames(kOne, kControl) == 1; }));
  // Meanwhile calling it was refused, any number of times; but it connected once.
  for (PeerChannel channel : kAll) {
    EXPECT_TRUE(world_->run_until([&] { return recorder.count(PeerEvent::What::kConnected, kTwo, channel) == 1; }));
  }
}

TEST_P(PeerTransportContract, TellsWhoeverListensLaterThePresentStateFirst) {
  world_->start(kOne);
  world_->start(kTwo);
  ASSERT_TRUE(world_->run_until([&] { return world_->connected(kOne, kTwo); }));
  PeerRecorder& recorder = world_->recorder(kTwo, 0);
  ASSERT_TRUE(world_->run_until([&] { return recorder.count(PeerEvent::What::kConnected, kOne, kBulk) == 1; }));
  world_->on_shard(kTwo, 0, [&] {
    world_->transport(kTwo).listen(0, nullptr);
    recorder.clear();
  });
  // Nobody listens: dropped. The other shard shows when it has arrived.
  ASSERT_TRUE(world_->transport(kOne).send(kTwo, kControl, numbered(1, 0)));
  ASSERT_TRUE(world_->transport(kOne).send(kTwo, kControl, numbered(2, 1)));
  ASSERT_TRUE(world_->run_until([&] { return world_->recorder(kTwo, 1).frames(kOne, kControl) == 1; }));
  world_->on_shard(kTwo, 0, [&] {
    world_->transport(kTwo).listen(0, &recorder);
    EXPECT_EQ(recorder.with([](const auto& events) { return events.size(); }), 0u) << "told inside the call";
  });
  ASSERT_TRUE(world_->run_until([&] {
    for (PeerChannel channel : kAll) {
      if (recorder.count(PeerEvent::What::kConnected, kOne, channel) != 1) return false;
    }
    return true;
  }));
  ASSERT_TRUE(world_->transport(kOne).send(kTwo, kControl, numbered(3, 0)));
  ASSERT_TRUE(world_->run_until([&] { return recorder.frames(kOne, kControl) == 1; }));
  EXPECT_EQ(numbers(recorder, kOne, kControl), std::vector<uint64_t>{3});
}

TEST_P(PeerTransportContract, TellsAFormedFolderByReconnecting) {
  PeerIdentity empty = PeerWorld::identity_of(kTwo);
  empty.empty = true;
  world_->start(kOne);
  world_->start(kTwo, empty);
  ASSERT_TRUE(world_->run_until([&] { return world_->connected(kOne, kTwo); }));
  EXPECT_TRUE(world_->transport(kOne).identity(kTwo).empty);
  world_->transport(kTwo).set_empty(false);
  ASSERT_TRUE(world_->run_until(
      [&] { return world_->connected(kOne, kTwo) && !world_->transport(kOne).identity(kTwo).empty; }));
  PeerRecorder& recorder = world_->recorder(kOne, 0);
  for (PeerChannel channel : kAll) {
    ASSERT_TRUE(world_->run_until([&] { return recorder.count(PeerEvent::What::kConnected, kTwo, channel) == 2; }));
    EXPECT_EQ(recorder.losses(kTwo, channel).size(), 1u);
  }
}

TEST_P(PeerTransportContract, CallersAndCalledMaySendAtOnce) {
  for (BrokerId node : {kOne, kTwo, kThree}) world_->start(node);
  ASSERT_TRUE(world_->run_until([&] {
    return world_->connected(kOne, kTwo) && world_->connected(kOne, kThree) && world_->connected(kTwo, kThree);
  }));
  constexpr uint64_t kFrames = 500;
  for (uint64_t i = 0; i < kFrames; ++i) {
    for (BrokerId from : {kOne, kTwo, kThree}) {
      for (BrokerId to : {kOne, kTwo, kThree}) {
        if (from == to) continue;
        ASSERT_TRUE(world_->transport(from).send(to, kReplication, numbered(i)));
      }
    }
  }
  for (BrokerId from : {kOne, kTwo, kThree}) {
    for (BrokerId to : {kOne, kTwo, kThree}) {
      if (from == to) continue;
      PeerRecorder& recorder = world_->recorder(to, 0);
      ASSERT_TRUE(world_->run_until([&] { return recorder.frames(from, kReplication) == kFrames; }));
      EXPECT_EQ(numbers(recorder, from, kReplication), first_numbers(kFrames));
    }
  }
}

}  // namespace trilog::testing
