// Produce: choose partitions, build batches, append on the shards, gather. Path (a) of docs/paths.md.
#include <algorithm>

#include "broker/forwarding.h"
#include "storage/base/murmur2.h"
#include "storage/record/record_batch_builder.h"

namespace trilog {
namespace {

using api::Error;
using api::ErrorCode;

// What one partition gets, and which of the request's records it holds.
struct Part {
  TopicPartition partition;
  std::vector<uint32_t> records;        // indexes into the request, in order; empty with record_batch
  std::vector<uint32_t> batch_records;  // how many of them each batch holds
  std::vector<int64_t> timestamps;      // of `records`
  AppendRequest append;
  AppendResult result;
};

struct Operation {
  Broker::Done<api::ProduceResult> done;
  std::vector<Part> parts;
  api::ProduceResult result;
  api::Acks acks = api::Acks::kAll;
};

Error about_record(ErrorCode code, size_t index, const std::string& what) {
  return Error(code, "record " + std::to_string(index) + ": " + what).with_detail("record", std::to_string(index));
}

std::optional<Error> check_record(const api::Record& record, size_t index, const TopicImage& topic,
                                  const BrokerOptions& options) {
  size_t bytes = (record.key ? record.key->size() : 0) + (record.value ? record.value->size() : 0);
  if (record.headers.size() > options.headers_per_record_max) {
    return about_record(ErrorCode::kInvalidRequest, index,
                        "has " + std::to_string(record.headers.size()) + " headers; at most " +
                            std::to_string(options.headers_per_record_max) + " are allowed");
  }
  for (const RecordHeader& header : record.headers)
    bytes += header.key.size() + (header.value ? header.value->size() : 0);
  auto limit = static_cast<size_t>(topic.settings.max_message_bytes);
  if (bytes > limit) {
    return about_record(ErrorCode::kRecordTooLarge, index,
                        "has " + std::to_string(bytes) + " bytes; topic " + topic.name + " takes at most " +
                            std::to_string(limit) + " (max.message.bytes)")
        .with_detail("limit", std::to_string(limit))
        .with_detail("value", std::to_string(bytes));
  }
  if (record.timestamp_ms && *record.timestamp_ms < 0) {
    return about_record(
        ErrorCode::kInvalidRequest, index,
        "timestamp " + std::to_string(*record.timestamp_ms) + " is negative; leave it out for the broker's clock");
  }
  return std::nullopt;
}

// The shape of the request, before any topic is looked at.
std::optional<Error> check_request(const api::ProduceRequest& request, const BrokerOptions& options) {
  if (std::optional<Error> bad = check_topic_name(request.topic)) return bad;
  if (request.topic == kOffsetsTopic)
    return Error(ErrorCode::kInvalidTopic, "topic " + request.topic + " is internal; commit offsets instead");
  bool has_batch = !request.record_batch.empty();
  if (request.records.empty() && !has_batch)
    return Error(ErrorCode::kInvalidRequest, "neither records nor record_batch: nothing to write");
  if (!request.records.empty() && has_batch)
    return Error(ErrorCode::kInvalidRequest, "both records and record_batch: send one of them");
  if (request.records.size() > options.records_per_request_max) {
    return Error(ErrorCode::kInvalidRequest, std::to_string(request.records.size()) +
                                                 " records in one request; at most " +
                                                 std::to_string(options.records_per_request_max) + " are allowed");
  }
  if (has_batch && !request.partition) return Error(ErrorCode::kInvalidRequest, "record_batch needs a partition");
  if (request.sequence && !request.partition) return Error(ErrorCode::kInvalidRequest, "sequence needs a partition");
  if (request.partition && request.partition->value() < 0) {
    return Error(ErrorCode::kInvalidRequest,
                 "partition " + std::to_string(request.partition->value()) + " is negative");
  }
  if (request.sequence && (request.sequence->producer_id.value() < 0 || request.sequence->producer_epoch.value() < 0 ||
                           request.sequence->base_sequence < 0)) {
    return Error(ErrorCode::kInvalidRequest, "sequence: producer id, epoch and base sequence must not be negative");
  }
  return std::nullopt;
}

// Records of one part as batches of at most max.message.bytes (a single larger record has been allowed one by one).
Result<Bytes> build_batches(const api::ProduceRequest& request, Part& part, int64_t limit, int64_t now_ms) {
  BatchProducer producer;
  if (request.sequence) {
    producer = {request.sequence->producer_id, request.sequence->producer_epoch, request.sequence->base_sequence};
  }
  RecordBatchBuilder builder(Codec::kNone, producer);
  Bytes batches;
  auto flush = [&]() -> Status {
    part.batch_records.push_back(static_cast<uint32_t>(builder.count()));
    Bytes batch = TRY(builder.build());
    if (batches.empty()) {
      batches = std::move(batch);
    } else {
      batches.append(batch);
    }
    return {};
  };
  for (uint32_t index : part.records) {
    const api::Record& record = request.records[index];
    size_t bound = RecordBatchBuilder::record_size_bound(record.key, record.value, record.headers);
    if (!builder.empty() && builder.size() + bound > static_cast<size_t>(limit)) TRY(flush());
    int64_t timestamp = record.timestamp_ms.value_or(now_ms);
    part.timestamps.push_back(timestamp);
    builder.add(timestamp, record.key, record.value, record.headers);
  }
  TRY(flush());
  return batches;
}

size_t count_batches(ByteView batches) {
  size_t count = 0;
  while (!batches.empty()) {
    Result<size_t> size = RecordBatch::peek_size(batches, batches.size());
    ++count;
    if (!size.ok()) break;  // the validator will say what is wrong
    batches = batches.subspan(*size);
  }
  return count;
}

// One position per record (per batch with record_batch), from the answer for the part's batches.
void fill_positions(const Part& part, api::Acks acks, std::vector<api::Produced>& positions) {
  size_t at = 0;
  for (size_t b = 0; b < part.batch_records.size(); ++b) {
    // An error that hit the whole part stands once for all batches.
    const AppendedBatch& batch = part.result.batches[std::min(b, part.result.batches.size() - 1)];
    for (uint32_t r = 0; r < part.batch_records[b]; ++r, ++at) {
      api::Produced& produced = positions[part.records.empty() ? at : part.records[at]];
      produced.partition = part.partition.partition;
      produced.error = batch.error;
      if (batch.error) continue;
      if (acks != api::Acks::kNone) produced.offset = batch.first_offset + static_cast<int64_t>(r);
      produced.leader_epoch = batch.leader_epoch;
      produced.duplicate = batch.duplicate;
      produced.timestamp_ms = batch.timestamp_ms != kNoTimestamp ? batch.timestamp_ms
                              : part.timestamps.empty()          ? kNoTimestamp
                                                                 : part.timestamps[at];
    }
  }
}

void finish(const std::shared_ptr<Operation>& operation) {
  api::ProduceResult& result = operation->result;
  for (const Part& part : operation->parts) {
    fill_positions(part, operation->acks, result.positions);
    result.replicas = part.result.replicas;
    result.synced_replicas = part.result.synced_replicas;
  }
  for (const Part& part : operation->parts) {
    result.synced_replicas = std::min(result.synced_replicas, part.result.synced_replicas);
  }
  operation->done(std::move(result));
}

// Which partition each record goes to: the one asked for, else by its key, else one for all keyless of this request.
std::vector<Part> split(const api::ProduceRequest& request, const TopicImage& topic, uint32_t keyless_turn) {
  auto count = static_cast<int32_t>(topic.partitions.size());
  std::vector<Part> parts;
  if (request.partition) {
    parts.resize(1);
    parts[0].partition = {topic.id, *request.partition};
    for (uint32_t i = 0; i < request.records.size(); ++i) parts[0].records.push_back(i);
    return parts;
  }
  PartitionId keyless(static_cast<int32_t>(keyless_turn % static_cast<uint32_t>(count)));
  std::map<PartitionId, size_t> index_of;
  for (uint32_t i = 0; i < request.records.size(); ++i) {
    const api::Record& record = request.records[i];
    PartitionId partition = record.key ? partition_for_key(*record.key, count) : keyless;
    auto [it, added] = index_of.emplace(partition, parts.size());
    if (added) {
      parts.emplace_back();
      parts.back().partition = {topic.id, partition};
    }
    parts[it->second].records.push_back(i);
  }
  return parts;
}

}  // namespace

void BrokerImpl::produce(api::ProduceRequest request, Origin origin, Done<api::ProduceResult> done) {
  using Answer = api::Answer<api::ProduceResult>;
  if (std::optional<Error> error = not_serving()) return answer(std::move(done), Answer(std::move(*error)));
  if (std::optional<Error> error = check_request(request, options_))
    return answer(std::move(done), Answer(std::move(*error)));
  ImagePtr now = image();
  if (const TopicImage* topic = now->find_topic(request.topic)) {
    return produce_to(*topic, std::move(request), origin, std::move(done));
  }
  std::string name = request.topic;
  with_topics({name}, origin,
              [this, request = std::move(request), origin, done = std::move(done)](std::optional<Error> error) mutable {
                if (error) return answer(std::move(done), Answer(std::move(*error)));
                ImagePtr then = image();
                if (const TopicImage* topic = then->find_topic(request.topic)) {
                  return produce_to(*topic, std::move(request), origin, std::move(done));
                }
                if (!options_.auto_create_topics || !request.auto_create) {
                  return answer(std::move(done), Answer(unknown_topic(*then, request.topic)));
                }
                create_and_produce(std::move(request), std::move(done));
              });
}

void BrokerImpl::create_and_produce(api::ProduceRequest request, Done<api::ProduceResult> done) {
  api::CreateTopicRequest create{.name = request.topic, .if_not_exists = true};
  create_topic(std::move(create), [this, request = std::move(request),
                                   done = std::move(done)](api::Answer<api::CreateTopicResult> created) mutable {
    if (!created.ok()) return done(std::move(created.error()));
    request.auto_create = false;
    bool is_new = created->created;
    produce(std::move(request), Origin::kClient,
            [done = std::move(done), is_new](api::Answer<api::ProduceResult> result) mutable {
              if (result.ok()) result->topic_created = is_new;
              done(std::move(result));
            });
  });
}

namespace {

// What fits the topic.
std::optional<Error> check_for_topic(const api::ProduceRequest& request, const TopicImage& topic,
                                     const BrokerOptions& options) {
  if (request.topic_id && *request.topic_id != topic.id) {
    return Error(ErrorCode::kUnknownTopic, "topic " + request.topic + " was deleted and made again");
  }
  if (request.partition && request.partition->value() >= static_cast<int32_t>(topic.partitions.size())) {
    return BrokerImpl::unknown_partition(topic, *request.partition);
  }
  for (size_t i = 0; i < request.records.size(); ++i) {
    if (std::optional<Error> error = check_record(request.records[i], i, topic, options)) return error;
  }
  return std::nullopt;
}

std::optional<Error> prepare_part(api::ProduceRequest& request, const TopicImage& topic, Part& part, int64_t now_ms) {
  if (request.record_batch.empty()) {
    Result<Bytes> batches = build_batches(request, part, topic.settings.max_message_bytes, now_ms);
    if (!batches.ok()) return Error(ErrorCode::kInvalidRequest, std::string(batches.status().message()));
    part.append.batches = std::move(*batches);
    part.append.built_from_records = true;
  } else {
    part.batch_records.assign(count_batches(request.record_batch), 1);
    part.append.batches = std::move(request.record_batch);
    part.append.built_from_records = request.built_from_records;
  }
  part.append.partition = part.partition;
  part.append.acks = request.acks;
  part.append.deadline_ns = request.deadline_ns;
  return std::nullopt;
}

// What another node answered for one part: a position for each of its batches.
AppendResult append_result(api::Answer<api::ProduceResult> answer) {
  AppendResult result;
  if (!answer.ok() || answer->positions.empty()) {
    Error error =
        answer.ok() ? Error(ErrorCode::kLeadershipLost, "the leader's answer has no positions") : answer.error();
    result.batches.push_back({.error = std::move(error)});
    return result;
  }
  for (api::Produced& produced : answer->positions) {
    result.batches.push_back({.first_offset = produced.offset,
                              .timestamp_ms = produced.timestamp_ms,
                              .leader_epoch = produced.leader_epoch,
                              .duplicate = produced.duplicate,
                              .error = std::move(produced.error)});
  }
  result.synced_replicas = answer->synced_replicas;
  result.replicas = answer->replicas;
  return result;
}

}  // namespace

void BrokerImpl::produce_to(const TopicImage& topic, api::ProduceRequest request, Origin origin,
                            Done<api::ProduceResult> done) {
  using Answer = api::Answer<api::ProduceResult>;
  if (std::optional<Error> error = check_for_topic(request, topic, options_)) {
    return answer(std::move(done), Answer(std::move(*error)));
  }
  auto operation = std::make_shared<Operation>();
  operation->acks = request.acks;
  operation->result.durability = topic.durability;
  operation->parts = split(request, topic, keyless_.fetch_add(1, std::memory_order_relaxed));
  int64_t now_ms = clock().wall_ms();
  for (Part& part : operation->parts) {
    if (std::optional<Error> error = prepare_part(request, topic, part, now_ms)) {
      return answer(std::move(done), Answer(std::move(*error)));
    }
  }
  operation->result.positions.resize(request.records.empty() ? operation->parts[0].batch_records.size()
                                                             : request.records.size());
  operation->done = std::move(done);
  auto gather = std::make_shared<Gather>(operation->parts.size(), [operation] { finish(operation); });
  for (Part& part : operation->parts) {
    auto arrived = [operation, gather, &part](AppendResult result) {
      part.result = std::move(result);
      gather->arrived();
    };
    const PartitionImage& image = topic.partitions[static_cast<size_t>(part.partition.partition.value())];
    if (auto at = elsewhere(image, origin)) {
      api::ProduceRequest passed{.topic = topic.name, .partition = part.partition.partition, .acks = request.acks};
      passed.topic_id = topic.id;
      passed.built_from_records = part.append.built_from_records;
      passed.record_batch = std::move(part.append.batches);
      forward_produce(*at, part.partition, std::move(passed), request.deadline_ns, std::move(arrived));
      continue;
    }
    BrokerShard& owner = shard(shard_of(part.partition));
    owner.post([&part, &owner, arrived = std::move(arrived)]() mutable {
      owner.replicas.append(std::move(part.append), std::move(arrived));
    });
  }
}

void BrokerImpl::forward_produce(BrokerId to, const TopicPartition& partition, api::ProduceRequest request,
                                 int64_t deadline_ns, UniqueFunction<void(AppendResult)> done) {
  forward(to, peer_route(partition.topic, partition.partition), std::move(request), deadline_ns, 0,
          [done = std::move(done)](api::Answer<api::ProduceResult> answer, Offset) mutable {
            done(append_result(std::move(answer)));
          });
}

PartitionId partition_for_key(ByteView key, int32_t partition_count) {
  return PartitionId(partition_index_for_key(key, partition_count));
}

}  // namespace trilog
