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

// Numbers on disk: the alternative's index in MetadataRecord plus one. Never reordered.
template <size_t kIndex = 0>
Result<MetadataRecord> decode_alternative(size_t index, ByteView fields) {
  if constexpr (kIndex < std::variant_size_v<MetadataRecord>) {
    if (index != kIndex) return decode_alternative<kIndex + 1>(index, fields);
    std::variant_alternative_t<kIndex, MetadataRecord> record;
    Decoder decoder(fields);
    describe(decoder, record);
    if (!decoder.complete()) {
      return Status(Errc::kCorruption, "metadata record of type " + std::to_string(index + 1) + " is malformed");
    }
    return MetadataRecord(std::move(record));
  } else {
    return Status(Errc::kUnsupported, "metadata record of type " + std::to_string(index + 1) +
                                          " is unknown to this version; use the version that wrote it, or a newer one");
  }
}

constexpr uint8_t kRecordVersion = 0;

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
  }
  void operator()(const FenceBrokerRecord& r) {
    out << (r.fenced ? "fence" : "unfence") << " broker " << r.broker << " epoch " << r.epoch;
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
  }
  void operator()(const RemoveTopicRecord& r) { out << "remove topic " << r.id; }
  void operator()(const ProducerIdsRecord& r) { out << "producer ids below " << r.next << " are handed out"; }
};

}  // namespace

Bytes encode_metadata_record(const MetadataRecord& record) {
  Bytes out;
  ByteWriter header(out);
  header.write<uint8_t>(static_cast<uint8_t>(record.index() + 1));
  header.write<uint8_t>(kRecordVersion);
  Encoder encoder(out);
  // describe() takes a mutable record because it also decodes; encoding does not change it.
  std::visit([&](auto& fields) { describe(encoder, fields); }, const_cast<MetadataRecord&>(record));
  return out;
}

Result<MetadataRecord> decode_metadata_record(ByteView bytes) {
  ByteReader reader(bytes);
  auto type = reader.read<uint8_t>();
  auto version = reader.read<uint8_t>();
  if (!reader.ok() || type == 0) return Status(Errc::kCorruption, "metadata record without a type");
  if (version > kRecordVersion) {
    return Status(Errc::kUnsupported, "metadata record of type " + std::to_string(type) + " has version " +
                                          std::to_string(version) + "; this program knows up to " +
                                          std::to_string(kRecordVersion));
  }
  return decode_alternative(static_cast<size_t>(type - 1), bytes.subspan(2));
}

std::string describe_metadata_record(const MetadataRecord& record) {
  Describer describer;
  std::visit(describer, record);
  return describer.out.str();
}

}  // namespace trilog
