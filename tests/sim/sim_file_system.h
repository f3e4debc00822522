// FileSystem over a SimDisk for one shard. Made by SimDisk::make_file_system().
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "storage/env/env.h"
#include "tests/sim/sim_disk.h"

namespace trilog::sim {

class SimFileSystem : public FileSystem {
 public:
  SimFileSystem(SimDisk& disk, Scheduler::Owner owner) : disk_(disk), owner_(owner) {}

  Result<std::unique_ptr<File>> open(std::string_view path, OpenMode mode) override;
  bool exists(std::string_view path) override;
  Result<std::vector<DirectoryEntry>> list(std::string_view directory) override;
  Status create_directories(std::string_view path) override;
  Status rename(std::string_view from, std::string_view to) override;
  Status remove_file(std::string_view path) override;
  Status remove_tree(std::string_view path) override;
  void sync_directory(std::string_view path, UniqueFunction<void(Status)> done) override;
  Status sync_directory_now(std::string_view path) override;
  Result<std::unique_ptr<FileLock>> lock(std::string_view path) override;
  Result<Space> space(std::string_view path) override;

 private:
  // A path taken apart; the last name need not exist.
  struct Place {
    InodeId directory = kNoInode;  // kNoInode: a folder on the way is missing
    std::string name;
    InodeId inode = kNoInode;
  };
  Place locate(std::string_view path) const;
  const DiskImage& image() const { return disk_.image_; }
  bool is_directory(InodeId inode) const;
  bool contains(InodeId above, InodeId directory) const;  // `directory` is `above` or lies in it
  void unlink(const Place& place);
  void remove_children(InodeId directory);
  Result<DiskOp> directory_sync(std::string_view path) const;

  SimDisk& disk_;
  const Scheduler::Owner owner_;
};

}  // namespace trilog::sim
