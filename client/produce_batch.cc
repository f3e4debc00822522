#include "client/produce_batch.h"

#include <optional>

#include "storage/base/codec.h"
#include "storage/base/crc32c.h"

namespace trilog::client {
namespace {

std::optional<ByteView> view(const std::optional<std::string>& text) {
  if (!text) return std::nullopt;
  return as_bytes(*text);
}

std::vector<RecordHeader> views(const std::vector<Header>& headers) {
  std::vector<RecordHeader> result;
  result.reserve(headers.size());
  for (const Header& header : headers) result.push_back({header.key, view(header.value)});
  return result;
}

}  // namespace

bool ProduceBatch::fits(const Record& record, size_t bytes_max) const {
  if (callbacks_.empty()) return true;
  size_t bound = RecordBatchBuilder::record_size_bound(view(record.key), view(record.value), views(record.headers));
  return builder_.size() + bound <= bytes_max;
}

void ProduceBatch::add(const Record& record, int64_t timestamp_ms, Producer::Callback done) {
  size_t before = builder_.size();
  builder_.add(timestamp_ms, view(record.key), view(record.value), views(record.headers));
  memory_ += builder_.size() - before;
  single_ = callbacks_.empty() ? std::make_unique<Record>(record) : nullptr;
  callbacks_.push_back({std::move(done), timestamp_ms});
}

void ProduceBatch::close() {
  CHECK(!closed_);
  Result<Bytes> built = builder_.build();
  CHECK(built.ok());  // only compression can fail, and there is none
  bytes_ = std::move(*built);
  closed_ = true;
}

void ProduceBatch::set_sequence(ProducerId id, ProducerEpoch epoch, int32_t base_sequence) {
  base_sequence_ = base_sequence;
  std::byte* header = bytes_.data();
  store_big_endian<int64_t>(header + 43, id.value());
  store_big_endian<int16_t>(header + 51, epoch.value());
  store_big_endian<int32_t>(header + 53, base_sequence);
  store_big_endian<uint32_t>(header + 17, crc32c(bytes_.view().subspan(kBatchCrcStart)));
}

void ProduceBatch::deliver(const std::string& topic, const Delivery& first, const Error* error) {
  Delivery delivery = first;
  delivery.topic = topic;
  delivery.error = error;
  for (size_t i = 0; i < callbacks_.size(); ++i) {
    delivery.offset = first.offset < 0 ? -1 : first.offset + static_cast<int64_t>(i);
    delivery.timestamp_ms = first.timestamp_ms >= 0 ? first.timestamp_ms : callbacks_[i].timestamp_ms;
    if (callbacks_[i].done) callbacks_[i].done(delivery);
    delivery.topic_created = false;
  }
  callbacks_.clear();
}

}  // namespace trilog::client
