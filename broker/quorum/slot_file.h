// SlotFile: a small value that is overwritten in place for the price of one sync (rule S5).
//
// Two slots of 4 KiB, each a checksummed frame (checkpoint_file.h) around a sequence number and the value; a write goes
// to the slot that does not hold the newest value. Slots lie in blocks of their own, so a torn write harms only the
// slot that was being written, and load() then finds the value before it: a write counts when it is durable, not
// before. The file appears under its name only complete, so one without a readable slot is damaged, never new.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "storage/base/bytes.h"
#include "storage/env/env.h"

namespace trilog {

inline constexpr size_t kSlotBytes = 4096;
inline constexpr size_t kSlotValueBytesMax = 1024;

class SlotFile {
 public:
  SlotFile(Env& env, std::string path);
  ~SlotFile() { *self_ = nullptr; }
  SlotFile(const SlotFile&) = delete;
  SlotFile& operator=(const SlotFile&) = delete;

  // Blocking, before anything else. Nothing if the file is missing; kCorruption, with its name, if no slot is readable;
  // kUnsupported if a newer program wrote it. What is returned is durable.
  Result<std::optional<Bytes>> load();
  // After load(): one slot could not be read, or they hold different values. A torn write leaves that, and so does rot.
  bool slots_differ() const { return slots_differ_; }

  // Makes the file with both slots holding `value`. `done` is posted when its content is durable and it has its name;
  // the name is durable after a sync of the folder.
  void create(ByteView value, UniqueFunction<void(Status)> done);
  // Overwrites the older slot; `done` is posted when it is durable. One call at a time (CHECKed). kDiskFull: not
  // written, may be tried again. A failed sync is final (S3).
  void write(ByteView value, UniqueFunction<void(Status)> done);
  Status write_now(ByteView value);  // blocking

  const std::string& path() const { return path_; }

 private:
  Status put(ByteView value);

  Env& env_;
  const std::string path_;
  std::shared_ptr<File> file_;  // shared with the callbacks of syncs under way
  uint64_t sequence_ = 0;       // of the newest slot
  bool slots_differ_ = false;
  bool writing_ = false;
  std::shared_ptr<SlotFile*> self_;  // null inside once this is gone
};

}  // namespace trilog
