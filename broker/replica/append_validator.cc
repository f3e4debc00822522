#include "broker/replica/append_validator.h"

#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace trilog {
namespace {

using api::Error;
using api::ErrorCode;

// Attributes: three bits of codec; all others are the broker's or do not exist.
constexpr int16_t kAttributesOfClients = 0x07;

std::string number(int64_t value) { return std::to_string(value); }

std::optional<Error> check_attributes(const RecordBatch& batch) {
  if (!batch.codec()) {
    return Error(ErrorCode::kUnsupportedCodec,
                 "codec " + number(batch.attributes() & kAttributesOfClients) +
                     " does not exist; known are 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd");
  }
  std::string_view what;
  if (batch.is_log_append_time()) {
    what = "the log-append-time bit, which only the broker sets";
  } else if (batch.is_transactional()) {
    what = "the transactional bit; transactions are not supported";
  } else if (batch.is_control()) {
    what = "the control bit, which only the broker sets";
  } else if (batch.has_delete_horizon()) {
    what = "the delete-horizon bit, which only the broker sets";
  } else if ((batch.attributes() & ~kAttributesOfClients) != 0) {
    what = "attribute bits that are not known";
  } else {
    return std::nullopt;
  }
  return Error(ErrorCode::kInvalidRequest, "it carries " + std::string(what));
}

std::optional<Error> check_producer_fields(const RecordBatch& batch) {
  if (batch.producer_id() == kNoProducerId) return std::nullopt;
  if (batch.producer_id() < ProducerId(0)) {
    return Error(ErrorCode::kInvalidRequest, "producer id " + number(batch.producer_id().value()) + " is negative");
  }
  if (batch.producer_epoch() < ProducerEpoch(0) || batch.base_sequence() < 0) {
    return Error(ErrorCode::kInvalidRequest, "producer id " + number(batch.producer_id().value()) +
                                                 " comes with epoch " + number(batch.producer_epoch().value()) +
                                                 " and base sequence " + number(batch.base_sequence()) +
                                                 "; both must be 0 or more");
  }
  return std::nullopt;
}

// Everything that concerns the one batch alone. Cheap checks first; the CRC before what relies on the bytes it covers.
std::optional<Error> check_batch(const RecordBatch& batch, int64_t batch_bytes_max) {
  const auto size = static_cast<int64_t>(batch.size());
  if (size > batch_bytes_max) {
    return Error(ErrorCode::kRecordTooLarge,
                 "it has " + number(size) + " bytes; max.message.bytes of the topic is " + number(batch_bytes_max))
        .with_detail("limit", number(batch_bytes_max))
        .with_detail("value", number(size));
  }
  if (!batch.crc_matches()) return Error(ErrorCode::kCorruptBatch, "its CRC does not match its bytes");
  if (batch.record_count() < 1) return Error(ErrorCode::kCorruptBatch, "it holds no record");
  if (auto error = check_attributes(batch)) return error;
  if (auto error = check_producer_fields(batch)) return error;
  if (Status records = batch.check_records(); !records.ok()) {
    if (records.code() == Errc::kTooLarge) {
      return Error(ErrorCode::kInvalidRequest, std::string(records.message()))
          .with_detail("limit", number(kRecordHeadersMax));
    }
    return Error(ErrorCode::kCorruptBatch, std::string(records.message()));
  }
  return std::nullopt;
}

Error out_of_order(const RecordBatch& batch, int32_t expected) {
  return Error(ErrorCode::kOutOfOrderSequence, "producer " + number(batch.producer_id().value()) + " sent sequence " +
                                                   number(batch.base_sequence()) + " where " + number(expected) +
                                                   " is next")
      .with_detail("expected_sequence", number(expected))
      .with_detail("sequence", number(batch.base_sequence()));
}

Error old_epoch(const RecordBatch& batch) {
  return Error(ErrorCode::kInvalidProducerEpoch, "producer " + number(batch.producer_id().value()) + " with epoch " +
                                                     number(batch.producer_epoch().value()) +
                                                     " was replaced by one with a newer epoch");
}

// The batches of this request that will be appended, as far as sequences are concerned: what the producer state will
// know by the time the next batch of the same producer is looked at.
class RequestSequences {
 public:
  struct Accepted {
    ProducerEpoch epoch;
    int32_t first_sequence;
    int32_t last_sequence;
    size_t index;
  };

  // The newest batch of this producer in the request, or null.
  const Accepted* newest(ProducerId producer) const {
    auto found = accepted_.find(producer);
    return found == accepted_.end() ? nullptr : &found->second.back();
  }
  // The same batch earlier in the request, or null.
  const Accepted* same_as(const RecordBatch& batch) const {
    const std::vector<Accepted>& known = accepted_.at(batch.producer_id());
    size_t looked_at = 0;
    for (auto it = known.rbegin(); it != known.rend() && looked_at < kProducerBatchesKept; ++it, ++looked_at) {
      if (it->epoch == batch.producer_epoch() && it->first_sequence == batch.base_sequence() &&
          it->last_sequence == batch.last_sequence()) {
        return &*it;
      }
    }
    return nullptr;
  }
  void accept(const RecordBatch& batch, size_t index) {
    accepted_[batch.producer_id()].push_back(
        {batch.producer_epoch(), batch.base_sequence(), batch.last_sequence(), index});
  }

 private:
  std::map<ProducerId, std::vector<Accepted>> accepted_;
};

// The rules of ProducerStateManager::check, with the request's own earlier batches as the newest state.
std::optional<Error> check_after(const RequestSequences::Accepted& newest, const RecordBatch& batch,
                                 const RequestSequences& request, CheckedBatch& checked) {
  if (batch.producer_epoch() > newest.epoch) {
    if (batch.base_sequence() == 0) return std::nullopt;
    return out_of_order(batch, 0);
  }
  const int32_t expected = newest.last_sequence == INT32_MAX ? 0 : newest.last_sequence + 1;
  if (batch.base_sequence() == expected) return std::nullopt;
  const RequestSequences::Accepted* same = request.same_as(batch);
  if (same == nullptr) return out_of_order(batch, expected);
  checked.duplicate = true;
  checked.same_as = same->index;
  return std::nullopt;
}

std::optional<Error> check_sequence(const RecordBatch& batch, const ProducerStateManager& producers,
                                    const RequestSequences& request, CheckedBatch& checked) {
  if (batch.producer_id() == kNoProducerId) return std::nullopt;
  const RequestSequences::Accepted* newest = request.newest(batch.producer_id());
  if (newest != nullptr && batch.producer_epoch() < newest->epoch) return old_epoch(batch);
  const SequenceCheck known = producers.check(batch);
  if (known.verdict == SequenceVerdict::kDuplicate) {
    checked.duplicate = true;
    checked.first_offset = known.first_offset;
    checked.timestamp_ms = known.timestamp_ms;
    checked.leader_epoch = known.leader_epoch;
    return std::nullopt;
  }
  if (newest != nullptr) return check_after(*newest, batch, request, checked);
  if (known.verdict == SequenceVerdict::kOldEpoch) return old_epoch(batch);
  if (known.verdict == SequenceVerdict::kOutOfOrder) return out_of_order(batch, known.expected_sequence);
  return std::nullopt;
}

// "batch 2 (byte 4096 of the request): it …"; a request of one batch needs no number.
Error named(Error error, size_t index, size_t position, bool alone) {
  error.message = (alone ? std::string("the record batch is refused: ")
                         : "record batch " + std::to_string(index + 1) + ", at byte " + std::to_string(position) +
                               " of the request, is refused: ") +
                  error.message;
  return error;
}

}  // namespace

api::Answer<std::vector<CheckedBatch>> check_append(ByteView batches, int64_t batch_bytes_max,
                                                    const ProducerStateManager& producers) {
  if (batches.empty()) return Error(ErrorCode::kInvalidRequest, "the request holds no record batch");
  std::vector<CheckedBatch> result;
  RequestSequences sequences;
  size_t position = 0;
  while (position < batches.size()) {
    const size_t index = result.size();
    if (index == kBatchesPerAppendMax) {
      return Error(ErrorCode::kInvalidRequest,
                   "the request holds more than " + std::to_string(kBatchesPerAppendMax) + " record batches");
    }
    auto parsed = RecordBatch::parse(batches.subspan(position));
    if (!parsed.ok()) {
      return named(Error(ErrorCode::kCorruptBatch, std::string(parsed.status().message())), index, position,
                   position == 0);
    }
    const RecordBatch& batch = *parsed;
    CheckedBatch checked;
    checked.position = position;
    checked.size = batch.size();
    auto error = check_batch(batch, batch_bytes_max);
    if (!error) checked.offset_count = batch.record_count();
    if (!error) error = check_sequence(batch, producers, sequences, checked);
    if (error) return named(*std::move(error), index, position, batch.size() == batches.size());
    if (!checked.duplicate && batch.producer_id() != kNoProducerId) sequences.accept(batch, index);
    position += batch.size();
    result.push_back(checked);
  }
  return result;
}

void stamp_batch(MutableByteView batch, Offset base, LeaderEpoch epoch, std::optional<int64_t> append_time_ms) {
  RecordBatch::set_base_offset(batch, base);
  RecordBatch::set_leader_epoch(batch, epoch);
  if (append_time_ms) RecordBatch::set_log_append_time(batch, *append_time_ms);
}

}  // namespace trilog
