// The checks behind checker.h, one per class. Each adds what it finds.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tests/history/checker.h"
#include "tests/history/history.h"
#include "tests/history/partition_history.h"

namespace trilog::history {

class Violations {
 public:
  // `id` is one of docs/rules.md; `proof` in the order in which a person should read it.
  void add(std::string_view id, const std::string& what, std::initializer_list<OperationPointer> proof);
  std::vector<Violation> take();  // by class

 private:
  struct Class {
    std::vector<Violation> kept;
    size_t not_kept = 0;
  };
  std::map<int, Class> classes_;  // by the number of the class
};

// Of one partition.
void check_lost_writes(const PartitionHistory& partition, Violations& violations);           // X1
void check_unseen_writes(const PartitionHistory& partition, Violations& violations);         // X2
void check_inconsistent_offsets(const PartitionHistory& partition, Violations& violations);  // X3
void check_duplicates(const PartitionHistory& partition, Violations& violations);            // X4
void check_refused_writes(const PartitionHistory& partition, Violations& violations);        // X5
void check_dirty_reads(const PartitionHistory& partition, Violations& violations);           // X6
void check_phantom_reads(const PartitionHistory& partition, Violations& violations);         // X6
void check_positions(const PartitionHistory& partition, Violations& violations);             // X7
void check_skipped_records(const PartitionHistory& partition, Violations& violations);       // X8
void check_order_of_sends(const PartitionHistory& partition, Violations& violations);        // X9
void check_ends(const PartitionHistory& partition, Violations& violations);                  // X12
void check_replicas(const PartitionHistory& partition, Violations& violations);              // X17

// Of the whole cluster.
void check_committed_offsets(const History& history, Violations& violations);  // X13
void check_zombie_commits(const History& history, Violations& violations);     // X14
void check_objects(const History& history, Violations& violations);            // X16
void check_progress(const History& history, Violations& violations);           // X18

// "orders/3"
std::string text_of(const Partition& partition);
// "record 71 at offset 5 of orders/3"
std::string text_of(const Record& record, const PartitionHistory& partition);

}  // namespace trilog::history
