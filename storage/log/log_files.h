// The names in a partition's folder.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "storage/base/ids.h"
#include "storage/env/env.h"

namespace trilog {

inline constexpr std::string_view kLogSuffix = ".log";
inline constexpr std::string_view kIndexSuffix = ".index";
inline constexpr std::string_view kTimeIndexSuffix = ".timeindex";
inline constexpr std::string_view kChecksumSuffix = ".checksum";
inline constexpr std::string_view kSnapshotSuffix = ".snapshot";
inline constexpr std::string_view kRepairSuffix = ".log.repair";  // a segment being written anew
inline constexpr std::string_view kStraySuffix = ".stray";        // set aside by recovery, for a person to look at
inline constexpr std::string_view kEpochsFile = "leader-epochs";
inline constexpr std::string_view kMetaFile = "partition.meta";

// Whose names a log depends on: the partition's folder, its topic's, `topics` and the data folder. The last two may
// stand for something else (a log that is not of a partition), above what is ours, and be closed to us.
inline constexpr int kFolderLevels = 4;
inline constexpr int kOwnFolderLevels = 2;

// "00000000000000001234.log"
std::string numbered_file(Offset offset, std::string_view suffix);

// The temporary names under which leader-epochs is written; two, so that one can be written while the other is synced.
std::string epochs_temporary(unsigned which);

struct LogListing {
  bool folder_exists = false;
  std::vector<Offset> segments;   // base offsets, rising
  std::vector<Offset> snapshots;  // rising
  std::vector<Offset> orphans;    // bases of derived files without a segment, rising, maybe repeated
  std::vector<Offset> repairs;    // bases of segments whose repair was not finished
  bool has_epochs = false;
  bool has_epochs_temporary = false;
  bool has_meta = false;
};

// Unknown names are ignored. A missing folder is an empty listing.
Result<LogListing> list_log(FileSystem& files, const std::string& directory);

// The files made from a segment's .log; missing ones are fine. Where the same base may be used again they must be gone
// for good before that (the caller checks, and syncs the folder): their cover might fit what is appended then.
Status remove_derived_files(FileSystem& files, const std::string& directory, Offset base);

}  // namespace trilog
