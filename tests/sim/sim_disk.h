// A disk that loses what was not synced, tears writes, fills up, fails, turns pages clean after a failed sync, and is
// slow: whatever the storage rules (S1-S8) say a real one may do. Everything it decides comes from the world's seed.
//
// What is durable: a file's content after its sync; a name after the sync of its folder (rule S4). Creating a file and
// syncing only the file loses its name at a power cut, which real file systems may do although most do not.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "storage/env/env.h"
#include "tests/sim/disk_image.h"
#include "tests/sim/sim_executor.h"

namespace trilog::sim {

// How a power cut treats unsynced operations, in percent; the rest are torn (an operation on a name is dropped
// instead).
struct CrashPolicy {
  uint32_t keep_percent = 40;
  uint32_t drop_percent = 30;
  static CrashPolicy lose_all() { return {0, 100}; }
  static CrashPolicy keep_all() { return {100, 0}; }
};

enum class DiskCall { kOpen, kRead, kWrite, kTruncate, kSync, kSyncDirectory, kRename, kRemove, kCreateDirectory };
inline constexpr size_t kDiskCalls = 9;

// Matching calls are counted from 1; calls number `first` to `first + count - 1` fail with `code`.
struct Fault {
  DiskCall call = DiskCall::kWrite;
  std::string path_part;  // only paths that contain it; empty: all
  uint64_t first = 1;
  uint64_t count = 1;
  Errc code = Errc::kIo;
};

// The operations of a disk since start_recording(), for enumerating crash states (crash_states.h).
struct Recording {
  DiskImage base;  // durable at the start; nothing was unsynced
  std::vector<DiskOp> ops;
};

// Must outlive its file systems and files. Files that were open at a power cut answer kIo for ever.
class SimDisk {
 public:
  explicit SimDisk(Scheduler& scheduler, DiskImage image = {});
  ~SimDisk();

  // A view of this disk for one shard; callbacks go to its executor.
  std::unique_ptr<FileSystem> make_file_system(SimExecutor& executor);

  // Every unsynced operation meets its fate; what is left is durable. Syncs under way are broken off, locks are gone.
  void power_cut(const CrashPolicy& policy = {});
  // The fates are chosen by the caller: fates[i] is for unsynced()[i].
  void power_cut(std::span<const Fate> fates);
  const std::vector<DiskOp>& unsynced() const { return state_.unsynced(); }

  void add_fault(Fault fault) { faults_.push_back({std::move(fault), 0}); }
  void clear_faults() { faults_.clear(); }
  // Calls of this kind so far, for choosing the nth in a second run.
  uint64_t calls(DiskCall call) const { return calls_[static_cast<size_t>(call)]; }
  void set_capacity(uint64_t bytes) { capacity_ = bytes; }
  uint64_t bytes_used() const { return image_.bytes_used(); }
  // So many different files were open at the same time.
  size_t open_files_most() const { return open_most_; }
  // Each asynchronous sync takes a drawn time between the two (50 to 200 µs if never called).
  void set_sync_delay(int64_t least_ns, int64_t most_ns);
  // So many of a hundred cached reads find nothing in memory; loading then takes as long as a sync.
  void set_cold_reads(uint32_t percent) { cold_percent_ = percent; }
  // While held, asynchronous syncs do not complete; letting go starts their delay.
  void hold_syncs(bool hold);
  size_t syncs_held() const { return held_.size(); }

  // Damage below the program: in the durable image and in the cache. CHECKs that the file is there and long enough.
  void flip_bit(std::string_view path, uint64_t bit);
  // Replaces or creates a whole file, durably and behind the program's back; missing folders are made.
  void put_file(std::string_view path, ByteView content);

  void start_recording();     // everything so far becomes durable first
  void mark(uint64_t value);  // puts a note into the recording
  Recording stop_recording();

  const DiskImage& image() const { return image_; }              // what the program sees
  const DiskImage& durable() const { return state_.durable(); }  // what a power cut with nothing kept leaves

 private:
  friend class SimFile;
  friend class SimFileSystem;
  friend class SimFileLock;
  struct ArmedFault {
    Fault fault;
    uint64_t seen;
  };
  struct PendingSync {
    DiskOp op;
    Scheduler::Owner owner;
    UniqueFunction<void(Status)> done;
    std::string path;
  };

  void perform(DiskOp op);
  Status check(DiskCall call, std::string_view path);
  void start_sync(PendingSync sync);
  void start_load(Scheduler::Owner owner, UniqueFunction<void()> done);
  // After the time the disk takes: what() on the disk's side, and what it returns as a task of the owner.
  template <typename Work>
  void work(Scheduler::Owner owner, Work what);
  bool is_cold();
  Status complete_sync(DiskOp op, std::string_view path);
  void close_inode(InodeId inode);
  void drop_cache(InodeId inode);
  InodeId ensure_durably(InodeId directory, const std::string& name, bool is_directory);
  void collect_garbage();

  Scheduler& scheduler_;
  DiskImage image_;
  DiskState state_;
  uint64_t generation_ = 0;  // raised by a power cut
  InodeId next_inode_ = kRootInode + 1;
  uint64_t next_number_ = 1;
  uint64_t removed_since_collection_ = 0;
  std::map<InodeId, uint32_t> open_;
  size_t open_most_ = 0;
  std::set<std::string, std::less<>> locks_;
  std::vector<ArmedFault> faults_;
  std::vector<uint64_t> calls_;
  uint64_t capacity_ = UINT64_MAX;
  int64_t sync_least_ns_ = 50'000;
  int64_t sync_most_ns_ = 200'000;
  uint32_t cold_percent_ = 0;
  int outstanding_ = 0;
  bool hold_ = false;
  std::vector<PendingSync> held_;
  bool recording_ = false;
  Recording record_;
  // Outlives the disk in events that are still queued.
  std::shared_ptr<SimDisk*> self_;
};

}  // namespace trilog::sim
