#include "storage/state/rocksdb_state_store.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/listener.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <array>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <mutex>
#include <shared_mutex>
#include <utility>

#include "storage/env/posix_file_system.h"
#include "storage/state/manifest_guard.h"

namespace trilog {
namespace {

constexpr size_t kWriteBufferBytes = size_t{1} << 20;
constexpr size_t kBlockCacheBytes = size_t{1} << 20;
constexpr uint64_t kWalBytesMax = uint64_t{4} << 20;  // a write buffer is flushed so that recovery never replays more
constexpr int kOpenFilesMax = 64;
constexpr uint64_t kSpaceToGoOn = 4 * kWriteBufferBytes;  // opening flushes what the write-ahead log holds

// An empty view may have no address, which RocksDB hands on to memcmp.
rocksdb::Slice slice(ByteView bytes) {
  if (bytes.empty()) return {};
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Errc errc_of(const rocksdb::Status& status) {
  if (status.IsNoSpace() || status.subcode() == rocksdb::Status::kSpaceLimit) return Errc::kDiskFull;
  if (status.IsCorruption() || status.IsNotSupported()) return Errc::kCorruption;
  if (status.IsBusy() || status.IsTryAgain()) return Errc::kBusy;
  if (status.IsIOError()) {
    if (status.IsPathNotFound()) return Errc::kNotFound;
    // There is no code for a held lock.
    if (status.ToString().find("lock") != std::string::npos) return Errc::kBusy;
    return Errc::kIo;
  }
  return Errc::kFailed;
}

Status from_rocksdb(const rocksdb::Status& status, std::string_view what, const std::string& directory) {
  if (status.ok()) return ok_status();
  return Status(errc_of(status), "state store " + directory + ": " + std::string(what) + ": " + status.ToString());
}

// RocksDB's own messages: warnings and worse become lines of ours, the rest goes nowhere. Called from its threads.
class LogAdapter : public rocksdb::Logger {
 public:
  explicit LogAdapter(trilog::Logger log) : rocksdb::Logger(rocksdb::WARN_LEVEL), log_(std::move(log)) {}
  using rocksdb::Logger::Logv;
  void Logv(const char* format, va_list arguments) override { Logv(rocksdb::INFO_LEVEL, format, arguments); }
  void Logv(const rocksdb::InfoLogLevel level, const char* format, va_list arguments) override {
    if (level < rocksdb::WARN_LEVEL || level == rocksdb::HEADER_LEVEL) return;
    std::array<char, 512> line;
    std::vsnprintf(line.data(), line.size(), format, arguments);
    if (level == rocksdb::WARN_LEVEL) {
      log_.warning("state store: ", line.data());
    } else {
      log_.error("state store: ", line.data());
    }
  }

 private:
  const trilog::Logger log_;
};

// RocksDB would flush on a thread of high priority and compact on one of low priority. Told that there are none of high
// priority, it flushes on the other. Not by SetBackgroundThreads(0, HIGH): opening a second store raises that again for
// a moment, and what is queued in that moment would wait for ever.
class OneThreadEnv : public rocksdb::EnvWrapper {
 public:
  OneThreadEnv() : rocksdb::EnvWrapper(rocksdb::Env::Default()) {}
  const char* Name() const override { return "OneThreadEnv"; }
  int GetBackgroundThreads(Priority priority) override {
    return priority == HIGH ? 0 : EnvWrapper::GetBackgroundThreads(priority);
  }
  void IncBackgroundThreadsIfNeeded(int number, Priority priority) override {
    if (priority != HIGH) EnvWrapper::IncBackgroundThreadsIfNeeded(number, priority);
  }
  void Schedule(void (*work)(void*), void* argument, Priority priority, void* tag, void (*unschedule)(void*)) override {
    EnvWrapper::Schedule(work, argument, priority == HIGH ? LOW : priority, tag, unschedule);
  }
};

// What the stores of one provider share.
struct Shared {
  explicit Shared(trilog::Logger logger) : log(std::make_shared<LogAdapter>(std::move(logger))) {}
  const std::shared_ptr<rocksdb::Logger> log;
  OneThreadEnv env;
  const std::shared_ptr<rocksdb::Cache> block_cache = rocksdb::NewLRUCache(kBlockCacheBytes, /*num_shard_bits=*/0);
};

rocksdb::Options make_options(Shared& shared) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.env = &shared.env;
  options.info_log = shared.log;
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.track_and_verify_wals_in_manifest = true;
  options.paranoid_checks = true;
  options.write_buffer_size = kWriteBufferBytes;
  options.max_write_buffer_number = 2;
  options.max_total_wal_size = kWalBytesMax;
  options.max_manifest_file_size = 1u << 20;
  options.manifest_preallocation_size = 64u << 10;
  options.target_file_size_base = 8u << 20;
  options.max_bytes_for_level_base = 32u << 20;
  options.max_open_files = kOpenFilesMax;
  options.max_file_opening_threads = 1;
  options.max_background_jobs = 1;
  options.max_bgerror_resume_count = 0;  // see Listener
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.skip_stats_update_on_db_open = true;
  // Few threads write, and seldom at once: the machinery for many only costs.
  options.allow_concurrent_memtable_write = false;
  options.enable_write_thread_adaptive_yield = false;
  options.compression = rocksdb::kNoCompression;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = shared.block_cache;
  table.cache_index_and_filter_blocks = true;  // so that the cache bounds them too
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

// Called from RocksDB's threads, with none of its locks held. One for each time a store is opened.
class Listener : public rocksdb::EventListener {
 public:
  explicit Listener(const std::string& directory) : guard_(*files_, directory) {}

  void OnFlushCompleted(rocksdb::DB* db, const rocksdb::FlushJobInfo&) override { note_manifest(*db); }
  void OnCompactionCompleted(rocksdb::DB* db, const rocksdb::CompactionJobInfo&) override { note_manifest(*db); }
  void OnBackgroundError(rocksdb::BackgroundErrorReason, rocksdb::Status* error) override {
    (errc_of(*error) == Errc::kDiskFull ? disk_full_ : failed_).store(true);
  }
  // RocksDB's own recovery would be one more thread. The store is opened anew instead.
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason, rocksdb::Status, bool* auto_recovery) override {
    *auto_recovery = false;
  }

  // A flush or compaction found the disk full, or failed otherwise.
  bool disk_full() const { return disk_full_.load(); }
  bool failed() const { return failed_.load(); }
  Status check_manifest() { return guard_.check(); }
  void note_manifest(rocksdb::DB& db) {
    std::lock_guard lock(mutex_);
    std::vector<std::string> names;
    uint64_t size = 0;
    if (!db.GetLiveFiles(names, &size, /*flush_memtable=*/false).ok()) return;
    for (std::string_view name : names) {
      if (name.starts_with("/MANIFEST-")) guard_.note(name.substr(1), size);
    }
  }

 private:
  const std::unique_ptr<FileSystem> files_ = make_blocking_posix_file_system();
  std::mutex mutex_;
  ManifestGuard guard_;
  std::atomic<bool> disk_full_{false};
  std::atomic<bool> failed_{false};
};

struct OpenDb {
  std::shared_ptr<Listener> listener;
  std::unique_ptr<rocksdb::DB> db;

  static Result<OpenDb> open(Shared& shared, const std::string& directory) {
    OpenDb opened{std::make_shared<Listener>(directory), nullptr};
    TRY(opened.listener->check_manifest());
    rocksdb::Options options = make_options(shared);
    options.listeners.push_back(opened.listener);
    // RocksDB would log a missing folder as an error before it makes it; if this fails, it says so itself.
    static_cast<void>(options.env->CreateDirIfMissing(directory).ok());
    rocksdb::DB* db = nullptr;
    TRY(from_rocksdb(rocksdb::DB::Open(options, directory, &db), "open", directory));
    opened.db.reset(db);
    opened.listener->note_manifest(*db);
    return opened;
  }
  // What was written with kLater is in the write-ahead log, in the page cache at least; closing does not flush.
  void close() {
    if (db != nullptr) static_cast<void>(db->Close().ok());
    db.reset();
  }
};

class RocksDbStateStore : public StateStore {
 public:
  RocksDbStateStore(std::shared_ptr<Shared> shared, OpenDb open, std::string directory)
      : shared_(std::move(shared)), open_(std::move(open)), directory_(std::move(directory)) {}
  ~RocksDbStateStore() override { open_.close(); }

  Result<std::optional<std::string>> get(ByteView key) override {
    std::shared_lock lock(mutex_);
    TRY(check_open());
    std::string value;
    rocksdb::Status status = open_.db->Get(read_options(), slice(key), &value);
    if (status.IsNotFound()) return std::optional<std::string>();
    TRY(from_rocksdb(status, "get", directory_));
    return std::optional<std::string>(std::move(value));
  }

  Status write(const StateBatch& batch, StateSync sync) override {
    rocksdb::WriteBatch changes(batch.bytes() + 16 * batch.size());
    for (const StateBatch::Change& change : batch.changes()) TRY(add(changes, change));
    rocksdb::WriteOptions options;
    options.sync = sync == StateSync::kNow;
    return change("write", [&](rocksdb::DB& db) { return db.Write(options, &changes); });
  }

  Result<std::vector<StateEntry>> scan(const StateScan& scan) override {
    std::shared_lock lock(mutex_);
    TRY(check_open());
    rocksdb::ReadOptions options = read_options();
    std::optional<std::string> end = end_of_prefix(scan.prefix);
    rocksdb::Slice upper_bound;
    if (end.has_value()) {
      upper_bound = *end;
      options.iterate_upper_bound = &upper_bound;
    }
    std::vector<StateEntry> entries;
    std::unique_ptr<rocksdb::Iterator> at(open_.db->NewIterator(options));
    std::string_view prefix = as_text(scan.prefix);
    std::string_view start = as_text(scan.start) > prefix ? as_text(scan.start) : prefix;
    for (at->Seek(slice(as_bytes(start))); at->Valid() && entries.size() < scan.limit; at->Next()) {
      if (!at->key().starts_with(slice(scan.prefix))) break;
      entries.push_back({at->key().ToString(), at->value().ToString()});
    }
    TRY(from_rocksdb(at->status(), "scan", directory_));
    return entries;
  }

  Status sync() override {
    return change("sync", [](rocksdb::DB& db) { return db.FlushWAL(true); });
  }

  Result<uint64_t> approximate_count() override {
    std::shared_lock lock(mutex_);
    TRY(check_open());
    uint64_t count = 0;
    if (!open_.db->GetIntProperty(rocksdb::DB::Properties::kEstimateNumKeys, &count)) {
      return Status(Errc::kFailed, "state store " + directory_ + ": number of keys is unknown");
    }
    return count;
  }

 private:
  static rocksdb::ReadOptions read_options() {
    rocksdb::ReadOptions options;
    options.verify_checksums = true;
    return options;
  }

  Status add(rocksdb::WriteBatch& changes, const StateBatch::Change& change) const {
    switch (change.kind) {
      case StateBatch::Kind::kPut: return from_rocksdb(changes.Put(change.key, change.value), "put", directory_);
      case StateBatch::Kind::kRemove: return from_rocksdb(changes.Delete(change.key), "remove", directory_);
      case StateBatch::Kind::kRemoveRange:
        if (change.key >= change.value) return ok_status();
        return from_rocksdb(changes.DeleteRange(change.key, change.value), "remove range", directory_);
    }
    UNREACHABLE("StateBatch::Kind");
  }

  // A full disk is the one failure that passes. RocksDB refuses writes after it, and DB::Resume() may wait for ever for
  // a flush that is never made (seen with 7.8.3). So, once there is space, the store is closed and opened again.
  template <typename Change>
  Status change(std::string_view what, Change do_it) {
    auto try_it = [&] {
      Status status = from_rocksdb(do_it(*open_.db), what, directory_);
      if (!status.ok()) note(status);
      return status;
    };
    {
      std::shared_lock lock(mutex_);
      TRY(failure());
      if (!disk_full()) return try_it();
    }
    std::unique_lock lock(mutex_);
    TRY(failure());
    if (disk_full()) TRY(reopen());
    return try_it();
  }

  Status reopen() {
    Space space = TRY(files_->space(directory_));
    if (space.available_bytes < kSpaceToGoOn) {
      return Status(Errc::kDiskFull, "state store " + directory_ + ": waits for " + std::to_string(kSpaceToGoOn) +
                                         " bytes of free space");
    }
    open_.close();
    Result<OpenDb> opened = OpenDb::open(*shared_, directory_);
    if (!opened.ok()) {
      note(opened.status());
      return opened.status();
    }
    open_ = std::move(*opened);
    disk_full_.store(false);
    return ok_status();
  }

  bool disk_full() const { return disk_full_.load() || open_.db == nullptr || open_.listener->disk_full(); }
  Status failure() const {
    if (!failed_.load() && !open_.listener->failed()) return ok_status();
    return Status(Errc::kFailed, "state store " + directory_ + ": an earlier write failed");
  }
  void note(const Status& status) { (status.code() == Errc::kDiskFull ? disk_full_ : failed_).store(true); }
  Status check_open() const {
    if (open_.db != nullptr) return ok_status();
    return Status(Errc::kDiskFull, "state store " + directory_ + ": could not be opened again on a full disk");
  }

  const std::shared_ptr<Shared> shared_;
  const std::unique_ptr<FileSystem> files_ = make_blocking_posix_file_system();
  std::shared_mutex mutex_;  // exclusive while the store is opened again
  OpenDb open_;
  const std::string directory_;
  std::atomic<bool> disk_full_{false};
  std::atomic<bool> failed_{false};
};

class RocksDbStateStoreProvider : public StateStoreProvider {
 public:
  explicit RocksDbStateStoreProvider(Logger log) : log_(std::move(log)) {}

  Result<std::unique_ptr<StateStore>> open(std::string_view directory) override {
    std::string path(directory);
    if (shared_ == nullptr) shared_ = std::make_shared<Shared>(log_);
    OpenDb opened = TRY(OpenDb::open(*shared_, path));
    return std::unique_ptr<StateStore>(
        std::make_unique<RocksDbStateStore>(shared_, std::move(opened), std::move(path)));
  }

  Status destroy(std::string_view directory) override {
    // Not DestroyDB: it trusts the folder's content to tell it which files there are. The folder changes its name
    // first, so that a crash in between cannot leave half a store under it.
    std::unique_ptr<FileSystem> files = make_blocking_posix_file_system();
    std::string dying = std::string(directory) + ".removed";
    TRY(files->remove_tree(dying));
    if (!files->exists(directory)) return ok_status();
    TRY(files->rename(directory, dying));
    TRY(files->sync_directory_now(parent_path(directory)));
    return files->remove_tree(dying);
  }

 private:
  const Logger log_;
  std::shared_ptr<Shared> shared_;  // made at the first open
};

}  // namespace

std::unique_ptr<StateStoreProvider> make_rocksdb_state_store_provider(Logger log) {
  return std::make_unique<RocksDbStateStoreProvider>(std::move(log));
}

}  // namespace trilog
