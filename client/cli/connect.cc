// What commands share: connecting, and finding a place in a topic.
#include "client/cli/commands.h"

namespace trilog::cli {

std::unique_ptr<client::Client> connect(const CommonOptions& common) {
  client::ClientOptions options;
  options.servers.clear();
  std::string_view rest = common.server;
  while (!rest.empty()) {
    size_t comma = std::min(rest.find(','), rest.size());
    if (comma > 0) options.servers.emplace_back(rest.substr(0, comma));
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  options.timeout_ms = common.timeout_ms;
  options.name = "trilog-cli/0.1.0";
  return client::Client::connect(std::move(options));
}

client::Outcome<std::map<int32_t, int64_t>> resolve_place(client::Admin& admin, const std::string& topic,
                                                          const Place& place) {
  std::map<int32_t, int64_t> offsets;
  client::OffsetSpec spec = place.kind == Place::Kind::kEnd    ? client::OffsetSpec::kLatest
                            : place.kind == Place::Kind::kTime ? client::OffsetSpec::kTimestamp
                                                               : client::OffsetSpec::kEarliest;
  auto listed = admin.list_offsets(topic, spec, place.value);
  if (!listed.ok()) return listed.error();
  for (const client::ListedOffset& each : listed.value()) {
    if (each.error) return *each.error;
    offsets[each.partition] = place.kind == Place::Kind::kOffset ? place.value : each.offset;
  }
  return offsets;
}

}  // namespace trilog::cli
