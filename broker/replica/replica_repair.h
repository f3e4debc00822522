// ReplicaRepair: keeps the logs of one shard whole. A slow scrub reads all sealed segments again and again (S10); what
// it or a reader finds damaged is checked once more, and taken from another replica if it is (S9): any replica that has
// the same batches below its high watermark, the leader first. Until then it is not served.
//
// One log is mended at a time, and one scrubbed. On the shard's thread; after stop() nothing runs any more.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "broker/replica/partition.h"
#include "proto/kafka/peer_messages.h"
#include "storage/env/env.h"

namespace trilog {

class ReplicaRepair {
 public:
  struct Host {
    std::function<Partition*(const TopicPartition&)> find;  // with a log; else null
    std::function<std::vector<TopicPartition>()> all;
    // Of another broker; null if there are none.
    const FetchRange* fetch_range = nullptr;
    std::function<void(Partition&)> mended;
  };
  ReplicaRepair(Env& env, const ReplicaOptions& options, BrokerId self, Host host);

  // Begins to scrub.
  void start();
  void stop();
  // The partition's log has damaged ranges.
  void damaged(const TopicPartition& partition);
  // Its leader or its role changed: what could not be had before may be had now.
  void look_again(const TopicPartition& partition);

  // For another broker's repair: committed batches, the first one beginning at `request.from`, as they are stored here.
  // `done` is posted. kNotFound: not here, not yet, not any more; kCorruption: damaged here as well.
  static void read_range(Env& env, Partition& partition, const peer::RepairRangeRequest& request,
                         UniqueFunction<void(Result<SharedBytes>)> done);

  static constexpr uint32_t kRangeBytes = 256u << 10;  // of one answer, or one batch
  static constexpr int64_t kRetryNsLeast = 250'000'000;
  static constexpr int64_t kRetryNsMost = 30'000'000'000;  // F11: mended within a minute

 private:
  struct Damaged {
    int64_t retry_ns = 0;
    uint32_t failures = 0;
  };
  struct Fetch;
  void look_later();
  void look();
  void mend(const TopicPartition& id);
  void ended(const TopicPartition& id, const Result<uint64_t>& result);
  void fetch(const TopicPartition& id, Offset from, Offset to, UniqueFunction<void(Result<SharedBytes>)> done);
  void ask_next(std::shared_ptr<Fetch> fetch);
  void begin_pass();
  void scrub();
  void after(int64_t delay_ns, void (ReplicaRepair::*next)());
  void scrubbed(const TopicPartition& id, uint64_t bytes);

  Env& env_;
  const ReplicaOptions& options_;
  const BrokerId self_;
  Host host_;
  std::map<TopicPartition, Damaged> damaged_;
  bool mending_ = false;
  TimerId retry_timer_ = 0;
  // Of the pass of the scrub under way.
  std::vector<TopicPartition> to_scrub_;  // from the back
  int64_t pass_began_ns_ = 0;
  uint64_t bytes_per_second_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trilog
