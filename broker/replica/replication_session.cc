#include "broker/replica/replication_session.h"

#include <algorithm>

#include "storage/base/check.h"

namespace trilog {

using peer::CloseReason;

namespace {

// Where a follower can begin that has nothing: the log start, or the batch around it.
Offset first_batch(Partition& partition) {
  auto slice = partition.log()->read(partition.log_start(), 1, partition.log_end());
  return slice.ok() ? slice->first : partition.log_start();
}

// A follower takes over the log start only as far as its own high watermark, which is not above what counts for it.
bool takes_log_start(Partition& partition, BrokerId follower) {
  const ReplicaProgress& progress = partition.progress();
  for (const ReplicaProgress::Follower& one : progress.followers()) {
    if (one.broker == follower) return progress.counted(one) >= partition.log_start();
  }
  return false;
}

}  // namespace

ReplicationSessions::ReplicationSessions(Env& env, const ReplicaOptions& options, PeerTransport& transport,
                                         uint32_t shard, ReplicaPeers& peers, Host host)
    : env_(env), options_(options), transport_(transport), shard_(shard), peers_(peers), host_(std::move(host)) {}

void ReplicationSessions::send_frame(BrokerId to, uint32_t route, PeerKind kind, Bytes body) {
  PeerFrame frame;
  frame.kind = kind;
  frame.route = route;
  frame.body = std::move(body);
  // If it is lost the follower asks again.
  static_cast<void>(transport_.send(to, PeerChannel::kReplication, std::move(frame)));
}

// --- opening -------------------------------------------------------------------------------------------------------

void ReplicationSessions::on_open(BrokerId from, const peer::OpenSession& message) {
  if (stopped_) return;
  for (const auto& asked : message.partitions) open_one(from, message, asked);
}

// R3: what makes a follower wait for metadata, or ask again because it is ahead of what is known here.
std::optional<CloseReason> ReplicationSessions::refuse(BrokerId from, BrokerEpoch epoch,
                                                       const peer::OpenSession::Partition& asked) const {
  const Partition* partition = host_.find(asked.partition);
  if (partition == nullptr || asked.leader_epoch > partition->leader_epoch()) return CloseReason::kUnknownEpoch;
  if (asked.leader_epoch < partition->leader_epoch()) return CloseReason::kFencedEpoch;
  if (!partition->is_leader()) {
    const bool not_yet = partition->image().leader == peers_.self;
    return not_yet ? CloseReason::kUnknownEpoch : CloseReason::kNotLeader;
  }
  const auto& replicas = partition->image().replicas;
  if (std::find(replicas.begin(), replicas.end(), from) == replicas.end()) return CloseReason::kUnknownEpoch;
  const BrokerImage* broker = peers_.image ? peers_.image->find_broker(from) : nullptr;
  if (broker == nullptr || epoch > broker->epoch) return CloseReason::kUnknownEpoch;
  if (epoch < broker->epoch) return CloseReason::kFencedEpoch;
  return std::nullopt;
}

void ReplicationSessions::turn_away(BrokerId to, uint32_t route, peer::SessionId session, CloseReason reason,
                                    Offset log_start) {
  send_frame(to, route, PeerKind::kCloseSession,
             encode(peer::CloseSession{.partitions = {{session, reason, log_start}}}));
}

void ReplicationSessions::open_one(BrokerId from, const peer::OpenSession& message,
                                   const peer::OpenSession::Partition& asked) {
  const uint32_t route = message.reply_route;
  if (auto reason = refuse(from, message.broker_epoch, asked)) {
    return turn_away(from, route, asked.session, *reason, Offset(0));
  }
  if (sessions_.size() >= kSessionsMax)
    return turn_away(from, route, asked.session, CloseReason::kUnknownEpoch, Offset(0));
  Partition& partition = *host_.find(asked.partition);
  // One session per partition and follower: the newest.
  if (auto known = by_partition_.find(asked.partition); known != by_partition_.end()) {
    for (const SessionKey& key : std::vector<SessionKey>(known->second)) {
      if (key.first == from) end(key, false);
    }
  }
  if (asked.fetched < partition.log_start() && asked.fetched < first_batch(partition)) {
    return turn_away(from, route, asked.session, CloseReason::kBelowLogStart, first_batch(partition));
  }
  // R11: and then nothing of its progress is recorded.
  if (auto differs = partition.divergence(asked.last_epoch, asked.fetched)) {
    const peer::EpochEnd answer{asked.session, asked.leader_epoch, differs->epoch, differs->end};
    return send_frame(from, route, PeerKind::kEpochEnd, encode(answer));
  }
  const SessionKey key{from, asked.session};
  const LinkKey link_key{from, route};
  Link& link = links_[link_key];
  link.key = link_key;
  link.credit = message.credit_bytes;
  Session& session = sessions_[key];
  session = {.key = key,
             .partition = asked.partition,
             .link = link_key,
             .leader_epoch = asked.leader_epoch,
             .broker_epoch = message.broker_epoch,
             .next = asked.fetched};
  by_partition_[asked.partition].push_back(key);
  partition.progress().opened(from, message.broker_epoch, asked.fetched, asked.durable, partition.moment());
  // At least the high watermark, which tells the follower that the session is open.
  session.waiting = true;
  link.waiting.push_back(key);
  link.waiting_bytes = std::max(link.waiting_bytes, kLargePushBytes);
  flush_later();
  host_.followers_moved(partition);
}

// --- ending --------------------------------------------------------------------------------------------------------

void ReplicationSessions::end(const SessionKey& key, bool tell_progress) {
  auto found = sessions_.find(key);
  if (found == sessions_.end()) return;
  const TopicPartition id = found->second.partition;
  sessions_.erase(found);  // links drop its key when they come across it
  auto sessions = by_partition_.find(id);
  std::erase(sessions->second, key);
  if (sessions->second.empty()) by_partition_.erase(sessions);
  Partition* partition = host_.find(id);
  if (partition == nullptr || !partition->is_leader()) return;
  partition->progress().closed(key.first, partition->moment());
  if (tell_progress) host_.followers_moved(*partition);
}

void ReplicationSessions::on_close(BrokerId from, const peer::CloseSession& message) {
  for (const auto& closed : message.partitions) end({from, closed.session}, true);
}

void ReplicationSessions::drop(const TopicPartition& partition) {
  auto found = by_partition_.find(partition);
  if (found == by_partition_.end()) return;
  for (const SessionKey& key : found->second) sessions_.erase(key);
  by_partition_.erase(found);
}

void ReplicationSessions::drop_peer(BrokerId peer) {
  std::vector<SessionKey> keys;
  for (auto it = sessions_.lower_bound({peer, peer::SessionId(0)}); it != sessions_.end() && it->first.first == peer;
       ++it) {
    keys.push_back(it->first);
  }
  for (auto it = links_.lower_bound({peer, 0}); it != links_.end() && it->first.first == peer;) it = links_.erase(it);
  peers_.peers[peer].unanswered_since_ns = INT64_MAX;
  for (const SessionKey& key : keys) end(key, true);
}

void ReplicationSessions::stop() {
  stopped_ = true;
  alive_.reset();
  links_.clear();
  sessions_.clear();
  by_partition_.clear();
}

bool ReplicationSessions::check(int64_t now_ns) {
  bool busy = false;
  std::vector<LinkKey> silent;
  for (const auto& [key, link] : links_) {
    if (link.unanswered.empty()) continue;
    busy = true;
    if (now_ns - link.unanswered.front().sent_ns > peers_.silence_ns_max) silent.push_back(key);
  }
  for (const LinkKey& key : silent) {
    peer::CloseSession close;
    for (const auto& [session_key, session] : sessions_) {
      if (session.link == key && close.partitions.size() < peer::kSessionsPerMessageMax) {
        close.partitions.push_back({session_key.second, CloseReason::kRestart, Offset(0)});
      }
    }
    if (close.partitions.empty()) continue;
    env_.log().warning("node ", key.first, " has not answered for long: its replication begins anew");
    for (const auto& item : close.partitions) end({key.first, item.session}, true);
    send_frame(key.first, key.second, PeerKind::kCloseSession, encode(close));
    // The sequence goes on, and the silence lasts until there is an answer: a peer that swallows everything stays
    // unreachable (R1).
    Link& link = links_[key];
    link.unanswered.erase(link.unanswered.begin() + 1, link.unanswered.end());
    link.unanswered_bytes = link.unanswered.front().bytes;
    link.catching_up = link.unanswered.front().catch_up ? 1 : 0;
  }
  return busy;
}

// --- progress ------------------------------------------------------------------------------------------------------

void ReplicationSessions::on_progress(BrokerId from, const peer::Progress& message) {
  if (stopped_) return;
  auto found = links_.find({from, message.reply_route});
  if (found != links_.end()) {
    Link& link = found->second;
    while (!link.unanswered.empty() && link.unanswered.front().sequence <= message.sequence) {
      answered(link, link.unanswered.front());
      link.unanswered.pop_front();
    }
    note_unanswered(from);
    if (!link.waiting.empty() || !link.behind.empty()) flush_later();
  }
  for (const auto& item : message.partitions) {
    auto session = sessions_.find({from, item.session});
    if (session == sessions_.end()) continue;  // R14
    Partition* partition = host_.find(session->second.partition);
    // R3, R14: only of this session, in this leader epoch, by this process.
    if (partition == nullptr || !partition->is_leader() || item.leader_epoch != partition->leader_epoch() ||
        item.leader_epoch != session->second.leader_epoch || item.broker_epoch != session->second.broker_epoch) {
      continue;
    }
    partition->progress().moved(from, item.fetched, item.durable, partition->moment());
    host_.followers_moved(*partition);
  }
}

void ReplicationSessions::answered(Link& link, const Unanswered& push) {
  link.unanswered_bytes -= push.bytes;
  if (!push.catch_up) return;
  --link.catching_up;
  link.hurry = 2 * (link.behind_bytes - push.behind_before) >= push.bytes;
  if (link.hurry) {
    link.waiting.insert(link.waiting.end(), link.behind.begin(), link.behind.end());
    link.behind.clear();
  }
  if (link.hurry || link.resting) return;
  link.resting = true;
  const int64_t rest = std::min(env_.clock().monotonic_ns() - push.sent_ns, kRestNsMax);
  env_.executor().schedule_after(rest, [this, key = link.key, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    auto again = links_.find(key);
    if (again == links_.end()) return;
    again->second.resting = false;
    flush_later();
  });
}

void ReplicationSessions::note_unanswered(BrokerId peer) {
  int64_t since = INT64_MAX;
  for (auto it = links_.lower_bound({peer, 0}); it != links_.end() && it->first.first == peer; ++it) {
    if (!it->second.unanswered.empty()) since = std::min(since, it->second.unanswered.front().sent_ns);
  }
  peers_.peers[peer].unanswered_since_ns = since;
}

// --- pushing -------------------------------------------------------------------------------------------------------

void ReplicationSessions::moved(Partition& partition, uint64_t bytes) {
  auto found = by_partition_.find(partition.id());
  if (found == by_partition_.end()) return;
  for (const SessionKey& key : found->second) {
    Session& session = sessions_.find(key)->second;
    Link& link = links_.find(session.link)->second;
    link.waiting_bytes += bytes;
    if (session.behind) link.behind_bytes += bytes;
    if (session.next < partition.log_end()) {
      want(session);
    } else if (!session.watermark && !session.waiting &&
               (session.told_high_watermark < partition.high_watermark() ||
                session.told_log_start < partition.log_start())) {
      session.watermark = true;
      link.watermarks.push_back(key);
      if (link.timer) continue;
      link.timer = true;
      env_.executor().schedule_after(kHighWatermarkDelayNs,
                                     [this, link_key = link.key, alive = std::weak_ptr<bool>(alive_)] {
                                       if (alive.expired()) return;
                                       auto again = links_.find(link_key);
                                       if (again == links_.end()) return;
                                       again->second.timer = false;
                                       for (const SessionKey& waiting : std::exchange(again->second.watermarks, {})) {
                                         auto session_again = sessions_.find(waiting);
                                         if (session_again == sessions_.end() || !session_again->second.watermark)
                                           continue;
                                         session_again->second.watermark = false;
                                         want(session_again->second);
                                       }
                                     });
    }
  }
}

std::deque<ReplicationSessions::SessionKey>& ReplicationSessions::queue_of(Link& link, const Session& session) {
  return session.behind && !link.hurry ? link.behind : link.waiting;
}

void ReplicationSessions::want(Session& session) {
  if (!session.waiting) {
    session.waiting = true;
    queue_of(links_.find(session.link)->second, session).push_back(session.key);
  }
  flush_later();
}

void ReplicationSessions::flush_later() {
  if (flush_posted_) return;
  flush_posted_ = true;
  env_.executor().post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    flush_posted_ = false;
    flush();
  });
}

void ReplicationSessions::flush() {
  Runs runs;
  for (auto& [key, link] : links_) pump(link, runs);
}

bool ReplicationSessions::may_push(const Link& link) const {
  if (link.waiting.empty()) return false;
  if (link.unanswered.empty()) return true;
  if (link.unanswered_bytes >= link.credit) return false;
  return link.unanswered.size() < kPushesAtOnce || link.waiting_bytes >= kLargePushBytes;
}

// Whatever else is on its way: the live records must not keep them from it for good.
bool ReplicationSessions::may_catch_up(const Link& link) const {
  return !link.behind.empty() && link.catching_up == 0 && !link.resting;
}

void ReplicationSessions::pump(Link& link, Runs& runs) {
  while (may_push(link)) {
    if (!push(link, link.waiting, options_.push_bytes_max, runs)) break;
  }
  while (may_catch_up(link)) {
    if (!push(link, link.behind, std::min(options_.push_bytes_max, kCatchUpPushBytes), runs)) break;
  }
}

bool ReplicationSessions::push(Link& link, std::deque<SessionKey>& queue, uint64_t bytes_max, Runs& runs) {
  Parcel parcel;
  const bool any_room = &queue == &link.behind || link.unanswered.empty();
  const uint64_t room = any_room ? bytes_max : std::min(bytes_max, link.credit - link.unanswered_bytes);
  size_t turns = std::min(queue.size(), peer::kSessionsPerMessageMax);
  const uint64_t share = std::clamp<uint64_t>(bytes_max / turns, std::min(kShareBytesMin, bytes_max), bytes_max);
  while (turns-- > 0 && parcel.bytes < room) {
    const SessionKey key = queue.front();
    queue.pop_front();
    auto found = sessions_.find(key);
    if (found == sessions_.end() || !found->second.waiting) continue;
    Session& session = found->second;
    Partition* partition = host_.find(session.partition);
    session.waiting = false;
    if (partition == nullptr || !partition->is_leader()) continue;
    if (!add(parcel, session, *partition, static_cast<uint32_t>(share), runs)) continue;
    const bool more = session.next < partition->log_end();
    const auto& isr = partition->image().isr;
    parcel.catch_up = parcel.catch_up || session.behind;
    session.behind = more && std::find(isr.begin(), isr.end(), key.first) == isr.end();
    if (!more) continue;
    session.waiting = true;
    queue_of(link, session).push_back(key);
  }
  if (link.waiting.empty()) link.waiting_bytes = 0;
  if (parcel.push.partitions.empty()) return false;
  return send(link, std::move(parcel));
}

const BatchRun* ReplicationSessions::run_at(Session& session, Partition& partition, uint32_t bytes_max, Runs& runs) {
  const std::pair<TopicPartition, Offset> place{session.partition, session.next};
  if (auto known = runs.find(place); known != runs.end()) return &known->second;
  auto slice = partition.log()->read(std::max(session.next, partition.log_start()), bytes_max, partition.log_end());
  Status failed = slice.status();
  if (slice.ok()) {
    auto run = read_slice_cached(*slice);
    if (run.ok() && *run && slice->first == session.next) {
      return &runs.emplace(place, std::move(**run)).first->second;
    }
    if (run.ok() && !*run) {
      // It has to come from the disk, and the shard does not wait for that.
      session.waiting = true;
      slice->slice.file->load(slice->slice.position, slice->slice.length,
                              [this, key = session.key, alive = std::weak_ptr<bool>(alive_)] {
                                if (alive.expired()) return;
                                auto again = sessions_.find(key);
                                if (again == sessions_.end()) return;
                                again->second.waiting = false;
                                want(again->second);
                              });
      return nullptr;
    }
    failed = run.ok() ? Status(Errc::kOutOfRange, "the follower's end is inside a batch") : run.status();
    if (!run.ok()) partition.report_damage(*slice, failed);
  }
  env_.log().error(partition.name(), ": cannot be replicated at offset ", session.next, ": ", failed.to_string());
  turn_away(session.key.first, session.link.second, session.key.second, CloseReason::kUnreadable, Offset(0));
  const SessionKey key = session.key;
  env_.executor().post([this, key, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) end(key, true);
  });
  return nullptr;
}

bool ReplicationSessions::add(Parcel& parcel, Session& session, Partition& partition, uint32_t bytes_max, Runs& runs) {
  peer::Push::Partition item{.session = session.key.second,
                             .leader_epoch = session.leader_epoch,
                             .high_watermark = partition.high_watermark(),
                             .log_start = partition.log_start(),
                             .bytes = 0};
  if (session.next < partition.log_start() && session.next < first_batch(partition)) {
    turn_away(session.key.first, session.link.second, session.key.second, CloseReason::kBelowLogStart,
              first_batch(partition));
    const SessionKey key = session.key;
    env_.executor().post([this, key, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) end(key, true);
    });
    return false;
  }
  if (session.next < partition.log_end()) {
    const BatchRun* run = run_at(session, partition, bytes_max, runs);
    if (run == nullptr) return false;
    item.bytes = static_cast<uint32_t>(run->bytes.size());
    parcel.pieces.push_back(run->bytes);
    parcel.bytes += run->bytes.size();
    session.next = run->next_offset;
  }
  session.told_high_watermark = item.high_watermark;
  session.told_log_start = takes_log_start(partition, session.key.first) ? item.log_start : Offset(-1);
  session.watermark = false;
  parcel.push.partitions.push_back(item);
  return true;
}

bool ReplicationSessions::send(Link& link, Parcel parcel) {
  parcel.push.reply_route = shard_;
  parcel.push.sequence = ++link.sequence;
  PeerFrame frame;
  frame.kind = PeerKind::kPush;
  frame.route = link.key.second;
  frame.body = encode(parcel.push);
  if (parcel.pieces.size() == 1) {
    frame.bulk = parcel.pieces[0];
  } else if (!parcel.pieces.empty()) {
    Bytes all;
    all.reserve(parcel.bytes);
    for (const SharedBytes& piece : parcel.pieces) all.append(piece.view());
    frame.bulk = SharedBytes(std::move(all));
  }
  if (!transport_.send(link.key.first, PeerChannel::kReplication, std::move(frame))) {
    // The connection is gone, which will be told, or its queue is full: what was taken out has to be sent again, so
    // these sessions begin anew. The gap in the sequence tells the follower as well.
    for (const auto& item : parcel.push.partitions) {
      const SessionKey key{link.key.first, item.session};
      env_.executor().post([this, key, alive = std::weak_ptr<bool>(alive_)] {
        if (!alive.expired()) end(key, true);
      });
    }
    return false;
  }
  link.waiting_bytes -= std::min(link.waiting_bytes, parcel.bytes);
  if (parcel.bytes > 0) {
    link.unanswered.push_back(
        {link.sequence, parcel.bytes, env_.clock().monotonic_ns(), parcel.catch_up, link.behind_bytes});
    link.unanswered_bytes += parcel.bytes;
    link.catching_up += parcel.catch_up ? 1 : 0;
    if (link.unanswered.size() == 1) {
      note_unanswered(link.key.first);
      host_.watch();
    }
  }
  return true;
}

}  // namespace trilog
