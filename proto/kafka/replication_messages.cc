#include "proto/kafka/replication_messages.h"

#include <string>
#include <utility>

#include "storage/base/codec.h"

namespace trilog::peer {
namespace {

constexpr uint8_t kVersion = 0;

template <typename Id>
void write_id(ByteWriter& out, Id id) {
  out.write<typename Id::rep>(id.value());
}
template <typename Id>
Id read_id(ByteReader& in) {
  return Id(in.read<typename Id::rep>());
}
Offset read_offset(ByteReader& in) {
  const auto offset = read_id<Offset>(in);
  if (offset < Offset(0)) in.fail();
  return offset;
}

Bytes begin(size_t bytes_expected) {
  Bytes body;
  body.reserve(bytes_expected);
  ByteWriter(body).write<uint8_t>(kVersion);
  return body;
}

// Reads a whole body: the version, whatever `read` takes, and nothing behind it.
template <typename Message, typename Read>
Result<Message> decode(ByteView body, const char* name, Read read) {
  ByteReader in(body);
  const auto version = in.read<uint8_t>();
  if (in.ok() && version > kVersion) {
    return Status(Errc::kUnsupported, std::string(name) + " has version " + std::to_string(version));
  }
  Message message;
  read(in, message);
  if (!in.ok() || !in.at_end()) return Status(Errc::kCorruption, std::string(name) + " from a peer is malformed");
  return message;
}

// A list whose items take at least `item_bytes_min` bytes each.
template <typename Item, typename Read>
void read_list(ByteReader& in, std::vector<Item>& items, size_t item_bytes_min, Read read_item) {
  const uint64_t count = in.read_varint();
  if (count > kSessionsPerMessageMax || count > in.remaining() / item_bytes_min) return in.fail();
  items.resize(static_cast<size_t>(count));
  for (Item& item : items) read_item(in, item);
}

constexpr size_t kOpenBytes = 8 + 16 + 4 + 4 + 8 + 8 + 4;
constexpr size_t kCloseBytes = 8 + 1 + 8;
constexpr size_t kPushBytes = 8 + 4 + 8 + 8 + 4;
constexpr size_t kProgressBytes = 8 + 4 + 8 + 8 + 8;
constexpr size_t kHeadBytes = 1 + 4 + 8 + 4 + 4;

}  // namespace

Bytes encode(const OpenSession& message) {
  Bytes body = begin(kHeadBytes + message.partitions.size() * kOpenBytes);
  ByteWriter out(body);
  out.write<uint32_t>(message.reply_route);
  write_id(out, message.broker_epoch);
  out.write<uint32_t>(message.credit_bytes);
  out.write_varint(message.partitions.size());
  for (const OpenSession::Partition& item : message.partitions) {
    write_id(out, item.session);
    out.write<uint64_t>(item.partition.topic.high());
    out.write<uint64_t>(item.partition.topic.low());
    write_id(out, item.partition.partition);
    write_id(out, item.leader_epoch);
    write_id(out, item.fetched);
    write_id(out, item.durable);
    write_id(out, item.last_epoch);
  }
  return body;
}

Result<OpenSession> decode_open_session(ByteView body) {
  return decode<OpenSession>(body, "OpenSession", [](ByteReader& in, OpenSession& message) {
    message.reply_route = in.read<uint32_t>();
    message.broker_epoch = read_id<BrokerEpoch>(in);
    message.credit_bytes = in.read<uint32_t>();
    read_list(in, message.partitions, kOpenBytes, [](ByteReader& from, OpenSession::Partition& item) {
      item.session = read_id<SessionId>(from);
      const auto high = from.read<uint64_t>();
      item.partition.topic = TopicId(high, from.read<uint64_t>());
      item.partition.partition = read_id<PartitionId>(from);
      item.leader_epoch = read_id<LeaderEpoch>(from);
      item.fetched = read_offset(from);
      item.durable = read_offset(from);
      item.last_epoch = read_id<LeaderEpoch>(from);
      if (item.durable > item.fetched || item.partition.partition < PartitionId(0)) from.fail();
    });
  });
}

Bytes encode(const CloseSession& message) {
  Bytes body = begin(kHeadBytes + message.partitions.size() * kCloseBytes);
  ByteWriter out(body);
  out.write_varint(message.partitions.size());
  for (const CloseSession::Partition& item : message.partitions) {
    write_id(out, item.session);
    out.write<uint8_t>(static_cast<uint8_t>(item.reason));
    write_id(out, item.log_start);
  }
  return body;
}

Result<CloseSession> decode_close_session(ByteView body) {
  return decode<CloseSession>(body, "CloseSession", [](ByteReader& in, CloseSession& message) {
    read_list(in, message.partitions, kCloseBytes, [](ByteReader& from, CloseSession::Partition& item) {
      item.session = read_id<SessionId>(from);
      const auto reason = from.read<uint8_t>();
      if (reason > kCloseReasonLast) return from.fail();
      item.reason = static_cast<CloseReason>(reason);
      item.log_start = read_offset(from);
    });
  });
}

Bytes encode(const EpochEnd& message) {
  Bytes body = begin(kHeadBytes + 24);
  ByteWriter out(body);
  write_id(out, message.session);
  write_id(out, message.leader_epoch);
  write_id(out, message.epoch);
  write_id(out, message.end);
  return body;
}

Result<EpochEnd> decode_epoch_end(ByteView body) {
  return decode<EpochEnd>(body, "EpochEnd", [](ByteReader& in, EpochEnd& message) {
    message.session = read_id<SessionId>(in);
    message.leader_epoch = read_id<LeaderEpoch>(in);
    message.epoch = read_id<LeaderEpoch>(in);
    message.end = read_offset(in);
  });
}

Bytes encode(const Push& message) {
  Bytes body = begin(kHeadBytes + message.partitions.size() * kPushBytes);
  ByteWriter out(body);
  out.write<uint32_t>(message.reply_route);
  out.write<uint64_t>(message.sequence);
  out.write_varint(message.partitions.size());
  for (const Push::Partition& item : message.partitions) {
    write_id(out, item.session);
    write_id(out, item.leader_epoch);
    write_id(out, item.high_watermark);
    write_id(out, item.log_start);
    out.write<uint32_t>(item.bytes);
  }
  return body;
}

Result<Push> decode_push(ByteView body) {
  return decode<Push>(body, "Push", [](ByteReader& in, Push& message) {
    message.reply_route = in.read<uint32_t>();
    message.sequence = in.read<uint64_t>();
    read_list(in, message.partitions, kPushBytes, [](ByteReader& from, Push::Partition& item) {
      item.session = read_id<SessionId>(from);
      item.leader_epoch = read_id<LeaderEpoch>(from);
      item.high_watermark = read_offset(from);
      item.log_start = read_offset(from);
      item.bytes = from.read<uint32_t>();
    });
  });
}

Bytes encode(const Progress& message) {
  Bytes body = begin(kHeadBytes + message.partitions.size() * kProgressBytes);
  ByteWriter out(body);
  out.write<uint32_t>(message.reply_route);
  out.write<uint64_t>(message.sequence);
  out.write_varint(message.partitions.size());
  for (const Progress::Partition& item : message.partitions) {
    write_id(out, item.session);
    write_id(out, item.leader_epoch);
    write_id(out, item.broker_epoch);
    write_id(out, item.fetched);
    write_id(out, item.durable);
  }
  return body;
}

Result<Progress> decode_progress(ByteView body) {
  return decode<Progress>(body, "Progress", [](ByteReader& in, Progress& message) {
    message.reply_route = in.read<uint32_t>();
    message.sequence = in.read<uint64_t>();
    read_list(in, message.partitions, kProgressBytes, [](ByteReader& from, Progress::Partition& item) {
      item.session = read_id<SessionId>(from);
      item.leader_epoch = read_id<LeaderEpoch>(from);
      item.broker_epoch = read_id<BrokerEpoch>(from);
      item.fetched = read_offset(from);
      item.durable = read_offset(from);
      if (item.durable > item.fetched) from.fail();
    });
  });
}

}  // namespace trilog::peer
