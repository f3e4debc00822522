#include "storage/log/partition_meta.h"

#include <charconv>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "storage/log/checkpoint_file.h"

namespace trilog {

namespace {

constexpr uint32_t kVersion = 1;
constexpr std::string_view kSettingPrefix = "setting.";

// Newline, '=' and backslash are written as \n, \e and \\, so that any text survives and a person can still read it.
void append_escaped(std::string& out, std::string_view text) {
  for (char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '=') {
      out += "\\e";
    } else {
      out += c;
    }
  }
}

std::optional<std::string> unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    if (++i == text.size()) return std::nullopt;
    if (text[i] == '\\') {
      out += '\\';
    } else if (text[i] == 'n') {
      out += '\n';
    } else if (text[i] == 'e') {
      out += '=';
    } else {
      return std::nullopt;
    }
  }
  return out;
}

void append_line(std::string& out, std::string_view key, std::string_view value) {
  append_escaped(out, key);
  out += '=';
  append_escaped(out, value);
  out += '\n';
}

std::optional<int32_t> parse_number(std::string_view text) {
  int32_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

std::optional<std::vector<BrokerId>> parse_replicas(std::string_view text) {
  std::vector<BrokerId> replicas;
  while (!text.empty()) {
    size_t comma = text.find(',');
    auto id = parse_number(text.substr(0, comma));
    if (!id) return std::nullopt;
    replicas.push_back(BrokerId(*id));
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
    if (text.empty()) return std::nullopt;
  }
  return replicas;
}

// False if the value does not fit its key. Unknown keys are left alone: a later version may add some.
bool apply(PartitionMeta& meta, const std::string& key, const std::string& value) {
  if (key == "topic_id") {
    auto id = TopicId::parse(value);
    if (id.ok()) meta.topic_id = *id;
    return id.ok();
  }
  if (key == "topic") meta.topic = value;
  if (key == "partition" || key == "partition_count") {
    auto number = parse_number(value);
    if (!number) return false;
    (key == "partition" ? meta.partition = PartitionId(*number), 0 : meta.partition_count = *number);
  }
  if (key == "replicas") {
    auto replicas = parse_replicas(value);
    if (!replicas) return false;
    meta.replicas = std::move(*replicas);
  }
  if (key.starts_with(kSettingPrefix)) meta.settings[key.substr(kSettingPrefix.size())] = value;
  return true;
}

}  // namespace

Bytes encode_partition_meta(const PartitionMeta& meta) {
  std::string text;
  append_line(text, "topic_id", meta.topic_id.to_string());
  append_line(text, "topic", meta.topic);
  append_line(text, "partition", std::to_string(meta.partition.value()));
  append_line(text, "partition_count", std::to_string(meta.partition_count));
  std::string replicas;
  for (BrokerId id : meta.replicas) {
    if (!replicas.empty()) replicas += ',';
    replicas += std::to_string(id.value());
  }
  append_line(text, "replicas", replicas);
  for (const auto& [name, value] : meta.settings) append_line(text, std::string(kSettingPrefix) + name, value);
  return frame_checkpoint(kVersion, as_bytes(text));
}

Result<PartitionMeta> decode_partition_meta(ByteView bytes) {
  std::string_view text = as_text(TRY(unframe_checkpoint(bytes, kVersion)));
  PartitionMeta meta;
  std::set<std::string> seen;
  while (!text.empty()) {
    size_t end = text.find('\n');
    if (end == std::string_view::npos) return Status(Errc::kCorruption, "the last line has no end");
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    size_t equals = line.find('=');
    if (equals == std::string_view::npos) return Status(Errc::kCorruption, "a line without '='");
    auto key = unescape(line.substr(0, equals));
    auto value = unescape(line.substr(equals + 1));
    if (!key || !value || !seen.insert(*key).second || !apply(meta, *key, *value)) {
      return Status(Errc::kCorruption, "not understood: " + std::string(line));
    }
  }
  for (const char* key : {"topic_id", "topic", "partition", "partition_count", "replicas"}) {
    if (!seen.contains(key)) return Status(Errc::kCorruption, std::string(key) + " is missing");
  }
  return meta;
}

}  // namespace trilog
