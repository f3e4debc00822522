// ProduceBatch: records of one partition on their way to the broker, and who wants to hear of each. Private.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/client.h"
#include "storage/base/bytes.h"
#include "storage/record/record_batch_builder.h"

namespace trilog::client {

class ProduceBatch {
 public:
  explicit ProduceBatch(int64_t now_ms) : created_ms_(now_ms) {}

  // Whether the record fits below `bytes_max`; the first one always does.
  bool fits(const Record& record, size_t bytes_max) const;
  void add(const Record& record, int64_t timestamp_ms, Producer::Callback done);
  // The wire form; add() no more. Called once.
  void close();
  // Stamps producer and sequence into the closed batch and renews its CRC. May be called again before a repeat.
  void set_sequence(ProducerId id, ProducerEpoch epoch, int32_t base_sequence);
  // Tells every record of the batch; once.
  void deliver(const std::string& topic, const Delivery& first, const Error* error);

  const Bytes& bytes() const { return bytes_; }
  // The records themselves, kept while there is only one: such a batch may be larger than max.message.bytes by its
  // framing and is then sent as a record.
  const Record* single() const { return single_ ? single_.get() : nullptr; }
  size_t memory() const { return memory_; }
  size_t size() const { return closed_ ? bytes_.size() : builder_.size(); }
  int32_t count() const { return static_cast<int32_t>(callbacks_.size()); }
  int64_t created_ms() const { return created_ms_; }
  bool has_sequence() const { return base_sequence_ >= 0; }
  int32_t base_sequence() const { return base_sequence_; }
  void forget_sequence() { base_sequence_ = kNoSequence; }

  bool maybe_written = false;       // a try ended without a definite answer
  std::optional<Error> last_error;  // of the last try, which was repeated: what is said when time runs out
  bool resume = false;              // the next try begins its partition again after a failure

 private:
  struct Waiting {
    Producer::Callback done;
    int64_t timestamp_ms;
  };
  RecordBatchBuilder builder_;
  Bytes bytes_;
  std::vector<Waiting> callbacks_;
  std::unique_ptr<Record> single_;
  size_t memory_ = 0;
  int64_t created_ms_;
  int32_t base_sequence_ = kNoSequence;
  bool closed_ = false;
};

}  // namespace trilog::client
