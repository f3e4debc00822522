// RaftMetadataLog: the MetadataLog there is. Raft decides, RaftLog keeps, RaftLink carries; here is what connects them.
// metadata_log.cc: starting, proposing, applying. metadata_members.cc: who belongs to the quorum (Q8, Q9, Q11).
// quorum_loss.cc: what is done by hand when members are lost.
//
//   phase        on the disk                        what the node does
//   kEmpty       nothing that was promised          says "empty"; forms when all do, or when told the set it is in
//   kForming     being written
//   kFormed      the first set of voters            waits until all others have it, too; then nothing holds it back
//   kDamaged     something that cannot be believed  nothing; when a leader is there the folder is cleared: a learner
//   kRunning     a log, or a learner's beginning    Raft
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "broker/quorum/metadata_log.h"
#include "broker/quorum/raft.h"
#include "broker/quorum/raft_link.h"
#include "broker/quorum/raft_log.h"

namespace trilog {

class RaftMetadataLog final : public MetadataLog {
 public:
  RaftMetadataLog(Env& env, MetadataLogConfig config, Listener listener, PeerTransport* transport);
  // Without close(): as a crash. The Env may be gone already.
  ~RaftMetadataLog() override { *alive_ = nullptr; }

  Status load();
  void start() override;
  void propose(std::vector<Bytes> records, UniqueFunction<void(Result<Offset>)> done) override;
  void read_index(bool patiently, UniqueFunction<void(Result<Offset>)> done) override;
  bool leading() const override { return raft_ && raft_->leading() && !stopped(); }
  Term term() const override { return raft_ ? raft_->term() : log_ ? log_->hard_state().term : Term(0); }
  BrokerId leader() const override { return raft_ ? raft_->leader() : kNoBroker; }
  Offset committed() const override { return raft_ ? raft_->committed() : log_ ? log_->marked_commit() : Offset(0); }
  bool current() const override { return raft_ && raft_->current(); }
  Offset next_offset() const override;
  const std::vector<Voter>& voters() const override { return raft_ ? raft_->voters() : voters_.voters; }
  QuorumRecovery recovery() const override { return raft_ ? raft_->recovery() : voters_.recovery; }
  void recover_quorum(bool dry, UniqueFunction<void(Status)> done) override;
  void replace_voter(BrokerId id, bool dry, UniqueFunction<void(Status)> done) override;
  std::string trouble() const override;
  void close(UniqueFunction<void(Status)> done) override;

  void on_frame(BrokerId from, PeerChannel channel, PeerFrame frame) override;
  void on_connected(const PeerIdentity& peer, PeerChannel channel) override;
  void on_disconnected(BrokerId peer, PeerChannel channel, bool refused) override;

 private:
  enum class Phase { kEmpty, kForming, kFormed, kDamaged, kRunning };
  struct Proposal {
    Term term;  // in which it was made: it must not slip into a later leadership
    std::vector<Bytes> records;
    UniqueFunction<void(Result<Offset>)> done;
  };
  struct Waiting {
    Offset first;
    UniqueFunction<void(Result<Offset>)> done;
  };
  struct Read {
    uint64_t round = 0;
    Offset committed;  // when it was asked
    UniqueFunction<void(Result<Offset>)> done;
  };
  struct Peer {  // what the present connection of the control channel brought
    std::optional<PeerIdentity> identity;
    std::optional<RaftPresence> presence;
    DirectoryId directory;  // that the presence came from
  };

  // metadata_log.cc
  bool stopped() const { return (closing_ && !handing_over_) || failed_; }
  Status open_log();
  void on_message(const RaftMessage& message);
  void begin();
  RaftConfig make_raft_config(SharedBytes no_op);
  Status load_snapshot(const RaftSnapshot& snapshot);
  void process_later();
  void process();
  void hand_over_proposals();
  void act_on(RaftReady ready);
  void persist(RaftPersist work);
  void persisted(const std::optional<RaftSnapshot>& installed);
  Status apply(Offset from, Offset to);
  Status apply_entry(const RaftEntry& entry);
  void lead(const RaftLeadership& leadership);
  void answer_reads();
  void arm_timer();
  void save_snapshot_if_due();
  void answer(UniqueFunction<void(Result<Offset>)> done, Result<Offset> result);
  void fail_waiting(const Status& why);
  void fail(const Status& why);
  void close_if_idle();
  bool hand_over_leadership();
  void stop_handing_over();

  // quorum_loss.cc
  Status check_lost() const;
  void answer_recovery(const Status& status);
  void leave_lost_quorum();
  Status check_replaceable(BrokerId id) const;
  void end_replacing(const Status& status);

  // metadata_members.cc
  void add_member(BrokerId id);
  Status check_formed();
  Status check_empty();
  void be_damaged(const Status& why);
  void tell_whether_empty();
  void stand_first_if_due();
  void consider();
  std::optional<VoterSet> set_of_the_empty() const;
  bool may_come_to_another_cluster() const;
  bool come_to(const ClusterId& cluster);
  bool all_others_formed() const;
  const VoterSet* set_with_this_node(bool running) const;
  const VoterSet* set_without_this_node() const;
  void form(std::optional<VoterSet> voters);
  void become_learner(DirectoryId identity);
  void announce(BrokerId to);
  void announce_to_all();
  void announce_leading();
  void on_presence(const Voter& from, const RaftPresence& presence);
  void change_voters_if_due();
  bool may_change(BrokerId id, const std::vector<Voter>& others) const;
  bool may_grow(const std::vector<Voter>& now) const;
  bool has_caught_up(const RaftPeer& peer) const;
  bool is_well(const Voter& voter) const;
  bool is_well(const RaftPeer& peer) const;
  void propose_voters(std::vector<Voter> voters, const Voter& changed);

  Env& env_;
  MetadataLogConfig config_;  // an empty folder may come to another cluster; nothing else changes
  Listener listener_;
  PeerTransport* const transport_;
  Voter self_;               // with the directory id that the quorum knows
  VoterSet voters_;          // before Raft runs
  VoterSet applied_voters_;  // committed: they go into snapshots
  RaftLink link_;
  std::unique_ptr<RaftLog> log_;  // null while damaged
  std::unique_ptr<Raft> raft_;

  Phase phase_ = Phase::kEmpty;
  bool started_ = false;
  bool learner_ = false;
  bool set_was_given_ = false;  // by write_voters(): all others have it
  std::string damage_;
  std::map<BrokerId, Peer> peers_;  // all other members, whether they are there or not

  std::set<BrokerId> announce_leading_to_;  // once announce_round_ is confirmed
  uint64_t announce_round_ = 0;

  std::deque<Proposal> proposals_;  // not given to Raft yet
  std::deque<Waiting> waiting_;     // in the log, by offset
  std::deque<Read> reads_;
  uint64_t bytes_since_snapshot_ = 0;
  uint64_t snapshot_due_bytes_ = 0;
  TimerId timer_ = 0;
  int64_t timer_deadline_ns_ = INT64_MAX;
  std::optional<RaftPersist> delayed_persist_;
  bool installing_ = false;  // a snapshot of another node is being written
  bool forming_ = false;
  bool process_posted_ = false;
  bool failed_ = false;
  bool closing_ = false;
  bool handing_over_ = false;  // close() waits for another leader
  bool log_closed_ = false;
  UniqueFunction<void(Status)> close_done_;
  UniqueFunction<void(Status)> recovery_done_;
  std::optional<BrokerId> replacing_;  // by hand
  UniqueFunction<void(Status)> replace_done_;
  TimerId replace_timer_ = 0;
  std::shared_ptr<RaftMetadataLog*> alive_;  // null inside once this is gone
};

}  // namespace trilog
