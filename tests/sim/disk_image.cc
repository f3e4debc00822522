#include "tests/sim/disk_image.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "storage/base/check.h"

namespace trilog::sim {
namespace {

std::string_view kind_name(DiskOp::Kind kind) {
  switch (kind) {
    case DiskOp::Kind::kWrite: return "write";
    case DiskOp::Kind::kTruncate: return "truncate";
    case DiskOp::Kind::kLink: return "link";
    case DiskOp::Kind::kUnlink: return "unlink";
    case DiskOp::Kind::kRename: return "rename";
    case DiskOp::Kind::kSyncFile: return "sync";
    case DiskOp::Kind::kSyncDirectory: return "sync folder";
    case DiskOp::Kind::kSyncLost: return "sync lost";
    case DiskOp::Kind::kMark: return "mark";
  }
  UNREACHABLE("DiskOp::Kind");
}

// Calls `use` with each part of the path; empty ones and "." are skipped.
template <typename Use>
void for_each_part(std::string_view path, Use use) {
  while (!path.empty()) {
    size_t slash = path.find('/');
    std::string_view part = path.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
    if (!part.empty() && part != ".") use(part);
  }
}

bool survives(const Fate& fate, uint64_t granule) {
  switch (fate.kind) {
    case Fate::Kind::kKept: return true;
    case Fate::Kind::kDropped: return false;
    case Fate::Kind::kPrefix: return granule < fate.detail;
    case Fate::Kind::kPattern: return ((fate.detail >> (granule % 64)) & 1) != 0;
  }
  UNREACHABLE("Fate::Kind");
}

}  // namespace

std::string DiskOp::to_string() const {
  std::string text = std::to_string(number) + ": " + std::string(kind_name(kind)) + " inode " + std::to_string(inode);
  if (kind == Kind::kWrite) {
    text += " [" + std::to_string(offset) + ", " + std::to_string(offset + bytes.size()) + ")";
  } else if (changes_directory()) {
    text += " at '" + name + "' in " + std::to_string(directory);
  } else if (kind == Kind::kSyncFile || kind == Kind::kSyncDirectory || kind == Kind::kSyncLost) {
    text += " up to " + std::to_string(covers);
  } else {
    text += " " + std::to_string(offset);
  }
  return text;
}

DiskImage::DiskImage() { nodes_[kRootInode].is_directory = true; }

const DiskImage::Node* DiskImage::node(InodeId inode) const {
  auto found = nodes_.find(inode);
  return found == nodes_.end() ? nullptr : &found->second;
}

InodeId DiskImage::find_in(InodeId directory, std::string_view name) const {
  const Node* parent = node(directory);
  if (parent == nullptr || !parent->is_directory) return kNoInode;
  auto found = parent->entries.find(name);
  return found == parent->entries.end() ? kNoInode : found->second;
}

InodeId DiskImage::find(std::string_view path) const {
  InodeId inode = kRootInode;
  for_each_part(path, [&](std::string_view part) { inode = find_in(inode, part); });
  return inode;
}

ByteView DiskImage::content(InodeId inode) const {
  const Node* file = node(inode);
  if (file == nullptr || file->content == nullptr) return {};
  return *file->content;
}

bool DiskImage::linked(InodeId inode) const {
  while (inode != kRootInode) {
    const Node* at = node(inode);
    if (at == nullptr || at->parent == kNoInode) return false;
    inode = at->parent;
  }
  return true;
}

std::string DiskImage::path_of(InodeId inode) const {
  std::string path;
  while (inode != kRootInode) {
    const Node* at = node(inode);
    if (at == nullptr || at->parent == kNoInode) return "(removed)" + path;
    path.insert(0, "/" + at->name);
    inode = at->parent;
  }
  return path;
}

std::vector<std::string> DiskImage::all_files() const {
  std::vector<std::string> paths;
  for (const auto& [inode, at] : nodes_) {
    if (!at.is_directory && linked(inode)) paths.push_back(path_of(inode));
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

uint64_t DiskImage::bytes_used() const {
  uint64_t sum = 0;
  for (const auto& [inode, at] : nodes_) sum += at.content ? at.content->size() : 0;
  return sum;
}

std::vector<InodeId> DiskImage::inodes() const {
  std::vector<InodeId> all;
  for (const auto& [inode, at] : nodes_) all.push_back(inode);
  return all;
}

std::vector<std::byte>& DiskImage::writable(InodeId inode) {
  std::shared_ptr<std::vector<std::byte>>& content = nodes_[inode].content;
  if (content == nullptr) {
    content = std::make_shared<std::vector<std::byte>>();
  } else if (content.use_count() > 1) {
    content = std::make_shared<std::vector<std::byte>>(*content);
  }
  return *content;
}

void DiskImage::write(const DiskOp& op, const Fate& fate) {
  ByteView bytes = op.bytes;
  if (bytes.empty() || fate.kind == Fate::Kind::kDropped) return;
  std::vector<std::byte>& file = writable(op.inode);
  uint64_t end = op.offset + bytes.size();
  if (fate.kind == Fate::Kind::kKept || fate.kind == Fate::Kind::kPattern) {
    if (file.size() < end) file.resize(end);
  }
  // Granules are places on the disk, so they are counted in the file, not in the write.
  uint64_t first = op.offset / fate.granule;
  for (uint64_t at = op.offset; at < end;) {
    uint64_t granule_end = fate.kind == Fate::Kind::kKept ? end : std::min(end, (at / fate.granule + 1) * fate.granule);
    if (survives(fate, at / fate.granule - first)) {
      if (file.size() < granule_end) file.resize(granule_end);
      std::memcpy(file.data() + at, bytes.data() + (at - op.offset), granule_end - at);
    }
    at = granule_end;
  }
}

void DiskImage::detach(InodeId inode) {
  auto found = nodes_.find(inode);
  if (found == nodes_.end() || found->second.parent == kNoInode) return;
  nodes_[found->second.parent].entries.erase(found->second.name);
  found->second.parent = kNoInode;
}

void DiskImage::place(const DiskOp& op) {
  // A folder that is not there (its own link was lost) exists without a place, so that order does not matter here.
  nodes_[op.directory].is_directory = true;
  InodeId there = find_in(op.directory, op.name);
  if (op.kind == DiskOp::Kind::kUnlink) {
    // An unlink removes what it saw, not what came to that place by other operations.
    if (there == op.inode) detach(there);
    return;
  }
  if (there != op.inode) detach(there);
  detach(op.inode);
  Node& target = nodes_[op.inode];
  target.is_directory = op.is_directory;
  target.parent = op.directory;
  target.name = op.name;
  nodes_[op.directory].entries[op.name] = op.inode;
}

void DiskImage::apply(const DiskOp& op, const Fate& fate) {
  if (fate.kind == Fate::Kind::kDropped) return;
  if (op.kind == DiskOp::Kind::kWrite) {
    write(op, fate);
  } else if (op.kind == DiskOp::Kind::kTruncate) {
    writable(op.inode).resize(op.offset);
  } else if (op.changes_directory()) {
    place(op);
  }
}

void DiskImage::set_content(InodeId inode, std::vector<std::byte> bytes) {
  nodes_[inode].content = std::make_shared<std::vector<std::byte>>(std::move(bytes));
}

void DiskImage::flip_bit(InodeId inode, uint64_t bit) {
  std::vector<std::byte>& file = writable(inode);
  CHECK_LT(bit / 8, file.size());
  file[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
}

void DiskImage::collect_garbage(const std::vector<InodeId>& keep) {
  std::set<InodeId> kept(keep.begin(), keep.end());
  std::set<InodeId> dead;
  for (const auto& [inode, at] : nodes_) {
    if (!linked(inode) && !kept.contains(inode)) dead.insert(inode);
  }
  for (InodeId inode : dead) {
    detach(inode);
    for (const auto& [name, child] : nodes_[inode].entries) nodes_[child].parent = kNoInode;
    nodes_.erase(inode);
  }
}

bool DiskImage::same_tree(const DiskImage& other) const {
  auto walk = [](const DiskImage& image) {
    std::map<std::string, InodeId> places;
    for (const auto& [inode, at] : image.nodes_) {
      if (image.linked(inode)) places[image.path_of(inode) + (at.is_directory ? "/" : "")] = inode;
    }
    return places;
  };
  std::map<std::string, InodeId> mine = walk(*this);
  std::map<std::string, InodeId> theirs = walk(other);
  return std::equal(mine.begin(), mine.end(), theirs.begin(), theirs.end(), [&](const auto& a, const auto& b) {
    return a.first == b.first && bytes_equal(content(a.second), other.content(b.second));
  });
}

void DiskState::add(const DiskOp& op) {
  if (op.changes_file() || op.changes_directory()) {
    unsynced_.push_back(op);
    return;
  }
  if (op.kind == DiskOp::Kind::kMark) return;
  auto covered = [&op](const DiskOp& earlier) {
    if (earlier.number > op.covers) return false;
    if (op.kind != DiskOp::Kind::kSyncDirectory) return earlier.changes_file() && earlier.inode == op.inode;
    return earlier.changes_directory() && (earlier.directory == op.inode || earlier.from_directory == op.inode);
  };
  for (const DiskOp& earlier : unsynced_) {
    if (op.kind != DiskOp::Kind::kSyncLost && covered(earlier)) durable_.apply(earlier);
  }
  std::erase_if(unsynced_, covered);
}

DiskImage DiskState::after_crash(std::span<const Fate> fates) const {
  DiskImage image = durable_;
  for (size_t i = 0; i < unsynced_.size() && i < fates.size(); ++i) image.apply(unsynced_[i], fates[i]);
  image.collect_garbage({});
  return image;
}

}  // namespace trilog::sim
