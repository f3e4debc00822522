#include "broker/replica/purgatory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/sim/sim_env.h"

namespace trilog {
namespace {

using ::testing::ElementsAre;

const TopicPartition kOrders{TopicId(1, 1), PartitionId(0)};
const TopicPartition kOthers{TopicId(1, 2), PartitionId(0)};
const WatchKey kOrdersMark{kOrders, Watched::kHighWatermark};
const WatchKey kOthersMark{kOthers, Watched::kHighWatermark};

struct PurgatoryTest : ::testing::Test {
  // Writes its name and how it ended into the list.
  struct Noting : DelayedOperation {
    Noting(PurgatoryTest& of, std::string called, const bool& is_ready) : test(of), name(called), done(is_ready) {}
    bool ready() override {
      ++test.asked;
      return done;
    }
    void complete(Ending ending) override {
      static const char* const kEndings[] = {"ready", "timed out", "cancelled", "stopped"};
      test.ended.push_back(name + " " + kEndings[static_cast<size_t>(ending)]);
    }
    PurgatoryTest& test;
    std::string name;
    const bool& done;
  };
  Purgatory::OperationId park(const std::string& name, std::vector<Watch> watches, int64_t deadline_ns = INT64_MAX) {
    return purgatory.add(std::make_unique<Noting>(*this, name, all_ready), std::move(watches), deadline_ns);
  }
  int64_t in_ms(int64_t ms) { return world.now_ns() + ms * 1'000'000; }
  void run_for_ms(int64_t ms) {
    world.run_for(ms * 1'000'000);
    purgatory.check_invariants();
  }

  sim::World world{1};
  sim::SimDisk disk{world.scheduler()};
  std::unique_ptr<sim::SimEnv> env = world.make_env(disk);
  Purgatory purgatory{*env, 5};
  bool all_ready = true;
  int asked = 0;
  std::vector<std::string> ended;
};

TEST_F(PurgatoryTest, CompletesWhatThePositionHasReachedInTheOrderOfOffsets) {
  park("third", {{kOrdersMark, Offset(30)}});
  park("first", {{kOrdersMark, Offset(10)}});
  park("second", {{kOrdersMark, Offset(20)}});
  park("elsewhere", {{kOthersMark, Offset(1)}});
  purgatory.reached(kOrdersMark, Offset(9));
  EXPECT_THAT(ended, ElementsAre());
  purgatory.reached(kOrdersMark, Offset(20));
  EXPECT_THAT(ended, ElementsAre("first ready", "second ready"));
  purgatory.check_invariants();
  EXPECT_EQ(purgatory.size(), 2u);
}

TEST_F(PurgatoryTest, DoesNotAskAnOperationWhosePositionIsNotReached) {
  park("far", {{kOrdersMark, Offset(30)}});
  purgatory.reached(kOrdersMark, Offset(29));
  EXPECT_EQ(asked, 0);
}

TEST_F(PurgatoryTest, AnOperationThatIsNotReadyStays) {
  all_ready = false;
  park("waits", {{kOrdersMark, Offset(10)}});
  purgatory.reached(kOrdersMark, Offset(10));
  EXPECT_THAT(ended, ElementsAre());
  all_ready = true;
  purgatory.reached(kOrdersMark, Offset(11));
  EXPECT_THAT(ended, ElementsAre("waits ready"));
}

TEST_F(PurgatoryTest, AnOperationWithSeveralWatchesEndsOnce) {
  park("both", {{kOrdersMark, Offset(10)}, {kOthersMark, Offset(5)}, {kOthersMark, Offset(5)}});
  purgatory.reached(kOthersMark, Offset(5));
  purgatory.reached(kOrdersMark, Offset(10));
  purgatory.check_invariants();
  EXPECT_THAT(ended, ElementsAre("both ready"));
}

TEST_F(PurgatoryTest, ARecheckAsksEverythingOfThePartitionAndNothingElse) {
  park("mark", {{kOrdersMark, Offset(100)}});
  park("end", {{{kOrders, Watched::kLogEnd}, Offset(100)}});
  park("other", {{kOthersMark, Offset(100)}});
  purgatory.recheck(kOrders);
  EXPECT_THAT(ended, ElementsAre("mark ready", "end ready"));
}

TEST_F(PurgatoryTest, EndsOperationsAtTheirDeadlinesInOrder) {
  park("late", {{kOrdersMark, Offset(10)}}, in_ms(30));
  park("early", {{kOrdersMark, Offset(10)}}, in_ms(10));
  park("never", {{kOrdersMark, Offset(10)}});
  run_for_ms(9);
  EXPECT_THAT(ended, ElementsAre());
  run_for_ms(1);
  EXPECT_THAT(ended, ElementsAre("early timed out"));
  run_for_ms(100);
  EXPECT_THAT(ended, ElementsAre("early timed out", "late timed out"));
}

TEST_F(PurgatoryTest, AnOperationThatEndedInTimeDoesNotTimeOut) {
  park("done", {{kOrdersMark, Offset(10)}}, in_ms(10));
  purgatory.reached(kOrdersMark, Offset(10));
  park("next", {{kOrdersMark, Offset(20)}}, in_ms(50));
  run_for_ms(20);
  EXPECT_THAT(ended, ElementsAre("done ready"));
  run_for_ms(40);
  EXPECT_THAT(ended, ElementsAre("done ready", "next timed out"));
}

TEST_F(PurgatoryTest, CancelsOnceAndIgnoresSpentIds) {
  Purgatory::OperationId id = park("x", {{kOrdersMark, Offset(10)}}, in_ms(10));
  purgatory.cancel(id);
  purgatory.cancel(id);
  purgatory.cancel(12345);
  run_for_ms(20);
  EXPECT_THAT(ended, ElementsAre("x cancelled"));
}

TEST_F(PurgatoryTest, StoppingEndsEverythingInTheOrderOfArrival) {
  park("a", {{kOrdersMark, Offset(30)}});
  park("b", {{kOthersMark, Offset(20)}}, in_ms(10));
  park("c", {{kOrdersMark, Offset(10)}});
  purgatory.stop();
  EXPECT_THAT(ended, ElementsAre("a stopped", "b stopped", "c stopped"));
  EXPECT_EQ(purgatory.size(), 0u);
  run_for_ms(20);
  EXPECT_EQ(ended.size(), 3u);
}

TEST_F(PurgatoryTest, IsFullAtItsLimit) {
  for (int i = 0; i < 5; ++i) {
    EXPECT_FALSE(purgatory.full());
    park("x", {{kOrdersMark, Offset(10)}});
  }
  EXPECT_TRUE(purgatory.full());
}

}  // namespace
}  // namespace trilog
