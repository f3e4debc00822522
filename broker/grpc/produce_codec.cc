#include "broker/grpc/produce_codec.h"

#include <limits>
#include <string>

#include "broker/grpc/convert.h"
#include "broker/grpc/grpc_error.h"
#include "broker/grpc/wire.h"

namespace trilog::grpc_edge {
namespace {

using MaybeError = std::optional<api::Error>;

api::Error invalid(std::string text) { return {api::ErrorCode::kInvalidRequest, std::move(text)}; }
api::Error malformed() {
  return invalid("the bytes received are not a ProduceRequest; check the client's generated code");
}

// Why a known field cannot be read: a wrong wire type is another schema's field.
MaybeError expect(WireTag tag, WireType type, std::string_view message) {
  if (tag.type == type) return std::nullopt;
  return unsupported_field(message, tag.number);
}

MaybeError parse_header(ByteView bytes, RecordHeader& header) {
  WireReader reader(bytes);
  header.key = "";
  while (auto tag = reader.next()) {
    if (tag->number != 1 && tag->number != 2) return unsupported_field("Header", tag->number);
    if (auto error = expect(*tag, WireType::kBytes, "Header")) return error;
    ByteView value = reader.bytes();
    if (tag->number == 2) {
      header.value = value;
      continue;
    }
    if (!is_utf8(value)) return invalid("a header key is not UTF-8: '" + printable(as_text(value), 60) + "'");
    header.key = as_text(value);
  }
  return reader.ok() ? std::nullopt : MaybeError(malformed());
}

// `headers_left`: how many the request may still have.
MaybeError parse_record(ByteView bytes, const BrokerOptions& options, uint32_t& headers_left, api::Record& record) {
  WireReader reader(bytes);
  while (auto tag = reader.next()) {
    WireType type = tag->number <= 3 ? WireType::kBytes : WireType::kVarint;
    if (tag->number > 5) return unsupported_field("Record", tag->number);
    if (auto error = expect(*tag, type, "Record")) return error;
    switch (tag->number) {
      case 1: record.key = reader.bytes(); break;
      case 2: record.value = reader.bytes(); break;
      case 3: {
        if (record.headers.size() == options.headers_per_record_max) {
          return invalid("a record has more than " + std::to_string(options.headers_per_record_max) + " headers")
              .with_detail("limit", std::to_string(options.headers_per_record_max));
        }
        if (headers_left-- == 0) {
          return invalid("a request has more than " + std::to_string(options.headers_per_request_max) +
                         " headers; send several")
              .with_detail("limit", std::to_string(options.headers_per_request_max));
        }
        if (auto error = parse_header(reader.bytes(), record.headers.emplace_back())) return error;
        break;
      }
      case 4:
        record.timestamp_ms = static_cast<int64_t>(reader.varint());
        if (*record.timestamp_ms < 0) {
          return invalid("timestamp_ms " + std::to_string(*record.timestamp_ms) + ": it counts from 1970, 0 or more");
        }
        break;
      default: reader.varint(); break;  // offset: the broker sets it
    }
  }
  return reader.ok() ? std::nullopt : MaybeError(malformed());
}

MaybeError parse_sequence(ByteView bytes, std::optional<api::Sequence>& out) {
  WireReader reader(bytes);
  int64_t fields[4] = {0, 0, 0, 0};
  if (out) {
    fields[1] = out->producer_id.value();
    fields[2] = out->producer_epoch.value();
    fields[3] = out->base_sequence;
  }
  while (auto tag = reader.next()) {
    if (tag->number > 3) return unsupported_field("Sequence", tag->number);
    if (auto error = expect(*tag, WireType::kVarint, "Sequence")) return error;
    fields[tag->number] = static_cast<int64_t>(reader.varint());
  }
  if (!reader.ok()) return malformed();
  if (fields[1] < 0)
    return invalid("producer_id " + std::to_string(fields[1]) + ": it is 0 or more, from InitProducer");
  if (fields[2] < 0 || fields[2] > std::numeric_limits<int16_t>::max()) {
    return invalid("producer_epoch " + std::to_string(fields[2]) + ": it is 0 to 32767, from InitProducer");
  }
  if (fields[3] < 0 || fields[3] > std::numeric_limits<int32_t>::max()) {
    return invalid("base_sequence " + std::to_string(fields[3]) + ": it is 0 to 2147483647");
  }
  out = api::Sequence{ProducerId(fields[1]), ProducerEpoch(static_cast<int16_t>(fields[2])),
                      static_cast<int32_t>(fields[3])};
  return std::nullopt;
}

MaybeError set_acks(uint64_t value, api::ProduceRequest& request) {
  switch (value) {
    case 0:
    case 1: request.acks = api::Acks::kAll; return std::nullopt;
    case 2: request.acks = api::Acks::kLeader; return std::nullopt;
    case 3: request.acks = api::Acks::kNone; return std::nullopt;
    default: return invalid("acks " + std::to_string(value) + " is not ALL, LEADER or NONE");
  }
}

WireType type_of_field(uint32_t number) {
  return number == 1 || number == 3 || number == 4 || number == 8 ? WireType::kBytes : WireType::kVarint;
}

// What has been seen of a request so far.
struct Seen {
  bool batch = false;
  uint32_t headers_left = 0;
};

MaybeError parse_field(ReceivedMessage& message, uint32_t number, const BrokerOptions& options, Seen& seen,
                       ReceivedProduce& received) {
  api::ProduceRequest& request = received.request;
  switch (number) {
    case 1: request.topic = std::string(as_text(message.bytes())); return std::nullopt;
    case 2: request.partition = PartitionId(static_cast<int32_t>(message.varint())); return std::nullopt;
    case 3: {
      ByteView record = message.bytes();
      if (request.records.size() < options.records_per_request_max) {
        return parse_record(record, options, seen.headers_left, request.records.emplace_back());
      }
      return invalid("a request has more than " + std::to_string(options.records_per_request_max) +
                     " records; send several")
          .with_detail("limit", std::to_string(options.records_per_request_max));
    }
    case 4:
      request.record_batch = message.copy_bytes();
      seen.batch = seen.batch || !request.record_batch.empty();
      return std::nullopt;
    case 5: return set_acks(message.varint(), request);
    case 6: received.timeout_ms = static_cast<uint32_t>(message.varint()); return std::nullopt;
    case 7: received.request_id = message.varint(); return std::nullopt;
    case 8: return parse_sequence(message.bytes(), request.sequence);
    case 9: received.resume = message.varint() != 0; return std::nullopt;
    default: return unsupported_field("ProduceRequest", number);
  }
}

MaybeError check_whole(const ReceivedProduce& received, bool has_batch) {
  const api::ProduceRequest& request = received.request;
  if (request.topic.empty()) return invalid("a ProduceRequest needs a topic");
  if (request.partition && request.partition->value() < 0) {
    return invalid("partition " + std::to_string(request.partition->value()) +
                   ": a partition is 0 or more; leave it out to let the key decide");
  }
  if (request.records.empty() && !has_batch) return invalid("nothing to write: give records, or record_batch");
  if (!request.records.empty() && has_batch) return invalid("give records or record_batch, not both");
  if (has_batch && !request.partition) return invalid("record_batch needs a partition");
  if (request.sequence && !request.partition)
    return invalid("sequence needs a partition: it counts the records of one");
  if (request.sequence && has_batch) return invalid("with record_batch the sequence is inside the batches");
  return std::nullopt;
}

void write_error(WireWriter& writer, uint32_t field, const api::Error& error, BrokerId node) {
  v1::Error message;
  fill_error(error, node, message);
  writer.present_bytes_field(field, as_bytes(message.SerializeAsString()));
}

}  // namespace

MaybeError parse_produce(const grpc::ByteBuffer& buffer, const BrokerOptions& options, ReceivedProduce& received) {
  auto message = ReceivedMessage::of(buffer);
  if (!message) return invalid("the message could not be decompressed");
  received.bytes = message->size();
  MaybeError error;
  if (received.bytes > options.request_bytes_max) {
    error = api::Error(api::ErrorCode::kRecordTooLarge,
                       "a request of " + std::to_string(received.bytes) + " bytes; at most " +
                           std::to_string(options.request_bytes_max) + " are accepted: send fewer records at once")
                .with_detail("limit", std::to_string(options.request_bytes_max))
                .with_detail("value", std::to_string(received.bytes));
  }
  Seen seen{.headers_left = options.headers_per_request_max};
  while (auto tag = message->next()) {
    MaybeError wrong;
    // After a first error only what the answer must name is read: which request, which partition.
    if (error && (tag->number == 3 || tag->number == 4 || tag->number == 8) && tag->type == WireType::kBytes) {
      message->bytes();
    } else if (tag->number <= 9 && tag->type != type_of_field(tag->number)) {
      return unsupported_field("ProduceRequest", tag->number);
    } else if (tag->number > 9) {
      return error ? std::move(error) : unsupported_field("ProduceRequest", tag->number);
    } else {
      wrong = parse_field(*message, tag->number, options, seen, received);
    }
    if (!error) error = std::move(wrong);
  }
  if (error) return error;
  if (!message->ok()) return malformed();
  received.request.owner = std::move(message);
  return check_whole(received, seen.batch);
}

const api::Error* whole_error(const api::ProduceResult& result) {
  const api::Error* found = nullptr;
  for (const api::Produced& position : result.positions) {
    if (!position.error) return nullptr;
    bool worse = found != nullptr && found->outcome != api::Outcome::kUnknown &&
                 position.error->outcome == api::Outcome::kUnknown;
    if (found == nullptr || worse) found = &*position.error;
  }
  return found;
}

Bytes encode_produce_result(uint64_t request_id, const api::ProduceResult& result, BrokerId node) {
  Bytes out;
  out.reserve(64 + 32 * result.positions.size());
  WireWriter writer(out);
  writer.int_field(1, static_cast<int64_t>(request_id));
  int64_t failed = 0;
  Bytes position;
  for (const api::Produced& produced : result.positions) {
    position.clear();
    WireWriter entry(position);
    entry.int_field(1, produced.partition.value());
    entry.int_field(2, produced.error ? -1 : produced.offset.value());
    entry.int_field(3, produced.timestamp_ms);
    entry.int_field(4, produced.leader_epoch.value());
    entry.int_field(5, produced.duplicate ? 1 : 0);
    if (produced.error) {
      ++failed;
      write_error(entry, 6, *produced.error, node);
    }
    writer.present_bytes_field(2, position);
  }
  writer.int_field(3, failed);
  writer.bytes_field(4, as_bytes(api::durability_name(result.durability)));
  writer.int_field(5, result.synced_replicas);
  writer.int_field(6, result.replicas);
  writer.int_field(7, result.topic_created ? 1 : 0);
  return out;
}

Bytes encode_produce_error(uint64_t request_id, const api::Error& error, BrokerId node) {
  Bytes out;
  WireWriter writer(out);
  writer.int_field(1, static_cast<int64_t>(request_id));
  write_error(writer, 8, error, node);
  return out;
}

}  // namespace trilog::grpc_edge
