// What `trilog up` is going to do, checked before anything is touched.
#pragma once

#include <string>
#include <vector>

#include "broker/cluster_folder.h"
#include "broker/options.h"
#include "broker/runtime/port_reservation.h"
#include "client/cli/node_options.h"

namespace trilog {

inline constexpr int kDefaultClientPort = 9092;

struct TopicWanted {
  std::string name;
  int32_t partitions = 0;  // 0: the default
};

struct ClusterPlan {
  ClusterFolder folder;
  bool is_new = false;
  int nodes = 1;
  BrokerOptions broker;             // of node 1; of several, what they have in common
  std::vector<std::string> listen;  // one node: every address; several: the host of all
  std::vector<int> client_ports;    // of several nodes, by node
  std::vector<int> peer_ports;
  std::vector<PortReservation> reserved;  // with --port any: nobody else gets them while this lives
  std::vector<TopicWanted> topics;
};

// kInvalidArgument: wrong usage, with the reason.
Result<ClusterPlan> make_cluster_plan(const cli::UpOptions& options);

}  // namespace trilog
