#include "tests/storage/crash/log_model.h"

#include <algorithm>
#include <utility>

#include "storage/base/codec.h"
#include "storage/log/checkpoint_file.h"
#include "storage/log/log_slice.h"
#include "tests/sim/sim_executor.h"

namespace trilog::crash {
namespace {

std::string text(Offset offset) { return std::to_string(offset.value()); }

std::string text(const std::vector<EpochEntry>& entries) {
  std::string out;
  for (const EpochEntry& entry : entries) {
    out += " " + std::to_string(entry.epoch.value()) + "@" + text(entry.start);
  }
  return out;
}

const ModelBatch* batch_at(const Timeline& timeline, Offset base) {
  auto found = std::lower_bound(timeline.begin(), timeline.end(), base,
                                [](const ModelBatch& batch, Offset wanted) { return batch.base < wanted; });
  return found == timeline.end() || found->base != base ? nullptr : &*found;
}

bool holds(const std::vector<ModelProducer::Batch>& whole, const std::vector<ModelProducer::Batch>& end) {
  return end.size() <= whole.size() && std::equal(end.rbegin(), end.rend(), whole.rbegin());
}

}  // namespace

size_t batches_below(const Timeline& timeline, Offset end) {
  auto found = std::lower_bound(timeline.begin(), timeline.end(), end,
                                [](const ModelBatch& batch, Offset wanted) { return batch.base < wanted; });
  return static_cast<size_t>(found - timeline.begin());
}

std::string LogComparison::run(uint64_t seed) {
  if (std::string wrong = check_ends(); !wrong.empty()) return wrong;
  if (std::string wrong = read_everything(); !wrong.empty()) return wrong;
  // What a quarantined hole held is unknown, so there is no scan or replay to compare with.
  if (holes_.empty()) {
    if (std::string wrong = check_epochs(); !wrong.empty()) return wrong;
    if (std::string wrong = check_producers(); !wrong.empty()) return wrong;
  }
  if (std::string wrong = check_lookups(seed); !wrong.empty()) return wrong;
  if (holes_.empty()) log_.check_invariants();
  return "";
}

std::string LogComparison::check_ends() {
  if (log_.failed()) return "the log is failed after recovery";
  if (log_.recovery().lost_below_mark) return "recovery says that records below the mark are missing";
  if (log_.durable_end() != log_.log_end()) return "recovery left durable_end below log_end";
  if (log_.log_end() < expected_.acknowledged) {
    return "acknowledged up to " + text(expected_.acknowledged) + ", but the log ends at " + text(log_.log_end());
  }
  // The name of the first file may be lost and that of the second kept: that looks like retention, and as long as
  // nobody was promised a record it does no harm.
  bool too_late = log_.log_start() > expected_.start_most && expected_.acknowledged > expected_.start_most;
  if (log_.log_start() < expected_.start_least || too_late) {
    return "the log starts at " + text(log_.log_start()) + ", not within " + text(expected_.start_least) + " to " +
           text(expected_.start_most);
  }
  if (log_.log_start() > log_.log_end()) return "the log starts behind its end";
  for (const DamagedRange& range : log_.damaged_ranges()) {
    // Rule S2 keeps good batches that follow an unsynced hole, and fences the hole. Nobody was promised what was in it.
    if (range.first < expected_.acknowledged) return "damage at " + text(range.first) + ": " + range.what;
    holes_.push_back(range);
  }
  return "";
}

std::string LogComparison::read_everything() {
  const Timeline& timeline = *expected_.timeline;
  Offset at = log_.log_start();
  bool first = true;
  while (at < log_.log_end()) {
    auto slice = log_.read(at, 1u << 20, log_.log_end());
    Result<BatchRun> run = slice.ok() ? read_slice(*slice) : Result<BatchRun>(slice.status());
    const DamagedRange* hole = hole_at(at);
    if (!run.ok() && run.status().code() == Errc::kCorruption && hole != nullptr) {
      at = hole->next_good;
      continue;
    }
    if (!run.ok()) return "reading at " + text(at) + ": " + run.status().to_string();
    if (run->batches.empty()) return "no batch at " + text(at);
    if (std::exchange(first, false)) {
      size_t removed = batches_below(timeline, run->batches.front().base_offset());
      found_.assign(timeline.begin(), timeline.begin() + static_cast<std::ptrdiff_t>(removed));
      first_read_ = removed;
      if (run->batches.front().base_offset() > at) return "the first batch begins behind " + text(at);
    } else if (run->batches.front().base_offset() != at) {
      return "expected a batch at " + text(at) + ", not " + text(run->batches.front().base_offset());
    }
    for (const RecordBatch& batch : run->batches) {
      if (std::string wrong = accept(batch); !wrong.empty()) return wrong;
    }
    if (run->next_offset <= at) return "reading does not get on at " + text(at);
    at = run->next_offset;
  }
  if (first) {  // nothing to read: everything was removed, or nothing is there
    size_t removed = batches_below(timeline, log_.log_end());
    found_.assign(timeline.begin(), timeline.begin() + static_cast<std::ptrdiff_t>(removed));
    first_read_ = removed;
  }
  if (at != log_.log_end()) return "the last batch ends at " + text(at) + ", the log at " + text(log_.log_end());
  return "";
}

const DamagedRange* LogComparison::hole_at(Offset offset) const {
  for (const DamagedRange& hole : holes_) {
    if (hole.first <= offset && offset < hole.next_good) return &hole;
  }
  return nullptr;
}

std::string LogComparison::accept(const RecordBatch& batch) {
  for (const Timeline* timeline : {expected_.timeline.get(), expected_.failed_appends.get()}) {
    bool failed = timeline == expected_.failed_appends.get();
    if (failed && batch.base_offset() < expected_.acknowledged) break;
    if (!failed) {
      const ModelBatch* model = batch_at(*timeline, batch.base_offset());
      if (model == nullptr || !bytes_equal(model->bytes, batch.bytes())) continue;
      found_.push_back(*model);
      return "";
    }
    for (const ModelBatch& model : *timeline) {
      if (!bytes_equal(model.bytes, batch.bytes())) continue;
      found_.push_back(model);
      return "";
    }
  }
  bool known = batch_at(*expected_.timeline, batch.base_offset()) != nullptr;
  return "the batch at " + text(batch.base_offset()) +
         (known ? " is not the one that was written there" : " was never written");
}

std::string LogComparison::check_epochs() const {
  LeaderEpochCache scanned;
  for (const ModelBatch& batch : found_) scanned.assign(batch.epoch, batch.base);
  scanned.truncate_from_start(log_.log_start());
  std::vector<EpochEntry> expected = scanned.entries();
  LeaderEpochCache known = log_.epochs();
  known.truncate_from_start(log_.log_start());  // it may reach further down, to where the first file begins
  std::vector<EpochEntry> cached = known.entries();
  // An epoch may have begun at the end without a record that was kept.
  bool begun = !cached.empty() && cached.back().start == log_.log_end();
  if (begun && (expected.empty() || expected.back().epoch < cached.back().epoch)) cached.pop_back();
  if (cached == expected) return "";
  // What nobody was promised may be lost together with its epochs (see check_ends); those of what is left are known.
  bool lost_beginning = log_.log_start() > expected_.start_most || log_.log_start() == log_.log_end();
  auto right = [this](const ModelBatch& batch) { return log_.epochs().epoch_at(batch.base) == batch.epoch; };
  if (lost_beginning && std::all_of(found_.begin() + static_cast<std::ptrdiff_t>(first_read_), found_.end(), right)) {
    return "";
  }
  return "leader epochs are" + text(cached) + "; a scan gives" + text(expected);
}

std::string LogComparison::check_producers() const {
  ModelProducers expected = replay_producers(found_);
  ModelProducers remaining =
      replay_producers({found_.begin() + static_cast<std::ptrdiff_t>(first_read_), found_.end()});
  ModelProducers actual = producers_of(log_.producers(), log_.log_end());
  for (const auto& [id, producer] : actual) {
    auto known = expected.find(id);
    if (known == expected.end()) return "a producer that never wrote: " + std::to_string(id.value());
    if (producer.epoch != known->second.epoch) return "producer " + std::to_string(id.value()) + " has a wrong epoch";
    // A snapshot remembers batches that retention has removed; without one, the log's own batches are all there is.
    if (!holds(known->second.batches, producer.batches)) {
      return "producer " + std::to_string(id.value()) + " remembers batches that a replay does not give";
    }
  }
  for (const auto& [id, producer] : remaining) {
    auto known = actual.find(id);
    if (known == actual.end()) return "producer " + std::to_string(id.value()) + " is forgotten";
    if (!holds(known->second.batches, producer.batches)) {
      return "producer " + std::to_string(id.value()) + " has forgotten batches that are in the log";
    }
  }
  return "";
}

std::string LogComparison::check_lookups(uint64_t seed) const {
  if (first_read_ == found_.size()) return "";
  sim::SeededRandom random(seed);
  for (int i = 0; i < 4; ++i) {
    const ModelBatch& batch = found_[first_read_ + random.below(found_.size() - first_read_)];
    auto span = static_cast<uint64_t>(batch.next - batch.base);
    Offset offset = std::max(log_.log_start(), batch.base + static_cast<int64_t>(random.below(span)));
    auto slice = log_.read(offset, 1, log_.log_end());
    if (!slice.ok()) return "looking up " + text(offset) + ": " + slice.status().to_string();
    auto run = read_slice(*slice);
    if (!run.ok() || run->batches.empty()) return "nothing readable where the index leads for " + text(offset);
    if (!bytes_equal(run->batches.front().bytes(), batch.bytes)) return "the index leads astray for " + text(offset);
  }
  for (int i = 0; i < 3; ++i) {
    const ModelBatch& batch = found_[first_read_ + random.below(found_.size() - first_read_)];
    int64_t timestamp = batch.timestamps[random.below(batch.timestamps.size())];
    std::string wrong = check_timestamp(timestamp + static_cast<int64_t>(random.below(3)) - 1);
    if (!wrong.empty()) return wrong;
  }
  return check_timestamp(INT64_MAX);
}

std::string LogComparison::check_timestamp(int64_t timestamp_ms) const {
  std::optional<TimestampedOffset> expected;
  for (size_t i = first_read_; i < found_.size() && !expected; ++i) {
    const ModelBatch& batch = found_[i];
    for (size_t j = 0; j < batch.timestamps.size() && !expected; ++j) {
      Offset offset = batch.base + static_cast<int64_t>(j);
      if (offset < log_.log_start() || batch.timestamps[j] < timestamp_ms) continue;
      expected = TimestampedOffset{offset, batch.timestamps[j], batch.epoch};
    }
  }
  auto actual = log_.find_timestamp(timestamp_ms, log_.log_end());
  std::string where = "looking for timestamp " + std::to_string(timestamp_ms) + ": ";
  if (!actual.ok()) {
    // A hole that the search would have to pass over is an honest answer.
    bool hole = !holes_.empty() && actual.status().code() == Errc::kCorruption;
    return hole ? "" : where + actual.status().to_string();
  }
  if (actual->has_value() != expected.has_value()) {
    return where + (expected ? "did not find " + text(expected->offset) : "found " + text((*actual)->offset));
  }
  if (!expected) return "";
  if ((*actual)->offset != expected->offset) {
    return where + "found " + text((*actual)->offset) + ", not " + text(expected->offset);
  }
  if ((*actual)->timestamp_ms != expected->timestamp_ms || (*actual)->leader_epoch != expected->leader_epoch) {
    return where + "wrong timestamp or epoch of " + text(expected->offset);
  }
  return "";
}

ModelProducers replay_producers(const Timeline& timeline) {
  ModelProducers producers;
  for (const ModelBatch& batch : timeline) {
    if (batch.producer == kNoProducerId) continue;
    ModelProducer& producer = producers[batch.producer];
    if (batch.producer_epoch > producer.epoch) producer.batches.clear();
    producer.epoch = batch.producer_epoch;
    producer.batches.push_back({batch.first_sequence, batch.last_sequence, batch.base});
    if (producer.batches.size() > kProducerBatchesKept) producer.batches.erase(producer.batches.begin());
  }
  return producers;
}

ModelProducers producers_of(const ProducerStateManager& state, Offset as_of) {
  Bytes encoded = state.encode(as_of);
  ByteReader in(unframe_checkpoint(encoded, 1).value());
  ModelProducers producers;
  in.read<int64_t>();
  uint32_t count = in.read<uint32_t>();
  for (uint32_t i = 0; i < count; ++i) {
    ModelProducer& producer = producers[ProducerId(in.read<int64_t>())];
    producer.epoch = ProducerEpoch(in.read<int16_t>());
    in.read<int64_t>();
    uint32_t batches = in.read<uint32_t>();
    for (uint32_t j = 0; j < batches; ++j) {
      ModelProducer::Batch batch;
      batch.first_sequence = in.read<int32_t>();
      batch.last_sequence = in.read<int32_t>();
      batch.base = Offset(in.read<int64_t>());
      in.read_bytes(4 + 8 + 4);
      producer.batches.push_back(batch);
    }
  }
  CHECK(in.ok() && in.at_end());
  return producers;
}

}  // namespace trilog::crash
