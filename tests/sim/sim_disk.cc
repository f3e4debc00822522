#include "tests/sim/sim_disk.h"

#include <algorithm>
#include <utility>

#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "tests/sim/crash_states.h"
#include "tests/sim/sim_file_system.h"

namespace trilog::sim {

SimDisk::SimDisk(Scheduler& scheduler, DiskImage image)
    : scheduler_(scheduler),
      image_(image),
      state_(std::move(image)),
      next_inode_(image_.inode_max() + 1),
      calls_(kDiskCalls),
      self_(std::make_shared<SimDisk*>(this)) {}

SimDisk::~SimDisk() {
  *self_ = nullptr;
  scheduler_.add_outstanding(-outstanding_);
}

std::unique_ptr<FileSystem> SimDisk::make_file_system(SimExecutor& executor) {
  return std::make_unique<SimFileSystem>(*this, executor.owner());
}

void SimDisk::perform(DiskOp op) {
  op.number = next_number_++;
  scheduler_.fold(static_cast<uint64_t>(op.kind) << 56 ^ op.inode << 40 ^ op.offset);
  scheduler_.fold(static_cast<uint64_t>(crc32c(op.bytes)) << 32 ^ crc32c(as_bytes(op.name)));
  image_.apply(op);
  if (recording_) record_.ops.push_back(op);
  state_.add(op);
}

Status SimDisk::check(DiskCall call, std::string_view path) {
  ++calls_[static_cast<size_t>(call)];
  for (ArmedFault& armed : faults_) {
    if (armed.fault.call != call || path.find(armed.fault.path_part) == std::string_view::npos) continue;
    ++armed.seen;
    if (armed.seen < armed.fault.first || armed.seen - armed.fault.first >= armed.fault.count) continue;
    return Status(armed.fault.code, std::string(path) + ": simulated fault");
  }
  return ok_status();
}

void SimDisk::set_sync_delay(int64_t least_ns, int64_t most_ns) {
  CHECK_LE(least_ns, most_ns);
  sync_least_ns_ = least_ns;
  sync_most_ns_ = most_ns;
}

void SimDisk::hold_syncs(bool hold) {
  hold_ = hold;
  if (hold) return;
  for (PendingSync& sync : std::exchange(held_, {})) start_sync(std::move(sync));
}

void SimDisk::start_sync(PendingSync sync) {
  if (hold_) {
    held_.push_back(std::move(sync));
    return;
  }
  work(sync.owner, [this, op = std::move(sync.op), path = std::move(sync.path), done = std::move(sync.done)]() mutable {
    Status status = complete_sync(std::move(op), path);
    return [done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); };
  });
}

void SimDisk::start_load(Scheduler::Owner owner, UniqueFunction<void()> done) {
  work(owner, [done = std::move(done)]() mutable { return std::move(done); });
}

template <typename Work>
void SimDisk::work(Scheduler::Owner owner, Work what) {
  int64_t delay = sync_least_ns_;
  if (sync_most_ns_ > sync_least_ns_) {
    delay += static_cast<int64_t>(scheduler_.random().below(static_cast<uint64_t>(sync_most_ns_ - sync_least_ns_)));
  }
  ++outstanding_;
  scheduler_.add_outstanding(1);
  auto finish = [self = self_, generation = generation_, owner, what = std::move(what)]() mutable {
    SimDisk* disk = *self;
    if (disk == nullptr || disk->generation_ != generation) return;
    --disk->outstanding_;
    disk->scheduler_.add_outstanding(-1);
    disk->scheduler_.run_at(disk->scheduler_.now_ns(), owner, what());
  };
  scheduler_.run_at(scheduler_.now_ns() + delay, Scheduler::kWorld, std::move(finish));
}

bool SimDisk::is_cold() { return cold_percent_ > 0 && scheduler_.random().below(100) < cold_percent_; }

Status SimDisk::complete_sync(DiskOp op, std::string_view path) {
  bool is_file = op.kind == DiskOp::Kind::kSyncFile;
  Status status = check(is_file ? DiskCall::kSync : DiskCall::kSyncDirectory, path);
  if (status.ok()) {
    perform(std::move(op));
    return status;
  }
  // Rule S3: the pages turn clean although nothing arrived. What the
  // program reads back from the cache looks as if all were well.
  if (!is_file) return status;
  op.kind = DiskOp::Kind::kSyncLost;
  perform(std::move(op));
  return status;
}

void SimDisk::power_cut(const CrashPolicy& policy) {
  SeededRandom& random = scheduler_.random();
  std::vector<Fate> fates;
  for (const DiskOp& op : state_.unsynced()) fates.push_back(draw_fate(op, policy, random));
  power_cut(fates);
}

void SimDisk::power_cut(std::span<const Fate> fates) {
  CHECK(!recording_);
  DiskImage left = state_.after_crash(fates);
  image_ = left;
  state_ = DiskState(std::move(left));
  ++generation_;
  scheduler_.add_outstanding(-outstanding_);
  outstanding_ = 0;
  // Their callbacks belong to shards that lost their machine; they are destroyed, not run.
  std::vector<PendingSync> dead = std::exchange(held_, {});
  locks_.clear();
  open_.clear();
}

void SimDisk::flip_bit(std::string_view path, uint64_t bit) {
  InodeId inode = image_.find(path);
  CHECK_NE(inode, kNoInode);
  image_.flip_bit(inode, bit);
  if (bit / 8 < state_.durable().content(inode).size()) state_.durable().flip_bit(inode, bit);
}

void SimDisk::put_file(std::string_view path, ByteView content) {
  InodeId directory = kRootInode;
  std::string_view rest = path;
  std::string name;
  while (!rest.empty()) {
    size_t slash = rest.find('/');
    std::string_view part = rest.substr(0, slash);
    rest = slash == std::string_view::npos ? std::string_view() : rest.substr(slash + 1);
    if (part.empty() || part == ".") continue;
    if (!name.empty()) directory = ensure_durably(directory, name, true);
    name = part;
  }
  CHECK(!name.empty());
  InodeId inode = ensure_durably(directory, name, false);
  for (DiskImage* image : {&image_, &state_.durable()}) image->set_content(inode, {content.begin(), content.end()});
}

InodeId SimDisk::ensure_durably(InodeId directory, const std::string& name, bool is_directory) {
  DiskOp op;
  op.kind = DiskOp::Kind::kLink;
  op.directory = directory;
  op.name = name;
  op.is_directory = is_directory;
  op.inode = image_.find_in(directory, name);
  if (op.inode == kNoInode) op.inode = next_inode_++;
  image_.apply(op);
  state_.durable().apply(op);
  return op.inode;
}

void SimDisk::start_recording() {
  state_ = DiskState(image_);
  record_ = Recording{image_, {}};
  recording_ = true;
}

void SimDisk::mark(uint64_t value) {
  DiskOp op;
  op.kind = DiskOp::Kind::kMark;
  op.offset = value;
  perform(std::move(op));
}

Recording SimDisk::stop_recording() {
  recording_ = false;
  return std::exchange(record_, {});
}

void SimDisk::close_inode(InodeId inode) {
  auto found = open_.find(inode);
  if (found == open_.end() || --found->second > 0) return;
  open_.erase(found);
  collect_garbage();
}

void SimDisk::drop_cache(InodeId inode) {
  // What the disk has, and on top of it the dirty pages, which the system keeps. Pages that a failed sync marked clean
  // show their loss now.
  ByteView durable = state_.durable().content(inode);
  image_.set_content(inode, {durable.begin(), durable.end()});
  for (const DiskOp& op : state_.unsynced()) {
    if (op.changes_file() && op.inode == inode) image_.apply(op);
  }
}

void SimDisk::collect_garbage() {
  // Walking the whole image costs more than a few forgotten nodes, so not at every chance. When space is short it does
  // matter: a removed file gives its bytes back at its last close.
  if (++removed_since_collection_ < 64 && capacity_ == UINT64_MAX) return;
  removed_since_collection_ = 0;
  std::vector<InodeId> keep;
  for (const auto& [inode, count] : open_) keep.push_back(inode);
  image_.collect_garbage(keep);
  // A durable node without a place may still get one by an operation that is not synced yet, or be written to.
  for (const DiskOp& op : state_.unsynced()) {
    keep.push_back(op.inode);
    keep.push_back(op.directory);
  }
  for (InodeId inode : image_.inodes()) keep.push_back(inode);
  state_.durable().collect_garbage(keep);
}

}  // namespace trilog::sim
