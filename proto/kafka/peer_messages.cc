#include "proto/kafka/peer_messages.h"

#include "storage/base/codec.h"

namespace trilog::peer {
namespace {

constexpr uint8_t kVersion = 0;

// One describe() per message serves encoding and decoding, so that the two cannot disagree.
class Encoder {
 public:
  explicit Encoder(Bytes& out) : out_(out) {}
  void field(std::string& text, size_t max = kTextBytesMax) {
    out_.write_text(std::string_view(text).substr(0, max));  // what the other side would refuse is cut
  }
  void field(bool& flag) { out_.write<uint8_t>(flag ? 1 : 0); }
  void field(int32_t& number) { out_.write<int32_t>(number); }
  void field(int64_t& number) { out_.write<int64_t>(number); }
  template <typename Enum>
  void choice(Enum& value, uint8_t) {
    out_.write<uint8_t>(static_cast<uint8_t>(value));
  }
  template <typename Tag, typename Rep>
  void field(StrongId<Tag, Rep>& id) {
    out_.write<Rep>(id.value());
  }
  template <typename Tag>
  void field(Uuid<Tag>& id) {
    out_.write<uint64_t>(id.high());
    out_.write<uint64_t>(id.low());
  }
  template <typename Item, typename Describe>
  void list(std::vector<Item>& items, size_t, size_t, Describe describe_item) {
    out_.write_varint(items.size());
    for (Item& item : items) describe_item(*this, item);
  }

 private:
  ByteWriter out_;
};

class Decoder {
 public:
  explicit Decoder(ByteView bytes) : in_(bytes) {}
  bool complete() const { return in_.ok() && in_.at_end(); }
  void field(std::string& text, size_t max = kTextBytesMax) {
    std::string_view read = in_.read_text();
    if (read.size() > max) return in_.fail();
    text = read;
  }
  void field(bool& flag) { flag = byte_at_most(1) == 1; }
  void field(int32_t& number) { number = in_.read<int32_t>(); }
  void field(int64_t& number) { number = in_.read<int64_t>(); }
  template <typename Enum>
  void choice(Enum& value, uint8_t last) {
    value = static_cast<Enum>(byte_at_most(last));
  }
  template <typename Tag, typename Rep>
  void field(StrongId<Tag, Rep>& id) {
    id = StrongId<Tag, Rep>(in_.read<Rep>());
  }
  template <typename Tag>
  void field(Uuid<Tag>& id) {
    auto high = in_.read<uint64_t>();
    auto low = in_.read<uint64_t>();
    id = Uuid<Tag>(high, low);
  }
  // `item_bytes_min`: of one item as encoded, so that a count is checked before anything is allocated for it.
  template <typename Item, typename Describe>
  void list(std::vector<Item>& items, size_t count_max, size_t item_bytes_min, Describe describe_item) {
    uint64_t count = in_.read_varint();
    if (count > count_max || count > in_.remaining() / item_bytes_min) return in_.fail();
    items.resize(static_cast<size_t>(count));
    for (Item& item : items) {
      describe_item(*this, item);
      if (!in_.ok()) return items.clear();
    }
  }

 private:
  uint8_t byte_at_most(uint8_t max) {
    auto value = in_.read<uint8_t>();
    if (value > max) {
      in_.fail();
      return 0;
    }
    return value;
  }
  ByteReader in_;
};

template <typename C, typename... Fields>
void all(C& c, Fields&... fields) {
  (c.field(fields), ...);
}
template <typename C>
void error_field(C& c, PeerError& error) {
  c.choice(error, kPeerErrorLast);
}

constexpr size_t kPartitionBytes = 16 + 4;
constexpr auto kDescribePartition = [](auto& c, TopicPartition& p) { all(c, p.topic, p.partition); };
constexpr auto kDescribeBroker = [](auto& c, BrokerId& broker) { c.field(broker); };

template <typename C>
void partition_list(C& c, std::vector<TopicPartition>& partitions, size_t max) {
  c.list(partitions, max, kPartitionBytes, kDescribePartition);
}
template <typename C>
void broker_list(C& c, std::vector<BrokerId>& brokers) {
  c.list(brokers, kReplicasMax, 4, kDescribeBroker);
}

template <typename C>
void describe(C& c, RegisterBrokerRequest& m) {
  all(c, m.broker, m.directory, m.address, m.peer_address, m.rack, m.version, m.recorded_epoch, m.clean, m.same_boot);
  c.choice(m.recovered, static_cast<uint8_t>(Recovered::kSomeDamaged));
  partition_list(c, m.damaged, kPartitionsMax);
}
template <typename C>
void describe(C& c, RegisterBrokerAnswer& m) {
  error_field(c, m.error);
  all(c, m.message, m.epoch);
}
template <typename C>
void describe(C& c, HeartbeatRequest& m) {
  all(c, m.broker, m.epoch, m.applied, m.wants_shutdown);
  partition_list(c, m.damaged, kPartitionsMax);
  all(c, m.wall_ms, m.disk_full);
}
template <typename C>
void describe(C& c, HeartbeatAnswer& m) {
  error_field(c, m.error);
  all(c, m.fenced, m.may_shut_down, m.leads, m.applied, m.clock_agrees);
}
template <typename C>
void describe(C& c, AlterPartitionRequest& m) {
  all(c, m.broker, m.epoch);
  c.list(m.partitions, kPartitionsMax, kPartitionBytes + 10, [](auto& coder, AlterPartition& p) {
    kDescribePartition(coder, p.partition);
    all(coder, p.leader_epoch, p.partition_epoch, p.recovering);
    coder.list(p.isr, kReplicasMax, 12, [](auto& inner, InSyncReplica& r) { all(inner, r.broker, r.epoch); });
  });
}
template <typename C>
void describe(C& c, AlterPartitionAnswer& m) {
  error_field(c, m.error);
  c.list(m.partitions, kPartitionsMax, kPartitionBytes + 19, [](auto& coder, AlteredPartition& p) {
    kDescribePartition(coder, p.partition);
    error_field(coder, p.error);
    all(coder, p.leader, p.leader_epoch, p.partition_epoch);
    broker_list(coder, p.isr);
    broker_list(coder, p.elr);
    all(coder, p.min_in_sync);
  });
}
template <typename C>
void describe(C& c, AllocateProducerIdsRequest& m) {
  all(c, m.broker);
}
template <typename C>
void describe(C& c, AllocateProducerIdsAnswer& m) {
  error_field(c, m.error);
  all(c, m.first, m.size);
}
template <typename C>
void describe(C& c, ControlledShutdownRequest& m) {
  all(c, m.broker, m.epoch);
}
template <typename C>
void describe(C& c, ControlledShutdownAnswer& m) {
  error_field(c, m.error);
  all(c, m.fenced_at);
}
template <typename C>
void describe(C& c, ProbeRequest& m) {
  all(c, m.controller);
}
template <typename C>
void describe(C& c, ProbeAnswer& m) {
  all(c, m.epoch, m.applied);
}
template <typename C>
void describe(C& c, RepairRangeRequest& m) {
  kDescribePartition(c, m.partition);
  all(c, m.from, m.to);
}
template <typename C>
void describe(C& c, HearingRequest& m) {
  all(c, m.epoch);
  partition_list(c, m.partitions, kHearingPartitionsMax);
}
template <typename C>
void describe(C& c, HearingAnswer& m) {
  all(c, m.epoch);
  c.list(m.replicas, kHearingPartitionsMax, kPartitionBytes + 13, [](auto& coder, HeardReplica& r) {
    kDescribePartition(coder, r.partition);
    all(coder, r.intact, r.last_epoch, r.log_end);
  });
}

}  // namespace

std::string_view peer_error_name(PeerError error) {
  switch (error) {
    case PeerError::kNone: return "none";
    case PeerError::kNotController: return "not the active controller";
    case PeerError::kStaleBrokerEpoch: return "stale broker epoch";
    case PeerError::kOtherDirectory: return "another data folder holds this id";
    case PeerError::kFencedLeaderEpoch: return "fenced leader epoch";
    case PeerError::kNotLeader: return "not the leader";
    case PeerError::kStalePartitionEpoch: return "stale partition epoch";
    case PeerError::kInvalidRequest: return "invalid request";
    case PeerError::kIneligibleReplica: return "ineligible replica";
    case PeerError::kUnknownPartition: return "unknown partition";
    case PeerError::kBusy: return "busy";
    case PeerError::kOutcomeUnknown: return "outcome unknown";
    case PeerError::kStopping: return "stopping";
  }
  return "unknown";
}

template <typename Message>
Bytes encode_peer_message(const Message& message) {
  Bytes out;
  ByteWriter(out).write<uint8_t>(kVersion);
  Encoder encoder(out);
  // describe() takes a mutable message because it also decodes; encoding does not change it.
  describe(encoder, const_cast<Message&>(message));
  return out;
}

template <typename Message>
Result<Message> decode_peer_message(ByteView bytes) {
  if (bytes.empty()) return Status(Errc::kCorruption, "a message from a broker is empty");
  auto version = static_cast<uint8_t>(bytes.front());
  if (version > kVersion) {
    return Status(Errc::kUnsupported, "a message from a broker has version " + std::to_string(version) +
                                          "; this program knows up to " + std::to_string(kVersion));
  }
  Message message;
  Decoder decoder(bytes.subspan(1));
  describe(decoder, message);
  if (!decoder.complete()) return Status(Errc::kCorruption, "a message from a broker is malformed");
  return message;
}

#define TRILOG_PEER_MESSAGE(Message)                          \
  template Bytes encode_peer_message(const Message& message); \
  template Result<Message> decode_peer_message(ByteView bytes)
TRILOG_PEER_MESSAGE(RegisterBrokerRequest);
TRILOG_PEER_MESSAGE(RegisterBrokerAnswer);
TRILOG_PEER_MESSAGE(HeartbeatRequest);
TRILOG_PEER_MESSAGE(HeartbeatAnswer);
TRILOG_PEER_MESSAGE(AlterPartitionRequest);
TRILOG_PEER_MESSAGE(AlterPartitionAnswer);
TRILOG_PEER_MESSAGE(AllocateProducerIdsRequest);
TRILOG_PEER_MESSAGE(AllocateProducerIdsAnswer);
TRILOG_PEER_MESSAGE(ControlledShutdownRequest);
TRILOG_PEER_MESSAGE(ControlledShutdownAnswer);
TRILOG_PEER_MESSAGE(ProbeRequest);
TRILOG_PEER_MESSAGE(ProbeAnswer);
TRILOG_PEER_MESSAGE(RepairRangeRequest);
TRILOG_PEER_MESSAGE(HearingRequest);
TRILOG_PEER_MESSAGE(HearingAnswer);
#undef TRILOG_PEER_MESSAGE

}  // namespace trilog::peer
