// The RocksDB store under kill -9, on a full disk, and over a folder that was deleted or damaged. Writers are this same
// program started again with "--writer", so that each has threads of its own to lose.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "storage/base/codec.h"
#include "storage/state/rocksdb_state_store.h"
#include "tests/support/temp_dir.h"

namespace trilog {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kKeptBatches = 600;
constexpr uint64_t kRemovalEvery = 50;  // batches; range tombstones are dear to read over, so not in each
constexpr std::string_view kLastKey = "last";
constexpr int kSkipped = 77;
constexpr auto kMemory = testing::TempDir::Place::kMemory;

std::string key_of(uint64_t number) {
  std::byte key[9] = {std::byte{'n'}};
  store_big_endian<uint64_t>(key + 1, number);
  return std::string(as_text(key));
}
// Known from the number alone, of varying size, so that a wrong or torn value shows.
std::string value_of(uint64_t number) {
  uint64_t word = number * 0x9e3779b97f4a7c15 + 1;
  std::string value((word >> 8) % (number % 16 == 0 ? 20'000 : 600), '\0');
  for (size_t at = 0; at < value.size(); at += sizeof(word)) {
    word = (word ^ (word >> 29)) * 0xbf58476d1ce4e5b9 + 1;
    std::memcpy(value.data() + at, &word, std::min(sizeof(word), value.size() - at));
  }
  return value;
}

// The first number that is left after batch `last`: older ones go by ranges.
uint64_t first_kept(uint64_t last) {
  uint64_t removed_at = last / kRemovalEvery * kRemovalEvery;
  return removed_at < kKeptBatches ? 1 : removed_at + 1 - kKeptBatches;
}

std::unique_ptr<StateStoreProvider> provider() { return make_rocksdb_state_store_provider({}); }

Status write_number(StateStore& store, uint64_t number, StateSync sync) {
  StateBatch batch;
  batch.put(as_bytes(key_of(number)), as_bytes(value_of(number)));
  std::byte last[8];
  store_big_endian<uint64_t>(last, number);
  batch.put(as_bytes(kLastKey), last);
  if (number % kRemovalEvery == 0) batch.remove_range(as_bytes(key_of(0)), as_bytes(key_of(first_kept(number))));
  return store.write(batch, sync);
}

// 0 if nothing was written yet; numbers count from 1.
Result<uint64_t> last_number(StateStore& store) {
  std::optional<std::string> last = TRY(store.get(as_bytes(kLastKey)));
  if (!last.has_value()) return uint64_t{0};
  if (last->size() != 8) return Status(Errc::kFailed, "the last number has a wrong size");
  return load_big_endian<uint64_t>(as_bytes(*last).data());
}

// The store must be exactly what it was after some batch: this batch's number, or why not.
Result<uint64_t> check_consistent(StateStore& store) {
  uint64_t last = TRY(last_number(store));
  uint64_t next = first_kept(last);
  std::string start;
  while (true) {
    std::vector<StateEntry> page = TRY(store.scan({.prefix = as_bytes("n"), .start = as_bytes(start), .limit = 500}));
    for (const StateEntry& entry : page) {
      if (entry.key != key_of(next)) return Status(Errc::kFailed, "batch " + std::to_string(next) + " is missing");
      if (entry.value != value_of(next)) return Status(Errc::kFailed, "batch " + std::to_string(next) + " is wrong");
      ++next;
    }
    if (page.size() < 500) break;
    start = page.back().key + std::string(1, '\0');
  }
  if (next != last + 1) return Status(Errc::kFailed, "ends before the last number " + std::to_string(last));
  return last;
}

// Writes until it is killed; tells each synced number on the pipe.
int run_writer(const std::string& path, int pipe_end) {
  Result<std::unique_ptr<StateStore>> opened = provider()->open(path);
  if (!opened.ok()) {
    std::fprintf(stderr, "%s\n", opened.status().to_string().c_str());
    return 2;
  }
  StateStore& store = **opened;
  Result<uint64_t> last = last_number(store);
  if (!last.ok()) return 3;
  for (uint64_t number = *last + 1;; ++number) {
    bool sync = number % 3 != 0;
    if (!write_number(store, number, sync ? StateSync::kNow : StateSync::kLater).ok()) return 4;
    if (sync && ::write(pipe_end, &number, sizeof(number)) != sizeof(number)) return 5;
  }
}

// In a file system of its own with little space: full is told as kDiskFull, and writing goes on after space returned.
int run_full_disk(const std::string& path) {
  if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return kSkipped;
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return kSkipped;
  if (::mount("tmpfs", path.c_str(), "tmpfs", 0, "size=20m") != 0) return kSkipped;
  {
    std::ofstream ballast(path + "/ballast", std::ios::binary);
    ballast << std::string(12u << 20, 'b');
  }
  std::unique_ptr<StateStore> store = provider()->open(path + "/state").value();
  uint64_t number = 1;
  Status status;
  auto put = [&store](uint64_t key) {
    StateBatch batch;
    batch.put(as_bytes(key_of(key)), as_bytes(value_of(key)));
    return store->write(batch, key % 2 == 0 ? StateSync::kNow : StateSync::kLater);
  };
  while (status.ok() && number < 100'000) {
    status = put(number);
    if (status.ok()) ++number;
  }
  if (status.code() != Errc::kDiskFull) {
    std::fprintf(stderr, "full disk: %s\n", status.to_string().c_str());
    return 2;
  }
  // Whatever still fits may succeed; what does not is told in the same way again.
  for (int attempt = 0; attempt < 5; ++attempt) {
    StateBatch batch;
    batch.put(as_bytes("large"), as_bytes(std::string(8u << 20, 'x')));
    status = store->write(batch, StateSync::kNow);
    if (status.code() == Errc::kDiskFull) continue;
    std::fprintf(stderr, "full disk, again: %s\n", status.to_string().c_str());
    return 3;
  }
  if (store->get(as_bytes(key_of(1))).value() != value_of(1)) return 4;
  fs::remove(path + "/ballast");
  status = put(number);
  if (!status.ok()) {
    std::fprintf(stderr, "after space returned: %s\n", status.to_string().c_str());
    return 5;
  }
  store.reset();
  store = provider()->open(path + "/state").value();
  for (uint64_t i = 1; i <= number; ++i) {
    if (store->get(as_bytes(key_of(i))).value() != value_of(i)) return 6;
  }
  return 0;
}

class Child {
 public:
  Child(const std::string& mode, const std::string& path) {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      int target = ::fcntl(ends[1], F_DUPFD, 10);  // without O_CLOEXEC
      std::string number = std::to_string(target);
      ::execl("/proc/self/exe", "rocksdb_crash_test", mode.c_str(), path.c_str(), number.c_str(), nullptr);
      ::_exit(99);
    }
    ::close(ends[1]);
    pipe_ = ends[0];
  }
  ~Child() {
    if (pid_ > 0) kill();
    ::close(pipe_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // The next acknowledged number; 0 if the writer ended.
  uint64_t next_acknowledged() {
    uint64_t number = 0;
    return ::read(pipe_, &number, sizeof(number)) == sizeof(number) ? number : 0;
  }
  void kill() {
    ::kill(pid_, SIGKILL);
    wait();
  }
  // Its exit code, or minus the signal.
  int wait() {
    int state = 0;
    EXPECT_EQ(::waitpid(std::exchange(pid_, -1), &state, 0) > 0, true);
    return WIFEXITED(state) ? WEXITSTATUS(state) : -WTERMSIG(state);
  }

 private:
  pid_t pid_ = -1;
  int pipe_ = -1;
};

TEST(RocksDbCrash, TwoHundredKillsLoseNothingAcknowledged) {
  testing::TempDir folder;
  std::string path = folder / "state";
  std::mt19937 random(1);
  uint64_t acknowledged = 0;
  uint64_t kills_with_progress = 0;
  for (int round = 0; round < 200; ++round) {
    {
      Child writer("--writer", path);
      // Every tenth is killed while it starts or opens; the others after some acknowledgements, in the middle of the
      // next write.
      uint32_t wanted = round % 10 == 0 ? 0 : 1 + random() % 30;
      for (uint32_t i = 0; i < wanted; ++i) {
        uint64_t number = writer.next_acknowledged();
        ASSERT_NE(number, 0u) << "the writer ended by itself with " << writer.wait();
        acknowledged = number;
      }
      kills_with_progress += wanted > 0 ? 1 : 0;
      writer.kill();
      while (uint64_t number = writer.next_acknowledged()) acknowledged = number;
    }
    Result<std::unique_ptr<StateStore>> store = provider()->open(path);
    ASSERT_TRUE(store.ok()) << "round " << round << ": " << store.status().to_string();
    Result<uint64_t> last = check_consistent(**store);
    ASSERT_TRUE(last.ok()) << "round " << round << ": " << last.status().to_string();
    ASSERT_GE(*last, acknowledged) << "round " << round;
  }
  EXPECT_EQ(kills_with_progress, 180u);
  EXPECT_GT(acknowledged, 2000u);
}

TEST(RocksDbCrash, AFullDiskIsToldAndWritingGoesOnAfterSpaceReturned) {
  testing::TempDir folder;
  int code = Child("--full-disk", folder.path()).wait();
  if (code == kSkipped) GTEST_SKIP() << "may not mount a tmpfs here";
  EXPECT_EQ(code, 0);
}

// Opens a folder in any condition: either the store is as it was after some batch, or a Status says no (`code`: damage
// is told as kCorruption, so that the owner knows to rebuild), and after destroy() a new store works. Never a crash,
// never a wrong value.
void expect_opens_or_is_rebuilt(const std::string& path, uint64_t written, const std::string& what,
                                Errc code = Errc::kCorruption) {
  std::unique_ptr<StateStoreProvider> stores = provider();
  {
    Result<std::unique_ptr<StateStore>> store = stores->open(path);
    if (store.ok()) {
      Result<uint64_t> last = check_consistent(**store);
      if (last.ok()) {
        EXPECT_LE(*last, written) << what;
        return;
      }
      EXPECT_EQ(last.status().code(), code) << what << ": " << last.status().to_string();
    } else {
      EXPECT_EQ(store.status().code(), code) << what << ": " << store.status().to_string();
      EXPECT_NE(store.status().message().find(path), std::string_view::npos) << store.status().to_string();
    }
  }
  ASSERT_TRUE(stores->destroy(path).ok()) << what;
  Result<std::unique_ptr<StateStore>> rebuilt = stores->open(path);
  ASSERT_TRUE(rebuilt.ok()) << what << ": " << rebuilt.status().to_string();
  EXPECT_EQ(*last_number(**rebuilt), 0u);
  EXPECT_TRUE(write_number(**rebuilt, 1, StateSync::kNow).ok());
}

// Filled so that there are table files, a write-ahead log and a manifest with more than one entry.
constexpr uint64_t kWritten = 1800;
const std::string& filled_folder() {
  static testing::TempDir* folder = [] {
    auto* made = new testing::TempDir(kMemory);
    for (uint64_t number = 1; number <= kWritten;) {
      std::unique_ptr<StateStore> store = provider()->open(*made / "state").value();
      for (uint64_t end = number + 900; number < end; ++number) {
        EXPECT_TRUE(write_number(*store, number, StateSync::kLater).ok());
      }
    }
    std::atexit([] { delete folder; });
    return made;
  }();
  static std::string path = *folder / "state";
  return path;
}

using Damage = std::function<void(const fs::path&)>;

void damage_each_file(const std::string& name, const Damage& damage) {
  std::vector<std::string> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(filled_folder())) {
    files.push_back(entry.path().filename().string());
  }
  std::sort(files.begin(), files.end());
  EXPECT_GT(files.size(), 4u);
  for (const std::string& file : files) {
    testing::TempDir folder(kMemory);
    fs::copy(filled_folder(), folder / "state");
    damage(fs::path(folder / "state") / file);
    std::string what = name;
    what.append(" of ").append(file);
    expect_opens_or_is_rebuilt(folder / "state", kWritten, what);
  }
}

void overwrite(const fs::path& path, uint64_t offset, const std::string& bytes) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(offset));
  file << bytes;
}

TEST(RocksDbDamage, AnyFileDeleted) {
  damage_each_file("deletion", [](const fs::path& path) { fs::remove(path); });
}
TEST(RocksDbDamage, AnyFileEmptied) {
  damage_each_file("emptying", [](const fs::path& path) { fs::resize_file(path, 0); });
}
TEST(RocksDbDamage, AnyFileCutInHalf) {
  damage_each_file("halving", [](const fs::path& path) { fs::resize_file(path, fs::file_size(path) / 2); });
}
TEST(RocksDbDamage, AnyFileFilledWithGarbage) {
  damage_each_file("garbage", [](const fs::path& path) {
    std::mt19937 random(9);
    std::string garbage(fs::file_size(path), '\0');
    for (char& c : garbage) c = static_cast<char>(random());
    overwrite(path, 0, garbage);
  });
}
TEST(RocksDbDamage, AnyFileWithAFlippedBit) {
  for (int place = 0; place < 5; ++place) {
    damage_each_file("flip " + std::to_string(place), [place](const fs::path& path) {
      uint64_t size = fs::file_size(path);
      if (size == 0) return;
      uint64_t offset = size * static_cast<uint64_t>(place) / 5;
      std::ifstream in(path, std::ios::binary);
      in.seekg(static_cast<std::streamoff>(offset));
      auto byte = static_cast<char>(in.get() ^ (1 << (place % 8)));
      overwrite(path, offset, std::string(1, byte));
    });
  }
}

TEST(RocksDbDamage, TheFolderIsAFileOrHasADeletedParent) {
  testing::TempDir folder(kMemory);
  std::ofstream(folder / "state") << "not a folder";
  expect_opens_or_is_rebuilt(folder / "state", 0, "a file", Errc::kIo);
  EXPECT_FALSE(provider()->open(folder / "missing/parent/state").ok());
}

TEST(RocksDbDamage, AStoreThatWasHalfRemovedIsDestroyedForGood) {
  testing::TempDir folder(kMemory);
  fs::copy(filled_folder(), folder / "state.removed");  // left over from a removal that was interrupted
  expect_opens_or_is_rebuilt(folder / "state", 0, "nothing");
  ASSERT_TRUE(provider()->destroy(folder / "state").ok());
  EXPECT_FALSE(fs::exists(folder / "state.removed"));
  EXPECT_FALSE(fs::exists(folder / "state"));
}

TEST(RocksDbDamage, DeletedWhileOpenItAnswersAStatusOrKeepsWorking) {
  testing::TempDir folder(kMemory);
  {
    std::unique_ptr<StateStore> store = provider()->open(folder / "state").value();
    ASSERT_TRUE(write_number(*store, 1, StateSync::kNow).ok());
    fs::remove_all(folder / "state");
    // Enough for several flushes, which have no folder to go to.
    Status status;
    for (uint64_t number = 2; number < 3000 && status.ok(); ++number) {
      status = write_number(*store, number, StateSync::kLater);
    }
    EXPECT_FALSE(status.ok());
    EXPECT_FALSE(write_number(*store, 3001, StateSync::kNow).ok()) << "a failed store stays failed";
  }
  expect_opens_or_is_rebuilt(folder / "state", 3000, "deleted while open");
}

TEST(RocksDbStateStore, RunsOneBackgroundThreadAndKeepsNoLogFiles) {
  testing::TempDir folder(kMemory);
  std::unique_ptr<StateStore> store = provider()->open(folder / "state").value();
  for (uint64_t number = 1; number < 4000; ++number) {
    ASSERT_TRUE(write_number(*store, number, StateSync::kLater).ok());
  }
  store.reset();
  int workers = 0;
  for (const fs::directory_entry& task : fs::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm") >> std::ws, name);
    EXPECT_EQ(name.find("rocksdb:high"), std::string::npos);
    workers += name.starts_with("rocksdb:") ? 1 : 0;
  }
  EXPECT_EQ(workers, 1);
  uint64_t bytes = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder / "state")) {
    EXPECT_FALSE(entry.path().filename().string().starts_with("LOG")) << entry.path();
    bytes += entry.file_size();
  }
  EXPECT_LT(bytes, 12u << 20) << "600 live values of about 900 bytes, and what is not compacted yet";
}

// Nodes that share a process share RocksDB's thread; opening one store must not hold up the flushes of another.
TEST(RocksDbStateStore, StoresOfOneProcessFlushWhileOthersOpen) {
  testing::TempDir folder(kMemory);
  std::vector<std::unique_ptr<StateStoreProvider>> providers;
  std::vector<std::unique_ptr<StateStore>> stores;
  uint64_t number = 1;
  for (int i = 0; i < 3; ++i) {
    providers.push_back(provider());
    stores.push_back(providers.back()->open(folder / std::to_string(i)).value());
    for (uint64_t end = number + 1300; number < end; ++number) {
      for (const std::unique_ptr<StateStore>& store : stores) {
        ASSERT_TRUE(write_number(*store, number, StateSync::kLater).ok());
      }
    }
  }
  for (const std::unique_ptr<StateStore>& store : stores) EXPECT_EQ(last_number(*store).value(), number - 1);
}

}  // namespace

int run_child(const std::string& mode, const std::string& path, int pipe_end) {
  return mode == "--writer" ? run_writer(path, pipe_end) : run_full_disk(path);
}

}  // namespace trilog

int main(int argc, char** argv) {
  if (argc == 4 && (std::strcmp(argv[1], "--writer") == 0 || std::strcmp(argv[1], "--full-disk") == 0)) {
    return trilog::run_child(argv[1], argv[2], std::atoi(argv[3]));
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
