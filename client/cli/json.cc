#include "client/cli/json.h"

#include <array>
#include <nlohmann/json.hpp>

namespace trilog::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// The library quotes the text where it stopped, which need not be UTF-8.
std::string readable(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

Status not_json(const nlohmann::json::exception& error) {
  std::string what = error.what();  // "[json.exception.parse_error.101] parse error at line 1, column 5: …"
  size_t bracket = what.find("] ");
  if (bracket != std::string::npos) what.erase(0, bracket + 2);
  if (!is_utf8(what)) what = Json::parse(readable(what)).get<std::string>();
  return Status(Errc::kInvalidArgument, "not JSON: " + what);
}

// Collects one top-level field while the text streams by, so that numbers keep the digits they were written with.
class FieldFinder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit FieldFinder(std::string_view field) : field_(field) {}
  std::optional<std::string> found;
  bool structured = false;  // the field is an object or a list
  bool is_object = false;   // the whole text is an object
  std::string error;

  bool null() override { return scalar(std::nullopt); }
  bool boolean(bool value) override { return scalar(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return scalar(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return scalar(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { return scalar(text); }
  bool string(string_t& value) override {
    return scalar(value.empty() ? std::nullopt : std::optional<std::string>(value));
  }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override {
    if (depth_ == 0) is_object = true;
    return enter();
  }
  bool end_object() override { return leave(); }
  bool start_array(std::size_t) override { return enter(); }
  bool end_array() override { return leave(); }
  bool key(string_t& name) override {
    if (depth_ == 1) wanted_ = name == field_;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& why) override {
    error = not_json(static_cast<const nlohmann::json::exception&>(why)).message();
    return false;
  }

 private:
  bool scalar(std::optional<std::string> value) {
    if (depth_ == 1 && wanted_ && is_object) {
      found = std::move(value);
      structured = false;
    }
    return true;
  }
  bool enter() {
    if (depth_ == 1 && wanted_ && is_object) {
      structured = true;
      found.reset();
    }
    ++depth_;
    return true;
  }
  bool leave() {
    --depth_;
    return true;
  }
  std::string field_;
  int depth_ = 0;
  bool wanted_ = false;
};

Result<std::optional<std::string>> bytes_field(const Json& object, const char* name, const char* encoding_name) {
  auto it = object.find(name);
  if (it == object.end() || it->is_null()) return std::optional<std::string>();
  if (!it->is_string()) return Status(Errc::kInvalidArgument, std::string("\"") + name + "\" must be a string or null");
  auto encoding = object.find(encoding_name);
  if (encoding == object.end() || encoding->is_null()) return std::optional<std::string>(it->get<std::string>());
  if (*encoding != "base64")
    return Status(Errc::kInvalidArgument, std::string("\"") + encoding_name + "\" must be base64");
  std::optional<std::string> decoded = decode_base64(it->get_ref<const std::string&>());
  if (!decoded) return Status(Errc::kInvalidArgument, std::string("\"") + name + "\" is not base64");
  return decoded;
}

}  // namespace

struct JsonObject::Impl {
  Json json = Json::object();
};

JsonObject::JsonObject() : impl_(std::make_unique<Impl>()) {}
JsonObject::~JsonObject() = default;
JsonObject::JsonObject(JsonObject&&) noexcept = default;
JsonObject& JsonObject::operator=(JsonObject&&) noexcept = default;

JsonObject& JsonObject::add(std::string_view key, std::string_view value) {
  impl_->json[std::string(key)] = std::string(value);
  return *this;
}
JsonObject& JsonObject::add(std::string_view key, int64_t value) {
  impl_->json[std::string(key)] = value;
  return *this;
}
JsonObject& JsonObject::add(std::string_view key, double value) {
  impl_->json[std::string(key)] = value;
  return *this;
}
JsonObject& JsonObject::add(std::string_view key, bool value) {
  impl_->json[std::string(key)] = value;
  return *this;
}
JsonObject& JsonObject::add_null(std::string_view key) {
  impl_->json[std::string(key)] = nullptr;
  return *this;
}
JsonObject& JsonObject::add(std::string_view key, const std::vector<int32_t>& values) {
  impl_->json[std::string(key)] = values;
  return *this;
}
JsonObject& JsonObject::add(std::string_view key, const std::vector<std::string>& values) {
  impl_->json[std::string(key)] = values;
  return *this;
}
JsonObject& JsonObject::add(std::string_view key, std::vector<JsonObject> objects) {
  Json list = Json::array();
  for (JsonObject& object : objects) list.push_back(std::move(object.impl_->json));
  impl_->json[std::string(key)] = std::move(list);
  return *this;
}
JsonObject& JsonObject::add(std::string_view key, JsonObject object) {
  impl_->json[std::string(key)] = std::move(object.impl_->json);
  return *this;
}

std::string JsonObject::text() const { return impl_->json.dump(-1, ' ', false, Json::error_handler_t::replace); }

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    auto lead = static_cast<unsigned char>(text[i]);
    size_t more = lead < 0x80                   ? 0
                  : lead >= 0xc2 && lead < 0xe0 ? 1
                  : lead >= 0xe0 && lead < 0xf0 ? 2
                  : lead >= 0xf0 && lead < 0xf5 ? 3
                                                : 4;
    if (more == 4 || text.size() - i <= more) return false;
    for (size_t k = 1; k <= more; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return false;
    }
    auto second = more == 0 ? 0 : static_cast<unsigned char>(text[i + 1]);
    bool overlong = (lead == 0xe0 && second < 0xa0) || (lead == 0xf0 && second < 0x90);
    bool surrogate = lead == 0xed && second >= 0xa0;
    bool too_high = lead == 0xf4 && second >= 0x90;
    if (overlong || surrogate || too_high) return false;
    i += 1 + more;
  }
  return true;
}

std::string encode_base64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t word = 0;
    for (size_t k = 0; k < 3; ++k)
      word = word << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k) text += i + k <= bytes.size() ? kBase64[(word >> (18 - 6 * k)) & 63] : '=';
  }
  return text;
}

std::optional<std::string> decode_base64(std::string_view text) {
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  std::string bytes;
  uint32_t word = 0;
  int bits = 0;
  for (char c : text) {
    size_t value = kBase64.find(c);
    if (value == std::string_view::npos) return std::nullopt;
    word = word << 6 | static_cast<uint32_t>(value);
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes += static_cast<char>(word >> bits & 0xff);
  }
  return bits < 6 ? std::optional(bytes) : std::nullopt;
}

Status check_json(std::string_view text) {
  FieldFinder finder("");
  if (nlohmann::json::sax_parse(text, &finder)) return {};
  return Status(Errc::kInvalidArgument, finder.error);
}

Result<std::optional<std::string>> json_field(std::string_view text, std::string_view field) {
  FieldFinder finder(field);
  if (!nlohmann::json::sax_parse(text, &finder)) return Status(Errc::kInvalidArgument, finder.error);
  if (!finder.is_object)
    return Status(Errc::kInvalidArgument, "not a JSON object, so it has no field " + std::string(field));
  if (finder.structured) {
    return Status(Errc::kInvalidArgument,
                  "field " + std::string(field) + " is an object or a list; a key must be plain");
  }
  return finder.found;
}

Result<JsonRecord> parse_json_record(std::string_view text) {
  Json object = Json::parse(text, nullptr, false);
  if (object.is_discarded()) return check_json(text);
  if (!object.is_object()) return Status(Errc::kInvalidArgument, "not a JSON object");
  JsonRecord record;
  record.key = TRY(bytes_field(object, "key", "key_encoding"));
  record.value = TRY(bytes_field(object, "value", "value_encoding"));
  if (auto it = object.find("timestamp_ms"); it != object.end() && !it->is_null()) {
    if (!it->is_number_integer()) return Status(Errc::kInvalidArgument, "\"timestamp_ms\" must be a whole number");
    record.timestamp_ms = it->get<int64_t>();
  }
  auto headers = object.find("headers");
  if (headers == object.end() || headers->is_null()) return record;
  if (!headers->is_array()) return Status(Errc::kInvalidArgument, "\"headers\" must be a list");
  for (const Json& header : *headers) {
    if (!header.is_object() || !header.contains("key") || !header["key"].is_string()) {
      return Status(Errc::kInvalidArgument, "every header must be an object with a \"key\"");
    }
    record.headers.emplace_back(header["key"].get<std::string>(), TRY(bytes_field(header, "value", "value_encoding")));
  }
  return record;
}

}  // namespace trilog::cli
