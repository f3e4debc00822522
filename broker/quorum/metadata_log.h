// MetadataLog: the replicated log of metadata. Drives the Raft state machine: persist -> send -> commit -> apply.
// Carries opaque bytes and knows nothing of their meaning. Rules Q1-Q12.
//
// Folder `metadata/`: <base>.log (entries as record batches of a storage Log, term = batch epoch), `vote` (term and
// vote), `durable` (exact durable mark), `<offset>-<term>.snapshot`; `voters` (to form with) and `learner` (this
// folder's own directory id, once it took the place of a lost or damaged one). A crash anywhere leaves what was
// committed.
//
// Several voters (3 or 5) talk over a PeerTransport. An empty folder neither votes nor leads; a cluster forms once,
// when every configured voter says "empty" in its hello, or with the set that write_voters() left in every folder (Q8).
// An empty folder takes the cluster id of the others; that of a cluster of empty folders follows from their
// directories. A node whose folder is new or was damaged is a learner: once a leader is there it gets everything again,
// and takes the place of its former self by two committed entries, while all other voters are well (Q9, Q11).
//
// On the thread of shard 0; callbacks are posted, run once, also on close.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/api/peer_transport.h"
#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/env/env.h"

namespace trilog {

struct Voter {
  BrokerId id = kNoBroker;
  DirectoryId directory;
  bool operator==(const Voter&) const = default;
};

// How often a majority of the voters was lost for good, and one that was left went on alone (recover_quorum()). What
// the lost ones say belongs to an earlier time and counts for nothing; equal numbers with different survivors are two
// clusters.
struct QuorumRecovery {
  uint32_t number = 0;
  BrokerId survivor = kNoBroker;
  bool operator==(const QuorumRecovery&) const = default;
};

struct MetadataLogConfig {
  std::string directory;
  ClusterId cluster;  // of an empty folder: to form one alone, else a name that gives way to that of the others
  Voter self;
  // For forming an empty folder; afterwards the VoterSet in the log rules (Q8). Of other nodes only the number counts:
  // their hellos tell the directory.
  std::vector<Voter> voters;
  QuorumRecovery recovery = {};        // of an empty folder that is formed alone
  uint64_t snapshot_bytes = 1u << 20;  // asks for a snapshot after so many bytes of entries
  bool was_member = false;             // this node has registered before: an empty folder is damage, not new (S14)
  int64_t election_timeout_ns = 500'000'000;  // drawn from [this, twice this)
  int64_t heartbeat_ns = 250'000'000;
};

inline constexpr size_t kProposalsWaitingMax = 64;
inline constexpr size_t kProposalBytesMax = 16u << 20;

struct CommittedBatch {
  Offset first;  // of the first record
  Term term;
  std::vector<ByteView> records;  // valid during the call
};

// With several voters the owner of shard 0's place in the transport passes on connection events and kRaft frames (other
// frames and channels' events are ignored here), from open() until close() is done. What is connected already is asked
// for by start().
class MetadataLog : public PeerListener {
 public:
  struct Listener {
    // Every committed batch of records, in order, once since open() (batches below a loaded snapshot are not repeated).
    // A failure stops the node: the log must not be passed over.
    std::function<Status(const CommittedBatch&)> on_commit;
    std::function<Status(Offset applied, ByteView snapshot)> on_snapshot;  // state as of `applied`, replaces everything
    std::function<Bytes()> make_snapshot;                                  // state as of the last on_commit
    // This node leads (with every earlier entry applied, Q5) or no longer does.
    std::function<void(bool leading, Term term)> on_leadership;
    // This empty folder belongs to another cluster than MetadataLogConfig said: to be durable on return, before
    // anything is promised to that cluster. A failure stops the node. Null: only with nodes of the same cluster id.
    std::function<Status(const ClusterId& cluster)> on_cluster = nullptr;
  };

  // Loads vote, snapshot and entries (blocking); an empty folder is formed with `voters` if that is this node alone.
  // kCorruption for damage that this node cannot heal alone (Q11), with the file named.
  // With several voters a damaged folder is no error: the node says so (trouble()) and waits for a leader. `transport`
  // may be null with one voter only; it must outlive the log.
  static Result<std::unique_ptr<MetadataLog>> open(Env& env, MetadataLogConfig config, Listener listener,
                                                   PeerTransport* transport = nullptr);
  // Blocking: makes the folder, and notes the set in it with which the node will form. For whoever makes the folders of
  // all voters before the first of them starts.
  static Status write_voters(Env& env, const std::string& directory, const ClusterId& cluster,
                             const std::vector<Voter>& voters);

  // Starts electing; listeners are called from now on.
  virtual void start() = 0;
  // Appends the records as one batch. `done`: the offset of the first record once the batch is committed and applied
  // (on_commit ran); kFailed if this node does not lead or lost leadership before (the outcome is then unknown).
  // At most kProposalsWaitingMax may wait: more are kBusy. More than kProposalBytesMax: kTooLarge. Proposals made while
  // others are being written go out together, with one sync.
  virtual void propose(std::vector<Bytes> records, UniqueFunction<void(Result<Offset>)> done) = 0;
  // Confirms with a majority that this node still leads (Q7). `done`: the exclusive end of what is applied here, which
  // covers everything committed before the call; kFailed if this node does not lead. At most kProposalsWaitingMax wait.
  // Patiently: within `heartbeat_ns`, at no cost of its own.
  virtual void read_index(bool patiently, UniqueFunction<void(Result<Offset>)> done) = 0;
  virtual bool leading() const = 0;
  virtual Term term() const = 0;
  virtual BrokerId leader() const = 0;   // kNoBroker if not known
  virtual Offset committed() const = 0;  // exclusive end
  // Everything was applied here that was committed when this node first heard of the present leader: what its own
  // former process knew is known again.
  virtual bool current() const = 0;
  // Where the first record of the next proposal will be, if nobody else proposes before and this node goes on leading.
  virtual Offset next_offset() const = 0;
  virtual const std::vector<Voter>& voters() const = 0;
  virtual QuorumRecovery recovery() const = 0;
  // By hand, when a majority of the voters is lost for good: this node becomes the only voter, and all that its log
  // holds is committed. What the lost ones had committed without it is gone. They are not heard any more, should they
  // come back: they follow, and where their log holds something else they begin again with an empty one. `dry`: only
  // whether it may be. `done`: kInvalidArgument if it must not be (there is a leader, or enough voters are within
  // reach, or this node is no voter); ok once this node leads.
  virtual void recover_quorum(bool dry, UniqueFunction<void(Status)> done) = 0;
  // By hand what happens by itself while all other voters are well: the empty folder with which voter `id` came back
  // takes the place of the lost one, if it has caught up and a majority can confirm it. `done`: kNotFound (no such
  // node), kInvalidArgument (must not be, or not yet), kFailed (this node does not lead, or what became of it is not
  // known); ok once it is a voter.
  virtual void replace_voter(BrokerId id, bool dry, UniqueFunction<void(Status)> done) = 0;
  // Why this node takes no part: waiting for others to form the cluster, damaged, learning. Empty: it does.
  virtual std::string trouble() const = 0;
  // A leader of several hands the leadership over first, if that is quick (C9).
  virtual void close(UniqueFunction<void(Status)> done) = 0;
};

}  // namespace trilog
