#include "broker/metadata/topic_settings.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "storage/base/names.h"

namespace trilog {
namespace {

using api::Error;
using api::ErrorCode;

enum class Kind { kNumber, kChoice, kFlag };

// One row per setting: everything there is to know about it.
struct Setting {
  TopicSettingInfo info;
  Kind kind;
  int64_t min;
  int64_t max;
  std::array<std::string_view, 5> choices;  // accepted
  std::string_view refused;                 // choices that Kafka has and this version has not, for the message
};

constexpr int64_t kForever = -1;
constexpr int64_t kHundredYears = 100LL * 365 * 24 * 3600 * 1000;

constexpr std::array kSettings = {
    Setting{{"cleanup.policy", "one of delete", "delete", "What happens to old records: delete removes whole segments.",
             false},
            Kind::kChoice,
            0,
            0,
            {"delete"},
            "compact"},
    Setting{{"compression.type", "one of producer", "producer", "producer keeps batches as they were sent.", false},
            Kind::kChoice,
            0,
            0,
            {"producer"},
            "none, gzip, snappy, lz4, zstd"},
    Setting{{"durability", "one of synced|replicated", "synced",
             "synced acknowledges when every in-sync replica has the record on disk, replicated from the page cache.",
             true},
            Kind::kChoice,
            0,
            0,
            {"synced", "replicated"},
            ""},
    Setting{{"max.message.bytes", "bytes", "1048576",
             "Largest record batch as sent, or key + value + headers of one record.", false},
            Kind::kNumber,
            64,
            16 << 20,
            {},
            ""},
    Setting{{"message.timestamp.type", "one of CreateTime|LogAppendTime", "CreateTime",
             "Whether records keep their producer's timestamp or get the broker's.", false},
            Kind::kChoice,
            0,
            0,
            {"CreateTime", "LogAppendTime"},
            ""},
    Setting{{"min.insync.replicas", "count", "replicas/2 + 1 with three or more, else 1",
             "So many replicas must be in sync for a write to be accepted.", false},
            Kind::kNumber,
            1,
            5,
            {},
            ""},
    Setting{{"retention.bytes", "bytes, -1 for unlimited", "-1",
             "Oldest segments of a partition go when it grows past this.", false},
            Kind::kNumber,
            kForever,
            INT64_MAX,
            {},
            ""},
    Setting{{"retention.ms", "duration in ms, -1 for ever", "604800000", "Segments whose newest record is older go.",
             false},
            Kind::kNumber,
            kForever,
            kHundredYears,
            {},
            ""},
    Setting{{"segment.bytes", "bytes", "134217728", "A segment file is closed before it grows past this.", false},
            Kind::kNumber,
            1 << 20,
            1 << 30,
            {},
            ""},
    Setting{{"segment.ms", "duration in ms", "retention.ms/7, at most 1 day",
             "A segment file is closed when its first record is this old.", false},
            Kind::kNumber,
            1'000,
            kHundredYears,
            {},
            ""},
    Setting{{"unclean.leader.election.enable", "true|false", "false",
             "Whether a replica that lacks acknowledged records may become leader when no other is left.", false},
            Kind::kFlag,
            0,
            0,
            {"true", "false"},
            ""},
};

constexpr auto kInfos = [] {
  std::array<TopicSettingInfo, kSettings.size()> infos{};
  for (size_t i = 0; i < kSettings.size(); ++i) infos[i] = kSettings[i].info;
  return infos;
}();

const Setting* find_setting(std::string_view name) {
  for (const Setting& setting : kSettings) {
    if (setting.info.name == name) return &setting;
  }
  return nullptr;
}

std::optional<int64_t> parse_number(std::string_view text) {
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Error invalid(std::string_view name, std::string_view value, const std::string& what) {
  return Error(ErrorCode::kInvalidConfig, std::string(name) + " = " + std::string(value.substr(0, 100)) + ": " + what)
      .with_detail("setting", std::string(name));
}

int64_t number(const std::map<std::string, std::string>& configs, const char* name, int64_t otherwise) {
  auto it = configs.find(name);
  if (it == configs.end()) return otherwise;
  return parse_number(it->second).value_or(otherwise);
}

}  // namespace

std::span<const TopicSettingInfo> topic_setting_infos() { return kInfos; }

std::optional<Error> check_topic_setting(std::string_view name, std::string_view value) {
  const Setting* setting = find_setting(name);
  if (setting == nullptr) {
    std::vector<std::string> known;
    for (const Setting& each : kSettings) known.emplace_back(each.info.name);
    std::optional<std::string> near = most_similar_name(name, known);
    return Error(ErrorCode::kInvalidConfig,
                 "no topic setting " + std::string(name.substr(0, 100)) +
                     (near ? "; did you mean " + *near + "?" : "; see trilog topic create --help"))
        .with_detail("setting", std::string(name.substr(0, 100)));
  }
  if (setting->kind == Kind::kNumber) {
    std::optional<int64_t> parsed = parse_number(value);
    if (!parsed) return invalid(name, value, "a whole number is wanted (" + std::string(setting->info.type) + ")");
    if (*parsed < setting->min || *parsed > setting->max || (setting->min == kForever && *parsed == 0)) {
      return invalid(name, value,
                     "must be from " + std::to_string(setting->min) + " to " + std::to_string(setting->max) +
                         (setting->min == kForever ? ", and not 0" : ""));
    }
    return std::nullopt;
  }
  std::string accepted;
  for (std::string_view choice : setting->choices) {
    if (choice.empty()) continue;
    if (choice == value) return std::nullopt;
    accepted += (accepted.empty() ? "" : " or ") + std::string(choice);
  }
  std::string what = "must be " + accepted;
  if (!setting->refused.empty()) what += " (not built yet: " + std::string(setting->refused) + ")";
  return invalid(name, value, what);
}

TopicSettings resolve_topic_settings(const std::map<std::string, std::string>& configs, api::Durability durability,
                                     int32_t replicas) {
  TopicSettings settings;
  settings.durability = durability;
  settings.min_insync_replicas =
      static_cast<int32_t>(number(configs, "min.insync.replicas", replicas >= 3 ? replicas / 2 + 1 : 1));
  settings.retention_ms = number(configs, "retention.ms", settings.retention_ms);
  settings.retention_bytes = number(configs, "retention.bytes", settings.retention_bytes);
  settings.segment_bytes = number(configs, "segment.bytes", settings.segment_bytes);
  int64_t day = 24LL * 3600 * 1000;
  int64_t share = settings.retention_ms < 0 ? day : std::clamp<int64_t>(settings.retention_ms / 7, 1'000, day);
  settings.segment_ms = number(configs, "segment.ms", share);
  settings.max_message_bytes = number(configs, "max.message.bytes", settings.max_message_bytes);
  auto is = [&](const char* name, std::string_view value) {
    auto it = configs.find(name);
    return it != configs.end() && it->second == value;
  };
  settings.log_append_time = is("message.timestamp.type", "LogAppendTime");
  settings.unclean_leader_election = is("unclean.leader.election.enable", "true");
  return settings;
}

std::map<std::string, api::ConfigValue> describe_topic_settings(const std::map<std::string, std::string>& configs,
                                                                api::Durability durability, int32_t replicas) {
  TopicSettings resolved = resolve_topic_settings(configs, durability, replicas);
  std::map<std::string, api::ConfigValue> described;
  for (const TopicSettingInfo& info : kInfos)
    described[std::string(info.name)] = {std::string(info.default_text), "default"};
  described["min.insync.replicas"].value = std::to_string(resolved.min_insync_replicas);
  described["segment.ms"].value = std::to_string(resolved.segment_ms);
  for (const auto& [name, value] : configs) described[name] = {value, "topic"};
  if (durability != api::Durability::kSynced)
    described["durability"] = {std::string(api::durability_name(durability)), "topic"};
  return described;
}

std::optional<Error> check_topic_name(std::string_view name) {
  auto refuse = [&](const std::string& what) {
    // The name itself may be hostile: shown only as far as it is printable ASCII.
    std::string shown;
    for (char c : name.substr(0, 60)) shown += c >= 0x20 && c < 0x7f ? c : '?';
    return Error(ErrorCode::kInvalidTopic, "topic name '" + shown + "': " + what).with_detail("topic", shown);
  };
  if (name.empty()) return refuse("must not be empty");
  if (name.size() > 249) return refuse("has " + std::to_string(name.size()) + " bytes; at most 249 are allowed");
  if (name == "." || name == "..") return refuse("must not be '.' or '..'");
  for (char c : name) {
    bool fine =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    if (!fine) return refuse("only letters, digits, '.', '_' and '-' are allowed");
  }
  return std::nullopt;
}

}  // namespace trilog
