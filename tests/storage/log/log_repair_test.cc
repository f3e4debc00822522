// Damage is found by the scrub (S10) and mended from another copy (S9), whatever comes in between.
#include <gtest/gtest.h>

#include <functional>

#include "tests/storage/log/log_fixture.h"

namespace trilog {
namespace {

using testing::numbered_batch;

// Four segments of three batches, each batch of two records; another copy has the same batches.
class LogRepairTest : public testing::LogFixture {
 protected:
  void SetUp() override {
    config.segment_bytes = 3 * batch_bytes();
    config.index_interval_bytes = 1;
    open();
    for (int i = 0; i < 12; ++i) append(2);
    sync();
    world.run_until_idle();
  }
  size_t batch_bytes() const { return numbered_batch(Offset(0), 2).size(); }
  void flip(int64_t segment, size_t batch, size_t byte) {
    disk().flip_bit(log_path(segment), 8 * (batch * batch_bytes() + byte) + byte % 8);
  }
  std::vector<std::byte> content(int64_t segment) {
    const ByteView view = disk().image().content(disk().image().find(log_path(segment)));
    return {view.begin(), view.end()};
  }

  static Bytes copy_of(const Bytes& bytes) {
    Bytes copy;
    copy.append(bytes.view());
    return copy;
  }
  // What another copy gives: whole batches from `from`, `at_once` of them at most.
  Log::FetchBatches other_copy(int at_once = 1) {
    return [this, at_once](Offset from, Offset to, UniqueFunction<void(Result<SharedBytes>)> done) {
      fetched.push_back(from);
      Bytes batches;
      for (int i = 0; i < at_once && from < to; ++i, from = from + 2) batches.append(numbered_batch(from, 2).view());
      env().executor().post(
          [done = std::move(done), bytes = SharedBytes(std::move(batches))]() mutable { done(std::move(bytes)); });
    };
  }
  Result<uint64_t> repair(Log::FetchBatches fetch) {
    std::optional<Result<uint64_t>> result;
    log->repair(std::move(fetch), [&](Result<uint64_t> answer) { result.emplace(std::move(answer)); });
    EXPECT_FALSE(result.has_value());
    world.run_until_idle();
    EXPECT_TRUE(result.has_value());
    return std::move(*result);
  }
  // A whole pass.
  uint64_t scrub(uint64_t bytes_max = 100) {
    uint64_t checked = 0;
    for (bool more = true; more;) {
      std::optional<uint64_t> told;
      log->scrub(bytes_max, [&](uint64_t bytes) { told = bytes; });
      EXPECT_FALSE(told.has_value());
      world.run_until_idle();
      more = told.value_or(0) > 0;
      checked += told.value_or(0);
    }
    return checked;
  }

  std::vector<Offset> fetched;
};

TEST_F(LogRepairTest, AnyFlippedBitIsFoundByTheScrubAndMended) {  // S9, S10
  close();
  const sim::DiskImage image = disk().image();
  for (uint64_t byte = 0; byte < 3 * batch_bytes(); ++byte) {
    SCOPED_TRACE("byte " + std::to_string(byte));
    copy_disk_from(image);
    open();
    const std::vector<std::byte> before = content(6);
    int told = 0;
    log->set_damage_listener([&] { ++told; });
    flip(6, 0, byte);
    EXPECT_GE(scrub(), 9 * batch_bytes());
    ASSERT_FALSE(log->damaged_ranges().empty());
    EXPECT_GE(told, 1);
    auto mended = repair(other_copy());
    ASSERT_TRUE(mended.ok()) << mended.status().to_string();
    EXPECT_GE(*mended, batch_bytes());
    EXPECT_TRUE(log->damaged_ranges().empty());
    EXPECT_TRUE(content(6) == before);
    log->check_invariants();
    expect_all_there();
    if (HasFailure()) return;
  }
}

TEST_F(LogRepairTest, AScrubOfASoundLogFindsNothingAndBeginsAgain) {
  EXPECT_GE(scrub(), 9 * batch_bytes());
  EXPECT_GE(scrub(1 << 20), 9 * batch_bytes());
  EXPECT_TRUE(log->damaged_ranges().empty());
  EXPECT_EQ(repair(other_copy()).status().code(), Errc::kNotFound);
}

TEST_F(LogRepairTest, WhatTheDiskRefusedOnceIsReadAgain) {  // F11
  auto slice = log->read(Offset(8), 1, Offset(24));
  ASSERT_TRUE(slice.ok());
  log->report_damage({slice->first, Offset(10), slice->file, slice->slice.position, "the disk refused", 0});
  EXPECT_FALSE(log->read(Offset(8), 1, Offset(24)).ok());
  auto mended = repair(other_copy());
  ASSERT_TRUE(mended.ok());
  EXPECT_EQ(*mended, 0u);
  EXPECT_TRUE(fetched.empty());
  EXPECT_TRUE(log->damaged_ranges().empty());
  expect_all_there();
}

// By seed 41344 of the simulator: a power cut may take the files behind a damaged one, which is written to again then.
TEST_F(LogRepairTest, TheFileThatIsWrittenToIsScrubbedAsFarAsItIsOnTheDisk) {  // S10
  append(2);
  sync();
  const Offset base(24);
  append(2);  // not on the disk yet
  ASSERT_LT(log->durable_end(), log->log_end());
  EXPECT_GE(scrub(), 10 * batch_bytes());
  EXPECT_TRUE(log->damaged_ranges().empty());
  flip(base.value(), 0, 70);
  scrub();
  ASSERT_EQ(log->damaged_ranges().size(), 1u);
  EXPECT_EQ(log->damaged_ranges()[0].first, base);
  sync();
  ASSERT_TRUE(repair(other_copy()).ok());
  EXPECT_TRUE(log->damaged_ranges().empty());
  log->check_invariants();
  expect_all_there();
}

TEST_F(LogRepairTest, SeveralGapsOfOneSegmentAndOfOthersAreMendedOneSegmentAfterTheOther) {
  flip(0, 0, 70);
  flip(0, 2, 70);
  flip(12, 1, 8);
  scrub();
  ASSERT_EQ(log->damaged_ranges().size(), 3u);
  ASSERT_TRUE(repair(other_copy(3)).ok());
  ASSERT_EQ(log->damaged_ranges().size(), 1u);
  ASSERT_TRUE(repair(other_copy(3)).ok());
  EXPECT_TRUE(log->damaged_ranges().empty());
  EXPECT_EQ(fetched, (std::vector<Offset>{Offset(0), Offset(0), Offset(4), Offset(14), Offset(14)}));
  log->check_invariants();
  expect_all_there();
  reopen_cleanly();
  expect_all_there();
}

TEST_F(LogRepairTest, AFileThatIsCutOffOrMissingIsMended) {
  const std::vector<std::byte> before = content(6);
  disk().put_file(log_path(6), ByteView(before).first(batch_bytes() + 10));
  disk().put_file(log_path(12), {});
  crash();
  open();
  scrub();
  ASSERT_FALSE(log->damaged_ranges().empty());
  while (!log->damaged_ranges().empty()) ASSERT_TRUE(repair(other_copy()).ok());
  EXPECT_TRUE(content(6) == before);
  log->check_invariants();
  expect_all_there();

  const LogMark mark = close();
  ASSERT_TRUE(files().remove_file(log_path(0)).ok());
  open(mark, true);
  ASSERT_NE(log->damage_at(Offset(0)), nullptr);
  ASSERT_TRUE(repair(other_copy()).ok());
  EXPECT_TRUE(log->damaged_ranges().empty());
  log->check_invariants();
  expect_all_there();
}

TEST_F(LogRepairTest, DamageInTheActiveSegmentIsMendedInASealedOne) {
  append(2);
  sync();
  flip(24, 0, 90);
  auto slice = log->read(Offset(24), 1, Offset(26));
  ASSERT_TRUE(slice.ok());
  log->report_damage({Offset(24), Offset(26), slice->file, slice->slice.position, "the checksum does not match", 0});
  ASSERT_TRUE(repair(other_copy()).ok());
  append(2);
  sync();
  expect_all_there();
  EXPECT_TRUE(files().exists(log_path(26)));
}

TEST_F(LogRepairTest, WhatAnotherCopySendsIsBelievedOnlyIfItBelongsThere) {  // S1
  flip(6, 1, 80);
  scrub();
  const std::vector<std::byte> before = content(6);
  auto give = [this](Bytes batches) -> Log::FetchBatches {
    auto shared = SharedBytes(std::move(batches));
    return [this, shared](Offset, Offset, UniqueFunction<void(Result<SharedBytes>)> done) {
      env().executor().post([done = std::move(done), shared]() mutable { done(shared); });
    };
  };
  Bytes flipped = numbered_batch(Offset(8), 2);
  flipped.data()[90] ^= std::byte{1};
  for (Bytes* wrong : {&flipped}) EXPECT_EQ(repair(give(std::move(*wrong))).status().code(), Errc::kCorruption);
  EXPECT_EQ(repair(give(numbered_batch(Offset(10), 2))).status().code(), Errc::kCorruption);
  EXPECT_EQ(repair(give(numbered_batch(Offset(8), 2, 10, LeaderEpoch(2)))).status().code(), Errc::kCorruption);
  EXPECT_EQ(repair(give(numbered_batch(Offset(8), 9))).status().code(), Errc::kCorruption);
  EXPECT_EQ(repair(give(Bytes())).status().code(), Errc::kNotFound);
  EXPECT_TRUE(content(6) == before);
  EXPECT_NE(log->damage_at(Offset(8)), nullptr);
  EXPECT_FALSE(files().exists(path(numbered_file(Offset(6), kRepairSuffix))));
  ASSERT_TRUE(repair(other_copy()).ok());
  expect_all_there();
}

// A producer may have put something into a record that looks like the batch behind it.
TEST_F(LogRepairTest, ABatchInsideADamagedOneIsNotTakenForTheNext) {
  config.segment_bytes = 1u << 20;
  log->set_config(config);
  const Bytes inner = numbered_batch(Offset(26), 2);
  std::string payload(as_text(inner.view()));
  const Bytes outer = testing::make_batch({{std::nullopt, "v24", {}, testing::kTestTimestampMs},
                                           {std::nullopt, "v25" + payload, {}, testing::kTestTimestampMs},
                                           {std::nullopt, "v26", {}, testing::kTestTimestampMs}},
                                          {.base_offset = Offset(24), .leader_epoch = LeaderEpoch(1)});
  config.segment_bytes = 1;
  log->set_config(config);
  ASSERT_TRUE(log->append(outer).ok());
  config.segment_bytes = 1u << 20;
  log->set_config(config);
  ASSERT_TRUE(log->append(numbered_batch(Offset(27), 2)).ok());
  config.segment_bytes = 1;
  log->set_config(config);
  append(2);
  sync();
  world.run_until_idle();
  const std::vector<std::byte> before = content(24);
  disk().flip_bit(log_path(24), 8 * 70);
  scrub(1 << 20);
  ASSERT_NE(log->damage_at(Offset(24)), nullptr);
  auto fetch = [&](Offset from, Offset, UniqueFunction<void(Result<SharedBytes>)> done) {
    EXPECT_EQ(from, Offset(24));
    env().executor().post(
        [done = std::move(done), bytes = SharedBytes(copy_of(outer))]() mutable { done(std::move(bytes)); });
  };
  auto mended = repair(fetch);
  ASSERT_TRUE(mended.ok()) << mended.status().to_string();
  EXPECT_TRUE(content(24) == before);
}

TEST_F(LogRepairTest, WhateverFailsLeavesTheOldFileAndItCanBeTriedAgain) {  // F10, F11
  flip(6, 1, 80);
  scrub();
  const std::vector<std::byte> damaged = content(6);
  using sim::DiskCall;
  for (DiskCall call : {DiskCall::kOpen, DiskCall::kWrite, DiskCall::kSync, DiskCall::kRename, DiskCall::kRead}) {
    SCOPED_TRACE(static_cast<int>(call));
    disk().add_fault({.call = call, .path_part = ".repair", .first = 1, .count = call == DiskCall::kRead ? 99u : 1u});
    EXPECT_FALSE(repair(other_copy()).ok());
    disk().clear_faults();
    EXPECT_TRUE(content(6) == damaged);
    EXPECT_NE(log->damage_at(Offset(8)), nullptr);
    EXPECT_FALSE(files().exists(path(numbered_file(Offset(6), kRepairSuffix))));
  }
  ASSERT_TRUE(repair(other_copy()).ok());
  expect_all_there();
}

TEST_F(LogRepairTest, APowerCutAtAnyMomentLeavesTheOldFileOrTheNew) {
  flip(6, 1, 80);
  const std::vector<std::byte> damaged = content(6);
  const sim::DiskImage image = disk().image();
  bool ended = false;
  for (int steps = 1; !ended; ++steps) {
    SCOPED_TRACE("after " + std::to_string(steps) + " events");
    copy_disk_from(image);
    open();
    scrub();
    ASSERT_NE(log->damage_at(Offset(8)), nullptr);
    log->repair(other_copy(), [&](const Result<uint64_t>& result) { ended = result.ok(); });
    for (int i = 0; i < steps; ++i) world.scheduler().run_one(INT64_MAX);
    log.reset();  // writes nothing
    crash(steps % 3 == 0 ? sim::CrashPolicy::keep_all() : sim::CrashPolicy::lose_all());
    open();
    EXPECT_FALSE(files().exists(path(numbered_file(Offset(6), kRepairSuffix))));
    if (content(6) != damaged) expect_records(Offset(6), Offset(12));
    EXPECT_EQ(log->log_end(), Offset(24));
    scrub();
    const bool mended = log->damaged_ranges().empty() || repair(other_copy()).ok();
    ASSERT_TRUE(mended);
    expect_all_there();
    if (HasFailure()) return;
  }
}

TEST_F(LogRepairTest, AnythingElseThatChangesTheLogEndsARepair) {
  std::vector<std::function<void()>> changes = {
      [&] { ASSERT_TRUE(log->truncate_to(Offset(20)).ok()); },
      [&] { ASSERT_TRUE(log->restart_at(Offset(100)).ok()); },
      [&] { log->advance_start(Offset(13)), log->apply_retention(0, false, log->log_end()); },
      [&] { log->close([](const Status&) {}); },
      [&] { log->abandon(); },
      [&] { log.reset(); },
  };
  close();
  const sim::DiskImage image = disk().image();
  for (size_t i = 0; i < changes.size(); ++i) {
    SCOPED_TRACE(i);
    copy_disk_from(image);
    open();
    flip(6, 1, 80);
    scrub();
    std::optional<Result<uint64_t>> result;
    UniqueFunction<void(Result<SharedBytes>)> late;
    log->repair([&](Offset, Offset, auto done) { late = std::move(done); },
                [&](Result<uint64_t> answer) { result.emplace(std::move(answer)); });
    ASSERT_TRUE(world.run_until([&] { return static_cast<bool>(late); }));
    std::optional<Status> busy;
    log->repair(other_copy(), [&](const Result<uint64_t>& answer) { busy = answer.status(); });
    changes[i]();
    late(SharedBytes(numbered_batch(Offset(8), 2)));
    world.run_until_idle();
    EXPECT_EQ(busy->code(), Errc::kBusy);
    ASSERT_TRUE(result.has_value());
    EXPECT_EQ(result->status().code(), Errc::kFailed);
  }
}

}  // namespace
}  // namespace trilog
