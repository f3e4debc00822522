#include "broker/replica/replica_fetcher.h"

#include <algorithm>

#include "storage/base/check.h"

namespace trilog {

using peer::CloseReason;
using peer::SessionId;

ReplicaFetcher::ReplicaFetcher(Env& env, const ReplicaOptions& options, PeerTransport& transport, uint32_t shard,
                               ReplicaPeers& peers, Host host)
    : env_(env), options_(options), transport_(transport), shard_(shard), peers_(peers), host_(std::move(host)) {}

// --- whom to follow ------------------------------------------------------------------------------------------------

void ReplicaFetcher::follow(Partition& partition) {
  if (stopped_) return;
  const PartitionImage& image = partition.image();
  const bool owned = std::find(image.replicas.begin(), image.replicas.end(), peers_.self) != image.replicas.end();
  const bool follows = owned && !partition.is_leader() && image.leader != kNoBroker && image.leader != peers_.self &&
                       partition.log() != nullptr && !partition.failed();
  if (!follows) return forget(partition.id());
  Follow& follow = follows_[partition.id()];
  if (follow.partition == &partition && follow.leader == image.leader && follow.leader_epoch == image.leader_epoch) {
    if (follow.state == State::kWaiting && follow.retry_ns == INT64_MAX) begin(follow);
    return;
  }
  if (follow.partition != nullptr) leave(follow, true);
  partition.halt("");
  follow = {.partition = &partition, .leader = image.leader, .leader_epoch = image.leader_epoch};
  begin(follow);
}

void ReplicaFetcher::forget(const TopicPartition& partition) {
  auto found = follows_.find(partition);
  if (found == follows_.end()) return;
  leave(found->second, true);
  follows_.erase(found);
}

void ReplicaFetcher::stop() {
  stopped_ = true;
  alive_.reset();
  if (timer_ != 0) env_.executor().cancel(timer_);
  follows_.clear();
  sessions_.clear();
  links_.clear();
  retries_.clear();
}

ReplicaFetcher::Follow* ReplicaFetcher::by_session(BrokerId from, SessionId session) {
  auto found = sessions_.find(session);
  if (found == sessions_.end()) return nullptr;
  Follow& follow = follows_.at(found->second);
  return follow.leader == from ? &follow : nullptr;
}

// Asks the leader, unless it cannot be reached: then the connection's news will.
void ReplicaFetcher::begin(Follow& follow) {
  follow.state = State::kWaiting;
  auto peer = peers_.peers.find(follow.leader);
  if (peer == peers_.peers.end() || !peer->second.connected || !peers_.incarnation_known()) return;
  // What the leader has may begin before what is here; as a leader this replica would make the others forget it.
  if (follow.partition->log()->recovery().front_in_doubt) {
    return restart(follow, Offset(0), "its first files may have been lost");
  }
  open(follow);
}

void ReplicaFetcher::open(Follow& follow) {
  const Partition& partition = *follow.partition;
  follow.session = SessionId(env_.random().next());
  follow.state = State::kOpening;
  follow.asked_ns = env_.clock().monotonic_ns();
  follow.link = {};
  follow.reporting = false;
  sessions_[follow.session] = partition.id();
  peer::OpenSession message{.reply_route = shard_,
                            .broker_epoch = peers_.self_epoch,
                            .credit_bytes = options_.push_credit_bytes,
                            .partitions = {}};
  message.partitions.push_back({.session = follow.session,
                                .partition = partition.id(),
                                .leader_epoch = follow.leader_epoch,
                                .fetched = partition.log_end(),
                                .durable = partition.log()->durable_end(),
                                .last_epoch = partition.last_epoch()});
  PeerFrame frame;
  frame.kind = PeerKind::kOpenSession;
  frame.route = peer_route(partition.id().topic, partition.id().partition);
  frame.body = encode(message);
  if (!transport_.send(follow.leader, PeerChannel::kReplication, std::move(frame))) return retry_later(follow);
  host_.watch();
}

// The session is over; what is still on its way for it is ignored (R14).
void ReplicaFetcher::leave(Follow& follow, bool tell) {
  const bool known_there = follow.state == State::kOpen || follow.state == State::kOpening;
  if (tell && known_there) {
    PeerFrame frame;
    frame.kind = PeerKind::kCloseSession;
    frame.route = peer_route(follow.partition->id().topic, follow.partition->id().partition);
    frame.body = encode(peer::CloseSession{.partitions = {{follow.session, CloseReason::kEnded, Offset(0)}}});
    static_cast<void>(transport_.send(follow.leader, PeerChannel::kReplication, std::move(frame)));
  }
  if (follow.state == State::kCutting) {
    follow.partition->raise_mark();
    host_.moved(*follow.partition, 0);
  }
  sessions_.erase(follow.session);
  if (follow.retry_ns != INT64_MAX) retries_.erase({follow.retry_ns, follow.partition->id()});
  follow.retry_ns = INT64_MAX;
  follow.reporting = false;
  follow.state = State::kWaiting;
}

// --- trying again --------------------------------------------------------------------------------------------------

void ReplicaFetcher::retry_later(Follow& follow) {
  leave(follow, false);
  int64_t delay_ms = options_.replica_retry_ms_least;
  for (uint32_t i = 0; i < follow.failures && delay_ms < options_.replica_retry_ms_most; ++i) delay_ms *= 2;
  ++follow.failures;
  follow.retry_ns = env_.clock().monotonic_ns() + std::min(delay_ms, options_.replica_retry_ms_most) * 1'000'000;
  retries_.insert({follow.retry_ns, follow.partition->id()});
  arm();
}

void ReplicaFetcher::arm() {
  if (retries_.empty() || retries_.begin()->first >= timer_ns_) return;
  if (timer_ != 0) env_.executor().cancel(timer_);
  timer_ns_ = retries_.begin()->first;
  const int64_t delay_ns = std::max<int64_t>(0, timer_ns_ - env_.clock().monotonic_ns());
  timer_ = env_.executor().schedule_after(delay_ns, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    timer_ = 0;
    timer_ns_ = INT64_MAX;
    retry_due();
  });
}

void ReplicaFetcher::retry_due() {
  const int64_t now_ns = env_.clock().monotonic_ns();
  while (!retries_.empty() && retries_.begin()->first <= now_ns) {
    Follow& follow = follows_.at(retries_.begin()->second);
    retries_.erase(retries_.begin());
    follow.retry_ns = INT64_MAX;
    begin(follow);
  }
  arm();
}

bool ReplicaFetcher::check(int64_t now_ns) {
  bool busy = false;
  for (auto& [id, follow] : follows_) {
    if (follow.state != State::kOpening) continue;
    busy = true;
    if (now_ns - follow.asked_ns > kOpenNsMax) {
      leave(follow, true);
      begin(follow);
    }
  }
  return busy;
}

void ReplicaFetcher::on_connected(BrokerId peer) {
  on_disconnected(peer);  // of a connection that was replaced nothing else is told
  for (auto& [id, follow] : follows_) {
    if (follow.leader == peer && follow.state == State::kWaiting) {
      leave(follow, false);
      begin(follow);
    }
  }
}

void ReplicaFetcher::on_disconnected(BrokerId peer) {
  for (auto it = links_.lower_bound({peer, 0}); it != links_.end() && it->first.first == peer;) it = links_.erase(it);
  for (auto& [id, follow] : follows_) {
    const bool lost = follow.state == State::kOpening || follow.state == State::kOpen;
    if (follow.leader == peer && lost) leave(follow, false);
  }
}

// --- what the leader says ------------------------------------------------------------------------------------------

void ReplicaFetcher::on_push(BrokerId from, const peer::Push& message, const SharedBytes& batches) {
  if (stopped_) return;
  const LinkKey key{from, message.reply_route};
  Link& link = links_[key];
  if (message.sequence != link.sequence + 1) {
    // Something got lost between here and there. What it was is not known, so all that came this way begins anew.
    for (auto& [id, follow] : follows_) {
      if (follow.state != State::kOpen || follow.link != key) continue;
      leave(follow, true);
      retry_later(follow);
    }
  }
  link.sequence = message.sequence;
  link.credit = link.credit || !batches.empty();
  size_t position = 0;
  for (const auto& item : message.partitions) {
    if (item.bytes > batches.size() - position) return;  // malformed; the rest of the sessions will show a gap
    const ByteView bytes = batches.view().subspan(position, item.bytes);
    position += item.bytes;
    Follow* follow = by_session(from, item.session);
    if (follow == nullptr || follow->leader_epoch != item.leader_epoch) continue;  // R14
    if (follow->state != State::kOpening && follow->state != State::kOpen) continue;
    const bool opened = std::exchange(follow->state, State::kOpen) == State::kOpening;
    follow->link = key;
    // What became durable since it was asked for has not been told yet.
    if (apply(*follow, item, bytes) && opened) report(*follow);
  }
  report_later();
}

bool ReplicaFetcher::apply(Follow& follow, const peer::Push::Partition& item, ByteView batches) {
  Partition& partition = *follow.partition;
  if (!batches.empty()) {
    if (Status appended = partition.append_from_leader(batches); !appended.ok()) {
      append_failed(follow, appended);
      return false;
    }
    follow.failures = 0;
    // R2: group commit. Pushes that come while a sync is under way share the next one.
    if (partition.synced()) partition.log()->request_sync();
  }
  partition.leader_told(item.high_watermark, item.log_start);  // R13: after the append
  host_.moved(partition, batches.size());
  if (!batches.empty()) report(follow);
  return true;
}

void ReplicaFetcher::append_failed(Follow& follow, const Status& why) {
  Partition& partition = *follow.partition;
  env_.log().warning(partition.name(), ": appending what the leader sent failed: ", why.to_string());
  if (why.code() == Errc::kDiskFull) host_.disk_full(partition);
  leave(follow, true);
  if (!partition.failed()) retry_later(follow);
}

void ReplicaFetcher::on_close(BrokerId from, const peer::CloseSession& message) {
  for (const auto& item : message.partitions) {
    Follow* follow = by_session(from, item.session);
    if (follow == nullptr || (follow->state != State::kOpening && follow->state != State::kOpen)) continue;
    if (item.reason == CloseReason::kBelowLogStart && item.log_start > follow->partition->log_end()) {
      restart(*follow, item.log_start, "the leader has nothing older");
    } else {
      // Of a leader that changed metadata will tell; asking again now and then does no harm.
      retry_later(*follow);
    }
  }
}

void ReplicaFetcher::on_epoch_end(BrokerId from, const peer::EpochEnd& message) {
  Follow* follow = by_session(from, message.session);
  if (follow == nullptr || follow->state != State::kOpening || follow->leader_epoch != message.leader_epoch) return;
  cut(*follow, {message.epoch, message.end});
}

// --- changing the own log ------------------------------------------------------------------------------------------

void ReplicaFetcher::cut(Follow& follow, const EpochEnd& leader) {
  Partition& partition = *follow.partition;
  Result<Offset> to = partition.cut_point(leader);
  if (!to.ok()) return refused(follow, to.status());
  if (leader.end < partition.log_start()) return restart(follow, *to, "the leader has nothing that is here");
  if (*to >= partition.log_end()) return retry_later(follow);
  env_.log().info(partition.name(), ": cut from offset ", partition.log_end(), " to ", *to,
                  ": the leader's log goes on differently there");
  LogMark mark = partition.log()->mark(std::min(partition.high_watermark(), *to));
  if (mark.durable_end > *to) {
    mark.durable_end = *to;
    mark.segment = Offset(-1);
    mark.position = 0;
  }
  change_log(follow, mark, [to = *to](Partition& changed) { return changed.cut_to(to); });
}

void ReplicaFetcher::restart(Follow& follow, Offset start, const char* why) {
  env_.log().info(follow.partition->name(), ": begins again at offset ", start, ": ", why);
  const LogMark mark{.durable_end = start, .high_watermark = start, .log_start = start, .segment = Offset(-1)};
  change_log(follow, mark, [start](Partition& changed) { return changed.restart_at(start); });
}

void ReplicaFetcher::change_log(Follow& follow, const LogMark& mark, UniqueFunction<Status(Partition&)> change) {
  follow.state = State::kCutting;
  follow.partition->lower_mark(mark);
  host_.persist_mark(
      *follow.partition, [this, id = follow.partition->id(), session = follow.session, change = std::move(change),
                          alive = std::weak_ptr<bool>(alive_)](const Status& persisted) mutable {
        if (alive.expired()) return;
        auto found = follows_.find(id);
        // R14: somebody else may lead by now, or this broker itself.
        if (found == follows_.end() || found->second.session != session || found->second.state != State::kCutting)
          return;
        Follow& again = found->second;
        if (!persisted.ok()) return retry_later(again);
        again.state = State::kWaiting;
        if (Status changed = change(*again.partition); !changed.ok()) return refused(again, changed);
        host_.moved(*again.partition, 0);
        leave(again, false);
        begin(again);
      });
}

void ReplicaFetcher::refused(Follow& follow, const Status& why) {
  // What cannot be read now may be readable, or mended, in a while (S9). Nothing was changed.
  const bool unreadable = why.code() == Errc::kIo || why.code() == Errc::kCorruption;
  if (!unreadable || follow.partition->failed()) return halt(follow, why);
  env_.log().warning(follow.partition->name(), " tries again to follow node ", follow.leader, ": ", why.to_string());
  retry_later(follow);
}

void ReplicaFetcher::halt(Follow& follow, const Status& why) {
  env_.log().error(follow.partition->name(), " stops following node ", follow.leader, ": ", why.to_string());
  leave(follow, false);
  follow.state = State::kHalted;
  follow.partition->halt(std::string(why.message()));
}

// --- what the leader is told ---------------------------------------------------------------------------------------

void ReplicaFetcher::durable_moved(const Partition& partition) {
  auto found = follows_.find(partition.id());
  if (found == follows_.end()) return;
  if (partition.failed()) return halt(found->second, Status(Errc::kFailed, "the disk failed"));
  if (found->second.state != State::kOpen) return;
  report(found->second);
  report_later();
}

void ReplicaFetcher::report(Follow& follow) {
  if (follow.reporting) return;
  follow.reporting = true;
  links_[follow.link].reports.push_back(follow.session);
}

void ReplicaFetcher::report_later() {
  if (reports_posted_) return;
  reports_posted_ = true;
  env_.executor().post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    reports_posted_ = false;
    send_reports();
  });
}

void ReplicaFetcher::send_reports() {
  for (auto& [key, link] : links_) {
    if (link.reports.empty() && !link.credit) continue;
    peer::Progress message{.reply_route = shard_, .sequence = link.sequence, .partitions = {}};
    for (SessionId session : std::exchange(link.reports, {})) {
      Follow* follow = by_session(key.first, session);
      if (follow == nullptr || follow->state != State::kOpen) continue;
      follow->reporting = false;
      message.partitions.push_back({.session = session,
                                    .leader_epoch = follow->leader_epoch,
                                    .broker_epoch = peers_.self_epoch,
                                    .fetched = follow->partition->log_end(),
                                    .durable = follow->partition->log()->durable_end()});
    }
    if (message.partitions.empty() && !link.credit) continue;
    link.credit = false;
    PeerFrame frame;
    frame.kind = PeerKind::kProgress;
    frame.route = key.second;
    frame.body = encode(message);
    if (transport_.send(key.first, PeerChannel::kReplication, std::move(frame))) continue;
    // A full queue: positions are told again when something moves, or by a new session.
    for (const auto& item : message.partitions) {
      if (Follow* follow = by_session(key.first, item.session)) retry_later(*follow);
    }
  }
}

}  // namespace trilog
