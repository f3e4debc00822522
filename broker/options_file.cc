// The only file that sees toml++.
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include <sstream>

#include "broker/options.h"

namespace trilog {
namespace {

std::string place(std::string_view file_name, const toml::source_region& source) {
  return std::string(file_name) + ":" + std::to_string(source.begin.line);
}

// A TOML value as the text that set_option() takes; nothing for a type no option has.
std::optional<std::string> as_option_text(const toml::node& node) {
  if (auto text = node.value_exact<std::string>()) return *text;
  if (auto number = node.value_exact<int64_t>()) return std::to_string(*number);
  if (auto flag = node.value_exact<bool>()) return *flag ? "true" : "false";
  if (const toml::array* list = node.as_array()) {
    std::string joined;
    for (const toml::node& item : *list) {
      auto text = item.value_exact<std::string>();
      if (!text) return std::nullopt;
      joined += (joined.empty() ? "" : ",") + *text;
    }
    return joined;
  }
  return std::nullopt;
}

// What TOML type an option wants, so that node_id = "1" is refused rather than guessed.
bool type_fits(const toml::node& node, std::string_view type) {
  if (type == "count") return node.is_integer();
  if (type == "true|false") return node.is_boolean();
  if (type == "list of id@host:port") return node.is_array();
  return node.is_string();
}

}  // namespace

Status read_config(BrokerOptions& options, std::string_view file_name, std::string_view text) {
  toml::parse_result parsed = toml::parse(text, file_name);
  if (!parsed) {
    return Status(Errc::kInvalidArgument,
                  place(file_name, parsed.error().source()) + ": " + std::string(parsed.error().description()));
  }
  for (const auto& [key, node] : parsed.table()) {
    std::string_view name = key.str();
    for (const OptionInfo& info : option_infos()) {
      if (info.name != name || type_fits(node, info.type)) continue;
      return Status(Errc::kInvalidArgument, place(file_name, node.source()) + ": " + std::string(name) +
                                                ": wrong type; " + std::string(info.type) + " is wanted" +
                                                (node.is_string() ? ", without quotes" : ""));
    }
    std::optional<std::string> value = as_option_text(node);
    // A table or a date where an option stands: an unknown name says so first.
    Status status = set_option(options, name, value.value_or(""));
    if (status.ok() && !value) status = Status(Errc::kInvalidArgument, std::string(name) + ": wrong type");
    if (!status.ok()) return status.with_context(place(file_name, key.source()));
  }
  return {};
}

}  // namespace trilog
