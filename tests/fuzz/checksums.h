// Makes the checksums of files right after bytes were put into them, so that a fuzzer gets at what lies behind them.
#pragma once

#include <cstring>

#include "storage/base/codec.h"
#include "storage/base/crc32c.h"
#include "storage/record/record_batch.h"

namespace trilog::fuzz {

inline constexpr size_t kFrameHeaderBytes = 20;     // checkpoint_file.h
inline constexpr size_t kSnapshotPrefixBytes = 20;  // before the frame of a producer snapshot
inline constexpr size_t kSlotBytes = 4'096;         // of marks, vote and durable, as long as they are small

enum class FileForm : uint8_t { kRaw, kFrame, kSlots, kBatches, kProducers };
inline constexpr size_t kFileForms = 5;

inline void fix_frame(MutableByteView frame) {
  if (frame.size() < kFrameHeaderBytes) return;
  std::memcpy(frame.data(), "trilogCP", 8);
  store_big_endian<uint32_t>(frame.data() + 8, 1);
  store_big_endian<uint32_t>(frame.data() + 12, static_cast<uint32_t>(frame.size() - kFrameHeaderBytes));
  store_big_endian<uint32_t>(frame.data() + 16, crc32c(frame.subspan(kFrameHeaderBytes), crc32c(frame.subspan(8, 8))));
}

inline void fix_batches(MutableByteView bytes) {
  while (bytes.size() >= kBatchHeaderBytes) {
    store_big_endian<int8_t>(bytes.data() + 16, kBatchMagic);
    Result<size_t> size = RecordBatch::peek_size(bytes, bytes.size());
    if (!size.ok()) return;
    store_big_endian(bytes.data() + 17, crc32c(bytes.first(*size).subspan(kBatchCrcStart)));
    bytes = bytes.subspan(*size);
  }
}

inline void fix_checksums(FileForm form, MutableByteView bytes) {
  switch (form) {
    case FileForm::kRaw: return;
    case FileForm::kFrame: return fix_frame(bytes);
    case FileForm::kBatches: return fix_batches(bytes);
    case FileForm::kSlots:
      for (size_t at : {size_t{0}, kSlotBytes}) {
        if (bytes.size() < at + kFrameHeaderBytes) return;
        size_t room = std::min(kSlotBytes, bytes.size() - at) - kFrameHeaderBytes;
        size_t length = std::min<size_t>(load_big_endian<uint32_t>(bytes.data() + at + 12), room);
        fix_frame(bytes.subspan(at, kFrameHeaderBytes + length));
      }
      return;
    case FileForm::kProducers:
      if (bytes.size() < kSnapshotPrefixBytes) return;
      store_big_endian(bytes.data() + 16, crc32c(bytes.first(16)));
      return fix_frame(bytes.subspan(kSnapshotPrefixBytes));
  }
}

}  // namespace trilog::fuzz
