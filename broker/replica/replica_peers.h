// ReplicaPeers: what the replicas of one shard know of the brokers around them. Only facts; who acts on them decides.
#pragma once

#include <cstdint>
#include <map>

#include "broker/metadata/metadata_image.h"
#include "storage/base/ids.h"

namespace trilog {

struct ReplicaPeers {
  struct Peer {
    bool connected = false;                   // on the replication channel
    int64_t unanswered_since_ns = INT64_MAX;  // the oldest push it has not answered; INT64_MAX: none
  };

  BrokerId self = kNoBroker;
  int64_t silence_ns_max = 0;  // the session time
  int64_t lag_ns_max = 0;      // how long an in-sync replica may be behind
  ImagePtr image;
  BrokerEpoch self_epoch{-1};  // of this process, once it is registered
  int64_t controller_contact_ns = INT64_MIN;
  std::map<BrokerId, Peer> peers;

  // In this node's own view (R1).
  bool reachable(BrokerId broker, int64_t now_ns) const {
    if (broker == self) return true;
    auto found = peers.find(broker);
    if (found == peers.end() || !found->second.connected) return false;
    return found->second.unanswered_since_ns == INT64_MAX ||
           now_ns - found->second.unanswered_since_ns <= silence_ns_max;
  }
  // R18: counted from when the last confirmed heartbeat was sent.
  bool controller_silent(int64_t now_ns) const {
    return controller_contact_ns == INT64_MIN || now_ns - controller_contact_ns > silence_ns_max;
  }
  // Whether the metadata speaks of this very process. Before it does, the state it shows is of an earlier one, whose
  // unsynced records may be lost here and present elsewhere: leading on in the same epoch would write other records at
  // the same offsets.
  bool incarnation_known() const {
    const BrokerImage* broker = image ? image->find_broker(self) : nullptr;
    return broker != nullptr && self_epoch >= BrokerEpoch(0) && broker->epoch == self_epoch;
  }
};

}  // namespace trilog
