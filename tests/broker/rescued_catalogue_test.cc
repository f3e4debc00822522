#include "broker/rescued_catalogue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "broker/metadata/metadata_loader.h"
#include "broker/metadata/topic_settings.h"

namespace trilog {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

const TopicId kOrders(1, 1);
const TopicId kBills(2, 2);
constexpr int64_t kNow = 1'700'000'000'000;

FoundPartition found(TopicId id, const std::string& topic, int32_t partition, int32_t count, int32_t epoch = 3) {
  FoundPartition found;
  found.meta = {id, topic, PartitionId(partition), count, {BrokerId(1)}, {{"durability", "synced"}}};
  found.last_epoch = LeaderEpoch(epoch);
  return found;
}
FoundPartition unreadable(TopicId id, int32_t partition) {
  FoundPartition found;
  found.meta.topic_id = id;
  found.meta.partition = PartitionId(partition);
  return found;
}
RescuedCatalogue rescue(const std::vector<FoundPartition>& partitions) {
  return rescue_catalogue({{BrokerId(1), DirectoryId(1, 1), BrokerEpoch(9), partitions}}, 7, kNow);
}
// As a node that starts with the records.
ImagePtr image_of(const RescuedCatalogue& catalogue) {
  MetadataLoader loader;
  std::vector<Bytes> records;
  for (const MetadataRecord& record : catalogue.records) records.push_back(encode_metadata_record(record));
  std::vector<ByteView> views(records.begin(), records.end());
  Status applied = loader.apply(Offset(0), views);
  EXPECT_TRUE(applied.ok()) << applied.to_string();
  return loader.image();
}

TEST(RescuedCatalogue, HasTheTopicsOfTheFilesWithIdsSettingsAndAllPartitions) {
  FoundPartition second = found(kBills, "bills", 1, 4);
  second.meta.settings["retention.ms"] = "5000";
  second.meta.settings["durability"] = "replicated";
  RescuedCatalogue catalogue =
      rescue({found(kOrders, "orders", 0, 1), second, found(TopicId(3, 3), std::string(kOffsetsTopic), 7, 50)});
  EXPECT_THAT(catalogue.topics, SizeIs(3));
  EXPECT_THAT(catalogue.remarks, SizeIs(0));
  ImagePtr image = image_of(catalogue);
  const TopicImage* bills = image->find_topic("bills");
  ASSERT_NE(bills, nullptr);
  EXPECT_EQ(bills->id, kBills);
  EXPECT_EQ(bills->durability, api::Durability::kReplicated);
  EXPECT_EQ(bills->configs, (std::map<std::string, std::string>{{"retention.ms", "5000"}}));
  EXPECT_THAT(bills->partitions, SizeIs(4));
  EXPECT_FALSE(bills->internal);
  EXPECT_TRUE(image->find_topic(kOffsetsTopic)->internal);
  EXPECT_THAT(image->find_topic(kOffsetsTopic)->partitions, SizeIs(50));
  EXPECT_EQ(image->find_topic("orders")->durability, api::Durability::kSynced);
  ASSERT_THAT(image->audit(), SizeIs(1));
  EXPECT_EQ(image->audit().front().kind, AuditRecord::Kind::kRescued);
}

TEST(RescuedCatalogue, EpochsAndProducerIdsGoOnAboveAllThatWereUsed) {
  ImagePtr image = image_of(rescue({found(kOrders, "orders", 0, 2, 41), found(kBills, "bills", 0, 1, 7)}));
  for (const char* topic : {"orders", "bills"}) {
    for (const PartitionImage& partition : image->find_topic(topic)->partitions) {
      EXPECT_GT(partition.leader_epoch, LeaderEpoch(41));
      EXPECT_EQ(partition.elr, std::vector<BrokerId>{BrokerId(1)});
      EXPECT_EQ(partition.leader, kNoBroker);
    }
  }
  EXPECT_GT(image->next_producer_id(), ProducerId(kNow));
  // A log whose epochs cannot be read.
  ImagePtr unknown = image_of(rescue({found(kOrders, "orders", 0, 1, -1)}));
  EXPECT_GT(unknown->find_topic("orders")->partitions[0].leader_epoch, LeaderEpoch(1'000'000));
}

TEST(RescuedCatalogue, AnUnreadableFileIsMadeUpForByItsSiblingsOrLeftAlone) {
  RescuedCatalogue catalogue = rescue({unreadable(kOrders, 5), found(kOrders, "orders", 1, 3), unreadable(kBills, 0)});
  ASSERT_THAT(catalogue.topics, SizeIs(1));
  EXPECT_EQ(catalogue.topics[0].partitions, 6);
  EXPECT_EQ(catalogue.topics[0].found, 2);
  ASSERT_THAT(catalogue.remarks, SizeIs(1));
  EXPECT_THAT(catalogue.remarks[0], HasSubstr(kBills.to_string()));
  EXPECT_THAT(image_of(catalogue)->find_topic("orders")->partitions, SizeIs(6));
}

TEST(RescuedCatalogue, TwoTopicsOfOneNameAreBothKept) {
  RescuedCatalogue catalogue = rescue({found(kOrders, "orders", 0, 1), found(kBills, "orders", 0, 2)});
  ImagePtr image = image_of(catalogue);
  EXPECT_EQ(image->find_topic("orders")->id, kOrders);
  EXPECT_EQ(image->find_topic(kBills)->name, "rescued-" + kBills.to_string());
  ASSERT_THAT(catalogue.remarks, SizeIs(1));
  EXPECT_THAT(catalogue.remarks[0], HasSubstr("another orders"));
}

TEST(RescuedCatalogue, ASettingThatNobodyKnowsIsDroppedAndSaid) {
  FoundPartition odd = found(kOrders, "orders", 0, 1);
  odd.meta.settings["retention.mss"] = "1";
  RescuedCatalogue catalogue = rescue({odd});
  ASSERT_THAT(catalogue.remarks, SizeIs(1));
  EXPECT_THAT(catalogue.remarks[0], HasSubstr("retention.mss"));
  EXPECT_TRUE(image_of(catalogue)->find_topic("orders")->configs.empty());
}

// --- several nodes
// -----------------------------------------------------------------------------------------------------

std::vector<BrokerId> ids(std::initializer_list<int32_t> numbers) {
  std::vector<BrokerId> ids;
  for (int32_t number : numbers) ids.push_back(BrokerId(number));
  return ids;
}
FoundPartition shared(std::vector<BrokerId> replicas, int32_t partition = 0, int32_t count = 1) {
  FoundPartition each = found(kOrders, "orders", partition, count);
  each.meta.replicas = std::move(replicas);
  return each;
}
RescuedNode node(int32_t id, std::vector<FoundPartition> partitions) {
  return {BrokerId(id), DirectoryId(9, static_cast<uint64_t>(id)), BrokerEpoch(40 + id), std::move(partitions)};
}
PartitionImage first_of(const RescuedCatalogue& catalogue) {
  return image_of(catalogue)->find_topic("orders")->partitions[0];
}

TEST(RescuedCatalogue, OfSeveralReplicasWhoReachesFurthestIsFoundByHearing) {
  FoundPartition each = shared(ids({2, 3, 1}));
  RescuedCatalogue catalogue = rescue_catalogue({node(1, {each}), node(2, {each}), node(3, {each})}, 7, kNow);
  PartitionImage partition = first_of(catalogue);
  EXPECT_EQ(partition.replicas, ids({2, 3, 1}));
  EXPECT_EQ(partition.elr, ids({2, 3, 1}));
  EXPECT_EQ(partition.unclean, partition.elr);
  EXPECT_TRUE(partition.isr.empty());
  EXPECT_THAT(catalogue.remarks, SizeIs(0));
  ImagePtr image = image_of(catalogue);
  EXPECT_EQ(image->find_broker(BrokerId(3))->epoch, BrokerEpoch(43));
  EXPECT_EQ(image->find_broker(BrokerId(3))->active_epoch, BrokerEpoch(43));
  EXPECT_TRUE(image->find_broker(BrokerId(3))->fenced);
  EXPECT_EQ(image->recovery(), (QuorumRecoveryRecord{7, BrokerId(1), kNow}));
}

TEST(RescuedCatalogue, TooFewFoldersElectNobody) {
  FoundPartition each = shared(ids({1, 2, 3}));
  RescuedCatalogue catalogue = rescue_catalogue({node(1, {each})}, 7, kNow);
  EXPECT_TRUE(first_of(catalogue).nobody_trusted());
  ASSERT_THAT(catalogue.remarks, SizeIs(1));
  EXPECT_THAT(catalogue.remarks[0], HasSubstr("partition elect orders/N --accept-loss"));
  // Nor may a partition lead whose folder may be on a node that is not here.
  EXPECT_TRUE(image_of(rescue_catalogue({node(1, {shared(ids({1, 2, 3}), 1, 2)})}, 7, kNow))
                  ->find_topic("orders")
                  ->partitions[0]
                  .nobody_trusted());
}

TEST(RescuedCatalogue, WhereOneCopyWasEnoughToAcknowledgeNobodyIsElected) {
  FoundPartition each = shared(ids({1, 2}));  // min.insync.replicas is 1
  EXPECT_TRUE(first_of(rescue_catalogue({node(1, {each}), node(2, {each})}, 7, kNow)).nobody_trusted());
}

TEST(RescuedCatalogue, WhatWasNeverWrittenHasThePlacesThatFollow) {
  FoundPartition each = shared(ids({1, 2, 3}), 1, 3);
  RescuedCatalogue catalogue = rescue_catalogue({node(1, {each}), node(2, {each}), node(3, {each})}, 7, kNow);
  ImagePtr image = image_of(catalogue);
  const auto& partitions = image->find_topic("orders")->partitions;
  EXPECT_EQ(partitions[2].replicas, ids({2, 3, 1}));
  EXPECT_EQ(partitions[0].replicas, ids({3, 1, 2}));
  EXPECT_EQ(partitions[0].elr, partitions[0].replicas);
  EXPECT_TRUE(partitions[0].unclean.empty());
}

TEST(RescuedCatalogue, WhenFoldersDisagreeMostPartitionsAndThenMostFoldersDecide) {
  FoundPartition old = shared(ids({1, 2, 3}), 0, 1);
  old.meta.settings["retention.ms"] = "1000";
  FoundPartition one = shared(ids({1, 2, 3}), 0, 2);
  one.meta.settings["retention.ms"] = "2000";
  FoundPartition two = one;
  two.meta.settings["retention.ms"] = "3000";
  RescuedCatalogue catalogue = rescue_catalogue({node(1, {old}), node(2, {one}), node(3, {two})}, 7, kNow);
  EXPECT_EQ(image_of(catalogue)->find_topic("orders")->configs.at("retention.ms"), "2000");  // the first of them
  EXPECT_THAT(image_of(catalogue)->find_topic("orders")->partitions, SizeIs(2));
  ASSERT_THAT(catalogue.remarks, SizeIs(1));
  EXPECT_THAT(catalogue.remarks[0], HasSubstr("disagree"));
  catalogue = rescue_catalogue({node(1, {one}), node(2, {two}), node(3, {two})}, 7, kNow);
  EXPECT_EQ(image_of(catalogue)->find_topic("orders")->configs.at("retention.ms"), "3000");
}

TEST(RescuedCatalogue, WhatOnlyOneNodeHasComesBackWithoutALeader) {
  FoundPartition each = shared(ids({1, 2, 3}));  // deleted while node 3 was down, perhaps
  PartitionImage partition = first_of(rescue_catalogue({node(1, {}), node(2, {}), node(3, {each})}, 7, kNow));
  EXPECT_TRUE(partition.nobody_trusted());
}

}  // namespace
}  // namespace trilog
