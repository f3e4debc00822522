// What state_store.h promises, checked on RocksDB and in memory alike.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "storage/state/memory_state_store.h"
#include "storage/state/rocksdb_state_store.h"
#include "storage/state/state_store.h"
#include "tests/support/temp_dir.h"

namespace trilog {
namespace {

std::unique_ptr<StateStoreProvider> make_provider(std::string_view kind) {
  if (kind == "RocksDb") return make_rocksdb_state_store_provider({});
  return std::make_unique<MemoryStateStoreProvider>();
}

class StateStoreContract : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { reopen(); }
  void reopen() {
    store_.reset();
    Result<std::unique_ptr<StateStore>> opened = provider_->open(path_);
    ASSERT_TRUE(opened.ok()) << opened.status().to_string();
    store_ = std::move(*opened);
  }
  void put(std::string_view key, std::string_view value) {
    StateBatch batch;
    batch.put(as_bytes(key), as_bytes(value));
    write(batch);
  }
  void write(const StateBatch& batch, StateSync sync = StateSync::kLater) {
    Status status = store_->write(batch, sync);
    ASSERT_TRUE(status.ok()) << status.to_string();
  }
  std::string get(std::string_view key) {
    Result<std::optional<std::string>> value = store_->get(as_bytes(key));
    EXPECT_TRUE(value.ok()) << value.status().to_string();
    return value.ok() && value->has_value() ? **value : "(none)";
  }
  // "key=value " for each entry.
  std::string scan(std::string_view prefix = "", std::string_view start = "", size_t limit = 1000) {
    Result<std::vector<StateEntry>> entries =
        store_->scan({.prefix = as_bytes(prefix), .start = as_bytes(start), .limit = limit});
    EXPECT_TRUE(entries.ok()) << entries.status().to_string();
    std::string text;
    for (const StateEntry& entry : *entries) text += entry.key + "=" + entry.value + " ";
    return text;
  }

  testing::TempDir folder_;
  std::string path_ = folder_ / "state";
  std::unique_ptr<StateStoreProvider> provider_ = make_provider(GetParam());
  std::unique_ptr<StateStore> store_;
};

TEST_P(StateStoreContract, GetsWhatWasPut) {
  EXPECT_EQ(get("a"), "(none)");
  put("a", "1");
  EXPECT_EQ(get("a"), "1");
  put("a", "2");
  EXPECT_EQ(get("a"), "2");
  put("empty", "");
  EXPECT_EQ(get("empty"), "");
  EXPECT_EQ(get(""), "(none)");
  put("", "the empty key");
  EXPECT_EQ(get(""), "the empty key");
}

TEST_P(StateStoreContract, KeysAndValuesAreAnyBytes) {
  std::string key("\0\xff\x80/\n", 5);
  std::string value(100'000, '\0');
  value[50'000] = '\xff';
  put(key, value);
  EXPECT_EQ(get(key), value);
}

TEST_P(StateStoreContract, ABatchAppliesItsChangesInOrder) {
  StateBatch batch;
  batch.put(as_bytes("a"), as_bytes("1"));
  batch.remove(as_bytes("a"));
  batch.put(as_bytes("b"), as_bytes("1"));
  batch.put(as_bytes("b"), as_bytes("2"));
  batch.remove(as_bytes("missing"));
  batch.put(as_bytes("c1"), as_bytes("x"));
  batch.remove_prefix(as_bytes("c"));
  batch.put(as_bytes("c2"), as_bytes("x"));
  EXPECT_EQ(batch.size(), 8u);
  EXPECT_GT(batch.bytes(), 0u);
  write(batch, StateSync::kNow);
  EXPECT_EQ(scan(), "b=2 c2=x ");
  batch.clear();
  EXPECT_TRUE(batch.empty());
  write(batch);
  EXPECT_EQ(scan(), "b=2 c2=x ");
}

TEST_P(StateStoreContract, ScansInUnsignedByteOrder) {
  for (std::string_view key : {"b", "a", "\xff", "\x7f", "\x80", "aa", "B"}) put(key, "");
  EXPECT_EQ(scan(), "B= a= aa= b= \x7f= \x80= \xff= ");
}

TEST_P(StateStoreContract, ScansOnePrefixFromAStartUpToALimit) {
  for (std::string_view key : {"a", "g/1", "g/2", "g/3", "g/4", "g0", "h"}) put(key, "v");
  EXPECT_EQ(scan("g/"), "g/1=v g/2=v g/3=v g/4=v ");
  EXPECT_EQ(scan("g/", "g/2"), "g/2=v g/3=v g/4=v ");
  EXPECT_EQ(scan("g/", std::string("g/2\0", 4)), "g/3=v g/4=v ") << "the next page";
  EXPECT_EQ(scan("g/", "", 2), "g/1=v g/2=v ");
  EXPECT_EQ(scan("g/", "a"), "g/1=v g/2=v g/3=v g/4=v ") << "a start before the prefix";
  EXPECT_EQ(scan("g/", "z"), "") << "a start after the prefix";
  EXPECT_EQ(scan("g/", "", 0), "");
  EXPECT_EQ(scan("nothing"), "");
  EXPECT_EQ(scan("", "g0"), "g0=v h=v ");
}

TEST_P(StateStoreContract, PrefixesOfHighBytesAreScannedToTheirEnd) {
  put("\xff\xff", "1");
  put("\xff\xff\xff", "2");
  put("\xfe\xff", "3");
  put("\xfe\xff\x01", "4");
  EXPECT_EQ(scan("\xff\xff"), "\xff\xff=1 \xff\xff\xff=2 ");
  EXPECT_EQ(scan("\xfe\xff"), "\xfe\xff=3 \xfe\xff\x01=4 ");
  StateBatch batch;
  batch.remove_prefix(as_bytes("\xfe\xff"));
  write(batch);
  EXPECT_EQ(scan(), "\xff\xff=1 \xff\xff\xff=2 ");
}

TEST_P(StateStoreContract, RemovesARangeWithoutItsEnd) {
  for (std::string_view key : {"a", "b", "c", "d"}) put(key, "");
  StateBatch batch;
  batch.remove_range(as_bytes("b"), as_bytes("d"));
  batch.remove_range(as_bytes("z"), as_bytes("a"));  // nothing
  batch.remove_range(as_bytes("a"), as_bytes("a"));  // nothing
  write(batch);
  EXPECT_EQ(scan(), "a= d= ");
}

TEST_P(StateStoreContract, IsThereAfterReopening) {
  put("a", "1");
  StateBatch batch;
  batch.put(as_bytes("b"), as_bytes("2"));
  write(batch, StateSync::kNow);
  put("c", "3");
  ASSERT_TRUE(store_->sync().ok());
  reopen();
  EXPECT_EQ(scan(), "a=1 b=2 c=3 ");
}

TEST_P(StateStoreContract, OneOpenAtATime) {
  EXPECT_EQ(provider_->open(path_).status().code(), Errc::kBusy);
  store_.reset();
  EXPECT_TRUE(provider_->open(path_).ok());
}

TEST_P(StateStoreContract, DestroyLeavesAnEmptyStore) {
  put("a", "1");
  store_.reset();
  ASSERT_TRUE(provider_->destroy(path_).ok());
  ASSERT_TRUE(provider_->destroy(path_).ok());
  reopen();
  EXPECT_EQ(scan(), "");
}

TEST_P(StateStoreContract, FoldersAreIndependent) {
  put("a", "1");
  std::unique_ptr<StateStore> other = provider_->open(folder_ / "other").value();
  EXPECT_FALSE(other->get(as_bytes("a")).value().has_value());
}

TEST_P(StateStoreContract, CountsItsKeysApproximately) {
  for (int i = 0; i < 1000; ++i) put("key" + std::to_string(i), "v");
  uint64_t count = store_->approximate_count().value();
  EXPECT_GE(count, 900u);
  EXPECT_LE(count, 1100u);
}

TEST_P(StateStoreContract, AgreesWithAPlainMapOverManyRandomBatches) {
  std::mt19937 random(5);
  std::map<std::string, std::string> model;
  auto key = [&] { return "k" + std::to_string(random() % 300); };
  for (int round = 0; round < 400; ++round) {
    StateBatch batch;
    for (uint32_t i = random() % 8; i > 0; --i) {
      uint32_t choice = random() % 20;
      std::string first = key();
      std::string second = key();
      if (choice < 14) {
        std::string value(random() % 2000, static_cast<char>(random()));
        batch.put(as_bytes(first), as_bytes(value));
        model[first] = value;
      } else if (choice < 19) {
        batch.remove(as_bytes(first));
        model.erase(first);
      } else {
        batch.remove_range(as_bytes(first), as_bytes(second));
        if (first < second) model.erase(model.lower_bound(first), model.lower_bound(second));
      }
    }
    write(batch, round % 50 == 0 ? StateSync::kNow : StateSync::kLater);
    if (round % 100 == 99) reopen();
    std::string probe = key();
    ASSERT_EQ(get(probe), model.contains(probe) ? model[probe] : "(none)");
  }
  std::string expected;
  for (const auto& [k, v] : model) expected.append(k).append("=").append(v).append(" ");
  EXPECT_EQ(scan(), expected);
}

TEST_P(StateStoreContract, SeveralThreadsMayUseIt) {
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      std::string prefix = "t" + std::to_string(thread) + "/";
      for (int i = 0; i < 100; ++i) {
        StateBatch batch;
        std::string key = prefix + std::to_string(1000 + i);
        batch.put(as_bytes(key), as_bytes("v"));
        EXPECT_TRUE(store_->write(batch, i % 50 == 0 ? StateSync::kNow : StateSync::kLater).ok());
        EXPECT_TRUE(store_->get(as_bytes(key)).value().has_value());
        EXPECT_EQ(store_->scan({.prefix = as_bytes(prefix)}).value().size(), static_cast<size_t>(i + 1));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(store_->scan({}).value().size(), 400u);
}

INSTANTIATE_TEST_SUITE_P(On, StateStoreContract, ::testing::Values("RocksDb", "Memory"),
                         [](const auto& with) { return std::string(with.param); });

TEST(StateBatch, EndOfPrefixIsTheFirstKeyBehindIt) {
  EXPECT_EQ(end_of_prefix(as_bytes("abc")), "abd");
  EXPECT_EQ(end_of_prefix(as_bytes("a\xff\xff")), "b");
  EXPECT_EQ(end_of_prefix(as_bytes(std::string_view("\0", 1))), "\x01");
  EXPECT_EQ(end_of_prefix(as_bytes("\xff\xff")), std::nullopt);
  EXPECT_EQ(end_of_prefix({}), std::nullopt);
}

TEST(MemoryStateStore, APowerCutLosesUnsyncedBatchesFromTheEnd) {
  auto medium = std::make_shared<MemoryStateMedium>();
  auto put = [](StateStore& store, std::string_view key, StateSync sync) {
    StateBatch batch;
    batch.put(as_bytes(key), as_bytes("v"));
    ASSERT_TRUE(store.write(batch, sync).ok());
  };
  {
    MemoryStateStore store(medium);
    put(store, "a", StateSync::kLater);
    put(store, "b", StateSync::kNow);
    put(store, "c", StateSync::kLater);
    put(store, "d", StateSync::kLater);
  }
  EXPECT_EQ(medium->unsynced_batches(), 2u);
  EXPECT_EQ(medium->entries().size(), 4u) << "killing the process loses nothing";
  medium->power_cut(1);
  MemoryStateStore store(medium);
  std::vector<StateEntry> entries = store.scan({}).value();
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[2].key, "c");
}

TEST(MemoryStateStore, FailsWritesOnDemandAndKeepsReading) {
  auto medium = std::make_shared<MemoryStateMedium>();
  MemoryStateStore store(medium);
  StateBatch batch;
  batch.put(as_bytes("a"), as_bytes("1"));
  ASSERT_TRUE(store.write(batch, StateSync::kLater).ok());
  medium->set_write_status(Status(Errc::kDiskFull, "full"));
  EXPECT_EQ(store.write(batch, StateSync::kLater).code(), Errc::kDiskFull);
  EXPECT_EQ(store.sync().code(), Errc::kDiskFull);
  EXPECT_TRUE(store.get(as_bytes("a")).value().has_value());
  medium->set_write_status({});
  EXPECT_TRUE(store.write(batch, StateSync::kNow).ok());
}

}  // namespace
}  // namespace trilog
