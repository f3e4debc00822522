#include <algorithm>

#include "client/cli/commands.h"
#include "storage/base/units.h"

namespace trilog::cli {
namespace {

using client::Error;
using client::PartitionInfo;
using client::TopicInfo;

JsonObject configs_json(const TopicInfo& topic) {
  JsonObject configs;
  for (const auto& [name, config] : topic.configs) {
    JsonObject entry;
    entry.add("value", std::string_view(config.value)).add("source", std::string_view(config.source));
    configs.add(name, std::move(entry));
  }
  return configs;
}

JsonObject topic_json(const TopicInfo& topic, bool with_ends) {
  std::vector<JsonObject> partitions;
  for (const PartitionInfo& partition : topic.partitions) {
    JsonObject entry;
    entry.add("partition", partition.partition);
    entry.add("leader", partition.leader >= 0 ? std::optional(partition.leader) : std::nullopt);
    entry.add("leader_epoch", partition.leader_epoch);
    entry.add("replicas", partition.replicas).add("isr", partition.isr);
    if (with_ends) {
      bool known = !partition.error;
      entry.add("start_offset", known ? std::optional(partition.start_offset) : std::nullopt);
      entry.add("end_offset", known ? std::optional(partition.end_offset) : std::nullopt);
      entry.add("size_bytes", known ? std::optional(partition.size_bytes) : std::nullopt);
    }
    entry.add("lagging", partition.lagging);
    partitions.push_back(std::move(entry));
  }
  JsonObject object;
  object.add("name", std::string_view(topic.name)).add("topic_id", std::string_view(topic.topic_id));
  object.add("durability", std::string_view(topic.durability)).add("partitions", std::move(partitions));
  object.add("unsafe", topic.unsafe).add("configs", configs_json(topic));
  return object;
}

std::string retention_text(const TopicInfo& topic) {
  auto it = topic.configs.find("retention.ms");
  if (it == topic.configs.end()) return "";
  int64_t ms = std::strtoll(it->second.value.c_str(), nullptr, 10);
  return ms < 0 ? "kept for ever" : "kept " + format_duration_ms(ms);
}

std::string summary(const TopicInfo& topic) {
  return std::to_string(topic.partitions.size()) + (topic.partitions.size() == 1 ? " partition, " : " partitions, ") +
         std::to_string(topic.replicas) + (topic.replicas == 1 ? " copy, " : " copies, ") + topic.durability + ", " +
         retention_text(topic);
}

std::string ids_text(const std::vector<int32_t>& ids) {
  std::string text;
  for (int32_t id : ids) text += (text.empty() ? "" : " ") + std::to_string(id);
  return text.empty() ? "-" : text;
}

class TopicRun {
 public:
  TopicRun(const CommonOptions& common, const TopicOptions& options)
      : options_(options), output_(common), client_(connect(common)), admin_(*client_) {}

  int run() {
    watch_signals();
    if (options_.action == "list") return list();
    if (options_.action == "create") return create();
    if (options_.action == "show") return show();
    if (options_.action == "alter") return alter();
    if (options_.action == "delete") return remove();
    return trim();
  }

 private:
  int fail(const Error& error) { return output_.fail(error, 0, options_.name); }

  int list() {
    auto topics = admin_.list_topics(options_.prefix, options_.internal);
    if (!topics.ok()) return fail(topics.error());
    std::vector<std::vector<std::string>> rows;
    for (const TopicInfo& topic : topics.value()) {
      if (output_.json()) {
        output_.json_line(topic_json(topic, false));
      } else if (output_.quiet()) {
        output_.line(topic.name);
      } else {
        rows.push_back({topic.name, summary(topic), topic.unsafe ? "unsafe: a lost disk loses records" : ""});
      }
    }
    output_.table(rows);
    if (topics->empty()) {
      output_.hint(options_.prefix.empty() ? "no topics yet; make one: trilog topic create NAME"
                                           : "no topic begins with " + options_.prefix);
    }
    return kDone;
  }

  JsonObject result(std::string_view action, bool changed) {
    JsonObject object;
    object.add("action", action).add("name", std::string_view(options_.name)).add("changed", changed);
    return object;
  }
  int done(std::string_view action, bool changed, const std::string& text) {
    if (output_.json()) {
      output_.json_line(result(action, changed));
    } else if (!output_.quiet()) {
      output_.line(text);
    }
    return kDone;
  }

  int create() {
    client::TopicSpec spec{options_.name, options_.partitions.value_or(0), options_.replicas.value_or(0),
                           options_.set,  options_.if_not_exists,          options_.dry_run};
    auto created = admin_.create_topic(spec);
    if (!created.ok()) return fail(created.error());
    const auto& [topic, is_new] = created.value();
    if (options_.dry_run) return done("create", false, "would create topic " + options_.name + ": " + summary(topic));
    if (!is_new) return done("create", false, "topic " + options_.name + " is there already: " + summary(topic));
    return done("create", true,
                "created topic " + options_.name + ": " + summary(topic) + "\n  next           trilog produce " +
                    options_.name + " 'hello' -k 1");
  }

  int show() {
    auto topic = admin_.describe_topic(options_.name);
    if (!topic.ok()) return fail(topic.error());
    if (output_.json()) {
      output_.json_line(topic_json(topic.value(), true));
      return kDone;
    }
    output_.line(topic->name + " · " + summary(topic.value()) +
                 (topic->unsafe ? " · unsafe: a lost disk loses records" : ""));
    std::vector<std::vector<std::string>> rows = {
        {"  partition", "leader", "epoch", "in sync", "lagging", "offsets", "size"}};
    for (const PartitionInfo& partition : topic->partitions) {
      std::string offsets =
          partition.error ? partition.error->code
                          : std::to_string(partition.start_offset) + " to " + std::to_string(partition.end_offset);
      rows.push_back({"  " + std::to_string(partition.partition),
                      partition.leader >= 0 ? std::to_string(partition.leader) : "none",
                      std::to_string(partition.leader_epoch), ids_text(partition.isr), ids_text(partition.lagging),
                      offsets, format_size(static_cast<uint64_t>(std::max<int64_t>(partition.size_bytes, 0)))});
    }
    output_.table(rows);
    for (const auto& [name, config] : topic->configs) {
      if (config.source != "default") output_.line("  " + name + " = " + config.value);
    }
    return kDone;
  }

  // Whether retention or size limits go down, so that records may vanish.
  bool lowers_retention(const TopicInfo& topic) const {
    for (const char* name : {"retention.ms", "retention.bytes"}) {
      auto wanted = options_.set.find(name);
      auto now = topic.configs.find(name);
      if (wanted == options_.set.end() || now == topic.configs.end()) continue;
      int64_t from = std::strtoll(now->second.value.c_str(), nullptr, 10);
      int64_t to = std::strtoll(wanted->second.c_str(), nullptr, 10);
      if (to >= 0 && (from < 0 || to < from)) return true;
    }
    return false;
  }

  std::string target(const TopicInfo& topic) {
    int64_t records = 0;
    int64_t bytes = 0;
    for (const PartitionInfo& partition : topic.partitions) {
      records += partition.end_offset - partition.start_offset;
      bytes += partition.size_bytes;
    }
    std::string text = "topic " + topic.name + ": " + std::to_string(records) + " records, " +
                       format_size(static_cast<uint64_t>(std::max<int64_t>(bytes, 0)));
    auto cluster = admin_.describe_cluster();
    if (cluster.ok()) text += ", in cluster " + cluster->cluster_id + " at " + client_->options().servers.front();
    auto groups = admin_.list_groups("");
    std::string readers;
    if (groups.ok()) {
      for (const client::GroupInfo& group : groups.value()) {
        auto full = admin_.describe_group(group.group);
        bool reads = full.ok() && std::any_of(full->partitions.begin(), full->partitions.end(),
                                              [&](const auto& p) { return p.topic == topic.name; });
        if (reads) readers += (readers.empty() ? "" : ", ") + group.group;
      }
    }
    return text + (readers.empty() ? "; no group reads it" : "; read by " + readers);
  }

  int alter() {
    if (options_.set.empty() && options_.unset.empty() && !options_.partitions) {
      return output_.usage("nothing to change: say --partitions N, --set NAME=VALUE or --unset NAME");
    }
    auto before = admin_.describe_topic(options_.name);
    if (!before.ok()) return fail(before.error());
    if (!options_.dry_run && lowers_retention(before.value())) {
      if (auto code = confirm(output_, options_.yes, "lower retention: older records go. " + target(before.value())))
        return *code;
    }
    client::TopicChange change{options_.name, options_.set, options_.unset, options_.partitions.value_or(0),
                               options_.dry_run};
    auto altered = admin_.alter_topic(change);
    if (!altered.ok()) return fail(altered.error());
    const auto& [topic, changed] = altered.value();
    if (options_.dry_run) return done("alter", false, "would make topic " + options_.name + ": " + summary(topic));
    return done("alter", changed,
                changed ? "topic " + options_.name + " is now: " + summary(topic)
                        : "nothing to change in topic " + options_.name);
  }

  int remove() {
    auto topic = admin_.describe_topic(options_.name);
    if (!topic.ok() && topic.error().code == "UNKNOWN_TOPIC" && options_.if_exists) {
      return done("delete", false, "topic " + options_.name + " is not there");
    }
    if (!topic.ok()) return fail(topic.error());
    if (options_.dry_run) return done("delete", false, "would delete " + target(topic.value()));
    if (auto code = confirm(output_, options_.yes, "delete " + target(topic.value()))) return *code;
    auto deleted = admin_.delete_topic(options_.name, options_.if_exists, false);
    if (!deleted.ok()) return fail(deleted.error());
    return done("delete", deleted.value(), "deleted topic " + options_.name);
  }

  int trim() {
    Result<Place> place = parse_place(options_.before, false);
    if (!place.ok()) return output_.usage(place.status().message());
    auto topic = admin_.describe_topic(options_.name);
    if (!topic.ok()) return fail(topic.error());
    auto resolved = resolve_place(admin_, options_.name, *place);
    if (!resolved.ok()) return fail(resolved.error());
    if (options_.partition && !resolved->contains(*options_.partition)) {
      return fail(
          {"UNKNOWN_PARTITION", "no partition " + std::to_string(*options_.partition) + " in topic " + options_.name});
    }
    if (place->kind == Place::Kind::kOffset && !options_.partition && topic->partitions.size() > 1) {
      return output_.usage("--before " + options_.before + " is an offset, and topic " + options_.name + " has " +
                           std::to_string(topic->partitions.size()) + " partitions; say which with -p");
    }
    std::vector<client::Position> before;
    int64_t records = 0;
    for (const PartitionInfo& partition : topic->partitions) {
      if (options_.partition && partition.partition != *options_.partition) continue;
      int64_t offset = resolved.value()[partition.partition];
      before.push_back({options_.name, partition.partition, offset});
      records += std::max<int64_t>(std::min(offset, partition.end_offset) - partition.start_offset, 0);
    }
    std::string what = std::to_string(records) + " records of " + target(topic.value());
    if (!options_.dry_run) {
      if (auto code = confirm(output_, options_.yes, "remove " + what)) return *code;
    }
    auto trimmed = admin_.trim_topic(options_.name, before, options_.dry_run);
    if (!trimmed.ok()) return fail(trimmed.error());
    for (const PartitionInfo& partition : trimmed.value()) {
      if (partition.error) return fail(*partition.error);
    }
    if (options_.dry_run) return done("trim", false, "would remove " + what);
    return done("trim", records > 0, "removed " + std::to_string(records) + " records of topic " + options_.name);
  }

  const TopicOptions& options_;
  Output output_;
  std::unique_ptr<client::Client> client_;
  client::Admin admin_;
};

}  // namespace

int topic_command(const CommonOptions& common, const TopicOptions& options) { return TopicRun(common, options).run(); }

}  // namespace trilog::cli
