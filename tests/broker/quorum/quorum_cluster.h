// Several metadata logs in one simulated world: disks, network, faults, and what must hold whatever happens. The state
// machine behind each log is the text of all it applied, "offset=text;" for each record.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "broker/quorum/metadata_log.h"
#include "tests/sim/sim_network.h"

namespace trilog::testing {

class QuorumCluster {
 public:
  struct Node {
    BrokerId id;
    DirectoryId directory;  // of the data folder
    ClusterId cluster;
    bool was_member = false;
    std::unique_ptr<sim::SimDisk> disk;
    std::unique_ptr<sim::SimEnv> env;  // none: down
    std::unique_ptr<PeerTransport> transport;
    std::unique_ptr<MetadataLog> log;
    Status error;  // of open()
    Status fatal;  // of any life
    std::string state;
    Offset next{0};  // behind the newest applied record
    Offset committed{0};
    int leads = 0;
    int snapshots = 0;  // loaded
  };

  explicit QuorumCluster(int size, uint64_t seed = 1);
  ~QuorumCluster();

  sim::World& world() { return world_; }
  sim::SimNetwork& network() { return network_; }
  Node& node(int id) { return nodes_.at(id); }
  MetadataLog& log(int id) { return *nodes_.at(id).log; }
  bool up(int id) const { return nodes_.at(id).log != nullptr; }
  int size() const { return static_cast<int>(nodes_.size()); }

  // Opens and starts; false (and the node's `error`) if it cannot.
  bool start(int id);
  void start_all();
  void kill(int id);  // its process: the page cache stays, connections are reset
  void power_cut(int id, const sim::CrashPolicy& policy = {});
  void power_cut_all();
  void new_disk(int id);       // and with it a new directory id; the node is down
  void lose_metadata(int id);  // the folder of the quorum is gone, the data folder is not; the node is down
  void close(int id);          // a clean stop, waited for

  void run_for(int64_t ms);
  // Until somebody leads and the others know it; 0 if that does not come within `ms`.
  int wait_for_leader(int64_t ms = 10'000);
  int leader() const;  // who says so, in the highest term; 0: nobody
  // Proposes on whoever leads; remembered as promised when the answer is a success.
  bool propose(const std::string& text);
  bool propose_on(int id, const std::string& text);
  // Proposes and waits until it is committed, trying again with whoever leads.
  bool commit(const std::string& text, int64_t ms = 10'000);
  // Until all nodes that are up have applied the same, everything promised included.
  bool wait_until_equal(int64_t ms = 20'000);
  bool keeps_every_promise(int id) const;
  // What was promised and applied so far does not bind those who follow: an operator gives it up.
  void history_ends() {
    promised.clear();
    applied_.clear();
    leader_of_term_.clear();
  }
  std::string directories(int id);  // of the voters as this node sees them: "1:…,2:…"
  std::vector<std::string> files(int id, const std::string& part) const;
  void flip_bit(int id, const std::string& file, uint64_t bit);

  MetadataLogConfig config;        // for all; self and was_member are filled in
  bool own_clusters = false;       // each new folder begins with a cluster id of its own
  std::set<std::string> promised;  // "offset=text;"
  int asked = 0;
  int answered = 0;

 private:
  MetadataLog::Listener make_listener(int id);
  void check();  // what holds at any time

  sim::World world_;
  sim::SimNetwork network_;
  std::map<int, Node> nodes_;
  uint64_t next_directory_ = 1;
  std::map<Offset, std::string> applied_;  // by anybody: "term:text"
  std::map<Term, int> leader_of_term_;
};

}  // namespace trilog::testing
