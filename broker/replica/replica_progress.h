// ReplicaProgress: what the leader of one partition knows of the other replicas: how far each has come, who is in sync,
// and the one change of the in-sync replicas that may be under way (rules R4, R7-R9).
//
// Positions belong to one leader epoch: they are forgotten when another begins. The in-sync replicas are those of the
// committed state with the highest partition epoch seen, whether it came by metadata or by an answer (R8).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "broker/metadata/metadata_image.h"
#include "broker/replica/replica_manager.h"
#include "broker/replica/replica_peers.h"
#include "storage/base/ids.h"

namespace trilog {

class ReplicaProgress {
 public:
  struct Follower {
    BrokerId broker = kNoBroker;
    BrokerEpoch session_epoch{-1};     // the broker epoch of its session in this leader epoch; -1: none
    BrokerEpoch registered_epoch{-1};  // by metadata, if it is not fenced
    bool leaving = false;              // by metadata, it shuts down (C9)
    Offset fetched = kNoOffset;
    Offset durable = kNoOffset;
    int64_t caught_up_ns = INT64_MIN;  // when it last had all that was there
    Offset mark_end{0};                // once it has that, it was caught up at mark_ns
    int64_t mark_ns = INT64_MIN;
  };

  // The own position and what it is compared with, at one moment.
  struct Moment {
    int64_t now_ns = 0;
    Offset counted{0};  // the leader's own
    Offset log_end{0};
    Offset high_watermark{0};
    Offset epoch_start{0};  // log end when the leader epoch began
    int32_t in_sync_min = 1;
  };

  // A leader epoch begins.
  void lead(const ReplicaPeers& peers, bool synced, const PartitionImage& state, Offset log_end, int64_t now_ns);
  // A committed state of the same leader epoch: taken only if it is newer (R8).
  void accept(PartitionEpoch epoch, const std::vector<BrokerId>& isr);
  // Replicas and registrations as metadata has them now.
  void refresh(const ReplicaPeers& peers, const PartitionImage& state);

  void opened(BrokerId broker, BrokerEpoch epoch, Offset fetched, Offset durable, const Moment& at);
  // Ignored unless the broker has a session. Positions do not go back within one.
  void moved(BrokerId broker, Offset fetched, Offset durable, const Moment& at);
  void closed(BrokerId broker, const Moment& at);
  // The leader is about to append behind `end`.
  void appending(Offset end, int64_t now_ns);

  // R4: min over the leader, the maximal ISR and those about to join; nothing below min in-sync (R6), or while a
  // position is unknown.
  std::optional<Offset> committed(const Moment& at, int64_t lag_ns_max) const;
  // The ISR that should be, or nothing if there is nothing to change or a change is under way (R9).
  std::optional<std::vector<BrokerId>> wanted(const Moment& at, int64_t lag_ns_max) const;
  // Somebody in sync is behind: to be looked at again.
  bool anyone_behind(Offset log_end) const;

  // From now on the union of both counts (R7). Returns the change to ask for; answers name it.
  IsrChange propose(const TopicPartition& id, LeaderEpoch epoch, std::vector<BrokerId> isr);
  // Asks for the same again, its outcome being unknown; nothing if there is no such change.
  std::optional<IsrChange> repeat(const TopicPartition& id, LeaderEpoch epoch) const;
  bool change_under_way() const { return proposed_.has_value(); }
  void asked() { outcome_unknown_ = false; }
  void answered_without_outcome() { outcome_unknown_ = proposed_.has_value(); }
  bool outcome_unknown() const { return outcome_unknown_; }
  // It was definitely not made: back to the committed state.
  void withdraw() { proposed_.reset(); }
  uint64_t change_number() const { return change_number_; }

  const std::vector<BrokerId>& isr() const { return isr_; }
  PartitionEpoch partition_epoch() const { return partition_epoch_; }
  const std::vector<Follower>& followers() const { return followers_; }
  bool in_isr(BrokerId broker) const;
  bool in_maximal_isr(BrokerId broker) const;
  Offset counted(const Follower& follower) const { return synced_ ? follower.durable : follower.fetched; }

 private:
  Follower* find(BrokerId broker);
  bool may_join(const Follower& follower) const;
  bool behind(const Follower& follower, const Moment& at, int64_t lag_ns_max) const;
  IsrChange change(const TopicPartition& id, LeaderEpoch epoch, const std::vector<BrokerId>& isr) const;

  BrokerId self_ = kNoBroker;
  BrokerEpoch self_epoch_{-1};
  bool synced_ = true;
  std::vector<BrokerId> replicas_;
  std::vector<BrokerId> isr_;
  PartitionEpoch partition_epoch_{-1};
  std::vector<Follower> followers_;  // in the order of the assignment
  std::optional<std::vector<BrokerId>> proposed_;
  uint64_t change_number_ = 0;
  bool outcome_unknown_ = false;
};

}  // namespace trilog
