#include "broker/rescue.h"

#include <unistd.h>

#include <functional>
#include <future>
#include <iostream>
#include <memory>
#include <optional>
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

class RescueRun {
 public:
  RescueRun(const cli::RescueOptions& options, const ProcessOutput& output)
      : options_(options),
        output_(output),
        shards_(ShardPoolOptions{.shards = 1, .log = make_stderr_logger(LogLevel::kWarning)}),
        env_(*shards_.envs().front()) {}

  int run() {
    Status found = find_folder();
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

  // The folder of the node, which nobody else may use from now on.
  Status find_folder() {
    FileSystem& files = env_.files();
    path_ = options_.data;
    while (path_.size() > 1 && path_.ends_with('/')) path_.pop_back();
    if (!files.exists(join_path(path_, "meta")) && files.exists(join_path(path_, "cluster"))) {
      ClusterFolder cluster(path_);
      std::optional<int> nodes = TRY(cluster.nodes());
      if (nodes.value_or(1) != 1) {
        return Status(
            Errc::kInvalidArgument,
            path_ + " holds a cluster of " + std::to_string(*nodes) +
                " nodes, and only one of a single node can be rescued; a node whose own metadata is lost gets "
                "it again from the others");
      }
      path_ = cluster.node_path(1);
    }
    if (!files.exists(join_path(path_, "meta"))) {
      return Status(Errc::kNotFound, options_.data + " is no data folder: there is no file 'meta' in it");
    }
    lock_ = TRY(files.lock(join_path(path_, "lock")));
    identity_ = TRY(DataFolder::identify(files, path_));
    return {};
  }

  MetadataLogConfig config_of(const std::string& directory, bool was_member) const {
    MetadataLogConfig config;
    config.directory = directory;
    config.cluster = identity_.cluster;
    config.self = Voter{identity_.node, identity_.directory};
    config.voters = {config.self};
    config.was_member = was_member;
    return config;
  }

  // What is wrong with the metadata, and what the folders of the partitions tell.
  Status look() {
    const std::string metadata = join_path(path_, "metadata");
    auto entries = env_.files().list(metadata);
    missing_ = !entries.ok() || entries->empty();
    if (missing_) {
      trouble_ = "missing";
    } else {
      Status state = on_shard(env_, [&](auto done) {
        MetadataLog::Listener listener;
        listener.on_commit = [](const CommittedBatch&) { return ok_status(); };
        listener.on_snapshot = [](Offset, ByteView) { return ok_status(); };
        listener.make_snapshot = [] { return Bytes(); };
        listener.on_leadership = [](bool, Term) {};
        done(MetadataLog::open(env_, config_of(metadata, true), std::move(listener)).status());
      });
      if (state.ok()) {
        return Status(Errc::kInvalidArgument,
                      "the metadata in " + metadata + " can be read: nothing has to be rescued");
      }
      if (state.code() != Errc::kCorruption) return state;
      trouble_ = "damaged: " + std::string(state.message());
    }
    std::vector<FoundPartition> found;
    const std::string topics = join_path(path_, "topics");
    for (PartitionMeta& meta : TRY(LogDirectory::scan(env_.files(), topics))) {
      std::string folder =
          join_path(join_path(topics, meta.topic_id.to_string()), std::to_string(meta.partition.value()));
      LeaderEpoch last = LogDirectory::last_epoch(env_.files(), folder);
      found.push_back({std::move(meta), last});
    }
    catalogue_ = TRY(rescue_catalogue(found, identity_.node, env_.clock().wall_ms()));
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
    std::string text = "node " + std::to_string(identity_.node.value()) + " of cluster " +
                       identity_.cluster.to_string() + " in " + path_;
    text += "\n  metadata       " + trouble_ + (missing_ ? "" : "; it is set aside, not deleted");
    text += "\n  found          " + std::to_string(catalogue_.topics.size()) + " topics, " +
            std::to_string(partitions) + " partitions" + names;
    text += "\n  stays          records, topic ids, settings, offsets of groups";
    text += "\n  is lost        topics that nothing was ever written to, and whatever only the metadata knew";
    for (const std::string& remark : catalogue_.remarks) text += "\n  note           " + remark;
    return text;
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
    const std::string metadata = join_path(path_, "metadata");
    const std::string fresh = metadata + ".rescue";
    TRY(files.remove_tree(fresh));
    NewLog log(env_, catalogue_.records);
    TRY(on_shard(env_, [&](auto done) { log.write(config_of(fresh, false), std::move(done)); }));
    if (files.exists(metadata)) {
      for (int i = 1; aside_.empty() || files.exists(aside_); ++i) aside_ = metadata + ".lost-" + std::to_string(i);
      TRY(files.rename(metadata, aside_));
    }
    TRY(files.rename(fresh, metadata));
    return files.sync_directory_now(path_);
  }

  void report() const {
    int64_t partitions = 0;
    for (const RescuedCatalogue::Topic& topic : catalogue_.topics) partitions += topic.partitions;
    if (output_.json()) {
      cli::JsonObject object;
      object.add("action", "rescue").add("name", path_).add("changed", !options_.dry_run);
      object.add("metadata", missing_ ? "missing" : "damaged");
      object.add("topics", static_cast<int64_t>(catalogue_.topics.size())).add("partitions", partitions);
      object.add("remarks", catalogue_.remarks);
      output_.line(object.text());
      return;
    }
    std::string text = std::string(options_.dry_run ? "would rescue " : "rescued ") +
                       std::to_string(catalogue_.topics.size()) + " topics, " + std::to_string(partitions) +
                       " partitions in " + path_;
    if (!aside_.empty()) text += "\n  old metadata   " + aside_;
    if (!options_.dry_run) text += "\n  next           start the node, then trilog topic list";
    output_.line(text);
  }

  const cli::RescueOptions& options_;
  const ProcessOutput& output_;
  ShardPool shards_;
  Env& env_;
  std::string path_;
  std::unique_ptr<FileLock> lock_;
  FolderIdentity identity_;
  bool missing_ = false;
  std::string trouble_;
  RescuedCatalogue catalogue_;
  std::string aside_;
};

}  // namespace

int run_rescue(const cli::RescueOptions& options) {
  ProcessOutput output(options.json, options.quiet);
  return RescueRun(options, output).run();
}

}  // namespace trilog
