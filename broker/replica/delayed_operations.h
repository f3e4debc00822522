// The two kinds of operations that wait in the purgatory: an append for its acks, a reader for bytes.
//
// Both refer to partitions that stay alive as long as they are parked: a partition that goes away is rechecked first,
// and then both are ready.
#pragma once

#include <cstdint>
#include <vector>

#include "broker/replica/partition.h"
#include "broker/replica/purgatory.h"
#include "broker/replica/replica_manager.h"

namespace trilog {

using AppendDone = UniqueFunction<void(AppendResult)>;

// An append that is in the log and waits until its acks are met: kAll for the high watermark (R5), kLeader for the
// leader's own position. Whatever else ends the wait, the outcome is unknown: the batch may survive (X5).
class DelayedProduce : public DelayedOperation {
 public:
  // `result` is what is answered when all goes well; everything in it lies below `end`.
  DelayedProduce(Env& env, const Partition& partition, api::Acks acks, Offset end, AppendResult result,
                 AppendDone done);
  bool ready() override;
  void complete(Ending ending) override;

  // Where to park it.
  Watch watch() const;

 private:
  bool acks_met() const;
  // Why the acks will not come, or nothing.
  std::optional<api::Error> hopeless() const;
  api::Error gave_up(Ending ending) const;

  Env& env_;
  const Partition& partition_;
  const uint64_t tenure_;
  const api::Acks acks_;
  const Offset end_;
  AppendResult result_;
  AppendDone done_;
};

// A reader that waits until its parts have enough bytes in sum, or an error.
class DelayedFetch : public DelayedOperation {
 public:
  struct Part {
    Partition* partition;
    ReadRequest request;
  };
  DelayedFetch(Env& env, std::vector<Part> parts, uint32_t bytes_min, api::Isolation isolation,
               UniqueFunction<void()> done);
  bool ready() override;
  void complete(Ending ending) override;
  std::vector<Watch> watches() const;

 private:
  Env& env_;
  std::vector<Part> parts_;
  const uint32_t bytes_min_;
  const api::Isolation isolation_;
  UniqueFunction<void()> done_;
};

}  // namespace trilog
