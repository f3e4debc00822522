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

struct RescuedCatalogue {
  struct Topic {
    TopicId id;
    std::string name;
    int32_t partitions = 0;  // as many as the topic had
    int32_t found = 0;       // of these, those with a folder
  };
  std::vector<Topic> topics;  // in order of name
  // In sentences: folders that stay as they are and are in no topic, topics that had to be renamed, settings dropped.
  std::vector<std::string> remarks;
  std::vector<MetadataRecord> records;  // the whole catalogue, with an audit record; brokers register by themselves
};

// Of the folder of `self`, in a cluster of this node alone: kInvalidArgument if a partition has replicas elsewhere.
// Topic ids, names, settings and partition counts are those of the files. Every partition waits for its only replica,
// in an epoch above all that were ever written; producer ids go on above all that can have been handed out.
Result<RescuedCatalogue> rescue_catalogue(const std::vector<FoundPartition>& found, BrokerId self, int64_t now_ms);

}  // namespace trilog
