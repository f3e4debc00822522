#include "storage/log/producer_state_manager.h"

#include <gtest/gtest.h>

#include "tests/storage/log/state_files/support.h"
#include "tests/support/batches.h"

namespace trilog {
namespace {

constexpr int64_t kNowMs = 5'000'000;
constexpr int64_t kDayMs = 24 * 3600 * 1000;

// A batch of `count` records as producer `id` sends it, stamped with where it lies.
struct Sent {
  int64_t id = 9;
  int16_t epoch = 0;
  int32_t sequence = 0;
  int32_t count = 1;
  int64_t offset = 0;
};

Bytes bytes_of(const Sent& sent) {
  return testing::make_filled_batch(sent.count, 8,
                                    {.producer = {ProducerId(sent.id), ProducerEpoch(sent.epoch), sent.sequence},
                                     .base_offset = Offset(sent.offset),
                                     .leader_epoch = LeaderEpoch(3)});
}

class ProducerState : public ::testing::Test {
 protected:
  SequenceCheck check(const Sent& sent) { return state_.check(RecordBatch::parse(bytes_of(sent)).value()); }
  SequenceVerdict verdict(const Sent& sent) { return check(sent).verdict; }
  void record(const Sent& sent, int64_t now_ms = kNowMs) {
    state_.record(RecordBatch::parse(bytes_of(sent)).value(), now_ms);
  }
  // Batches of ten records each, from sequence and offset 0.
  void record_batches(int32_t count, int64_t id = 9) {
    for (int32_t i = 0; i < count; ++i) record({.id = id, .sequence = 10 * i, .count = 10, .offset = 10 * i});
  }

  ProducerStateManager state_;
};

using enum SequenceVerdict;

TEST_F(ProducerState, ABatchWithoutProducerIsAppendedAndForgotten) {
  Sent anonymous{.id = -1, .epoch = -1, .sequence = -1};
  EXPECT_EQ(verdict(anonymous), kAppend);
  record(anonymous);
  EXPECT_EQ(state_.size(), 0u);
}

TEST_F(ProducerState, AnUnknownProducerMayStartAnywhere) {
  EXPECT_EQ(verdict({.sequence = 0}), kAppend);
  EXPECT_EQ(verdict({.sequence = 77}), kAppend);
}

TEST_F(ProducerState, AcceptsTheNextSequenceOnly) {
  record_batches(2);
  EXPECT_EQ(verdict({.sequence = 20}), kAppend);
  for (int32_t wrong : {21, 19, 15, 5, INT32_MAX}) {
    SequenceCheck answer = check({.sequence = wrong});
    EXPECT_EQ(answer.verdict, kOutOfOrder) << wrong;
    EXPECT_EQ(answer.expected_sequence, 20);
  }
}

TEST_F(ProducerState, ARepeatedBatchIsAnsweredWithItsFirstOffset) {
  record_batches(5);
  SequenceCheck answer = check({.sequence = 30, .count = 10, .offset = 999});
  EXPECT_EQ(answer.verdict, kDuplicate);
  EXPECT_EQ(answer.first_offset, Offset(30));
  EXPECT_EQ(answer.timestamp_ms, testing::kTestTimestampMs);
  EXPECT_EQ(answer.leader_epoch, LeaderEpoch(3));
}

TEST_F(ProducerState, ABatchThatOnlyOverlapsIsOutOfOrder) {
  record_batches(2);
  EXPECT_EQ(verdict({.sequence = 10, .count = 9}), kOutOfOrder);
  EXPECT_EQ(verdict({.sequence = 10, .count = 11}), kOutOfOrder);
}

TEST_F(ProducerState, RemembersTheLast64Batches) {
  record_batches(65);
  EXPECT_EQ(verdict({.sequence = 0, .count = 10}), kOutOfOrder) << "the oldest is forgotten";
  for (int32_t i = 1; i < 65; ++i) EXPECT_EQ(verdict({.sequence = 10 * i, .count = 10}), kDuplicate) << i;
}

TEST_F(ProducerState, SequencesWrapToZero) {
  record({.sequence = INT32_MAX - 4, .count = 5});
  EXPECT_EQ(verdict({.sequence = 0}), kAppend);
  record({.sequence = 0, .count = 3, .offset = 5});
  EXPECT_EQ(verdict({.sequence = 3}), kAppend);
  EXPECT_EQ(verdict({.sequence = INT32_MAX - 4, .count = 5}), kDuplicate);
}

TEST_F(ProducerState, ABatchMayWrapInTheMiddle) {
  record({.sequence = INT32_MAX - 1, .count = 4});
  EXPECT_EQ(verdict({.sequence = 2}), kAppend);
  EXPECT_EQ(verdict({.sequence = INT32_MAX - 1, .count = 4}), kDuplicate);
}

TEST_F(ProducerState, AnOlderEpochIsRefusedEvenAsADuplicate) {
  record({.epoch = 3, .sequence = 0, .count = 10});
  EXPECT_EQ(verdict({.epoch = 2, .sequence = 0, .count = 10}), kOldEpoch);
  EXPECT_EQ(verdict({.epoch = 2, .sequence = 10}), kOldEpoch);
}

TEST_F(ProducerState, ANewerEpochMustStartAtZeroAndForgetsTheOld) {
  record_batches(3);
  SequenceCheck answer = check({.epoch = 1, .sequence = 30});
  EXPECT_EQ(answer.verdict, kOutOfOrder);
  EXPECT_EQ(answer.expected_sequence, 0);
  EXPECT_EQ(verdict({.epoch = 1, .sequence = 0}), kAppend);
  record({.epoch = 1, .sequence = 0, .count = 2, .offset = 30});
  EXPECT_EQ(verdict({.epoch = 1, .sequence = 2}), kAppend);
  EXPECT_EQ(verdict({.epoch = 0, .sequence = 0, .count = 10}), kOldEpoch);
}

TEST_F(ProducerState, CoordinatorBatchesAreCheckedByEpochOnly) {
  record_batches(1);
  EXPECT_EQ(verdict({.epoch = 1, .sequence = -1}), kAppend);
  record({.epoch = 1, .sequence = -1, .offset = 10});
  EXPECT_EQ(verdict({.epoch = 0, .sequence = 10}), kOldEpoch);
  EXPECT_EQ(verdict({.epoch = 1, .sequence = 0}), kAppend);
}

TEST_F(ProducerState, ProducersDoNotMix) {
  record_batches(2, 1);
  record_batches(1, 2);
  EXPECT_EQ(verdict({.id = 1, .sequence = 20}), kAppend);
  EXPECT_EQ(verdict({.id = 2, .sequence = 20}), kOutOfOrder);
  EXPECT_EQ(verdict({.id = 2, .sequence = 10}), kAppend);
}

TEST_F(ProducerState, IdleProducersExpireUnlessTheClockIsInDoubt) {
  record({.id = 1}, kNowMs);
  record({.id = 2}, kNowMs + kDayMs);
  state_.expire(kNowMs + kDayMs + 1, kDayMs, false);
  EXPECT_EQ(state_.size(), 2u);
  state_.expire(kNowMs + kDayMs, kDayMs, true);
  EXPECT_EQ(state_.size(), 2u) << "exactly idle_ms is not longer than it";
  state_.expire(kNowMs + kDayMs + 1, kDayMs, true);
  EXPECT_EQ(state_.size(), 1u);
  EXPECT_EQ(verdict({.id = 2, .sequence = 0}), kDuplicate);
}

TEST_F(ProducerState, TheTableIsBoundedAndTheLongestIdleGoFirst) {
  for (size_t i = 0; i < kProducersMax; ++i) {
    // The first two hundred are used again later, so that the idle ones are not simply the smallest ids.
    record({.id = static_cast<int64_t>(i)}, i < 200 ? kNowMs + 1'000'000 : kNowMs + static_cast<int64_t>(i));
  }
  EXPECT_EQ(state_.size(), kProducersMax);
  record({.id = 1 << 30}, kNowMs - 1);
  EXPECT_LE(state_.size(), kProducersMax);
  EXPECT_GE(state_.size(), kProducersMax * 98 / 100);
  EXPECT_EQ(verdict({.id = 1 << 30}), kDuplicate) << "never the one that just wrote";
  EXPECT_EQ(verdict({.id = 0}), kDuplicate);
  EXPECT_EQ(verdict({.id = kProducersMax - 1}), kDuplicate);
  EXPECT_EQ(verdict({.id = 200, .sequence = 5}), kAppend) << "the longest idle one is forgotten";
}

TEST_F(ProducerState, ASnapshotGivesBackTheSameAnswers) {
  record_batches(70, 1);
  record({.id = 2, .epoch = 4, .sequence = INT32_MAX, .count = 3, .offset = 700}, kNowMs + 9);
  record({.id = 3, .epoch = 7, .sequence = -1, .offset = 703});
  Bytes snapshot = state_.encode(Offset(704));
  ProducerStateManager restored;
  EXPECT_EQ(restored.decode(snapshot).value(), Offset(704));
  EXPECT_TRUE(bytes_equal(restored.encode(Offset(704)), snapshot));
  state_ = std::move(restored);
  EXPECT_EQ(verdict({.id = 1, .sequence = 690, .count = 10}), kDuplicate);
  EXPECT_EQ(verdict({.id = 1, .sequence = 700}), kAppend);
  EXPECT_EQ(check({.id = 2, .epoch = 4, .sequence = INT32_MAX, .count = 3}).first_offset, Offset(700));
  EXPECT_EQ(verdict({.id = 3, .epoch = 6, .sequence = 0}), kOldEpoch);
}

TEST_F(ProducerState, ASnapshotReplacesWhatWasThere) {
  Bytes empty = state_.encode(Offset(0));
  record_batches(3);
  EXPECT_EQ(state_.decode(empty).value(), Offset(0));
  EXPECT_EQ(state_.size(), 0u);
}

TEST_F(ProducerState, ABadSnapshotChangesNothing) {
  record_batches(3);
  EXPECT_EQ(state_.decode(as_bytes("garbage")).status().code(), Errc::kCorruption);
  EXPECT_EQ(verdict({.sequence = 30}), kAppend);
  EXPECT_EQ(verdict({.sequence = 20, .count = 10}), kDuplicate);
}

TEST_F(ProducerState, EveryBadCaseOfASnapshotIsFound) {
  record_batches(2, 1);
  record({.id = 5, .epoch = 2, .sequence = 0, .count = 3, .offset = 20});
  auto decode = [](ByteView bytes) { return ProducerStateManager().decode(bytes).status().code(); };
  testing::expect_every_bad_case_is_found(state_.encode(Offset(23)), decode);
  testing::expect_payloads_are_checked(state_.encode(Offset(23)), decode);
}

// R17: a snapshot that knows of batches past its own offset would call the rewritten ones duplicates.
TEST_F(ProducerState, ASnapshotHoldsNothingPastItsOffset) {
  record_batches(2);
  Bytes snapshot = state_.encode(Offset(20));
  Bytes payload = Bytes::copy_of(unframe_checkpoint(snapshot, 1).value());
  store_big_endian<int64_t>(payload.data(), 19);
  EXPECT_EQ(state_.decode(frame_checkpoint(1, payload)).status().code(), Errc::kCorruption);
}

TEST_F(ProducerState, EncodingBelowWhatWasRecordedIsABug) {
  record_batches(2);
  EXPECT_DEATH((void)state_.encode(Offset(19)), "check failed");
}

TEST_F(ProducerState, ClearForgetsEverything) {
  record_batches(2);
  state_.clear();
  EXPECT_EQ(state_.size(), 0u);
}

}  // namespace
}  // namespace trilog
