#include "broker/metadata/metadata_image.h"

#include <gtest/gtest.h>

namespace trilog {
namespace {

const TopicId kOrders(1, 1);
const TopicId kBills(2, 2);

PartitionRecord partition(TopicId topic, int32_t index, int32_t epoch = 0) {
  return {topic, PartitionId(index), {BrokerId(1)},      {BrokerId(1)},
          {},    BrokerId(1),        LeaderEpoch(epoch), PartitionEpoch(epoch)};
}

class Catalogue {
 public:
  ImagePtr image = std::make_shared<const MetadataImage>();
  Offset next{0};
  Status status;

  Catalogue& add(const MetadataRecord& record) {
    MetadataDelta delta(image);
    status = delta.apply(record, next);
    if (status.ok()) {
      image = delta.build();
      ++next;
    }
    return *this;
  }
};

TEST(MetadataImage, FindsATopicByNameAndById) {
  Catalogue catalogue;
  catalogue.add(TopicRecord{kOrders, "orders"}).add(partition(kOrders, 0)).add(partition(kOrders, 1));
  ASSERT_NE(catalogue.image->find_topic("orders"), nullptr);
  EXPECT_EQ(catalogue.image->find_topic("orders"), catalogue.image->find_topic(kOrders));
  EXPECT_EQ(catalogue.image->find_topic("orders")->partitions.size(), 2u);
  EXPECT_EQ(catalogue.image->find_topic("bills"), nullptr);
  EXPECT_EQ(catalogue.image->applied(), Offset(2));
}

TEST(MetadataImage, NeverChangesOnceItIsPublished) {
  Catalogue catalogue;
  catalogue.add(TopicRecord{kOrders, "orders"}).add(partition(kOrders, 0));
  ImagePtr before = catalogue.image;
  catalogue.add(TopicConfigRecord{kOrders, "retention.ms", "5"}).add(partition(kOrders, 0, 3));
  EXPECT_TRUE(before->find_topic("orders")->configs.empty());
  EXPECT_EQ(before->find_topic("orders")->partitions[0].leader_epoch, LeaderEpoch(0));
  EXPECT_EQ(catalogue.image->find_topic("orders")->partitions[0].leader_epoch, LeaderEpoch(3));
}

TEST(MetadataImage, CreateDeleteCreateLeavesTheNewestObject) {  // rule C11
  Catalogue catalogue;
  catalogue.add(TopicRecord{kOrders, "orders"}).add(RemoveTopicRecord{kOrders}).add(TopicRecord{kBills, "orders"});
  ASSERT_TRUE(catalogue.status.ok());
  EXPECT_EQ(catalogue.image->find_topic("orders")->id, kBills);
  EXPECT_EQ(catalogue.image->find_topic(kOrders), nullptr);
}

TEST(MetadataImage, RefusesRecordsThatCannotFollow) {
  Catalogue catalogue;
  catalogue.add(TopicRecord{kOrders, "orders"}).add(partition(kOrders, 0, 4)).add(ProducerIdsRecord{ProducerId(10)});
  const MetadataRecord wrong[] = {TopicRecord{kOrders, "other"},
                                  TopicRecord{kBills, "orders"},
                                  TopicConfigRecord{kBills, "retention.ms", "1"},
                                  partition(kBills, 0),
                                  partition(kOrders, 2),
                                  partition(kOrders, 0, 3),  // A5: epochs never go down
                                  PartitionRecord{kOrders, PartitionId(-1)},
                                  PartitionRecord{kOrders, PartitionId(1), {BrokerId(1)}, {BrokerId(2)}},  // A4
                                  PartitionRecord{kOrders, PartitionId(1), {BrokerId(1)}, {BrokerId(1)}, {BrokerId(1)}},
                                  RemoveTopicRecord{kBills},
                                  FenceBrokerRecord{BrokerId(9)},
                                  ProducerIdsRecord{ProducerId(9)}};
  for (const MetadataRecord& record : wrong) {
    EXPECT_EQ(catalogue.add(record).status.code(), Errc::kCorruption) << describe_metadata_record(record);
  }
  EXPECT_EQ(catalogue.next, Offset(3));
}

TEST(MetadataImage, ARegistrationGetsTheOffsetAsItsEpochAndStartsFenced) {  // rules C3, C4
  Catalogue catalogue;
  catalogue.add(TopicRecord{kOrders, "orders"})
      .add(RegisterBrokerRecord{BrokerId(1), DirectoryId(5, 5), "a:1", "0.1.0"});
  const BrokerImage* broker = catalogue.image->find_broker(BrokerId(1));
  ASSERT_NE(broker, nullptr);
  EXPECT_EQ(broker->epoch, BrokerEpoch(1));
  EXPECT_TRUE(broker->fenced);
}

TEST(MetadataImage, RemembersTheLastProcessThatWasLetInWhileTheFolderIsTheSame) {  // rule C8
  Catalogue catalogue;
  RegisterBrokerRecord start{BrokerId(1), DirectoryId(5, 5), "a:1", "0.1.0", "a:2", "rack-a"};
  catalogue.add(start);
  EXPECT_EQ(catalogue.image->find_broker(BrokerId(1))->active_epoch, BrokerEpoch(-1));
  catalogue.add(FenceBrokerRecord{BrokerId(1), BrokerEpoch(0), false}).add(start).add(start);
  const BrokerImage* broker = catalogue.image->find_broker(BrokerId(1));
  EXPECT_EQ(broker->epoch, BrokerEpoch(3));
  EXPECT_EQ(broker->active_epoch, BrokerEpoch(0));
  EXPECT_EQ(broker->peer_address, "a:2");
  EXPECT_EQ(broker->rack, "rack-a");
  start.directory = DirectoryId(6, 6);
  catalogue.add(start);
  EXPECT_EQ(catalogue.image->find_broker(BrokerId(1))->active_epoch, BrokerEpoch(-1));
}

TEST(MetadataImage, KeepsTheNewestAuditRecords) {
  Catalogue catalogue;
  for (int i = 0; i < 150; ++i) catalogue.add(AuditRecord{AuditRecord::Kind::kUncleanElection, i});
  ASSERT_EQ(catalogue.image->audit().size(), kAuditRecordsMax);
  EXPECT_EQ(catalogue.image->audit().front().time_ms, 50);
  EXPECT_EQ(catalogue.image->audit().back().time_ms, 149);
}

TEST(MetadataImage, ItsRecordsBuildAnEqualImage) {
  Catalogue catalogue;
  catalogue.add(RegisterBrokerRecord{BrokerId(1), DirectoryId(5, 5), "a:1", "0.1.0"})
      .add(FenceBrokerRecord{BrokerId(1), BrokerEpoch(0), false})
      .add(TopicRecord{kOrders, "orders", api::Durability::kReplicated})
      .add(partition(kOrders, 0, 7))
      .add(TopicConfigRecord{kOrders, "retention.ms", "5"})
      .add(TopicRecord{kBills, "bills", api::Durability::kSynced, true})
      .add(ProducerIdsRecord{ProducerId(1000)})
      .add(RegisterBrokerRecord{BrokerId(2), DirectoryId(5, 6), "b:1", "0.1.0", "b:2", "rack-b"})
      .add(FenceBrokerRecord{BrokerId(2), BrokerEpoch(7), false, true})
      .add(RegisterBrokerRecord{BrokerId(2), DirectoryId(5, 6), "b:1", "0.1.0", "b:2", "rack-b"})
      .add(PartitionRecord{kBills,
                           PartitionId(0),
                           {BrokerId(1), BrokerId(2)},
                           {},
                           {BrokerId(2)},
                           kNoBroker,
                           LeaderEpoch(3),
                           PartitionEpoch(4),
                           {BrokerId(2)},
                           LeaderEpoch(2),
                           true})
      .add(AuditRecord{AuditRecord::Kind::kUncleanElection, 5, kBills, PartitionId(0), BrokerId(2), LeaderEpoch(2),
                       "w"});
  ASSERT_TRUE(catalogue.status.ok());
  MetadataDelta delta(std::make_shared<const MetadataImage>());
  for (const MetadataRecord& record : catalogue.image->to_records()) {
    ASSERT_TRUE(delta.apply(record, catalogue.image->applied()).ok());
  }
  ImagePtr copy = delta.build();
  EXPECT_EQ(copy->digest(), catalogue.image->digest());
  EXPECT_EQ(*copy->find_topic("orders"), *catalogue.image->find_topic("orders"));
  EXPECT_EQ(*copy->find_topic("bills"), *catalogue.image->find_topic("bills"));
  EXPECT_EQ(copy->brokers(), catalogue.image->brokers());
  EXPECT_EQ(copy->audit(), catalogue.image->audit());
}

TEST(MetadataImage, SuggestsNamesThatDifferByLittle) {
  Catalogue catalogue;
  catalogue.add(TopicRecord{kOrders, "orders"}).add(TopicRecord{kBills, "invoices"});
  EXPECT_EQ(catalogue.image->similar_topics("ordrs"), std::vector<std::string>{"orders"});
  EXPECT_TRUE(catalogue.image->similar_topics("zebra").empty());
}

}  // namespace
}  // namespace trilog
