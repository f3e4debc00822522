#include "broker/quorum/metadata_log.h"

#include <algorithm>
#include <utility>

#include "broker/quorum/quorum_folder.h"
#include "broker/quorum/raft_metadata_log.h"
#include "storage/base/codec.h"

namespace trilog {

namespace {

constexpr int64_t kHandOverNs = 200'000'000;  // close() waits so long for another leader

// The state in a snapshot: the set of voters as of then, sized, and behind it what the listener made.
struct SnapshotState {
  VoterSet voters;
  ByteView listener;
};
Result<SnapshotState> read_state(ByteView bytes) {
  ByteReader in(bytes);
  SnapshotState state;
  state.voters = TRY(decode_voter_set(in.read_sized_bytes()));
  state.listener = in.read_bytes(in.remaining());
  return state;
}

}  // namespace

RaftMetadataLog::RaftMetadataLog(Env& env, MetadataLogConfig config, Listener listener, PeerTransport* transport)
    : env_(env),
      config_(std::move(config)),
      listener_(std::move(listener)),
      transport_(transport),
      self_(config_.self),
      voters_{config_.cluster, config_.voters, config_.recovery},
      link_(env, transport, config_.cluster, config_.self,
            {[this](const RaftMessage& message) { on_message(message); },
             [this](const Voter& from, const RaftPresence& presence) { on_presence(from, presence); },
             [this](BrokerId to) {
               if (raft_) raft_->snapshot_moves(to, env_.clock().monotonic_ns());
             }}),
      alive_(std::make_shared<RaftMetadataLog*>(this)) {
  snapshot_due_bytes_ = config_.snapshot_bytes;
  for (const Voter& voter : config_.voters) add_member(voter.id);
}

// --- starting ------------------------------------------------------------------------------------------------------

Status RaftMetadataLog::open_log() {
  RaftLogConfig log_config;
  log_config.directory = config_.directory;
  log_config.segment_bytes = std::max<uint64_t>(64u << 10, config_.snapshot_bytes / 2);
  log_config.learner = learner_;
  log_ = TRY(RaftLog::open(env_, log_config));
  if (log_->voters()) voters_ = *log_->voters();
  for (const Voter& voter : voters_.voters) add_member(voter.id);
  return ok_status();
}

void RaftMetadataLog::start() {
  CHECK(!std::exchange(started_, true));
  for (auto& [id, peer] : peers_) {
    if (transport_ != nullptr && transport_->connected(id, PeerChannel::kControl)) {
      peer.identity = transport_->identity(id);
    }
  }
  if (phase_ == Phase::kEmpty && learner_) return form(std::nullopt);
  if (phase_ == Phase::kEmpty && (peers_.empty() || set_was_given_)) return form(voters_);
  env_.executor().post([alive = alive_] {
    if (*alive == nullptr) return;
    RaftMetadataLog& log = **alive;
    if (log.stopped()) return log.close_if_idle();
    log.phase_ == Phase::kRunning ? log.begin() : log.consider();
  });
}

void RaftMetadataLog::begin() {
  if (stopped()) return close_if_idle();
  phase_ = Phase::kRunning;
  auto no_op = make_no_op_batch(config_.self.id, env_.clock().wall_ms());
  if (!no_op.ok()) return fail(no_op.status());
  applied_voters_ = {config_.cluster, log_->first_voters().voters, log_->first_voters().recovery};
  Offset applied{0};
  if (log_->start_snapshot()) {
    Status loaded = load_snapshot(*log_->start_snapshot());
    if (!loaded.ok()) return fail(loaded);
    applied = log_->start_snapshot()->end;
    log_->forget_start_snapshot();
  }
  raft_ = std::make_unique<Raft>(make_raft_config(SharedBytes(std::move(*no_op))), log_->hard_state(),
                                 std::max(applied, log_->marked_commit()), applied, *log_, env_.random());
  int64_t now = env_.clock().monotonic_ns();
  for (const auto& [id, peer] : peers_) {
    if (peer.presence) raft_->peer_present({id, peer.directory}, now);
  }
  raft_->start(now);
  announce_to_all();
  stand_first_if_due();
  process();
}

RaftConfig RaftMetadataLog::make_raft_config(SharedBytes no_op) {
  RaftConfig config;
  config.self = self_;
  config.voters = log_->first_voters().voters;
  config.recovery = log_->first_voters().recovery;
  config.voter_changes = log_->voter_changes();
  for (const auto& [id, peer] : peers_) config.known.push_back(id);
  config.no_op = std::move(no_op);
  config.election_timeout_ns = config_.election_timeout_ns;
  config.heartbeat_ns = config_.heartbeat_ns;
  config.voters_in_entry = [](const RaftEntry& entry) -> std::optional<RaftVoters> {
    auto set = voters_in_batch(entry.batch);
    return set ? std::optional(RaftVoters{entry.first, std::move(set->voters), set->recovery}) : std::nullopt;
  };
  config.voters_in_snapshot = [](const RaftSnapshot& snapshot) {
    auto state = read_state(snapshot.state);
    CHECK(state.ok());  // on_message() has looked
    return RaftVoters{snapshot.end - 1, std::move(state->voters.voters), state->voters.recovery};
  };
  return config;
}

Status RaftMetadataLog::load_snapshot(const RaftSnapshot& snapshot) {
  SnapshotState state = TRY(read_state(snapshot.state));
  applied_voters_ = std::move(state.voters);
  return listener_.on_snapshot(snapshot.end - 1, state.listener);
}

// --- what comes from others ----------------------------------------------------------------------------------------

void RaftMetadataLog::on_frame(BrokerId from, PeerChannel, PeerFrame frame) {
  if (frame.kind == PeerKind::kRaft && started_ && !stopped() && peers_.contains(from)) link_.on_frame(from, frame);
}

void RaftMetadataLog::on_message(const RaftMessage& message) {
  if (!raft_) return;
  const auto* install = std::get_if<RaftInstall>(&message.body);
  if (install != nullptr && !read_state(install->snapshot.state).ok()) {
    env_.log().warning("a snapshot from node ", message.from, " has no set of voters; dropped");
    return;
  }
  raft_->step(message, env_.clock().monotonic_ns());
  process_later();
}

// --- proposals -----------------------------------------------------------------------------------------------------

Offset RaftMetadataLog::next_offset() const {
  Offset next = raft_ ? raft_->end() : log_ ? log_->end() : Offset(0);
  for (const Proposal& proposal : proposals_) next = next + static_cast<int64_t>(proposal.records.size());
  return next;
}

void RaftMetadataLog::propose(std::vector<Bytes> records, UniqueFunction<void(Result<Offset>)> done) {
  if (closing_ || failed_) return answer(std::move(done), Status(Errc::kFailed, "the metadata log is stopping"));
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

void RaftMetadataLog::read_index(bool patiently, UniqueFunction<void(Result<Offset>)> done) {
  if (closing_ || !leading()) {
    return answer(std::move(done), Status(Errc::kFailed, "this node does not lead the metadata log"));
  }
  if (reads_.size() >= kProposalsWaitingMax) {
    return answer(std::move(done), Status(Errc::kBusy, std::to_string(kProposalsWaitingMax) + " reads wait"));
  }
  reads_.push_back({raft_->ask_round(patiently), raft_->committed(), std::move(done)});
  process_later();
}

void RaftMetadataLog::answer_reads() {
  if (reads_.empty()) return;
  uint64_t confirmed = raft_->confirmed_round();
  while (!reads_.empty() && reads_.front().round <= confirmed && reads_.front().committed <= raft_->applied()) {
    answer(std::move(reads_.front().done), raft_->applied());
    reads_.pop_front();
  }
}

// --- the loop ------------------------------------------------------------------------------------------------------

void RaftMetadataLog::process_later() {
  if (std::exchange(process_posted_, true)) return;
  env_.executor().post([alive = alive_] {
    if (*alive == nullptr) return;
    (*alive)->process_posted_ = false;
    (*alive)->process();
  });
}

// Everything Raft has to say until it has no more.
void RaftMetadataLog::process() {
  if (stopped() || !raft_) return close_if_idle();
  hand_over_proposals();
  while (!stopped() && raft_->has_ready()) act_on(raft_->take_ready());
  if (stopped()) return close_if_idle();
  if (!raft_->failure().ok()) return fail(raft_->failure());
  if (raft_->superseded()) return leave_lost_quorum();
  answer_reads();
  announce_leading();
  save_snapshot_if_due();
  change_voters_if_due();
  arm_timer();
  if (handing_over_ && raft_->role() != Raft::Role::kLeader && raft_->leader() != kNoBroker) stop_handing_over();
}

// One timer, which may come early: a deadline that moves on does not cost a call each time.
void RaftMetadataLog::arm_timer() {
  int64_t next = raft_->next_deadline_ns();
  if (next == INT64_MAX || (timer_ != 0 && timer_deadline_ns_ <= next)) return;
  if (timer_ != 0) env_.executor().cancel(timer_);
  timer_deadline_ns_ = next;
  timer_ = env_.executor().schedule_after(std::max<int64_t>(0, next - env_.clock().monotonic_ns()), [alive = alive_] {
    if (*alive == nullptr) return;
    RaftMetadataLog& log = **alive;
    log.timer_ = 0;
    if (log.stopped()) return;
    log.raft_->tick(log.env_.clock().monotonic_ns());
    log.process();
  });
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
  if (ready.persist) persist(std::move(*ready.persist));
  for (RaftMessage& message : ready.messages) link_.send(std::move(message));
  Status applied = apply(ready.apply_from, ready.apply_to);
  if (!applied.ok()) return fail(applied);
  if (ready.leadership) lead(*ready.leadership);
}

void RaftMetadataLog::persist(RaftPersist work) {
  if (work.snapshot && log_->snapshots().saving()) {
    delayed_persist_ = std::move(work);  // an own snapshot, which this one replaces, is being saved
    return;
  }
  std::optional<RaftSnapshot> snapshot = work.snapshot;
  installing_ = snapshot.has_value();
  log_->persist(std::move(work), raft_->committed(), [alive = alive_, snapshot](const Status& status) {
    if (*alive == nullptr) return;
    RaftMetadataLog& log = **alive;
    log.installing_ = false;
    if (!status.ok()) return log.closing_ ? log.close_if_idle() : log.fail(status);
    log.persisted(snapshot);
  });
}

// The own write was perhaps the last thing that kept the entries from being committed.
void RaftMetadataLog::persisted(const std::optional<RaftSnapshot>& installed) {
  if (installed && !stopped()) {
    env_.log().info("metadata up to offset ", installed->end, " came as a snapshot");
    Status loaded = load_snapshot(*installed);
    if (!loaded.ok()) return fail(loaded);
    bytes_since_snapshot_ = 0;
  }
  raft_->persisted();
  process();
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
  if (content.kind == RaftEntryKind::kVoters) {
    applied_voters_ = TRY(decode_voter_set(content.records.front()));
    env_.log().info("from offset ", entry.first, " on the voters are ", to_string(applied_voters_));
  }
  if (!waiting_.empty() && waiting_.front().first == entry.first) {
    answer(std::move(waiting_.front().done), entry.first);
    waiting_.pop_front();
  }
  return ok_status();
}

void RaftMetadataLog::lead(const RaftLeadership& leadership) {
  if (!leadership.leading) {
    announce_leading_to_.clear();
    fail_waiting(Status(Errc::kFailed, "this node lost the leadership of the metadata log; the outcome is unknown"));
  }
  env_.log().info("node ", config_.self.id, leadership.leading ? " leads" : " no longer leads",
                  " the metadata log in term ", leadership.term);
  listener_.on_leadership(leadership.leading, leadership.term);
  if (leadership.leading && recovery_done_) answer_recovery(ok_status());
  if (leadership.leading) announce_to_all();  // who is no member may come in now
}

void RaftMetadataLog::save_snapshot_if_due() {
  if (bytes_since_snapshot_ < snapshot_due_bytes_ || log_->snapshots().saving() || installing_) return;
  Offset end = raft_->applied();
  auto term = log_->term_before(end);
  CHECK(term.has_value());
  Bytes state;
  ByteWriter out(state);
  out.write_sized_bytes(encode_voter_set(applied_voters_));
  out.write_bytes(listener_.make_snapshot());
  uint64_t covered = std::exchange(bytes_since_snapshot_, 0);
  auto saved = [alive = alive_, end, covered](const Status& status) {
    if (*alive == nullptr) return;
    RaftMetadataLog& log = **alive;
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
    if (log.delayed_persist_ && !log.stopped()) log.persist(*std::exchange(log.delayed_persist_, std::nullopt));
    log.process();
  };
  log_->snapshots().save({end, *term, SharedBytes(std::move(state))}, std::move(saved));
}

void RaftMetadataLog::answer(UniqueFunction<void(Result<Offset>)> done, Result<Offset> result) {
  env_.executor().post([done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
}

void RaftMetadataLog::fail_waiting(const Status& why) {
  for (Proposal& proposal : std::exchange(proposals_, {})) answer(std::move(proposal.done), why);
  for (Waiting& waiting : std::exchange(waiting_, {})) answer(std::move(waiting.done), why);
  for (Read& read : std::exchange(reads_, {})) answer(std::move(read.done), why);
  if (recovery_done_) answer_recovery(why);
  if (replacing_) end_replacing(why);
}

// Going on would pass over what is committed, or promise what is not durable.
void RaftMetadataLog::fail(const Status& why) {
  if (!std::exchange(failed_, true)) env_.fatal(why.with_context("metadata log"));
  fail_waiting(Status(Errc::kFailed, "the metadata log failed: " + std::string(why.message())));
  close_if_idle();
}

// --- stopping ------------------------------------------------------------------------------------------------------

void RaftMetadataLog::close(UniqueFunction<void(Status)> done) {
  CHECK(!close_done_ && !log_closed_);
  bool hands_over = leading() && hand_over_leadership();
  closing_ = true;
  handing_over_ = hands_over;
  close_done_ = std::move(done);
  fail_waiting(Status(Errc::kFailed, "the metadata log is stopping; the outcome is unknown"));
  process_later();
}

// To the voter that lacks least (C9): the others then do without an election timeout.
bool RaftMetadataLog::hand_over_leadership() {
  std::optional<std::pair<Offset, BrokerId>> best;
  for (const Voter& voter : raft_->voters()) {
    if (voter.id == self_.id || !is_well(voter)) continue;
    best = std::max(best, std::optional(std::pair(raft_->peer(voter.id)->match, voter.id)));
  }
  if (!best || !raft_->transfer_leadership(best->second, env_.clock().monotonic_ns())) return false;
  env_.executor().schedule_after(kHandOverNs, [alive = alive_] {
    if (*alive != nullptr) (*alive)->stop_handing_over();
  });
  return true;
}

void RaftMetadataLog::stop_handing_over() {
  if (!std::exchange(handing_over_, false)) return;
  process_later();
}

void RaftMetadataLog::close_if_idle() {
  if (!close_done_ || log_closed_ || forming_ || handing_over_) return;
  if (log_ && (log_->writing() || log_->snapshots().saving())) return;
  log_closed_ = true;
  if (timer_ != 0) env_.executor().cancel(std::exchange(timer_, 0));
  auto closed = [alive = alive_, failed = failed_](Status status) {
    if (*alive == nullptr) return;
    if (failed && status.ok()) status = Status(Errc::kFailed, "the metadata log failed earlier");
    auto done = std::move((*alive)->close_done_);
    done(std::move(status));  // may destroy the log
  };
  if (log_) return log_->close(std::move(closed));
  env_.executor().post([closed = std::move(closed)]() mutable { closed(ok_status()); });
}

Result<std::unique_ptr<MetadataLog>> MetadataLog::open(Env& env, MetadataLogConfig config, Listener listener,
                                                       PeerTransport* transport) {
  CHECK(!config.voters.empty());
  auto log = std::make_unique<RaftMetadataLog>(env, std::move(config), std::move(listener), transport);
  TRY(log->load());
  return std::unique_ptr<MetadataLog>(std::move(log));
}

Status MetadataLog::write_voters(Env& env, const std::string& directory, const ClusterId& cluster,
                                 const std::vector<Voter>& voters) {
  VoterSet set{cluster, voters};
  std::sort(set.voters.begin(), set.voters.end(), [](const Voter& a, const Voter& b) { return a.id < b.id; });
  return write_voters_file(env, directory, set);
}

}  // namespace trilog
