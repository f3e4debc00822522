#include "broker/controller/replica_placement.h"

#include <gtest/gtest.h>

#include <set>

namespace trilog {
namespace {

std::map<BrokerId, BrokerLoad> up(int count) {
  std::map<BrokerId, BrokerLoad> brokers;
  for (int id = 1; id <= count; ++id) brokers[BrokerId(id)] = {};
  return brokers;
}

TEST(ReplicaPlacement, OneBrokerGetsEverything) {
  auto brokers = up(1);
  auto lists = place_replicas(brokers, 6, 1);
  ASSERT_EQ(lists.size(), 6u);
  for (const auto& list : lists) EXPECT_EQ(list, std::vector<BrokerId>{BrokerId(1)});
}

TEST(ReplicaPlacement, SharesReplicasAndLeadershipsEvenly) {
  for (int count : {3, 4, 5, 7}) {
    for (int replicas : {1, 2, 3}) {
      auto brokers = up(count);
      auto lists = place_replicas(brokers, count * 8, replicas);
      std::map<BrokerId, int> leads;
      std::map<BrokerId, int> has;
      for (const auto& list : lists) {
        EXPECT_EQ(std::set<BrokerId>(list.begin(), list.end()).size(), static_cast<size_t>(replicas));
        ++leads[list.front()];
        for (BrokerId id : list) ++has[id];
      }
      for (const auto& [id, load] : brokers) {
        EXPECT_NEAR(leads[id], 8, 1) << count << " brokers, " << replicas << " replicas, broker " << id;
        EXPECT_NEAR(has[id], 8 * replicas, 1);
        EXPECT_EQ(load.replicas, has[id]);
        EXPECT_EQ(load.leaders, leads[id]);
      }
    }
  }
}

TEST(ReplicaPlacement, FillsUpTheBrokerThatHasLeast) {
  std::map<BrokerId, BrokerLoad> brokers = {
      {BrokerId(1), {true, 10, 10}}, {BrokerId(2), {true, 0, 0}}, {BrokerId(3), {true, 10, 10}}};
  for (const auto& list : place_replicas(brokers, 10, 1)) EXPECT_EQ(list.front(), BrokerId(2));
}

TEST(ReplicaPlacement, PrefersBrokersThatAreUpAndNeverLetsADownOneLead) {
  std::map<BrokerId, BrokerLoad> brokers = {
      {BrokerId(1), {false, 0, 0}}, {BrokerId(2), {true, 50, 50}}, {BrokerId(3), {true, 50, 50}}};
  for (const auto& list : place_replicas(brokers, 6, 2)) {
    EXPECT_EQ(std::set<BrokerId>(list.begin(), list.end()), (std::set<BrokerId>{BrokerId(2), BrokerId(3)}));
  }
  for (const auto& list : place_replicas(brokers, 6, 3)) EXPECT_NE(list.front(), BrokerId(1));
}

TEST(ReplicaPlacement, TheSameInputGivesTheSameOutput) {
  auto a = up(5);
  auto b = up(5);
  EXPECT_EQ(place_replicas(a, 40, 3), place_replicas(b, 40, 3));
}

}  // namespace
}  // namespace trilog
