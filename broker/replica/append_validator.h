// What the broker checks on a produced batch before it is appended, and what it stamps into it. Source of the list:
// the Kafka protocol's rules for RecordBatch v2 on append.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "broker/api/error_code.h"
#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/log/log.h"
#include "storage/record/record_batch.h"

namespace trilog {

inline constexpr size_t kBatchesPerAppendMax = 10'000;

// One batch of a request that passed.
struct CheckedBatch {
  size_t position = 0;  // in the request
  size_t size = 0;
  int32_t offset_count = 0;
  bool duplicate = false;
  // Of a duplicate: where the first copy is in the log, unless `same_as` says that it is in this very request.
  Offset first_offset = kNoOffset;
  int64_t timestamp_ms = kNoTimestamp;
  LeaderEpoch leader_epoch = kNoLeaderEpoch;
  std::optional<size_t> same_as;
};

// All batches of a request are checked before any is appended, so that a refused request leaves nothing behind. The
// batches are also checked against each other: the second batch of a producer must follow the first one.
//   INVALID_REQUEST        empty, too many batches, a batch that sets what only the broker may set, or a record with
//                          too many headers
//   CORRUPT_BATCH          frame, lengths, magic, CRC, counts or records do not hold together
//   UNSUPPORTED_CODEC      codec 5 to 7
//   RECORD_TOO_LARGE       a batch over `batch_bytes_max`
//   INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE
// The message names the batch if there are several, what is wrong and the limit.
api::Answer<std::vector<CheckedBatch>> check_append(ByteView batches, int64_t batch_bytes_max,
                                                    const ProducerStateManager& producers);

// Stamps one batch in place; `append_time_ms` also rewrites time and CRC.
void stamp_batch(MutableByteView batch, Offset base, LeaderEpoch epoch, std::optional<int64_t> append_time_ms);

}  // namespace trilog
