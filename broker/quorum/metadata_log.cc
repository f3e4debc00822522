#include "broker/quorum/metadata_log.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "broker/quorum/raft.h"
#include "broker/quorum/raft_log.h"
#include "storage/base/codec.h"

namespace trilog {

namespace {

// A quorum of one node: it has nobody to send to and nothing to wait for, so there are no timers and no transport here
// yet; open() refuses other sets of voters. Everything below is written for what Raft says, not for one voter.
class RaftMetadataLog final : public MetadataLog {
 public:
  RaftMetadataLog(Env& env, MetadataLogConfig config, Listener listener)
      : env_(env),
        config_(std::move(config)),
        listener_(std::move(listener)),
        self_(std::make_shared<RaftMetadataLog*>(this)) {}
  // Without close(): as a crash. The Env may be gone already.
  ~RaftMetadataLog() override { *self_ = nullptr; }

  Status load();
  void start() override;
  void propose(std::vector<Bytes> records, UniqueFunction<void(Result<Offset>)> done) override;
  bool leading() const override { return raft_ && raft_->leading() && !stopped(); }
  Term term() const override { return raft_ ? raft_->term() : log_->hard_state().term; }
  BrokerId leader() const override { return raft_ ? raft_->leader() : kNoBroker; }
  Offset committed() const override { return raft_ ? raft_->committed() : log_->marked_commit(); }
  Offset next_offset() const override;
  const std::vector<Voter>& voters() const override { return voters_.voters; }
  void close(UniqueFunction<void(Status)> done) override;

 private:
  struct Proposal {
    Term term;  // in which it was made: it must not slip into a later leadership
    std::vector<Bytes> records;
    UniqueFunction<void(Result<Offset>)> done;
  };
  struct Waiting {
    Offset first;
    UniqueFunction<void(Result<Offset>)> done;
  };

  bool stopped() const { return closing_ || failed_; }
  void begin();
  Status load_snapshot();
  void process_later();
  void process();
  void hand_over_proposals();
  void act_on(RaftReady ready);
  void persist(RaftPersist work);
  Status apply(Offset from, Offset to);
  Status apply_entry(const RaftEntry& entry);
  void lead(const RaftLeadership& leadership);
  void save_snapshot_if_due();
  void answer(UniqueFunction<void(Result<Offset>)> done, Result<Offset> result);
  void fail_proposals(const Status& why);
  void fail(const Status& why);
  void close_if_idle();

  Env& env_;
  const MetadataLogConfig config_;
  Listener listener_;
  VoterSet voters_;
  std::unique_ptr<RaftLog> log_;
  std::unique_ptr<Raft> raft_;

  std::deque<Proposal> proposals_;  // not given to Raft yet
  std::deque<Waiting> waiting_;     // in the log, by offset
  uint64_t bytes_since_snapshot_ = 0;
  uint64_t snapshot_due_bytes_ = 0;
  bool forming_ = false;
  bool process_posted_ = false;
  bool failed_ = false;
  bool closing_ = false;
  bool log_closed_ = false;
  UniqueFunction<void(Status)> close_done_;
  std::shared_ptr<RaftMetadataLog*> self_;  // null inside once this is gone
};

Status RaftMetadataLog::load() {
  RaftLogConfig log_config;
  log_config.directory = config_.directory;
  log_config.segment_bytes = std::max<uint64_t>(64u << 10, config_.snapshot_bytes / 2);
  log_ = TRY(RaftLog::open(env_, log_config));
  snapshot_due_bytes_ = config_.snapshot_bytes;
  if (!log_->voters()) {
    if (config_.was_member) {
      return Status(Errc::kCorruption,
                    config_.directory +
                        " is empty, but this node was a member of its cluster: its metadata is lost; "
                        "restore the folder from a copy, or replace this node");
    }
    voters_ = {config_.cluster, config_.voters};
  } else {
    voters_ = *log_->voters();
  }
  if (voters_.cluster != config_.cluster) {
    return Status(Errc::kInvalidArgument, config_.directory + " belongs to cluster " + voters_.cluster.to_string() +
                                              ", this node to " + config_.cluster.to_string());
  }
  bool member = std::find(voters_.voters.begin(), voters_.voters.end(), config_.self) != voters_.voters.end();
  if (!member) {
    return Status(Errc::kInvalidArgument, "node " + std::to_string(config_.self.id.value()) + " with data folder " +
                                              config_.self.directory.to_string() + " is no voter of the cluster in " +
                                              config_.directory);
  }
  if (voters_.voters.size() != 1) {
    return Status(Errc::kUnsupported, config_.directory + " has " + std::to_string(voters_.voters.size()) +
                                          " voters; this version runs clusters of one");
  }
  return ok_status();
}

void RaftMetadataLog::start() {
  CHECK(!raft_ && !forming_);
  if (log_->voters()) {
    env_.executor().post([self = self_] {
      if (*self != nullptr) (*self)->begin();
    });
    return;
  }
  forming_ = true;
  log_->form(voters_, [self = self_](const Status& formed) {
    if (*self == nullptr) return;
    (*self)->forming_ = false;
    if (!formed.ok()) {
      (*self)->fail(formed);
    } else {
      (*self)->begin();
    }
  });
}

void RaftMetadataLog::begin() {
  if (stopped()) return close_if_idle();
  auto no_op = make_no_op_batch(config_.self.id, env_.clock().wall_ms());
  if (!no_op.ok()) return fail(no_op.status());
  Offset applied{0};
  if (log_->start_snapshot()) {
    Status loaded = load_snapshot();
    if (!loaded.ok()) return fail(loaded);
    applied = log_->start_snapshot()->end;
  }
  RaftConfig raft_config;
  raft_config.self = config_.self;
  raft_config.voters = voters_.voters;
  raft_config.no_op = SharedBytes(std::move(*no_op));
  raft_ = std::make_unique<Raft>(std::move(raft_config), log_->hard_state(), std::max(applied, log_->marked_commit()),
                                 applied, *log_, env_.random());
  raft_->start(env_.clock().monotonic_ns());
  process();
}

// The state in a snapshot: the set of voters as of then, sized, and behind it what the listener made.
Status RaftMetadataLog::load_snapshot() {
  const RaftSnapshot& snapshot = *log_->start_snapshot();
  ByteReader in(snapshot.state);
  in.read_sized_bytes();
  Status loaded = listener_.on_snapshot(snapshot.end - 1, in.read_bytes(in.remaining()));
  log_->forget_start_snapshot();
  return loaded;
}

Offset RaftMetadataLog::next_offset() const {
  Offset next = raft_ ? raft_->end() : log_->end();
  for (const Proposal& proposal : proposals_) next = next + static_cast<int64_t>(proposal.records.size());
  return next;
}

void RaftMetadataLog::propose(std::vector<Bytes> records, UniqueFunction<void(Result<Offset>)> done) {
  if (stopped()) return answer(std::move(done), Status(Errc::kFailed, "the metadata log is stopping"));
  if (!leading()) return answer(std::move(done), Status(Errc::kFailed, "this node does not lead the metadata log"));
  if (records.empty()) return answer(std::move(done), Status(Errc::kInvalidArgument, "a proposal without records"));
  if (proposals_.size() + waiting_.size() >= kProposalsWaitingMax) {
    return answer(std::move(done), Status(Errc::kBusy, std::to_string(kProposalsWaitingMax) + " proposals wait"));
  }
  size_t bytes = 0;
  for (const Bytes& record : records) bytes += record.size();
  if (bytes > kProposalBytesMax) {
    return answer(std::move(done), Status(Errc::kTooLarge, "a proposal of " + std::to_string(bytes) +
                                                               " bytes; at most " + std::to_string(kProposalBytesMax)));
  }
  proposals_.push_back({raft_->term(), std::move(records), std::move(done)});
  process_later();
}

void RaftMetadataLog::process_later() {
  if (std::exchange(process_posted_, true)) return;
  env_.executor().post([self = self_] {
    if (*self == nullptr) return;
    (*self)->process_posted_ = false;
    (*self)->process();
  });
}

// Everything Raft has to say until it has no more.
void RaftMetadataLog::process() {
  if (stopped() || !raft_) return close_if_idle();
  hand_over_proposals();
  while (!stopped() && raft_->has_ready()) act_on(raft_->take_ready());
  if (stopped()) return close_if_idle();
  if (!raft_->failure().ok()) return fail(raft_->failure());
  save_snapshot_if_due();
}

void RaftMetadataLog::hand_over_proposals() {
  while (!proposals_.empty()) {
    Proposal proposal = std::move(proposals_.front());
    proposals_.pop_front();
    auto batch = make_data_batch(proposal.records, env_.clock().wall_ms());
    if (!batch.ok()) {
      answer(std::move(proposal.done), batch.status());
      continue;
    }
    std::optional<Offset> first;
    if (proposal.term == raft_->term()) {
      first = raft_->propose(SharedBytes(std::move(*batch)), static_cast<int32_t>(proposal.records.size()));
    }
    if (!first) {
      answer(std::move(proposal.done), Status(Errc::kFailed, "this node no longer leads the metadata log"));
      continue;
    }
    waiting_.push_back({*first, std::move(proposal.done)});
  }
}

void RaftMetadataLog::act_on(RaftReady ready) {
  CHECK(ready.messages.empty());  // nobody to send to
  if (ready.persist) persist(std::move(*ready.persist));
  Status applied = apply(ready.apply_from, ready.apply_to);
  if (!applied.ok()) return fail(applied);
  if (ready.leadership) lead(*ready.leadership);
}

void RaftMetadataLog::persist(RaftPersist work) {
  CHECK(!work.snapshot);  // comes from another node
  log_->persist(std::move(work), raft_->committed(), [self = self_](const Status& status) {
    if (*self == nullptr) return;
    RaftMetadataLog& log = **self;
    if (!status.ok()) return log.closing_ ? log.close_if_idle() : log.fail(status);
    // The own write was the last thing that kept the entries from being committed.
    log.raft_->persisted();
    log.process();
  });
}

Status RaftMetadataLog::apply(Offset from, Offset to) {
  while (from < to) {
    auto entries = TRY(log_->read(from, 1u << 20));
    for (const RaftEntry& entry : entries) {
      if (entry.first >= to) break;
      TRY(apply_entry(entry));
      from = entry.end();
    }
  }
  return ok_status();
}

Status RaftMetadataLog::apply_entry(const RaftEntry& entry) {
  RecordBatch batch = TRY(RecordBatch::parse(entry.batch));
  RaftEntryContent content = TRY(read_entry(batch));
  bytes_since_snapshot_ += entry.batch.size();
  if (content.kind == RaftEntryKind::kData) {
    TRY(listener_.on_commit(CommittedBatch{entry.first, entry.term, std::move(content.records)}));
  }
  if (!waiting_.empty() && waiting_.front().first == entry.first) {
    answer(std::move(waiting_.front().done), entry.first);
    waiting_.pop_front();
  }
  return ok_status();
}

void RaftMetadataLog::lead(const RaftLeadership& leadership) {
  if (!leadership.leading) {
    fail_proposals(Status(Errc::kFailed, "this node lost the leadership of the metadata log; the outcome is unknown"));
  }
  env_.log().info("node ", config_.self.id, leadership.leading ? " leads" : " no longer leads",
                  " the metadata log in term ", leadership.term);
  listener_.on_leadership(leadership.leading, leadership.term);
}

void RaftMetadataLog::save_snapshot_if_due() {
  if (bytes_since_snapshot_ < snapshot_due_bytes_ || log_->snapshots().saving()) return;
  Offset end = raft_->applied();
  auto term = log_->term_before(end);
  CHECK(term.has_value());
  Bytes state;
  ByteWriter out(state);
  out.write_sized_bytes(encode_voter_set(voters_));
  out.write_bytes(listener_.make_snapshot());
  uint64_t covered = std::exchange(bytes_since_snapshot_, 0);
  auto saved = [self = self_, end, covered](const Status& status) {
    if (*self == nullptr) return;
    RaftMetadataLog& log = **self;
    bool again = status.code() == Errc::kDiskFull || status.code() == Errc::kTooLarge;
    if (!status.ok() && !again) return log.fail(status);
    if (!status.ok()) {
      // The log is complete without it. Later again, with more to cover.
      log.env_.log().warning("no metadata snapshot at offset ", end, ": ", status.to_string());
      log.bytes_since_snapshot_ += covered;
      log.snapshot_due_bytes_ = log.bytes_since_snapshot_ + log.config_.snapshot_bytes;
    } else {
      log.snapshot_due_bytes_ = log.config_.snapshot_bytes;
      const auto& sound = log.log_->snapshots().sound();
      // The log goes on reaching back to the older of two, in case the newer one rots.
      if (sound.size() > 1) log.log_->trim(sound.front().end);
    }
    log.process();
  };
  log_->snapshots().save({end, *term, SharedBytes(std::move(state))}, std::move(saved));
}

void RaftMetadataLog::answer(UniqueFunction<void(Result<Offset>)> done, Result<Offset> result) {
  env_.executor().post([done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
}

void RaftMetadataLog::fail_proposals(const Status& why) {
  for (Proposal& proposal : std::exchange(proposals_, {})) answer(std::move(proposal.done), why);
  for (Waiting& waiting : std::exchange(waiting_, {})) answer(std::move(waiting.done), why);
}

// Going on would pass over what is committed, or promise what is not durable.
void RaftMetadataLog::fail(const Status& why) {
  if (!std::exchange(failed_, true)) env_.fatal(why.with_context("metadata log"));
  fail_proposals(Status(Errc::kFailed, "the metadata log failed: " + std::string(why.message())));
  close_if_idle();
}

void RaftMetadataLog::close(UniqueFunction<void(Status)> done) {
  CHECK(!close_done_ && !log_closed_);
  closing_ = true;
  close_done_ = std::move(done);
  fail_proposals(Status(Errc::kFailed, "the metadata log is stopping; the outcome is unknown"));
  process_later();
}

void RaftMetadataLog::close_if_idle() {
  if (!close_done_ || log_closed_ || forming_ || log_->writing() || log_->snapshots().saving()) return;
  log_closed_ = true;
  log_->close([self = self_, failed = failed_](Status status) {
    if (*self == nullptr) return;
    if (failed && status.ok()) status = Status(Errc::kFailed, "the metadata log failed earlier");
    auto done = std::move((*self)->close_done_);
    done(std::move(status));  // may destroy the log
  });
}

}  // namespace

Result<std::unique_ptr<MetadataLog>> MetadataLog::open(Env& env, MetadataLogConfig config, Listener listener) {
  CHECK(!config.voters.empty());
  auto log = std::make_unique<RaftMetadataLog>(env, std::move(config), std::move(listener));
  TRY(log->load());
  return std::unique_ptr<MetadataLog>(std::move(log));
}

}  // namespace trilog
