// The files <offset>.snapshot of a log: producer state as of an offset, and where in which segment that offset lies, so
// that a replay can begin there without an index (S12). Derived: checksummed, not synced except at a clean close.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "storage/env/env.h"
#include "storage/log/producer_state_manager.h"

namespace trilog {

struct ReplayStart {
  Offset offset;
  Offset segment{-1};  // -1: the position is not known
  uint64_t position = 0;
};

class ProducerSnapshots {
 public:
  ProducerSnapshots(FileSystem& files, const std::string& directory) : files_(files), directory_(directory) {}

  // What is in the folder, rising.
  void set_known(std::vector<Offset> offsets) { offsets_ = std::move(offsets); }
  // Loads the newest good one at or below `log_end` into `state` and answers where a replay begins; nothing if there is
  // none, `state` is then empty. Newer and bad ones are removed.
  Result<std::optional<ReplayStart>> load(Offset log_end, ProducerStateManager& state);
  // Keeps the newest two and the newest at or below `durable_end`. The file, for whoever wants to sync it.
  Result<std::shared_ptr<File>> write(const ReplayStart& at, const ProducerStateManager& state, Offset durable_end);
  // Durably: one that a crash brought back would say of other records at its offset that they are known.
  Status remove_above(Offset end);
  std::optional<Offset> newest() const;
  // Of the last one written or read, 0 if none.
  size_t last_bytes() const { return last_bytes_; }

 private:
  std::string path(Offset offset) const;
  void remove(Offset offset);
  Result<ReplayStart> read(Offset offset, ProducerStateManager& state);

  FileSystem& files_;
  const std::string& directory_;
  std::vector<Offset> offsets_;
  size_t last_bytes_ = 0;
};

}  // namespace trilog
