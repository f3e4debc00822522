#include "broker/controller/replica_placement.h"

#include <algorithm>
#include <map>
#include <string>
#include <tuple>

#include "storage/base/check.h"

namespace trilog {

namespace {

struct Candidate {
  BrokerId id;
  BrokerLoad* load;
  size_t place;  // in the round
};
using Candidates = std::vector<Candidate>;

// Brings the chosen to the front, one after another.
template <typename Less>
void choose_over_racks(Candidates& candidates, Candidates::iterator chosen_end, Less less) {
  std::map<std::string, int> used;
  auto of_rack = [&](const Candidate& candidate) {
    auto found = used.find(candidate.load->rack);
    return found == used.end() ? 0 : found->second;
  };
  for (auto next = candidates.begin(); next != chosen_end; ++next) {
    auto best = std::min_element(next, candidates.end(), [&](const Candidate& a, const Candidate& b) {
      if (a.load->up != b.load->up) return a.load->up;
      if (of_rack(a) != of_rack(b)) return of_rack(a) < of_rack(b);
      return less(a, b);
    });
    std::iter_swap(next, best);
    if (!next->load->rack.empty()) ++used[next->load->rack];
  }
}

}  // namespace

std::vector<std::vector<BrokerId>> place_replicas(std::map<BrokerId, BrokerLoad>& brokers, int32_t partitions,
                                                  int32_t replicas) {
  CHECK_LE(1, replicas);
  CHECK_LE(static_cast<size_t>(replicas), brokers.size());
  std::vector<Candidate> candidates;
  bool racks = false;
  for (auto& [id, load] : brokers) {
    candidates.push_back({id, &load, candidates.size()});
    racks = racks || !load.rack.empty();
  }
  auto by_replicas = [](const Candidate& a, const Candidate& b) {
    return std::tuple(!a.load->up, a.load->replicas, a.place) < std::tuple(!b.load->up, b.load->replicas, b.place);
  };
  auto by_leaders = [](const Candidate& a, const Candidate& b) {
    return std::tuple(!a.load->up, a.load->leaders, a.place) < std::tuple(!b.load->up, b.load->leaders, b.place);
  };
  std::vector<std::vector<BrokerId>> lists;
  for (int32_t p = 0; p < partitions; ++p) {
    auto chosen_end = candidates.begin() + replicas;
    if (racks) {
      choose_over_racks(candidates, chosen_end, by_replicas);
    } else {
      std::partial_sort(candidates.begin(), chosen_end, candidates.end(), by_replicas);
    }
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
