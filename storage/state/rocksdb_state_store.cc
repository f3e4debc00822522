#include "storage/state/rocksdb_state_store.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/listener.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <array>
#include <cstdarg>
#include <cstdio>
#include <mutex>
#include <utility>

#include "storage/env/posix_file_system.h"
#include "storage/state/manifest_guard.h"

namespace trilog {
namespace {

constexpr size_t kWriteBufferBytes = size_t{1} << 20;
constexpr size_t kBlockCacheBytes = size_t{1} << 20;
constexpr uint64_t kWalBytesMax = uint64_t{4} << 20;  // a write buffer is flushed so that recovery never replays more
constexpr int kOpenFilesMax = 64;

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

rocksdb::Options make_options(const std::shared_ptr<rocksdb::Logger>& log,
                              const std::shared_ptr<rocksdb::Cache>& block_cache) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.info_log = log;
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
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.skip_stats_update_on_db_open = true;
  // Few threads write, and seldom at once: the machinery for many only costs.
  options.allow_concurrent_memtable_write = false;
  options.enable_write_thread_adaptive_yield = false;
  options.compression = rocksdb::kNoCompression;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = block_cache;
  table.cache_index_and_filter_blocks = true;  // so that the cache bounds them too
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

// Called from RocksDB's threads, with none of its locks held.
class Listener : public rocksdb::EventListener {
 public:
  explicit Listener(const std::string& directory) : guard_(*files_, directory) {}

  void OnFlushCompleted(rocksdb::DB* db, const rocksdb::FlushJobInfo&) override { note_manifest(*db); }
  void OnCompactionCompleted(rocksdb::DB* db, const rocksdb::CompactionJobInfo&) override { note_manifest(*db); }
  // Recovery from a full disk would be a thread of its own that looks every five seconds, and Resume() would be refused
  // meanwhile. Here the next write tries.
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason, rocksdb::Status, bool* auto_recovery) override {
    *auto_recovery = false;
  }

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
};

class RocksDbStateStore : public StateStore {
 public:
  RocksDbStateStore(std::unique_ptr<rocksdb::DB> db, std::string directory)
      : db_(std::move(db)), directory_(std::move(directory)) {}
  // What was written with kLater is in the write-ahead log, in the page cache at least; closing does not flush.
  ~RocksDbStateStore() override { static_cast<void>(db_->Close().ok()); }

  Result<std::optional<std::string>> get(ByteView key) override {
    std::string value;
    rocksdb::Status status = db_->Get(read_options(), slice(key), &value);
    if (status.IsNotFound()) return std::optional<std::string>();
    TRY(from_rocksdb(status, "get", directory_));
    return std::optional<std::string>(std::move(value));
  }

  Status write(const StateBatch& batch, StateSync sync) override {
    TRY(ready_to_write());
    rocksdb::WriteBatch changes(batch.bytes() + 16 * batch.size());
    for (const StateBatch::Change& change : batch.changes()) TRY(add(changes, change));
    rocksdb::WriteOptions options;
    options.sync = sync == StateSync::kNow;
    return note_failure(from_rocksdb(db_->Write(options, &changes), "write", directory_));
  }

  Result<std::vector<StateEntry>> scan(const StateScan& scan) override {
    rocksdb::ReadOptions options = read_options();
    std::optional<std::string> end = end_of_prefix(scan.prefix);
    rocksdb::Slice upper_bound;
    if (end.has_value()) {
      upper_bound = *end;
      options.iterate_upper_bound = &upper_bound;
    }
    std::vector<StateEntry> entries;
    std::unique_ptr<rocksdb::Iterator> at(db_->NewIterator(options));
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
    TRY(ready_to_write());
    return note_failure(from_rocksdb(db_->FlushWAL(true), "sync", directory_));
  }

  Result<uint64_t> approximate_count() override {
    uint64_t count = 0;
    if (!db_->GetIntProperty(rocksdb::DB::Properties::kEstimateNumKeys, &count)) {
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

  // A full disk is the one failure that passes. RocksDB then refuses writes until it is told to go on.
  Status ready_to_write() {
    std::lock_guard lock(mutex_);
    TRY(failure_);
    if (!disk_was_full_) return ok_status();
    TRY(from_rocksdb(db_->Resume(), "resume after a full disk", directory_));
    disk_was_full_ = false;
    return ok_status();
  }
  Status note_failure(Status status) {
    if (status.ok()) return status;
    std::lock_guard lock(mutex_);
    if (status.code() == Errc::kDiskFull) {
      disk_was_full_ = true;
    } else {
      failure_ = Status(Errc::kFailed, std::string(status.message()));
    }
    return status;
  }

  const std::unique_ptr<rocksdb::DB> db_;
  const std::string directory_;
  std::mutex mutex_;
  bool disk_was_full_ = false;  // under mutex_, like the next
  Status failure_;
};

class RocksDbStateStoreProvider : public StateStoreProvider {
 public:
  explicit RocksDbStateStoreProvider(Logger log) : log_(std::make_shared<LogAdapter>(std::move(log))) {}

  Result<std::unique_ptr<StateStore>> open(std::string_view directory) override {
    std::string path(directory);
    if (block_cache_ == nullptr) block_cache_ = rocksdb::NewLRUCache(kBlockCacheBytes, /*num_shard_bits=*/0);
    auto listener = std::make_shared<Listener>(path);
    TRY(listener->check_manifest());
    rocksdb::Options options = make_options(log_, block_cache_);
    options.listeners.push_back(listener);
    rocksdb::DB* db = nullptr;
    TRY(from_rocksdb(rocksdb::DB::Open(options, path, &db), "open", path));
    std::unique_ptr<rocksdb::DB> owned(db);
    listener->note_manifest(*db);
    // Without threads of high priority, flushes run on the one low-priority thread that compactions use as well.
    rocksdb::Env::Default()->SetBackgroundThreads(0, rocksdb::Env::HIGH);
    return std::unique_ptr<StateStore>(std::make_unique<RocksDbStateStore>(std::move(owned), std::move(path)));
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
  const std::shared_ptr<rocksdb::Logger> log_;
  std::shared_ptr<rocksdb::Cache> block_cache_;  // made at the first open, shared by all stores
};

}  // namespace

std::unique_ptr<StateStoreProvider> make_rocksdb_state_store_provider(Logger log) {
  return std::make_unique<RocksDbStateStoreProvider>(std::move(log));
}

}  // namespace trilog
