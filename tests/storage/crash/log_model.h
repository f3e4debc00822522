// What a log must hold, without any of the log's own code: batches in a row, and what may be missing at the end.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/log/log.h"
#include "storage/record/record_batch.h"

namespace trilog::crash {

struct ModelBatch {
  Offset base;
  Offset next;
  LeaderEpoch epoch;
  SharedBytes bytes;
  std::vector<int64_t> timestamps;  // of its records
  ProducerId producer = kNoProducerId;
  ProducerEpoch producer_epoch{-1};
  int32_t first_sequence = kNoSequence;
  int32_t last_sequence = kNoSequence;
};

// From offset 0 on without a gap, also what retention has removed since.
using Timeline = std::vector<ModelBatch>;

inline Offset end_of(const Timeline& timeline) { return timeline.empty() ? Offset(0) : timeline.back().next; }

// The number of batches that end at or below `end`, which must be a boundary.
size_t batches_below(const Timeline& timeline, Offset end);

struct LogExpectation {
  enum class Presence {
    kAbsent,
    kPresent,
    kRemoving,  // present, damaged by removal or absent; removing it again makes it absent
  };
  Presence presence = Presence::kPresent;
  PartitionMeta meta;                       // who it is
  std::vector<PartitionMeta> meta_allowed;  // what partition.meta may say once there is a record on disk
  LogConfig config;
  // What was appended, or is being appended. Any prefix may be found that reaches `acknowledged`.
  std::shared_ptr<const Timeline> timeline = std::make_shared<Timeline>();
  // Batches of an append that is going to fail (rule S8): above `acknowledged` they may stand where the timeline ends.
  std::shared_ptr<const Timeline> failed_appends = std::make_shared<Timeline>();
  Offset acknowledged{0};
  Offset start_least{0};
  Offset start_most{0};
  Offset high_watermark_least{0};
  // The log may also be as this says, while the decision between the two is being written.
  std::shared_ptr<const LogExpectation> or_else;
  // What a recovery within the program has quarantined (see LogComparison::holes).
  std::vector<DamagedRange> holes;
};

// Reads what an opened log holds and compares it with what it must hold. The log must be freshly recovered and idle.
class LogComparison {
 public:
  // `holes`: what an earlier recovery has quarantined; later ones meet it only when somebody reads there.
  LogComparison(Log& log, const LogExpectation& expected, std::vector<DamagedRange> holes = {})
      : log_(log), expected_(expected), holes_(std::move(holes)) {
    holes_.insert(holes_.end(), expected.holes.begin(), expected.holes.end());
  }
  // What is wrong; empty if nothing is. `seed` draws where it looks up single offsets and timestamps.
  std::string run(uint64_t seed);
  // Of run(): what was found, with what retention had removed before it.
  const Timeline& found() const { return found_; }
  // Ranges that nobody was promised and that cannot be read, because something good follows them (rule S2).
  const std::vector<DamagedRange>& holes() const { return holes_; }

 private:
  std::string check_ends();
  std::string read_everything();
  std::string accept(const RecordBatch& batch);
  std::string check_epochs() const;
  std::string check_producers() const;
  std::string check_lookups(uint64_t seed) const;
  std::string check_timestamp(int64_t timestamp_ms) const;

  const DamagedRange* hole_at(Offset offset) const;

  Log& log_;
  const LogExpectation& expected_;
  std::vector<DamagedRange> holes_;
  Timeline found_;
  size_t first_read_ = 0;  // of found_: read from the log, not taken from the model
};

// The state of each producer as encoded in a snapshot, without the times of last use.
struct ModelProducer {
  struct Batch {
    int32_t first_sequence;
    int32_t last_sequence;
    Offset base;
    bool operator==(const Batch&) const = default;
  };
  ProducerEpoch epoch{-1};
  std::vector<Batch> batches;
  bool operator==(const ModelProducer&) const = default;
};
using ModelProducers = std::map<ProducerId, ModelProducer>;
ModelProducers replay_producers(const Timeline& timeline);
// CHECKs that the snapshot is sound.
ModelProducers producers_of(const ProducerStateManager& state, Offset as_of);

}  // namespace trilog::crash
