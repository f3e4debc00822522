// How the replicas of a shard take part in replication: sessions and fetchers follow their roles, followers' progress
// moves high watermarks and in-sync replicas.
#include <algorithm>
#include <utility>

#include "broker/replica/replica_manager_impl.h"
#include "storage/base/check.h"

namespace trilog {

namespace {
// Between two requests for the ISR of one partition of which the first failed.
constexpr int64_t kAlterRetryNs = 200'000'000;
}  // namespace

// --- wiring --------------------------------------------------------------------------------------------------------

void ReplicaManager::Impl::make_replication(ReplicaNetwork network) {
  CHECK(!replication && partitions.empty() && network.transport != nullptr);
  replication = std::make_unique<Replication>();
  Replication& self = *replication;
  fetch_range = std::move(network.fetch_range);
  self.network = std::move(network);
  self.peers.self = options.self;
  // R18: a leader that is cut off stops taking writes before it would take others out of the ISR.
  CHECK_GE(options.replica_lag_ms_max, options.session_ms);
  self.peers.silence_ns_max = options.session_ms * 1'000'000;
  self.peers.lag_ns_max = options.replica_lag_ms_max * 1'000'000;
  self.sessions = std::make_unique<ReplicationSessions>(
      env, options, *self.network.transport, self.network.shard, self.peers,
      ReplicationSessions::Host{[this](const TopicPartition& id) { return with_log(id); },
                                [this](Partition& partition) { followers_moved(partition); },
                                [this] { check_later(); }});
  self.fetcher = std::make_unique<ReplicaFetcher>(
      env, options, *self.network.transport, self.network.shard, self.peers,
      ReplicaFetcher::Host{[this](Partition& partition, uint64_t bytes) { followed(partition, bytes); },
                           [this](Partition& partition, UniqueFunction<void(Status)> done) {
                             marks.touched(partition);
                             marks.persist_now(std::move(done));
                           },
                           [this](const Partition&) { disk.note_disk_full(); }, [this] { check_later(); }});
}

void ReplicaManager::set_network(ReplicaNetwork network) { impl_->make_replication(std::move(network)); }

void ReplicaManager::set_broker_epoch(BrokerEpoch epoch) {
  if (!impl_->replication) return;
  if (std::exchange(impl_->replication->peers.self_epoch, epoch) == epoch) return;
  if (impl_->image) impl_->brokers_changed();
}

void ReplicaManager::set_clock_agreement(bool agrees) {
  Impl& impl = *impl_;
  if (!agrees && impl.clock_agrees.value_or(true)) {
    impl.env.log().warning(
        "the wall clock of this node is more than an hour from those of the others: it removes nothing for its age "
        "until "
        "they agree; set the clock right");
  }
  impl.clock_agrees = agrees;
}

void ReplicaManager::set_controller_contact(int64_t sent_ns) {
  if (!impl_->replication) return;
  int64_t& known = impl_->replication->peers.controller_contact_ns;
  known = std::max(known, sent_ns);
}

void ReplicaManager::on_frame(BrokerId from, PeerChannel, PeerFrame frame) {
  if (!impl_->replication || impl_->stopping) return;
  Impl::Replication& self = *impl_->replication;
  auto deliver = [&](auto decoded, auto handle) {
    if (decoded.ok()) return handle(*decoded);
    impl_->env.log().warning("node ", from, ": ", decoded.status().to_string());
  };
  switch (frame.kind) {
    case PeerKind::kOpenSession:
      return deliver(peer::decode_open_session(frame.body),
                     [&](const auto& message) { self.sessions->on_open(from, message); });
    case PeerKind::kCloseSession:
      // Either side may end one; the session's number tells whose it is.
      return deliver(peer::decode_close_session(frame.body), [&](const auto& message) {
        self.sessions->on_close(from, message);
        self.fetcher->on_close(from, message);
      });
    case PeerKind::kPush:
      return deliver(peer::decode_push(frame.body),
                     [&](const auto& message) { self.fetcher->on_push(from, message, frame.bulk); });
    case PeerKind::kProgress:
      return deliver(peer::decode_progress(frame.body),
                     [&](const auto& message) { self.sessions->on_progress(from, message); });
    case PeerKind::kEpochEnd:
      return deliver(peer::decode_epoch_end(frame.body),
                     [&](const auto& message) { self.fetcher->on_epoch_end(from, message); });
    default: return;
  }
}

void ReplicaManager::on_connected(const PeerIdentity& peer, PeerChannel channel) {
  if (!impl_->replication || impl_->stopping || channel != PeerChannel::kReplication) return;
  Impl::Replication& self = *impl_->replication;
  self.sessions->drop_peer(peer.broker);  // of a connection that this one replaces
  self.peers.peers[peer.broker] = {.connected = true};
  self.fetcher->on_connected(peer.broker);
  impl_->check_later();
}

void ReplicaManager::on_disconnected(BrokerId peer, PeerChannel channel, bool) {
  if (!impl_->replication || impl_->stopping || channel != PeerChannel::kReplication) return;
  impl_->peer_lost(peer);
}

// R1: who waits for members that cannot be reached any more is told at once; R16: who waits at a follower may be served
// now.
void ReplicaManager::Impl::peer_lost(BrokerId peer) {
  replication->peers.peers[peer] = {};
  replication->sessions->drop_peer(peer);
  replication->fetcher->on_disconnected(peer);
  if (purgatory.size() == 0) return;
  for (auto& [id, partition] : partitions) {
    const auto& replicas = partition->image().replicas;
    if (std::find(replicas.begin(), replicas.end(), peer) != replicas.end()) purgatory.recheck(id);
  }
}

// --- roles ---------------------------------------------------------------------------------------------------------

void ReplicaManager::Impl::follow_role(Partition& partition, bool was_leader, LeaderEpoch epoch_before) {
  const TopicPartition& id = partition.id();
  const bool leads = partition.is_leader();
  if (was_leader != leads || epoch_before != partition.leader_epoch()) {
    replication->sessions->drop(id);
    replication->watched.erase(id);
    replication->alter_after_ns.erase(id);
    repair.look_again(id);
  }
  replication->fetcher->follow(partition);
  if (leads && partition.has_other_replicas()) watch_if_behind(partition);
  check_later();
}

void ReplicaManager::Impl::brokers_changed() {
  // Registrations decide who may lead, who may join, and whether this process may do anything at all.
  for (const auto& [name, topic] : image->topics()) apply_topic(topic);
  for (auto& [id, partition] : partitions) {
    partition->refresh_peers();
    if (partition->is_leader() && partition->has_other_replicas()) followers_moved(*partition);
  }
}

// --- the leader's followers ----------------------------------------------------------------------------------------

void ReplicaManager::Impl::followers_moved(Partition& partition) {
  positions_moved(partition);
  change_isr_if_wanted(partition);
  watch_if_behind(partition);
}

void ReplicaManager::Impl::watch_if_behind(Partition& partition) {
  const ReplicaProgress& progress = partition.progress();
  if (progress.change_under_way() || progress.anyone_behind(partition.log_end()) ||
      replication->alter_after_ns.contains(partition.id())) {
    replication->watched.insert(partition.id());
    check_later();
  }
}

void ReplicaManager::Impl::change_isr_if_wanted(Partition& partition) {
  if (stopping || !partition.is_leader() || !replication->network.alter_isr) return;
  auto& after = replication->alter_after_ns;
  if (auto found = after.find(partition.id()); found != after.end()) {
    if (env.clock().monotonic_ns() < found->second) return;
    after.erase(found);
  }
  ReplicaProgress& progress = partition.progress();
  if (auto again = progress.repeat(partition.id(), partition.leader_epoch())) {
    // One is under way; if its outcome became unknown it is asked for again (R8).
    if (progress.outcome_unknown()) ask_for_isr(partition, *std::move(again));
    return;
  }
  auto wanted = progress.wanted(partition.moment(), replication->peers.lag_ns_max);
  if (!wanted) return;
  IsrChange change = progress.propose(partition.id(), partition.leader_epoch(), *std::move(wanted));
  std::string members;
  for (const IsrMember& member : change.isr) members += " " + std::to_string(member.broker.value());
  env.log().info(partition.name(), ": asks for in-sync replicas", members);
  ask_for_isr(partition, std::move(change));
}

void ReplicaManager::Impl::ask_for_isr(Partition& partition, IsrChange change) {
  partition.progress().asked();
  replication->network.alter_isr(
      std::move(change),
      [this, id = partition.id(), epoch = partition.leader_epoch(), number = partition.progress().change_number(),
       still = std::weak_ptr<bool>(alive)](const api::Answer<IsrChanged>& answer) {
        if (!still.expired() && !stopping) isr_answered(id, epoch, number, answer);
      });
}

void ReplicaManager::Impl::isr_answered(const TopicPartition& id, LeaderEpoch epoch, uint64_t number,
                                        const api::Answer<IsrChanged>& answer) {
  Partition* partition = with_log(id);
  if (partition == nullptr || !partition->is_leader() || partition->leader_epoch() != epoch) return;
  ReplicaProgress& progress = partition->progress();
  if (progress.change_number() != number) return;  // metadata was faster
  if (answer.ok()) {
    // A newer leader epoch comes by metadata; until then the union counts.
    if (answer->leader_epoch == epoch) progress.accept(answer->partition_epoch, answer->isr);
    if (progress.change_under_way()) {
      progress.answered_without_outcome();
      replication->alter_after_ns[id] = env.clock().monotonic_ns() + kAlterRetryNs;
    }
  } else {
    if (answer.error().outcome == api::Outcome::kNotWritten) {
      env.log().info(partition->name(), ": in-sync replicas unchanged: ", answer.error().message);
      progress.withdraw();
    }
    progress.answered_without_outcome();
    replication->alter_after_ns[id] = env.clock().monotonic_ns() + kAlterRetryNs;
  }
  followers_moved(*partition);  // KAFKA-13091: also after a failure
  purgatory.recheck(id);
}

// --- a follower ----------------------------------------------------------------------------------------------------

void ReplicaManager::Impl::followed(Partition& partition, uint64_t bytes) {
  marks.touched(partition, bytes);
  const TopicPartition& id = partition.id();
  if (purgatory.size() > 0) {
    purgatory.reached({id, Watched::kHighWatermark}, partition.high_watermark());
    purgatory.reached({id, Watched::kLogEnd}, partition.log_end());
  }
  call_listener(id);
}

// --- the periodic look ---------------------------------------------------------------------------------------------

void ReplicaManager::Impl::check_later() {
  if (replication->checking || stopping) return;
  replication->checking = true;
  env.executor().schedule_after(kCheckNs, [this, still = std::weak_ptr<bool>(alive)] {
    if (still.expired() || stopping) return;
    replication->checking = false;
    check();
  });
}

void ReplicaManager::Impl::check() {
  const int64_t now_ns = env.clock().monotonic_ns();
  bool busy = replication->sessions->check(now_ns);
  busy = replication->fetcher->check(now_ns) || busy;
  const std::set<TopicPartition> watched = std::exchange(replication->watched, {});
  for (const TopicPartition& id : watched) {
    Partition* partition = with_log(id);
    if (partition == nullptr || !partition->is_leader() || !partition->has_other_replicas()) continue;
    followers_moved(*partition);
    if (partition->too_few_reachable()) purgatory.recheck(id);
  }
  if (busy || !replication->watched.empty()) check_later();
}

std::optional<ReplicaPosition> ReplicaManager::position(const TopicPartition& id) {
  Partition* partition = impl_->find(id);
  if (partition == nullptr) return std::nullopt;
  return partition->position();
}

}  // namespace trilog
