// DataFolder: the folder of one node (interface: Files). Who it belongs to, that nobody else uses it, and what the last
// stop left: rules S11 and S14.
//
//   lock       held while the node runs
//   meta       cluster id, node id, directory id, boot id, last broker epoch
//   clean      only after a clean stop
//   marks      one mark per log
//   metadata/  topics/  state/
#pragma once

#include <memory>
#include <string>

#include "storage/base/ids.h"
#include "storage/base/status.h"
#include "storage/env/env.h"
#include "storage/log/checkpoint_file.h"
#include "storage/log/log_directory.h"

namespace trilog {

struct FolderIdentity {
  ClusterId cluster;
  BrokerId node = kNoBroker;
  DirectoryId directory;
  BrokerEpoch broker_epoch{-1};  // of the last registration (C8)
  std::string boot_id;           // of the kernel then; empty if it could not be read
};

class DataFolder {
 public:
  // Blocking. Makes the folder and its identity if it is new; kBusy if another process has it, kInvalidArgument if it
  // is another node's, kCorruption if `meta` is damaged. Takes the clean marker (it is gone when this returns) and the
  // marks.
  static Result<std::unique_ptr<DataFolder>> open(Env& env, std::string path, BrokerId node);
  // Blocking. Who the folder at `path` is, without locking or changing it. kNotFound: it has no `meta`; kCorruption.
  static Result<FolderIdentity> identify(FileSystem& files, const std::string& path);
  // Blocking. For whoever makes the folders of a whole cluster before its first start: the folder with the identity of
  // this node in this cluster; what is there already stays as it is. Errors as open(). Returns who the folder is.
  static Result<FolderIdentity> make(Env& env, std::string path, BrokerId node, const ClusterId& cluster);

  const std::string& path() const { return path_; }
  std::string metadata_path() const { return join_path(path_, "metadata"); }
  std::string topics_path() const { return join_path(path_, "topics"); }
  std::string state_path() const { return join_path(path_, "state"); }
  const FolderIdentity& identity() const { return identity_; }
  bool is_new() const { return is_new_; }
  // The kernel is the one of the last registration: the page cache of then survived (C8).
  bool same_boot() const { return !boot_id_.empty() && boot_id_ == identity_.boot_id; }
  // For every shard: what was found at the start.
  const LogStartState& start_state() const { return start_; }
  MarksFile& marks() { return *marks_; }

  Status set_broker_epoch(BrokerEpoch epoch);    // blocking
  Status set_cluster(const ClusterId& cluster);  // blocking; of a new folder, once it is known
  Status write_clean(const Marks& exact);        // blocking; the last thing a clean stop does

 private:
  DataFolder(Env& env, std::string path) : env_(env), path_(std::move(path)) {}
  Status lock();
  Status load_identity(BrokerId node, const ClusterId& cluster_if_new);
  Status write_identity();

  Env& env_;
  std::string path_;
  std::unique_ptr<FileLock> lock_;
  FolderIdentity identity_;
  std::string boot_id_;  // of the running kernel
  bool is_new_ = false;
  LogStartState start_;
  std::unique_ptr<MarksFile> marks_;
};

}  // namespace trilog
