#include "broker/dev_plan.h"

#include <charconv>
#include <utility>

#include "broker/node.h"

namespace trilog {
namespace {

constexpr int32_t kDefaultPartitions = 6;
constexpr int kLastPort = 65'535;

Status usage(std::string message) { return {Errc::kInvalidArgument, std::move(message)}; }

Result<int> parse_port(const std::string& text) {
  if (text.empty()) return kDefaultClientPort;
  if (text == "any") return 0;
  int port = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port < 1 || port > 65'535) {
    return usage("--port " + text + ": a number from 1 to 65535 is wanted, or any");
  }
  return port;
}

// "0.0.0.0" and "0.0.0.0:9092" alike; "::1" needs its brackets only with a port.
std::string with_port(const std::string& address, int port) {
  bool is_bare_v6 = address.find(':') != address.rfind(':') && address.front() != '[';
  if (is_bare_v6) return "[" + address + "]:" + std::to_string(port);
  bool has_port = address.find(':') != std::string::npos && address.back() != ']';
  return has_port ? address : address + ":" + std::to_string(port);
}

Result<TopicWanted> parse_topic(const std::string& text) {
  TopicWanted topic;
  size_t colon = text.rfind(':');
  topic.name = text.substr(0, colon);
  if (colon == std::string::npos) return topic;
  const char* first = text.data() + colon + 1;
  const char* last = text.data() + text.size();
  auto [end, error] = std::from_chars(first, last, topic.partitions);
  if (error != std::errc() || end != last || topic.partitions < 1) {
    return usage("--topic " + text + ": NAME or NAME:PARTITIONS is wanted, for example orders:6");
  }
  return topic;
}

// "--listen" with several nodes: one host, without a port.
Result<std::string> shared_host(const std::vector<std::string>& listen) {
  if (listen.empty()) return std::string("localhost");
  const std::string& host = listen.front();
  bool is_v6 = host.find(':') != host.rfind(':');
  if (listen.size() > 1 || host.empty() || (!is_v6 && host.find(':') != std::string::npos) ||
      (host.front() == '[' && host.back() != ']')) {
    return usage("--listen with several nodes takes one address without a port; ports come from --port");
  }
  return host;
}

// Clients on P … P+N-1, peers on P+N … P+2N-1.
Status choose_ports(ClusterPlan& plan, int port) {
  int last = port + 2 * plan.nodes - 1;
  if (port != 0 && last > kLastPort) {
    return usage("--port " + std::to_string(port) + ": " + std::to_string(plan.nodes) + " nodes need the ports up to " +
                 std::to_string(last));
  }
  for (int i = 0; i < 2 * plan.nodes; ++i) {
    int chosen = port + i;
    if (port == 0) {
      plan.reserved.push_back(TRY(PortReservation::make()));
      chosen = plan.reserved.back().port();
    }
    (i < plan.nodes ? plan.client_ports : plan.peer_ports).push_back(chosen);
  }
  return {};
}

Status check_listen(ClusterPlan& plan, const cli::UpOptions& options, const std::string& address) {
  plan.broker.listen = address;
  Status status = check_options(plan.broker);
  if (status.ok()) return {};
  bool consent_missing = !options.insecure && !options.listen.empty();
  return Status(status.code(), std::string(status.message()) + (consent_missing ? "; with up: --insecure" : ""));
}

std::string nodes_text(int nodes) { return std::to_string(nodes) + (nodes == 1 ? " node" : " nodes"); }

}  // namespace

Result<ClusterPlan> make_cluster_plan(const cli::UpOptions& options) {
  ClusterPlan plan{.folder = ClusterFolder(options.data)};
  std::optional<int> held = TRY(plan.folder.nodes());
  plan.is_new = !held.has_value();
  plan.nodes = options.nodes.value_or(held.value_or(1));
  if (held && plan.nodes != *held) {
    return usage(options.data + " holds a cluster of " + nodes_text(*held) + "; start it with --nodes " +
                 std::to_string(*held) + " or give another --data");
  }
  if (plan.nodes != 1 && plan.nodes != 3 && plan.nodes != 5) {
    return usage("--nodes " + std::to_string(plan.nodes) +
                 ": a cluster has 1, 3 or 5 nodes, of which 0, 1 or 2 may fail");
  }
  int port = TRY(parse_port(options.port));
  plan.broker.data_dir = plan.folder.node_path(1);
  plan.broker.auto_create_topics = !options.strict;
  plan.broker.default_partitions = kDefaultPartitions;
  if (options.insecure) plan.broker.insecure = kInsecureConsent;
  TRY(apply_environment_and_sets(plan.broker, options.set));
  if (plan.nodes > 1) {
    plan.listen.push_back(TRY(shared_host(options.listen)));
    TRY(choose_ports(plan, port));
    TRY(check_listen(plan, options, with_port(plan.listen.front(), plan.client_ports.front())));
  } else {
    for (const std::string& address : options.listen) {
      if (address.empty()) return usage("--listen needs an address, for example 0.0.0.0");
      plan.listen.push_back(with_port(address, port));
    }
    if (plan.listen.empty()) plan.listen.push_back("localhost:" + std::to_string(port));
    for (const std::string& address : plan.listen) TRY(check_listen(plan, options, address));
  }
  for (const std::string& text : options.topics) plan.topics.push_back(TRY(parse_topic(text)));
  return plan;
}

}  // namespace trilog
