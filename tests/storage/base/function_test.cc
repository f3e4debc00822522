#include "storage/base/function.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <utility>

namespace trilog {
namespace {

TEST(UniqueFunction, OwnsWhatItCaptures) {
  auto number = std::make_unique<int>(3);
  UniqueFunction<int(int)> add([number = std::move(number)](int other) { return *number + other; });
  EXPECT_EQ(add(4), 7);
}

TEST(UniqueFunction, IsEmptyWhenNewAndAfterAMove) {
  UniqueFunction<void()> empty;
  EXPECT_FALSE(empty);
  EXPECT_FALSE(UniqueFunction<void()>(nullptr));
  int calls = 0;
  UniqueFunction<void()> first([&calls] { ++calls; });
  UniqueFunction<void()> second(std::move(first));
  EXPECT_FALSE(first);  // NOLINT: the state after a move is promised
  ASSERT_TRUE(second);
  second();
  EXPECT_EQ(calls, 1);
}

// Counts how many copies of a capture are alive, so that a leak or a double destruction shows.
struct Counted {
  explicit Counted(int& alive) : alive_(&alive) { ++*alive_; }
  Counted(Counted&& other) noexcept : alive_(other.alive_) { ++*alive_; }
  ~Counted() { --*alive_; }
  int* alive_;
};

template <size_t kPadding>
void expect_destroyed_once() {
  int alive = 0;
  {
    std::array<char, kPadding> padding{};
    UniqueFunction<size_t()> function([counted = Counted(alive), padding] { return padding.size(); });
    EXPECT_EQ(alive, 1);
    UniqueFunction<size_t()> moved(std::move(function));
    EXPECT_EQ(alive, 1);
    EXPECT_EQ(moved(), kPadding);
    UniqueFunction<size_t()> other([] { return size_t{0}; });
    moved = std::move(other);
    EXPECT_EQ(alive, 0);
    EXPECT_EQ(moved(), 0u);
  }
  EXPECT_EQ(alive, 0);
}

TEST(UniqueFunction, DestroysASmallCaptureOnce) { expect_destroyed_once<1>(); }
TEST(UniqueFunction, DestroysALargeCaptureOnce) { expect_destroyed_once<500>(); }

TEST(UniqueFunction, PassesMoveOnlyAndReferenceArguments) {
  UniqueFunction<std::unique_ptr<int>(std::unique_ptr<int>, int&)> function([](std::unique_ptr<int> value, int& seen) {
    seen = *value;
    return value;
  });
  int seen = 0;
  std::unique_ptr<int> back = function(std::make_unique<int>(9), seen);
  EXPECT_EQ(seen, 9);
  EXPECT_EQ(*back, 9);
}

TEST(UniqueFunction, KeepsItsStateBetweenCalls) {
  UniqueFunction<int()> count([n = 0]() mutable { return ++n; });
  EXPECT_EQ(count(), 1);
  EXPECT_EQ(count(), 2);
}

TEST(UniqueFunctionDeathTest, CallingAnEmptyOneStopsTheProcess) {
  UniqueFunction<void()> empty;
  EXPECT_DEATH(empty(), "check failed");
}

}  // namespace
}  // namespace trilog
