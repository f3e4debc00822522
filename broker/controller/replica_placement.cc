#include "broker/controller/replica_placement.h"

#include <algorithm>
#include <tuple>

#include "storage/base/check.h"

namespace trilog {

std::vector<std::vector<BrokerId>> place_replicas(std::map<BrokerId, BrokerLoad>& brokers, int32_t partitions,
                                                  int32_t replicas) {
  CHECK_LE(1, replicas);
  CHECK_LE(static_cast<size_t>(replicas), brokers.size());
  struct Candidate {
    BrokerId id;
    BrokerLoad* load;
    size_t place;  // in the round
  };
  std::vector<Candidate> candidates;
  for (auto& [id, load] : brokers) candidates.push_back({id, &load, candidates.size()});
  auto by_replicas = [](const Candidate& a, const Candidate& b) {
    return std::tuple(!a.load->up, a.load->replicas, a.place) < std::tuple(!b.load->up, b.load->replicas, b.place);
  };
  auto by_leaders = [](const Candidate& a, const Candidate& b) {
    return std::tuple(!a.load->up, a.load->leaders, a.place) < std::tuple(!b.load->up, b.load->leaders, b.place);
  };
  std::vector<std::vector<BrokerId>> lists;
  for (int32_t p = 0; p < partitions; ++p) {
    auto chosen_end = candidates.begin() + replicas;
    std::partial_sort(candidates.begin(), chosen_end, candidates.end(), by_replicas);
    std::sort(candidates.begin(), chosen_end, by_leaders);
    std::vector<BrokerId> list;
    for (auto chosen = candidates.begin(); chosen != chosen_end; ++chosen) {
      list.push_back(chosen->id);
      ++chosen->load->replicas;
    }
    ++candidates.front().load->leaders;
    lists.push_back(std::move(list));
    for (Candidate& candidate : candidates)
      candidate.place = (candidate.place + candidates.size() - 1) % candidates.size();
  }
  return lists;
}

}  // namespace trilog
