// Opening a RaftLog: which of "new", "sound" and "damaged" a folder is. The three are never mixed up (Q11): what cannot
// be read is damage, damage is an error that names the file, and only a folder that never promised anything is new.
//
//   vote           durable         snapshots  log                  the folder is
//   missing, or    missing, or     none       empty                new, or its forming was broken off: form it
//   of term 0      at offset 0     none       one VoterSet entry   the same; the entry is kept
//   of term 0      at offset 0     none       more                 formed; the first writes were broken off
//   missing        missing, or at offset 0    more                 damaged: files are gone
//   of term 0      missing         none       more                 damaged: a file is gone
//   (a learner: the log may be empty, or begin without a VoterSet, in any formed folder)
//   readable       readable        any        reaches the mark     formed
//   all else - missing or unreadable vote or durable, a log shorter than its mark or with unreadable entries: damaged
#include <utility>

#include "broker/quorum/raft_log.h"
#include "storage/base/codec.h"

namespace trilog {

namespace {

// Kafka's id of its metadata topic. The name appears nowhere but in partition.meta.
PartitionMeta metadata_partition() {
  return PartitionMeta{TopicId(0, 1), "__cluster_metadata", PartitionId(0), 1, {}, {}};
}

Status damaged(const std::string& what) {
  return Status(Errc::kCorruption, what + "; restore it from a copy, or replace this node");
}

}  // namespace

Result<std::unique_ptr<RaftLog>> RaftLog::open(Env& env, RaftLogConfig config) {
  std::unique_ptr<RaftLog> log(new RaftLog(env, std::move(config)));
  TRY(log->load());
  return log;
}

Status RaftLog::load() {
  snapshots_ = TRY(SnapshotStore::open(env_, config_.directory));
  auto vote = TRY(vote_file_.load());
  auto mark_bytes = TRY(mark_file_.load());
  std::optional<LogMark> mark;
  if (vote) {
    auto state = decode_vote(*vote);
    if (!state.ok()) return state.status().with_context(vote_file_.path());
    hard_state_ = *state;
  }
  if (mark_bytes) {
    auto decoded = decode_log_mark(*mark_bytes);
    if (!decoded.ok()) return decoded.status().with_context(mark_file_.path());
    mark = *decoded;
  }
  LogConfig log_config;
  log_config.segment_bytes = config_.segment_bytes;
  log_config.segment_ms = 0;  // by size alone
  log_config.retention_ms = -1;
  // The folder is never trusted as after a clean stop: the mark is exact in any case, so there is next to nothing to
  // do.
  log_ = TRY(Log::open(env_, config_.directory, metadata_partition(), log_config, mark, false));
  log_->set_durable_listener([this] { on_log_durable(); });
  start_ = log_->log_start();
  visible_end_ = log_->log_end();

  bool no_snapshots = snapshots_->sound().empty() && snapshots_->damaged().empty();
  bool nothing_promised = hard_state_.term == Term(0) && (!mark || mark->durable_end == Offset(0));
  bool nothing_there = visible_end_ == Offset(0) || (visible_end_ == Offset(1) && !config_.learner);
  if (no_snapshots && nothing_promised && nothing_there) return load_unformed();
  if (!vote) return damaged(vote_file_.path() + " is missing, but " + config_.directory + " has entries");
  if (!mark) return damaged(mark_file_.path() + " is missing, but " + config_.directory + " has entries");
  formed_ = true;
  TRY(load_formed(*mark));
  // A torn write of the vote leaves the one before it in the other slot; both must hold the same before the next vote.
  if (vote_file_.slots_differ()) TRY(vote_file_.write_now(encode_vote(hard_state_)));
  return ok_status();
}

Status RaftLog::load_unformed() {
  if (visible_end_ == Offset(0)) return ok_status();
  TRY(scan(Offset(0)));
  unformed_voters_ = std::exchange(voters_, std::nullopt);
  first_voters_ = {};
  return ok_status();
}

Status RaftLog::load_formed(const LogMark& mark) {
  if (log_->recovery().lost_below_mark || visible_end_ < mark.durable_end) {
    return damaged(config_.directory + ": entries up to offset " + std::to_string(mark.durable_end.value()) +
                   " were durable, but the log ends at " + std::to_string(visible_end_.value()));
  }
  marked_commit_ = mark.high_watermark;
  TRY(cut_broken_write(mark));
  TRY(choose_snapshot());
  Offset from = start_snapshot_ ? start_snapshot_->end : Offset(0);
  for (const DamagedRange& range : log_->damaged_ranges()) {
    std::string what = range.file + " at byte " + std::to_string(range.position) + ": " + range.what;
    if (range.next_good > from) return damaged(what);
    env_.log().warning("damage in old metadata entries, which a snapshot covers: ", what);
  }
  TRY(scan(from));
  if (!voters_ && !config_.learner) return damaged(config_.directory + " has no set of voters");
  // What was found above the mark is durable now, and may be promised only when the mark says so (Q11).
  if (visible_end_ > mark.durable_end) TRY(mark_file_.write_now(encode_log_mark(log_->mark(marked_commit_))));
  return ok_status();
}

// A write of several entries may be torn in the middle. Log keeps what is sound behind a tear, because its marks lag
// and somebody may have been promised it; here nobody was promised anything above the mark.
Status RaftLog::cut_broken_write(const LogMark& mark) {
  for (const DamagedRange& range : log_->damaged_ranges()) {
    if (range.first < mark.durable_end) continue;
    env_.log().info("cutting a broken write off ", range.file, " at byte ", range.position);
    TRY(log_->truncate_to(Offset(range.first)));
    visible_end_ = log_->log_end();
    break;
  }
  return ok_status();
}

// The newest snapshot that can be read and that the log continues; else the one before; else the log's beginning.
Status RaftLog::choose_snapshot() {
  while (!snapshots_->sound().empty()) {
    SnapshotStore::Entry newest = snapshots_->sound().back();
    bool inside = newest.end >= start_ && newest.end <= visible_end_;
    bool continued = newest.end == start_ || term_before(newest.end) == newest.term;
    if (!inside || !continued) {
      snapshots_->reject(newest.end, "the log does not continue it");
      continue;
    }
    start_snapshot_ = TRY(snapshots_->read(newest));
    break;
  }
  std::string bad;
  for (const std::string& what : snapshots_->damaged()) bad += (bad.empty() ? "" : "; ") + what;
  if (!start_snapshot_ && start_ > Offset(0)) {
    return damaged(bad.empty() ? "the snapshot that " + config_.directory + " begins with is missing" : bad);
  }
  if (!bad.empty()) env_.log().warning("a metadata snapshot is damaged; using an older state and the log: ", bad);
  if (!start_snapshot_) return ok_status();
  ByteReader in(start_snapshot_->state);
  auto voters = decode_voter_set(in.read_sized_bytes());
  if (!voters.ok()) return voters.status().with_context("snapshot");
  voters_ = *voters;
  first_voters_ = {Offset(-1), voters_->voters, voters_->recovery};
  return ok_status();
}

// Reads everything that will be applied, so that damage shows now and not in the middle of the work.
Status RaftLog::scan(Offset from) {
  for (Offset at = from; at < visible_end_;) {
    auto entries = TRY(read(at, 1u << 20));
    for (const RaftEntry& entry : entries) {
      RecordBatch batch = TRY(RecordBatch::parse(entry.batch));
      auto content = read_entry(batch);
      if (!content.ok()) return content.status().with_context(config_.directory);
      if (content->kind == RaftEntryKind::kVoters) {
        voters_ = TRY(decode_voter_set(content->records.front()));
        if (entry.first == Offset(0)) {
          first_voters_ = {Offset(-1), voters_->voters, voters_->recovery};
        } else {
          voter_changes_.push_back({entry.first, voters_->voters, voters_->recovery});
        }
      }
      if (entry.first == Offset(0) && content->kind != RaftEntryKind::kVoters) {
        return damaged(config_.directory + " does not begin with its set of voters");
      }
      at = entry.end();
    }
  }
  return ok_status();
}

}  // namespace trilog
