#include "broker/rescue.h"

#include <unistd.h>

#include <functional>
#include <future>
#include <iostream>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "broker/cluster_folder.h"
#include "broker/data_folder.h"
#include "broker/metadata/metadata_loader.h"
#include "broker/process_output.h"
#include "broker/quorum/metadata_log.h"
#include "broker/rescued_catalogue.h"
#include "broker/runtime/shard_pool.h"
#include "broker/runtime/stderr_log.h"
#include "storage/log/log_directory.h"

namespace trilog {
namespace {

// Runs `call` on the shard's thread and waits for the Status it hands to its argument.
template <typename Call>
Status on_shard(Env& env, Call call) {
  auto result = std::make_shared<std::promise<Status>>();
  env.executor().post([&, result] { call([result](Status status) { result->set_value(std::move(status)); }); });
  return result->get_future().get();
}

// A metadata log of one voter that is written once. It lives until `done` was called, on the shard's thread.
class NewLog {
 public:
  NewLog(Env& env, const std::vector<MetadataRecord>& records) : env_(env) {
    for (const MetadataRecord& record : records) records_.push_back(encode_metadata_record(record));
  }

  void write(MetadataLogConfig config, std::function<void(Status)> done) {
    done_ = std::move(done);
    MetadataLog::Listener listener;
    // Applying the records shows that they follow from each other.
    listener.on_commit = [this](const CommittedBatch& batch) { return loader_.apply(batch.first, batch.records); };
    listener.on_snapshot = [this](Offset applied, ByteView state) { return loader_.load_snapshot(applied, state); };
    listener.make_snapshot = [this] { return loader_.make_snapshot(); };
    listener.on_leadership = [this](bool leading, Term) {
      if (leading && !std::exchange(begun_, true)) env_.executor().post([this] { propose(); });
    };
    auto opened = MetadataLog::open(env_, std::move(config), std::move(listener));
    if (!opened.ok()) return done_(opened.status());
    log_ = std::move(*opened);
    log_->start();
  }

 private:
  void propose() {
    log_->propose(std::move(records_), [this](const Result<Offset>& first) {
      written_ = first.ok() ? Status() : first.status();
      log_->close([this](const Status& closed) {
        if (written_.ok()) written_ = closed;
        env_.executor().post([this] {
          log_.reset();
          std::exchange(done_, nullptr)(written_);
        });
      });
    });
  }

  Env& env_;
  MetadataLoader loader_;
  std::vector<Bytes> records_;
  std::function<void(Status)> done_;
  std::unique_ptr<MetadataLog> log_;
  bool begun_ = false;
  Status written_;
};

struct RescueFolder {
  std::string path;
  std::unique_ptr<FileLock> lock;  // nobody else may use it from now on
  FolderIdentity identity;
  std::string trouble;  // with its metadata
};

class RescueRun {
 public:
  RescueRun(const cli::RescueOptions& options, const ProcessOutput& output)
      : options_(options),
        output_(output),
        shards_(ShardPoolOptions{.shards = 1, .log = make_stderr_logger(LogLevel::kWarning)}),
        env_(*shards_.envs().front()) {}

  int run() {
    Status found = find_folders();
    if (found.ok()) found = look();
    if (!found.ok()) return refuse(found);
    output_.hint(plan_text());
    if (!options_.dry_run) {
      if (std::optional<int> no = ask()) return *no;
      Status rescued = rescue();
      if (!rescued.ok()) return output_.fail(rescued);
    }
    report();
    return kExitDone;
  }

 private:
  int refuse(const Status& status) const {
    if (status.code() == Errc::kNotFound) return output_.fail(kExitNotFound, "NOT_FOUND", status.message());
    if (status.code() == Errc::kInvalidArgument) return output_.fail(kExitRefused, "INVALID_REQUEST", status.message());
    return output_.fail(status);
  }

  // Those that were named, and those of all nodes where a folder of `up` was.
  Status find_folders() {
    FileSystem& files = env_.files();
    for (std::string path : options_.data) {
      while (path.size() > 1 && path.ends_with('/')) path.pop_back();
      ClusterFolder cluster(path);
      int nodes = 0;
      if (!files.exists(join_path(path, "meta")) && files.exists(join_path(path, "cluster"))) {
        nodes = TRY(cluster.nodes()).value_or(1);
      }
      const size_t before = folders_.size();
      for (int node = 1; node <= nodes; ++node) {
        if (files.exists(join_path(cluster.node_path(node), "meta"))) TRY(add_folder(cluster.node_path(node)));
      }
      if (nodes == 0 && files.exists(join_path(path, "meta"))) TRY(add_folder(path));
      if (folders_.size() == before) {
        return Status(Errc::kNotFound, path + " is no data folder: there is no file 'meta' in it");
      }
    }
    return {};
  }

  Status add_folder(const std::string& path) {
    RescueFolder folder;
    folder.path = path;
    for (const RescueFolder& other : folders_) {
      if (other.path == path) return Status(Errc::kInvalidArgument, path + " was given twice");
    }
    folder.lock = TRY(env_.files().lock(join_path(path, "lock")));
    folder.identity = TRY(DataFolder::identify(env_.files(), path));
    for (const RescueFolder& other : folders_) {
      if (other.identity.cluster != folder.identity.cluster) {
        return Status(Errc::kInvalidArgument, path + " belongs to cluster " + folder.identity.cluster.to_string() +
                                                  ", " + other.path + " to " + other.identity.cluster.to_string());
      }
      if (other.identity.node == folder.identity.node) {
        return Status(Errc::kInvalidArgument, path + " and " + other.path + " are both of node " +
                                                  std::to_string(folder.identity.node.value()));
      }
    }
    folders_.push_back(std::move(folder));
    return {};
  }

  const RescueFolder& first() const { return folders_.front(); }

  static MetadataLogConfig config_of(const RescueFolder& folder, const std::string& directory, bool was_member) {
    MetadataLogConfig config;
    config.directory = directory;
    config.cluster = folder.identity.cluster;
    config.self = Voter{folder.identity.node, folder.identity.directory};
    config.voters = {config.self};
    config.was_member = was_member;
    return config;
  }

  // What is wrong with the metadata, and what the folders of the partitions tell.
  Status look() {
    std::vector<RescuedNode> nodes;
    for (RescueFolder& folder : folders_) {
      TRY(look_at_metadata(folder));
      RescuedNode node{folder.identity.node, folder.identity.directory, folder.identity.broker_epoch, {}};
      const std::string topics = join_path(folder.path, "topics");
      for (PartitionMeta& meta : TRY(LogDirectory::scan(env_.files(), topics))) {
        std::string path =
            join_path(join_path(topics, meta.topic_id.to_string()), std::to_string(meta.partition.value()));
        LeaderEpoch last = LogDirectory::last_epoch(env_.files(), path);
        node.found.push_back({std::move(meta), last});
      }
      nodes.push_back(std::move(node));
    }
    const int64_t now_ms = env_.clock().wall_ms();
    // Above all that recover-quorum counted, so that a folder which was not here has nothing to say any more.
    recovery_ = {static_cast<uint32_t>(now_ms / 1'000), first().identity.node};
    catalogue_ = rescue_catalogue(nodes, recovery_.number, now_ms);
    remark_absent_nodes();
    return {};
  }

  Status look_at_metadata(RescueFolder& folder) {
    const std::string metadata = join_path(folder.path, "metadata");
    auto entries = env_.files().list(metadata);
    if (!entries.ok() || entries->empty()) {
      folder.trouble = "missing";
      return {};
    }
    Status state = on_shard(env_, [&](auto done) {
      MetadataLog::Listener listener;
      listener.on_commit = [](const CommittedBatch&) { return ok_status(); };
      listener.on_snapshot = [](Offset, ByteView) { return ok_status(); };
      listener.make_snapshot = [] { return Bytes(); };
      listener.on_leadership = [](bool, Term) {};
      done(MetadataLog::open(env_, config_of(folder, metadata, true), std::move(listener)).status());
    });
    // A log of several voters is not opened without the others, but that is seen only when all of it can be read.
    if (state.ok() || state.code() == Errc::kInvalidArgument) {
      return Status(Errc::kInvalidArgument,
                    "the metadata in " + metadata +
                        " can be read: nothing has to be rescued; start this node, the others get theirs from it (if "
                        "no majority is left: trilog cluster recover-quorum)");
    }
    if (state.code() != Errc::kCorruption) return state;
    folder.trouble = "damaged: " + std::string(state.message());
    return {};
  }

  std::string plan_text() const {
    int64_t partitions = 0;
    std::string names;
    for (size_t i = 0; i < catalogue_.topics.size(); ++i) {
      const RescuedCatalogue::Topic& topic = catalogue_.topics[i];
      partitions += topic.partitions;
      if (i < 10) names += (i == 0 ? ": " : ", ") + topic.name + " (" + std::to_string(topic.partitions) + ")";
    }
    if (catalogue_.topics.size() > 10) names += ", …";
    std::string text = "cluster " + first().identity.cluster.to_string();
    for (const RescueFolder& folder : folders_) {
      text += "\n  node " + std::to_string(folder.identity.node.value()) + "         " + folder.path + ", metadata " +
              folder.trouble + (folder.trouble == "missing" ? "" : "; it is set aside, not deleted");
    }
    text += "\n  found          " + std::to_string(catalogue_.topics.size()) + " topics, " +
            std::to_string(partitions) + " partitions" + names;
    text += "\n  stays          records, topic ids, settings, offsets of groups";
    text += "\n  is lost        topics that nothing was ever written to, and whatever only the metadata knew";
    for (const std::string& remark : catalogue_.remarks) text += "\n  note           " + remark;
    return text;
  }

  // Folders that are rescued one by one become clusters of their own.
  void remark_absent_nodes() {
    std::set<BrokerId> absent;
    for (const MetadataRecord& record : catalogue_.records) {
      if (const auto* partition = std::get_if<PartitionRecord>(&record)) {
        absent.insert(partition->replicas.begin(), partition->replicas.end());
      }
    }
    for (const RescueFolder& folder : folders_) absent.erase(folder.identity.node);
    if (absent.empty()) return;
    std::string ids;
    for (BrokerId id : absent) ids += (ids.empty() ? "" : ", ") + std::to_string(id.value());
    catalogue_.remarks.push_back((absent.size() == 1 ? "node " : "nodes ") + ids +
                                 (absent.size() == 1 ? " has" : " have") +
                                 " copies too: name every folder that is left in one rescue (--data DIR --data DIR …), "
                                 "and do not rescue the others by themselves");
  }

  std::optional<int> ask() const {
    if (options_.yes) return std::nullopt;
    if (options_.json || ::isatty(STDIN_FILENO) == 0) {
      return output_.fail(kExitUsage, "USAGE", "rescue needs --yes when nobody can be asked; --dry-run only shows");
    }
    std::cerr << "make a new catalogue from these? [y/N] " << std::flush;
    std::string answer;
    std::getline(std::cin, answer);
    if (answer == "y" || answer == "yes") return std::nullopt;
    return output_.fail(kExitRefused, "USAGE", "nothing was changed");
  }

  // The new catalogue is complete on the disk before it takes its place; a rescue that was broken off begins anew.
  Status rescue() {
    FileSystem& files = env_.files();
    const std::string metadata = join_path(first().path, "metadata");
    const std::string fresh = metadata + ".rescue";
    TRY(files.remove_tree(fresh));
    NewLog log(env_, catalogue_.records);
    MetadataLogConfig config = config_of(first(), fresh, false);
    config.recovery = recovery_;
    TRY(on_shard(env_, [&](auto done) { log.write(std::move(config), std::move(done)); }));
    if (files.exists(metadata)) {
      for (int i = 1; aside_.empty() || files.exists(aside_); ++i) aside_ = metadata + ".lost-" + std::to_string(i);
      TRY(files.rename(metadata, aside_));
    }
    TRY(files.rename(fresh, metadata));
    return files.sync_directory_now(first().path);
  }

  void report() const {
    int64_t partitions = 0;
    for (const RescuedCatalogue::Topic& topic : catalogue_.topics) partitions += topic.partitions;
    if (output_.json()) {
      cli::JsonObject object;
      object.add("action", "rescue").add("name", first().path).add("changed", !options_.dry_run);
      object.add("metadata", first().trouble == "missing" ? "missing" : "damaged");
      object.add("nodes", static_cast<int64_t>(folders_.size()));
      object.add("topics", static_cast<int64_t>(catalogue_.topics.size())).add("partitions", partitions);
      object.add("remarks", catalogue_.remarks);
      output_.line(object.text());
      return;
    }
    std::string text = std::string(options_.dry_run ? "would rescue " : "rescued ") +
                       std::to_string(catalogue_.topics.size()) + " topics, " + std::to_string(partitions) +
                       " partitions in " + first().path;
    if (!aside_.empty()) text += "\n  old metadata   " + aside_;
    if (!options_.dry_run) {
      text += folders_.size() == 1 ? "\n  next           start the node, then trilog topic list"
                                   : "\n  next           start node " + std::to_string(first().identity.node.value()) +
                                         ", then the others: they get the metadata from it";
    }
    output_.line(text);
  }

  const cli::RescueOptions& options_;
  const ProcessOutput& output_;
  ShardPool shards_;
  Env& env_;
  std::vector<RescueFolder> folders_;
  QuorumRecovery recovery_;
  RescuedCatalogue catalogue_;
  std::string aside_;
};

}  // namespace

int run_rescue(const cli::RescueOptions& options) {
  ProcessOutput output(options.json, options.quiet);
  return RescueRun(options, output).run();
}

}  // namespace trilog
