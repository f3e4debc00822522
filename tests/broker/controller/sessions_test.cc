#include "broker/controller/sessions.h"

#include <gtest/gtest.h>

#include "tests/broker/controller/image_builder.h"

namespace trilog::testing {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr BrokerId kBroker(2);

TEST(Sessions, RefusedConnectionsEndTheSessionOfTheProcessThatWasRegistered) {  // C5
  ImageBuilder builder(3);
  const BrokerEpoch epoch = builder.build()->find_broker(kBroker)->epoch;
  Sessions sessions(3'000 * kMs);
  sessions.refused(kBroker, epoch, 0);
  sessions.refused(kBroker, epoch, 60 * kMs);
  sessions.take_office(*builder.build(), BrokerId(1), 100 * kMs);
  EXPECT_FALSE(sessions.live(kBroker, 100 * kMs));
  EXPECT_TRUE(sessions.ended(*builder.build(), 100 * kMs).contains(kBroker));
}

// By seed 60990 of the simulator: the new process can be reached by everybody but the next controller, so it has heard
// from the last one that it leads on (R18).
TEST(Sessions, RefusalsOfAFormerProcessSayNothingOfTheNextOne) {  // C5, X12
  ImageBuilder builder(3);
  const BrokerEpoch former = builder.build()->find_broker(kBroker)->epoch;
  Sessions sessions(3'000 * kMs);
  sessions.refused(kBroker, former, 0);
  sessions.refused(kBroker, former, 60 * kMs);
  builder.broker(2);
  const BrokerEpoch epoch = builder.build()->find_broker(kBroker)->epoch;
  sessions.take_office(*builder.build(), BrokerId(1), 2'000 * kMs);
  EXPECT_TRUE(sessions.live(kBroker, 2'000 * kMs));
  EXPECT_TRUE(sessions.undecided(*builder.build(), 2'000 * kMs).contains(kBroker));
  // One of it is not two.
  sessions.refused(kBroker, epoch, 2'100 * kMs);
  EXPECT_TRUE(sessions.live(kBroker, 2'100 * kMs));
  sessions.refused(kBroker, epoch, 2'200 * kMs);
  EXPECT_FALSE(sessions.live(kBroker, 2'200 * kMs));
}

}  // namespace
}  // namespace trilog::testing
