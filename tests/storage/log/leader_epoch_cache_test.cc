#include "storage/log/leader_epoch_cache.h"

#include <gtest/gtest.h>

#include "tests/storage/log/state_files/support.h"

namespace trilog {
namespace {

using Entries = std::vector<EpochEntry>;

EpochEntry entry(int32_t epoch, int64_t start) { return {LeaderEpoch(epoch), Offset(start)}; }
EpochEnd end_at(int32_t epoch, int64_t end) { return {LeaderEpoch(epoch), Offset(end)}; }

LeaderEpochCache cache_of(const Entries& entries) {
  LeaderEpochCache cache;
  for (const EpochEntry& e : entries) cache.assign(e.epoch, e.start);
  return cache;
}

LeaderEpochCache three_epochs() { return cache_of({entry(0, 0), entry(2, 10), entry(5, 20)}); }

Errc decode(ByteView bytes) { return LeaderEpochCache::decode(bytes).status().code(); }

TEST(LeaderEpochCache, ANewOneKnowsNothing) {
  LeaderEpochCache cache;
  EXPECT_FALSE(cache.latest().has_value());
  EXPECT_EQ(cache.epoch_at(Offset(0)), kNoLeaderEpoch);
  EXPECT_EQ(cache.end_of(LeaderEpoch(0), Offset(9)), EpochEnd{});
}

TEST(LeaderEpochCache, KeepsEpochZeroAtOffsetZero) {
  LeaderEpochCache cache = cache_of({entry(0, 0)});
  EXPECT_EQ(cache.entries(), Entries{entry(0, 0)});
  EXPECT_EQ(cache.epoch_at(Offset(0)), LeaderEpoch(0));
}

TEST(LeaderEpochCache, AKnownEpochIsIgnored) {
  LeaderEpochCache cache = three_epochs();
  cache.assign(LeaderEpoch(5), Offset(30));
  cache.assign(LeaderEpoch(2), Offset(30));
  EXPECT_EQ(cache.entries(), three_epochs().entries());
}

TEST(LeaderEpochCache, AnUnknownEpochIsIgnored) {
  LeaderEpochCache cache = three_epochs();
  cache.assign(kNoLeaderEpoch, Offset(30));
  EXPECT_EQ(cache.entries(), three_epochs().entries());
}

TEST(LeaderEpochCache, AnEpochWithoutRecordsGivesWay) {
  LeaderEpochCache cache = three_epochs();
  cache.assign(LeaderEpoch(6), Offset(20));
  EXPECT_EQ(cache.entries(), (Entries{entry(0, 0), entry(2, 10), entry(6, 20)}));
  cache.assign(LeaderEpoch(7), Offset(5));
  EXPECT_EQ(cache.entries(), (Entries{entry(0, 0), entry(7, 5)}));
}

TEST(LeaderEpochCacheDeathTest, ASmallerEpochThanTheLatestIsABug) {
  LeaderEpochCache cache = three_epochs();
  EXPECT_DEATH(cache.assign(LeaderEpoch(4), Offset(30)), "check failed");
}

TEST(LeaderEpochCache, FindsTheEpochOfEachOffset) {
  LeaderEpochCache cache = cache_of({entry(1, 5), entry(2, 10)});
  EXPECT_EQ(cache.epoch_at(Offset(4)), kNoLeaderEpoch);
  EXPECT_EQ(cache.epoch_at(Offset(5)), LeaderEpoch(1));
  EXPECT_EQ(cache.epoch_at(Offset(9)), LeaderEpoch(1));
  EXPECT_EQ(cache.epoch_at(Offset(10)), LeaderEpoch(2));
  EXPECT_EQ(cache.epoch_at(Offset(1000)), LeaderEpoch(2));
}

// Rule R11, every line of it.
TEST(LeaderEpochCache, AnswersWhereTwoLogsDiverge) {
  LeaderEpochCache cache = cache_of({entry(1, 5), entry(3, 10), entry(5, 20)});
  EXPECT_EQ(cache.end_of(LeaderEpoch(1), Offset(25)), end_at(1, 10));
  EXPECT_EQ(cache.end_of(LeaderEpoch(2), Offset(25)), end_at(1, 10)) << "the greatest own epoch that is not above";
  EXPECT_EQ(cache.end_of(LeaderEpoch(3), Offset(25)), end_at(3, 20));
  EXPECT_EQ(cache.end_of(LeaderEpoch(4), Offset(25)), end_at(3, 20));
  EXPECT_EQ(cache.end_of(LeaderEpoch(5), Offset(25)), end_at(5, 25)) << "the newest ends at the log's end";
  EXPECT_EQ(cache.end_of(LeaderEpoch(0), Offset(25)), end_at(0, 5)) << "all own epochs are younger";
  EXPECT_EQ(cache.end_of(LeaderEpoch(6), Offset(25)), EpochEnd{}) << "above all";
  EXPECT_EQ(cache.end_of(kNoLeaderEpoch, Offset(25)), EpochEnd{});
}

TEST(LeaderEpochCache, TruncatingTheEndDropsEpochsWithoutRecords) {
  const std::vector<std::pair<int64_t, size_t>> cases = {{21, 3}, {20, 2}, {11, 2}, {10, 1}, {1, 1}, {0, 0}};
  for (auto [end, left] : cases) {
    LeaderEpochCache cache = three_epochs();
    cache.truncate_from_end(Offset(end));
    EXPECT_EQ(cache.entries().size(), left) << end;
  }
}

TEST(LeaderEpochCache, TruncatingTheStartKeepsTheEpochThatCoversIt) {
  auto after = [](int64_t start) {
    LeaderEpochCache cache = three_epochs();
    cache.truncate_from_start(Offset(start));
    return cache.entries();
  };
  EXPECT_EQ(after(0), three_epochs().entries());
  EXPECT_EQ(after(4), (Entries{entry(0, 4), entry(2, 10), entry(5, 20)}));
  EXPECT_EQ(after(10), (Entries{entry(2, 10), entry(5, 20)}));
  EXPECT_EQ(after(19), (Entries{entry(2, 19), entry(5, 20)}));
  EXPECT_EQ(after(99), (Entries{entry(5, 99)}));
  LeaderEpochCache late = cache_of({entry(3, 50)});
  late.truncate_from_start(Offset(10));
  EXPECT_EQ(late.entries(), Entries{entry(3, 50)});
}

TEST(LeaderEpochCache, SurvivesEncoding) {
  for (const LeaderEpochCache& cache : {LeaderEpochCache(), three_epochs()}) {
    EXPECT_EQ(LeaderEpochCache::decode(cache.encode()).value().entries(), cache.entries());
  }
}

TEST(LeaderEpochCache, EveryBadCaseIsFound) {
  testing::expect_every_bad_case_is_found(three_epochs().encode(), decode);
  testing::expect_payloads_are_checked(three_epochs().encode(), decode);
}

TEST(LeaderEpochCache, RefusesEntriesThatDoNotRise) {
  auto encoded = [](const Entries& entries) {
    Bytes payload;
    ByteWriter out(payload);
    out.write<uint32_t>(static_cast<uint32_t>(entries.size()));
    for (const EpochEntry& e : entries) {
      out.write<int32_t>(e.epoch.value());
      out.write<int64_t>(e.start.value());
    }
    return frame_checkpoint(1, payload);
  };
  EXPECT_EQ(decode(encoded({entry(1, 1), entry(2, 2)})), Errc::kOk);
  EXPECT_EQ(decode(encoded({entry(1, 1), entry(1, 2)})), Errc::kCorruption);
  EXPECT_EQ(decode(encoded({entry(2, 1), entry(1, 2)})), Errc::kCorruption);
  EXPECT_EQ(decode(encoded({entry(1, 2), entry(2, 2)})), Errc::kCorruption);
  EXPECT_EQ(decode(encoded({entry(-1, 0)})), Errc::kCorruption);
  EXPECT_EQ(decode(encoded({entry(0, -1)})), Errc::kCorruption);
}

}  // namespace
}  // namespace trilog
