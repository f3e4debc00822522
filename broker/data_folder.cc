#include "broker/data_folder.h"

#include <array>
#include <vector>

#include "storage/base/codec.h"

namespace trilog {
namespace {

constexpr uint32_t kMetaVersion = 1;

template <typename Id>
Id random_id(Random& random) {
  for (;;) {
    uint64_t high = random.next();
    Id id(high, random.next());
    if (!id.is_zero()) return id;
  }
}

// Changes with every start of the kernel, so that a process that died can be told from a machine that did (C8).
std::string read_boot_id(FileSystem& files) {
  Result<std::unique_ptr<File>> file = files.open("/proc/sys/kernel/random/boot_id", OpenMode::kRead);
  if (!file.ok()) return "";
  std::array<std::byte, 36> text;
  Result<size_t> size = (*file)->read_at(0, text);
  return size.ok() ? std::string(as_text(ByteView(text).first(*size))) : "";
}

// Every folder that had to be made is durable in its parent (S4): a power cut must not take the node's identity with a
// folder far above it.
Status make_durable_folder(FileSystem& files, const std::string& path) {
  std::vector<std::string> made;
  for (std::string at = path; !files.exists(at); at = parent_path(at)) {
    made.push_back(at);
    if (parent_path(at) == at || parent_path(at) == ".") break;
  }
  TRY(files.create_directories(path));
  for (const std::string& folder : made) TRY(files.sync_directory_now(parent_path(folder)));
  return {};
}

Bytes encode_identity(const FolderIdentity& identity) {
  Bytes out;
  ByteWriter writer(out);
  writer.write_text(identity.cluster.to_string());
  writer.write<int32_t>(identity.node.value());
  writer.write_text(identity.directory.to_string());
  writer.write_text(identity.boot_id);
  writer.write<int64_t>(identity.broker_epoch.value());
  return out;
}

Result<FolderIdentity> decode_identity(ByteView bytes) {
  ByteReader reader(bytes);
  FolderIdentity identity;
  std::string_view cluster = reader.read_text();
  identity.node = BrokerId(reader.read<int32_t>());
  std::string_view directory = reader.read_text();
  identity.boot_id = reader.read_text();
  identity.broker_epoch = BrokerEpoch(reader.read<int64_t>());
  if (!reader.ok() || !reader.at_end()) return Status(Errc::kCorruption, "it does not parse");
  identity.cluster = TRY(ClusterId::parse(cluster));
  identity.directory = TRY(DirectoryId::parse(directory));
  return identity;
}

}  // namespace

Result<std::unique_ptr<DataFolder>> DataFolder::open(Env& env, std::string path, BrokerId node) {
  FileSystem& files = env.files();
  TRY(make_durable_folder(files, path));
  std::unique_ptr<DataFolder> folder(new DataFolder(env, std::move(path)));
  TRY(folder->lock());
  // First thing (S11): a crash from here on must not look like a clean stop.
  std::optional<CleanMarker> clean = TRY(take_clean_marker(files, join_path(folder->path_, "clean")));
  TRY(folder->load_identity(node, random_id<ClusterId>(env.random())));
  folder->marks_ = std::make_unique<MarksFile>(TRY(MarksFile::open(files, join_path(folder->path_, "marks"))));
  if (clean && clean->broker_epoch != folder->identity_.broker_epoch.value()) clean.reset();  // of an earlier process
  folder->start_.clean = clean.has_value();
  folder->start_.marks = clean ? clean->marks : folder->marks_->marks();
  if (folder->marks_->damaged()) {
    env.log().warning("data folder ", folder->path_, ": marks are damaged; all logs are checked from their start");
  }
  return folder;
}

Result<FolderIdentity> DataFolder::make(Env& env, std::string path, BrokerId node, const ClusterId& cluster) {
  TRY(make_durable_folder(env.files(), path));
  DataFolder folder(env, std::move(path));
  TRY(folder.lock());
  TRY(folder.load_identity(node, cluster));
  return folder.identity_;
}

Result<FolderIdentity> DataFolder::identify(FileSystem& files, const std::string& path) {
  std::string file = join_path(path, "meta");
  Result<Bytes> content = read_checkpoint(files, file, kMetaVersion);
  if (!content.ok()) return content.status().with_context(file);
  Result<FolderIdentity> identity = decode_identity(*content);
  if (!identity.ok()) return identity.status().with_context(file);
  return identity;
}

Status DataFolder::lock() {
  Result<std::unique_ptr<FileLock>> lock = env_.files().lock(join_path(path_, "lock"));
  if (!lock.ok()) return lock.status().with_context("data folder " + path_);
  lock_ = std::move(*lock);
  return {};
}

Status DataFolder::load_identity(BrokerId node, const ClusterId& cluster_if_new) {
  boot_id_ = read_boot_id(env_.files());
  std::string file = join_path(path_, "meta");
  Result<Bytes> content = read_checkpoint(env_.files(), file, kMetaVersion);
  if (content.ok()) {
    Result<FolderIdentity> identity = decode_identity(*content);
    if (!identity.ok()) return identity.status().with_context(file);
    if (identity->node != node) {
      return Status(Errc::kInvalidArgument, "data folder " + path_ + " belongs to node " +
                                                std::to_string(identity->node.value()) + " of cluster " +
                                                identity->cluster.to_string() + ", not to node " +
                                                std::to_string(node.value()) + "; give this node its own data_dir");
    }
    identity_ = *identity;
    return {};
  }
  if (content.status().code() != Errc::kNotFound) return content.status().with_context(file);
  // New only if nothing of a node is here: a folder that lost its `meta` is damaged, not fresh (Q11).
  for (const char* name : {"metadata", "topics", "marks"}) {
    if (env_.files().exists(join_path(path_, name))) {
      return Status(Errc::kCorruption,
                    "data folder " + path_ + " has '" + name +
                        "' but no 'meta': it is damaged, or not a data folder of Trilog; restore 'meta' "
                        "or give an empty folder");
    }
  }
  is_new_ = true;
  identity_.cluster = cluster_if_new;
  identity_.directory = random_id<DirectoryId>(env_.random());
  identity_.node = node;
  return write_identity();
}

Status DataFolder::write_identity() {
  return write_checkpoint(env_.files(), join_path(path_, "meta"), kMetaVersion, encode_identity(identity_));
}

// Both together: what is known about the page cache is known about the process of that registration.
Status DataFolder::set_broker_epoch(BrokerEpoch epoch) {
  identity_.broker_epoch = epoch;
  identity_.boot_id = boot_id_;
  return write_identity();
}

Status DataFolder::set_cluster(const ClusterId& cluster) {
  if (identity_.cluster == cluster) return {};
  identity_.cluster = cluster;
  return write_identity();
}

Status DataFolder::write_clean(const Marks& exact) {
  return write_clean_marker(env_.files(), join_path(path_, "clean"),
                            CleanMarker{identity_.broker_epoch.value(), exact});
}

}  // namespace trilog
