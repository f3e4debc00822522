#include "broker/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>

#include "storage/base/names.h"

namespace trilog {
namespace {

Status bad_option(std::string_view name, std::string_view value, const std::string& what) {
  return Status(Errc::kInvalidArgument, std::string(name) + " = " + std::string(value.substr(0, 200)) + ": " + what);
}

Result<int64_t> parse_number(std::string_view name, std::string_view text, int64_t min, int64_t max) {
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return bad_option(name, text, "a whole number is wanted");
  if (value < min || value > max) {
    return bad_option(name, text, "must be from " + std::to_string(min) + " to " + std::to_string(max));
  }
  return value;
}

struct Setter {
  OptionInfo info;
  Status (*set)(BrokerOptions& options, std::string_view name, std::string_view value);
};

template <auto kMember, int64_t kMin, int64_t kMax>
Status set_number(BrokerOptions& options, std::string_view name, std::string_view value) {
  options.*kMember =
      static_cast<std::remove_reference_t<decltype(options.*kMember)>>(TRY(parse_number(name, value, kMin, kMax)));
  return {};
}

template <auto kMember>
Status set_text(BrokerOptions& options, std::string_view, std::string_view value) {
  options.*kMember = std::string(value);
  return {};
}

Status set_flag(BrokerOptions& options, std::string_view name, std::string_view value) {
  if (value != "true" && value != "false") return bad_option(name, value, "must be true or false");
  options.auto_create_topics = value == "true";
  return {};
}

// Comma-separated; an empty text is none.
Status set_peers(BrokerOptions& options, std::string_view, std::string_view value) {
  options.peers.clear();
  while (!value.empty()) {
    size_t comma = std::min(value.find(','), value.size());
    std::string_view peer = value.substr(0, comma);
    while (peer.starts_with(' ')) peer.remove_prefix(1);
    if (!peer.empty()) options.peers.emplace_back(peer);
    value.remove_prefix(std::min(comma + 1, value.size()));
  }
  return {};
}

Status set_memory(BrokerOptions& options, std::string_view name, std::string_view value) {
  Result<uint64_t> size = parse_size(value);
  if (!size.ok()) return size.status().with_context(name);
  if (*size < (64u << 20)) return bad_option(name, value, "must be at least 64MiB");
  options.memory_limit = *size;
  return {};
}

constexpr std::array kOptions = {
    Setter{{"advertise", "host:port", "as listened",
            "Where clients reach this node, if not under the address it listens on."},
           set_text<&BrokerOptions::advertise>},
    Setter{{"auto_create_topics", "true|false", "false", "Whether the first produce to a missing topic creates it."},
           set_flag},
    Setter{{"data_dir", "folder", "none: required", "Where the node keeps its data."},
           set_text<&BrokerOptions::data_dir>},
    Setter{{"default_partitions", "count", "1", "Partitions of a topic created without a number."},
           set_number<&BrokerOptions::default_partitions, 1, 10'000>},
    Setter{{"insecure", "text", "none", "The exact sentence of consent that a non-loopback address without TLS needs."},
           set_text<&BrokerOptions::insecure>},
    Setter{{"io_threads", "count", "0: by cores", "Shards, each a thread with its own partitions."},
           set_number<&BrokerOptions::io_threads, 0, 64>},
    Setter{{"listen", "host:port", "localhost:9092", "Where clients connect: gRPC."}, set_text<&BrokerOptions::listen>},
    Setter{{"memory_limit", "size", "512MiB", "Memory for requests and answers in flight, at least 64MiB."},
           set_memory},
    Setter{{"node_id", "count", "1", "This node's number in its cluster; never changes."},
           set_number<&BrokerOptions::node_id, 0, 1'000'000>},
    Setter{{"peer_listen", "host:port", "this node's entry of peers", "Where peers connect, if not there."},
           set_text<&BrokerOptions::peer_listen>},
    Setter{{"peers", "list of id@host:port", "none: a cluster of one",
            "The quorum, 1, 3 or 5 nodes with this one, the same list on all."},
           set_peers},
    Setter{{"rack", "text", "none", "Where this node stands; replicas are spread over racks."},
           set_text<&BrokerOptions::rack>},
};

constexpr auto kInfos = [] {
  std::array<OptionInfo, kOptions.size()> infos{};
  for (size_t i = 0; i < kOptions.size(); ++i) infos[i] = kOptions[i].info;
  return infos;
}();

// "127.example.org" is a name, and may lead anywhere.
bool is_loopback(std::string_view host) {
  bool numbers = host.find_first_not_of("0123456789.") == std::string_view::npos;
  return host == "localhost" || host == "::1" || host == "[::1]" || (host.starts_with("127.") && numbers);
}

struct HostPort {
  std::string host;
  int32_t port = 0;
};

Result<HostPort> parse_host_port(std::string_view name, std::string_view text) {
  size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0 || colon + 1 == text.size()) {
    return bad_option(name, text, "host:port is wanted, for example localhost:9092");
  }
  Result<int64_t> port = parse_number(name, text.substr(colon + 1), 0, 65'535);
  if (!port.ok()) return bad_option(name, text, "the port must be a number from 0 to 65535");
  return HostPort{std::string(text.substr(0, colon)), static_cast<int32_t>(*port)};
}

// A non-loopback address needs consent while there is no TLS.
Status check_reach(std::string_view name, const std::string& text, const HostPort& place,
                   const BrokerOptions& options) {
  if (is_loopback(place.host) || options.insecure == kInsecureConsent) return {};
  return bad_option(name, text,
                    "is not a loopback address, and TLS and authentication are not built yet. Listen on localhost, or "
                    "set insecure = \"" +
                        std::string(kInsecureConsent) + "\"");
}

Status check_peer_address(std::string_view name, const std::string& text, const HostPort& listen,
                          const BrokerOptions& options) {
  HostPort place = TRY(parse_host_port(name, text));
  if (place.port == listen.port && place.host == listen.host && place.port != 0) {
    return bad_option(name, text, "is where clients connect (listen); peers need a port of their own");
  }
  return check_reach(name, text, place, options);
}

}  // namespace

std::span<const OptionInfo> option_infos() { return kInfos; }

Status set_option(BrokerOptions& options, std::string_view name, std::string_view value) {
  for (const Setter& setter : kOptions) {
    if (setter.info.name == name) return setter.set(options, name, value);
  }
  std::vector<std::string> known;
  for (const Setter& setter : kOptions) known.emplace_back(setter.info.name);
  std::optional<std::string> near = most_similar_name(name, known);
  return Status(Errc::kInvalidArgument,
                "no setting " + std::string(name.substr(0, 100)) + (near ? "; did you mean " + *near + "?" : ""));
}

Status read_environment(BrokerOptions& options, const std::map<std::string, std::string>& environment) {
  for (const Setter& setter : kOptions) {
    std::string variable = "TRILOG_";
    for (char c : setter.info.name) variable += static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    auto it = environment.find(variable);
    if (it == environment.end()) continue;
    Status status = setter.set(options, setter.info.name, it->second);
    if (!status.ok()) return status.with_context("environment " + variable);
  }
  return {};
}

Status check_options(const BrokerOptions& options) {
  if (options.data_dir.empty()) {
    return Status(Errc::kInvalidArgument,
                  "data_dir is missing: say where the node keeps its data, for example data_dir = "
                  "\"/var/lib/trilog\"");
  }
  HostPort listen = TRY(parse_host_port("listen", options.listen));
  if (!options.advertise.empty()) (void)TRY(parse_host_port("advertise", options.advertise));
  TRY(check_reach("listen", options.listen, listen, options));
  std::vector<QuorumPeer> peers = TRY(quorum_peers(options));
  if (peers.size() <= 1) return {};
  for (const QuorumPeer& peer : peers) {
    bool own = peer.id.value() == options.node_id;
    if (!own || !options.peer_listen.empty()) continue;
    TRY(check_peer_address("peers", peer.address, listen, options));
  }
  if (!options.peer_listen.empty()) TRY(check_peer_address("peer_listen", options.peer_listen, listen, options));
  return {};
}

Result<std::vector<QuorumPeer>> quorum_peers(const BrokerOptions& options) {
  std::map<BrokerId, std::string> peers;
  std::map<std::string, BrokerId> addresses;
  for (const std::string& peer : options.peers) {
    size_t at = peer.find('@');
    if (at == std::string::npos)
      return bad_option("peers", peer, "id@host:port is wanted, for example 1@10.0.0.1:9093");
    BrokerId id(static_cast<int32_t>(TRY(parse_number("peers", std::string_view(peer).substr(0, at), 0, 1'000'000))));
    std::string address = peer.substr(at + 1);
    HostPort place = TRY(parse_host_port("peers", address));
    if (place.port == 0) return bad_option("peers", peer, "others must know the port");
    if (!peers.emplace(id, address).second) {
      return bad_option("peers", peer, "two nodes have the id " + std::to_string(id.value()));
    }
    auto [other, is_first] = addresses.emplace(address, id);
    if (!is_first) {
      return bad_option("peers", peer, "node " + std::to_string(other->second.value()) + " has the same address");
    }
  }
  std::vector<QuorumPeer> quorum;
  for (const auto& [id, address] : peers) quorum.push_back({id, address});
  if (quorum.empty()) return quorum;
  if (!peers.contains(BrokerId(options.node_id))) {
    std::string ids;
    for (const QuorumPeer& peer : quorum) ids += (ids.empty() ? "" : ", ") + std::to_string(peer.id.value());
    return Status(Errc::kInvalidArgument, "peers = " + ids + ": does not name this node, node_id = " +
                                              std::to_string(options.node_id) + "; the list is the same on all nodes");
  }
  if (quorum.size() != 1 && quorum.size() != 3 && quorum.size() != 5) {
    return Status(Errc::kInvalidArgument, "peers: " + std::to_string(quorum.size()) +
                                              " nodes; a quorum has 1, 3 or 5, of which 0, 1 or 2 may fail");
  }
  return quorum;
}

}  // namespace trilog
