// Finds a RocksDB manifest that lost its end. RocksDB takes a manifest cut short for one whose last entry was torn by a
// crash, opens without the table files that the missing entries name, and deletes those files: a view with a hole in
// it. It syncs its manifest before it goes on, so a crash never takes away what is noted here afterwards; damage may.
//
// The note is a small file GUARD in the store's folder: which manifest, how many bytes of it were there, their
// checksum. It is not synced: after a power cut it may be old, empty or missing, and then less or nothing is checked.
//
// Format: u32 CRC-32C of what follows, u32 version 1, u64 size, u32 CRC-32C of the manifest's first `size` bytes, name
// of the manifest as varint length and bytes. Big-endian.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "storage/base/status.h"
#include "storage/env/env.h"

namespace trilog {

class ManifestGuard {
 public:
  // `files` must outlive the guard.
  ManifestGuard(FileSystem& files, std::string directory) : files_(files), directory_(std::move(directory)) {}

  // Before RocksDB opens the folder. kCorruption if the manifest in use is older, shorter or other than noted.
  Status check();
  // After RocksDB changed its manifest: the first `size` bytes of the file `manifest` in the folder are durable. A
  // failure is not told: the old note stays true.
  void note(std::string_view manifest, uint64_t size);

 private:
  // Without CURRENT RocksDB makes a new store, and then takes in what it finds of an old one's write-ahead log.
  Status check_current();

  FileSystem& files_;
  const std::string directory_;
};

}  // namespace trilog
