#include "broker/metadata/metadata_record.h"

#include <sstream>

#include "storage/base/codec.h"

namespace trilog {
namespace {

// One describe() per record serves encoding and decoding, so that the two cannot disagree.
class Encoder {
 public:
  explicit Encoder(Bytes& out) : out_(out) {}
  void field(std::string& text) { out_.write_text(text); }
  void field(bool& flag) { out_.write<uint8_t>(flag ? 1 : 0); }
  void field(int64_t& number) { out_.write<int64_t>(number); }
  void field(AuditRecord::Kind& kind) { out_.write<uint8_t>(static_cast<uint8_t>(kind)); }
  void field(api::Durability& durability) { out_.write<uint8_t>(static_cast<uint8_t>(durability)); }
  template <typename Tag, typename Rep>
  void field(StrongId<Tag, Rep>& id) {
    out_.write<Rep>(id.value());
  }
  template <typename Tag>
  void field(Uuid<Tag>& id) {
    out_.write<uint64_t>(id.high());
    out_.write<uint64_t>(id.low());
  }
  void field(std::optional<std::string>& text) {
    out_.write<uint8_t>(text ? 1 : 0);
    if (text) out_.write_text(*text);
  }
  void field(std::vector<BrokerId>& ids) {
    out_.write_varint(ids.size());
    for (BrokerId& id : ids) field(id);
  }

 private:
  ByteWriter out_;
};

class Decoder {
 public:
  explicit Decoder(ByteView bytes) : in_(bytes) {}
  bool complete() const { return in_.ok() && in_.at_end(); }
  void field(std::string& text) { text = in_.read_text(); }
  void field(bool& flag) { flag = byte_at_most(1) == 1; }
  void field(int64_t& number) { number = in_.read<int64_t>(); }
  void field(AuditRecord::Kind& kind) { kind = static_cast<AuditRecord::Kind>(byte_at_most(2)); }
  void field(api::Durability& durability) { durability = static_cast<api::Durability>(byte_at_most(1)); }
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
  void field(std::optional<std::string>& text) {
    if (byte_at_most(1) == 1) text = std::string(in_.read_text());
  }
  void field(std::vector<BrokerId>& ids) {
    uint64_t count = in_.read_varint();
    if (count > in_.remaining() / sizeof(BrokerId::rep)) return in_.fail();
    ids.resize(static_cast<size_t>(count));
    for (BrokerId& id : ids) field(id);
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

template <typename... Fields, typename Coder>
void all(Coder& coder, Fields&... fields) {
  (coder.field(fields), ...);
}

template <typename C>
void describe(C& c, RegisterBrokerRecord& r) {
  all(c, r.broker, r.directory, r.address, r.version);
}
template <typename C>
void describe(C& c, FenceBrokerRecord& r) {
  all(c, r.broker, r.epoch, r.fenced);
}
template <typename C>
void describe(C& c, TopicRecord& r) {
  all(c, r.id, r.name, r.durability, r.internal);
}
template <typename C>
void describe(C& c, TopicConfigRecord& r) {
  all(c, r.topic, r.name, r.value);
}
template <typename C>
void describe(C& c, PartitionRecord& r) {
  all(c, r.topic, r.partition, r.replicas, r.isr, r.elr, r.leader, r.leader_epoch, r.partition_epoch);
}
template <typename C>
void describe(C& c, RemoveTopicRecord& r) {
  all(c, r.id);
}
template <typename C>
void describe(C& c, ProducerIdsRecord& r) {
  all(c, r.next);
}
template <typename C>
void describe(C& c, AuditRecord& r) {
  all(c, r.kind, r.time_ms, r.topic, r.partition, r.broker, r.leader_epoch, r.text);
}

template <typename C>
void describe(C& c, QuorumRecoveryRecord& r) {
  all(c, r.number, r.survivor, r.time_ms);
}

// Fields of version 1, after those of version 0; and whether they say anything.
template <typename C>
void describe_newer(C& c, RegisterBrokerRecord& r) {
  all(c, r.peer_address, r.rack);
}
bool has_newer(const RegisterBrokerRecord& r) { return !r.peer_address.empty() || !r.rack.empty(); }
template <typename C>
void describe_newer(C& c, FenceBrokerRecord& r) {
  all(c, r.draining, r.active_epoch);
}
bool has_newer(const FenceBrokerRecord& r) { return r.draining || r.active_epoch != BrokerEpoch(-1); }
template <typename C>
void describe_newer(C& c, PartitionRecord& r) {
  all(c, r.unclean, r.loss_epoch, r.recovering);
}
bool has_newer(const PartitionRecord& r) {
  return !r.unclean.empty() || r.loss_epoch != kNoLeaderEpoch || r.recovering;
}

template <typename Record>
constexpr uint8_t version_max() {
  return std::is_same_v<Record, RegisterBrokerRecord> || std::is_same_v<Record, FenceBrokerRecord> ||
                 std::is_same_v<Record, PartitionRecord>
             ? 1
             : 0;
}

Status unknown_version(size_t type, uint8_t version, uint8_t known) {
  return Status(Errc::kUnsupported, "metadata record of type " + std::to_string(type) + " has version " +
                                        std::to_string(version) + "; this program knows up to " +
                                        std::to_string(known));
}

// Numbers on disk: the alternative's index in MetadataRecord plus one. Never reordered.
template <size_t kIndex = 0>
Result<MetadataRecord> decode_alternative(size_t index, uint8_t version, ByteView fields) {
  if constexpr (kIndex < std::variant_size_v<MetadataRecord>) {
    if (index != kIndex) return decode_alternative<kIndex + 1>(index, version, fields);
    using Record = std::variant_alternative_t<kIndex, MetadataRecord>;
    constexpr uint8_t kKnown = version_max<Record>();
    if (version > kKnown) return unknown_version(index + 1, version, kKnown);
    Record record;
    Decoder decoder(fields);
    describe(decoder, record);
    if constexpr (kKnown > 0) {
      if (version > 0) describe_newer(decoder, record);
    }
    if (!decoder.complete()) {
      return Status(Errc::kCorruption, "metadata record of type " + std::to_string(index + 1) + " is malformed");
    }
    return MetadataRecord(std::move(record));
  } else {
    return Status(Errc::kUnsupported, "metadata record of type " + std::to_string(index + 1) +
                                          " is unknown to this version; use the version that wrote it, or a newer one");
  }
}

std::string ids_text(const std::vector<BrokerId>& ids) {
  std::string text = "[";
  for (size_t i = 0; i < ids.size(); ++i) text += (i == 0 ? "" : " ") + std::to_string(ids[i].value());
  return text + "]";
}

struct Describer {
  std::ostringstream out;
  void operator()(const RegisterBrokerRecord& r) {
    out << "register broker " << r.broker << " directory " << r.directory << " at " << r.address << " version "
        << r.version;
    if (!r.peer_address.empty()) out << " peers " << r.peer_address;
    if (!r.rack.empty()) out << " rack " << r.rack;
  }
  void operator()(const FenceBrokerRecord& r) {
    out << (r.fenced ? "fence" : "unfence") << " broker " << r.broker << " epoch " << r.epoch
        << (r.draining ? " draining" : "");
  }
  void operator()(const TopicRecord& r) {
    out << "topic " << r.name << " id " << r.id << " " << api::durability_name(r.durability)
        << (r.internal ? " internal" : "");
  }
  void operator()(const TopicConfigRecord& r) {
    out << "config of topic " << r.topic << ": " << r.name << (r.value ? " = " + *r.value : " back to its default");
  }
  void operator()(const PartitionRecord& r) {
    out << "partition " << r.topic << "/" << r.partition << " replicas " << ids_text(r.replicas) << " isr "
        << ids_text(r.isr) << " elr " << ids_text(r.elr) << " leader " << r.leader << " leader epoch " << r.leader_epoch
        << " partition epoch " << r.partition_epoch;
    if (!r.unclean.empty()) out << " unclean " << ids_text(r.unclean);
    if (r.loss_epoch != kNoLeaderEpoch) out << " loss epoch " << r.loss_epoch;
    if (r.recovering) out << " recovering";
  }
  void operator()(const RemoveTopicRecord& r) { out << "remove topic " << r.id; }
  void operator()(const ProducerIdsRecord& r) { out << "producer ids below " << r.next << " are handed out"; }
  void operator()(const AuditRecord& r) {
    constexpr const char* kKinds[] = {"unclean election", "loss reported", "catalogue rescued"};
    out << "audit: " << kKinds[static_cast<size_t>(r.kind)];
    if (!r.topic.is_zero()) out << " of " << r.topic << "/" << r.partition;
    out << " broker " << r.broker << " leader epoch " << r.leader_epoch << " at " << r.time_ms << ": " << r.text;
  }
  void operator()(const QuorumRecoveryRecord& r) {
    out << "audit: quorum recovered by broker " << r.survivor << " alone, number " << r.number << " at " << r.time_ms;
  }
};

}  // namespace

Bytes encode_metadata_record(const MetadataRecord& record) {
  Bytes out;
  ByteWriter header(out);
  header.write<uint8_t>(static_cast<uint8_t>(record.index() + 1));
  Encoder encoder(out);
  // describe() takes a mutable record because it also decodes; encoding does not change it.
  std::visit(
      [&](auto& fields) {
        if constexpr (version_max<std::decay_t<decltype(fields)>>() > 0) {
          const bool newer = has_newer(fields);
          header.write<uint8_t>(newer ? 1 : 0);
          describe(encoder, fields);
          if (newer) describe_newer(encoder, fields);
        } else {
          header.write<uint8_t>(0);
          describe(encoder, fields);
        }
      },
      const_cast<MetadataRecord&>(record));
  return out;
}

Result<MetadataRecord> decode_metadata_record(ByteView bytes) {
  ByteReader reader(bytes);
  auto type = reader.read<uint8_t>();
  auto version = reader.read<uint8_t>();
  if (!reader.ok() || type == 0) return Status(Errc::kCorruption, "metadata record without a type");
  return decode_alternative(static_cast<size_t>(type - 1), version, bytes.subspan(2));
}

std::string describe_metadata_record(const MetadataRecord& record) {
  Describer describer;
  std::visit(describer, record);
  return describer.out.str();
}

}  // namespace trilog
