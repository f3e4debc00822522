// The partition whose log tests write and damage: its folder and who it is.
#pragma once

#include <string_view>

#include "storage/log/partition_meta.h"

namespace trilog::testing {

inline constexpr std::string_view kLogFolder = "data/topics/0123/7";

inline PartitionMeta test_meta() {
  PartitionMeta meta;
  meta.topic_id = TopicId(1, 2);
  meta.topic = "orders";
  meta.partition = PartitionId(7);
  meta.replicas = {BrokerId(1)};
  return meta;
}

}  // namespace trilog::testing
