// A catalogue made anew from partition.meta files, when the metadata of a cluster is lost everywhere: `trilog rescue`.
// What the files do not tell is lost: topics that nothing was ever written to, and who is in sync.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "broker/metadata/metadata_record.h"
#include "storage/base/ids.h"
#include "storage/base/status.h"
#include "storage/log/log_directory.h"

namespace trilog {

struct FoundPartition {
  PartitionMeta meta;                       // only the ids are set if the file could not be read
  LeaderEpoch last_epoch = kNoLeaderEpoch;  // of its log; none: it could not be read, or nothing was written
};

// A node whose folder was looked at.
struct RescuedNode {
  BrokerId id = kNoBroker;
  DirectoryId directory;
  BrokerEpoch epoch{-1};  // of its last registration, as its folder has it
  std::vector<FoundPartition> found;
};

struct RescuedCatalogue {
  struct Topic {
    TopicId id;
    std::string name;
    int32_t partitions = 0;  // as many as the topic had
    int32_t found = 0;       // of these, those with a folder
    int32_t leaderless = 0;  // and those that need an operator's word
  };
  std::vector<Topic> topics;  // in order of name
  // In sentences: folders that stay as they are and are in no topic, topics that had to be renamed, settings dropped.
  std::vector<std::string> remarks;
  std::vector<MetadataRecord> records;  // the whole catalogue, with audit records
};

// Of the folders of these nodes (at least one); the first begins the quorum anew, as its only voter. Topic ids, names,
// settings, replicas and partition counts are those of the files: of the one with the most partitions, among equals
// what most say, then the first. Leader epochs are above all that were ever written, producer ids above all that can
// have been handed out. Who leads (C8):
//   one replica                       that one
//   several, more of them acknowledge than not, and enough folders are here    who reaches furthest, once so many are
//   up never written to, as far as the folders of all nodes tell                  the first that is up all others
//   nobody, until an operator says so (partition elect --accept-loss)
RescuedCatalogue rescue_catalogue(const std::vector<RescuedNode>& nodes, int64_t recovery, int64_t now_ms);

}  // namespace trilog
