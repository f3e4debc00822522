// CRC-32C (Castagnoli), the checksum of Kafka's record batches and of our own small files.
// SSE4.2 with three interleaved streams joined by carry-less multiplication where the processor has it (chosen once, at
// the first call), slicing-by-8 otherwise. Method: Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32
// Instruction" (Intel, 2011).
#pragma once

#include <cstdint>

#include "storage/base/bytes.h"

namespace trilog {

// The checksum of `bytes`, or of what gave `crc` followed by `bytes`. crc32c("123456789") = 0xe3069283.
uint32_t crc32c(ByteView bytes, uint32_t crc = 0);

// The portable version, so that tests can compare the two.
uint32_t crc32c_software(ByteView bytes, uint32_t crc = 0);

}  // namespace trilog
