// The producer: callers fill batches per partition, one thread sends them down a stream, one reads the answers. All
// state is guarded by one mutex; callbacks run without it.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <random>

#include "client/client.h"
#include "client/connection.h"
#include "client/produce_batch.h"
#include "client/producer_impl.h"
#include "storage/base/murmur2.h"

namespace trilog::client {

int64_t wall_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

int64_t steady_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(SteadyClock::now().time_since_epoch()).count();
}

Producer::Producer(Client& client, ProducerOptions options) : impl_(std::make_unique<Impl>(client.impl(), options)) {}
Producer::~Producer() = default;
void Producer::send(const std::string& topic, Record record, Callback done) {
  impl_->send(topic, std::move(record), std::move(done));
}
void Producer::flush() { impl_->flush(); }

Producer::Impl::Impl(Client::Impl& client, ProducerOptions options) : client_(client), options_(options) {
  if (options_.acks != Acks::kAll) options_.idempotent = false;
  sender_ = std::thread([this] { send_loop(); });
  watcher_ = std::thread([this] { watch_loop(); });
}

Producer::Impl::~Impl() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
    if (stream_) stream_->context.TryCancel();
    if (asking_id_ != nullptr) asking_id_->TryCancel();
    changed_.notify_all();
    watch_.notify_all();
  }
  sender_.join();
  watcher_.join();
  Error never_sent{"INTERRUPTED", "the producer was closed before the record was sent"};
  Error unknown{"INTERRUPTED", "the producer was closed before the record was acknowledged", false,
                Error::Outcome::kUnknown};
  for (auto& [name, topic] : topics_) {
    for (Partition& partition : topic.partitions) {
      for (auto* queue : {&partition.retry, &partition.in_flight, &partition.queued}) {
        for (auto& batch : *queue)
          batch->deliver(name, {.partition = partition.index},
                         batch->maybe_written || queue == &partition.in_flight ? &unknown : &never_sent);
      }
      if (partition.open) partition.open->deliver(name, {.partition = partition.index}, &never_sent);
    }
  }
}

void Producer::Impl::send(const std::string& name, Record record, Callback done) {
  Outcome<Topic*> found = find_topic(name);
  if (!found.ok()) {
    if (found.error().code == "UNKNOWN_TOPIC")
      return create_with_first_record(name, std::move(record), std::move(done));
    Error error = found.error();
    return done({.topic = name, .error = &error});
  }
  Topic& topic = *found.value();
  size_t bytes = (record.key ? record.key->size() : 0) + (record.value ? record.value->size() : 0);
  for (const Header& header : record.headers) bytes += header.key.size() + (header.value ? header.value->size() : 0);
  std::optional<Error> refused;
  auto count = static_cast<int32_t>(topic.partitions.size());
  if (record.partition && (*record.partition < 0 || *record.partition >= count)) {
    refused = Error{"UNKNOWN_PARTITION", "no partition " + std::to_string(*record.partition) + " in topic " + name +
                                             ", which has " + std::to_string(count)};
    refused->details["partition"] = std::to_string(*record.partition);
  } else if (bytes > topic.message_bytes_max) {
    refused = Error{"RECORD_TOO_LARGE", "the record has " + std::to_string(bytes) + " bytes; topic " + name +
                                            " takes at most " + std::to_string(topic.message_bytes_max) +
                                            " (max.message.bytes)"};
  }
  if (refused) return done({.topic = name, .partition = record.partition.value_or(-1), .error = &*refused});

  std::unique_lock lock(mutex_);
  space_.wait(lock, [&] { return buffered_ == 0 || buffered_ + bytes <= options_.buffer_bytes; });
  size_t limit = std::min(options_.batch_bytes, topic.message_bytes_max);
  Partition* chosen = &choose_partition(topic, record);
  while (chosen->open && !chosen->open->fits(record, limit)) {
    close_open(topic, *chosen);
    chosen = &choose_partition(topic, record);
  }
  Partition& partition = *chosen;
  if (!partition.open) partition.open = std::make_unique<ProduceBatch>(steady_ms());
  size_t before = partition.open->memory();
  partition.open->add(record, record.timestamp_ms.value_or(wall_ms()), std::move(done));
  buffered_ += partition.open->memory() - before;
  ++unfinished_;
  if (!std::exchange(watching_, true)) watch_.notify_one();
  if (partition.open->size() >= limit) close_open(topic, partition);
  changed_.notify_one();
}

Producer::Impl::Partition& Producer::Impl::choose_partition(Topic& topic, const Record& record) {
  auto count = static_cast<int32_t>(topic.partitions.size());
  int32_t index = record.partition ? *record.partition
                  : record.key     ? partition_index_for_key(as_bytes(*record.key), count)
                                   : topic.keyless;
  return topic.partitions[static_cast<size_t>(index)];
}

void Producer::Impl::close_open(Topic& topic, Partition& partition) {
  // Records without key move on batch by batch.
  if (topic.keyless == partition.index)
    topic.keyless = (topic.keyless + 1) % static_cast<int32_t>(topic.partitions.size());
  partition.open->close();
  partition.queued.push_back(std::move(partition.open));
}

Outcome<Producer::Impl::Topic*> Producer::Impl::find_topic(const std::string& name) {
  {
    std::lock_guard lock(mutex_);
    if (auto it = topics_.find(name); it != topics_.end()) return &it->second;
  }
  Outcome<TopicInfo> info = describe(name);
  if (!info.ok()) return info.error();
  std::lock_guard lock(mutex_);
  Topic& topic = topics_[name];
  if (!topic.partitions.empty()) return &topic;
  topic.partitions.resize(info->partitions.size());
  for (size_t i = 0; i < topic.partitions.size(); ++i) topic.partitions[i].index = static_cast<int32_t>(i);
  // Short-lived producers must not all begin at the same partition.
  topic.keyless = static_cast<int32_t>(std::random_device()() % topic.partitions.size());
  auto it = info->configs.find("max.message.bytes");
  size_t bytes_max = it == info->configs.end() ? 0 : std::strtoull(it->second.value.c_str(), nullptr, 10);
  if (bytes_max > 0) topic.message_bytes_max = bytes_max;
  return &topic;
}

Outcome<TopicInfo> Producer::Impl::describe(const std::string& name) {
  v1::DescribeTopicRequest request;
  request.add_names(name);
  auto response = call(client_, false, &v1::Admin::Stub::DescribeTopic, &v1::Admin::NewStub, request);
  if (!response.ok()) return response.error();
  if (response->topics_size() != 1)
    return broken_answer(std::to_string(response->topics_size()) + " topics where one was asked for", false);
  const v1::Topic& topic = response->topics(0);
  if (topic.has_error()) return decode_error(topic.error());
  if (topic.partitions_size() == 0 || !names_each_partition_once(topic.partitions()))
    return broken_answer("the partitions of " + name + " are not numbered from 0", false);
  TopicInfo info{topic.name()};
  info.partitions.resize(static_cast<size_t>(topic.partitions_size()));
  for (const auto& [key, config] : topic.configs()) info.configs[key] = {config.value(), config.source()};
  return info;
}

// The broker decides whether a missing topic is created by its first record; only the broker knows how many partitions
// it gets, so this one record goes alone and lets the broker place it.
void Producer::Impl::create_with_first_record(const std::string& name, Record record, Callback done) {
  v1::ProduceRequest request;
  request.set_topic(name);
  if (record.partition) request.set_partition(*record.partition);
  fill_record(*request.add_records(), record);
  request.set_acks(wire_acks());
  request.set_timeout_ms(static_cast<uint32_t>(options_.delivery_timeout_ms));
  auto response = call(client_, true, &v1::Broker::Stub::Produce, &v1::Broker::NewStub, request);
  std::optional<Error> failed;
  if (!response.ok()) {
    failed = response.error();
  } else if (response->positions_size() != 1) {
    failed = broken_answer(std::to_string(response->positions_size()) + " positions for one record of " + name, true);
  } else if (response->positions(0).has_error()) {
    failed = decode_error(response->positions(0).error());
  }
  if (failed) return done({.topic = name, .partition = record.partition.value_or(-1), .error = &*failed});
  const v1::Produced& position = response->positions(0);
  Delivery delivery{.topic = name,
                    .partition = position.partition(),
                    .offset = position.offset(),
                    .timestamp_ms = position.timestamp_ms(),
                    .durability = response->durability(),
                    .synced_replicas = response->synced_replicas(),
                    .replicas = response->replicas(),
                    .topic_created = response->topic_created()};
  done(delivery);
}

void Producer::Impl::fill_record(v1::Record& to, const Record& record) const {
  if (record.key) to.set_key(*record.key);
  if (record.value) to.set_value(*record.value);
  if (record.timestamp_ms) to.set_timestamp_ms(*record.timestamp_ms);
  for (const Header& header : record.headers) {
    v1::Header* added = to.add_headers();
    added->set_key(header.key);
    if (header.value) added->set_value(*header.value);
  }
}

v1::ProduceRequest::Acks Producer::Impl::wire_acks() const {
  switch (options_.acks) {
    case Acks::kAll: return v1::ProduceRequest::ALL;
    case Acks::kLeader: return v1::ProduceRequest::LEADER;
    case Acks::kNone: return v1::ProduceRequest::NONE;
  }
  UNREACHABLE("Acks");
}

void Producer::Impl::flush() {
  std::unique_lock lock(mutex_);
  ++flushing_;
  changed_.notify_all();
  space_.wait(lock, [&] { return unfinished_ == 0; });
  --flushing_;
}

}  // namespace trilog::client
