// Small files with a frame that makes every bad case a defined one (rule S5):
//   8 magic "trilogCP" | 4 version u32 | 4 payload bytes u32 | 4 crc32c of version, length and payload | payload
// and the two that a whole data folder has: marks and clean.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/env/env.h"
#include "storage/log/log_mark.h"

namespace trilog {

inline constexpr size_t kCheckpointBytesMax = 64u << 20;  // of payload; a larger one is a bug (CHECKed) or kTooLarge

Bytes frame_checkpoint(uint32_t version, ByteView payload);
// The payload, as a view into `bytes`. kCorruption if the frame is short, foreign or does not match its checksum,
// kUnsupported if the version is above `version_max`.
Result<ByteView> unframe_checkpoint(ByteView bytes, uint32_t version_max);

Status write_checkpoint(FileSystem& files, std::string_view path, uint32_t version,
                        ByteView payload);  // blocking, durable
// kNotFound if missing, otherwise as unframe_checkpoint. An empty file is kCorruption.
Result<Bytes> read_checkpoint(FileSystem& files, std::string_view path, uint32_t version_max);

using Marks = std::map<TopicPartition, LogMark>;

// `marks`: one entry per log of the folder (S2). Two alternating slots in one file, each with a sequence number, so
// that writing costs one sync and a torn write leaves the older slot.
class MarksFile {
 public:
  // Missing, empty or wholly damaged: no marks (recovery then scans everything); damaged() tells the latter two from a
  // missing one. One bad slot is what a torn write leaves: the other one counts. kUnsupported if a slot was written by
  // a newer version. `files` must outlive the result. Nothing is created before the first write.
  static Result<MarksFile> open(FileSystem& files, std::string path);
  // The newest set: found by open(), or given to the last write that got as far as the file.
  const Marks& marks() const { return marks_; }
  bool damaged() const { return damaged_; }
  // Writes the whole set; `done` is posted after the sync. One write at a time (CHECKed). The first write, and one that
  // outgrows its slot, replaces the file and blocks for that. A failed sync is final (S3).
  void write(const Marks& marks, UniqueFunction<void(Status)> done);
  Status write_now(const Marks& marks);
  bool writing() const { return flight_->writing; }

 private:
  MarksFile(FileSystem& files, std::string path) : files_(&files), path_(std::move(path)) {}
  Status take_newest_slot(ByteView bytes);
  // Writes the next slot; true if it is durable already because the file was replaced.
  Result<bool> put(const Marks& marks);
  Status replace(ByteView slot);

  FileSystem* files_;
  std::string path_;
  std::unique_ptr<File> file_;
  Marks marks_;
  bool damaged_ = false;
  uint64_t sequence_ = 0;
  uint64_t slot_bytes_ = 0;
  struct Flight {
    bool writing = false;
    bool failed = false;
  };
  std::shared_ptr<Flight> flight_ = std::make_shared<Flight>();  // shared with the sync's callback
};

// `clean` (S11): written last at a clean stop, read and removed (with a directory sync) first thing at the next start.
struct CleanMarker {
  int64_t broker_epoch = -1;
  Marks marks;  // exact: durable_end is log_end
};
Status write_clean_marker(FileSystem& files, std::string_view path, const CleanMarker& marker);
// Nothing if missing, damaged or of a newer version; in all cases, and after reading, the file is gone for good when
// this returns.
Result<std::optional<CleanMarker>> take_clean_marker(FileSystem& files, std::string_view path);

}  // namespace trilog
