// Two small files in the folder of a metadata log that say how the node comes to its log.
//
//   voters    the set of voters to form with, written into every folder before the first start; goes when it is done
//   learner   this folder began empty in a cluster that was formed already, because the disk is new or the folder was
//             damaged: the node is known to the quorum by the directory id in here, so that it is nobody who voted or
//             acknowledged before (Q8, Q11)
//
// Both are checksummed frames, replaced atomically. All functions block; they are for starts.
#pragma once

#include <optional>
#include <string>

#include "broker/quorum/raft_entry.h"
#include "storage/env/env.h"

namespace trilog {

Status write_voters_file(Env& env, const std::string& directory, const VoterSet& voters);
// Nothing if there is none. kCorruption if it cannot be read.
Result<std::optional<VoterSet>> read_voters_file(Env& env, const std::string& directory);
Status remove_voters_file(Env& env, const std::string& directory);

// The identity of a learner's folder, if it is one. Completes a begin_as_learner() that was broken off.
Result<std::optional<DirectoryId>> read_learner_file(Env& env, const std::string& directory);
// Notes only that the next read_learner_file() makes one: this folder is in use.
Status note_learner(Env& env, const std::string& directory, DirectoryId identity);
// Makes an empty folder with this identity out of any. What was in it goes, unread, to `<directory>.damaged-<id>`:
// nothing is deleted.
Status begin_as_learner(Env& env, const std::string& directory, DirectoryId identity);

}  // namespace trilog
