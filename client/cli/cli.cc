// All options of all commands: the only file that sees CLI11.
#include "client/cli/cli.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdlib>
#include <iostream>

#include "client/cli/commands.h"
#include "client/cli/completion.h"
#include "storage/base/names.h"
#include "storage/base/units.h"

namespace trilog::cli {
namespace {

constexpr const char* kVersion = "0.1.0";

// Everything the command line can say; one is filled and one action is run.
struct Parsed {
  CommonOptions common;
  std::string timeout;
  ProduceOptions produce;
  ConsumeOptions consume;
  TopicOptions topic;
  GroupOptions group;
  PartitionOptions partition;
  ClusterOptions cluster;
  BenchOptions bench;
  UpOptions up;
  ServeOptions serve;
  DownOptions down;
  NodeOptions node;
  DumpOptions dump;
  RescueOptions rescue;
  std::string shell;
  std::vector<std::string> set;
  std::string retention;
  std::string retention_bytes;
  std::string max_message_bytes;
  std::string min_in_sync;
  std::string durability;
};

// CLI11's own checks speak of floating point, and take what does not fit for the largest number.
CLI::Validator whole(int64_t min, int64_t max = INT64_MAX) {
  auto check = [min, max](const std::string& text) -> std::string {
    int64_t value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    bool whole_number = !text.empty() && error == std::errc() && end == text.data() + text.size();
    if (whole_number && value >= min && value <= max) return "";
    return "'" + text.substr(0, 100) + "' is not a whole number of at least " + std::to_string(min) +
           (max < INT32_MAX ? " and at most " + std::to_string(max) : "");
  };
  return CLI::Validator(check, "NUMBER");
}

CLI::Validator not_empty() {
  return CLI::Validator([](const std::string& text) { return std::string(text.empty() ? "must not be empty" : ""); },
                        "");
}

class CommandLine {
 public:
  explicit CommandLine(const NodeCommands& nodes)
      : nodes_(nodes), app_("Trilog, a log broker in one program.", "trilog") {
    app_.require_subcommand(1);
    app_.set_help_flag("-h,--help", "show this help");
    app_.footer("First steps:\n  trilog up\n  trilog produce orders 'hello' -k 17\n  trilog consume orders");
    add_up();
    add_down();
    add_node();
    add_serve();
    add_produce();
    add_consume();
    add_topic();
    add_group();
    add_partition();
    add_cluster();
    add_bench();
    add_dump();
    add_rescue();
    add_completion();
    add_version();
  }

  int run(int argc, char** argv) {
    try {
      app_.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
      return help();
    } catch (const CLI::CallForAllHelp&) {
      return help();
    } catch (const CLI::ParseError& error) {
      return refuse(error, argc, argv);
    }
    Output output(parsed_.common);
    if (std::optional<int> bad = complete(output)) return *bad;
    return action_();
  }

  // For completion: names of commands, and of the options of one.
  const CLI::App& app() const { return app_; }

 private:
  CLI::App* command(CLI::App& parent, const std::string& name, const std::string& about, const std::string& example) {
    CLI::App* sub = parent.add_subcommand(name, about);
    sub->set_help_flag("-h,--help", "show this help");
    sub->footer("Example:\n  " + example);
    sub->add_flag("--json", parsed_.common.json, "one JSON object a line");
    sub->add_flag("-q,--quiet", parsed_.common.quiet, "lists print names only, changing commands nothing");
    return sub;
  }
  // A command that talks to a broker.
  CLI::App* client_command(CLI::App& parent, const std::string& name, const std::string& about,
                           const std::string& example) {
    CLI::App* sub = command(parent, name, about, example);
    sub->add_option("--server", parsed_.common.server,
                    "HOST:PORT[,…] or unix:PATH (environment TRILOG_SERVER, default localhost:9092)");
    sub->add_option("--timeout", parsed_.timeout, "how long to wait for an answer, for example 5s");
    return sub;
  }
  void on(CLI::App* sub, std::function<int()> action) {
    // A command with commands of its own is also called behind them.
    sub->callback([this, sub, action = std::move(action)] {
      if (sub->get_subcommands().empty()) action_ = action;
    });
  }
  static void add_confirmation(CLI::App* sub, bool& yes, bool& dry_run) {
    sub->add_flag("-y,--yes", yes, "do it without asking");
    sub->add_flag("--dry-run", dry_run, "only say what would happen");
  }

  void add_up() {
    CLI::App* sub = command(app_, "up", "Start a broker here, for development.", "trilog up --topic orders:3");
    sub->add_option("--nodes", parsed_.up.nodes, "how many nodes: 1, 3 or 5 (1; fixed when the folder is made)")
        ->check(whole(1, INT32_MAX));
    sub->add_option("--data", parsed_.up.data, "data folder")->capture_default_str();
    sub->add_option("--port", parsed_.up.port, "port, or any for a free one (9092)");
    sub->add_option("--listen", parsed_.up.listen, "address to listen on instead of localhost")
        ->allow_extra_args(false)
        ->take_all();
    sub->add_option("--topic", parsed_.up.topics, "NAME[:PARTITIONS] to create; may be repeated")
        ->allow_extra_args(false)
        ->take_all();
    sub->add_option("--set", parsed_.up.set, "NAME=VALUE of a node setting; may be repeated")
        ->allow_extra_args(false)
        ->take_all();
    sub->add_flag("--strict", parsed_.up.strict, "produce never creates a topic");
    sub->add_flag("--detach", parsed_.up.detach, "return when ready; trilog down ends it");
    sub->add_flag("--insecure", parsed_.up.insecure, "allow a --listen that others can reach");
    on(sub, [this] { return nodes_.up(with_common(parsed_.up)); });
  }
  void add_down() {
    CLI::App* sub = command(app_, "down", "End what up --detach began.", "trilog down --data ./trilog-data");
    sub->add_option("--data", parsed_.down.data, "data folder")->capture_default_str();
    sub->add_flag("--wipe", parsed_.down.wipe, "remove the data folder afterwards");
    sub->add_option("--timeout", parsed_.timeout, "how long to wait for the end, for example 30s");
    add_confirmation(sub, parsed_.down.yes, parsed_.down.dry_run);
    on(sub, [this] {
      if (parsed_.common.timeout_given) parsed_.down.timeout_ms = parsed_.common.timeout_ms;
      return nodes_.down(with_common(parsed_.down));
    });
  }
  void add_node() {
    CLI::App* node = command(app_, "node", "The nodes of a cluster that trilog up started.", "trilog node kill 2");
    node->require_subcommand(1);
    using Action = NodeOptions::Action;
    auto add = [this, node](const std::string& name, Action action, const std::string& about) {
      CLI::App* sub = command(*node, name, about, "trilog node " + name + (action == Action::kList ? "" : " 2"));
      if (action != Action::kList) sub->add_option("node", parsed_.node.node, "number of the node")->required();
      sub->add_option("--data", parsed_.node.data, "data folder")->capture_default_str();
      if (action != Action::kList) sub->add_option("--timeout", parsed_.timeout, "how long to wait, for example 30s");
      on(sub, [this, action] {
        parsed_.node.action = action;
        if (parsed_.common.timeout_given) parsed_.node.timeout_ms = parsed_.common.timeout_ms;
        return nodes_.node(with_common(parsed_.node));
      });
    };
    add("list", Action::kList, "All nodes and whether they run.");
    add("kill", Action::kKill, "End a node at once, as kill -9 does.");
    add("stop", Action::kStop, "End a node cleanly.");
    add("start", Action::kStart, "Start a node that is down.");
    add("pause", Action::kPause, "Stop a node's process where it is (SIGSTOP).");
    add("resume", Action::kResume, "Let a paused node go on.");
  }
  void add_serve() {
    CLI::App* sub = command(app_, "serve", "Run one node from a configuration file.",
                            "trilog serve --config /etc/trilog.toml --check");
    sub->add_option("--config", parsed_.serve.config, "TOML file");
    sub->add_option("--set", parsed_.serve.set, "NAME=VALUE, before environment and file; may be repeated")
        ->allow_extra_args(false)
        ->take_all();
    sub->add_flag("--check", parsed_.serve.check, "only check the configuration");
    on(sub, [this] { return nodes_.serve(with_common(parsed_.serve)); });
  }
  void add_dump() {
    CLI::App* sub =
        command(app_, "dump", "Show a log, an index, a checkpoint or metadata.", "trilog dump trilog-data/node-1");
    sub->add_option("path", parsed_.dump.path, "file or folder")->required();
    sub->add_flag("--records", parsed_.dump.records, "every record, not only batches");
    on(sub, [this] { return nodes_.dump(with_common(parsed_.dump)); });
  }
  void add_rescue() {
    CLI::App* sub = command(app_, "rescue", "Rebuild the list of topics when the metadata of all nodes is lost.",
                            "trilog rescue --data trilog-data --dry-run");
    sub->add_option("--data", parsed_.rescue.data, "data folders of the stopped nodes, the one to begin with first")
        ->required();
    add_confirmation(sub, parsed_.rescue.yes, parsed_.rescue.dry_run);
    on(sub, [this] { return nodes_.rescue(with_common(parsed_.rescue)); });
  }

  void add_produce() {
    ProduceOptions& o = parsed_.produce;
    CLI::App* sub = client_command(app_, "produce", "Write records: VALUE, a file, or standard input.",
                                   "trilog produce invoices --file invoices.csv --format csv --key-field CustomerID");
    sub->add_option("topic", o.topic, "topic")->required();
    sub->add_option("value", o.value, "the record's value");
    sub->add_option("-k,--key", o.key, "key; decides the partition");
    sub->add_option("-H,--header", o.headers, "NAME=VALUE; may be repeated")->allow_extra_args(false)->take_all();
    sub->add_option("-p,--partition", o.partition, "partition, instead of by key")->check(whole(0, INT32_MAX));
    sub->add_flag("--null", o.null_value, "write a tombstone (needs a key)");
    sub->add_option("--file", o.file, "input file; - is standard input");
    sub->add_option("--format", o.format, "lines, json, csv or record (what consume --json prints)")
        ->check(CLI::IsMember({"lines", "json", "csv", "record"}))
        ->capture_default_str();
    sub->add_option("--key-field", o.key_field, "field (json) or column (csv) to use as the key");
    sub->add_option("--key-separator", o.key_separator, "splits a key off each line");
    sub->add_option("--acks", o.acks, "all, leader or none")
        ->check(CLI::IsMember({"all", "leader", "none"}))
        ->capture_default_str();
    sub->add_option("--on-error", o.on_error, "stop or skip")
        ->check(CLI::IsMember({"stop", "skip"}))
        ->capture_default_str();
    sub->add_option("--rejects", o.rejects, "file for refused input (with --on-error skip)");
    sub->add_option("--skip", o.skip, "leave out the first N input records")->check(whole(0));
    on(sub, [this] { return produce_command(parsed_.common, parsed_.produce); });
  }
  void add_consume() {
    ConsumeOptions& o = parsed_.consume;
    CLI::App* sub = client_command(app_, "consume", "Read records; with a group, go on where it stopped.",
                                   "trilog consume orders --group billing -f");
    sub->add_option("topic", o.topic, "topic")->required();
    sub->add_option("-g,--group", o.group, "consumer group; commits after records were written out")
        ->check(not_empty());
    sub->add_option("--from", o.from, "start, end, OFFSET, -2h or a time");
    sub->add_option("--until", o.until, "end, OFFSET or a time");
    sub->add_option("--last", o.last, "the newest N records")->check(whole(1));
    sub->add_option("-p,--partition", o.partitions, "for example 0,2-4")->check(not_empty());
    sub->add_option("-n,--count", o.count, "end after so many records")->check(whole(1));
    sub->add_flag("-f,--follow", o.follow, "keep waiting for new records");
    sub->add_option("-o,--output", o.output, "value, pretty, json or a format: '%t %p %o %T %k %v %h\\n'");
    sub->add_flag("--no-commit", o.no_commit, "read like the group, but commit nothing");
    sub->add_option("--binary", o.binary, "auto or base64")
        ->check(CLI::IsMember({"auto", "base64"}))
        ->capture_default_str();
    on(sub, [this] { return consume_command(parsed_.common, parsed_.consume); });
  }

  void add_topic_settings(CLI::App* sub) {
    sub->add_option("--partitions", parsed_.topic.partitions, "number of partitions (can grow)")
        ->check(whole(1, INT32_MAX));
    sub->add_option("--retention", parsed_.retention, "for example 7d; forever keeps all");
    sub->add_option("--retention-bytes", parsed_.retention_bytes, "for example 10GiB, per partition");
    sub->add_option("--max-message-bytes", parsed_.max_message_bytes, "for example 1MiB");
    sub->add_option("--min-in-sync", parsed_.min_in_sync, "replicas that must be in sync")->check(whole(1, INT32_MAX));
    sub->add_option("--set", parsed_.set, "NAME=VALUE of any setting; may be repeated")
        ->allow_extra_args(false)
        ->take_all();
    sub->add_flag("--dry-run", parsed_.topic.dry_run, "only say what would happen");
  }
  void add_topic() {
    TopicOptions& o = parsed_.topic;
    CLI::App* topic = app_.add_subcommand("topic", "List, create, show, alter, delete and trim topics.");
    topic->require_subcommand(1);
    topic->footer("Example:\n  trilog topic create orders --partitions 6 --retention 7d");
    auto action = [&](const std::string& name, const std::string& about, const std::string& example) {
      CLI::App* sub = client_command(*topic, name, about, example);
      if (name != "list") sub->add_option("name", o.name, "topic")->required();
      on(sub, [this, name] {
        parsed_.topic.action = name;
        return topic_command(parsed_.common, parsed_.topic);
      });
      return sub;
    };
    CLI::App* list = action("list", "All topics.", "trilog topic list");
    list->add_option("--prefix", o.prefix, "only names that begin so");
    list->add_flag("--internal", o.internal, "also the broker's own");
    CLI::App* create = action("create", "Make a topic.", "trilog topic create orders --partitions 6 --retention 7d");
    add_topic_settings(create);
    create->add_option("--replicas", o.replicas, "copies (fixed for now)")->check(whole(1, INT32_MAX));
    create->add_option("--durability", parsed_.durability, "synced or replicated (fixed)");
    create->add_flag("--if-not-exists", o.if_not_exists, "success if it is there");
    action("show", "Partitions, offsets and settings of a topic.", "trilog topic show orders");
    CLI::App* alter =
        action("alter", "Change settings, or add partitions.", "trilog topic alter orders --retention 30d");
    add_topic_settings(alter);
    alter->add_option("--unset", o.unset, "NAME back to its default; may be repeated")
        ->allow_extra_args(false)
        ->take_all();
    alter->add_flag("-y,--yes", o.yes, "do it without asking");
    CLI::App* remove = action("delete", "Delete a topic and its records.", "trilog topic delete orders --yes");
    remove->add_flag("--if-exists", o.if_exists, "success if it is not there");
    add_confirmation(remove, o.yes, o.dry_run);
    CLI::App* trim = action("trim", "Remove the oldest records.", "trilog topic trim orders --before -30d --yes");
    trim->add_option("--before", o.before, "OFFSET, end, -2h or a time")->required();
    trim->add_option("-p,--partition", o.partition, "only this partition")->check(whole(0, INT32_MAX));
    add_confirmation(trim, o.yes, o.dry_run);
  }

  void add_group() {
    GroupOptions& o = parsed_.group;
    CLI::App* group = app_.add_subcommand("group", "List, show, move and delete consumer groups.");
    group->require_subcommand(1);
    group->footer("Example:\n  trilog group show billing");
    auto action = [&](const std::string& name, const std::string& about, const std::string& example) {
      CLI::App* sub = client_command(*group, name, about, example);
      if (name != "list") sub->add_option("name", o.name, "group")->required();
      on(sub, [this, name] {
        parsed_.group.action = name;
        return group_command(parsed_.common, parsed_.group);
      });
      return sub;
    };
    action("list", "All groups.", "trilog group list")->add_option("--prefix", o.prefix, "only names that begin so");
    action("show", "Committed offsets and lag.", "trilog group show billing");
    add_confirmation(action("delete", "Forget a group's offsets.", "trilog group delete billing --yes"), o.yes,
                     o.dry_run);
    CLI::App* seek =
        action("seek", "Move a group's offsets.", "trilog group seek billing --topic orders --to -2h --dry-run");
    seek->add_option("--topic", o.topic, "topic")->required();
    seek->add_option("-p,--partition", o.partition, "only this partition")->check(whole(0, INT32_MAX));
    seek->add_option("--to", o.to, "start, end, OFFSET, +1, -10, -2h or a time")->required();
    add_confirmation(seek, o.yes, o.dry_run);
  }
  void add_partition() {
    PartitionOptions& o = parsed_.partition;
    CLI::App* partition = app_.add_subcommand("partition", "List partitions, and say who leads them.");
    partition->require_subcommand(1);
    partition->footer("Example:\n  trilog partition list --problem");
    auto action = [&](const std::string& name, const std::string& about, const std::string& example) {
      CLI::App* sub = client_command(*partition, name, about, example);
      if (name != "list") sub->add_option("partition", o.target, "TOPIC/PARTITION")->required();
      on(sub, [this, name] {
        parsed_.partition.action = name;
        return partition_command(parsed_.common, parsed_.partition);
      });
      return sub;
    };
    CLI::App* list = action("list", "Leader, epoch and replicas in sync.", "trilog partition list --problem");
    list->add_flag("--problem", o.problem, "only those without a leader, or with replicas that are not in sync");
    list->add_flag("--internal", o.internal, "also of the broker's own topics");
    CLI::App* move = action("move-leader", "Let another replica that is in sync lead.",
                            "trilog partition move-leader orders/0 --to 2");
    move->add_option("--to", o.to, "number of the node")->required()->check(whole(0, INT32_MAX));
    move->add_flag("--dry-run", o.dry_run, "only say what would happen");
    CLI::App* elect =
        action("elect", "Give what lost its leader another one (of a topic, all that did), and up what that one lacks.",
               "trilog partition elect orders/0 --accept-loss --dry-run");
    elect->add_flag("--accept-loss", o.accept_loss, "acknowledged records may be dropped");
    elect->add_option("--leader", o.leader, "node to lead (the one that reaches furthest)")->check(whole(0, INT32_MAX));
    add_confirmation(elect, o.yes, o.dry_run);
  }
  void add_cluster() {
    CLI::App* cluster =
        client_command(app_, "cluster", "Nodes, controller, and what is wrong.", "trilog cluster check --wait 60s");
    cluster->require_subcommand(0, 1);
    on(cluster, [this] { return cluster_command(parsed_.common, parsed_.cluster); });
    CLI::App* show = client_command(*cluster, "show", "The same.", "trilog cluster show");
    on(show, [this] { return cluster_command(parsed_.common, parsed_.cluster); });
    CLI::App* check = client_command(*cluster, "check", "Exit 0 when all nodes are up and all replicas in sync.",
                                     "trilog cluster check --wait 60s");
    check->add_option("--wait", parsed_.cluster.wait, "wait so long for it");
    on(check, [this] {
      parsed_.cluster.action = "check";
      return cluster_command(parsed_.common, parsed_.cluster);
    });
    CLI::App* drain =
        client_command(*cluster, "drain", "Let other nodes lead what a node leads.", "trilog cluster drain 2");
    drain->add_option("node", parsed_.cluster.node, "number of the node")->required()->check(whole(0, INT32_MAX));
    drain->add_flag("--dry-run", parsed_.cluster.dry_run, "only say what would happen");
    on(drain, [this] {
      parsed_.cluster.action = "drain";
      return cluster_command(parsed_.common, parsed_.cluster);
    });
    CLI::App* replace =
        client_command(*cluster, "replace", "Let the new folder of a node take the place of its lost one.",
                       "trilog cluster replace 2");
    replace->add_option("node", parsed_.cluster.node, "number of the node")->required()->check(whole(0, INT32_MAX));
    add_change(replace, "replace");
    CLI::App* recover =
        client_command(*cluster, "recover-quorum", "Go on with the node that is asked, the others being lost for good.",
                       "trilog cluster recover-quorum --server localhost:9092 --dry-run");
    add_change(recover, "recover-quorum");
  }
  void add_change(CLI::App* command, const char* action) {
    command->add_flag("--yes", parsed_.cluster.yes, "without asking");
    command->add_flag("--dry-run", parsed_.cluster.dry_run, "only say what would happen");
    on(command, [this, action] {
      parsed_.cluster.action = action;
      return cluster_command(parsed_.common, parsed_.cluster);
    });
  }
  void add_bench() {
    BenchOptions& o = parsed_.bench;
    CLI::App* bench = app_.add_subcommand("bench", "Measure a running broker; every figure with its durability.");
    bench->require_subcommand(1);
    bench->footer("Example:\n  trilog bench produce --records 1000000 --durability synced");
    for (const char* name : {"produce", "consume", "latency"}) {
      CLI::App* sub =
          client_command(*bench, name, std::string("Measure ") + name + ".", std::string("trilog bench ") + name);
      sub->add_option("--topic", o.topic, "topic, made if it is missing")->capture_default_str();
      sub->add_option("--records", o.records, "how many")->check(whole(1))->capture_default_str();
      sub->add_option("--record-bytes", o.record_bytes, "size of a value")->capture_default_str();
      sub->add_option("--batch-bytes", o.batch_bytes, "size of a batch")->capture_default_str();
      sub->add_option("--partitions", o.partitions, "of a new topic")
          ->check(whole(1, INT32_MAX))
          ->capture_default_str();
      sub->add_option("--durability", o.durability, "of a new topic")
          ->check(CLI::IsMember({"synced", "replicated"}))
          ->capture_default_str();
      sub->add_option("--acks", o.acks, "all, leader or none")
          ->check(CLI::IsMember({"all", "leader", "none"}))
          ->capture_default_str();
      sub->add_option("--producers", o.producers, "at once")->check(whole(1, 1'000))->capture_default_str();
      sub->add_option("--rate", o.rate, "records per second (latency)")->check(whole(1))->capture_default_str();
      sub->add_option("--duration", o.duration, "how long (latency)")->capture_default_str();
      on(sub, [this, name] {
        parsed_.bench.action = name;
        return bench_command(parsed_.common, parsed_.bench);
      });
    }
  }
  void add_completion() {
    CLI::App* sub =
        command(app_, "completion", "Print the completion script of a shell.", "source <(trilog completion bash)");
    sub->add_option("shell", parsed_.shell, "bash, zsh or fish")
        ->required()
        ->check(CLI::IsMember({"bash", "zsh", "fish"}));
    on(sub, [this] {
      std::vector<CompletionEntry> entries;
      collect("", app_, entries);
      std::cout << completion_script(parsed_.shell, entries) << std::flush;
      return static_cast<int>(kDone);
    });
  }
  void add_version() {
    CLI::App* sub = command(app_, "version", "Print the version.", "trilog version");
    on(sub, [this] {
      Output output(parsed_.common);
      JsonObject object;
      object.add("version", kVersion);
      output.line(parsed_.common.json ? object.text() : std::string("trilog ") + kVersion);
      return static_cast<int>(kDone);
    });
  }

  // Every command with its options, for completion.
  static void collect(const std::string& path, const CLI::App& app, std::vector<CompletionEntry>& entries) {
    CompletionEntry entry{path, {}, {}};
    for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
      entry.commands.push_back({sub->get_name(), sub->get_description()});
    }
    for (const CLI::Option* option : app.get_options()) {
      for (const std::string& name : option->get_lnames())
        entry.options.push_back({"--" + name, option->get_description()});
    }
    entries.push_back(std::move(entry));
    for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
      collect(path.empty() ? sub->get_name() : path + " " + sub->get_name(), *sub, entries);
    }
  }

  template <typename Options>
  Options& with_common(Options& options) {
    options.json = parsed_.common.json;
    options.quiet = parsed_.common.quiet;
    return options;
  }

  // What CLI11 cannot check: values with a unit, the environment, settings with a flag of their own.
  std::optional<int> complete(Output& output) {
    CommonOptions& common = parsed_.common;
    common.server_source = "--server";
    const char* environment = std::getenv("TRILOG_SERVER");
    if (common.server.empty() && environment != nullptr && *environment != '\0') {
      common.server = environment;
      common.server_source = "TRILOG_SERVER";
    }
    if (common.server.empty()) {
      common.server = "localhost:9092";
      common.server_source = "default";
    }
    bool asks_a_server = deepest()->get_option_no_throw("--server") != nullptr;
    if (Status status = check_servers(common.server); asks_a_server && !status.ok())
      return output.usage(common.server_source + ": " + std::string(status.message()));
    if (!parsed_.timeout.empty()) {
      Result<int64_t> timeout = parse_duration_ms(parsed_.timeout);
      if (!timeout.ok()) return output.usage("--timeout: " + std::string(timeout.status().message()));
      if (*timeout < 1) return output.usage("--timeout must be at least 1ms");
      common.timeout_ms = *timeout;
      common.timeout_given = true;
    }
    for (const std::string& each : parsed_.set) {
      Result<std::pair<std::string, std::string>> assignment = parse_assignment(each, "--set");
      if (!assignment.ok()) return output.usage(assignment.status().message());
      parsed_.topic.set[assignment->first] = assignment->second;
    }
    return complete_topic(output);
  }

  std::optional<int> complete_topic(Output& output) {
    std::map<std::string, std::string>& set = parsed_.topic.set;
    if (!parsed_.retention.empty()) {
      bool forever = parsed_.retention == "forever" || parsed_.retention == "-1";
      Result<int64_t> ms = forever ? Result<int64_t>(-1) : parse_duration_ms(parsed_.retention);
      if (!ms.ok()) return output.usage("--retention: " + std::string(ms.status().message()));
      set["retention.ms"] = std::to_string(*ms);
    }
    for (const auto& [text, name, flag] :
         {std::tuple(&parsed_.retention_bytes, "retention.bytes", "--retention-bytes"),
          std::tuple(&parsed_.max_message_bytes, "max.message.bytes", "--max-message-bytes")}) {
      if (text->empty()) continue;
      Result<uint64_t> bytes = parse_size(*text);
      if (!bytes.ok()) return output.usage(std::string(flag) + ": " + std::string(bytes.status().message()));
      set[name] = std::to_string(*bytes);
    }
    if (!parsed_.min_in_sync.empty()) set["min.insync.replicas"] = parsed_.min_in_sync;
    if (!parsed_.durability.empty()) set["durability"] = parsed_.durability;
    return std::nullopt;
  }

  const CLI::App* deepest() const {
    const CLI::App* app = &app_;
    while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
    return app;
  }
  int help() {
    const CLI::App* app = deepest();
    std::string path;
    for (const CLI::App* up = app->get_parent(); up != nullptr; up = up->get_parent())
      path = up->get_name() + (path.empty() ? "" : " " + path);
    std::cout << app->help(path, CLI::AppFormatMode::Normal) << std::flush;
    return kDone;
  }

  // The nearest known name for whatever was not understood.
  int refuse(const CLI::ParseError& error, int argc, char** argv) {
    for (int i = 1; i < argc; ++i) parsed_.common.json = parsed_.common.json || std::string_view(argv[i]) == "--json";
    Output output(parsed_.common);
    const CLI::App* app = deepest();
    std::vector<std::string> known;
    for (const CLI::App* sub : app->get_subcommands([](const CLI::App*) { return true; }))
      known.push_back(sub->get_name());
    for (const CLI::Option* option : app->get_options()) {
      for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
    }
    std::string path = app->get_name();
    for (const CLI::App* up = app->get_parent(); up != nullptr; up = up->get_parent())
      path = up->get_name() + " " + path;
    std::string hint = "see " + path + " --help";
    // CLI11 says "required" when a command is misspelt, so the first word that is no known one is looked for here.
    for (const std::string& word : app->remaining(true)) {
      std::optional<std::string> near = most_similar_name(word.substr(0, word.find('=')), known);
      std::string kind = word.starts_with("-") ? "option " : "command or value ";
      return output.usage("unknown " + kind + word + (near ? "; did you mean " + *near + "?" : "") + "\n  " + hint);
    }
    if (app->get_subcommands([](const CLI::App*) { return true; }).size() > 0) {
      std::string all;
      for (const std::string& name : known) all += name.starts_with("-") ? "" : " " + name;
      return output.usage("a command is missing; there are:" + all + "\n  " + hint);
    }
    return output.usage(std::string(error.what()) + "\n  " + hint);
  }

  const NodeCommands& nodes_;
  CLI::App app_;
  Parsed parsed_;
  std::function<int()> action_;
};

}  // namespace

int run_cli(int argc, char** argv, const NodeCommands& node_commands) {
  return CommandLine(node_commands).run(argc, argv);
}

}  // namespace trilog::cli
