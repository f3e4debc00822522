#include "storage/log/log_directory.h"

#include <gtest/gtest.h>

#include "tests/storage/log/log_fixture.h"

namespace trilog {
namespace {

using testing::numbered_batch;

class LogDirectoryTest : public testing::LogFixture {
 protected:
  static PartitionMeta meta_of(int partition, uint64_t topic = 2) {
    PartitionMeta meta = testing::test_meta();
    meta.topic_id = TopicId(1, topic);
    meta.partition = PartitionId(partition);
    return meta;
  }
  static TopicPartition id_of(const PartitionMeta& meta) { return {meta.topic_id, meta.partition}; }
  LogDirectory& directory(LogStartState start = {}) {
    directory_ = std::make_unique<LogDirectory>(env(), "data/topics", std::move(start));
    return *directory_;
  }
  void write(Log& to, int batches = 1) {
    for (int i = 0; i < batches; ++i) ASSERT_TRUE(to.append(numbered_batch(to.log_end(), 2)).ok());
    to.request_sync();
    world.run_until_idle();
  }
  // A log of `batches` that is no longer open and about to be removed; its folder.
  std::string abandoned_log(int batches = 1) {
    auto opened = directory().open(meta_of(1), config).value();
    EXPECT_EQ(opened->log_end(), Offset(0));
    write(*opened, batches);
    opened->abandon();
    return opened->directory();
  }
  Status remove(const TopicPartition& partition) {
    std::optional<Status> answer;
    directory_->remove(partition, [&](Status status) { answer = std::move(status); });
    EXPECT_FALSE(answer.has_value());
    EXPECT_TRUE(world.run_until([&] { return answer.has_value(); }));
    return *answer;
  }

  std::unique_ptr<LogDirectory> directory_;
};

TEST_F(LogDirectoryTest, OpensALogWithoutWritingAnything) {
  auto opened = directory().open(meta_of(3), config).value();
  EXPECT_EQ(opened->directory(), "data/topics/" + TopicId(1, 2).to_string() + "/3");
  EXPECT_FALSE(files().exists("data/topics"));
  write(*opened);
  EXPECT_TRUE(files().exists(opened->directory()));
}

TEST_F(LogDirectoryTest, GivesEachLogItsMark) {
  LogStartState start;
  {
    auto one = directory().open(meta_of(1), config).value();
    auto two = directory_->open(meta_of(2), config).value();
    write(*one, 3);
    write(*two, 5);
    start.marks[id_of(meta_of(1))] = one->mark(one->durable_end());
    write(*two, 1);
    two->close([](Status) {});
    one->close([](Status) {});
    world.run_until_idle();
    start.marks[id_of(meta_of(2))] = two->mark(two->durable_end());
    start.clean = true;
  }
  auto one = directory(start).open(meta_of(1), config).value();
  auto two = directory_->open(meta_of(2), config).value();
  EXPECT_FALSE(one->recovery().scanned);
  EXPECT_FALSE(two->recovery().scanned);
  EXPECT_EQ(two->log_end(), Offset(12));
  // Opened again in the same process, what was true at the start says nothing.
  write(*two);
  two.reset();
  two = directory_->open(meta_of(2), config).value();
  EXPECT_TRUE(two->recovery().scanned);
  EXPECT_EQ(two->log_end(), Offset(14));
}

TEST_F(LogDirectoryTest, RemovingALogIsDurableBeforeItIsAnswered) {
  std::string folder = abandoned_log();
  EXPECT_TRUE(remove(id_of(meta_of(1))).ok());
  EXPECT_FALSE(files().exists(folder));
  env_.reset();
  disk().power_cut(sim::CrashPolicy::lose_all());
  env_ = world.make_env(disk());
  EXPECT_FALSE(files().exists(folder));
}

TEST_F(LogDirectoryTest, RemovesTheFilesInTheBackground) {
  config.segment_bytes = 300;
  std::string topic = parent_path(abandoned_log(20));
  EXPECT_TRUE(remove(id_of(meta_of(1))).ok());
  world.run_until_idle();
  EXPECT_TRUE(files().list(topic).value().empty());
}

TEST_F(LogDirectoryTest, ANewLogMayTakeThePlaceAtOnce) {
  for (int round = 0; round < 3; ++round) {
    abandoned_log();
    EXPECT_TRUE(remove(id_of(meta_of(1))).ok());
  }
}

TEST_F(LogDirectoryTest, RemovingWhatIsNotThereSucceeds) {
  directory();
  EXPECT_TRUE(remove(id_of(meta_of(9))).ok());
}

TEST_F(LogDirectoryTest, ARemovalThatCannotBeDoneSaysSo) {
  std::string folder = abandoned_log();
  disk().add_fault({.call = sim::DiskCall::kRename});
  EXPECT_EQ(remove(id_of(meta_of(1))).code(), Errc::kIo);
  EXPECT_TRUE(files().exists(folder));
}

TEST_F(LogDirectoryTest, GoesOnWithRemovalsThatAStopInterrupted) {
  std::string folder = abandoned_log();
  EXPECT_TRUE(remove(id_of(meta_of(1))).ok());
  crash();
  EXPECT_FALSE(files().list(parent_path(folder)).value().empty());
  EXPECT_TRUE(LogDirectory::scan(files(), "data/topics").value().empty());
  directory().remove_leftovers();
  world.run_until_idle();
  EXPECT_TRUE(files().list(parent_path(folder)).value().empty());
}

TEST_F(LogDirectoryTest, TheDirectoryMayGoWhileFilesAreBeingRemoved) {
  abandoned_log();
  bool answered = false;
  directory_->remove(id_of(meta_of(1)), [&](Status) { answered = true; });
  directory_.reset();
  world.run_until_idle();
  EXPECT_TRUE(answered);
}

TEST_F(LogDirectoryTest, ScansWhoIsThere) {
  EXPECT_TRUE(LogDirectory::scan(files(), "data/topics").value().empty());
  directory();
  for (const PartitionMeta& meta : {meta_of(2), meta_of(0), meta_of(1, 9)}) {
    auto opened = directory_->open(meta, config).value();
    write(*opened);
  }
  // A folder whose file is bad, one with somebody else's file, and things that are no partitions.
  std::string topic = "data/topics/" + TopicId(1, 2).to_string();
  disk().put_file(topic + "/5/partition.meta", as_bytes("garbage"));
  disk().put_file(topic + "/6/partition.meta", encode_partition_meta(meta_of(0)));
  disk().put_file(topic + "/07/partition.meta", encode_partition_meta(meta_of(7)));
  disk().put_file("data/topics/lost+found/1/partition.meta", encode_partition_meta(meta_of(7)));
  auto found = LogDirectory::scan(files(), "data/topics").value();
  ASSERT_EQ(found.size(), 5u);
  EXPECT_EQ(found[0], meta_of(0));
  EXPECT_EQ(found[1], meta_of(2));
  EXPECT_EQ(found[2].partition, PartitionId(5));
  EXPECT_EQ(found[2].topic, "");
  EXPECT_EQ(found[3].partition, PartitionId(6));
  EXPECT_EQ(found[3].topic, "");
  EXPECT_EQ(found[4], meta_of(1, 9));
}

}  // namespace
}  // namespace trilog
