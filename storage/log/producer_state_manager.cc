#include "storage/log/producer_state_manager.h"

#include <algorithm>
#include <utility>

#include "storage/base/codec.h"
#include "storage/log/checkpoint_file.h"

namespace trilog {

namespace {

constexpr uint32_t kVersion = 1;
// When the table is full, so many of the longest idle producers go at once, because finding them is a walk over all.
constexpr size_t kEvictedAtOnce = kProducersMax / 100;

// Sequences wrap from 2^31-1 to 0.
int32_t next_sequence(int32_t sequence) { return sequence == INT32_MAX ? 0 : sequence + 1; }

}  // namespace

SequenceCheck ProducerStateManager::check(const RecordBatch& batch) const {
  auto found = producers_.find(batch.producer_id());
  if (batch.producer_id() < ProducerId(0) || found == producers_.end()) return {};
  const Producer& producer = found->second;
  if (batch.producer_epoch() < producer.epoch) return {.verdict = SequenceVerdict::kOldEpoch};
  if (batch.base_sequence() == kNoSequence) return {};
  if (batch.producer_epoch() > producer.epoch) {
    if (batch.base_sequence() == 0) return {};
    return {.verdict = SequenceVerdict::kOutOfOrder, .expected_sequence = 0};
  }
  if (producer.batches.empty()) return {};
  for (const Batch& known : producer.batches) {
    if (known.first_sequence != batch.base_sequence() || known.last_sequence != batch.last_sequence()) continue;
    return {.verdict = SequenceVerdict::kDuplicate,
            .first_offset = known.first_offset,
            .timestamp_ms = known.timestamp_ms,
            .leader_epoch = known.leader_epoch};
  }
  int32_t expected = next_sequence(producer.batches.back().last_sequence);
  if (batch.base_sequence() == expected) return {};
  return {.verdict = SequenceVerdict::kOutOfOrder, .expected_sequence = expected};
}

void ProducerStateManager::record(const RecordBatch& batch, int64_t now_ms) {
  if (batch.producer_id() < ProducerId(0)) return;
  auto [at, is_new] = producers_.try_emplace(batch.producer_id());
  Producer& producer = at->second;
  if (is_new || batch.producer_epoch() > producer.epoch) {
    producer.epoch = batch.producer_epoch();
    producer.batches.clear();
  }
  producer.last_used_ms = now_ms;
  // Written by a coordinator: it carries an epoch, but is outside the sequence.
  if (batch.base_sequence() != kNoSequence && batch.producer_epoch() == producer.epoch) {
    if (producer.batches.size() == kProducerBatchesKept) producer.batches.erase(producer.batches.begin());
    producer.batches.push_back({batch.base_sequence(), batch.last_sequence(), batch.base_offset(),
                                batch.last_offset_delta(), batch.max_timestamp(), batch.leader_epoch()});
  }
  if (producers_.size() > kProducersMax) evict_longest_idle(batch.producer_id());
}

void ProducerStateManager::evict_longest_idle(ProducerId spared) {
  std::vector<std::pair<int64_t, ProducerId>> by_age;
  by_age.reserve(producers_.size());
  for (const auto& [id, producer] : producers_) {
    if (id != spared) by_age.emplace_back(producer.last_used_ms, id);
  }
  auto kept = by_age.begin() + kEvictedAtOnce;
  std::nth_element(by_age.begin(), kept, by_age.end());
  for (auto it = by_age.begin(); it != kept; ++it) producers_.erase(it->second);
}

void ProducerStateManager::expire(int64_t now_ms, int64_t idle_ms, bool clock_trusted) {
  if (!clock_trusted) return;
  std::erase_if(producers_, [&](const auto& entry) { return now_ms - entry.second.last_used_ms > idle_ms; });
}

Bytes ProducerStateManager::encode(Offset as_of) const {
  Bytes payload;
  ByteWriter out(payload);
  out.write<int64_t>(as_of.value());
  out.write<uint32_t>(static_cast<uint32_t>(producers_.size()));
  for (const auto& [id, producer] : producers_) {
    out.write<int64_t>(id.value());
    out.write<int16_t>(producer.epoch.value());
    out.write<int64_t>(producer.last_used_ms);
    out.write<uint32_t>(static_cast<uint32_t>(producer.batches.size()));
    for (const Batch& batch : producer.batches) {
      CHECK_LT(batch.first_offset + batch.offset_delta, as_of);
      out.write<int32_t>(batch.first_sequence);
      out.write<int32_t>(batch.last_sequence);
      out.write<int64_t>(batch.first_offset.value());
      out.write<int32_t>(batch.offset_delta);
      out.write<int64_t>(batch.timestamp_ms);
      out.write<int32_t>(batch.leader_epoch.value());
    }
  }
  return frame_checkpoint(kVersion, payload);
}

Result<Offset> ProducerStateManager::decode(ByteView bytes) {
  const Status bad(Errc::kCorruption, "the producers of a snapshot do not add up");
  ByteReader in(TRY(unframe_checkpoint(bytes, kVersion)));
  std::map<ProducerId, Producer> producers;
  Offset as_of(in.read<int64_t>());
  uint32_t count = in.read<uint32_t>();
  if (count > kProducersMax || as_of < Offset(0)) return bad;
  for (uint32_t i = 0; i < count && in.ok(); ++i) {
    ProducerId id(in.read<int64_t>());
    Producer producer;
    producer.epoch = ProducerEpoch(in.read<int16_t>());
    producer.last_used_ms = in.read<int64_t>();
    uint32_t batches = in.read<uint32_t>();
    bool rising = producers.empty() ? id >= ProducerId(0) : id > producers.rbegin()->first;
    if (!rising || batches > kProducerBatchesKept) return bad;
    for (uint32_t j = 0; j < batches && in.ok(); ++j) {
      Batch batch;
      batch.first_sequence = in.read<int32_t>();
      batch.last_sequence = in.read<int32_t>();
      batch.first_offset = Offset(in.read<int64_t>());
      batch.offset_delta = in.read<int32_t>();
      batch.timestamp_ms = in.read<int64_t>();
      batch.leader_epoch = LeaderEpoch(in.read<int32_t>());
      // Subtracted, not added: the sum of two hostile numbers may overflow.
      if (batch.first_offset < Offset(0) || batch.offset_delta < 0 ||
          as_of - batch.first_offset <= batch.offset_delta) {
        return bad;
      }
      producer.batches.push_back(batch);
    }
    producers.emplace_hint(producers.end(), id, std::move(producer));
  }
  if (!in.ok() || !in.at_end()) return bad;
  producers_ = std::move(producers);
  return as_of;
}

}  // namespace trilog
