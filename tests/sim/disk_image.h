// What a simulated disk holds, and the operations that change it. A DiskImage is a plain value; a SimDisk has two of
// them: what the running program sees, and what would be left after a power cut.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "storage/env/env.h"

namespace trilog::sim {

// Number of a file or folder on one disk, never used again.
using InodeId = uint64_t;
inline constexpr InodeId kNoInode = 0;
inline constexpr InodeId kRootInode = 1;

struct DiskOp {
  enum class Kind : uint8_t {
    kWrite,          // `bytes` of `inode` at `offset`
    kTruncate,       // `inode` to `offset` bytes, shorter or longer
    kLink,           // `inode` gets the place `name` in `directory`
    kUnlink,         // the place `name` in `directory` becomes empty
    kRename,         // `inode` moves to `name` in `directory` and leaves every other place, all or nothing
    kSyncFile,       // completed: operations on `inode` numbered up to `covers` are durable
    kSyncDirectory,  // completed: places in the folder `inode`, as far as `covers`
    kSyncLost,  // a sync of `inode` failed and the pages were marked clean: covered operations never reach the disk
    kMark,      // not the disk's: a note of the test at this point, value in `offset`
  };
  Kind kind = Kind::kMark;
  bool is_directory = false;
  InodeId inode = kNoInode;
  InodeId directory = kNoInode;
  InodeId from_directory = kNoInode;  // rename: durable with a sync of either folder
  uint64_t offset = 0;
  uint64_t covers = 0;
  uint64_t number = 0;  // counts the operations of one disk, from 1
  std::string name;
  SharedBytes bytes;

  bool changes_file() const { return kind == Kind::kWrite || kind == Kind::kTruncate; }
  bool changes_directory() const { return kind == Kind::kLink || kind == Kind::kUnlink || kind == Kind::kRename; }
  // One line for a person: "write inode 5 [4096, 4196)".
  std::string to_string() const;
};

// What a power cut left of one unsynced operation. Tears are cut at multiples of `granule` in the file.
struct Fate {
  enum class Kind : uint8_t {
    kKept,
    kDropped,
    kPrefix,   // only the first `detail` granules of a write
    kPattern,  // granule i of a write if bit (i mod 64) of `detail` is set; the file has grown to its full size, zeros
               // between
  };
  Kind kind = Kind::kKept;
  uint32_t granule = 512;  // 512 or 4096
  uint64_t detail = 0;
};

class DiskImage {
 public:
  struct Node {
    bool is_directory = false;
    InodeId parent = kNoInode;  // where it is to be found; kNoInode if nowhere
    std::string name;
    std::shared_ptr<std::vector<std::byte>> content;  // shared between copies of the image until written
    std::map<std::string, InodeId, std::less<>> entries;
  };

  DiskImage();
  // Only kinds that change something; torn only for writes.
  void apply(const DiskOp& op, const Fate& fate = {});

  // kNoInode if there is nothing.
  InodeId find(std::string_view path) const;
  InodeId find_in(InodeId directory, std::string_view name) const;
  const Node* node(InodeId inode) const;
  ByteView content(InodeId inode) const;
  bool linked(InodeId inode) const;  // reachable from the root
  std::string path_of(InodeId inode) const;
  std::vector<std::string> all_files() const;  // paths, sorted
  uint64_t bytes_used() const;
  InodeId inode_max() const { return nodes_.rbegin()->first; }
  std::vector<InodeId> inodes() const;

  void set_content(InodeId inode, std::vector<std::byte> bytes);
  void flip_bit(InodeId inode, uint64_t bit);
  // Forgets nodes that are neither reachable nor in `keep`.
  void collect_garbage(const std::vector<InodeId>& keep);
  // Byte for byte the same reachable tree.
  bool same_tree(const DiskImage& other) const;

 private:
  std::vector<std::byte>& writable(InodeId inode);
  void write(const DiskOp& op, const Fate& fate);
  void detach(InodeId inode);
  void place(const DiskOp& op);

  std::map<InodeId, Node> nodes_;
};

// The durable image and what was done since: the heart of SimDisk, and of replaying a recording.
class DiskState {
 public:
  DiskState() = default;
  explicit DiskState(DiskImage durable) : durable_(std::move(durable)) {}
  // Takes the next operation; a completed sync makes what it covers durable.
  void add(const DiskOp& op);
  const DiskImage& durable() const { return durable_; }
  DiskImage& durable() { return durable_; }
  const std::vector<DiskOp>& unsynced() const { return unsynced_; }
  // What a power cut leaves; fates[i] is for unsynced()[i], missing ones mean dropped.
  DiskImage after_crash(std::span<const Fate> fates) const;

 private:
  DiskImage durable_;
  std::vector<DiskOp> unsynced_;
};

}  // namespace trilog::sim
