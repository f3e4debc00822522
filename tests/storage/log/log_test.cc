#include "storage/log/log.h"

#include <gtest/gtest.h>

#include "tests/storage/log/log_fixture.h"

namespace trilog {
namespace {

using testing::numbered_batch;

class LogTest : public testing::LogFixture {};

TEST_F(LogTest, MakesNothingBeforeTheFirstAppend) {
  open();
  EXPECT_FALSE(files().exists("data"));
  EXPECT_EQ(log->log_end(), Offset(0));
  append();
  EXPECT_TRUE(files().exists(log_path(0)));
  EXPECT_TRUE(files().exists(path("partition.meta")));
}

TEST_F(LogTest, ReadsWhatWasAppended) {
  open();
  for (int i = 0; i < 100; ++i) append(1 + i % 3);
  EXPECT_EQ(log->log_end(), Offset(199));
  expect_all_there();
  EXPECT_EQ(values(Offset(0), 1).size(), 199u);
  log->check_invariants();
}

TEST_F(LogTest, DurableEndMovesWithTheSync) {
  open();
  append(3);
  EXPECT_EQ(log->durable_end(), Offset(0));
  log->request_sync();
  append(2);
  world.run_until_idle();
  EXPECT_EQ(log->durable_end(), Offset(3));
  EXPECT_EQ(durable_calls, 1);
  sync();
  EXPECT_EQ(log->durable_end(), Offset(5));
  EXPECT_EQ(durable_calls, 2);
}

TEST_F(LogTest, OpensAgainAfterACleanStop) {
  config.segment_bytes = 1000;
  open();
  for (int i = 0; i < 50; ++i) append(2);
  reopen_cleanly();
  EXPECT_FALSE(log->recovery().scanned);
  EXPECT_EQ(log->log_end(), Offset(100));
  EXPECT_EQ(log->durable_end(), Offset(100));
  expect_all_there();
  append(2);
  sync();
  log->check_invariants();
}

TEST_F(LogTest, KeepsAcknowledgedRecordsAfterACrash) {
  config.segment_bytes = 1000;
  open();
  for (int i = 0; i < 20; ++i) append(2);
  sync();
  LogMark mark = log->mark(log->durable_end());
  for (int i = 0; i < 20; ++i) append(2);
  sync();
  append(2);
  crash(sim::CrashPolicy::lose_all());
  open(mark);
  EXPECT_TRUE(log->recovery().scanned);
  EXPECT_EQ(log->log_end(), Offset(80));
  expect_all_there();
  log->check_invariants();
}

}  // namespace
}  // namespace trilog
