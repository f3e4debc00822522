// partition.meta: enough about a partition to rebuild a catalogue whose metadata is lost everywhere.
// Format: text lines "key=value" in a checksummed frame (checkpoint_file.h).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/base/status.h"

namespace trilog {

struct PartitionMeta {
  TopicId topic_id;
  std::string topic;
  PartitionId partition{0};
  int32_t partition_count = 1;
  std::vector<BrokerId> replicas;
  std::map<std::string, std::string> settings;  // as text; storage does not know their meaning
  bool operator==(const PartitionMeta&) const = default;
};

// The whole file, frame included. Decoding: kCorruption or kUnsupported as unframe_checkpoint; unknown keys are
// ignored.
Bytes encode_partition_meta(const PartitionMeta& meta);
Result<PartitionMeta> decode_partition_meta(ByteView bytes);

}  // namespace trilog
