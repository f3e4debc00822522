// Strong integers of the field, so that an offset is never passed where an epoch is wanted.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <ostream>
#include <string>
#include <string_view>

#include "storage/base/status.h"

namespace trilog {

// A number with a name. Ordered, hashable, printable; arithmetic only by plain differences.
template <typename Tag, typename Rep>
class StrongId {
 public:
  using rep = Rep;
  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep value) : value_(value) {}
  constexpr Rep value() const { return value_; }
  constexpr auto operator<=>(const StrongId&) const = default;

  constexpr StrongId operator+(Rep delta) const { return StrongId(static_cast<Rep>(value_ + delta)); }
  constexpr StrongId operator-(Rep delta) const { return StrongId(static_cast<Rep>(value_ - delta)); }
  constexpr Rep operator-(StrongId other) const { return static_cast<Rep>(value_ - other.value_); }
  constexpr StrongId& operator++() {
    ++value_;
    return *this;
  }

  friend std::ostream& operator<<(std::ostream& out, StrongId id) { return out << +id.value_; }

 private:
  Rep value_ = 0;
};

using Offset = StrongId<struct OffsetTag, int64_t>;            // position of a record in a partition, from 0
using LeaderEpoch = StrongId<struct LeaderEpochTag, int32_t>;  // fences the data path; -1 unknown
using PartitionEpoch = StrongId<struct PartitionEpochTag, int32_t>;
using BrokerId = StrongId<struct BrokerIdTag, int32_t>;        // node id, >= 0; -1 none
using BrokerEpoch = StrongId<struct BrokerEpochTag, int64_t>;  // metadata offset of the registration
using PartitionId = StrongId<struct PartitionIdTag, int32_t>;  // index of a partition in its topic, from 0
using ProducerId = StrongId<struct ProducerIdTag, int64_t>;    // -1 none
using ProducerEpoch = StrongId<struct ProducerEpochTag, int16_t>;
using Term = StrongId<struct TermTag, int32_t>;  // only inside Raft

inline constexpr LeaderEpoch kNoLeaderEpoch{-1};
inline constexpr BrokerId kNoBroker{-1};
inline constexpr ProducerId kNoProducerId{-1};
inline constexpr Offset kNoOffset{-1};

// 128 random bits, never all zero once assigned; text form is 32 lower-case hexadecimal digits. Identity of a topic
// (rule C11: never the name), of a cluster and of a data folder.
template <typename Tag>
class Uuid {
 public:
  constexpr Uuid() = default;
  constexpr Uuid(uint64_t high, uint64_t low) : high_(high), low_(low) {}
  static Result<Uuid> parse(std::string_view text) {
    if (text.size() != 32)
      return Status(Errc::kInvalidArgument, "an id is 32 hexadecimal digits, not '" + std::string(text) + "'");
    uint64_t parts[2] = {0, 0};
    for (size_t i = 0; i < 32; ++i) {
      char c = text[i];
      int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
      if (digit < 0)
        return Status(Errc::kInvalidArgument, "an id is 32 hexadecimal digits, not '" + std::string(text) + "'");
      parts[i / 16] = parts[i / 16] << 4 | static_cast<uint64_t>(digit);
    }
    return Uuid(parts[0], parts[1]);
  }

  constexpr uint64_t high() const { return high_; }
  constexpr uint64_t low() const { return low_; }
  constexpr bool is_zero() const { return high_ == 0 && low_ == 0; }
  constexpr auto operator<=>(const Uuid&) const = default;
  std::string to_string() const {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string text(32, '0');
    for (size_t i = 0; i < 32; ++i) text[i] = kDigits[((i < 16 ? high_ : low_) >> (60 - 4 * (i % 16))) & 15];
    return text;
  }
  friend std::ostream& operator<<(std::ostream& out, const Uuid& id) { return out << id.to_string(); }

 private:
  uint64_t high_ = 0;
  uint64_t low_ = 0;
};

using TopicId = Uuid<struct TopicIdTag>;
using ClusterId = Uuid<struct ClusterIdTag>;
using DirectoryId = Uuid<struct DirectoryIdTag>;

// One partition of one topic, by identity.
struct TopicPartition {
  TopicId topic;
  PartitionId partition;
  auto operator<=>(const TopicPartition&) const = default;
};
inline std::ostream& operator<<(std::ostream& out, const TopicPartition& tp) {
  return out << tp.topic << "/" << tp.partition;
}

}  // namespace trilog

template <typename Tag, typename Rep>
struct std::hash<trilog::StrongId<Tag, Rep>> {
  size_t operator()(trilog::StrongId<Tag, Rep> id) const { return std::hash<Rep>()(id.value()); }
};
template <typename Tag>
struct std::hash<trilog::Uuid<Tag>> {
  size_t operator()(const trilog::Uuid<Tag>& id) const { return static_cast<size_t>(id.high() ^ id.low()); }
};
template <>
struct std::hash<trilog::TopicPartition> {
  size_t operator()(const trilog::TopicPartition& tp) const {
    return static_cast<size_t>(tp.topic.high() ^ tp.topic.low()) * 31 + static_cast<size_t>(tp.partition.value());
  }
};
