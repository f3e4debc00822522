// Where the replicas of new partitions go: a pure function of the brokers and what they carry already.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "storage/base/ids.h"

namespace trilog {

struct BrokerLoad {
  bool up = true;         // registered and not fenced
  int64_t replicas = 0;   // it has
  int64_t leaders = 0;    // of partitions whose first replica it is
  std::string rack = {};  // empty: one of its own
};

// `partitions` lists of `replicas` different brokers each; the first of a list is to lead. Every replica goes to the
// broker with the fewest replicas, those that are up first, and among these those in the racks that have the fewest
// replicas of the partition so far, so that the loss of a rack costs as few of them as can be; among those chosen the
// one that is up and has the fewest leaderships comes first. Ties are broken by going round the brokers, so that equal
// brokers get equal shares. The same input gives the same output on every node. 1 <= replicas <= brokers.size()
// (CHECKed). `brokers` is brought up to date.
std::vector<std::vector<BrokerId>> place_replicas(std::map<BrokerId, BrokerLoad>& brokers, int32_t partitions,
                                                  int32_t replicas);

}  // namespace trilog
