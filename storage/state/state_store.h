// A small ordered key-value store for views that can be rebuilt from a log: committed offsets, group state.
//
// The log is the truth. Each batch that changes such a view also stores the log offset it reflects, so that after any
// crash the owner reads that offset and replays the log from there. A store that cannot be opened, or is damaged, is
// destroyed and built anew. Keys and values are bytes; keys are ordered as unsigned bytes.
//
// The shards of a node share one store: all calls are safe from any thread. They block; without kNow they do not wait
// for the disk as a rule.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/status.h"

namespace trilog {

// The changes of one atomic write, applied in the order they were added.
class StateBatch {
 public:
  enum class Kind : uint8_t { kPut, kRemove, kRemoveRange };
  struct Change {
    Kind kind;
    std::string key;    // kRemoveRange: the first key
    std::string value;  // kPut: the value; kRemoveRange: the first key that stays
  };

  void put(ByteView key, ByteView value) { add(Kind::kPut, key, value); }
  void remove(ByteView key) { add(Kind::kRemove, key, {}); }  // nothing happens if it is missing
  // Keys in [begin, end); nothing happens if begin >= end.
  void remove_range(ByteView begin, ByteView end) { add(Kind::kRemoveRange, begin, end); }
  // Keys that start with `prefix`, which must not be empty or consist of 0xff bytes only (CHECK): there is no key that
  // comes after all of those.
  void remove_prefix(ByteView prefix);

  bool empty() const { return changes_.empty(); }
  size_t size() const { return changes_.size(); }
  size_t bytes() const { return bytes_; }  // of keys and values, so that callers can bound a batch
  const std::vector<Change>& changes() const { return changes_; }
  void clear() {
    changes_.clear();
    bytes_ = 0;
  }

 private:
  void add(Kind kind, ByteView key, ByteView value) {
    changes_.push_back({kind, std::string(as_text(key)), std::string(as_text(value))});
    bytes_ += key.size() + value.size();
  }
  std::vector<Change> changes_;
  size_t bytes_ = 0;
};

// Which entries a scan returns: keys with `prefix`, from `start` on (itself included; empty: from the first), at most
// `limit` of them. The next page starts at the last key followed by a zero byte.
struct StateScan {
  ByteView prefix;
  ByteView start;
  size_t limit = 1000;
};

struct StateEntry {
  std::string key;
  std::string value;
};

enum class StateSync : uint8_t {
  kLater,  // a power cut may lose this batch and all after it, never one before it without this one
  kNow,    // this batch and all before it are durable when the call returns (rule S13: anything acknowledged from here)
};

// Errors: kDiskFull when space ran out (the batch is not visible, but may be, as a whole, once the store was opened
// again; reading goes on, and writing works again when a few megabytes are free); kCorruption when stored bytes are
// damaged (destroy and rebuild); kFailed or kIo for anything else, after which every later write fails too and the
// store must be closed.
class StateStore {
 public:
  virtual ~StateStore() = default;
  // Nothing if the key is missing.
  virtual Result<std::optional<std::string>> get(ByteView key) = 0;
  // All changes or none, also across a crash.
  virtual Status write(const StateBatch& batch, StateSync sync = StateSync::kLater) = 0;
  // In key order; a page that is consistent in itself.
  virtual Result<std::vector<StateEntry>> scan(const StateScan& scan) = 0;
  // Makes everything written so far durable.
  virtual Status sync() = 0;
  // How many keys there are, more or less: removed and overwritten ones may be counted. For metrics.
  virtual Result<uint64_t> approximate_count() = 0;
};

// Opens stores by folder. What is injected where a store is wanted, so that the simulator can give memory.
class StateStoreProvider {
 public:
  virtual ~StateStoreProvider() = default;
  // Creates the folder's store if it is missing. kCorruption (or another failure) means: destroy() and open again, or
  // give up. kBusy if it is open already.
  virtual Result<std::unique_ptr<StateStore>> open(std::string_view directory) = 0;
  // Removes the folder's store with all its content; success if there is none. Not while it is open.
  virtual Status destroy(std::string_view directory) = 0;
};

// The smallest byte string that is greater than every one that starts with `prefix`; nothing if there is none.
std::optional<std::string> end_of_prefix(ByteView prefix);

}  // namespace trilog
