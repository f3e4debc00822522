// ProducerStateManager: per producer of one partition the last batches, so that a repeated batch is recognised and
// answered with its first offset instead of being written twice (rule R17). Rebuilt from the log and from snapshots
// tied to an offset. Semantics: kafka-protocol "Idempotent producer"; we remember 64 batches where Kafka's clients need
// five.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/base/status.h"
#include "storage/record/record_batch.h"

namespace trilog {

inline constexpr size_t kProducerBatchesKept = 64;
inline constexpr size_t kProducersMax = 100'000;  // per partition; beyond it the longest idle hundredth goes

enum class SequenceVerdict {
  kAppend,      // no producer id, or the next in sequence, or nothing known of this producer
  kDuplicate,   // one of the remembered batches: answer with its offset
  kOutOfOrder,  // OUT_OF_ORDER_SEQUENCE
  kOldEpoch,    // INVALID_PRODUCER_EPOCH
};

struct SequenceCheck {
  SequenceVerdict verdict = SequenceVerdict::kAppend;
  Offset first_offset = kNoOffset;  // of the duplicate
  int64_t timestamp_ms = kNoTimestamp;
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  int32_t expected_sequence = kNoSequence;  // for the message of kOutOfOrder
};

class ProducerStateManager {
 public:
  // What to do with `batch`; changes nothing.
  SequenceCheck check(const RecordBatch& batch) const;
  // `batch` is in the log at its (stamped) base offset. Also used when replaying.
  void record(const RecordBatch& batch, int64_t now_ms);
  // Forgets what lies at or past `end`; the caller replays from the newest snapshot at or below it.
  void clear() { producers_.clear(); }
  // Forgets producers idle for longer than `idle_ms` (default 24 h in options), unless `clock_trusted` is false (F14).
  void expire(int64_t now_ms, int64_t idle_ms, bool clock_trusted);
  size_t size() const { return producers_.size(); }

  // A snapshot in a checksummed frame (checkpoint_file.h). Everything recorded lies below `as_of` (CHECKed).
  Bytes encode(Offset as_of) const;
  // Replaces the state; returns the offset it is tied to. On failure (kCorruption, kUnsupported) nothing changes.
  Result<Offset> decode(ByteView bytes);

 private:
  struct Batch {
    int32_t first_sequence;
    int32_t last_sequence;
    Offset first_offset;
    int32_t offset_delta;
    int64_t timestamp_ms;
    LeaderEpoch leader_epoch;
  };
  struct Producer {
    ProducerEpoch epoch;
    int64_t last_used_ms = 0;
    std::vector<Batch> batches;  // newest last
  };
  void evict_longest_idle(ProducerId spared);

  std::map<ProducerId, Producer> producers_;
};

}  // namespace trilog
