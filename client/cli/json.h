// JSON for the command line, behind plain functions: json.cc is the only file that sees the JSON library.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "storage/base/status.h"

namespace trilog::cli {

// An object under construction, keys in the order of adding. Text that is not UTF-8 must have been encoded before;
// stray bytes are replaced.
class JsonObject {
 public:
  JsonObject();
  ~JsonObject();
  JsonObject(JsonObject&&) noexcept;
  JsonObject& operator=(JsonObject&&) noexcept;

  JsonObject& add(std::string_view key, std::string_view value);
  JsonObject& add(std::string_view key, const char* value) { return add(key, std::string_view(value)); }
  JsonObject& add(std::string_view key, int64_t value);
  JsonObject& add(std::string_view key, int32_t value) { return add(key, static_cast<int64_t>(value)); }
  JsonObject& add(std::string_view key, uint64_t value) { return add(key, static_cast<int64_t>(value)); }
  JsonObject& add(std::string_view key, double value);
  JsonObject& add(std::string_view key, bool value);
  JsonObject& add_null(std::string_view key);
  JsonObject& add(std::string_view key, const std::vector<int32_t>& values);
  JsonObject& add(std::string_view key, const std::vector<std::string>& values);
  JsonObject& add(std::string_view key, std::vector<JsonObject> objects);
  JsonObject& add(std::string_view key, JsonObject object);
  template <typename T>
  JsonObject& add(std::string_view key, const std::optional<T>& value) {
    return value ? add(key, *value) : add_null(key);
  }
  // One line, without the line end.
  std::string text() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

bool is_utf8(std::string_view text);
std::string encode_base64(std::string_view bytes);
std::optional<std::string> decode_base64(std::string_view text);

// kInvalidArgument says what is wrong and at which column.
Status check_json(std::string_view text);
// The top-level field of a JSON object as text: strings as they are, numbers as written, true/false by name. Nothing if
// it is missing, empty or null; kInvalidArgument if it is an object or a list, or `text` is not a JSON object.
Result<std::optional<std::string>> json_field(std::string_view text, std::string_view field);

// What `consume --json` prints, read back.
struct JsonRecord {
  std::optional<std::string> key;
  std::optional<std::string> value;
  std::vector<std::pair<std::string, std::optional<std::string>>> headers;
  std::optional<int64_t> timestamp_ms;
};
Result<JsonRecord> parse_json_record(std::string_view text);

}  // namespace trilog::cli
