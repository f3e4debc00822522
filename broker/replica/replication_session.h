// ReplicationSessions: the leader's half of replication for one shard (rule R2). A follower opens one session per
// partition; all sessions of one follower's shard share a link. Whenever the log end or the high watermark of a
// partition moves, what is new goes down the links that have a session for it: one push carries everything that has
// come together for the link, within the follower's credit.
//
// Batches are read from the log, checked (S9) and sent as they lie there. While few pushes are unanswered each goes out
// at once; otherwise they grow, so that under load one push, and one sync of the follower, carries all that arrived
// during the last one. A high watermark alone waits a little for company. No timer runs while nothing is to be sent.
//
// What a follower missed while it was out of the ISR goes beside the live records, not before them: one smaller push at
// a time, and then a rest as long as its answer took. Only where about as much is appended meanwhile does it take its
// turn among all the rest, because the follower would never catch up otherwise.
//
// On the shard's thread. Sessions end when the follower, the connection, the leader epoch or the partition does.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "broker/api/peer_transport.h"
#include "broker/replica/partition.h"
#include "broker/replica/replica_peers.h"
#include "proto/kafka/replication_messages.h"
#include "storage/env/env.h"

namespace trilog {

class ReplicationSessions {
 public:
  struct Host {
    std::function<Partition*(const TopicPartition&)> find;  // with an open log, else null
    // What is known of the partition's followers changed: high watermark and ISR are to be looked at.
    std::function<void(Partition&)> followers_moved;
    std::function<void()> watch;  // check() is to be called soon, and as long as it says so
  };
  ReplicationSessions(Env& env, const ReplicaOptions& options, PeerTransport& transport, uint32_t shard,
                      ReplicaPeers& peers, Host host);

  void on_open(BrokerId from, const peer::OpenSession& message);
  void on_close(BrokerId from, const peer::CloseSession& message);
  void on_progress(BrokerId from, const peer::Progress& message);

  // The log end (by `bytes`), the high watermark or the log start moved.
  void moved(Partition& partition, uint64_t bytes);
  // The partition is not led in this epoch any more, or gone. Followers hear of it by metadata.
  void drop(const TopicPartition& partition);
  // The connection is lost, or a new one replaced it: what was on its way is lost.
  void drop_peer(BrokerId peer);
  // Links that have not answered for long begin anew. True if there is something to watch.
  bool check(int64_t now_ns);
  void stop();

  // At most so many pushes with batches are unanswered before they have to be large.
  static constexpr size_t kPushesAtOnce = 3;
  static constexpr uint64_t kLargePushBytes = 256u << 10;
  static constexpr uint64_t kShareBytesMin = 64u << 10;  // of one partition in one push, while others wait
  static constexpr uint32_t kCatchUpPushBytes = 256u << 10;
  static constexpr int64_t kRestNsMax = 100'000'000;
  static constexpr int64_t kHighWatermarkDelayNs = 5'000'000;
  static constexpr size_t kSessionsMax = 1'000'000;

 private:
  using LinkKey = std::pair<BrokerId, uint32_t>;
  using SessionKey = std::pair<BrokerId, peer::SessionId>;
  struct Unanswered {
    uint64_t sequence;
    uint64_t bytes;
    int64_t sent_ns;
    bool catch_up;           // some of it for sessions that are behind,
    uint64_t behind_before;  // with Link::behind_bytes as it was then
  };
  struct Link {
    LinkKey key;
    uint64_t credit = 0;
    uint64_t sequence = 0;  // of the last push
    std::deque<Unanswered> unanswered;
    uint64_t unanswered_bytes = 0;
    uint64_t waiting_bytes = 0;      // about so many are appended and not pushed
    std::deque<SessionKey> waiting;  // sessions with batches to push
    std::deque<SessionKey> behind;   // those that are behind, as long as there is no hurry
    size_t catching_up = 0;          // unanswered pushes for sessions that are behind
    uint64_t behind_bytes = 0;       // appended to their partitions, ever
    bool resting = false;
    bool hurry = false;                  // they would not get nearer with rests, and wait among the others
    std::vector<SessionKey> watermarks;  // sessions with nothing new but the high watermark or log start
    bool timer = false;
  };
  struct Session {
    SessionKey key;
    TopicPartition partition;
    LinkKey link;
    LeaderEpoch leader_epoch = kNoLeaderEpoch;
    BrokerEpoch broker_epoch{-1};
    Offset next{0};
    Offset told_high_watermark{-1};
    Offset told_log_start{-1};
    bool waiting = false;    // in Link::waiting or Link::behind, or loading
    bool behind = false;     // out of the ISR, and more than a push away from the end
    bool watermark = false;  // in Link::watermarks
  };
  // One push in the making.
  struct Parcel {
    peer::Push push;
    std::vector<SharedBytes> pieces;
    uint64_t bytes = 0;
    bool catch_up = false;
  };
  // Reads of this round, so that two followers at the same place cost one.
  using Runs = std::map<std::pair<TopicPartition, Offset>, BatchRun>;

  void open_one(BrokerId from, const peer::OpenSession& message, const peer::OpenSession::Partition& asked);
  std::optional<peer::CloseReason> refuse(BrokerId from, BrokerEpoch epoch,
                                          const peer::OpenSession::Partition& asked) const;
  void turn_away(BrokerId to, uint32_t route, peer::SessionId session, peer::CloseReason reason, Offset log_start);
  void want(Session& session);
  static std::deque<SessionKey>& queue_of(Link& link, const Session& session);
  void end(const SessionKey& key, bool tell_progress);
  void flush_later();
  void flush();
  void pump(Link& link, Runs& runs);
  bool may_push(const Link& link) const;
  bool may_catch_up(const Link& link) const;
  // One push of what `queue` wants, of at most about `bytes_max`; false if there was none.
  bool push(Link& link, std::deque<SessionKey>& queue, uint64_t bytes_max, Runs& runs);
  void answered(Link& link, const Unanswered& push);
  // Adds what the session has to say; false if it can say nothing now.
  bool add(Parcel& parcel, Session& session, Partition& partition, uint32_t bytes_max, Runs& runs);
  const BatchRun* run_at(Session& session, Partition& partition, uint32_t bytes_max, Runs& runs);
  bool send(Link& link, Parcel parcel);
  void note_unanswered(BrokerId peer);
  void send_frame(BrokerId to, uint32_t route, PeerKind kind, Bytes body);

  Env& env_;
  const ReplicaOptions& options_;
  PeerTransport& transport_;
  const uint32_t shard_;
  ReplicaPeers& peers_;
  Host host_;
  std::map<LinkKey, Link> links_;
  std::map<SessionKey, Session> sessions_;
  std::map<TopicPartition, std::vector<SessionKey>> by_partition_;
  bool flush_posted_ = false;
  bool stopped_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trilog
