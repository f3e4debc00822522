// The registry of topic settings: name, type, default, range and one sentence each. Help texts, documentation and
// checks come from here.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "broker/api/error_code.h"
#include "broker/api/requests.h"

namespace trilog {

struct TopicSettings {
  int32_t min_insync_replicas = 1;
  api::Durability durability = api::Durability::kSynced;
  int64_t retention_ms = 7LL * 24 * 3600 * 1000;  // -1: for ever
  int64_t retention_bytes = -1;
  int64_t segment_bytes = 128LL << 20;
  int64_t segment_ms = 24LL * 3600 * 1000;
  int64_t max_message_bytes = 1 << 20;
  bool log_append_time = false;
  bool unclean_leader_election = false;
  bool operator==(const TopicSettings&) const = default;
};

struct TopicSettingInfo {
  std::string_view name;  // "retention.ms"
  std::string_view type;  // "duration in ms", "bytes", "count", "one of a|b", "true|false"
  std::string_view default_text;
  std::string_view sentence;
  bool fixed_at_creation = false;
};

std::span<const TopicSettingInfo> topic_setting_infos();  // in order of name

// Checks one value as text; INVALID_CONFIG names the setting, the value, the range, and the nearest known name.
std::optional<api::Error> check_topic_setting(std::string_view name, std::string_view value);
// What is in force, given what was set on the topic; `replicas` decides defaults (min in-sync). Values are checked
// already.
TopicSettings resolve_topic_settings(const std::map<std::string, std::string>& configs, api::Durability durability,
                                     int32_t replicas);
// Every setting with its value and source, for answers.
std::map<std::string, api::ConfigValue> describe_topic_settings(const std::map<std::string, std::string>& configs,
                                                                api::Durability durability, int32_t replicas);

// "[A-Za-z0-9._-]", 1 to 249, not "." or ".."; INVALID_TOPIC says what is wrong.
std::optional<api::Error> check_topic_name(std::string_view name);
inline constexpr std::string_view kOffsetsTopic = "__consumer_offsets";

}  // namespace trilog
