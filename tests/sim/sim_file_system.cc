#include "tests/sim/sim_file_system.h"

#include <algorithm>
#include <cstring>

namespace trilog::sim {
namespace {

constexpr uint64_t kFileBytesMax = uint64_t{4} << 30;  // a slipped offset should fail, not fill the memory

Status error(Errc code, std::string_view what, std::string_view path, std::string_view why) {
  return Status(code, std::string(what) + ' ' + std::string(path) + ": " + std::string(why));
}

}  // namespace

class SimFile : public File {
 public:
  SimFile(SimDisk& disk, InodeId inode, std::string path, bool writable, Scheduler::Owner owner)
      : disk_(disk.self_),
        generation_(disk.generation_),
        inode_(inode),
        path_(std::move(path)),
        writable_(writable),
        owner_(owner) {
    ++disk.open_[inode];
    disk.open_most_ = std::max(disk.open_most_, disk.open_.size());
  }
  ~SimFile() override {
    SimDisk* disk = *disk_;
    if (disk != nullptr && disk->generation_ == generation_) disk->close_inode(inode_);
  }

  Result<size_t> read_at(uint64_t offset, MutableByteView out) const override {
    SimDisk* disk = TRY(reach());
    TRY(disk->check(DiskCall::kRead, path_));
    ByteView content = disk->image_.content(inode_);
    if (offset >= content.size() || out.empty()) return size_t{0};
    size_t count = std::min<size_t>(out.size(), content.size() - static_cast<size_t>(offset));
    std::memcpy(out.data(), content.data() + offset, count);
    return count;
  }

  Result<std::optional<size_t>> read_cached(uint64_t offset, MutableByteView out) const override {
    SimDisk* disk = TRY(reach());
    if (disk->is_cold()) return std::optional<size_t>();
    return std::optional(TRY(read_at(offset, out)));
  }

  void load(uint64_t, uint64_t, UniqueFunction<void()> done) const override {
    SimDisk* disk = *disk_;
    if (disk == nullptr || disk->generation_ != generation_) return;
    disk->start_load(owner_, std::move(done));
  }

  using File::write_at;
  Status write_at(uint64_t offset, std::span<const ByteView> pieces) override {
    SimDisk* disk = TRY(reach_for_writing("write"));
    size_t size = 0;
    for (ByteView piece : pieces) size += piece.size();
    if (size == 0) return ok_status();
    if (offset > kFileBytesMax - size) return error(Errc::kTooLarge, "write", path_, "beyond the largest file");
    Bytes joined;
    joined.reserve(size);
    for (ByteView piece : pieces) joined.append(piece);
    Status status = disk->check(DiskCall::kWrite, path_);
    if (!status.ok()) {
      joined.resize_uninitialized(static_cast<size_t>(disk->scheduler_.random().below(size)));  // any prefix
    } else {
      uint64_t fits = room_for(*disk, offset);
      if (fits < size) {
        joined.resize_uninitialized(static_cast<size_t>(fits));
        status = error(Errc::kDiskFull, "write", path_, "no space left");
      }
    }
    if (!joined.empty()) {
      DiskOp op;
      op.kind = DiskOp::Kind::kWrite;
      op.inode = inode_;
      op.offset = offset;
      op.bytes = SharedBytes(std::move(joined));
      disk->perform(std::move(op));
    }
    return status;
  }

  Status truncate(uint64_t size) override {
    SimDisk* disk = TRY(reach_for_writing("truncate"));
    TRY(disk->check(DiskCall::kTruncate, path_));
    if (size > kFileBytesMax) return error(Errc::kTooLarge, "truncate", path_, "beyond the largest file");
    DiskOp op;
    op.kind = DiskOp::Kind::kTruncate;
    op.inode = inode_;
    op.offset = size;
    disk->perform(std::move(op));
    return ok_status();
  }

  Result<uint64_t> size() const override {
    SimDisk* disk = TRY(reach());
    return static_cast<uint64_t>(disk->image_.content(inode_).size());
  }

  void sync(UniqueFunction<void(Status)> done) override {
    SimDisk* disk = *disk_;
    if (disk == nullptr || disk->generation_ != generation_) return;  // the machine is gone, and with it the callback
    if (sync_failed_) {
      disk->scheduler_.run_at(
          disk->scheduler_.now_ns(), owner_,
          [done = std::move(done), status = failed_earlier()]() mutable { done(std::move(status)); });
      return;
    }
    auto watched = [failed = failed_flag_, done = std::move(done)](Status status) mutable {
      if (!status.ok()) *failed = true;
      done(std::move(status));
    };
    disk->start_sync({sync_op(*disk), owner_, std::move(watched), path_});
  }

  Status sync_now() override {
    SimDisk* disk = TRY(reach());
    if (sync_failed_) return failed_earlier();
    Status status = disk->complete_sync(sync_op(*disk), path_);
    if (!status.ok()) sync_failed_ = true;
    return status;
  }

  void drop_cache() override {
    SimDisk* disk = *disk_;
    if (disk != nullptr && disk->generation_ == generation_) disk->drop_cache(inode_);
  }

 private:
  Result<SimDisk*> reach() const {
    SimDisk* disk = *disk_;
    if (disk == nullptr || disk->generation_ != generation_) {
      return error(Errc::kIo, "use", path_, "the power was cut while it was open");
    }
    return disk;
  }
  Result<SimDisk*> reach_for_writing(std::string_view what) {
    if (!writable_) return error(Errc::kIo, what, path_, "opened for reading");
    return reach();
  }
  uint64_t room_for(const SimDisk& disk, uint64_t offset) const {
    if (disk.capacity_ == UINT64_MAX) return UINT64_MAX;
    uint64_t used = disk.image_.bytes_used();
    uint64_t free = disk.capacity_ > used ? disk.capacity_ - used : 0;
    uint64_t end = disk.image_.content(inode_).size() + free;
    return end > offset ? end - offset : 0;
  }
  DiskOp sync_op(const SimDisk& disk) const {
    DiskOp op;
    op.kind = DiskOp::Kind::kSyncFile;
    op.inode = inode_;
    op.covers = disk.next_number_ - 1;
    return op;
  }
  Status failed_earlier() const { return error(Errc::kFailed, "sync", path_, "an earlier sync of this file failed"); }

  const std::shared_ptr<SimDisk*> disk_;
  const uint64_t generation_;
  const InodeId inode_;
  const std::string path_;
  const bool writable_;
  const Scheduler::Owner owner_;
  const std::shared_ptr<bool> failed_flag_ = std::make_shared<bool>(false);
  bool& sync_failed_ = *failed_flag_;
};

class SimFileLock : public FileLock {
 public:
  SimFileLock(SimDisk& disk, std::string path)
      : disk_(disk.self_), generation_(disk.generation_), path_(std::move(path)) {}
  ~SimFileLock() override {
    SimDisk* disk = *disk_;
    if (disk != nullptr && disk->generation_ == generation_) disk->locks_.erase(path_);
  }

 private:
  const std::shared_ptr<SimDisk*> disk_;
  const uint64_t generation_;
  const std::string path_;
};

SimFileSystem::Place SimFileSystem::locate(std::string_view path) const {
  Place place{kRootInode, "", kRootInode};
  while (!path.empty()) {
    size_t slash = path.find('/');
    std::string_view part = path.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
    if (part.empty() || part == ".") continue;
    if (place.inode == kNoInode || !is_directory(place.inode)) return {};
    place.directory = place.inode;
    place.name = part;
    place.inode = image().find_in(place.directory, part);
  }
  return place;
}

bool SimFileSystem::is_directory(InodeId inode) const {
  const DiskImage::Node* node = image().node(inode);
  return node != nullptr && node->is_directory;
}

bool SimFileSystem::contains(InodeId above, InodeId directory) const {
  while (directory != above && directory != kRootInode) directory = image().node(directory)->parent;
  return directory == above;
}

Result<std::unique_ptr<File>> SimFileSystem::open(std::string_view path, OpenMode mode) {
  TRY(disk_.check(DiskCall::kOpen, path));
  Place place = locate(path);
  if (place.directory == kNoInode) return error(Errc::kNotFound, "open", path, "no such file or folder");
  if (place.inode != kNoInode && mode == OpenMode::kCreateNew) {
    return error(Errc::kAlreadyExists, "open", path, "file exists");
  }
  if (is_directory(place.inode)) return error(Errc::kInvalidArgument, "open", path, "not a regular file");
  if (place.inode == kNoInode) {
    if (mode == OpenMode::kRead || mode == OpenMode::kReadWrite) {
      return error(Errc::kNotFound, "open", path, "no such file or folder");
    }
    DiskOp op;
    op.kind = DiskOp::Kind::kLink;
    op.inode = place.inode = disk_.next_inode_++;
    op.directory = place.directory;
    op.name = place.name;
    disk_.perform(std::move(op));
  }
  return std::unique_ptr<File>(
      std::make_unique<SimFile>(disk_, place.inode, std::string(path), mode != OpenMode::kRead, owner_));
}

bool SimFileSystem::exists(std::string_view path) { return locate(path).inode != kNoInode; }

Result<std::vector<DirectoryEntry>> SimFileSystem::list(std::string_view directory) {
  InodeId inode = locate(directory).inode;
  if (!is_directory(inode)) return error(Errc::kNotFound, "list", directory, "no such folder");
  std::vector<DirectoryEntry> entries;
  for (const auto& [name, child] : image().node(inode)->entries) entries.push_back({name, is_directory(child)});
  return entries;
}

Status SimFileSystem::create_directories(std::string_view path) {
  for (size_t end = 0; end != std::string_view::npos;) {
    end = path.find('/', end + 1);
    std::string_view prefix = path.substr(0, end);
    Place place = locate(prefix);
    if (is_directory(place.inode)) continue;
    bool on_the_way = end != std::string_view::npos && path.find_first_not_of('/', end) != std::string_view::npos;
    if (place.inode != kNoInode && !on_the_way) {
      return error(Errc::kAlreadyExists, "create folder", path, "file exists");
    }
    if (place.inode != kNoInode || place.directory == kNoInode)
      return error(Errc::kNotFound, "create folder", path, "not a folder");
    TRY(disk_.check(DiskCall::kCreateDirectory, path));
    DiskOp op;
    op.kind = DiskOp::Kind::kLink;
    op.is_directory = true;
    op.inode = disk_.next_inode_++;
    op.directory = place.directory;
    op.name = place.name;
    disk_.perform(std::move(op));
  }
  return ok_status();
}

Status SimFileSystem::rename(std::string_view from, std::string_view to) {
  TRY(disk_.check(DiskCall::kRename, from));
  Place source = locate(from);
  Place target = locate(to);
  if (source.inode == kNoInode || target.directory == kNoInode || source.inode == kRootInode) {
    return error(Errc::kNotFound, "rename", std::string(from) + " to " + std::string(to), "no such file or folder");
  }
  if (source.inode == target.inode) return ok_status();
  if (contains(source.inode, target.directory)) {
    return error(Errc::kInvalidArgument, "rename", from, "would move into itself");
  }
  if (target.inode != kNoInode && contains(target.inode, source.directory)) {
    return error(Errc::kAlreadyExists, "rename", to, "folder is not empty");
  }
  bool moves_directory = is_directory(source.inode);
  if (target.inode != kNoInode) {
    if (is_directory(target.inode) != moves_directory) {
      return error(moves_directory ? Errc::kNotFound : Errc::kInvalidArgument, "rename", to, "is the other kind");
    }
    if (moves_directory && !image().node(target.inode)->entries.empty()) {
      return error(Errc::kAlreadyExists, "rename", to, "folder is not empty");
    }
  }
  DiskOp op;
  op.kind = DiskOp::Kind::kRename;
  op.is_directory = moves_directory;
  op.inode = source.inode;
  op.from_directory = source.directory;
  op.directory = target.directory;
  op.name = target.name;
  disk_.perform(std::move(op));
  disk_.collect_garbage();
  return ok_status();
}

void SimFileSystem::unlink(const Place& place) {
  DiskOp op;
  op.kind = DiskOp::Kind::kUnlink;
  op.inode = place.inode;
  op.directory = place.directory;
  op.name = place.name;
  disk_.perform(std::move(op));
}

Status SimFileSystem::remove_file(std::string_view path) {
  TRY(disk_.check(DiskCall::kRemove, path));
  Place place = locate(path);
  if (place.inode == kNoInode) return error(Errc::kNotFound, "remove", path, "no such file or folder");
  if (is_directory(place.inode)) return error(Errc::kInvalidArgument, "remove", path, "is a folder");
  unlink(place);
  disk_.collect_garbage();
  return ok_status();
}

void SimFileSystem::remove_children(InodeId directory) {
  std::map<std::string, InodeId, std::less<>> entries = image().node(directory)->entries;
  for (const auto& [name, child] : entries) {
    if (is_directory(child)) remove_children(child);
    unlink({directory, name, child});
  }
}

Status SimFileSystem::remove_tree(std::string_view path) {
  Place place = locate(path);
  if (place.inode == kNoInode) return ok_status();
  TRY(disk_.check(DiskCall::kRemove, path));
  if (is_directory(place.inode)) remove_children(place.inode);
  if (place.inode != kRootInode) unlink(place);
  disk_.collect_garbage();
  return ok_status();
}

Result<DiskOp> SimFileSystem::directory_sync(std::string_view path) const {
  InodeId inode = locate(path).inode;
  if (!is_directory(inode)) return error(Errc::kNotFound, "open folder", path, "no such folder");
  DiskOp op;
  op.kind = DiskOp::Kind::kSyncDirectory;
  op.inode = inode;
  op.covers = disk_.next_number_ - 1;
  return op;
}

void SimFileSystem::sync_directory(std::string_view path, UniqueFunction<void(Status)> done) {
  Result<DiskOp> op = directory_sync(path);
  if (op.ok()) {
    disk_.start_sync({std::move(*op), owner_, std::move(done), std::string(path)});
    return;
  }
  disk_.scheduler_.run_at(disk_.scheduler_.now_ns(), owner_,
                          [done = std::move(done), status = op.status()]() mutable { done(std::move(status)); });
}

Status SimFileSystem::sync_directory_now(std::string_view path) {
  DiskOp op = TRY(directory_sync(path));
  return disk_.complete_sync(std::move(op), path);
}

Result<std::unique_ptr<FileLock>> SimFileSystem::lock(std::string_view path) {
  std::unique_ptr<File> file = TRY(open(path, OpenMode::kCreate));
  std::string place = image().path_of(locate(path).inode);
  if (!disk_.locks_.insert(place).second) return Status(Errc::kBusy, std::string(path) + " is locked");
  return std::unique_ptr<FileLock>(std::make_unique<SimFileLock>(disk_, std::move(place)));
}

Result<Space> SimFileSystem::space(std::string_view path) {
  if (!exists(path)) return error(Errc::kNotFound, "free space of", path, "no such file or folder");
  constexpr uint64_t kUnlimited = uint64_t{1} << 40;
  uint64_t total = std::min(disk_.capacity_, kUnlimited);
  uint64_t used = disk_.bytes_used();
  return Space{total, total > used ? total - used : 0};
}

}  // namespace trilog::sim
