// trilog partition: who leads what, and changing that by hand.
#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "client/cli/commands.h"

namespace trilog::cli {
namespace {

using client::PartitionInfo;
using client::TopicInfo;

std::string ids_text(const std::vector<int32_t>& ids) {
  std::string text;
  for (int32_t id : ids) text += (text.empty() ? "" : " ") + std::to_string(id);
  return text.empty() ? "-" : text;
}

std::string node_text(int32_t node) { return "node " + std::to_string(node); }

// What is wrong with a partition; empty: nothing.
std::string trouble_of(const TopicInfo& topic, const PartitionInfo& partition) {
  if (partition.leader < 0) return "no leader";
  auto setting = topic.configs.find("min.insync.replicas");
  int64_t needed = setting == topic.configs.end() ? 1 : std::strtoll(setting->second.value.c_str(), nullptr, 10);
  if (static_cast<int64_t>(partition.isr.size()) < needed) {
    return "no writes: " + std::to_string(partition.isr.size()) + " of " + std::to_string(needed) + " in sync";
  }
  return partition.lagging.empty() ? "" : "not all in sync";
}

JsonObject partition_json(const TopicInfo& topic, const PartitionInfo& partition) {
  JsonObject object;
  object.add("topic", std::string_view(topic.name)).add("partition", partition.partition);
  object.add("leader", partition.leader >= 0 ? std::optional(partition.leader) : std::nullopt);
  object.add("leader_epoch", partition.leader_epoch).add("replicas", partition.replicas);
  object.add("isr", partition.isr).add("lagging", partition.lagging);
  std::string trouble = trouble_of(topic, partition);
  object.add("problem", trouble.empty() ? std::nullopt : std::optional(std::string_view(trouble)));
  return object;
}

class PartitionRun {
 public:
  PartitionRun(const CommonOptions& common, const PartitionOptions& options)
      : options_(options), output_(common), client_(connect(common)), admin_(*client_) {}

  int run() {
    watch_signals();
    if (options_.action == "list") return list();
    const bool whole_topic = options_.action == "elect" && options_.target.find('/') == std::string::npos;
    if (whole_topic) topic_ = options_.target;
    if (!whole_topic && !parse_target()) {
      return output_.usage("'" + options_.target.substr(0, 300) +
                           "' names no partition; write TOPIC/PARTITION, for example orders/0");
    }
    return options_.action == "move-leader" ? move_leader() : elect();
  }

 private:
  bool parse_target() {
    size_t slash = options_.target.find('/');
    if (slash == std::string::npos || slash == 0) return false;
    topic_ = options_.target.substr(0, slash);
    const char* end = options_.target.data() + options_.target.size();
    auto [stop, error] = std::from_chars(options_.target.data() + slash + 1, end, partition_);
    return error == std::errc() && stop == end && partition_ >= 0;
  }

  int list() {
    auto topics = admin_.list_topics("", options_.internal || options_.problem);
    if (!topics.ok()) return output_.fail(topics.error());
    std::vector<std::vector<std::string>> rows;
    for (const TopicInfo& topic : topics.value()) {
      for (const PartitionInfo& partition : topic.partitions) {
        std::string trouble = trouble_of(topic, partition);
        if (options_.problem && trouble.empty()) continue;
        std::string name = topic.name + "/" + std::to_string(partition.partition);
        if (output_.json()) {
          output_.json_line(partition_json(topic, partition));
        } else if (output_.quiet()) {
          output_.line(name);
        } else {
          if (rows.empty()) rows.push_back({"partition", "leader", "epoch", "in sync", "lagging", ""});
          rows.push_back({name, partition.leader >= 0 ? std::to_string(partition.leader) : "none",
                          std::to_string(partition.leader_epoch), ids_text(partition.isr),
                          partition.lagging.empty() ? "-" : ids_text(partition.lagging), trouble});
        }
      }
    }
    output_.table(rows);
    if (rows.empty())
      output_.hint(options_.problem ? "every partition has a leader and all replicas in sync" : "no partitions");
    return kDone;
  }

  int move_leader() {
    auto moved = admin_.move_leader(topic_, partition_, options_.to, options_.dry_run);
    if (!moved.ok()) return fail(moved.error());
    if (output_.json()) {
      JsonObject object;
      object.add("action", "move-leader").add("name", std::string_view(options_.target)).add("changed", moved->changed);
      object.add("leader", moved->leader).add("leader_epoch", moved->leader_epoch);
      output_.json_line(object);
    } else if (!output_.quiet()) {
      const std::string to = node_text(options_.to);
      output_.line(options_.dry_run ? to + " would lead " + options_.target
                   : moved->changed
                       ? to + " leads " + options_.target + " now, epoch " + std::to_string(moved->leader_epoch)
                       : to + " leads " + options_.target + " already");
    }
    return kDone;
  }

  int elect() {
    if (!options_.accept_loss && !options_.dry_run) {
      return output_.usage(
          "electing a replica that is not in sync may drop acknowledged records; see what with "
          "--dry-run, then say --accept-loss");
    }
    auto topic = admin_.describe_topic(topic_);
    if (!topic.ok()) return fail(topic.error());
    std::vector<Foreseen> all;
    for (const PartitionInfo& partition : topic->partitions) {
      if (partition_ < 0 ? partition.leader >= 0 : partition.partition != partition_) continue;
      auto election = admin_.elect_leader_with_loss(topic_, partition.partition, options_.leader, true);
      if (!election.ok()) return fail(election.error());
      all.push_back({&partition, std::move(election.value())});
    }
    if (all.empty() && partition_ >= 0) {
      return fail({"UNKNOWN_PARTITION",
                   "topic " + topic_ + " has " + counted(static_cast<int64_t>(topic->partitions.size()), "partition")});
    }
    if (all.empty()) output_.hint("every partition of " + topic_ + " has a leader");
    if (!options_.dry_run && !all.empty()) {
      std::string plan;
      for (const Foreseen& each : all) plan += (plan.empty() ? "" : "\n") + plan_text(*each.partition, each.election);
      if (auto code = confirm(output_, options_.yes, plan)) return *code;
    }
    for (Foreseen& each : all) {
      if (options_.dry_run) {
        report(*each.partition, each.election);
        continue;
      }
      // Who was foreseen and nobody else: what was said before asking is what happens.
      auto elected = admin_.elect_leader_with_loss(topic_, each.partition->partition, each.election.leader, false);
      if (!elected.ok()) return fail(elected.error());
      report(*each.partition, elected.value());
    }
    return kDone;
  }

  struct Foreseen {
    const PartitionInfo* partition;
    client::Election election;
  };
  std::string name_of(const PartitionInfo& partition) const {
    return topic_ + "/" + std::to_string(partition.partition);
  }

  // What is lost as far as anybody can tell.
  struct Loss {
    std::optional<int64_t> known;  // offsets that another replica has; absent: the leader did not say where it ends
    bool newer = false;            // another replica has records of a newer epoch
    std::vector<int32_t> silent;   // trusted replicas that did not answer
    std::optional<int64_t> leader_end;
  };
  static Loss loss_of(const client::Election& election) {
    Loss loss;
    const client::ReplicaReach* leader = nullptr;
    for (const client::ReplicaReach& reach : election.heard) {
      if (reach.node_id == election.leader) leader = &reach;
    }
    if (leader != nullptr) {
      loss.known = 0;
      loss.leader_end = leader->end_offset;
      for (const client::ReplicaReach& reach : election.heard) {
        loss.known = std::max(*loss.known, reach.end_offset - leader->end_offset);
        loss.newer = loss.newer || reach.last_epoch > leader->last_epoch;
      }
    }
    for (int32_t node : election.trusted) {
      bool heard =
          std::any_of(election.heard.begin(), election.heard.end(), [&](const auto& r) { return r.node_id == node; });
      if (!heard && node != election.leader) loss.silent.push_back(node);
    }
    return loss;
  }

  std::string plan_text(const PartitionInfo& partition, const client::Election& election) const {
    const Loss loss = loss_of(election);
    std::string text = "elect " + node_text(election.leader) + " as leader of " + name_of(partition);
    for (int32_t replica : partition.replicas) text += "\n  " + reach_text(election, replica);
    if (!loss.known) {
      text += "\n  dropped: unknown, " + node_text(election.leader) + " does not say how far its records reach";
    } else if (*loss.known > 0) {
      text += "\n  dropped: at least the " + counted(*loss.known, "offset") + " " + std::to_string(*loss.leader_end) +
              " to " + std::to_string(*loss.leader_end + *loss.known - 1);
    } else if (loss.newer) {
      text += "\n  dropped: records of a newer epoch that another replica has";
    } else if (loss.silent.empty()) {
      text += "\n  dropped: nothing that another replica is known to have";
    }
    if (!loss.silent.empty()) {
      const bool one = loss.silent.size() == 1;
      std::string ids;
      for (int32_t node : loss.silent) ids += (ids.empty() ? "" : ", ") + std::to_string(node);
      text += std::string("\n  ") + (one ? "node " : "nodes ") + ids +
              " may have more acknowledged records, and how many nobody knows; start " + (one ? "it" : "them") +
              " again to lose none";
    }
    return text;
  }
  static std::string reach_text(const client::Election& election, int32_t replica) {
    for (const client::ReplicaReach& reach : election.heard) {
      if (reach.node_id != replica) continue;
      return node_text(replica) + " reaches to offset " + std::to_string(reach.end_offset) +
             (reach.last_epoch >= 0 ? " in epoch " + std::to_string(reach.last_epoch) : "");
    }
    return node_text(replica) + " does not answer";
  }

  void report(const PartitionInfo& partition, const client::Election& election) {
    const Loss loss = loss_of(election);
    if (output_.json()) {
      std::vector<JsonObject> heard;
      for (const client::ReplicaReach& reach : election.heard) {
        JsonObject entry;
        entry.add("node_id", reach.node_id).add("last_epoch", reach.last_epoch).add("end_offset", reach.end_offset);
        heard.push_back(std::move(entry));
      }
      JsonObject object;
      object.add("action", "elect").add("name", std::string_view(name_of(partition))).add("changed", election.changed);
      object.add("leader", election.leader).add("leader_epoch", election.leader_epoch);
      object.add("heard", std::move(heard)).add("silent", loss.silent).add("dropped_at_least", loss.known);
      output_.json_line(object);
    } else if (!election.changed) {
      output_.line("would " + plan_text(partition, election));
    } else if (!output_.quiet()) {
      output_.line(node_text(election.leader) + " leads " + name_of(partition) + " now, epoch " +
                   std::to_string(election.leader_epoch) +
                   (loss.known && *loss.known == 0 && loss.silent.empty() && !loss.newer
                        ? ""
                        : "; records may have been dropped"));
    }
  }

  int fail(const client::Error& error) { return output_.fail(error, 0, topic_); }

  const PartitionOptions& options_;
  Output output_;
  std::unique_ptr<client::Client> client_;
  client::Admin admin_;
  std::string topic_;
  int32_t partition_ = -1;
};

}  // namespace

int partition_command(const CommonOptions& common, const PartitionOptions& options) {
  return PartitionRun(common, options).run();
}

}  // namespace trilog::cli
