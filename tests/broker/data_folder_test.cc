#include "broker/data_folder.h"

#include <gtest/gtest.h>

#include "tests/sim/sim_env.h"

namespace trilog {
namespace {

class DataFolderTest : public ::testing::Test {
 protected:
  Result<std::unique_ptr<DataFolder>> open(int32_t node = 1) {
    env = world.make_env(disk);
    return DataFolder::open(*env, "data/node-1", BrokerId(node));
  }
  void crash() {
    env.reset();
    disk.power_cut(sim::CrashPolicy::lose_all());
  }
  sim::World world{1};
  sim::SimDisk disk{world.scheduler()};
  std::unique_ptr<sim::SimEnv> env;
};

TEST_F(DataFolderTest, RemembersWhoItBelongsToAcrossAPowerCut) {
  FolderIdentity first;
  {
    auto folder = open();
    ASSERT_TRUE(folder.ok()) << folder.status().to_string();
    EXPECT_TRUE((*folder)->is_new());
    ASSERT_TRUE((*folder)->set_broker_epoch(BrokerEpoch(5)).ok());
    first = (*folder)->identity();
    EXPECT_FALSE(first.cluster.is_zero());
    EXPECT_FALSE(first.directory.is_zero());
  }
  crash();
  auto again = open();
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  EXPECT_FALSE((*again)->is_new());
  EXPECT_EQ((*again)->identity().cluster, first.cluster);
  EXPECT_EQ((*again)->identity().directory, first.directory);
  EXPECT_EQ((*again)->identity().broker_epoch, BrokerEpoch(5));
}

TEST_F(DataFolderTest, RefusesAnotherNodeAndASecondProcess) {  // S14, F35
  {
    auto folder = open();
    ASSERT_TRUE(folder.ok());
    auto second = DataFolder::open(*env, "data/node-1", BrokerId(1));
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.status().code(), Errc::kBusy);
  }
  auto other = open(2);
  ASSERT_FALSE(other.ok());
  EXPECT_NE(other.status().message().find("belongs to node 1"), std::string::npos) << other.status().to_string();
}

TEST_F(DataFolderTest, ACleanMarkIsTakenOnce) {  // S11
  TopicPartition partition{TopicId(1, 2), PartitionId(0)};
  {
    auto folder = open();
    ASSERT_TRUE(folder.ok());
    EXPECT_FALSE((*folder)->start_state().clean);
    Marks marks;
    marks[partition].durable_end = Offset(9);
    ASSERT_TRUE((*folder)->write_clean(marks).ok());
  }
  {
    auto folder = open();
    ASSERT_TRUE(folder.ok());
    EXPECT_TRUE((*folder)->start_state().clean);
    EXPECT_EQ((*folder)->start_state().marks.at(partition).durable_end, Offset(9));
  }
  crash();  // right after the start: must not look clean
  auto folder = open();
  ASSERT_TRUE(folder.ok());
  EXPECT_FALSE((*folder)->start_state().clean);
}

TEST_F(DataFolderTest, ADamagedOrMissingIdentityIsNotAFreshFolder) {  // Q11
  { ASSERT_TRUE(open().ok()); }
  ASSERT_TRUE(env->files().create_directories("data/node-1/metadata").ok());
  uint64_t bits = env->files().read_file("data/node-1/meta")->size() * 8;
  for (uint64_t bit = 0; bit < bits; bit += 5) {
    disk.flip_bit("data/node-1/meta", bit);
    auto damaged = open();
    EXPECT_FALSE(damaged.ok()) << "bit " << bit;
    disk.flip_bit("data/node-1/meta", bit);
  }
  ASSERT_TRUE(env->files().remove_file("data/node-1/meta").ok());
  auto missing = open();
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.status().code(), Errc::kCorruption);
  EXPECT_NE(missing.status().message().find("meta"), std::string::npos);
}

TEST_F(DataFolderTest, AFolderMadeBeforehandKeepsItsClusterAndItsIdentity) {  // Q8
  ClusterId cluster(7, 7);
  env = world.make_env(disk);
  FolderIdentity made = DataFolder::make(*env, "data/node-1", BrokerId(1), cluster).value();
  EXPECT_EQ(made.cluster, cluster);
  EXPECT_EQ(made.node, BrokerId(1));
  crash();
  env = world.make_env(disk);
  // Made again, as after a start that was broken off: it stays who it is.
  FolderIdentity again = DataFolder::make(*env, "data/node-1", BrokerId(1), ClusterId(8, 8)).value();
  EXPECT_EQ(again.cluster, cluster);
  EXPECT_EQ(again.directory, made.directory);
  EXPECT_EQ(DataFolder::make(*env, "data/node-1", BrokerId(2), cluster).status().code(), Errc::kInvalidArgument);
  auto folder = open();
  ASSERT_TRUE(folder.ok()) << folder.status().to_string();
  EXPECT_EQ((*folder)->identity().directory, made.directory);
  EXPECT_EQ((*folder)->identity().cluster, cluster);
  EXPECT_EQ(DataFolder::make(*env, "data/node-1", BrokerId(1), cluster).status().code(), Errc::kBusy);
}

}  // namespace
}  // namespace trilog
