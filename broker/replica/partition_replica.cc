// The replicated side of a partition: what a leader knows of its followers, and how a follower keeps its log equal to
// the leader's.
#include "broker/replica/partition.h"

#include <algorithm>
#include <utility>

#include "storage/base/check.h"

namespace trilog {

using api::Error;
using api::ErrorCode;
using api::Outcome;

// --- leader --------------------------------------------------------------------------------------------------------

void Partition::refresh_peers() {
  if (role_ == Role::kLeader && has_other_replicas()) progress_.refresh(*peers_, state());
}

ReplicaProgress::Moment Partition::moment() const {
  return {.now_ns = env_.clock().monotonic_ns(),
          .counted = counted_position(),
          .log_end = log_end(),
          .high_watermark = high_watermark_,
          .epoch_start = epoch_start_,
          .in_sync_min = topic_->settings.min_insync_replicas};
}

std::vector<BrokerId> Partition::reachable() const {
  const int64_t now_ns = env_.clock().monotonic_ns();
  std::vector<BrokerId> there;
  for (BrokerId member : in_sync()) {
    if (peers_->reachable(member, now_ns)) there.push_back(member);
  }
  return there;
}

bool Partition::too_few_reachable() const {
  if (peers_ == nullptr || role_ != Role::kLeader || !has_other_replicas()) return false;
  const int64_t now_ns = env_.clock().monotonic_ns();
  int32_t there = 0;
  for (BrokerId member : in_sync()) there += peers_->reachable(member, now_ns) ? 1 : 0;
  return there < topic_->settings.min_insync_replicas;
}

bool Partition::zombie() const {
  if (peers_ == nullptr || role_ != Role::kLeader || !has_other_replicas()) return false;
  if (!peers_->controller_silent(env_.clock().monotonic_ns())) return false;
  // Nobody else can be made leader of what only this node is in sync with.
  return !(in_sync().size() == 1 && state().elr.empty());
}

bool Partition::without_leader() const {
  if (peers_ == nullptr || retired_ || !has_other_replicas()) return false;
  if (role_ == Role::kLeader) return zombie();
  const BrokerId leader = state().leader;
  return leader == kNoBroker || leader == self_ || !peers_->reachable(leader, env_.clock().monotonic_ns());
}

std::optional<EpochEnd> Partition::divergence(LeaderEpoch last_epoch, Offset fetched) const {
  if (last_epoch < LeaderEpoch(0)) {
    // A log without records has nothing that could differ, as long as it does not begin past this one's end.
    if (fetched <= log_end()) return std::nullopt;
    return EpochEnd{kNoLeaderEpoch, log_end()};
  }
  const LeaderEpochCache& epochs = log_->epochs();
  EpochEnd end = epochs.end_of(last_epoch, log_end());
  if (end.end == kNoOffset) {  // newer than anything known here
    const auto latest = epochs.latest();
    end = latest ? EpochEnd{latest->epoch, log_end()} : EpochEnd{kNoLeaderEpoch, log_start()};
  }
  if (end.epoch < last_epoch || end.end < fetched) return end;
  return std::nullopt;
}

// --- follower ------------------------------------------------------------------------------------------------------

LeaderEpoch Partition::last_epoch() const {
  return log_end() > log_start() ? log_->epochs().epoch_at(log_end() - 1) : kNoLeaderEpoch;
}

Status Partition::append_from_leader(ByteView batches) {
  CHECK(role_ == Role::kFollower && log_);
  log_->drop_empty_epochs();
  Offset expected = log_->log_end();
  LeaderEpoch epoch = log_->epochs().latest().value_or(EpochEntry{kNoLeaderEpoch, {}}).epoch;
  for (ByteView rest = batches; !rest.empty();) {
    auto batch = RecordBatch::parse(rest);
    if (!batch.ok()) return batch.status();
    const bool in_order = batch->base_offset() == expected && batch->leader_epoch() >= epoch &&
                          batch->leader_epoch() <= state().leader_epoch;
    if (!in_order || !batch->crc_matches()) {
      return Status(Errc::kCorruption, "what the leader of " + name() + " sent for offset " +
                                           std::to_string(expected.value()) +
                                           (in_order ? " is damaged" : " does not follow the log"));
    }
    expected = batch->next_offset();
    epoch = batch->leader_epoch();
    rest = rest.subspan(batch->size());
  }
  return log_->append(batches).status();
}

void Partition::leader_told(Offset high_watermark, Offset log_start) {
  leader_high_watermark_ = high_watermark;
  advance_high_watermark();
  const Offset start = std::min(log_start, high_watermark_);
  if (start > log_->log_start()) log_->advance_start(start);
}

// R15: an operator let a leader in that may lack records, after all that is committed here was written.
bool Partition::loss_accepted() const {
  return state().loss_epoch != kNoLeaderEpoch && log_->epochs().epoch_at(high_watermark_ - 1) < state().loss_epoch;
}

Result<Offset> Partition::cut_point(const EpochEnd& leader) const {
  const LeaderEpochCache& epochs = log_->epochs();
  Offset own = log_start();
  if (!epochs.entries().empty() && leader.epoch >= epochs.entries().front().epoch) {
    const EpochEnd end = epochs.end_of(leader.epoch, log_end());
    own = std::max(end.end == kNoOffset ? log_end() : end.end, log_start());
  }
  Offset cut = std::min(leader.end, own);
  if (log_start() <= cut && cut < log_end()) {
    // A batch is cut as a whole.
    if (const DamagedRange* damage = log_->damage_at(cut)) {
      cut = damage->first;
    } else {
      cut = TRY(log_->read(cut, 1, log_end())).first;
    }
  }
  if (cut < high_watermark_ && !topic_->settings.unclean_leader_election && !loss_accepted()) {
    return Status(Errc::kFailed, name() + " would have to be cut at offset " + std::to_string(cut.value()) +
                                     ", below its high watermark " + std::to_string(high_watermark_.value()) +
                                     ": the leader misses records that were acknowledged");
  }
  return cut;
}

LogMark Partition::mark() const {
  if (lowered_mark_) return *lowered_mark_;
  // The doubt ends when the log begins again, or with an operator who lets it lead; not with this process.
  if (role_ != Role::kLeader && log_->recovery().front_in_doubt) return {};
  const LogMark mark = log_->mark(high_watermark_);
  CHECK_LE(mark.durable_end, log_->durable_end());  // never ahead of the disk
  return mark;
}

Status Partition::cut_to(Offset end) {
  lowered_mark_.reset();
  Status cut = log_->truncate_to(end);
  high_watermark_ = std::min(high_watermark_, log_->log_end());  // only with an unclean election
  leader_high_watermark_ = std::min(leader_high_watermark_, high_watermark_);
  return cut;
}

Status Partition::restart_at(Offset start) {
  lowered_mark_.reset();
  Status restarted = log_->restart_at(start);
  high_watermark_ = log_->log_start();
  leader_high_watermark_ = std::min(leader_high_watermark_, high_watermark_);
  return restarted;
}

ReplicaPosition Partition::position() const {
  ReplicaPosition position;
  position.halted = log_ ? halted_ : offline_.to_string();
  position.damaged = failed() || !halted_.empty();
  if (!log_) return position;
  position.last_epoch = last_epoch();
  position.log_start = log_->log_start();
  position.high_watermark = high_watermark_;
  position.durable_end = log_->durable_end();
  position.log_end = log_->log_end();
  position.damaged = position.damaged || log_->recovery().lost_below_mark || log_->recovery().front_in_doubt ||
                     !log_->damaged_ranges().empty();
  return position;
}

}  // namespace trilog
