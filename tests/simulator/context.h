// What all parts of one simulation share: the world, the cluster, the history that is judged at the end, and a journal
// for the person who reads a failure.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/history/history.h"
#include "tests/sim/sim_cluster.h"
#include "tests/simulator/gateway.h"

namespace trilog::simulator {

inline constexpr int64_t kMs = 1'000'000;
inline constexpr int64_t kSecond = 1'000 * kMs;
inline constexpr int32_t kReplicas = 3;  // of each topic
inline constexpr size_t kMinInSync = 2;  // the default that goes with them

// What must happen in some seed of a batch: a fault that never does what it is there for tests nothing.
#define TRILOG_SIMULATOR_COUNTERS(X)                                                \
  X(crashes, "processes killed")                                                    \
  X(power_cuts, "nodes without power")                                              \
  X(blackouts, "all nodes without power at once")                                   \
  X(cuts, "links cut")                                                              \
  X(pauses, "processes stopped and continued")                                      \
  X(clean_stops, "clean stops")                                                     \
  X(wipes, "disks replaced by empty ones")                                          \
  X(struck_controllers, "controllers struck when something had to be decided")      \
  X(rotten_metadata, "bits flipped in a metadata log")                              \
  X(bits_flipped, "bits of sealed segments flipped")                                \
  X(damage_mended, "segments mended from other replicas")                           \
  X(read_again, "segments read again that a disk had refused to read")              \
  X(deaths, "processes that ended themselves")                                      \
  X(acknowledged, "records acknowledged")                                           \
  X(read, "records read")                                                           \
  X(commits, "offset commits acknowledged")                                         \
  X(unknown_outcomes, "produce requests with unknown outcome")                      \
  X(refused_honestly, "produce requests answered NOT_WRITTEN")                      \
  X(after_append_errors, "writes refused after the append")                         \
  X(forwarded, "requests answered by a node that does not lead")                    \
  X(retries_deduplicated, "retries recognised")                                     \
  X(retries_deduplicated_across_failover, "retries recognised by another leader")   \
  X(stale_reads, "reads marked stale")                                              \
  X(controller_failovers, "controllers elected")                                    \
  X(leader_elections, "partition leaders elected")                                  \
  X(elr_elections, "leaders elected out of the ELR")                                \
  X(unclean_registrations, "registrations after an unclean stop")                   \
  X(fencings, "nodes fenced")                                                       \
  X(isr_shrinks, "in-sync replicas taken out")                                      \
  X(isr_expansions, "in-sync replicas taken in")                                    \
  X(truncations, "replicas cut where their leader's log goes on differently")       \
  X(torn_tails, "torn tails cut")                                                   \
  X(coordinator_moves, "leaders of the offsets topic elected")                      \
  X(wiped_rejoined, "wiped nodes that joined again")                                \
  X(metadata_repaired, "damaged metadata fetched anew")                             \
  X(snapshots_installed, "metadata that came as a snapshot")                        \
  X(zombie_leaders, "writes refused by a leader that the controller does not hear") \
  X(accepted_losses, "elections with accepted loss")                                \
  X(elections_by_hand, "leaders named by an operator, nothing lost")                \
  X(ack_checks, "acknowledgements found on disks")                                  \
  X(leader_checks, "elected leaders found to have what was acknowledged")

struct Counters {
#define TRILOG_COUNTER_FIELD(name, text) uint64_t name = 0;
  TRILOG_SIMULATOR_COUNTERS(TRILOG_COUNTER_FIELD)
#undef TRILOG_COUNTER_FIELD

  struct Named {
    const char* name;
    const char* text;
    uint64_t Counters::*value;
  };
  static const std::vector<Named>& all() {
#define TRILOG_COUNTER_ROW(name, text) Named{#name, text, &Counters::name},
    static const std::vector<Named> rows = {TRILOG_SIMULATOR_COUNTERS(TRILOG_COUNTER_ROW)};
#undef TRILOG_COUNTER_ROW
    return rows;
  }
  void add(const Counters& other) {
    for (const Named& row : all()) this->*row.value += other.*row.value;
  }
};

// Lines with the virtual time. Keeps the last ones, or shows all at once.
class Journal {
 public:
  explicit Journal(const sim::World& world) : world_(world) {}
  void show(bool all) { show_ = all; }
  void note(const std::string& text);
  std::string tail() const;
  static constexpr size_t kLinesMax = 150;

 private:
  const sim::World& world_;
  bool show_ = false;
  std::deque<std::string> lines_;
};

struct Topic {
  std::string name;
  int32_t partitions = 0;
  api::Durability durability = api::Durability::kSynced;
  TopicId id;  // once it was made
};

struct Context {
  Context(sim::World& the_world, sim::SimCluster& the_cluster)
      : world(the_world),
        cluster(the_cluster),
        gateway(the_cluster),
        journal(the_world),
        random(the_world.random().next()) {}

  int64_t now_ns() const { return world.now_ns(); }
  int64_t draw(int64_t least, int64_t most) {
    return least + static_cast<int64_t>(random.below(static_cast<uint64_t>(most - least + 1)));
  }
  // Any node, rather one that runs.
  int pick_node();
  // The node that leads, as the newest image says; any node if none does.
  int leader_node(const std::string& topic, int32_t partition);
  // Of the node that knows most. Null while nothing runs.
  ImagePtr newest_image() const;
  const PartitionImage* find_partition(const MetadataImage& image, const std::string& topic, int32_t partition) const;
  void violation(std::string what);

  sim::World& world;
  sim::SimCluster& cluster;
  Gateway gateway;
  history::History history;
  Journal journal;
  Counters counters;
  sim::SeededRandom random;
  std::vector<Topic> topics;
  uint64_t next_token = 1;
  bool winding_down = false;  // clients begin nothing new
  std::vector<std::string> violations;
  // Called with each acknowledged write, at the moment the client hears of it.
  std::function<void(const history::Produce&, const Topic&)> on_acknowledged;
};

// "t17:…", the value of a record, and back; 0 if it is none of ours.
std::string value_of(uint64_t token, size_t padding);
uint64_t token_of(std::string_view value);

}  // namespace trilog::simulator
