#include <algorithm>

#include "client/cli/commands.h"
#include "storage/base/units.h"

namespace trilog::cli {
namespace {

using client::Error;
using client::GroupInfo;

JsonObject group_json(const GroupInfo& group) {
  std::vector<JsonObject> partitions;
  for (const client::GroupPartition& partition : group.partitions) {
    JsonObject entry;
    entry.add("topic", std::string_view(partition.topic)).add("partition", partition.partition);
    entry.add("committed_offset", partition.committed_offset);
    entry.add("end_offset", partition.end_offset).add("lag", partition.lag);
    entry.add("commit_timestamp_ms",
              partition.commit_timestamp_ms >= 0 ? std::optional(partition.commit_timestamp_ms) : std::nullopt);
    partitions.push_back(std::move(entry));
  }
  JsonObject object;
  object.add("group", std::string_view(group.group)).add("state", std::string_view(group.state));
  object.add("partitions", std::move(partitions));
  object.add("coordinator", group.coordinator);
  return object;
}

class GroupRun {
 public:
  GroupRun(const CommonOptions& common, const GroupOptions& options)
      : options_(options), output_(common), client_(connect(common)), admin_(*client_) {}

  int run() {
    watch_signals();
    if (options_.action == "list") return list();
    if (options_.action == "show") return show();
    if (options_.action == "delete") return remove();
    return seek();
  }

 private:
  int list() {
    auto groups = admin_.list_groups(options_.prefix);
    if (!groups.ok()) return output_.fail(groups.error());
    std::vector<std::vector<std::string>> rows;
    for (const GroupInfo& group : groups.value()) {
      if (output_.json()) {
        JsonObject object;
        object.add("group", std::string_view(group.group)).add("state", std::string_view(group.state));
        output_.json_line(object);
      } else if (output_.quiet()) {
        output_.line(group.group);
      } else {
        rows.push_back({group.group, group.state});
      }
    }
    output_.table(rows);
    if (groups->empty()) {
      output_.hint(options_.prefix.empty() ? "no groups yet; one begins with: trilog consume TOPIC --group NAME"
                                           : "no group begins with " + options_.prefix);
    }
    return kDone;
  }

  int show() {
    auto group = admin_.describe_group(options_.name);
    if (!group.ok()) return output_.fail(group.error());
    if (output_.json()) {
      output_.json_line(group_json(group.value()));
      return kDone;
    }
    int64_t lag = 0;
    for (const client::GroupPartition& partition : group->partitions) lag += partition.lag;
    output_.line(group->group + " · " + group->state + " · lag " + std::to_string(lag));
    std::vector<std::vector<std::string>> rows;
    if (!group->partitions.empty()) rows.push_back({"  partition", "committed", "end", "lag", "last commit"});
    for (const client::GroupPartition& partition : group->partitions) {
      rows.push_back({"  " + partition.topic + "/" + std::to_string(partition.partition),
                      partition.committed_offset ? std::to_string(*partition.committed_offset) : "-",
                      std::to_string(partition.end_offset), std::to_string(partition.lag),
                      partition.commit_timestamp_ms >= 0 ? format_time_ms(partition.commit_timestamp_ms) : "-"});
    }
    output_.table(rows);
    return kDone;
  }

  int done(std::string_view action, bool changed, const std::string& text) {
    if (output_.json()) {
      JsonObject object;
      object.add("action", action).add("name", std::string_view(options_.name)).add("changed", changed);
      output_.json_line(object);
    } else if (!output_.quiet()) {
      output_.line(text);
    }
    return kDone;
  }

  std::string where() {
    auto cluster = admin_.describe_cluster();
    return cluster.ok() ? " in cluster " + cluster->cluster_id + " at " + client_->options().servers.front() : "";
  }

  int remove() {
    auto group = admin_.describe_group(options_.name);
    if (!group.ok()) return output_.fail(group.error());
    std::string what =
        "group " + options_.name + " with " + std::to_string(group->partitions.size()) + " committed offsets" + where();
    if (!options_.dry_run) {
      if (auto code = confirm(output_, options_.yes, "delete " + what)) return *code;
    }
    auto deleted = admin_.delete_group(options_.name, options_.dry_run);
    if (!deleted.ok()) return output_.fail(deleted.error());
    if (options_.dry_run) return done("delete", false, "would delete " + what);
    return done("delete", true, "deleted group " + options_.name);
  }

  int seek() {
    Result<Place> place = parse_place(options_.to, true);
    if (!place.ok()) return output_.usage(place.status().message());
    auto starts = resolve_place(admin_, options_.topic, {Place::Kind::kStart, 0});
    if (!starts.ok()) return output_.fail(starts.error(), 0, options_.topic);
    auto ends = resolve_place(admin_, options_.topic, {Place::Kind::kEnd, 0});
    if (!ends.ok()) return output_.fail(ends.error(), 0, options_.topic);
    if (options_.partition && !starts->contains(*options_.partition)) {
      return output_.fail(
          {"UNKNOWN_PARTITION", "no partition " + std::to_string(*options_.partition) + " in topic " + options_.topic});
    }
    if (place->kind == Place::Kind::kOffset && !options_.partition && starts->size() > 1) {
      return output_.usage("--to " + options_.to + " is an offset, and topic " + options_.topic + " has " +
                           std::to_string(starts->size()) + " partitions; say which with -p");
    }
    std::map<int32_t, int64_t> committed;
    auto commits = admin_.fetch_offsets(options_.name, options_.topic);
    if (!commits.ok()) return output_.fail(commits.error());
    for (const client::Commit& commit : commits.value()) committed[commit.partition] = commit.offset;
    auto targets = resolve_place(admin_, options_.topic, *place);
    if (!targets.ok()) return output_.fail(targets.error());
    std::vector<client::Commit> moves;
    std::string text;
    for (const auto& [partition, start] : starts.value()) {
      if (options_.partition && partition != *options_.partition) continue;
      int64_t from = committed.contains(partition) ? committed[partition] : start;
      int64_t to = place->kind == Place::Kind::kStep ? from + place->value : targets.value()[partition];
      int64_t end = ends.value()[partition];
      if (place->kind == Place::Kind::kOffset && (to < start || to > end)) {
        return output_.fail({"OFFSET_OUT_OF_RANGE", "offset " + std::to_string(to) + " is outside " + options_.topic +
                                                        "/" + std::to_string(partition) + ", which has " +
                                                        std::to_string(start) + " to " + std::to_string(end)});
      }
      to = std::clamp(to, start, std::max(start, end));  // asked one after the other
      if (committed.contains(partition) && to == from) continue;
      moves.push_back({options_.topic, partition, to});
      text += "\n  " + options_.topic + "/" + std::to_string(partition) + "  " +
              (committed.contains(partition) ? std::to_string(from) : "-") + " -> " + std::to_string(to);
    }
    if (moves.empty()) return done("seek", false, "group " + options_.name + " is there already");
    std::string what = "move group " + options_.name + where() + ":" + text;
    if (options_.dry_run) return done("seek", false, "would " + what);
    if (auto code = confirm(output_, options_.yes, what)) return *code;
    auto moved = admin_.commit_offsets(options_.name, moves);
    if (!moved.ok()) return output_.fail(moved.error());
    for (const client::Commit& each : moved.value()) {
      if (each.error) return output_.fail(*each.error);
    }
    return done("seek", true, "moved group " + options_.name + ":" + text);
  }

  const GroupOptions& options_;
  Output output_;
  std::unique_ptr<client::Client> client_;
  client::Admin admin_;
};

}  // namespace

int group_command(const CommonOptions& common, const GroupOptions& options) { return GroupRun(common, options).run(); }

}  // namespace trilog::cli
