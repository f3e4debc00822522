// ReplicaFetcher: the follower's half of replication for one shard. For every partition that another broker leads it
// opens a session with that broker's shard, appends what is pushed, and reports how far it has come, fetched and
// durable, as either moves (rule R2).
//
// A push is applied only if its session still is the partition's (R14): a change of leader or leader epoch, a lost
// connection and a cut each end the session, and what arrives for it later is nobody's. Where the logs differ the own
// one is cut before anything is appended (R10-R13); the lowered mark is on the disk before that (S2). Rather than be
// cut below its own high watermark a replica stops (R15) until another leader epoch begins.
//
// On the shard's thread. One timer serves all partitions that wait for another attempt; none runs otherwise.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "broker/api/peer_transport.h"
#include "broker/replica/partition.h"
#include "broker/replica/replica_peers.h"
#include "proto/kafka/replication_messages.h"
#include "storage/env/env.h"

namespace trilog {

class ReplicaFetcher {
 public:
  struct Host {
    // So many bytes were appended, or the high watermark or log start moved.
    std::function<void(Partition&, uint64_t bytes)> moved;
    // The partition's mark, and all others that changed, are to be on the disk when `done` runs.
    std::function<void(Partition&, UniqueFunction<void(Status)> done)> persist_mark;
    std::function<void(const Partition&)> disk_full;
    std::function<void()> watch;  // check() is to be called soon, and as long as it says so
  };
  ReplicaFetcher(Env& env, const ReplicaOptions& options, PeerTransport& transport, uint32_t shard, ReplicaPeers& peers,
                 Host host);

  // The metadata of the partition changed: follows whoever leads it now, if that is another broker. The partition must
  // be forgotten before it is destroyed or loses its log.
  void follow(Partition& partition);
  void forget(const TopicPartition& partition);

  void on_push(BrokerId from, const peer::Push& message, const SharedBytes& batches);
  void on_epoch_end(BrokerId from, const peer::EpochEnd& message);
  void on_close(BrokerId from, const peer::CloseSession& message);
  void on_connected(BrokerId peer);
  void on_disconnected(BrokerId peer);

  // Its durable end moved, or it failed.
  void durable_moved(const Partition& partition);
  // Sessions that were not answered are opened again. True if there is something to watch.
  bool check(int64_t now_ns);
  void stop();

  static constexpr int64_t kOpenNsMax = 2'000'000'000;  // then it is asked again

 private:
  enum class State : uint8_t {
    kWaiting,  // for a connection or the next attempt
    kOpening,  // asked
    kOpen,
    kCutting,  // the lowered mark is on its way to the disk
    kHalted,
  };
  using LinkKey = std::pair<BrokerId, uint32_t>;  // a leader's shard
  struct Follow {
    Partition* partition = nullptr;
    BrokerId leader = kNoBroker;
    LeaderEpoch leader_epoch = kNoLeaderEpoch;
    State state = State::kWaiting;
    peer::SessionId session;
    LinkKey link;
    bool reporting = false;  // in Link::reports
    int64_t asked_ns = 0;
    int64_t retry_ns = INT64_MAX;  // in retries_
    uint32_t failures = 0;
  };
  struct Link {
    uint64_t sequence = 0;  // of the last push
    bool credit = false;    // it, or one before, held batches and was not answered
    std::vector<peer::SessionId> reports;
  };

  Follow* by_session(BrokerId from, peer::SessionId session);
  void begin(Follow& follow);
  void open(Follow& follow);
  void leave(Follow& follow, bool tell);
  void retry_later(Follow& follow);
  void arm();
  void retry_due();
  // False if nothing was applied and the session has ended.
  bool apply(Follow& follow, const peer::Push::Partition& item, ByteView batches);
  void append_failed(Follow& follow, const Status& why);
  void cut(Follow& follow, const EpochEnd& leader);
  void restart(Follow& follow, Offset start, const char* why);
  // Persists the lowered mark, then runs `change` on the log, unless the session is over by then.
  void change_log(Follow& follow, const LogMark& mark, UniqueFunction<Status(Partition&)> change);
  // The own log could not be changed: tries again later, or stops following.
  void refused(Follow& follow, const Status& why);
  void halt(Follow& follow, const Status& why);
  void report(Follow& follow);
  void report_later();
  void send_reports();

  Env& env_;
  const ReplicaOptions& options_;
  PeerTransport& transport_;
  const uint32_t shard_;
  ReplicaPeers& peers_;
  Host host_;
  std::map<TopicPartition, Follow> follows_;
  std::map<peer::SessionId, TopicPartition> sessions_;
  std::map<LinkKey, Link> links_;
  std::set<std::pair<int64_t, TopicPartition>> retries_;
  TimerId timer_ = 0;
  int64_t timer_ns_ = INT64_MAX;
  bool reports_posted_ = false;
  bool stopped_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trilog
