// Kafka's default partitioner for keys, so that a key lands in the same partition from any client: murmur2 by Austin
// Appleby (public domain), with the seed that Kafka's Java client uses.
#pragma once

#include <cstdint>

#include "storage/base/bytes.h"

namespace trilog {

uint32_t murmur2(ByteView bytes);

// `partition_count` > 0.
int32_t partition_index_for_key(ByteView key, int32_t partition_count);

}  // namespace trilog
