// StateStore in memory, for simulation and tests. With the loss that a power cut brings: batches written with kLater
// are lost from the end, as a write-ahead log loses them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "storage/state/state_store.h"

namespace trilog {

// What a store's folder holds. Lives longer than the stores opened on it, as a disk does.
class MemoryStateMedium {
 public:
  using Entries = std::map<std::string, std::string, std::less<>>;

  size_t unsynced_batches() const { return unsynced_.size(); }
  // Only the first `kept` of the unsynced batches survive. The store must be closed.
  void power_cut(size_t kept) {
    CHECK(!open_);
    for (size_t i = 0; i < kept && i < unsynced_.size(); ++i) apply(durable_, unsynced_[i]);
    unsynced_.clear();
    current_ = durable_;
  }
  // From now on every write answers this, until it is set to success again. For tests of failing disks.
  void set_write_status(Status status) { write_status_ = std::move(status); }
  const Entries& entries() const { return current_; }

 private:
  friend class MemoryStateStore;
  static void apply(Entries& entries, const StateBatch& batch) {
    for (const StateBatch::Change& change : batch.changes()) {
      switch (change.kind) {
        case StateBatch::Kind::kPut: entries[change.key] = change.value; break;
        case StateBatch::Kind::kRemove: entries.erase(change.key); break;
        case StateBatch::Kind::kRemoveRange:
          if (change.key < change.value) {
            entries.erase(entries.lower_bound(change.key), entries.lower_bound(change.value));
          }
          break;
      }
    }
  }
  void make_durable() {
    for (const StateBatch& batch : unsynced_) apply(durable_, batch);
    unsynced_.clear();
  }

  Entries current_;
  Entries durable_;
  std::vector<StateBatch> unsynced_;
  Status write_status_;
  bool open_ = false;
  std::mutex mutex_;  // held by the calls of the store
};

class MemoryStateStore : public StateStore {
 public:
  explicit MemoryStateStore(std::shared_ptr<MemoryStateMedium> medium = std::make_shared<MemoryStateMedium>())
      : medium_(std::move(medium)) {
    CHECK(!medium_->open_);
    medium_->open_ = true;
  }
  ~MemoryStateStore() override { medium_->open_ = false; }
  MemoryStateStore(const MemoryStateStore&) = delete;
  MemoryStateStore& operator=(const MemoryStateStore&) = delete;

  Result<std::optional<std::string>> get(ByteView key) override {
    std::lock_guard lock(medium_->mutex_);
    auto found = medium_->current_.find(as_text(key));
    if (found == medium_->current_.end()) return std::optional<std::string>();
    return std::optional<std::string>(found->second);
  }

  Status write(const StateBatch& batch, StateSync sync) override {
    std::lock_guard lock(medium_->mutex_);
    TRY(medium_->write_status_);
    MemoryStateMedium::apply(medium_->current_, batch);
    medium_->unsynced_.push_back(batch);
    // Bounds the memory: beyond this many the oldest reach the disk by themselves, as dirty pages do.
    constexpr size_t kUnsyncedMax = 4096;
    if (sync == StateSync::kNow || medium_->unsynced_.size() > kUnsyncedMax) medium_->make_durable();
    return ok_status();
  }

  Result<std::vector<StateEntry>> scan(const StateScan& scan) override {
    std::lock_guard lock(medium_->mutex_);
    std::vector<StateEntry> entries;
    std::string_view prefix = as_text(scan.prefix);
    std::string_view start = as_text(scan.start) > prefix ? as_text(scan.start) : prefix;
    for (auto at = medium_->current_.lower_bound(start);
         at != medium_->current_.end() && entries.size() < scan.limit && at->first.starts_with(prefix); ++at) {
      entries.push_back({at->first, at->second});
    }
    return entries;
  }

  Status sync() override {
    std::lock_guard lock(medium_->mutex_);
    TRY(medium_->write_status_);
    medium_->make_durable();
    return ok_status();
  }

  Result<uint64_t> approximate_count() override {
    std::lock_guard lock(medium_->mutex_);
    return static_cast<uint64_t>(medium_->current_.size());
  }

 private:
  const std::shared_ptr<MemoryStateMedium> medium_;
};

// One medium per folder name, kept for as long as this lives.
class MemoryStateStoreProvider : public StateStoreProvider {
 public:
  Result<std::unique_ptr<StateStore>> open(std::string_view directory) override {
    std::shared_ptr<MemoryStateMedium>& medium = medium_of(directory);
    if (medium.use_count() > 1) return Status(Errc::kBusy, "state store " + std::string(directory) + " is open");
    return std::unique_ptr<StateStore>(std::make_unique<MemoryStateStore>(medium));
  }
  Status destroy(std::string_view directory) override {
    auto found = media_.find(directory);
    if (found != media_.end()) media_.erase(found);
    return ok_status();
  }
  std::shared_ptr<MemoryStateMedium>& medium_of(std::string_view directory) {
    auto found = media_.find(directory);
    if (found == media_.end()) {
      found = media_.emplace(std::string(directory), std::make_shared<MemoryStateMedium>()).first;
    }
    return found->second;
  }
  // The same cut for every folder: a fraction of the unsynced batches drawn by `kept_of(count)` survives.
  template <typename KeptOf>
  void power_cut(KeptOf kept_of) {
    for (auto& [directory, medium] : media_) medium->power_cut(kept_of(medium->unsynced_batches()));
  }

 private:
  std::map<std::string, std::shared_ptr<MemoryStateMedium>, std::less<>> media_;
};

}  // namespace trilog
