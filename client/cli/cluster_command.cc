// trilog cluster: what the brokers say about themselves, and what is done to whole nodes.
#include <algorithm>
#include <chrono>
#include <thread>

#include "client/cli/commands.h"
#include "storage/base/units.h"

namespace trilog::cli {
namespace {

JsonObject cluster_json(const client::ClusterInfo& cluster) {
  std::vector<JsonObject> nodes;
  for (const client::NodeInfo& node : cluster.nodes) {
    JsonObject entry;
    entry.add("node_id", node.node_id)
        .add("address", std::string_view(node.address))
        .add("state", std::string_view(node.state));
    entry.add_null("pid");
    nodes.push_back(std::move(entry));
  }
  JsonObject object;
  object.add("cluster_id", std::string_view(cluster.cluster_id));
  object.add("controller", cluster.controller >= 0 ? std::optional(cluster.controller) : std::nullopt);
  object.add("version", std::string_view(cluster.version))
      .add("nodes", std::move(nodes))
      .add("problems", cluster.problems);
  return object;
}

class ClusterRun {
 public:
  ClusterRun(const CommonOptions& common, const ClusterOptions& options)
      : common_(common), options_(options), output_(common), client_(connect(common)), admin_(*client_) {}

  int run() {
    watch_signals();
    if (options_.action == "drain") return drain();
    if (options_.action == "replace") return replace();
    if (options_.action == "recover-quorum") return recover_quorum();
    return options_.action == "check" ? check() : show();
  }

 private:
  int show() {
    auto cluster = admin_.describe_cluster();
    if (!cluster.ok()) return output_.fail(cluster.error());
    print(cluster.value(), cluster_json(cluster.value()));
    return kDone;
  }

  void print(const client::ClusterInfo& cluster, const JsonObject& json) {
    if (output_.json()) {
      output_.json_line(json);
      return;
    }
    if (output_.quiet()) return;
    output_.line("cluster " + cluster.cluster_id + " · version " + cluster.version + " · asked " + common_.server +
                 " (" + common_.server_source + ")");
    std::vector<std::vector<std::string>> rows;
    for (const client::NodeInfo& node : cluster.nodes) {
      rows.push_back({"  node " + std::to_string(node.node_id), node.address.empty() ? "-" : node.address, node.state,
                      node.node_id == cluster.controller ? "controller" : ""});
    }
    output_.table(rows);
    for (const std::string& problem : cluster.problems) output_.line("  note           " + problem);
  }

  struct Health {
    client::ClusterInfo cluster;
    bool healthy = false;
  };

  // Every node is up, one of them is the controller, every partition has a leader and all its replicas in sync. A
  // single copy is worth a word but keeps nobody from working.
  client::Outcome<Health> look() {
    auto cluster = admin_.describe_cluster();
    if (!cluster.ok()) return cluster.error();
    Health health{std::move(cluster.value())};
    health.healthy = health.cluster.controller >= 0 && !health.cluster.nodes.empty() &&
                     std::all_of(health.cluster.nodes.begin(), health.cluster.nodes.end(),
                                 [](const auto& n) { return n.state == "up"; });
    if (!health.healthy) return health;
    auto topics = admin_.list_topics("", true);
    if (!topics.ok()) return topics.error();
    for (const client::TopicInfo& topic : topics.value()) {
      for (const client::PartitionInfo& partition : topic.partitions) {
        if (partition.leader < 0 || !partition.lagging.empty()) health.healthy = false;
      }
    }
    return health;
  }

  int check() {
    int64_t wait_ms = 0;
    if (options_.wait) {
      Result<int64_t> parsed = parse_duration_ms(*options_.wait);
      if (!parsed.ok()) return output_.usage("--wait: " + std::string(parsed.status().message()));
      wait_ms = *parsed;
    }
    auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(wait_ms);
    client::Outcome<Health> health = look();
    while ((!health.ok() || !health->healthy) && pending_signal() == 0 && std::chrono::steady_clock::now() < give_up) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      health = look();
    }
    if (!health.ok()) return output_.fail(health.error());
    if (health->cluster.controller < 0) health->cluster.problems.push_back("no node leads the cluster's metadata");
    JsonObject json = cluster_json(health->cluster);
    json.add("healthy", health->healthy);
    print(health->cluster, json);
    if (health->healthy) return kDone;
    output_.hint("not healthy; details: trilog partition list --problem");
    return kNotNow;
  }

  // The exit code if there is no such node.
  std::optional<int> check_node(const std::string& node) {
    auto cluster = admin_.describe_cluster();
    if (!cluster.ok()) return output_.fail(cluster.error());
    bool known = std::any_of(cluster->nodes.begin(), cluster->nodes.end(),
                             [&](const auto& each) { return each.node_id == options_.node; });
    if (known) return std::nullopt;
    return output_.fail({"UNKNOWN_NODE", "no " + node + " in cluster " + cluster->cluster_id});
  }

  int replace() {
    const std::string node = "node " + std::to_string(options_.node);
    if (auto code = check_node(node)) return *code;
    auto foreseen = admin_.replace_voter(options_.node, true);
    if (!foreseen.ok()) return output_.fail(foreseen.error());
    const std::string plan = "the folder that " + node +
                             " has now takes the place of its earlier one among the voters; the earlier one never "
                             "counts again";
    bool changed = false;
    if (options_.dry_run) {
      output_.hint(plan);
    } else {
      if (auto code = confirm(output_, options_.yes, plan)) return *code;
      auto replaced = admin_.replace_voter(options_.node, false);
      if (!replaced.ok()) return output_.fail(replaced.error());
      changed = replaced.value();
    }
    if (output_.json()) {
      JsonObject object;
      object.add("action", "replace").add("name", std::string_view(std::to_string(options_.node)));
      object.add("changed", changed);
      output_.json_line(object);
    } else if (!output_.quiet()) {
      output_.line(node + (changed ? " is a voter again" : " would be a voter again"));
    }
    return kDone;
  }

  int recover_quorum() {
    auto foreseen = admin_.recover_quorum(true);
    if (!foreseen.ok()) return output_.fail(foreseen.error());
    client::QuorumRecovery recovery = std::move(foreseen.value());
    const std::string plan = recovery_plan(recovery);
    if (options_.dry_run) {
      output_.hint(plan);
    } else {
      if (auto code = confirm(output_, options_.yes, plan)) return *code;
      if (options_.yes) output_.hint(plan);
      auto recovered = admin_.recover_quorum(false);
      if (!recovered.ok()) return output_.fail(recovered.error());
      recovery = std::move(recovered.value());
    }
    if (output_.json()) {
      JsonObject object;
      object.add("action", "recover-quorum").add("name", std::string_view(std::to_string(recovery.survivor)));
      object.add("changed", recovery.changed).add("lost", recovery.lost);
      object.add("led", recovery.led).add("given_up", recovery.given_up).add("elsewhere", recovery.elsewhere);
      output_.json_line(object);
    } else if (!output_.quiet()) {
      std::string text = "node " + std::to_string(recovery.survivor) +
                         (recovery.changed ? " is the only voter now" : " would be the only voter");
      if (recovery.given_up > 0) {
        text += "; " + counted(recovery.given_up, "partition") +
                " without a leader\n  next           trilog partition list "
                "--problem, then trilog partition elect T/P --accept-loss";
      }
      output_.line(text);
    }
    return kDone;
  }

  static std::string recovery_plan(const client::QuorumRecovery& recovery) {
    std::string lost;
    for (int32_t node : recovery.lost) lost += (lost.empty() ? "" : ", ") + std::to_string(node);
    const std::string survivor = "node " + std::to_string(recovery.survivor);
    std::string text = survivor + " goes on as the only voter; nodes " + lost + " are given up";
    text +=
        "\n  risk: what they decided without " + survivor + " is lost for good: topics, settings, acknowledged records";
    text += "\n  risk: until they have heard of it they may go on as a cluster of their own; end them first";
    text += "\n  " + counted(recovery.led, "partition") + " led by " + survivor + ", which alone was in sync";
    text += "\n  " + counted(recovery.given_up, "partition") +
            " without a leader: it may lack acknowledged records (then: trilog partition elect T/P --accept-loss)";
    if (recovery.elsewhere > 0)
      text += "\n  " + counted(recovery.elsewhere, "partition") + " without a copy on " + survivor;
    return text;
  }

  int drain() {
    const std::string node = "node " + std::to_string(options_.node);
    if (auto code = check_node(node)) return *code;
    auto drained = admin_.drain_node(options_.node, options_.dry_run);
    if (!drained.ok()) return output_.fail(drained.error());
    if (output_.json()) {
      JsonObject object;
      object.add("action", "drain").add("name", std::string_view(std::to_string(options_.node)));
      object.add("changed", drained->changed).add("moved", drained->moved).add("left", drained->left);
      output_.json_line(object);
    } else if (!output_.quiet()) {
      std::string text = drained->moved == 0 && drained->left == 0
                             ? node + " leads nothing"
                             : std::string(options_.dry_run ? "would move " : "moved ") +
                                   counted(drained->moved, "partition") + " from " + node + " to other leaders";
      if (drained->left > 0)
        text += "; " + counted(drained->left, "partition") + " stayed: no other replica is in sync";
      output_.line(text);
    }
    return drained->left > 0 ? kPartly : kDone;
  }

  const CommonOptions& common_;
  const ClusterOptions& options_;
  Output output_;
  std::unique_ptr<client::Client> client_;
  client::Admin admin_;
};

}  // namespace

int cluster_command(const CommonOptions& common, const ClusterOptions& options) {
  return ClusterRun(common, options).run();
}

}  // namespace trilog::cli
