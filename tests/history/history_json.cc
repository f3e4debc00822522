#include "tests/history/history_json.h"

#include <nlohmann/json.hpp>

#include <set>
#include <string_view>
#include <utility>

namespace trilog::history {
namespace {

using Json = nlohmann::ordered_json;

// Names of enumerators, both ways.
template <typename Enum>
struct Name {
  Enum value;
  const char* text;
};
constexpr Name<Outcome> kOutcomes[] = {
    {Outcome::kOk, "ok"}, {Outcome::kNotWritten, "not_written"}, {Outcome::kUnknown, "unknown"}};
constexpr Name<Acks> kAcks[] = {{Acks::kAll, "all"}, {Acks::kLeader, "leader"}, {Acks::kNone, "none"}};
constexpr Name<Membership::What> kMemberships[] = {
    {Membership::What::kJoined, "joined"}, {Membership::What::kLeft, "left"}, {Membership::What::kFenced, "fenced"}};
constexpr Name<ObjectKind> kObjectKinds[] = {{ObjectKind::kTopic, "topic"},
                                             {ObjectKind::kGroup, "group"},
                                             {ObjectKind::kAcl, "acl"},
                                             {ObjectKind::kUser, "user"}};

const auto& names_of(Outcome /*type*/) { return kOutcomes; }
const auto& names_of(Acks /*type*/) { return kAcks; }
const auto& names_of(Membership::What /*type*/) { return kMemberships; }
const auto& names_of(ObjectKind /*type*/) { return kObjectKinds; }

class FieldWriter {
 public:
  explicit FieldWriter(Json& line) : line_(line) {}

  template <typename T>
  void required(const char* name, const T& value) {
    if constexpr (std::is_enum_v<T>) {
      for (const auto& row : names_of(value)) {
        if (row.value == value) line_[name] = row.text;
      }
    } else {
      line_[name] = value;
    }
  }
  void required(const char* name, const std::vector<Record>& records) {
    Json& list = line_[name] = Json::array();
    for (const Record& record : records) list.push_back({record.offset, record.token});
  }
  template <typename T>
  void optional(const char* name, const T& value) {
    required(name, value);
  }
  void detail(const std::string& value) {
    if (!value.empty()) line_["detail"] = value;
  }

 private:
  Json& line_;
};

class FieldReader {
 public:
  explicit FieldReader(const Json& line) : line_(line) {}

  template <typename T>
  void required(const char* name, T& value) {
    if (!line_.contains(name)) return fail(std::string("field \"") + name + "\" is missing");
    optional(name, value);
  }
  template <typename T>
  void optional(const char* name, T& value) {
    fields_known_.insert(name);
    const auto field = line_.find(name);
    if (field == line_.end()) return;
    if (!read(*field, value)) fail(std::string("field \"") + name + "\" cannot be " + field->dump());
  }
  void detail(std::string& value) { optional("detail", value); }

  Status finish() const {
    if (!wrong_.empty()) return Status(Errc::kInvalidArgument, wrong_);
    for (const auto& [name, value] : line_.items()) {
      if (!fields_known_.contains(name)) {
        return Status(Errc::kInvalidArgument, "a field that this operation does not have: \"" + name + "\"");
      }
    }
    return ok_status();
  }

 private:
  static bool read(const Json& field, bool& value) {
    if (field.is_boolean()) value = field.get<bool>();
    return field.is_boolean();
  }
  static bool read(const Json& field, std::string& value) {
    if (field.is_string()) value = field.get<std::string>();
    return field.is_string();
  }
  template <std::integral T>
  static bool read(const Json& field, T& value) {
    if (!field.is_number_integer()) return false;
    if (field.is_number_unsigned()) {
      const auto number = field.get<uint64_t>();
      value = static_cast<T>(number);
      return std::in_range<T>(number);
    }
    const auto number = field.get<int64_t>();
    value = static_cast<T>(number);
    return std::in_range<T>(number);
  }
  template <typename Enum>
  requires std::is_enum_v<Enum>
  static bool read(const Json& field, Enum& value) {
    for (const auto& row : names_of(value)) {
      if (field == row.text) {
        value = row.value;
        return true;
      }
    }
    return false;
  }
  static bool read(const Json& field, std::vector<std::string>& value) {
    if (!field.is_array()) return false;
    for (const Json& element : field) {
      if (!read(element, value.emplace_back())) return false;
    }
    return true;
  }
  static bool read(const Json& field, std::vector<Record>& value) {
    if (!field.is_array()) return false;
    value.reserve(field.size());
    for (const Json& element : field) {
      if (!element.is_array() || element.size() != 2) return false;
      Record& record = value.emplace_back();
      if (!read(element[0], record.offset) || !read(element[1], record.token)) return false;
    }
    return true;
  }
  void fail(std::string why) {
    if (wrong_.empty()) wrong_ = std::move(why);
  }

  const Json& line_;
  std::set<std::string_view> fields_known_ = {"op"};
  std::string wrong_;
};

// The fields of each operation, in the order in which they are written.
template <typename Fields>
void common(Fields& fields, Operation& operation) {
  fields.required("client", operation.client);
  fields.required("invoked_ns", operation.invoked_ns);
  fields.required("answered_ns", operation.answered_ns);
  fields.optional("outcome", operation.outcome);
  fields.detail(operation.detail);
}
template <typename Fields>
void common(Fields& fields, Operation& operation, Partition& partition) {
  common(fields, operation);
  fields.required("topic", partition.topic);
  fields.required("partition", partition.index);
}
template <typename Fields>
void describe(Fields& fields, Produce& produce) {
  common(fields, produce, produce.partition);
  fields.required("records", produce.records);
  fields.optional("acks", produce.acks);
  fields.optional("idempotent", produce.idempotent);
  fields.optional("leader_epoch", produce.leader_epoch);
}
template <typename Fields>
void describe(Fields& fields, Fetch& fetch) {
  common(fields, fetch, fetch.partition);
  fields.required("asked_offset", fetch.asked_offset);
  fields.required("records", fetch.records);
  fields.required("next_offset", fetch.next_offset);
  fields.optional("high_watermark", fetch.high_watermark);
  fields.optional("log_start", fetch.log_start);
  fields.optional("session", fetch.session);
  fields.optional("stale", fetch.stale);
  fields.optional("uncommitted", fetch.uncommitted);
}
template <typename Fields>
void describe(Fields& fields, ListOffsets& list) {
  common(fields, list, list.partition);
  fields.optional("earliest", list.earliest);
  fields.optional("latest", list.latest);
  fields.optional("stale", list.stale);
}
template <typename Fields>
void describe(Fields& fields, FinalRead& read) {
  common(fields, read, read.partition);
  fields.optional("node", read.node);
  fields.required("log_start", read.log_start);
  fields.required("high_watermark", read.high_watermark);
  fields.required("records", read.records);
}
template <typename Fields>
void describe(Fields& fields, Trim& trim) {
  common(fields, trim, trim.partition);
  fields.required("before_offset", trim.before_offset);
}
template <typename Fields>
void describe(Fields& fields, AcceptedLoss& loss) {
  common(fields, loss, loss.partition);
  fields.required("from_offset", loss.from_offset);
}
template <typename Fields>
void describe(Fields& fields, Commit& commit) {
  common(fields, commit, commit.partition);
  fields.required("group", commit.group);
  fields.required("offset", commit.offset);
  fields.optional("member", commit.member);
  fields.optional("generation", commit.generation);
}
template <typename Fields>
void describe(Fields& fields, FetchCommitted& fetch) {
  common(fields, fetch, fetch.partition);
  fields.required("group", fetch.group);
  fields.required("offset", fetch.offset);
}
template <typename Fields>
void describe(Fields& fields, Membership& membership) {
  common(fields, membership);
  fields.required("group", membership.group);
  fields.required("member", membership.member);
  fields.required("what", membership.what);
  fields.required("generation", membership.generation);
}
template <typename Fields>
void describe(Fields& fields, Change& change) {
  common(fields, change);
  fields.required("kind", change.kind);
  fields.required("name", change.name);
  fields.required("created", change.created);
}
template <typename Fields>
void describe(Fields& fields, Listing& listing) {
  common(fields, listing);
  fields.required("kind", listing.kind);
  fields.required("names", listing.names);
}
template <typename Fields>
void describe(Fields& fields, Healed& healed) {
  common(fields, healed);
  fields.required("bound_ns", healed.bound_ns);
}
template <typename Fields>
void describe(Fields& fields, Await& await) {
  common(fields, await);
  fields.required("what", await.what);
  fields.required("bound_ns", await.bound_ns);
}

template <typename Kind>
std::string line_of(Kind operation) {
  Json line;
  line["op"] = Kind::kName;
  FieldWriter fields(line);
  describe(fields, operation);
  return line.dump(-1, ' ', false, Json::error_handler_t::replace);
}

template <typename Kind>
Result<AnyOperation> parse_as(const Json& line) {
  Kind operation;
  FieldReader fields(line);
  describe(fields, operation);
  TRY(fields.finish());
  if (operation.answered_ns < operation.invoked_ns) {
    return Status(Errc::kInvalidArgument, "answered_ns is before invoked_ns");
  }
  return AnyOperation(std::move(operation));
}

// Tries one kind after the other.
template <size_t index = 0>
Result<AnyOperation> parse(const Json& line) {
  if constexpr (index == std::variant_size_v<AnyOperation>) {
    return Status(Errc::kInvalidArgument, "unknown op " + line["op"].dump());
  } else {
    using Kind = std::variant_alternative_t<index, AnyOperation>;
    return line["op"] == Kind::kName ? parse_as<Kind>(line) : parse<index + 1>(line);
  }
}

}  // namespace

std::string to_json(const AnyOperation& operation) {
  return std::visit([](const auto& kind) { return line_of(kind); }, operation);
}

std::string to_json(const OperationPointer& operation) {
  return std::visit([](const auto* kind) { return line_of(*kind); }, operation);
}

Result<AnyOperation> operation_from_json(const std::string& line) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Status(Errc::kInvalidArgument, "not a JSON object");
  if (!json.contains("op")) return Status(Errc::kInvalidArgument, "field \"op\" is missing");
  return parse(json);
}

void HistoryReader::add(Produce produce) {
  auto& all = history_.all<Produce>();
  const uint64_t first_token = produce.records.empty() ? 0 : produce.records.front().token;
  const auto [at, is_new] = produces_.try_emplace({produce.client, produce.invoked_ns, first_token}, all.size());
  if (is_new) {
    all.push_back(std::move(produce));
  } else {
    all[at->second] = std::move(produce);
  }
}

Status HistoryReader::read(std::istream& lines) {
  std::string line;
  for (size_t number = 1; std::getline(lines, line); ++number) {
    if (line.empty()) continue;
    auto operation = operation_from_json(line);
    const bool was_cut = lines.eof() && line.back() != '}';
    if (!operation.ok() && was_cut) break;
    if (!operation.ok()) return operation.status().with_context("line " + std::to_string(number));
    std::visit(
        [this](auto& kind) {
          if constexpr (std::is_same_v<decltype(kind), Produce&>) {
            add(std::move(kind));
          } else {
            history_.add(std::move(kind));
          }
        },
        *operation);
  }
  if (lines.bad()) return Status(Errc::kIo, "reading failed");
  return ok_status();
}

}  // namespace trilog::history
