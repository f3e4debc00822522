#include "broker/metadata/metadata_loader.h"

#include <gtest/gtest.h>

namespace trilog {
namespace {

const TopicId kOrders(1, 1);
const TopicId kBills(2, 2);

// Keeps encoded records alive for the views the loader takes.
Status feed(MetadataLoader& loader, Offset first, const std::vector<MetadataRecord>& records) {
  std::vector<Bytes> bytes;
  std::vector<ByteView> views;
  for (const MetadataRecord& record : records) bytes.push_back(encode_metadata_record(record));
  for (const Bytes& each : bytes) views.push_back(each.view());
  return loader.apply(first, views);
}

TEST(MetadataLoader, TellsSubscribersWhatChangedOncePerBatch) {
  MetadataLoader loader;
  int calls = 0;
  loader.subscribe([&](const ImagePtr& image, const MetadataLoader::DeltaPtr& delta) {
    ++calls;
    EXPECT_NE(image->find_topic("orders"), nullptr);
    EXPECT_EQ(delta->changed_topics(), (std::set<TopicId>{kOrders, kBills}));
  });
  ASSERT_TRUE(feed(loader, Offset(0), {TopicRecord{kOrders, "orders"}, TopicRecord{kBills, "bills"}}).ok());
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(loader.image()->applied(), Offset(1));
}

TEST(MetadataLoader, StopsAtARecordItDoesNotKnow) {
  MetadataLoader loader;
  std::string unknown("\x7f\x00", 2);
  EXPECT_EQ(loader.apply(Offset(0), {as_bytes(unknown)}).code(), Errc::kUnsupported);
}

TEST(MetadataLoader, ASnapshotReplacesEverythingAndSaysWhatIsGone) {
  MetadataLoader source;
  ASSERT_TRUE(feed(source, Offset(0), {TopicRecord{kBills, "bills"}}).ok());
  Bytes snapshot = source.make_snapshot();

  MetadataLoader loader;
  ASSERT_TRUE(feed(loader, Offset(0), {TopicRecord{kOrders, "orders"}}).ok());
  bool told = false;
  loader.subscribe([&](const ImagePtr&, const MetadataLoader::DeltaPtr& delta) {
    told = delta->removed_topics().contains(kOrders) && delta->changed_topics().contains(kBills);
  });
  ASSERT_TRUE(loader.load_snapshot(Offset(40), snapshot).ok());
  EXPECT_TRUE(told);
  EXPECT_EQ(loader.image()->find_topic("orders"), nullptr);
  EXPECT_NE(loader.image()->find_topic("bills"), nullptr);
  EXPECT_EQ(loader.image()->applied(), Offset(40));
}

TEST(MetadataLoader, RefusesADamagedSnapshotAndKeepsItsImage) {
  MetadataLoader source;
  ASSERT_TRUE(feed(source, Offset(0), {TopicRecord{kBills, "bills"}}).ok());
  Bytes snapshot = source.make_snapshot();
  int refused = 0;
  for (size_t size = 1; size < snapshot.size(); ++size) {
    MetadataLoader loader;
    ASSERT_TRUE(feed(loader, Offset(0), {TopicRecord{kOrders, "orders"}}).ok());
    // A cut at a record's end is sound by itself; the snapshot file's own checksum finds that.
    if (loader.load_snapshot(Offset(9), snapshot.view().first(size)).ok()) continue;
    ++refused;
    EXPECT_NE(loader.image()->find_topic("orders"), nullptr) << size;
  }
  EXPECT_GT(refused, 10);
}

}  // namespace
}  // namespace trilog
