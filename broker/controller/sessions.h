// Sessions: who is alive, as far as the active controller knows. All of it is memory of one term of office: a new
// controller starts every session in full (C5) and calls the roll (C3).
//
// The roll call: after a failover nobody knows yet whose process went down with the old controller. A broker that is
// registered and not fenced counts as undecided until its process was heard, was found gone, or its session ended.
// Until nobody is undecided no process is taken out of any ISR; then all that are gone leave together. One by one, the
// first to register after a power cut would leave an ISR of dead processes behind and count for nothing itself.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>

#include "broker/metadata/metadata_image.h"

namespace trilog {

class Sessions {
 public:
  explicit Sessions(int64_t timeout_ns) : timeout_ns_(timeout_ns) {}

  // --- connections, also while another node is the controller
  void connected(BrokerId broker) { refusals_.erase(broker); }
  // A hint (C5): two refusals kRefusalsApart_ns apart, with nothing heard in between, mean that the process is gone
  // which was the registered one by then, `epoch`. They say nothing of one that registers later: it may be cut off from
  // here.
  void refused(BrokerId broker, BrokerEpoch epoch, int64_t now_ns);

  // --- office
  // `exempt`: the only voter, whose silence would be its own.
  void take_office(const MetadataImage& image, std::optional<BrokerId> exempt, int64_t now_ns);
  void leave_office();
  // A new process; its session begins.
  void registered(BrokerId broker, BrokerEpoch epoch, int64_t now_ns);
  // A sign of life of the process with that epoch. `applied` as in a heartbeat.
  void heard(BrokerId broker, BrokerEpoch epoch, std::optional<Offset> applied, int64_t now_ns);
  // Somebody else answers for it, or nobody registered: the process is no more.
  void found_gone(BrokerId broker);
  // This node slept: what the sessions missed was its own fault.
  void restart_all(int64_t now_ns);

  // Whether a process may be behind the registration still: its session has not ended.
  bool live(BrokerId broker, int64_t now_ns) const;
  // Brokers that are not fenced although their session has ended or their process is gone.
  std::map<BrokerId, BrokerEpoch> ended(const MetadataImage& image, int64_t now_ns) const;
  std::set<BrokerId> undecided(const MetadataImage& image, int64_t now_ns) const;
  // When the next session of a broker that is not fenced ends, unless it is heard; nothing if there is none.
  std::optional<int64_t> next_end(const MetadataImage& image) const;
  // The metadata offset up to which the broker has told to be; kNoOffset if it has not.
  Offset applied(BrokerId broker) const;

  // F14. How far the broker's wall clock was ahead of this node's when it was last heard, and whether more than half of
  // the live brokers that told theirs have the same time as it, within kClocksApart_ms.
  void clock_told(BrokerId broker, int64_t ahead_ms);
  bool clock_agrees(BrokerId broker, int64_t now_ns) const;

  // S8: whether the broker's disk takes records, as it told last, and all whose disk does not. True if that is news.
  bool disk_told(BrokerId broker, bool full);
  std::set<BrokerId> with_full_disk() const;

  // C9: where the hand-over of a broker that shuts down was committed.
  void handed_over(BrokerId broker, Offset at) { handed_over_[broker] = at; }
  std::optional<Offset> handed_over_at(BrokerId broker) const;
  // Whether every live broker other than `broker` has applied the metadata log up to `at`.
  bool all_others_applied(const MetadataImage& image, BrokerId broker, Offset at) const;

  static constexpr int64_t kRefusalsApart_ns = 50'000'000;
  static constexpr int64_t kClocksApart_ms = 3'600'000;

 private:
  struct Session {
    BrokerEpoch epoch{-1};
    int64_t end_ns = 0;
    bool heard = false;
    bool gone = false;
    Offset applied = kNoOffset;
    std::optional<int64_t> clock_ahead_ms;
    bool disk_full = false;
  };
  struct Refusals {
    BrokerEpoch epoch{-1};
    int64_t first_ns = 0;
    int64_t last_ns = 0;
  };
  bool refused_twice(BrokerId broker, BrokerEpoch epoch) const;
  bool over(BrokerId broker, const Session& session, int64_t now_ns) const;
  const Session* session_of(const BrokerImage& broker) const;

  const int64_t timeout_ns_;
  std::optional<BrokerId> exempt_;
  std::map<BrokerId, Session> sessions_;
  std::map<BrokerId, Refusals> refusals_;
  std::map<BrokerId, Offset> handed_over_;
};

}  // namespace trilog
